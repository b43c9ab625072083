/* SPDX-License-Identifier: MIT */
/*
 * A client of a domain's control socket. Every call has a time limit, so a
 * domain that hangs cannot hang its operator. Used by one thread at a time.
 */
#ifndef BALLAST_CTL_CLIENT_H
#define BALLAST_CTL_CLIENT_H

#include <jansson.h>
#include <sys/types.h>

#include "ctl/message.h"

struct ctl_client;

/* Connects to the socket at `path` and reads the greeting, both within
 * timeout_ms. -ENOENT or -ECONNREFUSED: nobody listens there. -ETIMEDOUT: no
 * greeting came. -EPROTO: what came was none. -EPROTONOSUPPORT: it was of a
 * protocol version that we do not speak. -ENAMETOOLONG, -ENOMEM, or what the
 * kernel said. */
int ctl_client_connect(const char *path, int timeout_ms, struct ctl_client **client);

/* The greeting; belongs to the client. */
const struct ctl_greeting *ctl_client_greeting(const struct ctl_client *client);

/* The process id of the process that listens, as the kernel tells it. */
int ctl_client_peer(const struct ctl_client *client, pid_t *pid);

/* As above, of a socket whose owner need not answer: connects and disconnects.
 * The errors of ctl_client_connect(), but for the greeting; *pid is untouched then. */
int ctl_client_find_listener(const char *path, int timeout_ms, pid_t *pid);

/* Executes a command. `arguments` is an object or NULL; borrowed. 0 and a new
 * reference in *result; or -EREMOTEIO and the server's answer in *error;
 * -ETIMEDOUT if none came in time (a late one is ignored by later calls);
 * -ECONNRESET if the server closed the connection; -EPROTO if it sent
 * something else; -EMSGSIZE if the request is too long. *error is filled for
 * -EREMOTEIO only. Events that come before the reply are dropped. */
int ctl_client_call(struct ctl_client *client, const char *command, json_t *arguments,
                    int timeout_ms, json_t **result, struct ctl_error *error);

/* The same in two parts: sends the request, and waits for its reply; when that
 * has not come in time, -ETIMEDOUT, one may go on waiting. */
int ctl_client_begin(struct ctl_client *client, const char *command, json_t *arguments,
                     int timeout_ms);
int ctl_client_finish(struct ctl_client *client, int timeout_ms, json_t **result,
                      struct ctl_error *error);

/* Takes the next event, a new reference in *event; the client must have
 * subscribed. -ETIMEDOUT if none came in time; -ECONNRESET if the server closed
 * the connection; -EPROTO if it sent something else than messages. */
int ctl_client_next_event(struct ctl_client *client, int timeout_ms, json_t **event);

/* The socket, for poll(2). When it is readable, take events until -ETIMEDOUT:
 * more than one may have come at once. */
int ctl_client_fd(const struct ctl_client *client);

/* Waits until the server closes the connection, ignoring what it still sends.
 * 0, or -ETIMEDOUT. */
int ctl_client_wait_closed(struct ctl_client *client, int timeout_ms);

/* Disconnects and frees. NULL is allowed. */
void ctl_client_close(struct ctl_client *client);

#endif
