/* SPDX-License-Identifier: MIT */
/*
 * The client of a control socket. See client.h.
 *
 * Each request carries a number as its id. Replies with another number belong
 * to calls that were given up; replies without one (Busy, ParseError) are
 * about the connection, so they answer whatever call is waiting. Whoever waits
 * for a reply skips events, and the other way round.
 */
#include "ctl/client.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

struct ctl_client {
    int fd;
    struct ctl_framer in;
    struct ctl_greeting greeting;
    json_int_t last_id;
};

/* Waits for the socket. 0, -ETIMEDOUT or what poll() said. */
static int wait_for(int fd, short events, int64_t deadline)
{
    struct pollfd pollfd = {.fd = fd, .events = events};

    for (;;) {
        int64_t left = deadline - clock_now_ms();
        int ret = poll(&pollfd, 1, left > 0 ? (int)left : 0);

        if (ret > 0) {
            return 0;
        }
        if (ret == 0) {
            return -ETIMEDOUT;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

/* Reads what is there into the framer; waits until something is. -ECONNRESET
 * at the end of the stream. */
static int receive(struct ctl_client *client, int64_t deadline)
{
    size_t space;
    char *at = ctl_framer_space(&client->in, &space);

    for (;;) {
        ssize_t received = recv(client->fd, at, space, MSG_DONTWAIT);
        int ret;

        if (received > 0) {
            ctl_framer_fed(&client->in, (size_t)received);
            return 0;
        }
        if (received == 0) {
            return -ECONNRESET;
        }
        if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
            return -errno;
        }
        ret = wait_for(client->fd, POLLIN, deadline);
        if (ret < 0) {
            return ret;
        }
    }
}

/* Reads the next message. */
static int receive_message(struct ctl_client *client, int64_t deadline, json_t **message)
{
    struct ctl_error error;
    const char *line;
    size_t length;
    int ret;

    while ((ret = ctl_framer_next(&client->in, &line, &length)) == 0) {
        ret = receive(client, deadline);
        if (ret < 0) {
            return ret;
        }
    }
    if (ret == 1) {
        ret = ctl_decode(line, length, message, &error);
    }
    return ret == -EMSGSIZE || ret == -EBADMSG ? -EPROTO : ret;
}

static int send_all(int fd, const char *data, size_t length, int64_t deadline)
{
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent >= 0) {
            data += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            int ret = wait_for(fd, POLLOUT, deadline);

            if (ret < 0) {
                return ret;
            }
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int connect_to(const char *path, int timeout_ms, int *connected)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* What bounds connect() itself while the server's queue is full. 0 would
     * mean for ever. */
    int limit_ms = timeout_ms > 0 ? timeout_ms : 1;
    struct timeval limit = {
        .tv_sec = limit_ms / 1000,
        .tv_usec = (limit_ms % 1000) * 1000L,
    };
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int ret = errno == EAGAIN ? -ETIMEDOUT : -errno;

        close(fd);
        return ret;
    }
    *connected = fd;
    return 0;
}

int ctl_client_connect(const char *path, int timeout_ms, struct ctl_client **client)
{
    int64_t deadline = clock_now_ms() + timeout_ms;
    struct ctl_client *made = calloc(1, sizeof(*made));
    json_t *message = NULL;
    int ret;

    if (made == NULL) {
        return -ENOMEM;
    }
    made->fd = -1;
    ret = ctl_framer_init(&made->in);
    if (ret == 0) {
        ret = connect_to(path, timeout_ms, &made->fd);
    }
    if (ret == 0) {
        ret = receive_message(made, deadline, &message);
    }
    if (ret == 0) {
        ret = ctl_greeting_read(message, &made->greeting);
        json_decref(message);
    }
    if (ret < 0) {
        ctl_client_close(made);
        return ret;
    }
    *client = made;
    return 0;
}

const struct ctl_greeting *ctl_client_greeting(const struct ctl_client *client)
{
    return &client->greeting;
}

static int find_peer(int fd, pid_t *pid)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
        return -errno;
    }
    *pid = peer.pid;
    return 0;
}

int ctl_client_peer(const struct ctl_client *client, pid_t *pid)
{
    return find_peer(client->fd, pid);
}

