/* SPDX-License-Identifier: MIT */
/*
 * Ticks. See chart_ticks.h.
 */
#include "chart_ticks.h"

#include <math.h>
#include <stdio.h>

double tick_step(double max, int most, int base2)
{
    double least = max / most;
    double step;

    if (base2) {
        return exp2(ceil(log2(least)));
    }
    step = pow(10, floor(log10(least)));
    if (step >= least) {
        return step;
    }
    if (2 * step >= least) {
        return 2 * step;
    }
    return 5 * step >= least ? 5 * step : 10 * step;
}

void tick_format_bytes(double bytes, double step, char text[static TICK_TEXT_BYTES])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;

    if (bytes <= 0) {
        snprintf(text, TICK_TEXT_BYTES, "0");
        return;
    }
    /* The largest unit in which the step has at most one decimal. */
    while (unit < 4 && step >= 512) {
        step /= 1024;
        bytes /= 1024;
        unit++;
    }
    snprintf(text, TICK_TEXT_BYTES, "%g %s", bytes, units[unit]);
}

void tick_format_number(double value, char text[static TICK_TEXT_BYTES])
{
    const char *suffix = "";

    if (value >= 1e6) {
        value /= 1e6;
        suffix = " M";
    } else if (value >= 1e4) {
        value /= 1e3;
        suffix = " k";
    }
    snprintf(text, TICK_TEXT_BYTES, "%g%s", value, suffix);
}

void tick_format_seconds(double seconds, double step, char text[static TICK_TEXT_BYTES])
{
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);

    snprintf(text, TICK_TEXT_BYTES, "%.*f", decimals, seconds);
}

void tick_format_ns(double ns, char text[static TICK_TEXT_BYTES])
{
    static const char *const units[] = {"ns", "\u00b5s", "ms", "s"};
    int unit = 0;

    while (unit < 3 && ns >= 999.5) {
        ns /= 1000;
        unit++;
    }
    snprintf(text, TICK_TEXT_BYTES, "%.3g %s", ns, units[unit]);
}
