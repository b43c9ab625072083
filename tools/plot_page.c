/* SPDX-License-Identifier: MIT */
/*
 * A trace as an HTML page: the template of tools/page/ with the trace's figures as
 * JSON in its middle. What the page does with them is in its scripts, and data.js
 * says what the keys are.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/types.h"
#include "plot.h"
#include "plot_page_template.h"

/* A map in the page has at most so many cells. */
#define CELLS_MAX 4096

#define US_PER_S 1e6

/* A whole number, or null for NAN. The sum of two can be more than an integer holds. */
static json_t *number(double value)
{
    if (isnan(value)) {
        return json_null();
    }
    return json_integer(value < 0x1p63 ? (json_int_t)value : INT64_MAX);
}

/* Time since the first sample. */
static json_t *time_us(const struct trace *trace, double t_s)
{
    return json_integer((json_int_t)llround((t_s - trace->samples[0].t_s) * US_PER_S));
}

/* One array for each column of the samples. */
static int add_samples(const struct trace *trace, json_t *page)
{
    static const struct {
        const char *key;
        size_t offset;
    } columns[] = {
        {"max", offsetof(struct trace_sample, max)},
        {"target", offsetof(struct trace_sample, target)},
        {"populated", offsetof(struct trace_sample, populated)},
        {"cache", offsetof(struct trace_sample, cache)},
        {"pod", offsetof(struct trace_sample, pod_entries)},
        {"out", offsetof(struct trace_sample, out)},
        {"host", offsetof(struct trace_sample, host_anon)},
        {"faults", offsetof(struct trace_sample, faults)},
        {"reclaims", offsetof(struct trace_sample, reclaims)},
        {"p50", offsetof(struct trace_sample, p50_ns)},
        {"p99", offsetof(struct trace_sample, p99_ns)},
    };
    json_t *times = json_array();
    json_t *states = json_array();
    int ret = 0;

    for (size_t i = 0; i < trace->count; i++) {
        ret |= json_array_append_new(times, time_us(trace, trace->samples[i].t_s));
        ret |= json_array_append_new(states, json_string(trace->samples[i].state));
    }
    ret |= json_object_set_new(page, "t", times);
    ret |= json_object_set_new(page, "state", states);
    for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]); c++) {
        json_t *column = json_array();

        for (size_t i = 0; i < trace->count; i++) {
            const char *sample = (const char *)&trace->samples[i];
            double value;

            memcpy(&value, sample + columns[c].offset, sizeof(value));
            ret |= json_array_append_new(column, number(value));
        }
        ret |= json_object_set_new(page, columns[c].key, column);
    }
    return ret == 0 ? 0 : -ENOMEM;
}

static int add_events(const struct trace *trace, json_t *page)
{
    json_t *events = json_array();
    int ret = 0;

    for (size_t i = 0; i < trace->event_count; i++) {
        const struct trace_event *event = &trace->events[i];

        ret |= json_array_append_new(
            events,
            json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}", "t", time_us(trace, event->t_s), "name",
                      event->name, "target", number(event->target), "total", number(event->total),
                      "cache", number(event->cache), "pod", number(event->pod_entries)));
    }
    ret |= json_object_set_new(page, "events", events);
    return ret == 0 ? 0 : -ENOMEM;
}

/* The letter for several superpages together. */
static char merge(const char *letters, size_t count)
{
    struct ctl_map_counts counts = {.size = count * SUPERPAGE_PAGES, .huge = true};

    for (size_t i = 0; i < count; i++) {
        struct ctl_map_cell cell = {.kind = CTL_MAP_POD};
        pages_t ram;

        ctl_map_read_letter(letters[i], &cell);
        ram = cell.ram_eighths * SUPERPAGE_PAGES / 8;
        counts.ram += ram;
        counts.huge &= cell.kind == CTL_MAP_HUGE;
        if (cell.kind == CTL_MAP_GIVEN) {
            counts.given += SUPERPAGE_PAGES;
        } else if (cell.kind == CTL_MAP_OUT || (cell.kind == CTL_MAP_SPLIT && cell.rest_up)) {
            counts.out += SUPERPAGE_PAGES - ram;
        }
    }
    return ctl_map_letter(&counts);
}

