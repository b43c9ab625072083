/* SPDX-License-Identifier: MIT */
/*
 * ballast set: changes a domain's target, and may wait until it is reached.
 *
 * While waiting, what counts is what query-domain says; events only tell when
 * to ask again at once. So a lost event costs PROGRESS_MS and nothing else.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "base/types.h"
#include "cli.h"
#include "domain.h"
#include "progress.h"
#include "waiting.h"

/* Growing brings memory from the host: a gigabyte a second or so, and far slower
 * on a host that must find it first. */
#define SET_MS         10000
#define SET_MS_PER_GIB 60000
#define MAX_TIMEOUT_S  1000000

#define EXIT_INTERRUPTED 130

static const char help[] =
    "Usage: ballast set NAME SIZE [--wait [--timeout SECONDS]]\n"
    "\n"
    "Gives a running domain another target: SIZE is a number and K, M, G or T, at\n"
    "least 2M, at most the guest's memory.\n"
    "\n"
    "To grow is all or nothing: either the host gives the memory, or nothing has\n"
    "changed; on a terminal a line shows how far it is. To shrink takes as long as\n"
    "the guest needs to give memory back; the new target stands from the beginning.\n"
    "The guest's balloon is asked to follow.\n"
    "\n"
    "Options:\n"
    "  --wait             return when the domain has come down to the target; shows\n"
    "                     progress on a terminal\n"
    "  --timeout SECONDS  wait no longer than that\n"
    "\n"
    "Examples:\n"
    "  ballast set vm1 2G\n"
    "  ballast set vm1 512M --wait --timeout 60\n"
    "\n"
    "Exit status: 0; 1 if the target was not set, or not reached in time; 130 if\n"
    "Ctrl-C ended the waiting (the target stands).\n";

/* What is being done. */
struct change {
    char base[PATH_MAX];
    const char *name;
    uint64_t target_bytes;
    bool wait;
    int timeout_ms; /* -1: none */
    struct ctl_client *client;
    sigset_t waiting_mask; /* while waiting for events; else signals are blocked */
};

static uint64_t bytes_of(const json_t *state, const char *key)
{
    json_int_t pages = domain_integer(state, key);

    return pages > 0 ? pages_to_bytes((uint64_t)pages) : 0;
}

/* By how much the domain has more than the target. */
static uint64_t surplus_bytes(const struct change *change, const json_t *state)
{
    uint64_t total = bytes_of(state, "total_pages");

    return total > change->target_bytes ? total - change->target_bytes : 0;
}

static void show_progress(const struct change *change, const json_t *state)
{
    char total[SIZE_TEXT_BYTES];
    char surplus[SIZE_TEXT_BYTES];

    domain_format_pages(state, "total_pages", total);
    size_format(surplus_bytes(change, state), surplus);
    progress_show("%s: %s, %s to go", change->name, total, surplus);
}

/* Says what keeps a domain above its target. `why` begins the sentence. */
static int fail_above_target(const struct change *change, const json_t *state, const char *why)
{
    char total[SIZE_TEXT_BYTES];
    char surplus[SIZE_TEXT_BYTES];
    char populated[SIZE_TEXT_BYTES];
    char entries[SIZE_TEXT_BYTES];
    char target[SIZE_TEXT_BYTES];

    domain_format_pages(state, "total_pages", total);
    domain_format_pages(state, "populated_pages", populated);
    domain_format_pages(state, "pod_entries_pages", entries);
    size_format(change->target_bytes, target);
    size_format(surplus_bytes(change, state), surplus);
    cli_error("%s: '%s' still owns %s, %s above its target, %s: the guest keeps %s in use "
              "and may still touch %s; the target stands and is reached as the guest gives memory "
              "back: %s, or raise the target",
              why, change->name, total, surplus, target, populated, entries,
              domain_integer(state, "given_up_pages") > 0
                  ? "free memory in the guest"
                  : "see that its balloon driver is loaded (it has given up nothing so far)");
    return EXIT_FAILED;
}

