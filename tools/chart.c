/* SPDX-License-Identifier: MIT */
/*
 * Drawing charts. See chart.h.
 */
#include "chart.h"

#include <cairo.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "chart_ticks.h"
#include "picture.h"

/* Everything in pixels of the picture at scale 1. */
#define WIDTH         1200.0
#define HEIGHT        860.0
#define LEFT          92.0
#define RIGHT         250.0 /* the legends are here */
#define TOP           98.0
#define BOTTOM        56.0
#define PANEL_GAP     46.0
#define LEGEND_GAP    18.0
#define LEGEND_ROW    23.0
#define LEGEND_SWATCH 22.0
#define FONT_TITLE    21.0
#define FONT_SUBTITLE 13.5
#define FONT_PANEL    14.5
#define FONT_TEXT     13.0
#define TICKS_X       12
#define TICKS_Y_EVERY 30.0 /* at most one tick in so many pixels */

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
    double y_max;
};

static double x_of(const struct frame *frame, double value)
{
    return frame->left + frame->width * value / frame->x_max;
}

static double y_of(const struct frame *frame, double value)
{
    return frame->top + frame->height * (1 - value / frame->y_max);
}

static size_t series_count(const struct chart *chart, const struct chart_series *series)
{
    return series->count > 0 ? series->count : chart->count;
}

static const double *series_x(const struct chart *chart, const struct chart_series *series)
{
    return series->x != NULL ? series->x : chart->x;
}

/* The highest point of a panel's series, areas stacked. */
static double panel_peak(const struct chart *chart, const struct chart_panel *panel)
{
    double peak = 0;

    for (size_t i = 0; i < panel->series_count; i++) {
        const struct chart_series *series = &panel->series[i];

        if (series->style != CHART_AREA) {
            for (size_t k = 0; k < series_count(chart, series); k++) {
                peak = fmax(peak, series->y[k]);
            }
        }
    }
    for (size_t k = 0; k < chart->count; k++) {
        double sum = 0;

        for (size_t i = 0; i < panel->series_count; i++) {
            if (panel->series[i].style == CHART_AREA) {
                sum += panel->series[i].y[k];
            }
        }
        peak = fmax(peak, sum);
    }
    return peak;
}

static void draw_x_ticks(cairo_t *cr, const struct frame *frame, bool labels)
{
    double step = tick_step(frame->x_max, TICKS_X, 0);

    for (int i = 0; i * step <= frame->x_max * (1 + 1e-9); i++) {
        double x = round(x_of(frame, i * step)) + 0.5;
        char text[TICK_TEXT_BYTES];

        picture_set_colour(cr, COLOUR_GRID, 1);
        cairo_move_to(cr, x, frame->top);
        cairo_line_to(cr, x, frame->top + frame->height);
        cairo_stroke(cr);
        if (labels) {
            tick_format_seconds(i * step, step, text);
            picture_set_colour(cr, COLOUR_TEXT, 1);
            picture_text(cr, x, frame->top + frame->height + 19, 0.5, FONT_TEXT, text);
        }
    }
}

static void draw_y_ticks(cairo_t *cr, const struct frame *frame, enum chart_unit unit)
{
    int most = (int)fmax(2, frame->height / TICKS_Y_EVERY);
    double step = tick_step(frame->y_max, most, unit == CHART_BYTES);

    for (int i = 0; i * step <= frame->y_max * (1 + 1e-9); i++) {
        double y = round(y_of(frame, i * step)) + 0.5;
        char text[TICK_TEXT_BYTES];

        picture_set_colour(cr, COLOUR_GRID, 1);
        cairo_move_to(cr, frame->left, y);
        cairo_line_to(cr, frame->left + frame->width, y);
        cairo_stroke(cr);
        if (unit == CHART_BYTES) {
            tick_format_bytes(i * step, step, text);
        } else {
            tick_format_number(i * step, text);
        }
        picture_set_colour(cr, COLOUR_TEXT, 1);
        picture_text(cr, frame->left - 9, y + 4.5, 1, FONT_TEXT, text);
    }
}

/* Fills between the stack so far, `base`, and base plus the series; base becomes that. */
static void draw_area(cairo_t *cr, const struct frame *frame, const struct chart *chart,
                      const struct chart_series *series, double *base)
{
    for (size_t k = 0; k < chart->count; k++) {
        cairo_line_to(cr, x_of(frame, chart->x[k]), y_of(frame, base[k]));
        base[k] += series->y[k];
    }
    for (size_t k = chart->count; k-- > 0;) {
        cairo_line_to(cr, x_of(frame, chart->x[k]), y_of(frame, base[k]));
    }
    cairo_close_path(cr);
    picture_set_colour(cr, series->colour, 0.85);
    cairo_fill(cr);
}

static void set_line(cairo_t *cr, const struct chart_series *series)
{
    const double dashes[] = {7, 4};

    picture_set_colour(cr, series->colour, 1);
    cairo_set_line_width(cr, 2);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    cairo_set_dash(cr, dashes, series->style == CHART_DASHED_LINE ? 2 : 0, 0);
}

static void end_line(cairo_t *cr)
{
    cairo_stroke(cr);
    cairo_set_dash(cr, NULL, 0, 0);
    cairo_set_line_width(cr, 1);
}

