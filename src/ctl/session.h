/* SPDX-License-Identifier: MIT */
/*
 * One client as the control server sees it: bytes come in and are cut into
 * messages, replies and events go out. Part of the server; nobody else's business.
 *
 * Where the bytes come from and go to is a transport's matter: sockets in
 * ctl/server.c, an input in the fuzzer. Nothing here waits. What bounds it:
 *
 *  - A request is handled only while at most half of the output is in use, so
 *    that the longest reply fits into the other half: a client that does not
 *    read is not read from either.
 *  - An event is queued only if no more than half is in use afterwards. So the
 *    output never exceeds SESSION_OUTPUT_BYTES, and events alone keep no client's
 *    requests waiting. Others are counted; while any are, no event is queued,
 *    so that LOST stands where they would have stood.
 *
 * Invariant: out_sent <= out_used <= SESSION_OUTPUT_BYTES.
 *
 * Nothing is locked; the server's thread alone uses it.
 */
#ifndef BALLAST_CTL_SESSION_H
#define BALLAST_CTL_SESSION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ctl/message.h"

#define SESSION_OUTPUT_BYTES (2 * (size_t)BALLAST_PROTOCOL_LINE_MAX_BYTES)

/* How bytes travel; none of these waits. `fd` is what session_open() was given. */
struct session_transport {
    /* Takes up to `length` bytes: how many, -EAGAIN if none just now, another
     * -errno if never again. */
    ssize_t (*send)(int fd, const char *data, size_t length);
    /* Gives up to `length` bytes: how many, 0 if no more will come, -EAGAIN if
     * there are none just now, another -errno if the client is gone. */
    ssize_t (*receive)(int fd, char *data, size_t length);
    void (*close)(int fd);
};

struct session {
    const struct session_transport *transport;
    int fd; /* -1: nobody is here */
    struct ctl_framer in;
    char *out; /* out[out_sent..out_used) waits to be sent */
    size_t out_sent;
    size_t out_used;
    bool deaf;                  /* takes no more output; what it sent is still executed */
    bool eof;                   /* the client will send no more */
    bool closing;               /* close as soon as the output is sent; read nothing */
    bool subscribed;            /* wants events */
    bool waiting;               /* for the command that is under way */
    bool wants_past;            /* and those from before, after the reply */
    uint64_t lost;              /* events that were dropped and not reported yet */
    void (*after)(void *owner); /* to be called when the output is sent */
    int64_t after_deadline_ms;  /* and not later than this */
};

/* Begins with a client. It owns `fd` from then on; on -ENOMEM it does not. */
int session_open(struct session *session, const struct session_transport *transport, int fd);

/* Lets the client go, sent or not. `after` and `after_deadline_ms` stay as they are,
 * for the caller. */
void session_close(struct session *session);

/* Is somebody here? */
bool session_is_open(const struct session *session);

/* Bytes that wait to be sent. */
size_t session_output_bytes(const struct session *session);

/* Would the next request be handled, so that there is a point in receiving? */
bool session_wants_input(const struct session *session);

/* Is there something for session_next() to do without receiving more? */
bool session_is_ready(struct session *session);

/* Has all been said and done, so that it may be closed? */
bool session_is_done(const struct session *session);

/* Receives once, what there is room for. -errno: the client is gone. */
int session_receive(struct session *session);

/* Takes the next message out of what has been received: 1 and a new reference,
 * or 0: there is none, or the session may not go on now. What is no message is
 * answered here with a ParseError, and the session ends, for the stream cannot be
 * trusted after that. -errno: drop the client. */
int session_next(struct session *session, json_t **message);

/* Queues a message and drops our reference to it; NULL stands for one that there was
 * no memory for. Only in answer to what session_next() gave, or as the first: then
 * there is room. -EMSGSIZE: it is too long. -ENOMEM: drop the client, for it must not
 * wait for an answer for ever. */
int session_reply(struct session *session, json_t *message);

/* Queues an error reply, without the id (borrowed; NULL: none) if that is too long to
 * be sent back. -ENOMEM: drop the client. */
int session_reply_error(struct session *session, const struct ctl_error *error, json_t *id);

/* Queues an event that is encoded already, or counts it. `line` is NULL for one
 * that could not be encoded. */
void session_queue_event(struct session *session, const char *line, size_t length);

/* Tells the client how many events it has missed, once it has read enough. */
void session_report_lost(struct session *session);

/* Sends what the transport takes. A client that has gone may have left requests
 * behind, which are executed; their answers are dropped. */
void session_flush(struct session *session);

#endif
