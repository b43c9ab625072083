/* SPDX-License-Identifier: MIT */
/*
 * Pictures in files. See picture.h.
 */
#include "picture.h"

#include <cairo-svg.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define PNG_SCALE 2.0
#define FONT      "sans-serif"

void picture_set_colour(cairo_t *cr, uint32_t colour, double alpha)
{
    cairo_set_source_rgba(cr, (double)(colour >> 16 & 0xff) / 255,
                          (double)(colour >> 8 & 0xff) / 255, (double)(colour & 0xff) / 255, alpha);
}

void picture_choose_font(cairo_t *cr, cairo_font_weight_t weight)
{
    cairo_select_font_face(cr, FONT, CAIRO_FONT_SLANT_NORMAL, weight);
}

double picture_text_width(cairo_t *cr, double size, const char *text)
{
    cairo_text_extents_t extents;

    cairo_set_font_size(cr, size);
    cairo_text_extents(cr, text, &extents);
    return extents.x_advance;
}

void picture_text(cairo_t *cr, double x, double y, double align, double size, const char *text)
{
    cairo_move_to(cr, x - align * picture_text_width(cr, size, text), y);
    cairo_show_text(cr, text);
}

static int status_to_errno(cairo_status_t status)
{
    switch (status) {
    case CAIRO_STATUS_SUCCESS:
        return 0;
    case CAIRO_STATUS_NO_MEMORY:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

static cairo_status_t write_bytes(void *file, const unsigned char *data, unsigned length)
{
    return fwrite(data, 1, length, file) == length ? CAIRO_STATUS_SUCCESS
                                                   : CAIRO_STATUS_WRITE_ERROR;
}

static int draw_into(FILE *file, enum chart_format format, double width, double height,
                     picture_draw *draw, const void *what)
{
    cairo_surface_t *surface =
        format == CHART_SVG
            ? cairo_svg_surface_create_for_stream(write_bytes, file, width, height)
            : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(width * PNG_SCALE),
                                         (int)(height * PNG_SCALE));
    cairo_t *cr = cairo_create(surface);
    int ret;

    if (format == CHART_PNG) {
        cairo_scale(cr, PNG_SCALE, PNG_SCALE);
    }
    picture_set_colour(cr, 0xffffff, 1);
    cairo_paint(cr);
    ret = draw(cr, what);
    if (ret == 0) {
        ret = status_to_errno(cairo_status(cr));
    }
    if (ret == 0 && format == CHART_PNG) {
        ret = status_to_errno(cairo_surface_write_to_png_stream(surface, write_bytes, file));
    }
    cairo_destroy(cr);
    cairo_surface_finish(surface);
    if (ret == 0) {
        ret = status_to_errno(cairo_surface_status(surface));
    }
    cairo_surface_destroy(surface);
    return ret;
}

int picture_write(const char *path, enum chart_format format, double width, double height,
                  picture_draw *draw, const void *what)
{
    FILE *file = fopen(path, "we");
    int ret;

    if (file == NULL) {
        return -errno;
    }
    ret = draw_into(file, format, width, height, draw, what);
    if (fclose(file) != 0 && ret == 0) {
        ret = -errno;
    }
    if (ret < 0) {
        unlink(path);
    }
    return ret;
}
