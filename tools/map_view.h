/* SPDX-License-Identifier: MIT */
/*
 * How a map of the p2m is shown, wherever that is: which superpages share a cell,
 * how many cells make a row, a cell's letter and colours, a row's label. Pure.
 */
#ifndef BALLAST_TOOLS_MAP_VIEW_H
#define BALLAST_TOOLS_MAP_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "ctl/map.h"

struct map_layout {
    size_t scale;   /* superpages that one cell stands for: a power of two if chosen here */
    size_t per_row; /* cells in a row: a power of two */
    size_t rows;
};

/* Lays a map of so many superpages out in at most `columns` cells a row. `scale` as
 * asked for, or 0: the smallest for which no more than `most_rows` are needed.
 * columns and most_rows are at least 1. */
struct map_layout map_lay_out(size_t superpages, size_t columns, size_t most_rows, size_t scale);

/* What the cell at a row and a column shows: a superpage, or several as if they
 * were one. False if the map has none there. */
bool map_cell_at(const struct ctl_map *map, const struct map_layout *layout, size_t row,
                 size_t column, struct ctl_map_cell *cell);

/* The letter for a cell; for a split one its RAM in eighths, '0' to '8'. */
char map_glyph(const struct ctl_map_cell *cell);

/* Colours of a terminal, by number; -1 is its own. */
struct map_paint {
    short text, ground;
};

/* How a cell is painted on a terminal with 256 colours, with 8, or (fewer) with none. */
struct map_paint map_paint(const struct ctl_map_cell *cell, int colours);

/* The same in a picture: 0xRRGGBB of the cell's ground. */
uint32_t map_colour(const struct ctl_map_cell *cell);

/* What a kind is called: in JSON, and in a legend. */
const char *map_kind_name(enum ctl_map_kind kind);
const char *map_kind_text(enum ctl_map_kind kind);

/* A cell that stands for its kind in a legend. */
struct ctl_map_cell map_kind_example(enum ctl_map_kind kind);

/* Counts the superpages of each kind. */
void map_count(const struct ctl_map *map, size_t counts[static CTL_MAP_KINDS]);

#define MAP_LABEL_BYTES 28

/* The label of a row: how far from the start of guest RAM it begins, exactly. At
 * most 9 characters. */
void map_label(const struct map_layout *layout, size_t row, char text[static MAP_LABEL_BYTES]);

#endif