static void draw_line(cairo_t *cr, const struct frame *frame, const struct chart *chart,
                      const struct chart_series *series)
{
    const double *x = series_x(chart, series);
    bool pen_down = false;

    set_line(cr, series);
    for (size_t k = 0; k < series_count(chart, series); k++) {
        if (isnan(series->y[k])) {
            pen_down = false;
            continue;
        }
        if (pen_down) {
            cairo_line_to(cr, x_of(frame, x[k]), y_of(frame, series->y[k]));
        } else {
            cairo_move_to(cr, x_of(frame, x[k]), y_of(frame, series->y[k]));
        }
        pen_down = true;
    }
    end_line(cr);
}

/* Does a series show anything? One that is zero all along is not worth a legend. */
static bool is_visible(const struct chart *chart, const struct chart_series *series)
{
    for (size_t k = 0; k < series_count(chart, series); k++) {
        if (series->y[k] > 0) {
            return true;
        }
    }
    return series->style != CHART_AREA;
}

/* Lines first, then areas from the top of the stack down, as they lie in the panel. */
static void draw_legend(cairo_t *cr, const struct frame *frame, const struct chart *chart,
                        const struct chart_panel *panel)
{
    double x = frame->left + frame->width + LEGEND_GAP;
    double y = frame->top + 10;

    for (int areas = 0; areas < 2; areas++) {
        for (size_t n = 0; n < panel->series_count; n++) {
            size_t i = areas ? panel->series_count - 1 - n : n;
            const struct chart_series *series = &panel->series[i];

            if ((series->style == CHART_AREA) != (areas == 1) || !is_visible(chart, series)) {
                continue;
            }
            if (areas) {
                picture_set_colour(cr, series->colour, 0.85);
                cairo_rectangle(cr, x, y - 7, LEGEND_SWATCH, 14);
                cairo_fill(cr);
            } else {
                set_line(cr, series);
                cairo_move_to(cr, x, y);
                cairo_line_to(cr, x + LEGEND_SWATCH, y);
                end_line(cr);
            }
            picture_set_colour(cr, COLOUR_TEXT, 1);
            picture_text(cr, x + LEGEND_SWATCH + 8, y + 4.5, 0, FONT_TEXT, series->label);
            y += LEGEND_ROW;
        }
    }
}

/* -ENOMEM, or 0. */
static int draw_panel(cairo_t *cr, struct frame *frame, const struct chart *chart,
                      const struct chart_panel *panel, bool last)
{
    double *base = calloc(chart->count, sizeof(*base));

    if (base == NULL) {
        return -ENOMEM;
    }
    frame->y_max = panel->y_max > 0 ? panel->y_max : panel_peak(chart, panel) * 1.08;
    if (!(frame->y_max > 0)) {
        frame->y_max = 1;
    }
    cairo_set_line_width(cr, 1);
    draw_x_ticks(cr, frame, last);
    draw_y_ticks(cr, frame, panel->unit);
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_BOLD);
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, frame->left, frame->top - 11, 0, FONT_PANEL, panel->title);
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_NORMAL);

    cairo_save(cr);
    /* A little room above, so that a line at the very top is not cut in half. */
    cairo_rectangle(cr, frame->left, frame->top - 2, frame->width, frame->height + 3);
    cairo_clip(cr);
    for (size_t i = 0; i < panel->series_count; i++) {
        if (panel->series[i].style == CHART_AREA) {
            draw_area(cr, frame, chart, &panel->series[i], base);
        }
    }
    for (size_t i = 0; i < panel->series_count; i++) {
        if (panel->series[i].style != CHART_AREA) {
            draw_line(cr, frame, chart, &panel->series[i]);
        }
    }
    cairo_restore(cr);

    picture_set_colour(cr, COLOUR_AXIS, 1);
    cairo_move_to(cr, frame->left + 0.5, frame->top);
    cairo_line_to(cr, frame->left + 0.5, frame->top + frame->height + 0.5);
    cairo_line_to(cr, frame->left + frame->width, frame->top + frame->height + 0.5);
    cairo_stroke(cr);
    draw_legend(cr, frame, chart, panel);
    free(base);
    return 0;
}

static int draw_chart(cairo_t *cr, const void *what)
{
    const struct chart *chart = what;
    double room = HEIGHT - TOP - BOTTOM - PANEL_GAP * (double)(chart->panel_count - 1);
    struct frame frame = {.left = LEFT, .top = TOP, .width = WIDTH - LEFT - RIGHT};
    double weights = 0;

    frame.x_max = chart->x[chart->count - 1];
    if (!(frame.x_max > 0)) {
        frame.x_max = 1;
    }
    for (size_t i = 0; i < chart->panel_count; i++) {
        weights += chart->panels[i].weight;
    }
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_BOLD);
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, LEFT, 30, 0, FONT_TITLE, chart->title);
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_NORMAL);
    picture_set_colour(cr, COLOUR_FAINT, 1);
    picture_text(cr, LEFT, 51, 0, FONT_SUBTITLE, chart->subtitle);
    for (size_t i = 0; i < chart->panel_count; i++) {
        int ret;

        frame.height = round(room * chart->panels[i].weight / weights);
        ret = draw_panel(cr, &frame, chart, &chart->panels[i], i + 1 == chart->panel_count);
        if (ret < 0) {
            return ret;
        }
        frame.top += frame.height + PANEL_GAP;
    }
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, LEFT + frame.width / 2, HEIGHT - 14, 0.5, FONT_TEXT, "time (s)");
    return 0;
}

int chart_write(const struct chart *chart, const char *path, enum chart_format format)
{
    return picture_write(path, format, WIDTH, HEIGHT, draw_chart, chart);
}
