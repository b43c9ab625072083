/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing traces. See trace.h.
 */
#include "trace.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

/* Keys of query-domain that do not change while a domain lives. */
static const char *const constant_keys[] = {"name",      "pid",         "ram_start",
                                            "ram_bytes", "cache_start", "cache_bytes"};

json_t *trace_header(const json_t *state, int64_t started, int interval_ms)
{
    return json_pack("{s:i, s:O, s:O, s:I, s:i, s:I, s:O, s:O}", "ballast-trace", TRACE_VERSION,
                     "name", json_object_get(state, "name"), "pid", json_object_get(state, "pid"),
                     "started", (json_int_t)started, "interval_ms", interval_ms, "page_bytes",
                     (json_int_t)PAGE_BYTES, "max_pages", json_object_get(state, "max_pages"),
                     "target_pages", json_object_get(state, "target_pages"));
}

json_t *trace_sample(const json_t *state, uint64_t t_ns, int64_t host_anon_pages)
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

/* State of a reading in progress. */
struct reading {
    struct trace trace;
    size_t room; /* samples that the array has room for */
    size_t line;
    bool has_header;
    struct trace_error *error;
};

__attribute__((format(printf, 2, 3))) static int bad(struct reading *reading, const char *format,
                                                     ...)
{
    char what[160];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    snprintf(reading->error->text, sizeof(reading->error->text), "line %zu %s", reading->line,
             what);
    return -EBADMSG;
}

static int take_header(struct reading *reading, const json_t *line)
{
    const json_t *version = json_object_get(line, "ballast-trace");
    const char *name = json_string_value(json_object_get(line, "name"));

    if (!json_is_integer(version)) {
        return bad(reading, "is not the header of a trace; make one with 'ballast record'");
    }
    if (json_integer_value(version) != TRACE_VERSION) {
        return bad(reading,
                   "says trace version %" JSON_INTEGER_FORMAT
                   ", and this program knows version %d; use the ballast that recorded it",
                   json_integer_value(version), TRACE_VERSION);
    }
    if (name == NULL || strlen(name) > BALLAST_NAME_MAX_BYTES) {
        return bad(reading, "has no domain name");
    }
    memcpy(reading->trace.name, name, strlen(name) + 1);
    reading->trace.started = json_integer_value(json_object_get(line, "started"));
    reading->has_header = true;
    return 0;
}

static int grow(struct reading *reading)
{
    size_t room = reading->room > 0 ? 2 * reading->room : 256;
    struct trace_sample *samples =
        reallocarray(reading->trace.samples, room, sizeof(reading->trace.samples[0]));

    if (samples == NULL) {
        return -ENOMEM;
    }
    reading->trace.samples = samples;
    reading->room = room;
    return 0;
}

static int take_sample(struct reading *reading, const json_t *line)
{
    struct trace_sample sample = {.host_anon = NAN};
    double t_ns = 0;
    double reclaimed_2m = 0;
    double reclaimed_4k = 0;
    const struct {
        const char *key;
        double *value;
    } wanted[] = {
        {"t_ns", &t_ns},
        {"max_pages", &sample.max},
        {"target_pages", &sample.target},
        {"populated_pages", &sample.populated},
        {"cache_pages", &sample.cache},
        {"pod_entries_pages", &sample.pod_entries},
        {"out_pages", &sample.out},
        {"faults", &sample.faults},
        {"reclaimed_2m", &reclaimed_2m},
        {"reclaimed_4k", &reclaimed_4k},
    };
    const json_t *host_anon = json_object_get(line, "host_anon_pages");

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        const json_t *value = json_object_get(line, wanted[i].key);

        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            return bad(reading, "has no number '%s'", wanted[i].key);
        }
        *wanted[i].value = (double)json_integer_value(value);
    }
    sample.t_s = t_ns / 1e9;
    sample.reclaims = reclaimed_2m + reclaimed_4k;
    if (json_is_integer(host_anon)) {
        sample.host_anon = (double)json_integer_value(host_anon);
    }
    if (reading->trace.count > 0 &&
        sample.t_s < reading->trace.samples[reading->trace.count - 1].t_s) {
        return bad(reading, "is earlier than the line before it");
    }
    if (reading->trace.count == reading->room && grow(reading) < 0) {
        return -ENOMEM;
    }
    reading->trace.samples[reading->trace.count++] = sample;
    return 0;
}

static int take_line(struct reading *reading, const char *text, size_t length)
{
    json_t *line = json_loadb(text, length, 0, NULL);
    int ret;

    if (!json_is_object(line)) {
        ret = bad(reading, "is not a JSON object");
    } else {
        ret = reading->has_header ? take_sample(reading, line) : take_header(reading, line);
    }
    json_decref(line);
    return ret;
}

static int read_lines(struct reading *reading, FILE *file)
{
    size_t size = 0;
    char *text = NULL;
    ssize_t length;
    int ret = 0;

    while (ret == 0 && (length = getline(&text, &size, file)) > 0) {
        reading->line++;
        if (text[length - 1] == '\n') {
            ret = take_line(reading, text, (size_t)length);
        } else if (!reading->has_header) {
            ret = bad(reading, "is not the header of a trace; make one with 'ballast record'");
        }
    }
    if (ret == 0 && ferror(file)) {
        ret = -EIO;
    }
    free(text);
    if (ret == 0 && reading->trace.count == 0) {
        snprintf(reading->error->text, sizeof(reading->error->text), "there are no samples in it");
        ret = -EBADMSG;
    }
    return ret;
}

int trace_read(const char *path, struct trace *trace, struct trace_error *error)
{
    struct reading reading = {.error = error};
    FILE *file = fopen(path, "re");
    int ret = file != NULL ? 0 : -errno;

    if (ret == 0) {
        ret = read_lines(&reading, file);
        fclose(file);
    }
    if (ret == 0) {
        *trace = reading.trace;
        return 0;
    }
    trace_free(&reading.trace);
    if (ret != -EBADMSG) {
        snprintf(error->text, sizeof(error->text), "%s", strerror(-ret));
    }
    return ret;
}

void trace_free(struct trace *trace)
{
    free(trace->samples);
    *trace = (struct trace){.count = 0};
}
