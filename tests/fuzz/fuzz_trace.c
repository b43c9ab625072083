/* SPDX-License-Identifier: MIT */
/* Trace files, and that what was read can be thinned and made a page of. */
#include "fuzz.h"

#include "plot.h"
#include "plot_page_template.h"
#include "trace.h"

#include <errno.h>
#include <string.h>

/* Everything is in the order of its time. */
static void check_order(const struct trace *trace)
{
    for (size_t i = 1; i < trace->count; i++) {
        must(trace->samples[i - 1].t_s <= trace->samples[i].t_s);
    }
    for (size_t i = 1; i < trace->event_count; i++) {
        must(trace->events[i - 1].t_s <= trace->events[i].t_s);
    }
    for (size_t i = 1; i < trace->map_count; i++) {
        must(trace->maps[i - 1].t_s <= trace->maps[i].t_s);
    }
}

/* A column of the page: as many values as there are samples, none of them negative. */
static void check_column(const json_t *page, const char *key, size_t count)
{
    const json_t *column = json_object_get(page, key);
    const json_t *value;
    size_t i;
    must(json_array_size(column) == count);
    json_array_foreach(column, i, value)
    {
        must(json_is_null(value) || json_integer_value(value) >= 0);
    }
}

/* The page is the template with JSON in its middle, in which nothing can be taken
 * for a tag. */
static void check_page(const struct trace *trace)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    must(file != NULL && plot_page_stream(trace, file) == 0 && fclose(file) == 0);

    size_t length = size - plot_page_before_bytes - plot_page_after_bytes;
    const char *data = text + plot_page_before_bytes;
    must(size > plot_page_before_bytes + plot_page_after_bytes);
    must(memcmp(text, plot_page_before, plot_page_before_bytes) == 0);
    must(memcmp(data + length, plot_page_after, plot_page_after_bytes) == 0);
    must(memchr(data, '<', length) == NULL);
    json_t *page = json_loadb(data, length, 0, NULL);
    must(page != NULL);
    check_column(page, "t", trace->count);
    check_column(page, "max", trace->count);
    check_column(page, "reclaims", trace->count);
    must(json_array_size(json_object_get(page, "events")) == trace->event_count);
    must(json_array_size(json_object_get(page, "maps")) == trace->map_count);
    json_decref(page);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FILE *file = fmemopen((void *)(uintptr_t)data, size, "r");
    must(file != NULL);

    struct trace trace = {.count = 12345};
    struct trace_error error = {""};
    int ret = trace_read_stream(file, &trace, &error);
    if (ret == 0) {
        must(trace.count > 0 && trace.samples != NULL);
        must((trace.map_count > 0) == (trace.superpages > 0));
        check_order(&trace);
        trace_thin(&trace, 8);
        must(trace.count > 0 && trace.count <= 8);
        check_order(&trace);
        check_page(&trace);
        trace_free(&trace);
    } else {
        must(ret == -EBADMSG && error.text[0] != '\0');
        must(trace.count == 12345);
    }
    fclose(file);
    return 0;
}
