/* SPDX-License-Identifier: MIT */
/*
 * Recording a domain. See recorder.h.
 */
#include "recorder.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/types.h"
#include "ctl/map.h"
#include "domain.h"
#include "exit_status.h"
#include "waiting.h"

/* Maps of large domains are taken more rarely: so many superpages a second. */
#define MAP_SUPERPAGES_PER_S UINT64_C(8192)
/* How long the last events and the exit status may take after the end. */
#define LAST_WORDS_MS 1000

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t recorder_elapsed_ns(const struct recorder *recorder)
{
    return now_ns(CLOCK_MONOTONIC) - recorder->start_ns;
}

/* The process's RssAnon in pages, or -1. What the host pays, seen from outside. */
static int64_t host_anon_pages(json_int_t pid)
{
    int64_t kilobytes = -1;
    char line[256];
    FILE *file;

    snprintf(line, sizeof(line), "/proc/%" JSON_INTEGER_FORMAT "/status", pid);
    file = fopen(line, "re");
    if (file == NULL) {
        return -1;
    }
    while (kilobytes < 0 && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "RssAnon: %" SCNd64 " kB", &kilobytes) != 1) {
            kilobytes = -1;
        }
    }
    fclose(file);
    return kilobytes < 0 ? -1 : kilobytes / 4;
}

/* Writes and frees a line. */
static int write_line(const struct recorder *recorder, json_t *line)
{
    int ret = line != NULL ? 0 : -ENOMEM;

    errno = EIO;
    if (ret == 0 && (json_dumpf(line, recorder->file, JSON_COMPACT) < 0 ||
                     putc('\n', recorder->file) == EOF || fflush(recorder->file) != 0)) {
        ret = -errno;
    }
    json_decref(line);
    return ret;
}

/* Writes down an event. When it happened is known by its age, whatever somebody
 * did to the realtime clock in the course of the recording. */
static int write_event(struct recorder *recorder, const json_t *message)
{
    uint64_t now = now_ns(CLOCK_REALTIME);
    struct ctl_event event;
    uint64_t age_ns;

    if (ctl_event_read(message, &event) < 0) {
        return 0; /* the client has read it already */
    }
    age_ns = now > event.realtime_ns ? now - event.realtime_ns : 0;
    recorder->event_count++;
    return write_line(recorder,
                      trace_event_line(event.name, event.data,
                                       (int64_t)(recorder_elapsed_ns(recorder) - age_ns)));
}

/* Writes down the events that have come, or come within timeout_ms. */
static int take_events(struct recorder *recorder, int timeout_ms)
{
    int ret = 0;

    while (recorder->events != NULL && ret == 0) {
        json_t *message;
        int got = ctl_client_next_event(recorder->events, timeout_ms, &message);

        if (got == -ETIMEDOUT) {
            break;
        }
        if (got < 0) {
            ctl_client_close(recorder->events);
            recorder->events = NULL;
            break;
        }
        ret = write_event(recorder, message);
        json_decref(message);
    }
    return ret;
}

/* Writes down the map, if it is time to and it is not the last one. A domain that
 * cannot tell it (an old one, one that is being built) has none. */
static int take_map(struct recorder *recorder)
{
    struct ctl_map map;
    struct ctl_error error;
    uint64_t t_ns = recorder_elapsed_ns(recorder);
    uint64_t gap_ns = (uint64_t)recorder->map_interval_ms * NS_PER_MS;
    int ret = 0;

    if (recorder->map_interval_ms == 0 || t_ns < recorder->next_map_ns) {
        return 0;
    }
    if (ctl_map_query(recorder->client, DOMAIN_ANSWER_MS, &map, &error) == 0) {
        bool changed = map.count > 0 && (map.count != recorder->last_map_count ||
                                         memcmp(map.letters, recorder->last_map, map.count) != 0);
        uint64_t least_ns = map.count * NS_PER_S / MAP_SUPERPAGES_PER_S;

        if (changed) {
            ret = write_line(recorder, trace_map_line(t_ns, &map));
            recorder->maps++;
            free(recorder->last_map);
            recorder->last_map = map.letters;
            recorder->last_map_count = map.count;
            map.letters = NULL;
        }
        ctl_map_free(&map);
        gap_ns = gap_ns > least_ns ? gap_ns : least_ns;
    }
    recorder->next_map_ns = t_ns + gap_ns;
    return ret;
}

