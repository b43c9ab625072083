/* SPDX-License-Identifier: MIT */
/*
 * What stands in for chart.c in a build without cairo.
 */
#include "chart.h"

#include <errno.h>

int chart_write(const struct chart *chart, const char *path, enum chart_format format)
{
    (void)chart;
    (void)path;
    (void)format;
    return -ENOTSUP;
}
