/* SPDX-License-Identifier: MIT */
#include "top_detail.h"

#include <math.h>
#include <stdio.h>

#include "map_view.h"
#include "top_format.h"
#include "top_table.h"

#define LABEL_COLUMNS 12
#define VALUE_COLUMNS 7
#define BARS          6
#define MAP_LABEL     10
#define GRAPH_MIN     3
#define GRAPH_MAX     8
/* From how many rows on the history, and the map, are worth their place. */
#define ROWS_FOR_HISTORY 14
#define ROWS_FOR_MAP     22

static void draw_title(struct canvas *canvas, const char *name, const struct top_domain *domain)
{
    int at = canvas_text(canvas, 0, 0, -1, CANVAS_TITLE, name);

    at = canvas_print(canvas, 0, at, CANVAS_PLAIN, ": %s, pid %lld", top_state(domain),
                      (long long)domain->last.pid);
    if (domain->is_silent) {
        canvas_print(canvas, 0, at, CANVAS_WARNING, ", for %.0f s: %s", domain->silent_s,
                     domain->error);
    } else if (domain->last.covered) {
        canvas_text(canvas, 0, at, -1, CANVAS_GOOD, ", covered: it cannot run out");
    } else {
        char text[TOP_FORMAT_BYTES];

        top_format_pages(domain->last.pod_entries - domain->last.cache, text);
        canvas_print(canvas, 0, at, CANVAS_WARNING, ", not covered: entries exceed the cache by %s",
                     text);
    }
}

static void draw_bars(struct canvas *canvas, const struct top_figures *last)
{
    const struct {
        const char *label;
        double pages;
        enum canvas_style style;
    } bars[BARS] = {
        {"max", last->max, CANVAS_REST},
        {"target", last->target, CANVAS_PLAIN},
        {"populated", last->populated, CANVAS_POPULATED},
        {"cache", last->cache, CANVAS_CACHE},
        {"PoD entries", last->pod_entries, CANVAS_REST},
        {"given up", last->out, CANVAS_FAINT},
    };
    int width = canvas->columns - LABEL_COLUMNS - VALUE_COLUMNS - 1;

    for (int i = 0; i < BARS; i++) {
        char text[TOP_FORMAT_BYTES];
        long length = last->max > 0 && width > 0 ? lround(bars[i].pages / last->max * width) : 0;

        canvas_text(canvas, i + 1, 0, -1, CANVAS_PLAIN, bars[i].label);
        top_format_pages(bars[i].pages, text);
        canvas_print(canvas, i + 1, LABEL_COLUMNS, CANVAS_PLAIN, "%*s", VALUE_COLUMNS - 1, text);
        for (int k = 0; k < length; k++) {
            canvas_put(canvas, i + 1, LABEL_COLUMNS + VALUE_COLUMNS + k, '#', bars[i].style);
        }
    }
}

static void draw_rates(struct canvas *canvas, int row, const struct top_domain *domain)
{
    char faults[TOP_FORMAT_BYTES];
    char reclaims[TOP_FORMAT_BYTES];
    char p99[TOP_FORMAT_BYTES];

    top_format_rate(domain->faults_per_s, faults);
    top_format_rate(domain->reclaims_per_s, reclaims);
    top_format_ns(domain->last.p99_ns, p99);
    canvas_print(canvas, row, 0, CANVAS_PLAIN,
                 "%s faults and %s reclaims a second; %.0f faults so far, 99%% within %s", faults,
                 reclaims, domain->last.faults, p99);
}

/* Populated and cache, stacked, as shares of max; the newest at the right. */
static void draw_graph(struct canvas *canvas, int top, int height, const struct top_domain *domain)
{
    for (int column = 0; column < canvas->columns; column++) {
        const struct top_moment *moment =
            top_moment_back(domain, (size_t)(canvas->columns - 1 - column));

        for (int i = 0; moment != NULL && moment->max > 0 && i < height; i++) {
            /* The middle of the cell. */
            double level = (i + 0.5) / height * moment->max;
            bool is_used = level < moment->populated;
            bool is_cache = !is_used && level < moment->populated + moment->cache;

            canvas_put(canvas, top + height - 1 - i, column,
                       (char)(is_used    ? '#'
                              : is_cache ? '='
                                         : '.'),
                       is_used    ? CANVAS_POPULATED
                       : is_cache ? CANVAS_CACHE
                                  : CANVAS_REST);
        }
    }
}