static int say_reached(const struct change *change)
{
    char target[SIZE_TEXT_BYTES];

    size_format(change->target_bytes, target);
    printf("%s: has its target, %s\n", change->name, target);
    return domain_finish_output();
}

/* Says what happens next, for those who do not wait. */
static int say_what_next(const struct change *change, const json_t *before, const json_t *state)
{
    char old_target[SIZE_TEXT_BYTES];
    char target[SIZE_TEXT_BYTES];
    char surplus[SIZE_TEXT_BYTES];
    uint64_t above = surplus_bytes(change, state);

    domain_format_pages(before, "target_pages", old_target);
    size_format(change->target_bytes, target);
    size_format(above, surplus);
    if (change->target_bytes == bytes_of(before, "target_pages")) {
        printf("%s: the target is %s as before", change->name, target);
    } else {
        printf("%s: the target is %s, was %s", change->name, target, old_target);
    }
    if (above > 0) {
        printf("; %s more go back to the host as the guest gives them up", surplus);
    } else if (change->target_bytes > bytes_of(before, "target_pages")) {
        printf("; the domain owns it, and the guest gets it as its balloon shrinks");
    } else {
        printf("; the domain has no more than that");
    }
    putchar('\n');
    return domain_finish_output();
}

/* Waits for an event, at most so long; takes all that have come. -errno if the
 * connection is gone. */
static int wait_for_news(const struct change *change, int ms)
{
    struct timespec limit = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    struct pollfd pollfd = {.fd = ctl_client_fd(change->client), .events = POLLIN};
    int ret = 0;

    if (ppoll(&pollfd, 1, &limit, &change->waiting_mask) <= 0) {
        return 0;
    }
    while (ret == 0) {
        json_t *event;

        ret = ctl_client_next_event(change->client, 0, &event);
        if (ret == 0) {
            json_decref(event);
        }
    }
    return ret == -ETIMEDOUT ? 0 : ret;
}

/* Looks at the state while waiting: 0 to go on, 1 if the target is reached, or
 * -1 after it printed why it will not be. */
static int look(struct change *change, const json_t *state)
{
    char target[SIZE_TEXT_BYTES];

    if (bytes_of(state, "target_pages") != change->target_bytes) {
        domain_format_pages(state, "target_pages", target);
        cli_error("not waiting any longer: somebody else has given '%s' another target meanwhile, "
                  "%s; set it again if that was not meant",
                  change->name, target);
        return -1;
    }
    if (strcmp(domain_string(state, "state"), "dying") == 0) {
        cli_error("the target is not reached: the domain '%s' is ending; start it again with that "
                  "--target",
                  change->name);
        return -1;
    }
    if (bytes_of(state, "total_pages") == change->target_bytes) {
        progress_end();
        return 1;
    }
    show_progress(change, state);
    return 0;
}

/* Waits until the total is the target. Takes over `state`, the first look. */
static int wait_until_reached(struct change *change, json_t *state)
{
    int64_t deadline = change->timeout_ms < 0 ? INT64_MAX : clock_now_ms() + change->timeout_ms;
    int looked = look(change, state);
    int ret = EXIT_FAILED;

    while (looked == 0) {
        struct ctl_error error = {.desc = "it closed the connection; it has probably ended"};
        int64_t left = deadline - clock_now_ms();
        json_t *next = NULL;
        int asked;

        if (waiting_interrupted()) {
            fail_above_target(change, state, "interrupted");
            ret = EXIT_INTERRUPTED;
            break;
        }
        if (left <= 0) {
            fail_above_target(change, state, "not reached in time");
            break;
        }
        asked = wait_for_news(change, left < PROGRESS_MS ? (int)left : PROGRESS_MS);
        if (asked == 0 && !waiting_interrupted()) {
            asked = domain_query_on(change->client, &next, &error);
        }
        if (asked < 0 && asked != -ETIMEDOUT) {
            cli_error("the domain '%s' cannot be asked any more: %s", change->name, error.desc);
            break;
        }
        /* One that does not answer (it is stopped, say) may do so later. */
        if (next != NULL) {
            json_decref(state);
            state = next;
            looked = look(change, state);
        }
    }
    json_decref(state);
    return looked > 0 ? say_reached(change) : ret;
}

