/* SPDX-License-Identifier: MIT */
/*
 * A trace as a still picture: what the panels show is decided here; chart.c draws.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/types.h"
#include "chart.h"
#include "plot.h"
#include "plot_columns.h"

/* Okabe and Ito's colours, which people with any kind of colour vision can tell
 * apart, and shades of them. tools/page/page.css has them for its backgrounds. */
#define COLOUR_POPULATED 0x0072b2
#define COLOUR_SINGLE    0x56b4e9
#define COLOUR_CACHE     0xe69f00
#define COLOUR_POD       0xc9d6e2
#define COLOUR_OUT       0x999999
#define COLOUR_GIVEN     0xcc79a7
#define COLOUR_TARGET    0xd55e00
#define COLOUR_MAX       0x000000
#define COLOUR_HOST      0x009e73
#define COLOUR_FAULTS    0x0072b2
#define COLOUR_RECLAIMS  0xd55e00
#define COLOUR_P50       0x0072b2
#define COLOUR_P99       0xd55e00

/* So many rows are more than the strip has pixels. */
#define HEAT_ROWS_MAX 4096

/* An event that follows one of the same name sooner, in shares of the time, is
 * marked without a label. That one is looked for among so many. */
#define AGAIN_SHARE 0.1
#define LOOK_BACK   64

/* Mixes two colours: `eighths` of the first. */
static uint32_t mix(uint32_t a, uint32_t b, unsigned eighths)
{
    uint32_t colour = 0;

    for (unsigned shift = 0; shift < 24; shift += 8) {
        colour |= (((a >> shift & 0xff) * eighths + (b >> shift & 0xff) * (8 - eighths)) / 8)
                  << shift;
    }
    return colour;
}

static uint32_t colour_of(char letter)
{
    static const uint32_t whole[] = {
        [CTL_MAP_POD] = COLOUR_POD,     [CTL_MAP_HUGE] = COLOUR_POPULATED,
        [CTL_MAP_RAM] = COLOUR_SINGLE,  [CTL_MAP_OUT] = COLOUR_OUT,
        [CTL_MAP_GIVEN] = COLOUR_GIVEN,
    };
    struct ctl_map_cell cell = {.kind = CTL_MAP_POD};

    ctl_map_read_letter(letter, &cell);
    if (cell.kind != CTL_MAP_SPLIT) {
        return whole[cell.kind];
    }
    return mix(COLOUR_SINGLE, cell.rest_up ? COLOUR_OUT : COLOUR_POD, cell.ram_eighths);
}

/* The maps as a heat strip, whose arrays the caller frees. */
static int make_heat(const struct trace *trace, struct chart_heat *heat)
{
    size_t rows = trace->superpages < HEAT_ROWS_MAX ? trace->superpages : HEAT_ROWS_MAX;
    char *letters = malloc(trace->superpages + 1);
    uint32_t *colours = calloc(trace->map_count + 1, rows * sizeof(*colours) + 1);
    double *x = calloc(trace->map_count + 1, sizeof(*x));

    if (letters == NULL || colours == NULL || x == NULL) {
        free(letters);
        free(colours);
        free(x);
        return -ENOMEM;
    }
    for (size_t i = 0; i < trace->map_count; i++) {
        x[i] = fmax(0, trace->maps[i].t_s - trace->samples[0].t_s);
        /* The reader has accepted it. */
        ctl_map_unpack(trace->maps[i].text, letters, trace->superpages);
        for (size_t row = 0; row < rows; row++) {
            colours[i * rows + row] = colour_of(letters[trace->superpages * row / rows]);
        }
    }
    free(letters);
    *heat =
        (struct chart_heat){.x = x, .columns = trace->map_count, .rows = rows, .colour = colours};
    return 0;
}

/* TARGET_CHANGED becomes "target changed". */
static void write_words(const char *name, char words[static TRACE_WORD_MAX_BYTES + 1])
{
    size_t i = 0;

    for (; name[i] != '\0'; i++) {
        words[i] = name[i];
        if (name[i] == '_') {
            words[i] = ' ';
        } else if (name[i] >= 'A' && name[i] <= 'Z') {
            words[i] = (char)(name[i] - 'A' + 'a');
        }
    }
    words[i] = '\0';
}

/* Has the same happened shortly before this event? */
static bool is_again(const struct trace *trace, size_t event, double gap_s)
{
    const struct trace_event *events = trace->events;

    for (size_t i = event; i > 0 && event - i < LOOK_BACK; i--) {
        if (events[event].t_s - events[i - 1].t_s > gap_s) {
            return false;
        }
        if (strcmp(events[event].name, events[i - 1].name) == 0) {
            return true;
        }
    }
    return false;
}

/* The events as marks, for whose arrays there is room. Returns how many they are. */
static size_t make_marks(const struct trace *trace, double end_s,
                         char (*words)[TRACE_WORD_MAX_BYTES + 1], struct chart_mark *marks)
{
    size_t count = 0;

    for (size_t i = 0; i < trace->event_count; i++) {
        double x = trace->events[i].t_s - trace->samples[0].t_s;
        bool again = is_again(trace, i, AGAIN_SHARE * end_s);

        if (x >= 0 && x <= end_s) {
            write_words(trace->events[i].name, words[count]);
            marks[count] = (struct chart_mark){.x = x, .label = again ? NULL : words[count]};
            count++;
        }
    }
    return count;
}

