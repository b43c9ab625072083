/* SPDX-License-Identifier: MIT */
/*
 * The control server of a domain: a unix socket, at most CTL_SERVER_CLIENTS_MAX
 * clients, one thread.
 *
 * It lives inside a process that is not ours (QEMU), so it never logs, never
 * exits, changes nothing that the process shares (umask, signal handlers,
 * working directory), and its thread has all signals blocked.
 */
#ifndef BALLAST_CTL_SERVER_H
#define BALLAST_CTL_SERVER_H

#include <jansson.h>
#include <stddef.h>

#include "ctl/message.h"

/* A further client is told so (class Busy) and disconnected. */
#define CTL_SERVER_CLIENTS_MAX 16

struct ctl_server;

/* Runs a command on the server's thread; one command at a time, whoever asked.
 * Other clients wait while it runs, so it must not take long. `arguments` is
 * the request's object, or NULL; borrowed. Returns 0, and may put a new
 * reference to an object in *result (it is NULL before: {} is sent then); or
 * -errno, and *error says what to answer; or, if the command has a `step`,
 * CTL_CONTINUES. */
typedef int ctl_handler(void *owner, const json_t *arguments, json_t **result,
                        struct ctl_error *error);

/* The command is not done: its step is to be called. */
#define CTL_CONTINUES 1

/* One command of the server's owner. */
struct ctl_command {
    const char *name;
    ctl_handler *handler;
    /* If not NULL: a command that may take long, in steps. While the handler,
     * and then this, returns CTL_CONTINUES it is called again, with arguments
     * NULL, and other clients' requests are handled in between; later ones of
     * the client that asked wait. It goes on if that client leaves. Only one
     * such command is under way at a time: others are answered with Busy. */
    ctl_handler *step;
    /* If not NULL: called on the server's thread after a successful handler's
     * reply is in the kernel's hands (the client gets it even if the process
     * ends now), or the client is gone, or it did not take the reply for
     * CTL_SERVER_REPLY_MS. Later requests of this client wait until it returns. */
    void (*after_reply)(void *owner);
};

#define CTL_SERVER_REPLY_MS 1000

struct ctl_server_config {
    const char *path;                   /* of the socket; its folder belongs to the domain */
    const char *name;                   /* the domain's, for the greeting */
    const struct ctl_command *commands; /* stays valid until ctl_server_stop() */
    size_t command_count;
    void *owner; /* handed to the handlers and to on_kick */
    /* If not NULL: called on the server's thread soon after ctl_server_kick(),
     * once for any number of kicks that came meanwhile, and before an
     * after_reply if a kick is pending then. Never concurrently with handlers. */
    void (*on_kick)(void *owner);
    /* If not NULL: returns a new array of the last events that were handed to
     * ctl_server_broadcast(), oldest first, for a client that subscribes and
     * asks for them; NULL if there is no memory for it. On the server's thread. */
    json_t *(*past_events)(void *owner);
};

/* Binds the socket (mode 0600; a socket that is there already is replaced, so
 * hold the domain's lock) and starts the thread, which answers from then on.
 * Beside the owner's commands it knows query-commands, subscribe and
 * unsubscribe. `path` and `name` are copied. *server is set before the first
 * handler runs. -ENAMETOOLONG if the path does not fit a socket address,
 * -EEXIST if something other than a socket is there, -ENOMEM, or what the
 * kernel said; nothing is left behind then. */
int ctl_server_start(const struct ctl_server_config *config, struct ctl_server **server);

/* Makes the thread call on_kick. From any thread, with any lock held: neither
 * waits, allocates nor locks, and leaves errno alone. Not once
 * ctl_server_stop() has been called. */
void ctl_server_kick(struct ctl_server *server);

/* Queues an event (ctl_event_build()) for every client that has subscribed;
 * borrowed. Only on the server's thread: from on_kick, a handler or after_reply.
 * Never waits. For a client that does not read, BALLAST_PROTOCOL_LINE_MAX_BYTES
 * are kept; further events are dropped and counted, and when it has read half
 * of that it is told with a LOST event, where they would have stood. What was
 * queued before an after_reply has been offered to the sockets when that runs. */
void ctl_server_broadcast(struct ctl_server *server, const json_t *message);

/* Disconnects everybody, ends and joins the thread, removes the socket, frees
 * the server. NULL is allowed. Waits for a handler that is running; never call
 * it from a handler or after_reply. */
void ctl_server_stop(struct ctl_server *server);

#endif
