/* SPDX-License-Identifier: MIT */
/*
 * ballast events: prints what happens to one domain or to all of them.
 *
 * The list holds every domain that is followed. One that does not listen yet is
 * tried again and again, often at first. New domains are noticed by inotify on
 * BASE, or within SCAN_MS. What happened to a new one before we were connected,
 * BUILT for example, its agent has kept for us.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "base/types.h"
#include "cli.h"
#include "ctl/runtime_dir.h"
#include "domain.h"
#include "waiting.h"

#define SCAN_MS 1000
/* A domain that does not listen is tried this often, for so long; then with
 * every scan. */
#define RETRY_MS 10
#define EAGER_MS 10000
/* How long one that does not answer may hold up the others. */
#define GREET_MS 200

static const char help[] =
    "Usage: ballast events [--json] [NAME]\n"
    "\n"
    "Prints what happens to the domain NAME until it is gone, or to all domains,\n"
    "new ones included, until Ctrl-C. One line an event, as it happens:\n"
    "\n"
    "  built           it has its target; the guest may run\n"
    "  low cache       little memory is left for what the guest may still touch\n"
    "  exhausted       the guest waits for memory that cannot be had\n"
    "  resumed         it waits no more\n"
    "  target changed  by 'ballast set'\n"
    "  target reached  it has exactly its target\n"
    "  covered         it can no longer run out\n"
    "  dying           it is being ended\n"
    "  gone            its process has ended\n"
    "\n"
    "Options:\n"
    "  --json  print one JSON object a line, as ballast-protocol(7) has them\n"
    "\n"
    "Examples:\n"
    "  ballast events\n"
    "  ballast events --json vm1 | jq -r .event\n";

/* A domain that is followed. */
struct followed {
    char name[BALLAST_NAME_MAX_BYTES + 1];
    struct ctl_client *client; /* NULL: not connected (yet) */
    bool refused;              /* it does not know events; said so already */
    bool found;                /* by the scan in progress */
    bool is_new;               /* it began after us: we want to hear of its past */
    int64_t since_ms;          /* that we have known of it */
    int64_t retry_ms;          /* when to try to connect */
};

struct follower {
    char base[PATH_MAX];
    const char *only; /* NULL: all */
    bool as_json;
    struct followed *list;
    size_t count;
    bool scanned;   /* once at least: domains that are found from now on are new */
    int inotify_fd; /* -1: none; BASE may not be there yet */
    int64_t scan_at_ms;
    sigset_t waiting_mask; /* signals end us only while waiting */
};

static void print_time(uint64_t realtime_ns)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000u);
    char text[32] = "?";
    struct tm local;

    if (localtime_r(&seconds, &local) != NULL) {
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
    }
    printf("%s.%03u", text, (unsigned)(realtime_ns / 1000000u % 1000u));
}

static void print_words(const struct ctl_event *event)
{
    char target[SIZE_TEXT_BYTES];
    char total[SIZE_TEXT_BYTES];
    char cache[SIZE_TEXT_BYTES];
    char entries[SIZE_TEXT_BYTES];

    domain_format_pages(event->data, "target_pages", target);
    domain_format_pages(event->data, "total_pages", total);
    domain_format_pages(event->data, "cache_pages", cache);
    domain_format_pages(event->data, "pod_entries_pages", entries);
    if (strcmp(event->name, "BUILT") == 0) {
        printf("built: it owns %s", total);
    } else if (strcmp(event->name, "LOW_CACHE") == 0) {
        printf("low cache: %s are left for %s that the guest may touch", cache, entries);
    } else if (strcmp(event->name, "EXHAUSTED") == 0) {
        printf("exhausted: the guest needs more than its target, %s", target);
    } else if (strcmp(event->name, "RESUMED") == 0) {
        printf("resumed: %s are free", cache);
    } else if (strcmp(event->name, "TARGET_CHANGED") == 0) {
        printf("target changed: %s, it owns %s", target, total);
    } else if (strcmp(event->name, "TARGET_REACHED") == 0) {
        printf("target reached: it owns %s", total);
    } else if (strcmp(event->name, "COVERED") == 0) {
        printf("covered: %s for the %s that the guest may touch", cache, entries);
    } else if (strcmp(event->name, "DYING") == 0) {
        printf("dying");
    } else if (strcmp(event->name, "GONE") == 0) {
        printf("gone");
    } else if (strcmp(event->name, "LOST") == 0) {
        printf("%" JSON_INTEGER_FORMAT " events were lost here: they were not read fast enough",
               domain_integer(event->data, "events"));
    } else {
        printf("%s ", event->name);
        json_dumpf(event->data, stdout, JSON_COMPACT);
    }
}

/* Prints an event. 0 or EXIT_FAILED. */
static int print_event(const struct follower *follower, const char *name, json_t *message)
{
    struct ctl_event event;

    if (ctl_event_read(message, &event) < 0) {
        return 0; /* the client has read it already */
    }
    if (follower->as_json) {
        /* Whose LOST it is, is known from the connection. */
        if (json_object_get(event.data, "name") == NULL) {
            json_object_set_new((json_t *)event.data, "name", json_string(name));
        }
        json_dumpf(message, stdout, JSON_COMPACT);
    } else {
        print_time(event.realtime_ns);
        printf(" %s ", name);
        print_words(&event);
    }
    putchar('\n');
    return domain_finish_output();
}

