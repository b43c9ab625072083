/* SPDX-License-Identifier: MIT */
/*
 * Traces: what `ballast record` writes and `ballast plot` reads. One JSON
 * object a line. The first is the header:
 *
 *   {"ballast-trace": 1, "name": "vm1", "pid": 4711, "started": SECONDS SINCE 1970,
 *    "interval_ms": 100, "page_bytes": 4096, "max_pages": N, "target_pages": N}
 *
 * Each other one is a sample: "t_ns" since the start, the counters of
 * query-domain, and "host_anon_pages", the process's RssAnon as the kernel
 * tells it to anybody (absent if it could not be read). A reader ignores keys
 * that it does not know.
 */
#ifndef BALLAST_TOOLS_TRACE_H
#define BALLAST_TOOLS_TRACE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include <ballast/protocol.h>

#define TRACE_VERSION 1

/* One sample, as far as charts need it. Pages, or numbers since the start. */
struct trace_sample {
    double t_s;
    double max;
    double target;
    double populated;
    double cache;
    double pod_entries;
    double out;
    double host_anon; /* NAN if not known */
    double faults;
    double reclaims; /* superpages and single pages, each counted as one */
};

struct trace {
    char name[BALLAST_NAME_MAX_BYTES + 1];
    int64_t started; /* seconds since 1970 */
    struct trace_sample *samples;
    size_t count;
};

/* What is wrong with a trace, for people. */
struct trace_error {
    char text[256];
};

/* Builds the header line's object from a reply to query-domain. NULL if out of
 * memory. */
json_t *trace_header(const json_t *state, int64_t started, int interval_ms);

/* Builds a sample from a reply to query-domain; host_anon_pages is left out if
 * it is negative. NULL if out of memory. */
json_t *trace_sample(const json_t *state, uint64_t t_ns, int64_t host_anon_pages);

/* Reads a trace of at least one sample. A last line without its newline is what
 * a recorder leaves that was killed: it is ignored. -EBADMSG and *error for
 * what is no trace; -errno and *error for a file that cannot be read. */
int trace_read(const char *path, struct trace *trace, struct trace_error *error);

/* Frees what trace_read() allocated. */
void trace_free(struct trace *trace);

#endif
