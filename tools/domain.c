/* SPDX-License-Identifier: MIT */
/*
 * Asking running domains. See domain.h.
 */
#include "domain.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "cli.h"
#include "ctl/runtime_dir.h"

/* What query-domain returns (docs/protocol.md). */
static const struct {
    const char *key;
    json_type type;
} keys[] = {
    {"name", JSON_STRING},
    {"pid", JSON_INTEGER},
    {"state", JSON_STRING},
    {"max_pages", JSON_INTEGER},
    {"target_pages", JSON_INTEGER},
    {"total_pages", JSON_INTEGER},
    {"populated_pages", JSON_INTEGER},
    {"cache_pages", JSON_INTEGER},
    {"pod_entries_pages", JSON_INTEGER},
    {"out_pages", JSON_INTEGER},
    {"given_pages", JSON_INTEGER},
    {"covered", JSON_TRUE},
    {"shrinking", JSON_TRUE},
    {"faults", JSON_INTEGER},
    {"populated_2m", JSON_INTEGER},
    {"populated_4k", JSON_INTEGER},
    {"ahead_2m", JSON_INTEGER},
    {"recovered_2m", JSON_INTEGER},
    {"refilled_pages", JSON_INTEGER},
    {"reclaimed_2m", JSON_INTEGER},
    {"reclaimed_4k", JSON_INTEGER},
    {"sweeps", JSON_INTEGER},
    {"busy_skips", JSON_INTEGER},
    {"given_up_pages", JSON_INTEGER},
    {"taken_back_pages", JSON_INTEGER},
    {"out_touched", JSON_INTEGER},
    {"out_in_use", JSON_INTEGER},
    {"discarded_pages", JSON_INTEGER},
    {"fault_p50_ns", JSON_INTEGER},
    {"fault_p99_ns", JSON_INTEGER},
    {"fault_max_ns", JSON_INTEGER},
    {"cache_superpages", JSON_INTEGER},
    {"growing_pages", JSON_INTEGER},
    {"growing_ready_pages", JSON_INTEGER},
    {"ram_start", JSON_INTEGER},
    {"ram_bytes", JSON_INTEGER},
    {"cache_start", JSON_INTEGER},
    {"cache_bytes", JSON_INTEGER},
};

/* The first key that is missing or of a wrong type, or NULL. */
static const char *find_bad_key(const json_t *state)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const json_t *value = json_object_get(state, keys[i].key);
        bool fits =
            value != NULL && (keys[i].type == JSON_TRUE ? json_is_boolean(value)
                                                        : json_typeof(value) == keys[i].type);

        if (!fits) {
            return keys[i].key;
        }
    }
    return NULL;
}

void domain_explain(int ret, int timeout_ms, struct ctl_error *error)
{
    switch (ret) {
    case -EREMOTEIO:
        break;
    case -ENOENT:
    case -ECONNREFUSED:
        ctl_error_set(error, "", "it does not listen (yet); try again, or look at QEMU's output");
        break;
    case -ETIMEDOUT:
        ctl_error_set(error, "",
                      "it did not answer for %d ms; try again, or end it with 'ballast destroy'",
                      timeout_ms);
        break;
    case -ECONNRESET:
        ctl_error_set(error, "", "it closed the connection; it is probably ending");
        break;
    case -EPROTONOSUPPORT:
        ctl_error_set(error, "",
                      "it speaks another major version of the control protocol; use the ballast "
                      "that started it");
        break;
    case -EACCES:
        ctl_error_set(error, "", "permission denied; be the user who started it, or root");
        break;
    default:
        ctl_error_set(error, "", "%s; try again, or look at QEMU's output", strerror(-ret));
        break;
    }
}

int domain_find(const char *base, const char *name)
{
    enum runtime_state state;
    int ret = runtime_look(base, name, &state);

    if (ret < 0) {
        cli_error("the domain '%s' cannot be looked at: %s; check that %s is your folder", name,
                  strerror(-ret), base);
        return EXIT_FAILED;
    }
    if (state == RUNTIME_DEAD) {
        runtime_clean(base, name);
    }
    return state == RUNTIME_LIVE ? 0 : cli_unknown_domain(base, name);
}

int domain_connect(const char *base, const char *name, int timeout_ms, struct ctl_client **client,
                   struct ctl_error *error)
{
    char path[PATH_MAX];
    int ret = runtime_socket_path(base, name, path, sizeof(path));

    if (ret == 0) {
        ret = ctl_client_connect(path, timeout_ms, client);
    }
    if (ret < 0) {
        domain_explain(ret, timeout_ms, error);
    }
    return ret;
}

int domain_call(struct ctl_client *client, const char *command, json_t *arguments, int timeout_ms,
                json_t **result, struct ctl_error *error)
{
    int ret = ctl_client_call(client, command, arguments, timeout_ms, result, error);

    if (ret < 0) {
        domain_explain(ret, timeout_ms, error);
    }
    return ret;
}

int domain_query_on(struct ctl_client *client, json_t **state, struct ctl_error *error)
{
    const char *bad;
    json_t *result;
    int ret = domain_call(client, "query-domain", NULL, DOMAIN_ANSWER_MS, &result, error);

    if (ret < 0) {
        return ret;
    }
    bad = find_bad_key(result);
    if (bad != NULL) {
        ctl_error_set(error, "", "its answer has no usable '%s'; use the ballast that started it",
                      bad);
        json_decref(result);
        return -EREMOTEIO;
    }
    *state = result;
    return 0;
}

int domain_query(const char *base, const char *name, json_t **state, struct ctl_error *error)
{
    struct ctl_client *client;
    int ret = domain_connect(base, name, DOMAIN_ANSWER_MS, &client, error);

    if (ret == 0) {
        ret = domain_query_on(client, state, error);
        ctl_client_close(client);
    }
    return ret;
}

int domain_map_on(struct ctl_client *client, struct ctl_map *map, struct ctl_error *error)
{
    int ret = ctl_map_query(client, DOMAIN_ANSWER_MS, map, error);

    if (ret == -EREMOTEIO && strcmp(error->class_name, CTL_COMMAND_NOT_FOUND) == 0) {
        ctl_error_set(error, CTL_COMMAND_NOT_FOUND,
                      "its agent is older than this ballast and has no map to tell; start it "
                      "again to get one");
    } else if (ret == -EPROTO) {
        ctl_error_set(error, "", "its map makes no sense; use the ballast that started it");
    } else if (ret < 0) {
        domain_explain(ret, DOMAIN_ANSWER_MS, error);
    }
    return ret;
}

json_int_t domain_integer(const json_t *state, const char *key)
{
    return json_integer_value(json_object_get(state, key));
}

void domain_format_pages(const json_t *state, const char *key, char text[static SIZE_TEXT_BYTES])
{
    json_int_t pages = domain_integer(state, key);

    size_format(pages > 0 ? pages_to_bytes((uint64_t)pages) : 0, text);
}

const char *domain_string(const json_t *state, const char *key)
{
    return json_string_value(json_object_get(state, key));
}

void domain_print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
}

int domain_finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return 0;
    }
    cli_error("the output could not be written: %s; nothing else was done", strerror(errno));
    return EXIT_FAILED;
}
