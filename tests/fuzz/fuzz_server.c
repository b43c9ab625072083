/* SPDX-License-Identifier: MIT */
/*
 * The control server, as any client may meet it: whatever bytes arrive, in
 * whatever pieces, each line that comes back is a JSON object of the protocol and
 * no longer than it may be, and the connection comes to an end. One server lives
 * through all inputs, and answers a well-behaved client after every 1024th.
 */
#include "fuzz.h"

#include "ctl/server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LIMIT_MS 30000

static struct ctl_server *server;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static int echo(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    (void)error;
    *result = arguments != NULL ? json_deep_copy(arguments) : NULL;
    return 0;
}

static int refuse(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    static const char *const known[] = {"target_bytes", NULL};
    (void)owner;
    (void)result;
    if (ctl_arguments_check(arguments, known, error) == 0) {
        ctl_error_set(error, CTL_WRONG_STATE, "not now");
    }
    return -EBUSY;
}

static int tell(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    (void)arguments;
    (void)result;
    (void)error;
    json_t *event = ctl_event_build("TICK", json_object(), 1500000000);
    must(event != NULL);
    ctl_server_broadcast(server, event);
    json_decref(event);
    return 0;
}

/* A command in three steps. */
static int steps(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    static int left;
    (void)owner;
    (void)result;
    (void)error;
    left = arguments != NULL ? 3 : left - 1;
    return left > 0 ? CTL_CONTINUES : 0;
}

static void nothing(void *owner)
{
    (void)owner;
}

static json_t *past(void *owner)
{
    (void)owner;
    return json_array();
}

static void remove_folder(void)
{
    ctl_server_stop(server);
    *strrchr(address.sun_path, '/') = '\0';
    rmdir(address.sun_path);
}

static void start(void)
{
    static const struct ctl_command commands[] = {
        {"echo", echo, NULL, NULL},
        {"set-target", refuse, NULL, NULL},
        {"tell", tell, NULL, nothing},
        {"long", steps, steps, nothing},
    };
    char folder[] = "/tmp/ballast-fuzz-XXXXXX";
    must(mkdtemp(folder) != NULL);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock", folder);
    const struct ctl_server_config config = {
        .path = address.sun_path,
        .name = "fuzz",
        .commands = commands,
        .command_count = sizeof(commands) / sizeof(commands[0]),
        .on_kick = nothing,
        .past_events = past,
    };
    must(ctl_server_start(&config, &server) == 0);
    atexit(remove_folder);
}

static int connect_client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0);
    must(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

static void check_lines(struct ctl_framer *framer, unsigned *lines)
{
    const char *line;
    size_t length;
    int got;
    while ((got = ctl_framer_next(framer, &line, &length)) == 1) {
        struct ctl_error error;
        json_t *message = NULL;
        must(length <= BALLAST_PROTOCOL_LINE_MAX_BYTES);
        must(ctl_decode(line, length, &message, &error) == 0);
        must(json_is_object(message));
        json_decref(message);
        (*lines)++;
    }
    must(got == 0);
}

/* Reads what there is; waits for it if `whole`, until the server has closed the
 * connection. */
static bool read_replies(int fd, struct ctl_framer *framer, bool whole, unsigned *lines)
{
    for (;;) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        int ready = poll(&pollfd, 1, whole ? LIMIT_MS : 0);
        must(ready >= 0 && (ready == 1 || !whole)); /* it hangs */
        if (ready == 0) {
            return true;
        }
        size_t space;
        char *to = ctl_framer_space(framer, &space);
        must(space > 0);
        ssize_t got = recv(fd, to, space, MSG_DONTWAIT);
        if (got <= 0) {
            return false;
        }
        ctl_framer_fed(framer, (size_t)got);
        check_lines(framer, lines);
    }
}

/* Sends bytes in pieces; false if the server closed the connection. */
static bool send_pieces(int fd, struct ctl_framer *framer, const uint8_t *data, size_t size,
                        size_t piece, unsigned *lines)
{
    for (size_t at = 0; at < size;) {
        size_t length = size - at < piece ? size - at : piece;
        ssize_t sent = send(fd, data + at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            return false;
        }
        at += sent > 0 ? (size_t)sent : 0;
        if (!read_replies(fd, framer, false, lines)) {
            return false;
        }
    }
    return true;
}

static unsigned converse(const uint8_t *data, size_t size, size_t piece)
{
    struct ctl_framer framer = {0};
    unsigned lines = 0;
    must(ctl_framer_init(&framer) == 0);
    int fd = connect_client();
    if (send_pieces(fd, &framer, data, size, piece, &lines)) {
        shutdown(fd, SHUT_WR);
        read_replies(fd, &framer, true, &lines);
    }
    close(fd);
    ctl_framer_fini(&framer);
    return lines;
}

/* The first byte says in what pieces the rest arrives. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned inputs;
    if (size == 0) {
        return -1;
    }
    if (server == NULL) {
        start();
    }
    converse(data + 1, size - 1, (size_t)data[0] * data[0] + 1);
    if (inputs++ % 1024 == 0) {
        static const char request[] = "{\"execute\":\"echo\"}\n";
        must(converse((const uint8_t *)request, sizeof(request) - 1, 4096) == 2);
    }
    return 0;
}
