/* SPDX-License-Identifier: MIT */
/*
 * All clients of the control server, and their turns: what each sent is handled,
 * answered, and sent on. Part of the server; ctl/server.c says when whose turn it
 * is, and knows the sockets.
 *
 *  - A turn handles at most CLIENTS_TURN_REQUESTS of one client's requests, so a
 *    flood delays the others by that much and no more.
 *  - A command that goes on in steps gets one step a turn.
 *
 * Nothing is locked; the server's thread alone uses it.
 */
#ifndef BALLAST_CTL_CLIENTS_H
#define BALLAST_CTL_CLIENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ctl/requests.h"
#include "ctl/server.h"
#include "ctl/session.h"

#define CLIENTS_TURN_REQUESTS 32

struct clients {
    const struct ctl_server_config *config;
    const struct session_transport *transport;
    /* Called before an after_reply, which may end the process: events that are
     * still to be told are told then. */
    void (*catch_up)(void *context);
    void *context;
    struct requests requests;
    struct session sessions[CTL_SERVER_CLIENTS_MAX];
};

/* Begins without clients. What is handed over is borrowed until clients_fini(). */
void clients_init(struct clients *clients, const struct ctl_server_config *config,
                  const struct session_transport *transport, void (*catch_up)(void *context),
                  void *context);

/* Sends what can be sent at once, and lets everybody go. */
void clients_fini(struct clients *clients);

/* Takes a client in and greets it. It owns `fd` then; else, with -EBUSY (all places
 * are taken) or -ENOMEM, the caller still does. */
int clients_add(struct clients *clients, int fd);

/* Gives the client in a place its turn, if there is one: receives if `readable`,
 * handles, sends, and lets it go if it is done or gone. */
void clients_turn(struct clients *clients, unsigned place, bool readable);

/* Gives the command that is under way a step, if there is one. */
void clients_step(struct clients *clients);

/* Until when there is nothing to do without the transport: the clock's ms, 0 for
 * now, INT64_MAX for ever. */
int64_t clients_idle_until_ms(struct clients *clients);

/* Queues an event for all who have subscribed; borrowed. */
void clients_broadcast(struct clients *clients, const json_t *message);

#endif