/* Faults a second in one row, the higher the darker. Returns the highest rate. */
static double draw_sparkline(struct canvas *canvas, int row, const struct top_domain *domain)
{
    static const char ramp[] = "_.:-=+*#";
    double peak = 0;

    for (int back = 0; back < canvas->columns; back++) {
        const struct top_moment *moment = top_moment_back(domain, (size_t)back);

        peak = moment != NULL ? fmax(peak, moment->faults_per_s) : peak;
    }
    for (int back = 0; back < canvas->columns; back++) {
        const struct top_moment *moment = top_moment_back(domain, (size_t)back);

        if (moment != NULL && !isnan(moment->faults_per_s)) {
            int level = peak > 0 ? (int)ceil(moment->faults_per_s / peak * 7) : 0;

            canvas_put(canvas, row, canvas->columns - 1 - back, ramp[level], CANVAS_POPULATED);
        }
    }
    return peak;
}

/* Returns the row after it. */
static int draw_history(struct canvas *canvas, int row, int height, const struct top_domain *domain)
{
    char text[TOP_FORMAT_BYTES];

    canvas_text(canvas, row, 0, -1, CANVAS_HEADING, "# populated and = cache, of max, over time");
    draw_graph(canvas, row + 1, height, domain);
    top_format_rate(draw_sparkline(canvas, row + height + 2, domain), text);
    canvas_print(canvas, row + height + 1, 0, CANVAS_HEADING,
                 "faults a second over time, at most %s", text);
    return row + height + 3;
}

static enum canvas_style map_style(const struct ctl_map_cell *cell)
{
    return cell->kind == CTL_MAP_SPLIT
               ? (enum canvas_style)(CANVAS_MAP_SPLIT + (int)cell->ram_eighths)
               : (enum canvas_style)(CANVAS_MAP_WHOLE + (int)cell->kind);
}

static void draw_map(struct canvas *canvas, int row, int rows, const struct ctl_map *map,
                     const char *map_error)
{
    int columns = canvas->columns - MAP_LABEL;
    struct map_layout layout;
    char scale[TOP_FORMAT_BYTES];
    char text[MAP_LABEL_BYTES];

    if (map == NULL || map->count == 0 || rows < 2 || columns < 1) {
        canvas_print(canvas, row, 0, CANVAS_FAINT, "map: %s",
                     map == NULL               ? "asking ..."
                     : map_error[0] != '\0'    ? map_error
                     : rows < 2 || columns < 1 ? "no room"
                                               : "none yet");
        return;
    }
    layout = map_lay_out(map->count, (size_t)columns, (size_t)rows - 1, 0);
    top_format_pages((double)(layout.scale * SUPERPAGE_PAGES), scale);
    canvas_print(canvas, row, 0, CANVAS_HEADING,
                 "map: a cell is %s; . PoD  H huge  R RAM  0-8 split  o, g given up", scale);
    for (size_t i = 0; i < layout.rows; i++) {
        struct ctl_map_cell cell;

        map_label(&layout, i, text);
        canvas_print(canvas, row + 1 + (int)i, 0, CANVAS_FAINT, "%*s", MAP_LABEL - 1, text);
        for (size_t k = 0; map_cell_at(map, &layout, i, k, &cell); k++) {
            canvas_put(canvas, row + 1 + (int)i, MAP_LABEL + (int)k, map_glyph(&cell),
                       map_style(&cell));
        }
    }
}

void top_draw_detail(struct canvas *canvas, int rows, const char *name,
                     const struct top_domain *domain, const struct ctl_map *map,
                     const char *map_error)
{
    int row = BARS + 2;

    if (domain == NULL) {
        canvas_print(canvas, 0, 0, CANVAS_WARNING, "%s is gone; q goes back to the others", name);
        return;
    }
    if (!domain->is_known) {
        canvas_print(canvas, 0, 0, CANVAS_WARNING, "%s has not answered yet: %s", name,
                     domain->error);
        return;
    }
    draw_title(canvas, name, domain);
    draw_bars(canvas, &domain->last);
    draw_rates(canvas, BARS + 1, domain);
    if (rows >= ROWS_FOR_HISTORY) {
        int height = (rows - ROWS_FOR_HISTORY) / 3;

        height = height < GRAPH_MIN ? GRAPH_MIN : height > GRAPH_MAX ? GRAPH_MAX : height;
        row = draw_history(canvas, row, height, domain);
    }
    if (rows >= ROWS_FOR_MAP || rows < ROWS_FOR_HISTORY) {
        draw_map(canvas, row, rows - row, map, map_error);
    }
}
