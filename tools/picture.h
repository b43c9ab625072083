/* SPDX-License-Identifier: MIT */
/*
 * Pictures in files, drawn with cairo: SVG or PNG from the same drawing; and what
 * drawings need. Only for files that are built with cairo.
 */
#ifndef BALLAST_TOOLS_PICTURE_H
#define BALLAST_TOOLS_PICTURE_H

#include <cairo.h>
#include <stdint.h>

#include "chart.h"

/* Draws on a page of that many units, whose background is white. 0 or -errno. */
typedef int picture_draw(cairo_t *cr, const void *what);

/* Makes the file; a PNG has two pixels to the unit. What chart_write() returns. */
int picture_write(const char *path, enum chart_format format, double width, double height,
                  picture_draw *draw, const void *what);

/* 0xRRGGBB, and alpha from 0 to 1. */
void picture_set_colour(cairo_t *cr, uint32_t colour, double alpha);

void picture_choose_font(cairo_t *cr, cairo_font_weight_t weight);

/* Writes a text whose left end, middle or right end (align 0, 0.5, 1) is at x. */
void picture_text(cairo_t *cr, double x, double y, double align, double size, const char *text);

/* The width of a text. */
double picture_text_width(cairo_t *cr, double size, const char *text);

#endif
