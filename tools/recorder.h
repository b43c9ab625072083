/* SPDX-License-Identifier: MIT */
/*
 * Recording a domain: asks it again and again, listens to its events, and writes
 * what comes as the lines of a trace. Prints nothing.
 */
#ifndef BALLAST_TOOLS_RECORDER_H
#define BALLAST_TOOLS_RECORDER_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ctl/client.h"
#include "trace.h"

/* One recording. The first part is the caller's. */
struct recorder {
    FILE *file;
    struct ctl_client *client; /* for questions */
    struct ctl_client *events; /* that has subscribed; NULL: there are none to be had */
    int interval_ms;           /* between samples */
    int map_interval_ms;       /* between looks at the map; 0: none */
    const sigset_t *mask;      /* while waiting; see waiting_catch_signals() */
    /* Called after each sample; may be NULL. */
    void (*progress)(const struct recorder *recorder, const json_t *state);

    /* How it goes; zeroed to begin with. */
    uint64_t samples;
    uint64_t event_count;
    uint64_t maps;
    uint64_t late; /* questions that were not answered in time */
    enum trace_end end;
    int exit_status; /* as in struct trace */

    /* Private. */
    uint64_t start_ns;
    uint64_t next_map_ns;
    char *last_map; /* letters */
    size_t last_map_count;
    int pidfd;
};

/* Records from `state`, a first answer to query-domain (borrowed), until the
 * domain is gone or a signal has come (waiting_interrupted()). 0, or -errno if
 * the file cannot be written: what is in it then is good. */
int recorder_run(struct recorder *recorder, const json_t *state);

/* Nanoseconds since recorder_run() began. */
uint64_t recorder_elapsed_ns(const struct recorder *recorder);

#endif
