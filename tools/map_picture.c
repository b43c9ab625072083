/* SPDX-License-Identifier: MIT */
/*
 * Drawing maps. See map_picture.h.
 */
#include "map_picture.h"

#include <stdio.h>

#include "picture.h"

#define LEFT          88.0
#define RIGHT         32.0
#define TOP           80.0
#define BOTTOM        24.0
#define CELL          14.0
#define CELL_GAP      1.0
#define LEGEND_GAP    30.0
#define LEGEND_ROW    22.0
#define LEGEND_COLUMN 290.0
#define LEGEND_ROWS   2
#define FONT_TITLE    21.0
#define FONT_SUBTITLE 13.5
#define FONT_TEXT     12.0
#define FONT_LETTER   8.5

#define COLOUR_TEXT  0x222222
#define COLOUR_FAINT 0x555555

static double page_width(const struct map_picture *picture)
{
    int legend_columns = CTL_MAP_KINDS / LEGEND_ROWS;
    double legend = LEGEND_COLUMN * legend_columns;
    double cells = (double)picture->layout.per_row * CELL;

    return LEFT + (cells > legend ? cells : legend) + RIGHT;
}

static double cells_height(const struct map_picture *picture)
{
    return (double)picture->layout.rows * CELL;
}

static double page_height(const struct map_picture *picture)
{
    return TOP + cells_height(picture) + LEGEND_GAP + LEGEND_ROW * LEGEND_ROWS + BOTTOM;
}

static void draw_cell(cairo_t *cr, double x, double y, const struct ctl_map_cell *cell)
{
    bool is_dark = cell->kind == CTL_MAP_HUGE;
    double size = CELL - CELL_GAP;
    char letter[2] = {map_glyph(cell), '\0'};

    picture_set_colour(cr, map_colour(cell), 1);
    cairo_rectangle(cr, x, y, size, size);
    cairo_fill(cr);
    if (cell->rest_up) {
        /* The rest of it is as grey as what is given up whole. */
        struct ctl_map_cell out = map_kind_example(CTL_MAP_OUT);

        picture_set_colour(cr, map_colour(&out), 1);
        cairo_rectangle(cr, x, y + size - 3, size, 3);
        cairo_fill(cr);
    }
    if (cell->kind != CTL_MAP_POD) {
        picture_set_colour(cr, is_dark ? 0xffffff : COLOUR_TEXT, is_dark ? 0.75 : 0.8);
        picture_text(cr, x + size / 2, y + size / 2 + FONT_LETTER * 0.36, 0.5, FONT_LETTER, letter);
    }
}

static void draw_cells(cairo_t *cr, const struct map_picture *picture)
{
    for (size_t row = 0; row < picture->layout.rows; row++) {
        double y = TOP + (double)row * CELL;
        char label[MAP_LABEL_BYTES];
        struct ctl_map_cell cell;

        map_label(&picture->layout, row, label);
        picture_set_colour(cr, COLOUR_TEXT, 1);
        picture_text(cr, LEFT - 10, y + CELL / 2 + 4, 1, FONT_TEXT, label);
        for (size_t column = 0; map_cell_at(picture->map, &picture->layout, row, column, &cell);
             column++) {
            draw_cell(cr, LEFT + (double)column * CELL, y, &cell);
        }
    }
}

static void draw_legend(cairo_t *cr, const struct map_picture *picture)
{
    size_t counts[CTL_MAP_KINDS];

    map_count(picture->map, counts);
    for (int kind = 0; kind < CTL_MAP_KINDS; kind++) {
        struct ctl_map_cell cell = map_kind_example((enum ctl_map_kind)kind);
        int column = kind / LEGEND_ROWS;
        int row = kind % LEGEND_ROWS;
        double x = LEFT + LEGEND_COLUMN * column;
        double y = TOP + cells_height(picture) + LEGEND_GAP + LEGEND_ROW * row;
        char text[96];

        snprintf(text, sizeof(text), "%s: %zu", map_kind_text((enum ctl_map_kind)kind),
                 counts[kind]);
        draw_cell(cr, x, y - CELL + 3, &cell);
        picture_set_colour(cr, COLOUR_TEXT, 1);
        picture_text(cr, x + CELL + 8, y, 0, FONT_TEXT, text);
    }
}

static int draw(cairo_t *cr, const void *what)
{
    const struct map_picture *picture = what;

    picture_choose_font(cr, CAIRO_FONT_WEIGHT_BOLD);
    picture_set_colour(cr, COLOUR_TEXT, 1);
    picture_text(cr, LEFT, 30, 0, FONT_TITLE, picture->title);
    picture_choose_font(cr, CAIRO_FONT_WEIGHT_NORMAL);
    picture_set_colour(cr, COLOUR_FAINT, 1);
    picture_text(cr, LEFT, 49, 0, FONT_SUBTITLE, picture->subtitle);
    picture_text(cr, LEFT, 67, 0, FONT_SUBTITLE, picture->scale_text);
    draw_cells(cr, picture);
    draw_legend(cr, picture);
    return 0;
}

int map_picture_write(const struct map_picture *picture, const char *path, enum chart_format format)
{
    return picture_write(path, format, page_width(picture), page_height(picture), draw, picture);
}