/* Waits until then, writing down events as they come; less if a signal comes, or
 * the events' connection ends, as it does with the domain. */
static int wait_until(struct recorder *recorder, uint64_t deadline_ns)
{
    bool had_events = recorder->events != NULL;
    /* Some may have come together with an answer. */
    int ret = take_events(recorder, 0);

    while (ret == 0 && !waiting_interrupted() && had_events == (recorder->events != NULL)) {
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        uint64_t left_ns = deadline_ns > now ? deadline_ns - now : 0;
        const struct timespec limit = {.tv_sec = (time_t)(left_ns / NS_PER_S),
                                       .tv_nsec = (long)(left_ns % NS_PER_S)};
        struct pollfd fd = {
            .fd = had_events ? ctl_client_fd(recorder->events) : -1,
            .events = POLLIN,
        };

        if (ppoll(&fd, 1, &limit, recorder->mask) == 0) {
            break;
        }
        ret = take_events(recorder, 0);
    }
    return ret;
}

/* Takes a sample. *gone: there is nobody left to ask. */
static int take_sample(struct recorder *recorder, json_int_t pid, bool *gone)
{
    struct ctl_error error;
    json_t *state;
    int asked = domain_query_on(recorder->client, &state, &error);
    int ret = 0;

    if (asked == -ETIMEDOUT) {
        /* A domain that is held up (stopped, say) goes on later. */
        recorder->late++;
    } else if (asked < 0) {
        *gone = true;
    } else {
        ret = write_line(recorder, trace_sample_line(state, recorder_elapsed_ns(recorder),
                                                     host_anon_pages(pid)));
        recorder->samples += ret == 0;
        if (ret == 0 && recorder->progress != NULL) {
            recorder->progress(recorder, state);
        }
        json_decref(state);
    }
    return ret;
}

/* Writes down how it ended, and what was said last. */
static int finish(struct recorder *recorder, bool gone)
{
    int ret = take_events(recorder, gone ? LAST_WORDS_MS : 0);

    recorder->end = gone ? TRACE_END_GONE : TRACE_END_STOPPED;
    if (gone) {
        recorder->exit_status = exit_status_of(recorder->pidfd, LAST_WORDS_MS);
    }
    if (ret == 0) {
        ret = write_line(recorder, trace_end_line(recorder_elapsed_ns(recorder), recorder->end,
                                                  recorder->exit_status));
    }
    return ret;
}

int recorder_run(struct recorder *recorder, const json_t *state)
{
    json_int_t pid = domain_integer(state, "pid");
    bool gone = false;
    uint64_t next;
    int ret;

    recorder->exit_status = -1;
    recorder->pidfd = exit_status_open((pid_t)pid);
    recorder->start_ns = next = now_ns(CLOCK_MONOTONIC);
    ret = write_line(recorder, trace_header_line(state, time(NULL), recorder->interval_ms));
    while (ret == 0 && !waiting_interrupted()) {
        ret = take_sample(recorder, pid, &gone);
        if (ret == 0 && !gone) {
            ret = take_map(recorder);
        }
        if (gone) {
            break;
        }
        next += (uint64_t)recorder->interval_ms * NS_PER_MS;
        if (next < now_ns(CLOCK_MONOTONIC)) {
            next = now_ns(CLOCK_MONOTONIC);
        }
        if (ret == 0) {
            ret = wait_until(recorder, next);
        }
    }
    if (ret == 0) {
        ret = finish(recorder, gone);
    }
    free(recorder->last_map);
    recorder->last_map = NULL;
    if (recorder->pidfd >= 0) {
        close(recorder->pidfd);
    }
    return ret;
}
