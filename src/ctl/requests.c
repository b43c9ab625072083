/* SPDX-License-Identifier: MIT */
/*
 * What clients ask the control server for. See requests.h.
 */
#include "ctl/requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* A command of the server itself. `run` returns as a handler does. */
struct builtin {
    const char *name;
    int (*run)(struct requests *requests, struct session *session, const json_t *arguments,
               json_t **result, struct ctl_error *error);
    const char *const *arguments; /* that it knows; NULL: none */
};

static int query_commands(struct requests *requests, struct session *session,
                          const json_t *arguments, json_t **result, struct ctl_error *error);

static const char *const subscribe_arguments[] = {"past", NULL};

static int subscribe(struct requests *requests, struct session *session, const json_t *arguments,
                     json_t **result, struct ctl_error *error)
{
    const json_t *past = json_object_get(arguments, "past");

    (void)requests;
    (void)result;
    if (past != NULL && !json_is_boolean(past)) {
        ctl_error_set(error, CTL_INVALID_ARGUMENT, "past must be true or false");
        return -EINVAL;
    }
    session->subscribed = true;
    session->wants_past = json_is_true(past);
    return 0;
}

/* What it has lost until now it does not want to hear of. */
static int unsubscribe(struct requests *requests, struct session *session, const json_t *arguments,
                       json_t **result, struct ctl_error *error)
{
    (void)requests;
    (void)arguments;
    (void)result;
    (void)error;
    session->subscribed = false;
    session->lost = 0;
    return 0;
}

static const struct builtin builtins[] = {
    {"query-commands", query_commands, NULL},
    {"subscribe", subscribe, subscribe_arguments},
    {"unsubscribe", unsubscribe, NULL},
};

#define BUILTIN_COUNT (sizeof(builtins) / sizeof(builtins[0]))

static int query_commands(struct requests *requests, struct session *session,
                          const json_t *arguments, json_t **result, struct ctl_error *error)
{
    json_t *list = json_array();
    int failed = 0;

    (void)session;
    (void)arguments;
    (void)error;
    for (size_t i = 0; i < BUILTIN_COUNT; i++) {
        failed |= json_array_append_new(list, json_pack("{s:s}", "name", builtins[i].name));
    }
    for (size_t i = 0; i < requests->config->command_count; i++) {
        failed |= json_array_append_new(
            list, json_pack("{s:s}", "name", requests->config->commands[i].name));
    }
    if (failed != 0) {
        json_decref(list);
        return -ENOMEM;
    }
    *result = json_pack("{s:o}", "commands", list);
    return *result != NULL ? 0 : -ENOMEM;
}

static const struct builtin *find_builtin(const char *name)
{
    for (size_t i = 0; i < BUILTIN_COUNT; i++) {
        if (strcmp(builtins[i].name, name) == 0) {
            return &builtins[i];
        }
    }
    return NULL;
}

static const struct ctl_command *find_command(const struct requests *requests, const char *name)
{
    for (size_t i = 0; i < requests->config->command_count; i++) {
        if (strcmp(requests->config->commands[i].name, name) == 0) {
            return &requests->config->commands[i];
        }
    }
    return NULL;
}

/* Runs a request. 0 and *result; CTL_CONTINUES; or -errno and *error. *command is
 * NULL for a built-in one. */
static int execute(struct requests *requests, struct session *session,
                   const struct ctl_request *request, const struct ctl_command **command,
                   json_t **result, struct ctl_error *error)
{
    const struct builtin *builtin = find_builtin(request->command);
    const struct ctl_command *found;
    int ret;

    if (builtin != NULL) {
        ret = ctl_arguments_check(request->arguments, builtin->arguments, error);
        *command = NULL;
        return ret < 0 ? ret : builtin->run(requests, session, request->arguments, result, error);
    }
    found = find_command(requests, request->command);
    if (found == NULL) {
        ctl_error_set(error, CTL_COMMAND_NOT_FOUND,
                      "unknown command '%.64s'; query-commands lists the known ones",
                      request->command);
        return -ENOSYS;
    }
    if (found->step != NULL && requests->command != NULL) {
        ctl_error_set(error, CTL_BUSY, "a %s is under way already; try again when it is done",
                      requests->command->name);
        return -EBUSY;
    }
    *command = found;
    return found->handler(requests->config->owner, request->arguments, result, error);
}

