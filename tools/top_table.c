/* SPDX-License-Identifier: MIT */
#include "top_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "top_format.h"

#define NAME_MIN 4
#define BAR_MIN  10
#define BAR_MAX  64

static const struct {
    const char *heading;
    int width;
    int key; /* enum top_key that sorts by it, or -1 */
} columns_of[TOP_COLUMNS] = {
    [TOP_NAME] = {"NAME", NAME_MIN, TOP_BY_NAME},
    [TOP_STATE] = {"STATE", 9, -1},
    [TOP_MAX] = {"MAX", 6, TOP_BY_MAX},
    [TOP_TARGET] = {"TARGET", 6, TOP_BY_TARGET},
    [TOP_POPULATED] = {"POPUL", 6, TOP_BY_POPULATED},
    [TOP_CACHE] = {"CACHE", 6, TOP_BY_CACHE},
    [TOP_ENTRIES] = {"ENTRIES", 7, TOP_BY_ENTRIES},
    [TOP_COVERED] = {"COV", 3, -1},
    [TOP_FAULTS] = {"FAULT/S", 7, TOP_BY_FAULTS},
    [TOP_RECLAIMS] = {"RECL/S", 6, TOP_BY_RECLAIMS},
    [TOP_P99] = {"P99", 6, TOP_BY_P99},
    [TOP_BAR] = {"#POPUL =CACHE .REST", BAR_MIN, -1},
};

/* What comes first if there is little room. */
static const enum top_column by_importance[TOP_COLUMNS] = {
    TOP_NAME,   TOP_POPULATED, TOP_TARGET,  TOP_STATE, TOP_BAR, TOP_COVERED,
    TOP_FAULTS, TOP_MAX,       TOP_ENTRIES, TOP_CACHE, TOP_P99, TOP_RECLAIMS,
};

static int longest_name(const struct top_model *model)
{
    int longest = NAME_MIN;

    for (size_t i = 0; i < model->count; i++) {
        int length = (int)strlen(model->domains[i].name);

        longest = length > longest ? length : longest;
    }
    return longest;
}

int top_table_width(const struct top_table *table)
{
    int width = -1;

    for (int i = 0; i < TOP_COLUMNS; i++) {
        width += table->width[i] > 0 ? table->width[i] + 1 : 0;
    }
    return width;
}

struct top_table top_lay_out(const struct top_model *model, int columns, bool all)
{
    struct top_table table = {{0}};
    int name = longest_name(model);
    int room;

    /* A long name may have a quarter of the width, and what is left in the end. */
    table.width[TOP_NAME] = all || name <= columns / 4 ? name : columns / 4;
    if (table.width[TOP_NAME] < NAME_MIN) {
        table.width[TOP_NAME] = NAME_MIN;
    }
    for (int i = 1; i < TOP_COLUMNS; i++) {
        enum top_column column = by_importance[i];

        if (all) {
            table.width[column] = column != TOP_BAR ? columns_of[column].width : 0;
            continue;
        }
        if (top_table_width(&table) + 1 + columns_of[column].width > columns) {
            break;
        }
        table.width[column] = columns_of[column].width;
    }
    if (all) {
        return table;
    }
    room = columns - top_table_width(&table);
    if (room > 0 && table.width[TOP_NAME] < name) {
        int more = name - table.width[TOP_NAME] < room ? name - table.width[TOP_NAME] : room;

        table.width[TOP_NAME] += more;
        room -= more;
    }
    if (room > 0 && table.width[TOP_BAR] > 0) {
        table.width[TOP_BAR] += room < BAR_MAX - BAR_MIN ? room : BAR_MAX - BAR_MIN;
    }
    return table;
}

static bool is_left_aligned(enum top_column column)
{
    return column == TOP_NAME || column == TOP_STATE || column == TOP_BAR;
}

/* Draws a cell of a column whose left edge is at `at`. */
static void draw_cell(struct canvas *canvas, int row, int at, const struct top_table *table,
                      enum top_column column, enum canvas_style style, const char *text)
{
    int width = table->width[column];
    int length = (int)strlen(text);
    int indent = is_left_aligned(column) || length > width ? 0 : width - length;

    canvas_text(canvas, row, at + indent, width, style, text);
}

