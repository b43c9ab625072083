/* SPDX-License-Identifier: MIT */
/*
 * The control server. See server.h.
 *
 * One thread waits in poll(2) for the listening socket, an eventfd that means
 * "stop" or "kick", and the clients. A client has a framer for input and a
 * fixed buffer for output. What bounds it:
 *
 *  - A request is handled only while at most half of the output is in use, so
 *    that the longest reply fits into the other half: a client that does not
 *    read is not read from either.
 *  - An event is queued only if no more than half is in use afterwards. So the
 *    output never exceeds OUTPUT_BYTES, and events alone keep no client's
 *    requests waiting. Others are counted; while any are, no event is queued,
 *    so that LOST stands where they would have stood.
 *  - A command that goes on in steps gets one step a turn.
 *  - A turn handles at most TURN_REQUESTS of one client's requests, so a flood
 *    delays the others by that much and no more.
 *  - All sockets are non-blocking.
 *
 * All state but the eventfd and `stop` belongs to the thread while it runs.
 */
#include "ctl/server.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES ((size_t)BALLAST_PROTOCOL_LINE_MAX_BYTES)
#define OUTPUT_BYTES   (2 * LINE_MAX_BYTES)
/* Events may fill this much of the output; those that were dropped are reported
 * when no more than half of it is in use. */
#define EVENT_BYTES     LINE_MAX_BYTES
#define TURN_REQUESTS   32
#define ACCEPT_PAUSE_MS 100
/* jansson parses and prints recursively, at most 2048 levels. */
#define STACK_BYTES ((size_t)2 << 20)

