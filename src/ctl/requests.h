/* SPDX-License-Identifier: MIT */
/*
 * What clients ask the control server for: its owner's commands and its own, and
 * the one command that may go on in steps. Part of the server.
 *
 * Invariant: a session waits (session.h) if and only if it is the one that asked
 * for the command that is under way.
 *
 * Nothing is locked; the server's thread alone uses it.
 */
#ifndef BALLAST_CTL_REQUESTS_H
#define BALLAST_CTL_REQUESTS_H

#include <jansson.h>
#include <stdbool.h>

#include "ctl/server.h"
#include "ctl/session.h"

struct requests {
    const struct ctl_server_config *config; /* borrowed: whose commands there are */
    /* The command that goes on in steps, if any. */
    const struct ctl_command *command; /* NULL: none */
    struct session *asked;             /* by whom; NULL if it has gone */
    json_t *id;                        /* of the request, or NULL */
};

/* Executes and answers one message of a client, or begins to. -errno: drop the
 * client. */
int requests_handle(struct requests *requests, struct session *session, json_t *message);

/* Is a command under way, which wants requests_step()? */
bool requests_under_way(const struct requests *requests);

/* Does one step of the command that is under way, and answers if that was the last.
 * Returns who is to be dropped, or NULL. */
struct session *requests_step(struct requests *requests);

/* The client goes: what it asked for goes on without it. */
void requests_forget(struct requests *requests, const struct session *session);

/* Frees what is held for a command that is under way. Nothing else is allocated. */
void requests_fini(struct requests *requests);

#endif
