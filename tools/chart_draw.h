/* SPDX-License-Identifier: MIT */
/*
 * What the drawing of charts is made of; for chart*.c only.
 */
#ifndef BALLAST_TOOLS_CHART_DRAW_H
#define BALLAST_TOOLS_CHART_DRAW_H

#include <cairo.h>
#include <stdbool.h>

#include "chart.h"
#include "picture.h"

#define FONT_PANEL 14.5
#define FONT_TEXT  13.0

#define COLOUR_TEXT  0x222222
#define COLOUR_FAINT 0x555555
#define COLOUR_GRID  0xdddddd
#define COLOUR_AXIS  0x777777

/* A panel's place on the page and the values at its edges. */
struct frame {
    double left;
    double top;
    double width;
    double height;
    double x_max;
    double y_min; /* 0, unless the axis is logarithmic */
    double y_max;
    bool logarithmic;
};

/* Where values are on the page. What a logarithmic axis cannot show is at its foot. */
double frame_x(const struct frame *frame, double value);
double frame_y(const struct frame *frame, double value);

/* Draws a panel, and the time axis's labels if it is the last one. The frame says
 * where; its y members are set here. -ENOMEM, or 0. */
int draw_panel(cairo_t *cr, struct frame *frame, const struct chart *chart,
               const struct chart_panel *panel, bool last);

/* Fills the frame with a heat strip. -ENOMEM, or 0. */
int draw_heat(cairo_t *cr, const struct frame *frame, const struct chart_heat *heat);

/* The height that the labels of the marks need. */
double draw_marks_height(const struct chart *chart);

/* Draws the marks from `top`, where their labels begin, down to `bottom`. The
 * frame says where they are in time. */
void draw_marks(cairo_t *cr, const struct frame *frame, const struct chart *chart, double top,
                double bottom);

#endif
