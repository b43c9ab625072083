/* SPDX-License-Identifier: MIT */
#include "agent/control.h"

#include "agent/guest.h"
#include "agent/stop.h"
#include "ctl/server.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

static struct ctl_server *server;

static const char *state_name(enum domain_state state)
{
    switch (state) {
    case DOMAIN_BUILDING:
        return "building";
    case DOMAIN_RUNNING:
        return "running";
    case DOMAIN_EXHAUSTED:
        return "exhausted";
    case DOMAIN_DYING:
    case DOMAIN_BROKEN:
        break;
    }
    return "dying";
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
    guest_describe(&r);
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
        {"reclaimed_2m", r.counters.reclaimed_2m},
        {"reclaimed_4k", r.counters.reclaimed_4k},
        {"sweeps", r.counters.sweeps},
        {"busy_skips", r.counters.busy_skips},
        {"fault_p50_ns", r.fault_p50_ns},
        {"fault_p99_ns", r.fault_p99_ns},
        {"fault_max_ns", r.fault_max_ns},
        {"cache_superpages", r.cache_superpages},
        {"ram_start", r.ram.a},
        {"ram_bytes", r.ram_bytes},
        {"cache_start", r.cache.a},
        {"cache_bytes", r.cache_bytes},
    };
    json_t *reply = json_pack("{s:s, s:i, s:s, s:b}", "name", config->name, "pid", (int)getpid(),
                              "state", state_name(r.state), "covered", (int)r.covered);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        json_object_set_new(reply, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    }
    *result = reply;
    return 0;
}

static int destroy(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    (void)result;
    int err = refuse_arguments(arguments, error);
    if (err == 0 && guest_exists()) {
        guest_die();
    }
    return err;
}

static void after_destroy(void *owner)
{
    const struct config *config = owner;
    stop(BALLAST_EXIT_DESTROYED, "domain %s was destroyed on request", config->name);
}

static const struct ctl_command commands[] = {
    {"query-domain", query_domain, NULL},
    {"destroy", destroy, after_destroy},
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
        .owner = (void *)config,
    };
    return ctl_server_start(&server_config, &server);
}

void control_stop(void)
{
    ctl_server_stop(server);
    server = NULL;
}
