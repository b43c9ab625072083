/* SPDX-License-Identifier: MIT */
/*
 * One client of the control server. See session.h.
 */
#include "ctl/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_MAX_BYTES ((size_t)BALLAST_PROTOCOL_LINE_MAX_BYTES)
/* Events may fill this much of the output; those that were dropped are reported
 * when no more than half of it is in use. */
#define EVENT_BYTES LINE_MAX_BYTES

int session_open(struct session *session, const struct session_transport *transport, int fd)
{
    struct session opened = {.transport = transport, .fd = fd};

    opened.out = malloc(SESSION_OUTPUT_BYTES);
    if (opened.out == NULL) {
        return -ENOMEM;
    }
    if (ctl_framer_init(&opened.in) < 0) {
        free(opened.out);
        return -ENOMEM;
    }
    *session = opened;
    return 0;
}

void session_close(struct session *session)
{
    session->transport->close(session->fd);
    session->fd = -1;
    session->subscribed = false;
    session->waiting = false;
    ctl_framer_fini(&session->in);
    free(session->out);
    session->out = NULL;
}

bool session_is_open(const struct session *session)
{
    return session->fd >= 0;
}

size_t session_output_bytes(const struct session *session)
{
    return session->out_used - session->out_sent;
}

/* May its next request be handled now? */
static bool may_handle(const struct session *session)
{
    return !session->closing && !session->waiting && session->after == NULL &&
           session_output_bytes(session) <= LINE_MAX_BYTES;
}

bool session_wants_input(const struct session *session)
{
    return may_handle(session) && !session->eof;
}

bool session_is_ready(struct session *session)
{
    return may_handle(session) && (ctl_framer_ready(&session->in) ||
                                   (session->eof && ctl_framer_pending(&session->in) > 0));
}

bool session_is_done(const struct session *session)
{
    return session_output_bytes(session) == 0 && session->after == NULL && !session->waiting &&
           (session->closing || (session->eof && ctl_framer_pending(&session->in) == 0));
}

int session_receive(struct session *session)
{
    size_t space;
    char *at = ctl_framer_space(&session->in, &space);
    ssize_t received;

    if (space == 0) {
        return 0;
    }
    received = session->transport->receive(session->fd, at, space);
    if (received == -EAGAIN) {
        return 0;
    }
    if (received < 0) {
        return (int)received;
    }
    session->eof = received == 0;
    ctl_framer_fed(&session->in, (size_t)received);
    return 0;
}

/* Answers with a ParseError, after which the stream cannot be trusted. */
static int refuse_line(struct session *session, const struct ctl_error *error)
{
    session->closing = true;
    return session_reply_error(session, error, NULL);
}

int session_next(struct session *session, json_t **message)
{
    struct ctl_error error;
    const char *line;
    size_t length;
    int ret;

    if (!may_handle(session)) {
        return 0;
    }
    ret = ctl_framer_next(&session->in, &line, &length);
    if (ret == 0 && session->eof && ctl_framer_pending(&session->in) > 0) {
        ctl_error_set(&error, CTL_PARSE_ERROR, "the last line is not ended by a newline");
        return refuse_line(session, &error);
    }
    if (ret == 0) {
        return 0;
    }
    if (ret == -EMSGSIZE) {
        ctl_error_set(&error, CTL_PARSE_ERROR, "the line is longer than %d bytes",
                      BALLAST_PROTOCOL_LINE_MAX_BYTES);
        return refuse_line(session, &error);
    }
    ret = ctl_decode(line, length, message, &error);
    if (ret == -EBADMSG) {
        return refuse_line(session, &error);
    }
    return ret < 0 ? ret : 1;
}

/* Appends to the output. The caller has made sure that there is room. */
static void queue(struct session *session, const char *data, size_t length)
{
    if (session->deaf) {
        return;
    }
    if (SESSION_OUTPUT_BYTES - session->out_used < length) {
        memmove(session->out, session->out + session->out_sent, session_output_bytes(session));
        session->out_used -= session->out_sent;
        session->out_sent = 0;
    }
    memcpy(session->out + session->out_used, data, length);
    session->out_used += length;
}

int session_reply(struct session *session, json_t *message)
{
    char *line;
    size_t length;
    int ret;

    if (message == NULL) {
        return -ENOMEM;
    }
    ret = ctl_encode(message, &line, &length);
    json_decref(message);
    if (ret < 0) {
        return ret;
    }
    queue(session, line, length);
    free(line);
    return 0;
}

int session_reply_error(struct session *session, const struct ctl_error *error, json_t *id)
{
    int ret = session_reply(session, ctl_reply_error(error, id));

    if (ret == -EMSGSIZE) {
        /* Only the id can be that long. */
        struct ctl_error too_long;

        ctl_error_set(&too_long, CTL_INVALID_REQUEST, "the id is too long to be sent back");
        ret = session_reply(session, ctl_reply_error(&too_long, NULL));
    }
    return ret;
}

static uint64_t realtime_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void session_report_lost(struct session *session)
{
    uint64_t lost = session->lost;

    if (lost == 0 || session->closing || session_output_bytes(session) > EVENT_BYTES / 2) {
        return;
    }
    if (session_reply(session,
                      ctl_event_build("LOST", json_pack("{s:I}", "events", (json_int_t)lost),
                                      realtime_ns())) == 0) {
        session->lost = 0;
    }
}

void session_queue_event(struct session *session, const char *line, size_t length)
{
    if (session->lost > 0 || session_output_bytes(session) + length > EVENT_BYTES) {
        session_flush(session);
        session_report_lost(session);
    }
    if (line != NULL && session->lost == 0 &&
        session_output_bytes(session) + length <= EVENT_BYTES) {
        queue(session, line, length);
    } else {
        session->lost++;
    }
}

void session_flush(struct session *session)
{
    while (session_output_bytes(session) > 0) {
        ssize_t sent = session->transport->send(session->fd, session->out + session->out_sent,
                                                session_output_bytes(session));

        if (sent == -EAGAIN) {
            return;
        }
        if (sent < 0) {
            session->deaf = true;
            break;
        }
        session->out_sent += (size_t)sent;
    }
    session->out_sent = 0;
    session->out_used = 0;
}
