/* SPDX-License-Identifier: MIT */
/*
 * ballast plot: a picture of a trace. What the panels show is decided here;
 * chart.c draws.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/types.h"
#include "chart.h"
#include "cli.h"
#include "trace.h"

static const char help[] =
    "Usage: ballast plot TRACE -o PICTURE\n"
    "\n"
    "Draws a trace of 'ballast record': what the guest believes to have, what it\n"
    "costs the host, and the work that this took, over time.\n"
    "\n"
    "Options:\n"
    "  -o PICTURE  the file to write; its name ends in .svg or .png\n"
    "\n"
    "Examples:\n"
    "  ballast record vm1 -o boot.trace\n"
    "  ballast plot boot.trace -o boot.svg\n";

/* Okabe and Ito's colours, which people with any kind of colour vision can tell
 * apart. */
#define COLOUR_POPULATED 0x0072b2
#define COLOUR_CACHE     0xe69f00
#define COLOUR_POD       0xc9d6e2
#define COLOUR_OUT       0x999999
#define COLOUR_TARGET    0xd55e00
#define COLOUR_MAX       0x000000
#define COLOUR_HOST      0x009e73
#define COLOUR_FAULTS    0x0072b2
#define COLOUR_RECLAIMS  0xd55e00

/* A rate is taken over at least this share of the time, or it is all spikes. */
#define RATE_BINS 200

/* The columns that a picture needs, each an array. */
struct columns {
    size_t count;
    size_t rate_count;
    double *t;
    double *max;
    double *target;
    double *populated;
    double *cache;
    double *pod_entries;
    double *out;
    double *host_anon;
    double *rate_t; /* the middles of the bins */
    double *faults;
    double *reclaims;
};

static void free_columns(struct columns *columns)
{
    free(columns->t);
    *columns = (struct columns){.count = 0};
}

/* Numbers a second, over bins of whole samples. */
static void fill_rates(const struct trace *trace, struct columns *columns)
{
    const struct trace_sample *last = &trace->samples[trace->count - 1];
    const struct trace_sample *from = &trace->samples[0];
    double bin = (last->t_s - from->t_s) / RATE_BINS;

    for (size_t i = 1; i < trace->count; i++) {
        const struct trace_sample *to = &trace->samples[i];
        double elapsed = to->t_s - from->t_s;

        if (elapsed > 0 && (elapsed >= bin || to == last)) {
            columns->rate_t[columns->rate_count] =
                (from->t_s + to->t_s) / 2 - trace->samples[0].t_s;
            columns->faults[columns->rate_count] = (to->faults - from->faults) / elapsed;
            columns->reclaims[columns->rate_count] = (to->reclaims - from->reclaims) / elapsed;
            columns->rate_count++;
            from = to;
        }
    }
}

static int make_columns(const struct trace *trace, struct columns *columns)
{
    struct columns made = {.count = trace->count};
    double **const arrays[] = {&made.t,      &made.max,         &made.target,  &made.populated,
                               &made.cache,  &made.pod_entries, &made.out,     &made.host_anon,
                               &made.rate_t, &made.faults,      &made.reclaims};
    const size_t array_count = sizeof(arrays) / sizeof(arrays[0]);
    double *all = calloc(array_count * trace->count, sizeof(*all));

    if (all == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < array_count; i++) {
        *arrays[i] = all + i * trace->count;
    }
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_sample *sample = &trace->samples[i];

        made.t[i] = sample->t_s - trace->samples[0].t_s;
        made.max[i] = sample->max * PAGE_BYTES;
        made.target[i] = sample->target * PAGE_BYTES;
        made.populated[i] = sample->populated * PAGE_BYTES;
        made.cache[i] = sample->cache * PAGE_BYTES;
        made.pod_entries[i] = sample->pod_entries * PAGE_BYTES;
        made.out[i] = sample->out * PAGE_BYTES;
        made.host_anon[i] = sample->host_anon * PAGE_BYTES;
    }
    fill_rates(trace, &made);
    *columns = made;
    return 0;
}

static int draw(const struct trace *trace, const struct columns *columns, const char *path,
                enum chart_format format)
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
    const struct chart_panel panels[] = {
        {"What the guest believes to have", CHART_BYTES, 0, 3, guest, 5},
        {"What it costs the host", CHART_BYTES, 0, 3, host, 4},
        {"Faults served and pieces reclaimed, per second", CHART_PER_SECOND, 0, 2, work,
         columns->rate_count > 0 ? 2 : 0},
    };
    const struct trace_sample *last = &trace->samples[trace->count - 1];
    char title[BALLAST_NAME_MAX_BYTES + 64];
    char subtitle[160];
    char target[SIZE_TEXT_BYTES];
    char max[SIZE_TEXT_BYTES];
    const struct chart chart = {
        .title = title,
        .subtitle = subtitle,
        .x = columns->t,
        .count = columns->count,
        .panels = panels,
        .panel_count = 3,
    };

    size_format(pages_to_bytes((pages_t)last->max), max);
    size_format(pages_to_bytes((pages_t)last->target), target);
    snprintf(title, sizeof(title), "Memory of domain \"%s\"", trace->name);
    snprintf(subtitle, sizeof(subtitle), "max %s, target %s; %.0f faults, %.0f reclaims in %.1f s",
             max, target, last->faults, last->reclaims, columns->t[columns->count - 1]);
    return chart_write(&chart, path, format);
}

static int plot(const char *trace_path, const char *picture, enum chart_format format)
{
    struct columns columns;
    struct trace_error error;
    struct trace trace;
    int ret = trace_read(trace_path, &trace, &error);

    if (ret < 0) {
        cli_error("the trace '%s' cannot be read: %s", trace_path, error.text);
        return EXIT_FAILED;
    }
    ret = make_columns(&trace, &columns);
    if (ret == 0) {
        ret = draw(&trace, &columns, picture, format);
        free_columns(&columns);
    }
    trace_free(&trace);
    if (ret == -ENOTSUP) {
        cli_error("this ballast cannot draw: it was built without cairo; build it where "
                  "libcairo2-dev is installed");
        return EXIT_FAILED;
    }
    if (ret < 0) {
        cli_error("the picture '%s' could not be written: %s; choose another file with -o", picture,
                  strerror(-ret));
        return EXIT_FAILED;
    }
    return 0;
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text);

    return length > strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

static int run(int argc, char **argv)
{
    const char *picture = NULL;
    const char *trace = NULL;
    const struct cli_option options[] = {{"-o", &picture, NULL}, {NULL, NULL, NULL}};
    int ret = cli_read_options_and_word(&cmd_plot, options, argc, argv, "trace", &trace);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (picture == NULL) {
        return cli_usage_error("plot", "say where the picture goes with -o");
    }
    if (!ends_in(picture, ".svg") && !ends_in(picture, ".png")) {
        return cli_usage_error("plot", "'%s' ends in neither .svg nor .png", picture);
    }
    return plot(trace, picture, ends_in(picture, ".svg") ? CHART_SVG : CHART_PNG);
}

const struct cli_command cmd_plot = {
    .name = "plot",
    .summary = "draw what was recorded",
    .help = help,
    .run = run,
};
