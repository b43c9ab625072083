/* SPDX-License-Identifier: MIT */
/*
 * Reading traces. See trace.h.
 */
#include "trace.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

/* Of so many maps, every second one is dropped. */
#define MAPS_MAX 1024

/* State of a reading in progress. */
struct reading {
    struct trace trace;
    size_t room; /* samples that the array has room for */
    size_t event_room;
    size_t map_room;
    double map_gap_s; /* maps that follow the last one sooner are dropped */
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
    snprintf(reading->error->text, sizeof(reading->error->text), "line %zu %s%s", reading->line,
             what, strchr(what, ';') != NULL ? "" : "; take it out, or record anew");
    return -EBADMSG;
}

static int take_header(struct reading *reading, const json_t *line)
{
    const json_t *version = json_object_get(line, "ballast-trace");
    const char *name = json_string_value(json_object_get(line, "name"));

    if (!json_is_integer(version)) {
        return bad(reading, "is not the header of a trace; make one with 'ballast record'");
    }
    if (json_integer_value(version) < TRACE_VERSION_OLDEST ||
        json_integer_value(version) > TRACE_VERSION) {
        return bad(reading,
                   "says trace version %" JSON_INTEGER_FORMAT
                   ", and this program knows versions %d to %d; use the ballast that recorded it",
                   json_integer_value(version), TRACE_VERSION_OLDEST, TRACE_VERSION);
    }
    if (name == NULL || strlen(name) > BALLAST_NAME_MAX_BYTES) {
        return bad(reading, "has no domain name");
    }
    memcpy(reading->trace.name, name, strlen(name) + 1);
    reading->trace.started = json_integer_value(json_object_get(line, "started"));
    reading->has_header = true;
    return 0;
}

/* Makes room in an array for one more than `count`. */
static int make_room(void **array, size_t count, size_t *room, size_t bytes_each)
{
    size_t more = *room > 0 ? 2 * *room : 256;
    void *larger;

    if (count < *room) {
        return 0;
    }
    larger = reallocarray(*array, more, bytes_each);
    if (larger == NULL) {
        return -ENOMEM;
    }
    *array = larger;
    *room = more;
    return 0;
}

/* NAN if there is no such number. */
static double number_or_nan(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_integer(value) && json_integer_value(value) >= 0
               ? (double)json_integer_value(value)
               : NAN;
}

/* A word; it is cut if it is too long, and "" if there is none. */
static void copy_word(const json_t *object, const char *key,
                      char word[static TRACE_WORD_MAX_BYTES + 1])
{
    const char *text = json_string_value(json_object_get(object, key));
    size_t length = text != NULL ? strnlen(text, TRACE_WORD_MAX_BYTES) : 0;

    if (length > 0) {
        /* Not in the middle of a character. */
        while (length > 0 && (text[length] & 0xc0) == 0x80) {
            length--;
        }
        memcpy(word, text, length);
    }
    word[length] = '\0';
}

static int take_sample(struct reading *reading, const json_t *line, double t_s)
{
    struct trace_sample sample = {
        .t_s = t_s,
        .host_anon = number_or_nan(line, "host_anon_pages"),
        .p50_ns = number_or_nan(line, "fault_p50_ns"),
        .p99_ns = number_or_nan(line, "fault_p99_ns"),
    };
    double reclaimed_2m = 0;
    double reclaimed_4k = 0;
    const struct {
        const char *key;
        double *value;
    } wanted[] = {
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
    struct trace *trace = &reading->trace;

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        *wanted[i].value = number_or_nan(line, wanted[i].key);
        if (isnan(*wanted[i].value)) {
            return bad(reading, "has no number '%s'", wanted[i].key);
        }
    }
    sample.reclaims = reclaimed_2m + reclaimed_4k;
    copy_word(line, "state", sample.state);
    if (sample.faults == 0) {
        sample.p50_ns = sample.p99_ns = NAN; /* there is none yet */
    }
    if (trace->count > 0 && t_s < trace->samples[trace->count - 1].t_s) {
        return bad(reading, "is earlier than the sample before it");
    }
    if (make_room((void **)&trace->samples, trace->count, &reading->room, sizeof(sample)) < 0) {
        return -ENOMEM;
    }
    trace->samples[trace->count++] = sample;
    return 0;
}

static int take_event(struct reading *reading, const json_t *line, double t_s)
{
    const json_t *data = json_object_get(line, "data");
    struct trace_event event = {
        .t_s = t_s,
        .target = number_or_nan(data, "target_pages"),
        .total = number_or_nan(data, "total_pages"),
        .cache = number_or_nan(data, "cache_pages"),
        .pod_entries = number_or_nan(data, "pod_entries_pages"),
    };
    struct trace *trace = &reading->trace;
    size_t at = trace->event_count;

    copy_word(line, "event", event.name);
    if (event.name[0] == '\0') {
        return bad(reading, "has no name 'event'");
    }
    if (make_room((void **)&trace->events, at, &reading->event_room, sizeof(event)) < 0) {
        return -ENOMEM;
    }
    /* Their times are those of another clock; they come nearly in order. */
    for (; at > 0 && trace->events[at - 1].t_s > t_s; at--) {
        trace->events[at] = trace->events[at - 1];
    }
    trace->events[at] = event;
    trace->event_count++;
    return 0;
}