/* Shows how much of the memory is there, on a terminal. Asks on a connection of
 * its own: the other one waits for its reply. */
static void show_growth(const struct change *change)
{
    char growing[SIZE_TEXT_BYTES];
    char ready[SIZE_TEXT_BYTES];
    struct ctl_error error;
    json_t *state;

    if (!isatty(STDERR_FILENO) || domain_query(change->base, change->name, &state, &error) < 0) {
        return;
    }
    if (domain_integer(state, "growing_pages") > 0) {
        domain_format_pages(state, "growing_pages", growing);
        domain_format_pages(state, "growing_ready_pages", ready);
        progress_show("%s: the host has given %s of %s", change->name, ready, growing);
    }
    json_decref(state);
}

/* Lets Ctrl-C in, if signals are blocked. */
static bool is_interrupted(const struct change *change)
{
    const struct timespec at_once = {0};

    if (change->wait) {
        ppoll(NULL, 0, &at_once, &change->waiting_mask);
    }
    return waiting_interrupted();
}

/* Has the domain set the target. 0, or an exit status after it said why not. */
static int set_target(struct change *change, const json_t *before)
{
    uint64_t total = bytes_of(before, "total_pages");
    uint64_t growth = change->target_bytes > total ? change->target_bytes - total : 0;
    uint64_t limit_ms = SET_MS + growth * SET_MS_PER_GIB / (UINT64_C(1) << 30);
    int64_t deadline = clock_now_ms() + (int64_t)limit_ms;
    json_t *arguments = json_pack("{s:I}", "target_bytes", (json_int_t)change->target_bytes);
    struct ctl_error error;
    json_t *result = NULL;
    bool interrupted = false;
    int ret = ctl_client_begin(change->client, "set-target", arguments, DOMAIN_ANSWER_MS);

    json_decref(arguments);
    if (ret == 0) {
        ret = ctl_client_finish(change->client, PROGRESS_MS, &result, &error);
    }
    while (ret == -ETIMEDOUT && clock_now_ms() < deadline && !interrupted) {
        show_growth(change);
        ret = ctl_client_finish(change->client, PROGRESS_MS, &result, &error);
        interrupted = is_interrupted(change);
    }
    progress_end();
    json_decref(result);
    if (ret == -ETIMEDOUT && interrupted) {
        cli_error("interrupted: '%s' goes on bringing memory from the host, and has its new target "
                  "then; look with 'ballast stat %s'",
                  change->name, change->name);
        return EXIT_INTERRUPTED;
    }
    if (ret == -ETIMEDOUT) {
        cli_error("the domain '%s' did not answer for %d s; the target may be set yet: look with "
                  "'ballast stat %s'",
                  change->name, (int)(limit_ms / 1000), change->name);
    } else if (ret < 0) {
        domain_explain(ret, DOMAIN_ANSWER_MS, &error);
        cli_error("the target of '%s' was not changed: %s", change->name, error.desc);
    }
    return ret < 0 ? EXIT_FAILED : 0;
}

/* Checks what can be said before asking. 0 or EXIT_FAILED. */
static int check_range(const struct change *change, const json_t *before)
{
    char target[SIZE_TEXT_BYTES];
    char max[SIZE_TEXT_BYTES];

    if (change->target_bytes <= bytes_of(before, "max_pages") ||
        strcmp(domain_string(before, "state"), "building") == 0) {
        return 0;
    }
    size_format(change->target_bytes, target);
    domain_format_pages(before, "max_pages", max);
    cli_error("the target of '%s' was not changed: %s is above the guest's memory, %s; choose at "
              "most that, or start it with a larger -m",
              change->name, target, max);
    return EXIT_FAILED;
}