struct client {
    int fd; /* -1: the slot is free */
    struct ctl_framer in;
    char *out; /* out[sent..used) waits to be sent */
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

/* The command that goes on in steps, if any. */
struct job {
    const struct ctl_command *command; /* NULL: none */
    struct client *client;             /* who asked; NULL if it has gone */
    json_t *id;                        /* of the request, or NULL */
};

struct ctl_server {
    struct ctl_server_config config; /* path and name are copies */
    char *path;
    char *name;
    int listen_fd;
    int wake_fd;
    atomic_bool stop;
    pthread_t thread;
    sem_t handed_out;        /* posted when the owner has the server */
    int64_t accept_after_ms; /* the process is out of descriptors until then */
    struct job job;
    struct client clients[CTL_SERVER_CLIENTS_MAX];
};

static size_t client_output(const struct client *client)
{
    return client->out_used - client->out_sent;
}

/* May its next request be handled now? */
static bool client_may_handle(const struct client *client)
{
    return !client->closing && !client->waiting && client->after == NULL &&
           client_output(client) <= LINE_MAX_BYTES;
}

static bool client_wants_input(const struct client *client)
{
    return client_may_handle(client) && !client->eof;
}

/* Appends to the output. The caller has made sure that there is room for a
 * line: client_may_handle(). */
static void client_queue(struct client *client, const char *data, size_t length)
{
    if (client->deaf) {
        return;
    }
    if (OUTPUT_BYTES - client->out_used < length) {
        memmove(client->out, client->out + client->out_sent, client_output(client));
        client->out_used -= client->out_sent;
        client->out_sent = 0;
    }
    memcpy(client->out + client->out_used, data, length);
    client->out_used += length;
}

/* Sends what the socket takes. A client that has gone may have left requests
 * behind, which are executed; their answers are dropped. */
static void client_flush(struct client *client)
{
    while (client_output(client) > 0) {
        ssize_t sent = send(client->fd, client->out + client->out_sent, client_output(client),
                            MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent >= 0) {
            client->out_sent += (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            client->deaf = true;
            break;
        }
    }
    client->out_sent = 0;
    client->out_used = 0;
}

static uint64_t realtime_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Tells a client how many events it has missed, as soon as it has read enough. */
static void client_report_lost(struct client *client)
{
    uint64_t lost = client->lost;
    json_t *message;
    size_t length;
    char *line;
    int ret;

    if (lost == 0 || client->closing || client_output(client) > EVENT_BYTES / 2) {
        return;
    }
    message =
        ctl_event_build("LOST", json_pack("{s:I}", "events", (json_int_t)lost), realtime_ns());
    ret = message != NULL ? ctl_encode(message, &line, &length) : -ENOMEM;
    json_decref(message);
    if (ret == 0) {
        client->lost = 0;
        client_queue(client, line, length);
        free(line);
    }
}

/* Queues an event that is encoded already, or counts it. `line` is NULL for one
 * that could not be encoded. */
static void client_queue_event(struct client *client, const char *line, size_t length)
{
    if (client->lost > 0 || client_output(client) + length > EVENT_BYTES) {
        client_flush(client);
        client_report_lost(client);
    }
    if (line != NULL && client->lost == 0 && client_output(client) + length <= EVENT_BYTES) {
        client_queue(client, line, length);
    } else {
        client->lost++;
    }
}

/* Has on_kick called if there was a kick. Reads of the eventfd set it to 0. */
static void take_kick(struct ctl_server *server)
{
    uint64_t kicks;

    if (read(server->wake_fd, &kicks, sizeof(kicks)) == (ssize_t)sizeof(kicks) &&
        server->config.on_kick != NULL && !atomic_load(&server->stop)) {
        server->config.on_kick(server->config.owner);
    }
}

/* What is called may end the process, so events go out before. */
static void client_run_after(struct ctl_server *server, struct client *client)
{
    void (*after)(void *owner) = client->after;

    client->after = NULL;
    if (after == NULL) {
        return;
    }
    take_kick(server);
    for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        if (server->clients[i].fd >= 0) {
            client_flush(&server->clients[i]);
        }
    }
    after(server->config.owner);
}

static void client_drop(struct ctl_server *server, struct client *client)
{
    close(client->fd);
    client->fd = -1;
    client->subscribed = false;
    client->waiting = false;
    if (server->job.client == client) {
        server->job.client = NULL;
    }
    ctl_framer_fini(&client->in);
    free(client->out);
    client->out = NULL;
    client_run_after(server, client);
}

/* Turns a message into a line as ctl_encode() does, and drops our reference to
 * it. NULL stands for a message that there was no memory for: -ENOMEM. */
static int encode_and_drop(json_t *message, char **line, size_t *length)
{
    int ret;

    if (message == NULL) {
        return -ENOMEM;
    }
    ret = ctl_encode(message, line, length);
    json_decref(message);
    return ret;
}

/* Queues a message and drops our reference to it. A client whose answer cannot
 * be made, for want of memory, is closed: it must not wait for it for ever. */
static int client_reply(struct client *client, json_t *message)
{
    char *line;
    size_t length;
    int ret;

    ret = encode_and_drop(message, &line, &length);
    if (ret < 0) {
        return ret;
    }
    client_queue(client, line, length);
    free(line);
    return 0;
}

static int client_reply_error(struct client *client, const struct ctl_error *error, json_t *id)
{
    int ret = client_reply(client, ctl_reply_error(error, id));

    if (ret == -EMSGSIZE) {
        /* Only the id can be that long. */
        struct ctl_error too_long;

        ctl_error_set(&too_long, CTL_INVALID_REQUEST, "the id is too long to be sent back");
        ret = client_reply(client, ctl_reply_error(&too_long, NULL));
    }
    return ret;
}

/* A command of the server itself. `run` returns as a handler does. */
struct builtin {
    const char *name;
    int (*run)(struct ctl_server *server, struct client *client, const json_t *arguments,
               json_t **result, struct ctl_error *error);
    const char *const *arguments; /* that it knows; NULL: none */
};

static int query_commands(struct ctl_server *server, struct client *client, const json_t *arguments,
                          json_t **result, struct ctl_error *error);

static const char *const subscribe_arguments[] = {"past", NULL};

static int subscribe(struct ctl_server *server, struct client *client, const json_t *arguments,
                     json_t **result, struct ctl_error *error)
{
    const json_t *past = json_object_get(arguments, "past");

    (void)server;
    (void)result;
    if (past != NULL && !json_is_boolean(past)) {
        ctl_error_set(error, CTL_INVALID_ARGUMENT, "past must be true or false");
        return -EINVAL;
    }
    client->subscribed = true;
    client->wants_past = json_is_true(past);
    return 0;
}

/* What it has lost until now it does not want to hear of. */
static int unsubscribe(struct ctl_server *server, struct client *client, const json_t *arguments,
                       json_t **result, struct ctl_error *error)
{
    (void)server;
    (void)arguments;
    (void)result;
    (void)error;
    client->subscribed = false;
    client->lost = 0;
    return 0;
}

static const struct builtin builtins[] = {
    {"query-commands", query_commands, NULL},
    {"subscribe", subscribe, subscribe_arguments},
    {"unsubscribe", unsubscribe, NULL},
};

#define BUILTIN_COUNT (sizeof(builtins) / sizeof(builtins[0]))

static int query_commands(struct ctl_server *server, struct client *client, const json_t *arguments,
                          json_t **result, struct ctl_error *error)
{
    json_t *list = json_array();
    int failed = 0;

    (void)client;
    (void)arguments;
    (void)error;
    for (size_t i = 0; i < BUILTIN_COUNT; i++) {
        failed |= json_array_append_new(list, json_pack("{s:s}", "name", builtins[i].name));
    }
    for (size_t i = 0; i < server->config.command_count; i++) {
        failed |= json_array_append_new(
            list, json_pack("{s:s}", "name", server->config.commands[i].name));
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

static const struct ctl_command *find_command(const struct ctl_server *server, const char *name)
{
    for (size_t i = 0; i < server->config.command_count; i++) {
        if (strcmp(server->config.commands[i].name, name) == 0) {
            return &server->config.commands[i];
        }
    }
    return NULL;
}

/* Runs a request. 0 and *result; CTL_CONTINUES; or -errno and *error. *command is
 * NULL for a built-in one. */
static int execute(struct ctl_server *server, struct client *client,
                   const struct ctl_request *request, const struct ctl_command **command,
                   json_t **result, struct ctl_error *error)
{
    const struct builtin *builtin = find_builtin(request->command);
    const struct ctl_command *found;
    int ret;

    if (builtin != NULL) {
        ret = ctl_arguments_check(request->arguments, builtin->arguments, error);
        *command = NULL;
        return ret < 0 ? ret : builtin->run(server, client, request->arguments, result, error);
    }
    found = find_command(server, request->command);
    if (found == NULL) {
        ctl_error_set(error, CTL_COMMAND_NOT_FOUND,
                      "unknown command '%.64s'; query-commands lists the known ones",
                      request->command);
        return -ENOSYS;
    }
    if (found->step != NULL && server->job.command != NULL) {
        ctl_error_set(error, CTL_BUSY, "a %s is under way already; try again when it is done",
                      server->job.command->name);
        return -EBUSY;
    }
    *command = found;
    return found->handler(server->config.owner, request->arguments, result, error);
}

/* Gives a client that has just subscribed what its owner has kept for it. */
static void client_tell_past(struct ctl_server *server, struct client *client)
{
    json_t *events = NULL;
    json_t *event;
    size_t i;

    client->wants_past = false;
    if (server->config.past_events != NULL) {
        events = server->config.past_events(server->config.owner);
    }
    json_array_foreach(events, i, event)
    {
        size_t length = 0;
        char *line;

        if (ctl_encode(event, &line, &length) < 0) {
            line = NULL;
        }
        client_queue_event(client, line, length);
        free(line);
    }
    json_decref(events);
}

/* Answers a request that is done: with the result (our reference, or NULL), or
 * with the error if ret is -errno. -errno: drop the client. */
static int client_answer(struct ctl_server *server, struct client *client,
                         const struct ctl_command *command, int ret, json_t *result,
                         struct ctl_error *error, json_t *id)
{
    if (ret < 0) {
        json_decref(result);
        return client_reply_error(client, error, id);
    }
    ret = client_reply(client, ctl_reply_return(result, id));
    if (ret == -EMSGSIZE) {
        ctl_error_set(error, CTL_INVALID_REQUEST,
                      "the command was executed, but its reply with this id is longer than %d "
                      "bytes; send a shorter id",
                      BALLAST_PROTOCOL_LINE_MAX_BYTES);
        ret = client_reply_error(client, error, NULL);
    }
    if (client->wants_past) {
        client_tell_past(server, client);
    }
    if (command != NULL && command->after_reply != NULL) {
        client->after = command->after_reply;
        client->after_deadline_ms = clock_now_ms() + CTL_SERVER_REPLY_MS;
    }
    return ret;
}

/* Executes and answers one decoded message, or begins to. -errno: drop the client. */
static int client_handle_message(struct ctl_server *server, struct client *client, json_t *message)
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
        ret = execute(server, client, &request, &command, &result, &error);
    }
    if (ret == CTL_CONTINUES) {
        server->job = (struct job){command, client, json_incref(id)};
        client->waiting = true;
        return 0;
    }
    return client_answer(server, client, command, ret, result, &error, id);
}

/* Does one step of the command that is under way, if there is one. */
static void job_turn(struct ctl_server *server)
{
    struct job job = server->job;
    struct ctl_error error;
    json_t *result = NULL;
    int ret;

    if (job.command == NULL) {
        return;
    }
    ctl_error_set(&error, CTL_WRONG_STATE, "the command failed");
    ret = job.command->step(server->config.owner, NULL, &result, &error);
    if (ret == CTL_CONTINUES) {
        return;
    }
    server->job = (struct job){0};
    if (job.client == NULL) {
        json_decref(result);
    } else {
        job.client->waiting = false;
        if (client_answer(server, job.client, job.command, ret, result, &error, job.id) < 0) {
            client_drop(server, job.client);
        }
    }
    json_decref(job.id);
}

/* Answers with a ParseError, after which the stream cannot be trusted. */
static int client_refuse_line(struct client *client, const struct ctl_error *error)
{
    client->closing = true;
    return client_reply_error(client, error, NULL);
}

/* Handles what has been received, as far as a turn goes. -errno: drop the client. */
static int client_handle_input(struct ctl_server *server, struct client *client)
{
    struct ctl_error error;

    for (int turn = 0; turn < TURN_REQUESTS && client_may_handle(client); turn++) {
        const char *line;
        size_t length;
        json_t *message;
        int ret = ctl_framer_next(&client->in, &line, &length);

        if (ret == 0 && client->eof && ctl_framer_pending(&client->in) > 0) {
            ctl_error_set(&error, CTL_PARSE_ERROR, "the last line is not ended by a newline");
            return client_refuse_line(client, &error);
        }
        if (ret == 0) {
            return 0;
        }
        if (ret == -EMSGSIZE) {
            ctl_error_set(&error, CTL_PARSE_ERROR, "the line is longer than %d bytes",
                          BALLAST_PROTOCOL_LINE_MAX_BYTES);
            return client_refuse_line(client, &error);
        }
        ret = ctl_decode(line, length, &message, &error);
        if (ret == -EBADMSG) {
            return client_refuse_line(client, &error);
        }
        if (ret == 0) {
            ret = client_handle_message(server, client, message);
            json_decref(message);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Reads once. -errno if the client is gone. */
static int client_receive(struct client *client)
{
    size_t space;
    char *at = ctl_framer_space(&client->in, &space);
    ssize_t received;

    if (space == 0) {
        return 0;
    }
    do {
        received = recv(client->fd, at, space, MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    if (received < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    }
    if (received == 0) {
        client->eof = true;
    }
    ctl_framer_fed(&client->in, (size_t)received);
    return 0;
}

/* Is there something to do for it without waiting for the socket? */
static bool client_is_ready(struct client *client)
{
    return client_may_handle(client) &&
           (ctl_framer_ready(&client->in) || (client->eof && ctl_framer_pending(&client->in) > 0));
}

static bool client_is_done(struct client *client)
{
    return client_output(client) == 0 && client->after == NULL && !client->waiting &&
           (client->closing || (client->eof && ctl_framer_pending(&client->in) == 0));
}

static void client_turn(struct ctl_server *server, struct client *client, short events)
{
    int ret = 0;

    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && client_wants_input(client)) {
        ret = client_receive(client);
    }
    if (ret == 0) {
        ret = client_handle_input(server, client);
    }
    if (ret < 0) {
        client_drop(server, client);
        return;
    }
    client_flush(client);
    client_report_lost(client);
    if (client->after != NULL &&
        (client_output(client) == 0 || clock_now_ms() >= client->after_deadline_ms)) {
        client_run_after(server, client);
    }
    if (client_is_done(client)) {
        client_drop(server, client);
    }
}

static struct client *find_free_slot(struct ctl_server *server)
{
    for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        if (server->clients[i].fd < 0) {
            return &server->clients[i];
        }
    }
    return NULL;
}

/* Is the other end somebody who may command the domain? The socket's mode says
 * so already; this holds even if somebody changed it. */
static bool is_peer_allowed(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

/* Sends a message on a socket that has just been accepted; its buffer is empty
 * and takes it whole. */
static int send_at_once(int fd, json_t *message)
{
    char *line;
    size_t length;
    ssize_t sent;
    int ret;

    ret = encode_and_drop(message, &line, &length);
    if (ret < 0) {
        return ret;
    }
    sent = send(fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    free(line);
    return sent == (ssize_t)length ? 0 : -EPIPE;
}

static int client_open(struct client *client, int fd)
{
    struct client opened = {.fd = fd};

    opened.out = malloc(OUTPUT_BYTES);
    if (opened.out == NULL) {
        return -ENOMEM;
    }
    if (ctl_framer_init(&opened.in) < 0) {
        free(opened.out);
        return -ENOMEM;
    }
    *client = opened;
    return 0;
}

/* Tells a client for whom there is no place, as far as its socket takes it. */
static void turn_away(const struct ctl_server *server, int fd)
{
    struct ctl_error error;

    ctl_error_set(&error, CTL_BUSY, "%d clients are connected already; try again when one is gone",
                  CTL_SERVER_CLIENTS_MAX);
    if (send_at_once(fd, ctl_greeting_build(server->name)) == 0) {
        send_at_once(fd, ctl_reply_error(&error, NULL));
    }
    close(fd);
}

static void welcome(struct ctl_server *server, int fd)
{
    struct client *client = find_free_slot(server);

    if (!is_peer_allowed(fd)) {
        close(fd);
    } else if (client == NULL) {
        turn_away(server, fd);
    } else if (client_open(client, fd) < 0) {
        close(fd);
    } else if (client_reply(client, ctl_greeting_build(server->name)) < 0) {
        client_drop(server, client);
    }
}

static void accept_client(struct ctl_server *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        welcome(server, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        /* The socket stays readable: without a pause this would be a busy loop. */
        server->accept_after_ms = clock_now_ms() + ACCEPT_PAUSE_MS;
    }
}

/* How long poll() may wait, in ms; -1 for ever. */
static int wait_ms(struct ctl_server *server, int64_t now)
{
    int64_t until = INT64_MAX;

    if (server->job.command != NULL) {
        return 0;
    }
    if (server->accept_after_ms > now) {
        until = server->accept_after_ms;
    }
    for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        struct client *client = &server->clients[i];

        if (client->fd < 0) {
            continue;
        }
        if (client_is_ready(client)) {
            return 0;
        }
        if (client->after != NULL && client->after_deadline_ms < until) {
            until = client->after_deadline_ms;
        }
    }
    if (until == INT64_MAX) {
        return -1;
    }
    return until <= now ? 0 : (int)(until - now);
}

static short client_events(const struct client *client)
{
    int events =
        (client_wants_input(client) ? POLLIN : 0) | (client_output(client) > 0 ? POLLOUT : 0);

    return (short)events;
}

static void serve(struct ctl_server *server)
{
    enum { WAKE, LISTEN, FIRST_CLIENT };

    while (!atomic_load(&server->stop)) {
        struct pollfd fds[FIRST_CLIENT + CTL_SERVER_CLIENTS_MAX];
        int64_t now = clock_now_ms();

        fds[WAKE] = (struct pollfd){.fd = server->wake_fd, .events = POLLIN};
        fds[LISTEN] = (struct pollfd){
            .fd = server->accept_after_ms > now ? -1 : server->listen_fd,
            .events = POLLIN,
        };
        for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
            /* A free slot's -1 is skipped by poll(). */
            fds[FIRST_CLIENT + i] = (struct pollfd){
                .fd = server->clients[i].fd,
                .events = client_events(&server->clients[i]),
            };
        }
        if (poll(fds, FIRST_CLIENT + CTL_SERVER_CLIENTS_MAX, wait_ms(server, now)) < 0 &&
            errno != EINTR) {
            /* Only ENOMEM is left. */
            server->accept_after_ms = clock_now_ms() + ACCEPT_PAUSE_MS;
            usleep(ACCEPT_PAUSE_MS * 1000);
            continue;
        }
        if ((fds[WAKE].revents & POLLIN) != 0) {
            take_kick(server);
        }
        for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
            if (server->clients[i].fd >= 0 && !atomic_load(&server->stop)) {
                client_turn(server, &server->clients[i], fds[FIRST_CLIENT + i].revents);
            }
        }
        if ((fds[LISTEN].revents & POLLIN) != 0) {
            accept_client(server);
        }
        job_turn(server);
    }
}

static void *server_thread(void *argument)
{
    struct ctl_server *server = argument;

    pthread_setname_np(pthread_self(), "ballast-ctl");
    while (sem_wait(&server->handed_out) < 0) {
        /* EINTR, though all signals are blocked. */
    }
    serve(server);
    return NULL;
}

/* Starts the thread with all signals blocked, so that the process's own
 * signals go to its own threads. */
static int start_thread(struct ctl_server *server)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int ret = pthread_attr_init(&attributes);

    if (ret != 0) {
        return -ret;
    }
    sigfillset(&all);
    ret = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (ret == 0) {
        ret = pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    if (ret == 0) {
        ret = pthread_create(&server->thread, &attributes, server_thread, server);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return -ret;
}

/* Removes a socket that an earlier process left. */
static int remove_old_socket(const char *path)
{
    struct stat status;

    if (lstat(path, &status) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return -EEXIST;
    }
    return unlink(path) < 0 ? -errno : 0;
}

static int listen_at(const char *path, int *listen_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ret;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    ret = remove_old_socket(path);
    if (ret < 0) {
        return ret;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    /* The socket takes its mode from the descriptor when it is bound: nobody
     * can get in between. chmod() gives back what the umask took. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        ret = -errno;
        close(fd);
        return ret;
    }
    if (chmod(path, 0600) < 0 || listen(fd, CTL_SERVER_CLIENTS_MAX) < 0) {
        ret = -errno;
        unlink(path);
        close(fd);
        return ret;
    }
    *listen_fd = fd;
    return 0;
}

/* Frees a server whose thread does not run. */
static void server_free(struct ctl_server *server)
{
    for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        struct client *client = &server->clients[i];

        if (client->fd >= 0) {
            client_flush(client);
            client->after = NULL;
            client_drop(server, client);
        }
    }
    if (server->listen_fd >= 0) {
        unlink(server->path);
        close(server->listen_fd);
    }
    if (server->wake_fd >= 0) {
        close(server->wake_fd);
    }
    json_decref(server->job.id);
    sem_destroy(&server->handed_out);
    free(server->path);
    free(server->name);
    free(server);
}

int ctl_server_start(const struct ctl_server_config *config, struct ctl_server **server)
{
    struct ctl_server *made = calloc(1, sizeof(*made));
    int ret;

    if (made == NULL) {
        return -ENOMEM;
    }
    made->config = *config;
    sem_init(&made->handed_out, 0, 0);
    made->listen_fd = -1;
    made->wake_fd = -1;
    for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        made->clients[i].fd = -1;
    }
    made->path = strdup(config->path);
    made->name = strdup(config->name);
    ret = made->path != NULL && made->name != NULL ? 0 : -ENOMEM;
    if (ret == 0) {
        made->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        ret = made->wake_fd < 0 ? -errno : 0;
    }
    if (ret == 0) {
        ret = listen_at(made->path, &made->listen_fd);
    }
    if (ret == 0) {
        ret = start_thread(made);
    }
    if (ret < 0) {
        server_free(made);
        return ret;
    }
    *server = made;
    /* Handlers may want that for a broadcast. */
    sem_post(&made->handed_out);
    return 0;
}

void ctl_server_kick(struct ctl_server *server)
{
    const uint64_t one = 1;
    int saved = errno;

    /* It fails only if the counter is full, and then the thread will wake too. */
    (void)!write(server->wake_fd, &one, sizeof(one));
    errno = saved;
}

void ctl_server_broadcast(struct ctl_server *server, const json_t *message)
{
    size_t length = 0;
    char *line = NULL;

    for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
        struct client *client = &server->clients[i];

        if (client->fd < 0 || !client->subscribed || client->closing) {
            continue;
        }
        if (line == NULL && ctl_encode(message, &line, &length) < 0) {
            line = NULL;
        }
        client_queue_event(client, line, length);
    }
    free(line);
}

void ctl_server_stop(struct ctl_server *server)
{
    if (server == NULL) {
        return;
    }
    atomic_store(&server->stop, true);
    ctl_server_kick(server);
    pthread_join(server->thread, NULL);
    server_free(server);
}
