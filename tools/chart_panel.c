/* SPDX-License-Identifier: MIT */
/*
 * A panel of a chart: its axes, series and legend.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "chart_draw.h"
#include "chart_ticks.h"

#define LEGEND_GAP    18.0
#define LEGEND_ROW    23.0
#define LEGEND_SWATCH 22.0
#define TICKS_X       12
#define TICKS_Y_EVERY 30.0 /* at most one tick in so many pixels */

double frame_x(const struct frame *frame, double value)
{
    return frame->left + frame->width * value / frame->x_max;
}

double frame_y(const struct frame *frame, double value)
{
    double share = frame->logarithmic ? log(fmax(value, frame->y_min) / frame->y_min) /
                                            log(frame->y_max / frame->y_min)
                                      : value / frame->y_max;

    return frame->top + frame->height * (1 - share);
}

static size_t series_count(const struct chart *chart, const struct chart_series *series)
{
    return series->count > 0 ? series->count : chart->count;
}

static const double *series_x(const struct chart *chart, const struct chart_series *series)
{
    return series->x != NULL ? series->x : chart->x;
}

static bool is_line(const struct chart_series *series)
{
    return series->style == CHART_LINE || series->style == CHART_DASHED_LINE;
}

/* The highest point of a panel's series, areas stacked. */
static double panel_peak(const struct chart *chart, const struct chart_panel *panel)
{
    double peak = 0;

    for (size_t i = 0; i < panel->series_count; i++) {
        const struct chart_series *series = &panel->series[i];

        if (is_line(series)) {
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

/* The lowest point of a panel's lines that is more than 0; 0 if there is none. */
static double panel_least(const struct chart *chart, const struct chart_panel *panel)
{
    double least = INFINITY;

    for (size_t i = 0; i < panel->series_count; i++) {
        const struct chart_series *series = &panel->series[i];

        for (size_t k = 0; is_line(series) && k < series_count(chart, series); k++) {
            if (series->y[k] > 0) {
                least = fmin(least, series->y[k]);
            }
        }
    }
    return isinf(least) ? 0 : least;
}

static void draw_x_ticks(cairo_t *cr, const struct frame *frame, bool labels)
{
    double step = tick_step(frame->x_max, TICKS_X, 0);

    for (int i = 0; i * step <= frame->x_max * (1 + 1e-9); i++) {
        double x = round(frame_x(frame, i * step)) + 0.5;
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

static void draw_y_tick(cairo_t *cr, const struct frame *frame, double value, const char *text)
{
    double y = round(frame_y(frame, value)) + 0.5;

    picture_set_colour(cr, COLOUR_GRID, 1);
    cairo_move_to(cr, frame->left, y);
    cairo_line_to(cr, frame->left + frame->width, y);
    cairo_stroke(cr);
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, frame->left - 9, y + 4.5, 1, FONT_TEXT, text);
}

static void draw_y_ticks(cairo_t *cr, const struct frame *frame, enum chart_unit unit)
{
    int most = (int)fmax(2, frame->height / TICKS_Y_EVERY);
    double step = tick_step(frame->y_max, most, unit == CHART_BYTES);
    char text[TICK_TEXT_BYTES];

    if (frame->logarithmic) {
        int decades = (int)floor(log10(frame->y_max / frame->y_min) + 1e-9);

        for (int i = 0; i <= decades; i++) {
            double value = frame->y_min * pow(10, i);

            tick_format_ns(value, text);
            draw_y_tick(cr, frame, value, text);
        }
        return;
    }
    for (int i = 0; i * step <= frame->y_max * (1 + 1e-9); i++) {
        if (unit == CHART_BYTES) {
            tick_format_bytes(i * step, step, text);
        } else {
            tick_format_number(i * step, text);
        }
        draw_y_tick(cr, frame, i * step, text);
    }
}

/* The grid shows through areas, and not through a heat strip. */
static double area_alpha(const struct chart_series *series)
{
    return series->style == CHART_SWATCH ? 1 : 0.85;
}

/* Fills between the stack so far, `base`, and base plus the series; base becomes that. */
static void draw_area(cairo_t *cr, const struct frame *frame, const struct chart *chart,
                      const struct chart_series *series, double *base)
{
    for (size_t k = 0; k < chart->count; k++) {
        cairo_line_to(cr, frame_x(frame, chart->x[k]), frame_y(frame, base[k]));
        base[k] += series->y[k];
    }
    for (size_t k = chart->count; k-- > 0;) {
        cairo_line_to(cr, frame_x(frame, chart->x[k]), frame_y(frame, base[k]));
    }
    cairo_close_path(cr);
    picture_set_colour(cr, series->colour, area_alpha(series));
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
            cairo_line_to(cr, frame_x(frame, x[k]), frame_y(frame, series->y[k]));
        } else {
            cairo_move_to(cr, frame_x(frame, x[k]), frame_y(frame, series->y[k]));
        }
        pen_down = true;
    }
    end_line(cr);
}

/* Does a series show anything? One that is zero all along is not worth a legend. */
static bool is_visible(const struct chart *chart, const struct chart_series *series)
{
    if (series->style == CHART_SWATCH) {
        return true;
    }
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

            if (is_line(series) == (areas == 1) || !is_visible(chart, series)) {
                continue;
            }
            if (areas) {
                picture_set_colour(cr, series->colour, area_alpha(series));
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

/* Finds the values at the upper and lower edge. */
static void choose_range(struct frame *frame, const struct chart *chart,
                         const struct chart_panel *panel)
{
    double peak = panel_peak(chart, panel);

    frame->logarithmic = panel->unit == CHART_NANOSECONDS;
    if (frame->logarithmic) {
        double least = panel_least(chart, panel);

        frame->y_min = least > 0 ? pow(10, floor(log10(least))) : 1e3;
        frame->y_max = pow(10, ceil(log10(fmax(peak, 2 * frame->y_min))));
        return;
    }
    frame->y_min = 0;
    frame->y_max = panel->y_max > 0 ? panel->y_max : peak * 1.08;
    if (!(frame->y_max > 0)) {
        frame->y_max = 1;
    }
}

/* Draws what the panel shows. -ENOMEM, or 0. */
static int draw_contents(cairo_t *cr, const struct frame *frame, const struct chart *chart,
                         const struct chart_panel *panel)
{
    double *base = calloc(chart->count, sizeof(*base));
    int ret = 0;

    if (base == NULL) {
        return -ENOMEM;
    }
    cairo_save(cr);
    /* A little room above, so that a line at the very top is not cut in half. */
    cairo_rectangle(cr, frame->left, frame->top - 2, frame->width, frame->height + 3);
    cairo_clip(cr);
    if (panel->heat != NULL) {
        ret = draw_heat(cr, frame, panel->heat);
    }
    for (size_t i = 0; i < panel->series_count; i++) {
        if (panel->series[i].style == CHART_AREA) {
            draw_area(cr, frame, chart, &panel->series[i], base);
        }
    }
    for (size_t i = 0; i < panel->series_count; i++) {
        if (is_line(&panel->series[i])) {
            draw_line(cr, frame, chart, &panel->series[i]);
        }
    }
    cairo_restore(cr);
    free(base);
    return ret;
}

int draw_panel(cairo_t *cr, struct frame *frame, const struct chart *chart,
               const struct chart_panel *panel, bool last)
{
    int ret;

    choose_range(frame, chart, panel);
    cairo_set_line_width(cr, 1);
    draw_x_ticks(cr, frame, last);
    draw_y_ticks(cr, frame, panel->unit);
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_BOLD);
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, frame->left, frame->top - 11, 0, FONT_PANEL, panel->title);
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_NORMAL);
    ret = draw_contents(cr, frame, chart, panel);
    picture_set_colour(cr, COLOUR_AXIS, 1);
    cairo_move_to(cr, frame->left + 0.5, frame->top);
    cairo_line_to(cr, frame->left + 0.5, frame->top + frame->height + 0.5);
    cairo_line_to(cr, frame->left + frame->width, frame->top + frame->height + 0.5);
    cairo_stroke(cr);
    draw_legend(cr, frame, chart, panel);
    return ret;
}
