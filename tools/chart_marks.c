/* SPDX-License-Identifier: MIT */
/*
 * The marks of a chart. A label goes into the first row where it has room. A mark
 * whose label has none, or that has no label, is a tick.
 */
#include "chart_draw.h"

#define ROWS       3
#define ROW_HEIGHT 17.0
#define LABEL_GAP  8.0 /* between two labels of a row */
#define FONT_MARK  12.0
/* How far a label may reach beyond the panels. */
#define LABEL_OVERHANG 120.0
#define TICK_HEIGHT    5.0

#define COLOUR_MARK 0x7a3b8f

double draw_marks_height(const struct chart *chart)
{
    return chart->mark_count > 0 ? ROWS * ROW_HEIGHT + 6 : 0;
}

/* The highest row in which a label that begins at x has room, or -1. */
static int free_row(const double ends[static ROWS], double x)
{
    for (int row = 0; row < ROWS; row++) {
        if (x >= ends[row]) {
            return row;
        }
    }
    return -1;
}

void draw_marks(cairo_t *cr, const struct frame *frame, const struct chart *chart, double top,
                double bottom)
{
    const double dots[] = {2, 3};
    double ends[ROWS] = {0};

    for (size_t i = 0; i < chart->mark_count; i++) {
        const struct chart_mark *mark = &chart->marks[i];
        double x = frame_x(frame, mark->x);
        double width = mark->label != NULL ? picture_text_width(cr, FONT_MARK, mark->label) : 0;
        double from = x + 4;
        int row;

        /* A label at the right edge stands at the left of its mark. */
        if (from + width > frame->left + frame->width + LABEL_OVERHANG) {
            from = x - 4 - width;
        }
        row = mark->label != NULL ? free_row(ends, from) : -1;
        picture_set_colour(cr, COLOUR_MARK, 0.8);
        cairo_set_line_width(cr, 1);
        if (row < 0) {
            cairo_move_to(cr, x, top + ROWS * ROW_HEIGHT);
            cairo_line_to(cr, x, top + ROWS * ROW_HEIGHT + TICK_HEIGHT);
            cairo_stroke(cr);
            continue;
        }
        cairo_set_dash(cr, dots, 2, 0);
        cairo_move_to(cr, x, top + row * ROW_HEIGHT + 2);
        cairo_line_to(cr, x, bottom);
        cairo_stroke(cr);
        cairo_set_dash(cr, NULL, 0, 0);
        picture_set_colour(cr, COLOUR_MARK, 1);
        picture_text(cr, from, top + row * ROW_HEIGHT + 13, 0, FONT_MARK, mark->label);
        ends[row] = from + width + LABEL_GAP;
    }
}
