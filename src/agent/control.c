/* SPDX-License-Identifier: MIT */
#include "agent/control.h"

#include "agent/map.h"
#include "agent/qemu.h"
#include "agent/stop.h"
#include "agent/target.h"
#include "agent/the_guest.h"
#include "ctl/map.h"
#include "ctl/server.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Set once the server runs; the domain is built, and makes events, only then. */
static struct ctl_server *server;
/* The next event to tell; the server's thread alone uses it. */
static uint64_t next_event;

/* To clients a domain that is wrong is one that ends. */
static const char *state_name(enum domain_state state)
{
    return domain_state_name(state == DOMAIN_BROKEN ? DOMAIN_DYING : state);
}

static int refuse_arguments(const json_t *arguments, struct ctl_error *error)
{
    static const char *const none[] = {NULL};
    return ctl_arguments_check(arguments, none, error);
}

static int query_domain(void *owner, const json_t *arguments, json_t **result,
                        struct ctl_error *error)
{
    const struct config *config = owner;
    int err = refuse_arguments(arguments, error);
    if (err != 0) {
        return err;
    }
    struct guest_report r;
    guest_describe(&the_guest, &r);
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"max_pages", r.max_pages},
        {"target_pages", r.target_pages},
        {"total_pages", r.total_pages},
        {"populated_pages", r.populated_pages},
        {"cache_pages", r.cache_pages},
        {"pod_entries_pages", r.pod_entries_pages},
        {"out_pages", r.out_pages},
        {"faults", r.counters.faults},
        {"populated_2m", r.counters.populated_2m},
        {"populated_4k", r.counters.populated_4k},
        {"ahead_2m", r.counters.ahead_2m},
        {"recovered_2m", r.counters.recovered_2m},
        {"refilled_pages", r.refilled_pages},
        {"reclaimed_2m", r.counters.reclaimed_2m},
        {"reclaimed_4k", r.counters.reclaimed_4k},
        {"sweeps", r.counters.sweeps},
        {"busy_skips", r.counters.busy_skips},
        {"given_pages", r.given_pages},
        {"out_touched", r.counters.out_touched},
        {"out_in_use", r.counters.out_in_use},
        {"given_up_pages", r.counters.given_up_pages},
        {"taken_back_pages", r.counters.taken_back_pages},
        {"discarded_pages", r.counters.discarded_pages},
        {"fault_p50_ns", r.fault_p50_ns},
        {"fault_p99_ns", r.fault_p99_ns},
        {"fault_max_ns", r.fault_max_ns},
        {"cache_superpages", r.cache_superpages},
        {"growing_pages", r.growing_pages},
        {"growing_ready_pages", r.growing_ready_pages},
        {"ram_start", r.ram[0].at.a},
        {"ram_bytes", r.ram[0].bytes},
        {"cache_start", r.cache.a},
        {"cache_bytes", r.cache_bytes},
    };
    json_t *reply =
        json_pack("{s:s, s:i, s:s, s:b, s:b}", "name", config->name, "pid", (int)getpid(), "state",
                  state_name(r.state), "covered", (int)r.covered, "shrinking", (int)r.shrinking);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        json_object_set_new(reply, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    }
    json_t *blocks = json_array();
    for (unsigned i = 0; i < r.blocks; i++) {
        json_array_append_new(blocks, json_pack("{s:I, s:I}", "start", (json_int_t)r.ram[i].at.a,
                                                "bytes", (json_int_t)r.ram[i].bytes));
    }
    json_object_set_new(reply, "ram_blocks", blocks);
    *result = reply;
    return 0;
}

static int query_map(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    static const char *const known[] = {"from", NULL};
    /* The server has one thread. */
    static char letters[CTL_MAP_REPLY_SUPERPAGES], text[CTL_MAP_REPLY_SUPERPAGES + 1];
    int err = ctl_arguments_check(arguments, known, error);
    if (err != 0) {
        return err;
    }
    const json_t *value = json_object_get(arguments, "from");
    json_int_t from = json_integer_value(value);
    size_t superpages = 0, count = 0;
    if ((value == NULL || json_is_integer(value)) && from >= 0) {
        count = map_letters((size_t)from, sizeof(letters), letters, &superpages);
    }
    if (from < 0 || (value != NULL && !json_is_integer(value)) || from > (json_int_t)superpages) {
        ctl_error_set(error, CTL_INVALID_ARGUMENT,
                      "from must be the index of a superpage: a whole number from 0 to what "
                      "superpages says");
        return -EINVAL;
    }
    ctl_map_pack(letters, count, text);
    *result = json_pack("{s:I, s:I, s:I, s:s}", "superpages", (json_int_t)superpages, "from", from,
                        "count", (json_int_t)count, "map", text);
    return 0;
}

