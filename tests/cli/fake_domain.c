/* SPDX-License-Identifier: MIT */
/*
 * A process that looks like a domain to the toolstack: it has the folder, the
 * lock and the control server, and answers with made-up figures.
 *
 * fake_domain BASE NAME MODE; prints "ready" and then obeys lines on its
 * standard input, until it is ended; each is answered by "done":
 *   total PAGES   the total becomes that; TARGET_REACHED if it is the target
 *   silent PAGES  the same without an event
 *   state NAME    the state becomes that
 *   slow 1, 0     a set-target that grows goes on until this is undone
 *   refuse CLASS  the next set-target fails with this class
 *   map RUNS N    query-map tells this, N superpages
 *   event NAME    this event is pushed; before it listens: kept as one of the past
 *   flood N       so many LOW_CACHE events at once
 *   listen        begin to listen (mode starting)
 * The modes:
 *   normal     answers, and obeys destroy
 *   stubborn   answers, and does not end when destroyed
 *   deaf       has a socket that nobody serves
 *   starting   has no socket yet
 *   strange    answers without some of the keys
 *   refusing   refuses destroy
 */
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <ballast/protocol.h>

#include "base/types.h"
#include "ctl/map.h"
#include "ctl/runtime_dir.h"
#include "ctl/server.h"

#define MAX_PAGES       262144
#define POPULATED_PAGES 16384

struct fake {
    const char *name;
    const char *mode;
    struct ctl_server *server;
    pthread_mutex_t lock; /* guards what follows, between main() and the server */
    int64_t target_pages;
    int64_t total_pages;
    int64_t growing_to_pages; /* 0: no set-target is under way */
    int64_t growing_pages;
    bool slow; /* a set-target that grows takes until this is undone */
    char state[32];
    char refusal[32]; /* "": none */
    char event[32];   /* to be pushed on the next kick; "": none */
    int64_t event_count;
    char map[16384]; /* letters of the map */
    json_t *past;    /* what was pushed; not those of a flood */
};

static bool is_mode(const struct fake *fake, const char *mode)
{
    return strcmp(fake->mode, mode) == 0;
}

static int query_domain(void *owner, const json_t *arguments, json_t **result,
                        struct ctl_error *error)
{
    struct fake *fake = owner;
    int ret = ctl_arguments_check(arguments, NULL, error);

    if (ret < 0) {
        return ret;
    }
    if (is_mode(fake, "strange")) {
        *result = json_pack("{s:s, s:s}", "name", fake->name, "pid", "seven");
        return 0;
    }
    pthread_mutex_lock(&fake->lock);
    *result = json_pack(
        "{s:i, s:i, s:s, s:i, s:s, s:i, s:I, s:I, s:i, s:I, s:i, s:i, s:i, s:b, s:b, s:i, s:i, "
        "s:i, s:i, "
        "s:i, s:i, s:i, "
        "s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}",
        "growing_pages", (int)fake->growing_pages, "growing_ready_pages",
        (int)fake->growing_pages / 2, "name", fake->name, "pid", (int)getpid(), "state",
        fake->state, "max_pages", MAX_PAGES, "target_pages", (json_int_t)fake->target_pages,
        "total_pages", (json_int_t)fake->total_pages, "populated_pages", POPULATED_PAGES,
        "cache_pages", (json_int_t)(fake->total_pages - POPULATED_PAGES), "pod_entries_pages",
        MAX_PAGES - POPULATED_PAGES, "out_pages", 0, "given_pages", 0, "covered", 0, "shrinking",
        fake->total_pages > fake->target_pages, "faults", 77, "populated_2m", 32, "populated_4k", 5,
        "ahead_2m", 9, "recovered_2m", 5, "refilled_pages", 6, "reclaimed_2m", 3, "reclaimed_4k", 2,
        "sweeps", 1, "busy_skips", 4, "given_up_pages", 512, "taken_back_pages", 256, "out_touched",
        6, "out_in_use", 2, "discarded_pages", 128, "fault_p50_ns", 50000, "fault_p99_ns", 130000,
        "fault_max_ns", 2000000, "cache_superpages", 90, "ram_start", (json_int_t)0x7f0000000000,
        "ram_bytes", (json_int_t)1 << 30, "cache_start", (json_int_t)0x7e0000000000, "cache_bytes",
        (json_int_t)1 << 30);
    pthread_mutex_unlock(&fake->lock);
    return *result != NULL ? 0 : -ENOMEM;
}

