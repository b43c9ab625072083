/* SPDX-License-Identifier: MIT */
/*
 * The lines of a trace, as a recorder makes them. See trace.h.
 */
#include "trace.h"

#include <stdlib.h>

#include "base/types.h"

/* Keys of query-domain that do not change while a domain lives. */
static const char *const constant_keys[] = {"name",      "pid",         "ram_start",
                                            "ram_bytes", "cache_start", "cache_bytes"};

json_t *trace_header_line(const json_t *state, int64_t started, int interval_ms)
{
    return json_pack("{s:i, s:O, s:O, s:I, s:i, s:I, s:O, s:O}", "ballast-trace", TRACE_VERSION,
                     "name", json_object_get(state, "name"), "pid", json_object_get(state, "pid"),
                     "started", (json_int_t)started, "interval_ms", interval_ms, "page_bytes",
                     (json_int_t)PAGE_BYTES, "max_pages", json_object_get(state, "max_pages"),
                     "target_pages", json_object_get(state, "target_pages"));
}

json_t *trace_sample_line(const json_t *state, uint64_t t_ns, int64_t host_anon_pages)
{
    json_t *sample = json_pack("{s:I}", "t_ns", (json_int_t)t_ns);

    if (sample == NULL || json_object_update(sample, (json_t *)state) < 0) {
        json_decref(sample);
        return NULL;
    }
    for (size_t i = 0; i < sizeof(constant_keys) / sizeof(constant_keys[0]); i++) {
        json_object_del(sample, constant_keys[i]);
    }
    if (host_anon_pages >= 0) {
        json_object_set_new(sample, "host_anon_pages", json_integer(host_anon_pages));
    }
    return sample;
}

json_t *trace_event_line(const char *name, const json_t *data, int64_t t_ns)
{
    return json_pack("{s:I, s:s, s:s, s:O}", "t_ns", (json_int_t)t_ns, "kind", "event", "event",
                     name, "data", data);
}

json_t *trace_map_line(uint64_t t_ns, const struct ctl_map *map)
{
    char *text = malloc(map->count + 1);
    json_t *line;

    if (text == NULL) {
        return NULL;
    }
    ctl_map_pack(map->letters, map->count, text);
    line = json_pack("{s:I, s:s, s:I, s:s}", "t_ns", (json_int_t)t_ns, "kind", "map", "superpages",
                     (json_int_t)map->count, "map", text);
    free(text);
    return line;
}

json_t *trace_end_line(uint64_t t_ns, enum trace_end end, int exit_status)
{
    json_t *line = json_pack("{s:I, s:s, s:s}", "t_ns", (json_int_t)t_ns, "kind", "end", "end",
                             end == TRACE_END_GONE ? "gone" : "stopped");

    if (line != NULL && exit_status >= 0) {
        json_object_set_new(line, "exit_status", json_integer(exit_status));
    }
    return line;
}
