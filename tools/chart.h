/* SPDX-License-Identifier: MIT */
/*
 * Charts over time, drawn with cairo: panels above one another that share a
 * time axis, each with stacked areas and lines, a legend at its right, and
 * axes with units. Knows nothing of domains.
 */
#ifndef BALLAST_TOOLS_CHART_H
#define BALLAST_TOOLS_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a series is drawn. Areas stack on one another in the order given. */
enum chart_style {
    CHART_AREA,
    CHART_LINE,
    CHART_DASHED_LINE,
};

struct chart_series {
    const char *label;
    uint32_t colour; /* 0xRRGGBB */
    enum chart_style style;
    const double *x; /* seconds, ascending; NULL: those of the chart */
    const double *y; /* in the unit of the panel; NAN: nothing there */
    size_t count;    /* 0: that of the chart */
};

/* What the values of a panel are, which decides how ticks are written. */
enum chart_unit {
    CHART_BYTES,
    CHART_PER_SECOND,
};

struct chart_panel {
    const char *title;
    enum chart_unit unit;
    double y_max;  /* of the axis; 0: what the series need */
    double weight; /* share of the height */
    const struct chart_series *series;
    size_t series_count;
};

struct chart {
    const char *title;
    const char *subtitle;
    const double *x;
    size_t count;
    const struct chart_panel *panels;
    size_t panel_count;
};

enum chart_format {
    CHART_SVG,
    CHART_PNG,
};

/* Draws the chart into a file. -ENOMEM, -EIO, or what the kernel said of the
 * file; nothing is left at `path` then. -ENOTSUP in a build without cairo. */
int chart_write(const struct chart *chart, const char *path, enum chart_format format);

#endif
