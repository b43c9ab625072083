/* SPDX-License-Identifier: MIT */
/*
 * Charts over time, drawn with cairo: panels above one another that share a
 * time axis, each with stacked areas and lines or a heat strip, a legend at its
 * right, and axes with units; marks go through all of them. Knows nothing of
 * domains.
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
    CHART_SWATCH, /* in the legend only: explains a colour of the heat strip */
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
    CHART_NANOSECONDS, /* on a logarithmic axis */
};

/* Colours over time and over the panel's values. */
struct chart_heat {
    const double *x; /* seconds, ascending: from then on it looked as this column says */
    size_t columns;
    size_t rows;            /* from the axis's 0 to its end */
    const uint32_t *colour; /* 0xRRGGBB of row r of column c at [c * rows + r] */
};

/* A moment that is marked. */
struct chart_mark {
    double x;
    const char *label; /* NULL: none */
};

struct chart_panel {
    const char *title;
    enum chart_unit unit;
    double y_max;  /* of the axis; 0: what the series need */
    double weight; /* how high it is; 1 is room for three ticks */
    const struct chart_series *series;
    size_t series_count;
    const struct chart_heat *heat; /* NULL: none */
};

struct chart {
    const char *title;
    const char *subtitle;
    const double *x;
    size_t count;
    const struct chart_panel *panels;
    size_t panel_count;
    const struct chart_mark *marks; /* in ascending order */
    size_t mark_count;
};

enum chart_format {
    CHART_SVG,
    CHART_PNG,
};

/* Draws the chart into a file. -ENOMEM, -EIO, or what the kernel said of the
 * file; nothing is left at `path` then. -ENOTSUP in a build without cairo. */
int chart_write(const struct chart *chart, const char *path, enum chart_format format);

#endif