/* Gives a client that has just subscribed what its owner has kept for it. */
static void tell_past(struct requests *requests, struct session *session)
{
    json_t *events = NULL;
    json_t *event;
    size_t i;

    session->wants_past = false;
    if (requests->config->past_events != NULL) {
        events = requests->config->past_events(requests->config->owner);
    }
    json_array_foreach(events, i, event)
    {
        size_t length = 0;
        char *line;

        if (ctl_encode(event, &line, &length) < 0) {
            line = NULL;
        }
        session_queue_event(session, line, length);
        free(line);
    }
    json_decref(events);
}

/* Answers a request that is done: with the result (our reference, or NULL), or
 * with the error if ret is -errno. -errno: drop the client. */
static int answer(struct requests *requests, struct session *session,
                  const struct ctl_command *command, int ret, json_t *result,
                  struct ctl_error *error, json_t *id)
{
    if (ret < 0) {
        json_decref(result);
        return session_reply_error(session, error, id);
    }
    ret = session_reply(session, ctl_reply_return(result, id));
    if (ret == -EMSGSIZE) {
        ctl_error_set(error, CTL_INVALID_REQUEST,
                      "the command was executed, but its reply with this id is longer than %d "
                      "bytes; send a shorter id",
                      BALLAST_PROTOCOL_LINE_MAX_BYTES);
        ret = session_reply_error(session, error, NULL);
    }
    if (session->wants_past) {
        tell_past(requests, session);
    }
    if (command != NULL && command->after_reply != NULL) {
        session->after = command->after_reply;
        session->after_deadline_ms = clock_now_ms() + CTL_SERVER_REPLY_MS;
    }
    return ret;
}

int requests_handle(struct requests *requests, struct session *session, json_t *message)
{
    json_t *id = ctl_message_id(message);
    const struct ctl_command *command = NULL;
    struct ctl_request request;
    struct ctl_error error;
    json_t *result = NULL;
    int ret;

    /* For a handler that fails and does not say how. */
    ctl_error_set(&error, CTL_WRONG_STATE, "the command failed");
    ret = ctl_request_read(message, &request, &error);
    if (ret == 0) {
        ret = execute(requests, session, &request, &command, &result, &error);
    }
    if (ret == CTL_CONTINUES) {
        requests->command = command;
        requests->asked = session;
        requests->id = json_incref(id);
        session->waiting = true;
        return 0;
    }
    return answer(requests, session, command, ret, result, &error, id);
}

bool requests_under_way(const struct requests *requests)
{
    return requests->command != NULL;
}

struct session *requests_step(struct requests *requests)
{
    const struct requests done = *requests;
    struct session *dropped = NULL;
    struct ctl_error error;
    json_t *result = NULL;
    int ret;

    ctl_error_set(&error, CTL_WRONG_STATE, "the command failed");
    ret = done.command->step(done.config->owner, NULL, &result, &error);
    if (ret == CTL_CONTINUES) {
        return NULL;
    }
    *requests = (struct requests){.config = done.config};
    if (done.asked == NULL) {
        json_decref(result);
    } else {
        done.asked->waiting = false;
        if (answer(requests, done.asked, done.command, ret, result, &error, done.id) < 0) {
            dropped = done.asked;
        }
    }
    json_decref(done.id);
    return dropped;
}

void requests_forget(struct requests *requests, const struct session *session)
{
    if (requests->asked == session) {
        requests->asked = NULL;
    }
}

void requests_fini(struct requests *requests)
{
    json_decref(requests->id);
    requests->id = NULL;
}