/* Keeps every second map, and from here on no more often than that. */
static void drop_maps(struct reading *reading)
{
    struct trace *trace = &reading->trace;
    size_t kept = 0;

    for (size_t i = 0; i < trace->map_count; i++) {
        if (i % 2 == 0) {
            trace->maps[kept++] = trace->maps[i];
        } else {
            free(trace->maps[i].text);
        }
    }
    trace->map_count = kept;
    reading->map_gap_s = (trace->maps[kept - 1].t_s - trace->maps[0].t_s) / (double)kept;
}

/* Is this a map of so many superpages? */
static bool is_map(const char *text, json_int_t superpages)
{
    char *letters;
    bool is;

    if (text == NULL || superpages <= 0 ||
        superpages > (json_int_t)(MAX_DOMAIN_BYTES / SUPERPAGE_BYTES)) {
        return false;
    }
    letters = malloc((size_t)superpages);
    is = letters != NULL && ctl_map_unpack(text, letters, (size_t)superpages) == 0;
    free(letters);
    return is;
}

/* Guest RAM has grown by a DIMM: before, there was nothing in its place. */
static int lengthen_maps(struct trace *trace, size_t superpages)
{
    size_t lacking = superpages - trace->superpages;

    for (size_t i = 0; lacking != 0 && i < trace->map_count; i++) {
        char *longer = NULL;
        int length = lacking == 1 ? asprintf(&longer, "%sO", trace->maps[i].text)
                                  : asprintf(&longer, "%sO%zu", trace->maps[i].text, lacking);

        if (length < 0) {
            return -ENOMEM;
        }
        free(trace->maps[i].text);
        trace->maps[i].text = longer;
    }
    trace->superpages = superpages;
    return 0;
}

static int take_map(struct reading *reading, const json_t *line, double t_s)
{
    const char *text = json_string_value(json_object_get(line, "map"));
    json_int_t superpages = json_integer_value(json_object_get(line, "superpages"));
    struct trace *trace = &reading->trace;
    struct trace_map map = {.t_s = t_s};
    const struct trace_map *last = trace->map_count > 0 ? &trace->maps[trace->map_count - 1] : NULL;

    if (!is_map(text, superpages)) {
        return bad(reading, "has no usable map");
    }
    if (last != NULL && (size_t)superpages < trace->superpages) {
        return bad(reading, "has a smaller map than those before it");
    }
    if (last != NULL && t_s < last->t_s) {
        return bad(reading, "is earlier than the map before it");
    }
    if (lengthen_maps(trace, (size_t)superpages) < 0) {
        return -ENOMEM;
    }
    if (last != NULL && t_s - last->t_s < reading->map_gap_s) {
        return 0;
    }
    if (make_room((void **)&trace->maps, trace->map_count, &reading->map_room, sizeof(map)) < 0) {
        return -ENOMEM;
    }
    map.text = strdup(text);
    if (map.text == NULL) {
        return -ENOMEM;
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there is room */
    trace->maps[trace->map_count++] = map;
    if (trace->map_count == MAPS_MAX) {
        drop_maps(reading);
    }
    return 0;
}

static int take_end(struct reading *reading, const json_t *line, double t_s)
{
    const char *end = json_string_value(json_object_get(line, "end"));
    double status = number_or_nan(line, "exit_status");

    if (end == NULL) {
        return bad(reading, "has no word 'end'");
    }
    reading->trace.end = strcmp(end, "gone") == 0 ? TRACE_END_GONE : TRACE_END_STOPPED;
    reading->trace.end_s = t_s;
    reading->trace.exit_status = status <= 255 ? (int)status : -1;
    return 0;
}

/* Takes a line that is not the header. Those of a kind that is not known are
 * passed over. */
static int take_record(struct reading *reading, const json_t *line)
{
    static const struct {
        const char *kind;
        int (*take)(struct reading *reading, const json_t *line, double t_s);
        bool may_precede; /* the recording */
    } kinds[] = {
        {"sample", take_sample, false},
        {"event", take_event, true},
        {"map", take_map, false},
        {"end", take_end, false},
    };
    const json_t *word = json_object_get(line, "kind");
    const char *kind = word != NULL ? json_string_value(word) : "sample";
    const json_t *t_ns = json_object_get(line, "t_ns");

    for (size_t i = 0; kind != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].kind, kind) == 0) {
            if (!json_is_integer(t_ns) || (json_integer_value(t_ns) < 0 && !kinds[i].may_precede)) {
                return bad(reading, "has no number 't_ns'");
            }
            return kinds[i].take(reading, line, (double)json_integer_value(t_ns) / 1e9);
        }
    }
    return 0;
}

static int take_line(struct reading *reading, const char *text, size_t length)
{
    json_t *line = json_loadb(text, length, 0, NULL);
    int ret;

    if (!json_is_object(line)) {
        ret = bad(reading, "is not a JSON object");
    } else {
        ret = reading->has_header ? take_record(reading, line) : take_header(reading, line);
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

int trace_read_stream(FILE *file, struct trace *trace, struct trace_error *error)
{
    struct reading reading = {.error = error, .trace = {.exit_status = -1}};
    int ret = read_lines(&reading, file);

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

int trace_read(const char *path, struct trace *trace, struct trace_error *error)
{
    FILE *file = fopen(path, "re");
    int ret;

    if (file == NULL) {
        ret = -errno;
        snprintf(error->text, sizeof(error->text), "%s", strerror(-ret));
        return ret;
    }
    ret = trace_read_stream(file, trace, error);
    fclose(file);
    return ret;
}

void trace_free(struct trace *trace)
{
    for (size_t i = 0; i < trace->map_count; i++) {
        free(trace->maps[i].text);
    }
    free(trace->maps);
    free(trace->events);
    free(trace->samples);
    *trace = (struct trace){.count = 0};
}
