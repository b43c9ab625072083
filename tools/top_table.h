/* SPDX-License-Identifier: MIT */
/*
 * The table of `ballast top`: which columns there are and which of them fit, a row for
 * each domain, and bars. Pure.
 */
#ifndef BALLAST_TOOLS_TOP_TABLE_H
#define BALLAST_TOOLS_TOP_TABLE_H

#include "canvas.h"
#include "top_model.h"

enum top_column {
    TOP_NAME,
    TOP_STATE,
    TOP_MAX,
    TOP_TARGET,
    TOP_POPULATED,
    TOP_CACHE,
    TOP_ENTRIES,
    TOP_COVERED,
    TOP_FAULTS,
    TOP_RECLAIMS,
    TOP_P99,
    TOP_BAR,
};
#define TOP_COLUMNS 12

/* Widths of the columns in characters; 0: not shown. Between two is a blank. */
struct top_table {
    int width[TOP_COLUMNS];
};

/* Chooses columns for a terminal so wide; the name's is as wide as the model's longest
 * name, if that fits. With `all`, all but the bar, whatever the width. */
struct top_table top_lay_out(const struct top_model *model, int columns, bool all);

/* The width of all of it. */
int top_table_width(const struct top_table *table);

/* Draws the headings, that of the sorting key marked, and a domain. */
void top_draw_headings(struct canvas *canvas, int row, const struct top_table *table,
                       const struct top_model *model);
void top_draw_row(struct canvas *canvas, int row, const struct top_table *table,
                  const struct top_domain *domain);

/* A bar for `max`: '#' for populated, '=' for cache, '.' for the rest. What is there at
 * all gets a character if there is room. */
void top_draw_bar(struct canvas *canvas, int row, int column, int width, double populated,
                  double cache, double max);

#endif
