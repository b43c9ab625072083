/* SPDX-License-Identifier: MIT */
/*
 * Drawing charts. See chart.h.
 */
#include "chart.h"

#include <math.h>

#include "chart_draw.h"

/* Everything in pixels of the picture at scale 1. */
#define WIDTH         1200.0
#define WEIGHT_HEIGHT 100.0 /* of a panel, times its weight */
#define LEFT          92.0
#define RIGHT         250.0 /* the legends are here */
#define TOP           98.0
#define PANEL_TITLE   30.0 /* what a panel's title takes, above it */
#define BOTTOM        56.0
#define PANEL_GAP     46.0
#define FONT_TITLE    21.0
#define FONT_SUBTITLE 13.5

static double chart_height(const struct chart *chart)
{
    double height = TOP + draw_marks_height(chart) + BOTTOM;

    for (size_t i = 0; i < chart->panel_count; i++) {
        height += (i > 0 ? PANEL_GAP : 0) + round(WEIGHT_HEIGHT * chart->panels[i].weight);
    }
    return height;
}

static int draw_chart(cairo_t *cr, const void *what)
{
    const struct chart *chart = what;
    struct frame frame = {
        .left = LEFT,
        .top = TOP + draw_marks_height(chart),
        .width = WIDTH - LEFT - RIGHT,
        .x_max = chart->x[chart->count - 1],
    };

    if (!(frame.x_max > 0)) {
        frame.x_max = 1;
    }
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_BOLD);
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, LEFT, 30, 0, FONT_TITLE, chart->title);
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_NORMAL);
    picture_set_colour(cr, COLOUR_FAINT, 1);
    picture_text(cr, LEFT, 51, 0, FONT_SUBTITLE, chart->subtitle);
    for (size_t i = 0; i < chart->panel_count; i++) {
        int ret;

        frame.height = round(WEIGHT_HEIGHT * chart->panels[i].weight);
        ret = draw_panel(cr, &frame, chart, &chart->panels[i], i + 1 == chart->panel_count);
        if (ret < 0) {
            return ret;
        }
        frame.top += frame.height + PANEL_GAP;
    }
    draw_marks(cr, &frame, chart, TOP - PANEL_TITLE, frame.top - PANEL_GAP);
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, LEFT + frame.width / 2, frame.top - PANEL_GAP + 42, 0.5, FONT_TEXT,
                 "time (s)");
    return 0;
}

int chart_write(const struct chart *chart, const char *path, enum chart_format format)
{
    return picture_write(path, format, WIDTH, chart_height(chart), draw_chart, chart);
}