static int set_on_connection(struct change *change)
{
    struct ctl_error error;
    json_t *result = NULL;
    json_t *before;
    json_t *state;
    int ret = 0;

    if (change->wait) {
        waiting_catch_signals(&change->waiting_mask);
        ret = domain_call(change->client, "subscribe", NULL, DOMAIN_ANSWER_MS, &result, &error);
        json_decref(result);
    }
    if (ret == 0) {
        ret = domain_query_on(change->client, &before, &error);
    }
    if (ret < 0) {
        cli_error("the target of '%s' was not changed: %s", change->name, error.desc);
        return EXIT_FAILED;
    }
    ret = check_range(change, before);
    if (ret == 0) {
        ret = set_target(change, before);
    }
    if (ret == 0 && domain_query_on(change->client, &state, &error) < 0) {
        cli_error("the target of '%s' is set, but how far it is cannot be told: %s", change->name,
                  error.desc);
        ret = EXIT_FAILED;
    } else if (ret == 0 && change->wait) {
        ret = wait_until_reached(change, state);
    } else if (ret == 0) {
        ret = say_what_next(change, before, state);
        json_decref(state);
    }
    json_decref(before);
    return ret;
}

static int set(struct change *change)
{
    struct ctl_error error;
    int ret = cli_find_base(change->base);

    if (ret == 0) {
        ret = domain_find(change->base, change->name);
    }
    if (ret != 0) {
        return ret;
    }
    ret = domain_connect(change->base, change->name, DOMAIN_ANSWER_MS, &change->client, &error);
    if (ret < 0) {
        cli_error("the target of '%s' was not changed: %s", change->name, error.desc);
        return EXIT_FAILED;
    }
    ret = set_on_connection(change);
    ctl_client_close(change->client);
    return ret;
}

/* Reads words and options in any order. 0 or as cli_read_options() does. */
static int read_words(const struct cli_option *options, int argc, char **argv,
                      const char *words[static 2])
{
    size_t count = 0;

    for (;;) {
        int rest;
        int ret = cli_read_options(&cmd_set, options, argc, argv, &rest);

        if (ret != 0) {
            return ret;
        }
        argc -= rest;
        argv += rest;
        if (argc == 0) {
            break;
        }
        if (count == 2) {
            return cli_usage_error("set", "set takes a name and a size, and '%s' is left over",
                                   argv[0]);
        }
        words[count++] = argv[0];
    }
    if (count < 2) {
        return cli_usage_error("set", "set takes a name and a size: the %s is missing",
                               count == 0 ? "name" : "size");
    }
    return 0;
}

static int run(int argc, char **argv)
{
    struct change change = {.timeout_ms = -1};
    const char *timeout = NULL;
    const struct cli_option options[] = {
        {"--wait", NULL, &change.wait}, {"--timeout", &timeout, NULL}, {NULL, NULL, NULL}};
    const char *words[2] = {NULL, NULL};
    int ret = read_words(options, argc, argv, words);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    change.name = words[0];
    if (timeout != NULL && !change.wait) {
        return cli_usage_error("set", "--timeout says how long to wait: give --wait with it");
    }
    if (timeout != NULL) {
        ret = cli_read_seconds("set", "--timeout", timeout, MAX_TIMEOUT_S, &change.timeout_ms);
    }
    if (ret == 0) {
        ret = cli_check_name("set", change.name);
    }
    if (ret == 0) {
        ret = cli_read_target("set", "the size", words[1], &change.target_bytes);
    }
    return ret != 0 ? ret : set(&change);
}

const struct cli_command cmd_set = {
    .name = "set",
    .summary = "give a running domain more or less memory",
    .help = help,
    .run = run,
};
