/* SPDX-License-Identifier: MIT */
/*
 * ballast record: writes down what a domain does, for `ballast plot` and for
 * anybody who reads JSON lines. recorder.c does it; this is its user's side.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/size.h"
#include "cli.h"
#include "ctl/runtime_dir.h"
#include "domain.h"
#include "progress.h"
#include "recorder.h"
#include "waiting.h"

static const char help[] =
    "Usage: ballast record NAME -o TRACE [--wait] [--interval MS] [--map-interval MS]\n"
    "\n"
    "Writes down what a domain does, one JSON object a line, until the domain is gone\n"
    "or Ctrl-C: its counters, what happens to it, and the map of its memory. Every\n"
    "line is in the file as soon as it was taken.\n"
    "\n"
    "Options:\n"
    "  -o TRACE           the file to write ('-' for standard output)\n"
    "  --wait             wait for the domain if it is not there yet\n"
    "  --interval MS      how often to ask: every 1 to 60000 ms (default: 100)\n"
    "  --map-interval MS  how often to look at the map: every 1 to 60000 ms, or 0 for\n"
    "                     never (default: 500). It is written when it has changed\n"
    "\n"
    "Examples:\n"
    "  ballast record --wait vm1 -o boot.trace &\n"
    "  ballast run --name vm1 --target 512M -- qemu-system-x86_64 -m 2G disk.img\n"
    "  ballast plot boot.trace -o boot.html\n";

#define INTERVAL_DEFAULT_MS     100
#define MAP_INTERVAL_DEFAULT_MS 500
#define INTERVAL_MAX_MS         60000
/* How often to look for a domain that is awaited. */
#define LOOK_MS          20
#define EXIT_INTERRUPTED 130

/* What was asked for. */
struct request {
    const char *name;
    const char *path;
    bool wait;
    char base[PATH_MAX];
    sigset_t mask;
};

/* Shows how it goes, now and then. */
static void show_progress(const struct recorder *recorder, const json_t *state)
{
    static int64_t next_ms;
    char populated[SIZE_TEXT_BYTES];
    char total[SIZE_TEXT_BYTES];

    if (clock_now_ms() < next_ms) {
        return;
    }
    next_ms = clock_now_ms() + PROGRESS_MS;
    domain_format_pages(state, "populated_pages", populated);
    domain_format_pages(state, "total_pages", total);
    progress_show("%" PRIu64 " s: %s, %s of %s populated, %" PRIu64
                  " events; Ctrl-C ends the recording",
                  recorder_elapsed_ns(recorder) / 1000000000u, domain_string(state, "state"),
                  populated, total, recorder->event_count);
}

/* Connects to the domain, and waits until it listens: one that is being started
 * does not yet. With --wait it may be awaited altogether. 0, or an exit status
 * after it said why not. */
static int connect_to(const struct request *request, struct ctl_client **client)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};

    while (!waiting_interrupted()) {
        struct ctl_error error;
        enum runtime_state alive = RUNTIME_NONE;
        int ret = runtime_look(request->base, request->name, &alive);

        if (ret < 0 || (alive != RUNTIME_LIVE && !request->wait)) {
            ret = domain_find(request->base, request->name);
            if (ret != 0) {
                return ret;
            }
        }
        if (alive == RUNTIME_LIVE) {
            ret = domain_connect(request->base, request->name, DOMAIN_ANSWER_MS, client, &error);
            if (ret == 0) {
                return 0;
            }
            if (ret != -ENOENT && ret != -ECONNREFUSED && ret != -ECONNRESET) {
                cli_error("the domain '%s' cannot be asked: %s", request->name, error.desc);
                return EXIT_FAILED;
            }
        }
        progress_show("waiting for '%s'", request->name);
        ppoll(NULL, 0, &pause, &request->mask);
    }
    cli_error("interrupted: '%s' was not there yet; nothing was recorded", request->name);
    return EXIT_INTERRUPTED;
}

/* Subscribes on a connection of its own: a call drops the events that precede its
 * answer. NULL, after it said so, if the domain has no events for us. */
static struct ctl_client *subscribe(const struct request *request)
{
    json_t *arguments = json_pack("{s:b}", "past", 1);
    struct ctl_client *client = NULL;
    struct ctl_error error;
    json_t *result;
    int ret = domain_connect(request->base, request->name, DOMAIN_ANSWER_MS, &client, &error);