int ctl_client_find_listener(const char *path, int timeout_ms, pid_t *pid)
{
    int fd = -1;
    int ret = connect_to(path, timeout_ms, &fd);

    if (ret == 0) {
        ret = find_peer(fd, pid);
        close(fd);
    }
    return ret;
}

static int send_request(struct ctl_client *client, const char *command, json_t *arguments,
                        json_int_t id, int64_t deadline)
{
    json_t *request =
        json_pack("{s:s, s:O*, s:I}", "execute", command, "arguments", arguments, "id", id);
    char *line;
    size_t length;
    int ret;

    if (request == NULL) {
        return -ENOMEM;
    }
    ret = ctl_encode(request, &line, &length);
    json_decref(request);
    if (ret < 0) {
        return ret;
    }
    ret = send_all(client->fd, line, length, deadline);
    free(line);
    return ret;
}

/* Does this message answer the call with this id? */
static bool is_answer(const json_t *message, json_int_t id)
{
    const json_t *its = ctl_message_id(message);

    if (json_object_get(message, "return") != NULL) {
        return json_is_integer(its) && json_integer_value(its) == id;
    }
    if (json_object_get(message, "error") != NULL) {
        return its == NULL || (json_is_integer(its) && json_integer_value(its) == id);
    }
    return false;
}

/* Waits for the answer to the last request. */
static int finish(struct ctl_client *client, int64_t deadline, json_t **result,
                  struct ctl_error *error)
{
    for (;;) {
        json_t *message = NULL;
        bool answered;
        int ret = receive_message(client, deadline, &message);

        if (ret < 0) {
            return ret;
        }
        answered = is_answer(message, client->last_id);
        if (answered) {
            ret = ctl_reply_read(message, result, error);
        }
        json_decref(message);
        if (answered) {
            return ret;
        }
    }
}

int ctl_client_call(struct ctl_client *client, const char *command, json_t *arguments,
                    int timeout_ms, json_t **result, struct ctl_error *error)
{
    int64_t deadline = clock_now_ms() + timeout_ms;
    int ret = ctl_client_begin(client, command, arguments, timeout_ms);

    return ret < 0 ? ret : finish(client, deadline, result, error);
}

int ctl_client_begin(struct ctl_client *client, const char *command, json_t *arguments,
                     int timeout_ms)
{
    json_int_t id = ++client->last_id;
    int ret = send_request(client, command, arguments, id, clock_now_ms() + timeout_ms);

    /* A server that has hung up may have said why before it did. */
    return ret == -EPIPE ? 0 : ret;
}

int ctl_client_finish(struct ctl_client *client, int timeout_ms, json_t **result,
                      struct ctl_error *error)
{
    return finish(client, clock_now_ms() + timeout_ms, result, error);
}

int ctl_client_next_event(struct ctl_client *client, int timeout_ms, json_t **event)
{
    int64_t deadline = clock_now_ms() + timeout_ms;

    for (;;) {
        struct ctl_event read;
        json_t *message = NULL;
        int ret = receive_message(client, deadline, &message);

        if (ret < 0) {
            return ret;
        }
        if (ctl_event_read(message, &read) == 0) {
            *event = message;
            return 0;
        }
        json_decref(message);
    }
}

int ctl_client_fd(const struct ctl_client *client)
{
    return client->fd;
}

int ctl_client_wait_closed(struct ctl_client *client, int timeout_ms)
{
    int64_t deadline = clock_now_ms() + timeout_ms;
    char ignored[4096];

    for (;;) {
        ssize_t received = recv(client->fd, ignored, sizeof(ignored), MSG_DONTWAIT);

        if (received > 0 || (received < 0 && errno == EINTR)) {
            continue;
        }
        if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            int ret = wait_for(client->fd, POLLIN, deadline);

            if (ret < 0) {
                return ret;
            }
            continue;
        }
        return 0;
    }
}

void ctl_client_close(struct ctl_client *client)
{
    if (client == NULL) {
        return;
    }
    if (client->fd >= 0) {
        close(client->fd);
    }
    ctl_framer_fini(&client->in);
    free(client);
}
