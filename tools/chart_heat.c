/* SPDX-License-Identifier: MIT */
/*
 * Heat strips: an image of two pixels a unit of the page in each direction, in
 * which a pixel has the average colour of the rows that it covers, and the column
 * that held at its time.
 */
#include <errno.h>

#include "chart_draw.h"

#define SCALE 2

/* The average of rows from up to but not including `to`. */
static uint32_t average(const uint32_t *colour, size_t from, size_t to)
{
    uint64_t sum[3] = {0};
    uint32_t mean = 0;

    for (size_t row = from; row < to; row++) {
        for (unsigned i = 0; i < 3; i++) {
            sum[i] += colour[row] >> (8 * i) & 0xff;
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        mean |= (uint32_t)(sum[i] / (to - from)) << (8 * i);
    }
    return mean;
}

static void fill(const struct chart_heat *heat, double x_max, cairo_surface_t *image)
{
    int width = cairo_image_surface_get_width(image);
    int height = cairo_image_surface_get_height(image);
    int stride = cairo_image_surface_get_stride(image);
    unsigned char *data = cairo_image_surface_get_data(image);
    size_t column = 0;

    for (int x = 0; x < width; x++) {
        double t = x_max * (x + 0.5) / width;

        if (t < heat->x[0]) {
            continue; /* not known */
        }
        while (column + 1 < heat->columns && heat->x[column + 1] <= t) {
            column++;
        }
        for (int y = 0; y < height; y++) {
            size_t up = (size_t)(height - 1 - y);
            size_t from = heat->rows * up / (size_t)height;
            size_t to = heat->rows * (up + 1) / (size_t)height;
            uint32_t *pixel = (uint32_t *)(void *)(data + y * stride) + x;

            *pixel = 0xff000000 |
                     average(heat->colour + column * heat->rows, from, to > from ? to : from + 1);
        }
    }
}

int draw_heat(cairo_t *cr, const struct frame *frame, const struct chart_heat *heat)
{
    cairo_surface_t *image = cairo_image_surface_create(
        CAIRO_FORMAT_ARGB32, (int)(frame->width * SCALE), (int)(frame->height * SCALE));

    if (cairo_surface_status(image) != CAIRO_STATUS_SUCCESS) {
        cairo_surface_destroy(image);
        return -ENOMEM;
    }
    cairo_surface_flush(image);
    fill(heat, frame->x_max, image);
    cairo_surface_mark_dirty(image);
    cairo_save(cr);
    cairo_translate(cr, frame->left, frame->top);
    cairo_scale(cr, 1.0 / SCALE, 1.0 / SCALE);
    cairo_set_source_surface(cr, image, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_NEAREST);
    cairo_paint(cr);
    cairo_restore(cr);
    cairo_surface_destroy(image);
    return 0;
}