static int query_map(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    static const char *const known[] = {"from", NULL};
    struct fake *fake = owner;
    int superpages = (int)strlen(fake->map);
    int from = (int)json_integer_value(json_object_get(arguments, "from"));
    char text[sizeof(fake->map) + 1];
    int ret = ctl_arguments_check(arguments, known, error);

    if (ret < 0) {
        return ret;
    }
    if (is_mode(fake, "strange")) {
        *result = json_object();
        return 0;
    }
    pthread_mutex_lock(&fake->lock);
    ctl_map_pack(fake->map + from, (size_t)(superpages - from), text);
    *result = json_pack("{s:i, s:i, s:i, s:s}", "superpages", superpages, "from", from, "count",
                        superpages - from, "map", text);
    pthread_mutex_unlock(&fake->lock);
    return 0;
}

static void push(struct fake *fake, const char *name)
{
    struct timespec now;
    json_t *event;

    clock_gettime(CLOCK_REALTIME, &now);
    event = ctl_event_build(name,
                            json_pack("{s:s, s:I, s:I, s:I, s:i}", "name", fake->name,
                                      "target_pages", (json_int_t)fake->target_pages, "total_pages",
                                      (json_int_t)fake->total_pages, "cache_pages",
                                      (json_int_t)(fake->total_pages - POPULATED_PAGES),
                                      "pod_entries_pages", MAX_PAGES - POPULATED_PAGES),
                            (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    if (fake->server != NULL) {
        ctl_server_broadcast(fake->server, event);
    }
    if (fake->event_count <= 1) {
        json_array_append(fake->past, event);
    }
    json_decref(event);
}

static json_t *past_events(void *owner)
{
    struct fake *fake = owner;
    json_t *events;

    pthread_mutex_lock(&fake->lock);
    events = json_copy(fake->past);
    pthread_mutex_unlock(&fake->lock);
    return events;
}

static void on_kick(void *owner)
{
    struct fake *fake = owner;

    pthread_mutex_lock(&fake->lock);
    for (; fake->event_count > 0; fake->event_count--) {
        push(fake, fake->event);
    }
    pthread_mutex_unlock(&fake->lock);
}

static int set_target(void *owner, const json_t *arguments, json_t **result,
                      struct ctl_error *error)
{
    static const char *const known[] = {"target_bytes", NULL};
    struct fake *fake = owner;
    json_int_t pages = json_integer_value(json_object_get(arguments, "target_bytes")) / 4096;
    int ret = ctl_arguments_check(arguments, known, error);

    (void)result;
    pthread_mutex_lock(&fake->lock);
    if (ret == 0 && fake->refusal[0] != '\0') {
        ctl_error_set(error, fake->refusal, "refused with %s", fake->refusal);
        fake->refusal[0] = '\0';
        ret = -EBUSY;
    }
    if (ret == 0 && fake->slow && pages > fake->total_pages) {
        fake->growing_to_pages = pages;
        fake->growing_pages = pages - fake->total_pages;
        ret = CTL_CONTINUES;
    }
    if (ret == 0) {
        fake->target_pages = pages;
        fake->total_pages = pages > fake->total_pages ? pages : fake->total_pages;
        push(fake, "TARGET_CHANGED");
    }
    pthread_mutex_unlock(&fake->lock);
    return ret;
}

static int set_target_step(void *owner, const json_t *arguments, json_t **result,
                           struct ctl_error *error)
{
    struct fake *fake = owner;
    bool slow;

    (void)arguments;
    (void)result;
    (void)error;
    usleep(1000);
    pthread_mutex_lock(&fake->lock);
    slow = fake->slow;
    if (!slow) {
        fake->target_pages = fake->growing_to_pages;
        fake->total_pages = fake->growing_to_pages;
        fake->growing_pages = 0;
        push(fake, "TARGET_CHANGED");
    }
    pthread_mutex_unlock(&fake->lock);
    return slow ? CTL_CONTINUES : 0;
}

static int destroy(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)result;
    if (is_mode(owner, "refusing")) {
        ctl_error_set(error, CTL_WRONG_STATE, "no, thank you");
        return -EBUSY;
    }
    return ctl_arguments_check(arguments, NULL, error);
}

static void end(void *owner)
{
    if (!is_mode(owner, "stubborn")) {
        _exit(BALLAST_EXIT_DESTROYED);
    }
}

static int listen_only(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    /* runtime_dir_create() has made sure that it fits. */
    memcpy(address.sun_path, path, strlen(path));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0) {
        return -errno;
    }
    return 0;
}