void top_draw_headings(struct canvas *canvas, int row, const struct top_table *table,
                       const struct top_model *model)
{
    int at = 0;

    for (int i = 0; i < TOP_COLUMNS; i++) {
        if (table->width[i] == 0) {
            continue;
        }
        draw_cell(canvas, row, at, table, (enum top_column)i,
                  columns_of[i].key == (int)model->key ? CANVAS_TITLE : CANVAS_HEADING,
                  columns_of[i].heading);
        at += table->width[i] + 1;
    }
}

/* The share of a bar for a value that begins at `before`, both in its unit. */
static int cells_until(double value, double max, int width)
{
    return max > 0 ? (int)lround(value / max * width) : 0;
}

void top_draw_bar(struct canvas *canvas, int row, int column, int width, double populated,
                  double cache, double max)
{
    int used = cells_until(populated, max, width);
    int owned = cells_until(populated + cache, max, width);

    if (used == 0 && populated > 0) {
        used = 1;
    }
    if (owned <= used && cache > 0) {
        owned = used + 1;
    }
    for (int i = 0; i < width; i++) {
        if (i < used) {
            canvas_put(canvas, row, column + i, '#', CANVAS_POPULATED);
        } else if (i < owned) {
            canvas_put(canvas, row, column + i, '=', CANVAS_CACHE);
        } else {
            canvas_put(canvas, row, column + i, '.', CANVAS_REST);
        }
    }
}

/* What a column other than the bar says of a domain. */
static void describe(const struct top_domain *domain, enum top_column column,
                     char text[static TOP_FORMAT_BYTES])
{
    const struct top_figures *last = &domain->last;

    switch (column) {
    case TOP_MAX:
        top_format_pages(last->max, text);
        break;
    case TOP_TARGET:
        top_format_pages(last->target, text);
        break;
    case TOP_POPULATED:
        top_format_pages(last->populated, text);
        break;
    case TOP_CACHE:
        top_format_pages(last->cache, text);
        break;
    case TOP_ENTRIES:
        top_format_pages(last->pod_entries, text);
        break;
    case TOP_COVERED:
        snprintf(text, TOP_FORMAT_BYTES, "%s", last->covered ? "yes" : "no");
        break;
    case TOP_FAULTS:
        top_format_rate(domain->faults_per_s, text);
        break;
    case TOP_RECLAIMS:
        top_format_rate(domain->reclaims_per_s, text);
        break;
    case TOP_P99:
        top_format_ns(last->p99_ns, text);
        break;
    case TOP_NAME:
    case TOP_STATE:
    case TOP_BAR:
        text[0] = '\0';
        break;
    }
}

static enum canvas_style style_of(const struct top_domain *domain, enum top_column column)
{
    const char *state = top_state(domain);

    if (column == TOP_STATE) {
        return strcmp(state, "running") == 0 ? CANVAS_PLAIN : CANVAS_WARNING;
    }
    if (domain->is_silent) {
        return CANVAS_FAINT;
    }
    if (column == TOP_COVERED) {
        return domain->last.covered ? CANVAS_GOOD : CANVAS_WARNING;
    }
    return CANVAS_PLAIN;
}

void top_draw_row(struct canvas *canvas, int row, const struct top_table *table,
                  const struct top_domain *domain)
{
    int at = 0;

    for (int i = 0; i < TOP_COLUMNS; i++) {
        enum top_column column = (enum top_column)i;
        enum canvas_style style = style_of(domain, column);
        char text[TOP_FORMAT_BYTES] = "?";

        if (table->width[i] == 0) {
            continue;
        }
        if (column == TOP_NAME || column == TOP_STATE) {
            draw_cell(canvas, row, at, table, column, style,
                      column == TOP_NAME ? domain->name : top_state(domain));
        } else if (column == TOP_BAR && domain->is_known) {
            top_draw_bar(canvas, row, at, table->width[i], domain->last.populated,
                         domain->last.cache, domain->last.max);
        } else if (column != TOP_BAR) {
            if (domain->is_known) {
                describe(domain, column, text);
            }
            draw_cell(canvas, row, at, table, column, style, text);
        }
        at += table->width[i] + 1;
    }
}
