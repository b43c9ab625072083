/* SPDX-License-Identifier: MIT */
/*
 * ballast record: writes down what a domain does, for `ballast plot` and for
 * anybody who reads JSON lines. The format is in trace.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "ctl/client.h"
#include "ctl/runtime_dir.h"
#include "domain.h"
#include "trace.h"
#include "waiting.h"

static const char help[] =
    "Usage: ballast record NAME -o TRACE [--interval MS]\n"
    "\n"
    "Writes a domain's counters down, one JSON object a line, until the domain is\n"
    "gone or Ctrl-C. Every line is in the file as soon as it was taken.\n"
    "\n"
    "Options:\n"
    "  -o TRACE       the file to write ('-' for standard output)\n"
    "  --interval MS  how often to ask: every 1 to 60000 ms (default: 100)\n"
    "\n"
    "Examples:\n"
    "  ballast record vm1 -o boot.trace\n"
    "  ballast plot boot.trace -o boot.svg\n";

#define INTERVAL_DEFAULT_MS 100
#define INTERVAL_MAX_MS     60000

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Sleeps until then, or until a signal comes. */
static void sleep_until(uint64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL);
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

/* One recording. */
struct recording {
    const char *name;
    const char *path;
    FILE *file;
    struct ctl_client *client;
    int interval_ms;
    uint64_t samples;
    uint64_t late; /* questions that were not answered in time */
};

/* Writes and frees a line. EXIT_FAILED after it said why it could not. */
static int write_line(const struct recording *recording, json_t *line)
{
    int ret = line != NULL ? 0 : -ENOMEM;

    errno = EIO;
    if (ret == 0 && (json_dumpf(line, recording->file, JSON_COMPACT) < 0 ||
                     putc('\n', recording->file) == EOF || fflush(recording->file) != 0)) {
        ret = -errno;
    }
    json_decref(line);
    if (ret < 0) {
        cli_error("the trace '%s' could not be written: %s; what was written so far is good",
                  recording->path, strerror(-ret));
        return EXIT_FAILED;
    }
    return 0;
}

/* Asks until the domain is gone or we are told to stop. The first answer is in `state`. */
static int record_samples(struct recording *recording, json_t *state)
{
    json_int_t pid = domain_integer(state, "pid");
    uint64_t start = now_ns();
    uint64_t next = start;
    int ret = 0;

    while (ret == 0 && !waiting_interrupted()) {
        struct ctl_error error;
        int asked = ctl_client_call(recording->client, "query-domain", NULL, DOMAIN_ANSWER_MS,
                                    &state, &error);

        if (asked == 0) {
            ret =
                write_line(recording, trace_sample(state, now_ns() - start, host_anon_pages(pid)));
            json_decref(state);
            recording->samples += ret == 0;
        } else if (asked == -ETIMEDOUT) {
            /* A domain that is held up (stopped, say) goes on later. */
            recording->late++;
        } else {
            break;
        }
        next += (uint64_t)recording->interval_ms * 1000000u;
        if (next < now_ns()) {
            next = now_ns();
        }
        sleep_until(next);
    }
    return ret;
}

static int record(struct recording *recording, const char *base)
{
    char socket_path[PATH_MAX];
    struct ctl_error error;
    json_t *state;
    enum runtime_state alive;
    int ret = domain_query(base, recording->name, &state, &error);

    if (ret < 0) {
        if (runtime_look(base, recording->name, &alive) == 0 && alive != RUNTIME_LIVE) {
            return cli_unknown_domain(base, recording->name);
        }
        cli_error("the domain '%s' cannot be asked: %s", recording->name, error.desc);
        return EXIT_FAILED;
    }
    ret = runtime_socket_path(base, recording->name, socket_path, sizeof(socket_path));
    if (ret == 0) {
        ret = ctl_client_connect(socket_path, DOMAIN_ANSWER_MS, &recording->client);
    }
    if (ret < 0) {
        cli_error("the domain '%s' cannot be asked: %s", recording->name, strerror(-ret));
        json_decref(state);
        return EXIT_FAILED;
    }
    recording->file = strcmp(recording->path, "-") == 0 ? stdout : fopen(recording->path, "we");
    if (recording->file == NULL) {
        cli_error("the trace '%s' cannot be written: %s; choose another file with -o",
                  recording->path, strerror(errno));
        ret = EXIT_FAILED;
    }
    waiting_catch_signals(NULL);
    if (ret == 0) {
        ret = write_line(recording, trace_header(state, time(NULL), recording->interval_ms));
    }
    if (ret == 0) {
        ret = record_samples(recording, state);
    }
    json_decref(state);
    ctl_client_close(recording->client);
    if (recording->file != NULL && fclose(recording->file) != 0 && ret == 0) {
        cli_error("the trace '%s' could not be written to its end: %s", recording->path,
                  strerror(errno));
        ret = EXIT_FAILED;
    }
    if (ret == 0) {
        fprintf(stderr, "ballast: %" PRIu64 " samples of '%s' in %s", recording->samples,
                recording->name, recording->path);
        if (recording->late > 0) {
            fprintf(stderr, "; %" PRIu64 " questions were not answered in time", recording->late);
        }
        fputc('\n', stderr);
    }
    return ret;
}

static int run(int argc, char **argv)
{
    const char *interval = NULL;
    struct recording recording = {.interval_ms = INTERVAL_DEFAULT_MS};
    const struct cli_option options[] = {
        {"-o", &recording.path, NULL}, {"--interval", &interval, NULL}, {NULL, NULL, NULL}};
    char base[PATH_MAX];
    int ret = cli_read_options_and_word(&cmd_record, options, argc, argv, "name", &recording.name);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (interval != NULL) {
        char *end;
        long value = strtol(interval, &end, 10);

        if (end == interval || *end != '\0' || value < 1 || value > INTERVAL_MAX_MS) {
            return cli_usage_error("record", "'%s' is no interval: it takes 1 to %d (milliseconds)",
                                   interval, INTERVAL_MAX_MS);
        }
        recording.interval_ms = (int)value;
    }
    if (recording.path == NULL) {
        return cli_usage_error("record", "say where the trace goes with -o");
    }
    ret = cli_check_name("record", recording.name);
    if (ret == 0) {
        ret = cli_find_base(base);
    }
    if (ret != 0) {
        return ret;
    }
    return record(&recording, base);
}

const struct cli_command cmd_record = {
    .name = "record",
    .summary = "write down what a domain does",
    .help = help,
    .run = run,
};
