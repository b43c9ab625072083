/* SPDX-License-Identifier: MIT */
/*
 * All clients of the control server. See clients.h.
 */
#include "ctl/clients.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

void clients_init(struct clients *clients, const struct ctl_server_config *config,
                  const struct session_transport *transport, void (*catch_up)(void *context),
                  void *context)
{
    *clients = (struct clients){
        .config = config,
        .transport = transport,
        .catch_up = catch_up,
        .context = context,
        .requests.config = config,
    };
    for (unsigned i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        clients->sessions[i].fd = -1;
    }
}

/* What is called may end the process, so events go out before. */
static void run_after(struct clients *clients, struct session *session)
{
    void (*after)(void *owner) = session->after;

    session->after = NULL;
    if (after == NULL) {
        return;
    }
    clients->catch_up(clients->context);
    for (unsigned i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        if (session_is_open(&clients->sessions[i])) {
            session_flush(&clients->sessions[i]);
        }
    }
    after(clients->config->owner);
}

static void drop(struct clients *clients, struct session *session)
{
    requests_forget(&clients->requests, session);
    session_close(session);
    run_after(clients, session);
}

void clients_fini(struct clients *clients)
{
    for (unsigned i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        struct session *session = &clients->sessions[i];

        if (session_is_open(session)) {
            session_flush(session);
            session_close(session);
        }
    }
    requests_fini(&clients->requests);
}

static struct session *find_free_place(struct clients *clients)
{
    for (unsigned i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        if (!session_is_open(&clients->sessions[i])) {
            return &clients->sessions[i];
        }
    }
    return NULL;
}

int clients_add(struct clients *clients, int fd)
{
    struct session *session = find_free_place(clients);
    int ret;

    if (session == NULL) {
        return -EBUSY;
    }
    ret = session_open(session, clients->transport, fd);
    if (ret == 0 && session_reply(session, ctl_greeting_build(clients->config->name)) < 0) {
        session_close(session);
    }
    return ret;
}

/* Handles what has been received, as far as a turn goes. -errno: drop the client. */
static int handle_input(struct clients *clients, struct session *session)
{
    for (unsigned turn = 0; turn < CLIENTS_TURN_REQUESTS; turn++) {
        json_t *message;
        int ret = session_next(session, &message);

        if (ret <= 0) {
            return ret;
        }
        ret = requests_handle(&clients->requests, session, message);
        json_decref(message);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

void clients_turn(struct clients *clients, unsigned place, bool readable)
{
    struct session *session = &clients->sessions[place];
    int ret = 0;

    if (!session_is_open(session)) {
        return;
    }
    if (readable && session_wants_input(session)) {
        ret = session_receive(session);
    }
    if (ret == 0) {
        ret = handle_input(clients, session);
    }
    if (ret < 0) {
        drop(clients, session);
        return;
    }
    session_flush(session);
    session_report_lost(session);
    if (session->after != NULL &&
        (session_output_bytes(session) == 0 || clock_now_ms() >= session->after_deadline_ms)) {
        run_after(clients, session);
    }
    if (session_is_done(session)) {
        drop(clients, session);
    }
}

void clients_step(struct clients *clients)
{
    struct session *dropped;

    if (requests_under_way(&clients->requests)) {
        dropped = requests_step(&clients->requests);
        if (dropped != NULL) {
            drop(clients, dropped);
        }
    }
}

int64_t clients_idle_until_ms(struct clients *clients)
{
    int64_t until = INT64_MAX;

    if (requests_under_way(&clients->requests)) {
        return 0;
    }
    for (unsigned i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        struct session *session = &clients->sessions[i];

        if (!session_is_open(session)) {
            continue;
        }
        if (session_is_ready(session)) {
            return 0;
        }
        if (session->after != NULL && session->after_deadline_ms < until) {
            until = session->after_deadline_ms;
        }
    }
    return until;
}

void clients_broadcast(struct clients *clients, const json_t *message)
{
    size_t length = 0;
    char *line = NULL;

    for (unsigned i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        struct session *session = &clients->sessions[i];

        if (!session_is_open(session) || !session->subscribed || session->closing) {
            continue;
        }
        if (line == NULL && ctl_encode(message, &line, &length) < 0) {
            line = NULL;
        }
        session_queue_event(session, line, length);
    }
    free(line);
}
