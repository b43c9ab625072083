/* SPDX-License-Identifier: MIT */
/*
 * Traces: what `ballast record` writes and `ballast plot` reads, the life of a
 * domain as JSON lines. ballast-trace(5) describes the format for everybody.
 */
#ifndef BALLAST_TOOLS_TRACE_H
#define BALLAST_TOOLS_TRACE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <ballast/protocol.h>

#include "ctl/map.h"

/* 1 had samples only; it can still be read. */
#define TRACE_VERSION        2
#define TRACE_VERSION_OLDEST 1

/* Longest name of an event or state that is kept, without the NUL. */
#define TRACE_WORD_MAX_BYTES 31

/* One sample, as far as charts need it. Pages, or numbers since the domain
 * began. NAN: not known. */
struct trace_sample {
    double t_s;
    double max;
    double target;
    double populated;
    double cache;
    double pod_entries;
    double out;
    double host_anon;
    double faults;
    double reclaims; /* superpages and single pages, each counted as one */
    double p50_ns;   /* of all faults so far */
    double p99_ns;
    char state[TRACE_WORD_MAX_BYTES + 1]; /* "" if not known */
};

/* Something that happened, with the domain's figures then (NAN: not known). */
struct trace_event {
    double t_s; /* negative: before the recording began */
    char name[TRACE_WORD_MAX_BYTES + 1];
    double target;
    double total;
    double cache;
    double pod_entries;
};

/* What the p2m looked like: a text for ctl_map_unpack() of the trace's number of
 * superpages, which has accepted it. */
struct trace_map {
    double t_s;
    char *text;
};

/* How a recording ended. */
enum trace_end {
    TRACE_END_UNKNOWN, /* the recorder was killed, or is an old one */
    TRACE_END_STOPPED, /* by whoever recorded; the domain lived on */
    TRACE_END_GONE,    /* with the domain's process */
};

struct trace {
    char name[BALLAST_NAME_MAX_BYTES + 1];
    int64_t started; /* seconds since 1970 */
    struct trace_sample *samples;
    size_t count;
    struct trace_event *events; /* ascending in time */
    size_t event_count;
    struct trace_map *maps; /* ascending in time */
    size_t map_count;
    size_t superpages; /* that each map tells; 0 if there is none */
    enum trace_end end;
    double end_s;    /* unless TRACE_END_UNKNOWN */
    int exit_status; /* the process's, 128 + N for signal N; -1: not known */
};

/* What is wrong with a trace, for people. */
struct trace_error {
    char text[256];
};

/* Reads a trace of at least one sample. A last line without its newline is what
 * a recorder leaves that was killed: it is ignored. Of very many maps, some are
 * kept. -EBADMSG and *error for what is no trace; -errno and *error for a file
 * that cannot be read. */
int trace_read(const char *path, struct trace *trace, struct trace_error *error);

/* The same of an open file, from where it stands; it stays open. */
int trace_read_stream(FILE *file, struct trace *trace, struct trace_error *error);

/* Leaves at most about `most` samples (at least 8) of more: of each stretch of
 * time the first, those with the least and the most populated, and the last. */
void trace_thin(struct trace *trace, size_t most);

/* Frees what trace_read() allocated. */
void trace_free(struct trace *trace);

/*
 * The lines that a recorder writes, each a new object, NULL if out of memory.
 */

/* The header, from a reply to query-domain. */
json_t *trace_header_line(const json_t *state, int64_t started, int interval_ms);

/* A sample, from a reply to query-domain; host_anon_pages is left out if it is
 * negative. */
json_t *trace_sample_line(const json_t *state, uint64_t t_ns, int64_t host_anon_pages);

/* An event of the control protocol; t_ns may be negative. */
json_t *trace_event_line(const char *name, const json_t *data, int64_t t_ns);

/* A map, as query-map has them. */
json_t *trace_map_line(uint64_t t_ns, const struct ctl_map *map);

/* The end: TRACE_END_STOPPED or TRACE_END_GONE, and the exit status or -1. */
json_t *trace_end_line(uint64_t t_ns, enum trace_end end, int exit_status);

#endif
