/* SPDX-License-Identifier: MIT */
/*
 * What stands in for chart.c and map_picture.c in a build without cairo.
 */
#include "chart.h"
#include "map_picture.h"

#include <errno.h>

int chart_write(const struct chart *chart, const char *path, enum chart_format format)
{
    (void)chart;
    (void)path;
    (void)format;
    return -ENOTSUP;
}

int map_picture_write(const struct map_picture *picture, const char *path, enum chart_format format)
{
    (void)picture;
    (void)path;
    (void)format;
    return -ENOTSUP;
}