/* A map's text, `merged` superpages a cell; malloc'ed. NULL if out of memory. */
static char *map_text(const struct trace *trace, const struct trace_map *map, size_t merged)
{
    char *letters = malloc(trace->superpages);
    size_t cells = 0;
    char *text;

    if (letters == NULL) {
        return NULL;
    }
    /* The reader has accepted it. */
    ctl_map_unpack(map->text, letters, trace->superpages);
    if (merged > 1) {
        for (size_t i = 0; i < trace->superpages; i += merged) {
            size_t left = trace->superpages - i;

            letters[cells++] = merge(letters + i, left < merged ? left : merged);
        }
    } else {
        cells = trace->superpages;
    }
    text = malloc(cells + 1);
    if (text != NULL) {
        ctl_map_pack(letters, cells, text);
    }
    free(letters);
    return text;
}

static int add_maps(const struct trace *trace, json_t *page)
{
    json_t *maps = json_array();
    size_t merged = 1;
    size_t cells;
    size_t cell_pages;
    int ret = 0;

    while (trace->superpages / merged > CELLS_MAX) {
        merged *= 2;
    }
    for (size_t i = 0; i < trace->map_count; i++) {
        char *text = map_text(trace, &trace->maps[i], merged);

        if (text == NULL) {
            json_decref(maps);
            return -ENOMEM;
        }
        ret |= json_array_append_new(
            maps, json_pack("{s:o, s:s}", "t", time_us(trace, trace->maps[i].t_s), "map", text));
        free(text);
    }
    ret |= json_object_set_new(page, "maps", maps);
    cells = (trace->superpages + merged - 1) / merged;
    cell_pages = merged * SUPERPAGE_PAGES;
    ret |= json_object_set_new(page, "cells", json_integer((json_int_t)cells));
    ret |= json_object_set_new(page, "cell_pages", json_integer((json_int_t)cell_pages));
    return ret == 0 ? 0 : -ENOMEM;
}

/* The page's data. -ENOMEM, or 0 and a new reference. */
static int make_data(const struct trace *trace, json_t **data)
{
    char ending[PLOT_ENDING_BYTES];
    json_t *page;
    int ret = -ENOMEM;

    plot_ending(trace, ending);
    page = json_pack("{s:s, s:I, s:I, s:s}", "name", trace->name, "started",
                     (json_int_t)trace->started, "page_bytes", (json_int_t)PAGE_BYTES, "ending",
                     ending);
    if (page != NULL) {
        ret = add_samples(trace, page);
    }
    if (ret == 0) {
        ret = add_events(trace, page);
    }
    if (ret == 0) {
        ret = add_maps(trace, page);
    }
    if (ret < 0) {
        json_decref(page);
        return ret;
    }
    *data = page;
    return 0;
}

/* Writes JSON as it may stand in a script element: nothing in it can be taken for
 * a tag. jansson has '<' in strings only. */
static int write_json(const char *buffer, size_t size, void *file)
{
    for (size_t i = 0; i < size; i++) {
        if (buffer[i] == '<') {
            fputs("\\u003c", file);
        } else {
            putc(buffer[i], file);
        }
    }
    return ferror((FILE *)file) ? -1 : 0;
}

static int write_page(FILE *file, const json_t *data)
{
    errno = EIO;
    if (fwrite(plot_page_before, 1, plot_page_before_bytes, file) != plot_page_before_bytes ||
        json_dump_callback(data, write_json, file, JSON_COMPACT) < 0 ||
        fwrite(plot_page_after, 1, plot_page_after_bytes, file) != plot_page_after_bytes) {
        return -errno;
    }
    return 0;
}

int plot_page_stream(const struct trace *trace, FILE *file)
{
    json_t *data;
    int ret = make_data(trace, &data);

    if (ret == 0) {
        ret = write_page(file, data);
        json_decref(data);
    }
    return ret;
}

int plot_page(const struct trace *trace, const char *path)
{
    FILE *file = fopen(path, "we");
    int ret;

    if (file == NULL) {
        return -errno;
    }
    ret = plot_page_stream(trace, file);
    if (fclose(file) != 0 && ret == 0) {
        ret = -errno;
    }
    if (ret < 0) {
        unlink(path);
    }
    return ret;
}