/* The text above the panels. */
static void write_subtitle(const struct trace *trace, double end_s, char *text, size_t size)
{
    const struct trace_sample *last = &trace->samples[trace->count - 1];
    char target[SIZE_TEXT_BYTES];
    char max[SIZE_TEXT_BYTES];
    char ending[PLOT_ENDING_BYTES];

    size_format(pages_to_bytes((pages_t)last->max), max);
    size_format(pages_to_bytes((pages_t)last->target), target);
    plot_ending(trace, ending);
    snprintf(text, size, "max %s, target %s at the end; %.0f faults, %.0f reclaims in %.1f s%s%s",
             max, target, last->faults, last->reclaims, end_s, ending[0] != '\0' ? "; " : "",
             ending);
}

static int draw(const struct trace *trace, const struct columns *columns,
                const struct chart_heat *heat, const struct chart_mark *marks, size_t mark_count,
                const char *path, enum chart_format format)
{
    const struct chart_series guest[] = {
        {"populated", COLOUR_POPULATED, CHART_AREA, NULL, columns->populated, 0},
        {"PoD entries (no memory yet)", COLOUR_POD, CHART_AREA, NULL, columns->pod_entries, 0},
        {"given up (balloon)", COLOUR_OUT, CHART_AREA, NULL, columns->out, 0},
        {"max", COLOUR_MAX, CHART_LINE, NULL, columns->max, 0},
        {"target", COLOUR_TARGET, CHART_DASHED_LINE, NULL, columns->target, 0},
    };
    const struct chart_series host[] = {
        {"populated", COLOUR_POPULATED, CHART_AREA, NULL, columns->populated, 0},
        {"cache", COLOUR_CACHE, CHART_AREA, NULL, columns->cache, 0},
        {"QEMU in all (RssAnon)", COLOUR_HOST, CHART_LINE, NULL, columns->host_anon, 0},
        {"target", COLOUR_TARGET, CHART_DASHED_LINE, NULL, columns->target, 0},
    };
    const struct chart_series work[] = {
        {"faults", COLOUR_FAULTS, CHART_LINE, columns->rate_t, columns->faults,
         columns->rate_count},
        {"reclaims", COLOUR_RECLAIMS, CHART_DASHED_LINE, columns->rate_t, columns->reclaims,
         columns->rate_count},
    };
    const struct chart_series latency[] = {
        {"99% within", COLOUR_P99, CHART_DASHED_LINE, NULL, columns->p99_ns, 0},
        {"half within", COLOUR_P50, CHART_LINE, NULL, columns->p50_ns, 0},
    };
    /* From the legend's foot up. */
    const struct chart_series map[] = {
        {"PoD: no memory yet", COLOUR_POD, CHART_SWATCH, NULL, NULL, 0},
        {"given up, pages in place", COLOUR_GIVEN, CHART_SWATCH, NULL, NULL, 0},
        {"given up", COLOUR_OUT, CHART_SWATCH, NULL, NULL, 0},
        {"populated, single pages", COLOUR_SINGLE, CHART_SWATCH, NULL, NULL, 0},
        {"populated, a superpage", COLOUR_POPULATED, CHART_SWATCH, NULL, NULL, 0},
    };
    const struct chart_panel panels[] = {
        {"What the guest believes to have", CHART_BYTES, 0, 2, guest, 5, NULL},
        {"What it costs the host", CHART_BYTES, 0, 2, host, 4, NULL},
        {"Faults served and pieces reclaimed, per second", CHART_PER_SECOND, 0, 1.4, work,
         columns->rate_count > 0 ? 2 : 0, NULL},
        {"How long faults took, all so far", CHART_NANOSECONDS, 0, 1.2, latency, 2, NULL},
        {"The guest's memory, by address", CHART_BYTES,
         (double)(trace->superpages * SUPERPAGE_BYTES), 2, map, 5, heat},
    };
    char title[BALLAST_NAME_MAX_BYTES + 64];
    char subtitle[256];
    const struct chart chart = {
        .title = title,
        .subtitle = subtitle,
        .x = columns->t,
        .count = columns->count,
        .panels = panels,
        .panel_count = trace->map_count > 0 ? 5 : 4,
        .marks = marks,
        .mark_count = mark_count,
    };

    snprintf(title, sizeof(title), "Memory of domain \"%s\"", trace->name);
    write_subtitle(trace, columns->t[columns->count - 1], subtitle, sizeof(subtitle));
    return chart_write(&chart, path, format);
}

int plot_picture(const struct trace *trace, const char *path, enum chart_format format)
{
    struct chart_heat heat = {.columns = 0};
    struct columns columns = {.count = 0};
    char(*words)[TRACE_WORD_MAX_BYTES + 1] = calloc(trace->event_count + 1, sizeof(*words));
    struct chart_mark *marks = calloc(trace->event_count + 1, sizeof(*marks));
    int ret = words != NULL && marks != NULL ? columns_make(trace, &columns) : -ENOMEM;

    if (ret == 0) {
        ret = make_heat(trace, &heat);
    }
    if (ret == 0) {
        double end_s = columns.t[columns.count - 1];

        ret = draw(trace, &columns, &heat, marks, make_marks(trace, end_s, words, marks), path,
                   format);
    }
    columns_free(&columns);
    free((void *)heat.x);
    free((void *)heat.colour);
    free(marks);
    free(words);
    return ret;
}