static int set_target(void *owner, const json_t *arguments, json_t **result,
                      struct ctl_error *error)
{
    (void)owner;
    (void)result;
    static const char *const known[] = {"target_bytes", NULL};
    int err = ctl_arguments_check(arguments, known, error);
    if (err != 0) {
        return err;
    }
    const json_t *value = json_object_get(arguments, "target_bytes");
    json_int_t bytes = json_integer_value(value);
    if (!json_is_integer(value) || bytes < 0 || bytes % (json_int_t)PAGE_BYTES != 0) {
        ctl_error_set(error, CTL_INVALID_ARGUMENT,
                      "target_bytes must be a whole number of pages of 4096 bytes");
        return -EINVAL;
    }
    bool more;
    err = target_set((uint64_t)bytes, &more, error);
    return err == 0 && more ? CTL_CONTINUES : err;
}

static int set_target_step(void *owner, const json_t *arguments, json_t **result,
                           struct ctl_error *error)
{
    (void)owner;
    (void)arguments;
    (void)result;
    bool more;
    int err = target_step(&more, error);
    return err == 0 && more ? CTL_CONTINUES : err;
}

static const char *const event_names[] = {
    [GUEST_BUILT] = "BUILT",
    [GUEST_LOW_CACHE] = "LOW_CACHE",
    [GUEST_EXHAUSTED] = "EXHAUSTED",
    [GUEST_RESUMED] = "RESUMED",
    [GUEST_TARGET_CHANGED] = "TARGET_CHANGED",
    [GUEST_TARGET_REACHED] = "TARGET_REACHED",
    [GUEST_COVERED] = "COVERED",
    [GUEST_DYING] = "DYING",
};

/* An event as the protocol has it, or NULL if there is no memory for it. */
static json_t *event_message(const struct config *config, const struct guest_event *event)
{
    json_t *data =
        json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", config->name, "target_pages",
                  (json_int_t)event->target_pages, "total_pages", (json_int_t)event->total_pages,
                  "cache_pages", (json_int_t)event->cache_pages, "pod_entries_pages",
                  (json_int_t)event->pod_entries_pages);
    return ctl_event_build(event_names[event->kind], data, event->realtime_ns);
}

/* Tells all new events, on the server's thread. */
static void tell_events(void *owner)
{
    struct guest_event event;
    while (guest_next_event(&the_guest, &next_event, &event)) {
        json_t *message = event_message(owner, &event);
        if (message != NULL) {
            ctl_server_broadcast(server, message);
            json_decref(message);
        }
    }
}

/* Those that were told before, as far as they are kept. */
static json_t *past_events(void *owner)
{
    json_t *events = json_array();
    struct guest_event event;
    for (uint64_t number = 0;
         guest_next_event(&the_guest, &number, &event) && number <= next_event;) {
        json_array_append_new(events, event_message(owner, &event));
    }
    return events;
}

void control_notify(void)
{
    if (server != NULL) {
        ctl_server_kick(server);
    }
}

static int destroy(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    (void)result;
    int err = refuse_arguments(arguments, error);
    if (err == 0 && guest_exists(&the_guest)) {
        guest_die(&the_guest);
    }
    return err;
}

static void after_destroy(void *owner)
{
    const struct config *config = owner;
    stop(BALLAST_EXIT_DESTROYED, "domain %s was destroyed on request", config->name);
}

static const struct ctl_command commands[] = {
    {"query-domain", query_domain, NULL, NULL},
    {"query-map", query_map, NULL, NULL},
    {"set-target", set_target, set_target_step, NULL},
    {"destroy", destroy, NULL, after_destroy},
};

int control_start(const struct config *config)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/%s", config->directory, BALLAST_SOCKET_NAME);
    struct ctl_server_config server_config = {
        .path = path,
        .name = config->name,
        .commands = commands,
        .command_count = sizeof(commands) / sizeof(commands[0]),
        .on_kick = tell_events,
        .past_events = past_events,
        .owner = (void *)config,
    };
    return ctl_server_start(&server_config, &server);
}

void control_stop(void)
{
    ctl_server_stop(server);
    server = NULL;
}