    if (ret == 0) {
        ret = domain_call(client, "subscribe", arguments, DOMAIN_ANSWER_MS, &result, &error);
        if (ret == 0) {
            json_decref(result);
        } else {
            ctl_client_close(client);
        }
    }
    json_decref(arguments);
    if (ret < 0) {
        cli_error("the trace will have no events: %s", error.desc);
        return NULL;
    }
    return client;
}

static void say_what_is_there(const struct recorder *recorder, const struct request *request)
{
    progress_end();
    fprintf(stderr,
            "ballast: %" PRIu64 " samples, %" PRIu64 " events and %" PRIu64 " maps of '%s' in %s",
            recorder->samples, recorder->event_count, recorder->maps, request->name, request->path);
    if (recorder->end == TRACE_END_GONE) {
        fputs("; it is gone", stderr);
        if (recorder->exit_status >= 0) {
            fprintf(stderr, ", exit status %d", recorder->exit_status);
        }
    }
    if (recorder->late > 0) {
        fprintf(stderr, "; %" PRIu64 " questions were not answered in time", recorder->late);
    }
    fputc('\n', stderr);
}

/* Opens the file and records into it. 0, or an exit status after it said why not. */
static int record_into_file(const struct request *request, struct recorder *recorder,
                            const json_t *state)
{
    bool to_stdout = strcmp(request->path, "-") == 0;
    int ret;

    recorder->file = to_stdout ? stdout : fopen(request->path, "we");
    if (recorder->file == NULL) {
        cli_error("the trace '%s' cannot be written: %s; choose another file with -o",
                  request->path, strerror(errno));
        return EXIT_FAILED;
    }
    recorder->events = subscribe(request);
    ret = recorder_run(recorder, state);
    ctl_client_close(recorder->events);
    if (fclose(recorder->file) != 0 && ret == 0) {
        ret = -errno;
    }
    if (ret < 0) {
        cli_error("the trace '%s' could not be written: %s; what was written so far is good",
                  request->path, strerror(-ret));
        return EXIT_FAILED;
    }
    say_what_is_there(recorder, request);
    return 0;
}

static int record(struct request *request, struct recorder *recorder)
{
    struct ctl_error error;
    json_t *state;
    int ret;

    waiting_catch_signals(&request->mask);
    recorder->mask = &request->mask;
    recorder->progress = show_progress;
    ret = connect_to(request, &recorder->client);
    if (ret != 0) {
        return ret;
    }
    if (domain_query_on(recorder->client, &state, &error) < 0) {
        cli_error("the domain '%s' cannot be asked: %s", request->name, error.desc);
        ret = EXIT_FAILED;
    } else {
        ret = record_into_file(request, recorder, state);
        json_decref(state);
    }
    ctl_client_close(recorder->client);
    return ret;
}

/* Reads an option's value, if it was given. 0, or an exit status after it said
 * what is wrong. */
static int read_interval(const char *text, int least_ms, int *ms)
{
    char *end;
    long value;

    if (text == NULL) {
        return 0;
    }
    value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < least_ms || value > INTERVAL_MAX_MS) {
        return cli_usage_error("record", "'%s' is no interval: it takes %d to %d (milliseconds)",
                               text, least_ms, INTERVAL_MAX_MS);
    }
    *ms = (int)value;
    return 0;
}

static int run(int argc, char **argv)
{
    static struct request request;
    const char *interval = NULL;
    const char *map_interval = NULL;
    struct recorder recorder = {.interval_ms = INTERVAL_DEFAULT_MS,
                                .map_interval_ms = MAP_INTERVAL_DEFAULT_MS};
    const struct cli_option options[] = {{"-o", &request.path, NULL},
                                         {"--wait", NULL, &request.wait},
                                         {"--interval", &interval, NULL},
                                         {"--map-interval", &map_interval, NULL},
                                         {NULL, NULL, NULL}};
    int ret = cli_read_options_and_word(&cmd_record, options, argc, argv, "name", &request.name);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    ret = read_interval(interval, 1, &recorder.interval_ms);
    if (ret == 0) {
        ret = read_interval(map_interval, 0, &recorder.map_interval_ms);
    }
    if (ret == 0 && request.path == NULL) {
        ret = cli_usage_error("record", "say where the trace goes with -o");
    }
    if (ret == 0) {
        ret = cli_check_name("record", request.name);
    }
    if (ret == 0) {
        ret = cli_find_base(request.base);
    }
    return ret != 0 ? ret : record(&request, &recorder);
}

const struct cli_command cmd_record = {
    .name = "record",
    .summary = "write down what a domain does",
    .help = help,
    .run = run,
};
