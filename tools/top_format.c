/* SPDX-License-Identifier: MIT */
#include "top_format.h"

#include <math.h>
#include <stdio.h>

#include "base/types.h"

/* Three digits if it is no whole number. */
static void format_value(double value, const char *unit, char text[static TOP_FORMAT_BYTES])
{
    int decimals = value >= 99.95 || value == floor(value) ? 0 : value >= 9.995 ? 1 : 2;

    snprintf(text, TOP_FORMAT_BYTES, "%.*f%s", decimals, value, unit);
}

void top_format_pages(double pages, char text[static TOP_FORMAT_BYTES])
{
    static const char *const units[] = {"K", "M", "G", "T"};
    double value = pages * (double)PAGE_BYTES / 1024;
    size_t unit = 0;

    while (value >= 1024 && unit < 3) {
        value /= 1024;
        unit++;
    }
    format_value(value, value > 0 ? units[unit] : "", text);
}

void top_format_rate(double rate, char text[static TOP_FORMAT_BYTES])
{
    static const char *const units[] = {"", "k", "M", "G"};
    size_t unit = 0;

    if (isnan(rate)) {
        snprintf(text, TOP_FORMAT_BYTES, "-");
        return;
    }
    while (rate >= 999.5 && unit < 3) {
        rate /= 1000;
        unit++;
    }
    if (unit == 0) {
        snprintf(text, TOP_FORMAT_BYTES, rate > 0 && rate < 9.95 ? "%.1f" : "%.0f", rate);
    } else {
        format_value(rate, units[unit], text);
    }
}

void top_format_ns(double ns, char text[static TOP_FORMAT_BYTES])
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    size_t unit = 0;

    if (!(ns > 0)) {
        snprintf(text, TOP_FORMAT_BYTES, "-");
        return;
    }
    while (ns >= 999.5 && unit < 3) {
        ns /= 1000;
        unit++;
    }
    format_value(ns, units[unit], text);
}