static int print_gone(const struct follower *follower, const char *name)
{
    struct timespec now;
    json_t *message;
    int ret;

    clock_gettime(CLOCK_REALTIME, &now);
    message = ctl_event_build("GONE", json_pack("{s:s}", "name", name),
                              (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    ret = print_event(follower, name, message);
    json_decref(message);
    return ret;
}

static void disconnect(struct followed *followed)
{
    ctl_client_close(followed->client);
    followed->client = NULL;
}

/* May a later attempt succeed? */
static bool may_come_right(int ret, const struct ctl_error *error)
{
    switch (ret) {
    case -ENOENT:
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -ETIMEDOUT:
        return true;
    case -EREMOTEIO:
        return strcmp(error->class_name, CTL_BUSY) == 0;
    default:
        return false;
    }
}

/* Tries to follow a domain. 0, also if it is to be tried again; or EXIT_FAILED
 * after it printed why the only one cannot be followed. */
static int connect_to(const struct follower *follower, struct followed *followed)
{
    int64_t now = clock_now_ms();
    int limit_ms = follower->only != NULL ? DOMAIN_ANSWER_MS : GREET_MS;
    struct ctl_error error;
    json_t *result = NULL;
    int ret = domain_connect(follower->base, followed->name, limit_ms, &followed->client, &error);

    if (ret < 0) {
        followed->client = NULL;
    } else {
        json_t *arguments = followed->is_new ? json_pack("{s:b}", "past", 1) : NULL;

        ret = domain_call(followed->client, "subscribe", arguments, limit_ms, &result, &error);
        json_decref(arguments);
        json_decref(result);
        if (ret < 0) {
            disconnect(followed);
        }
    }
    if (ret < 0 && !may_come_right(ret, &error)) {
        cli_error("the domain '%s' cannot be followed: %s", followed->name, error.desc);
        followed->refused = true;
        return follower->only != NULL ? EXIT_FAILED : 0;
    }
    if (ret == -ENOENT || ret == -ECONNREFUSED) {
        followed->is_new = true; /* it does not listen yet */
    }
    followed->retry_ms = now + (now - followed->since_ms < EAGER_MS ? RETRY_MS : SCAN_MS);
    if (ret == -ETIMEDOUT) {
        followed->retry_ms = clock_now_ms() + SCAN_MS;
    }
    return 0;
}

/* Prints what has come from a domain. *gone: it was the last. */
static int take_events(const struct follower *follower, struct followed *followed, bool *gone)
{
    int ret = 0;

    while (ret == 0) {
        json_t *message;
        int got = ctl_client_next_event(followed->client, 0, &message);

        if (got == -ETIMEDOUT) {
            break;
        }
        if (got < 0) {
            disconnect(followed);
            *gone = true;
            return print_gone(follower, followed->name);
        }
        ret = print_event(follower, followed->name, message);
        json_decref(message);
    }
    return ret;
}

static struct followed *find(struct follower *follower, const char *name)
{
    for (size_t i = 0; i < follower->count; i++) {
        if (strcmp(follower->list[i].name, name) == 0) {
            return &follower->list[i];
        }
    }
    return NULL;
}

static int add(struct follower *follower, const char *name)
{
    struct followed *list =
        realloc(follower->list, (follower->count + 1) * sizeof(*follower->list));

    if (list == NULL) {
        cli_error("the domains cannot be followed: out of memory; free some and try again");
        return EXIT_FAILED;
    }
    follower->list = list;
    list[follower->count] = (struct followed){
        .found = true,
        .is_new = follower->scanned,
        .since_ms = clock_now_ms(),
    };
    snprintf(list[follower->count].name, sizeof(list->name), "%s", name);
    follower->count++;
    return 0;
}

static void forget(struct follower *follower, size_t index)
{
    disconnect(&follower->list[index]);
    follower->list[index] = follower->list[--follower->count];
}

/* Watches BASE, if that is there now. */
static void watch_base(struct follower *follower)
{
    if (follower->inotify_fd < 0) {
        follower->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (follower->inotify_fd >= 0 &&
            inotify_add_watch(follower->inotify_fd, follower->base,
                              IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) < 0) {
            close(follower->inotify_fd);
            follower->inotify_fd = -1;
        }
    }
}

/* Brings the list up to date: living domains that are new, and dead ones that
 * we were never connected to. */
static int scan(struct follower *follower)
{
    struct runtime_entry *entries;
    size_t count;
    int ret;

    watch_base(follower);
    follower->scan_at_ms = clock_now_ms() + SCAN_MS;
    ret = runtime_list(follower->base, &entries, &count);
    if (ret < 0) {
        cli_error("the domains in %s cannot be listed: %s; check that it is your folder",
                  follower->base, strerror(-ret));
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < follower->count; i++) {
        follower->list[i].found = follower->list[i].client != NULL;
    }
    for (size_t i = 0; i < count && ret == 0; i++) {
        struct followed *known = find(follower, entries[i].name);

        if (entries[i].state != RUNTIME_LIVE) {
            continue;
        }
        if (known != NULL) {
            known->found = true;
        } else if (follower->only == NULL) {
            ret = add(follower, entries[i].name);
        }
    }
    follower->scanned = true;
    free(entries);
    for (size_t i = follower->count; i-- > 0;) {
        if (!follower->list[i].found) {
            forget(follower, i);
        }
    }
    return ret;
}

/* Connects where it is time to. */
static int connect_all(struct follower *follower)
{
    int ret = 0;

    for (size_t i = 0; i < follower->count && ret == 0; i++) {
        struct followed *followed = &follower->list[i];

        if (followed->client == NULL && !followed->refused &&
            clock_now_ms() >= followed->retry_ms) {
            ret = connect_to(follower, followed);
        }
    }
    return ret;
}

/* How long there is nothing to do but to wait. */
static int wait_ms(const struct follower *follower)
{
    int64_t until = follower->scan_at_ms;
    int64_t left;

    for (size_t i = 0; i < follower->count; i++) {
        const struct followed *followed = &follower->list[i];

        if (followed->client == NULL && !followed->refused && followed->retry_ms < until) {
            until = followed->retry_ms;
        }
    }
    left = until - clock_now_ms();
    return left > 0 ? (int)left : 0;
}

static void drain_inotify(struct follower *follower)
{
    char ignored[4096];

    while (read(follower->inotify_fd, ignored, sizeof(ignored)) > 0) {
        follower->scan_at_ms = 0;
    }
}

/* Prints what has come. *gone: a domain was heard of for the last time. */
static int print_all(struct follower *follower, bool *gone)
{
    int ret = 0;

    for (size_t i = follower->count; i-- > 0 && ret == 0;) {
        bool is_gone = false;

        if (follower->list[i].client != NULL) {
            ret = take_events(follower, &follower->list[i], &is_gone);
        }
        if (is_gone) {
            forget(follower, i);
            *gone = true;
        }
    }
    return ret;
}

/* Waits until there is something to do, or a signal comes. Events that came
 * with a reply are in the client already: print them before. */
static int wait_for_news(struct follower *follower)
{
    struct pollfd *fds = calloc(follower->count + 1, sizeof(*fds));
    int ms = wait_ms(follower);
    struct timespec limit = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    if (fds == NULL) {
        cli_error("the domains cannot be followed: out of memory; free some and try again");
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < follower->count; i++) {
        struct ctl_client *client = follower->list[i].client;

        /* -1 is skipped by poll(). */
        fds[i] = (struct pollfd){
            .fd = client != NULL ? ctl_client_fd(client) : -1,
            .events = POLLIN,
        };
    }
    fds[follower->count] = (struct pollfd){.fd = follower->inotify_fd, .events = POLLIN};
    if (ppoll(fds, follower->count + 1, &limit, &follower->waiting_mask) > 0 &&
        fds[follower->count].revents != 0) {
        drain_inotify(follower);
    }
    free(fds);
    return 0;
}

/* Follows until there is nothing left to follow, or a signal. */
static int follow(struct follower *follower)
{
    bool gone = false;
    int ret = 0;

    while (ret == 0 && !waiting_interrupted()) {
        if (clock_now_ms() >= follower->scan_at_ms) {
            ret = scan(follower);
        }
        if (follower->only != NULL && follower->count == 0) {
            /* It ended before we could listen. */
            return gone ? ret : print_gone(follower, follower->only);
        }
        if (ret == 0) {
            ret = connect_all(follower);
        }
        if (ret == 0) {
            ret = print_all(follower, &gone);
        }
        if (ret == 0 && !(follower->only != NULL && gone)) {
            ret = wait_for_news(follower);
        }
    }
    return ret;
}

static int run(int argc, char **argv)
{
    struct follower follower = {.inotify_fd = -1};
    const struct cli_option options[] = {{"--json", NULL, &follower.as_json}, {NULL, NULL, NULL}};
    int rest;
    int ret = cli_read_options(&cmd_events, options, argc, argv, &rest);

    if (ret == 0 && rest < argc) {
        ret = cli_read_options_and_word(&cmd_events, options, argc, argv, "name", &follower.only);
    }
    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (follower.only != NULL) {
        ret = cli_check_name("events", follower.only);
    }
    if (ret == 0) {
        ret = cli_find_base(follower.base);
    }
    if (ret == 0 && follower.only != NULL) {
        ret = domain_find(follower.base, follower.only);
        if (ret == 0) {
            ret = add(&follower, follower.only);
        }
    }
    if (ret == 0) {
        waiting_catch_signals(&follower.waiting_mask); /* no line is cut */
        ret = follow(&follower);
    }
    while (follower.count > 0) {
        forget(&follower, follower.count - 1);
    }
    free(follower.list);
    if (follower.inotify_fd >= 0) {
        close(follower.inotify_fd);
    }
    return ret;
}

const struct cli_command cmd_events = {
    .name = "events",
    .summary = "follow what happens to domains",
    .help = help,
    .run = run,
};