static int listen_and_serve(struct fake *fake, const char *path)
{
    static const struct ctl_command commands[] = {
        {"query-domain", query_domain, NULL, NULL},
        {"query-map", query_map, NULL, NULL},
        {"set-target", set_target, set_target_step, NULL},
        {"destroy", destroy, NULL, end},
    };
    const struct ctl_server_config config = {
        .path = path,
        .name = fake->name,
        .commands = commands,
        .command_count = sizeof(commands) / sizeof(commands[0]),
        .owner = fake,
        .on_kick = on_kick,
        .past_events = past_events,
    };

    return ctl_server_start(&config, &fake->server);
}

/* Has the server push events, and waits until it has. */
static void push_by_kick(struct fake *fake, const char *name, int64_t count)
{
    bool done = false;

    pthread_mutex_lock(&fake->lock);
    snprintf(fake->event, sizeof(fake->event), "%s", name);
    fake->event_count = count;
    pthread_mutex_unlock(&fake->lock);
    ctl_server_kick(fake->server);
    while (!done) {
        usleep(1000);
        pthread_mutex_lock(&fake->lock);
        done = fake->event_count == 0;
        pthread_mutex_unlock(&fake->lock);
    }
}

/* Obeys a line of standard input. 0 or -errno. */
static int obey(struct fake *fake, const char *path, const char *word, const char *argument,
                size_t count)
{
    int64_t number = atoll(argument);
    bool reached = false;

    if (strcmp(word, "listen") == 0) {
        return listen_and_serve(fake, path);
    }
    if (strcmp(word, "event") == 0 || strcmp(word, "flood") == 0) {
        bool is_flood = word[0] == 'f';

        if (fake->server == NULL) {
            push(fake, argument);
            return 0;
        }
        push_by_kick(fake, is_flood ? "LOW_CACHE" : argument, is_flood ? number : 1);
        return 0;
    }
    pthread_mutex_lock(&fake->lock);
    if (strcmp(word, "total") == 0 || strcmp(word, "silent") == 0) {
        fake->total_pages = number;
        reached = word[0] == 't' && number == fake->target_pages;
    } else if (strcmp(word, "state") == 0) {
        snprintf(fake->state, sizeof(fake->state), "%s", argument);
    } else if (strcmp(word, "map") == 0 && count < sizeof(fake->map)) {
        if (count > 0 && ctl_map_unpack(argument, fake->map, count) < 0) {
            abort();
        }
        fake->map[count] = '\0';
    } else if (strcmp(word, "slow") == 0) {
        fake->slow = number != 0;
    } else if (strcmp(word, "refuse") == 0) {
        snprintf(fake->refusal, sizeof(fake->refusal), "%s", argument);
    }
    pthread_mutex_unlock(&fake->lock);
    if (reached) {
        push_by_kick(fake, "TARGET_REACHED", 1);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct fake fake = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .target_pages = 65536,
        .total_pages = 65536,
        .state = "running",
    };
    struct runtime_dir dir;
    char line[128];
    int ret;

    if (argc != 4) {
        fputs("usage: fake_domain BASE NAME MODE\n", stderr);
        return BALLAST_EXIT_USAGE;
    }
    fake.name = argv[2];
    fake.mode = argv[3];
    fake.past = json_array();
    memset(fake.map, 'P', MAX_PAGES / SUPERPAGE_PAGES);
    ret = runtime_dir_create(argv[1], fake.name, &dir);
    if (ret == 0 && is_mode(&fake, "deaf")) {
        ret = listen_only(dir.socket_path);
    } else if (ret == 0 && !is_mode(&fake, "starting")) {
        ret = listen_and_serve(&fake, dir.socket_path);
    }
    if (ret == 0) {
        puts("ready");
        fflush(stdout);
    }
    while (ret == 0 && fgets(line, sizeof(line), stdin) != NULL) {
        char word[32] = "";
        char argument[64] = "";
        size_t count = 0;

        sscanf(line, "%31s %63s %zu", word, argument, &count);
        ret = obey(&fake, dir.socket_path, word, argument, count);
        puts("done");
        fflush(stdout);
    }
    if (ret < 0) {
        fprintf(stderr, "fake_domain: %s\n", strerror(-ret));
        return 1;
    }
    for (;;) {
        pause();
    }
}
