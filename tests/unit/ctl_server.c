/* SPDX-License-Identifier: MIT */
/* The control server and client over real sockets: well-behaved clients, and
 * those that are not. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/client.h"
#include "ctl/server.h"

#define LINE_MAX_BYTES ((size_t)BALLAST_PROTOCOL_LINE_MAX_BYTES)
/* No test waits this long unless something hangs. */
#define LIMIT_MS 30000

struct fixture {
    char root[64];
    char path[96];
    struct ctl_server *server;
    atomic_int pings;
    atomic_int afters;
    atomic_llong made;   /* ticks that are to be told */
    atomic_llong told;   /* ticks that on_kick has told; it alone writes this */
    atomic_int overlaps; /* on_kick or a handler was called while another ran */
    atomic_bool busy;
    long long told_at_after; /* `told` when count_after() ran */
    int steps;               /* that the long command has still to go on; -1: until `enough` */
    bool fails;              /* then it fails */
    atomic_int stepped;      /* calls of its step */
    atomic_bool enough;
};

/* What runs on the server's thread is in a pair of these. */
static void enter(struct fixture *fixture)
{
    if (atomic_exchange(&fixture->busy, true)) {
        atomic_fetch_add(&fixture->overlaps, 1);
    }
}

static void leave(struct fixture *fixture)
{
    atomic_store(&fixture->busy, false);
}

static json_t *make_event(const char *name, long long number)
{
    json_t *event = ctl_event_build(name, json_pack("{s:I}", "n", (json_int_t)number), 1500000000);

    assert_non_null(event);
    return event;
}

static void tell(struct fixture *fixture, const char *name, long long number)
{
    json_t *event = make_event(name, number);

    ctl_server_broadcast(fixture->server, event);
    json_decref(event);
}

/* Tells all ticks that were made and not told. */
static void on_kick(void *owner)
{
    struct fixture *fixture = owner;
    long long made = atomic_load(&fixture->made);

    enter(fixture);
    while (fixture->told < made) {
        tell(fixture, "TICK", atomic_fetch_add(&fixture->told, 1));
    }
    leave(fixture);
}

/* The last PAST ticks that were told. */
enum { PAST = 5 };

static json_t *past_events(void *owner)
{
    struct fixture *fixture = owner;
    long long told = fixture->told;
    json_t *events = json_array();

    enter(fixture);
    for (long long i = told > PAST ? told - PAST : 0; i < told; i++) {
        assert_int_equal(json_array_append_new(events, make_event("TICK", i)), 0);
    }
    leave(fixture);
    return events;
}

/* As an agent does that notes events and kicks. */
static void make_ticks(struct fixture *fixture, long long count)
{
    atomic_fetch_add(&fixture->made, count);
    ctl_server_kick(fixture->server);
}

static int ping(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    static const char *const known[] = {"text", NULL};
    struct fixture *fixture = owner;
    const json_t *text = json_object_get(arguments, "text");
    int ret = ctl_arguments_check(arguments, known, error);

    if (ret < 0) {
        return ret;
    }
    enter(fixture);
    atomic_fetch_add(&fixture->pings, 1);
    if (text != NULL) {
        *result = json_pack("{s:O}", "text", text);
    }
    leave(fixture);
    return 0;
}

/* As long a reply as a line may hold, with an id of a few bytes. */
static int flood(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    size_t length = LINE_MAX_BYTES - 100;
    char *text = malloc(length);

    (void)owner;
    (void)arguments;
    (void)error;
    if (text == NULL) {
        return -ENOMEM;
    }
    memset(text, 'f', length);
    *result = json_pack("{s:o}", "text", json_stringn(text, length));
    free(text);
    return 0;
}

static int refuse(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    (void)arguments;
    (void)result;
    ctl_error_set(error, CTL_WRONG_STATE, "not now");
    return -EBUSY;
}

static void count_after(void *owner)
{
    struct fixture *fixture = owner;

    fixture->told_at_after = fixture->told;
    atomic_fetch_add(&fixture->afters, 1);
}

/* Tells an event before its reply. */
static int tell_now(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)arguments;
    (void)result;
    (void)error;
    tell(owner, "NOW", 0);
    return 0;
}

/* Makes a tick, as a command does that ends the domain. */
static int tick(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)arguments;
    (void)result;
    (void)error;
    make_ticks(owner, 1);
    return 0;
}

/* Goes on until as many steps were made as its first call asked for. The last one
 * fails if that was asked for. */
static int go_on(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    struct fixture *fixture = owner;

    if (arguments != NULL) {
        fixture->steps = (int)json_integer_value(json_object_get(arguments, "steps"));
        fixture->fails = json_is_true(json_object_get(arguments, "fails"));
    } else {
        atomic_fetch_add(&fixture->stepped, 1);
    }
    if (fixture->steps < 0 ? !atomic_load(&fixture->enough) : fixture->steps-- > 0) {
        return CTL_CONTINUES;
    }
    if (fixture->fails) {
        ctl_error_set(error, CTL_HOST_MEMORY, "it did not work out");
        return -ENOMEM;
    }
    *result = json_pack("{s:b}", "long", 1);
    return 0;
}

static const struct ctl_command commands[] = {
    {"now", tell_now, NULL, NULL},
    {"tick", tick, NULL, count_after},
    {"ping", ping, NULL, NULL},
    {"flood", flood, NULL, NULL},
    {"refuse", refuse, NULL, count_after},
    {"last", ping, NULL, count_after},
    {"long", go_on, go_on, count_after},
};

static int start(struct fixture *fixture)
{
    const struct ctl_server_config config = {
        .path = fixture->path,
        .name = "vm1",
        .commands = commands,
        .command_count = sizeof(commands) / sizeof(commands[0]),
        .owner = fixture,
        .on_kick = on_kick,
        .past_events = past_events,
    };

    return ctl_server_start(&config, &fixture->server);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    if (fixture == NULL) {
        return -1;
    }
    snprintf(fixture->root, sizeof(fixture->root), "/tmp/ballast-test-XXXXXX");
    if (mkdtemp(fixture->root) == NULL) {
        return -1;
    }
    snprintf(fixture->path, sizeof(fixture->path), "%s/control.sock", fixture->root);
    *state = fixture;
    return start(fixture);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    bool is_left;

    ctl_server_stop(fixture->server);
    is_left = access(fixture->path, F_OK) == 0;
    unlink(fixture->path);
    rmdir(fixture->root);
    free(fixture);
    return is_left ? -1 : 0;
}

static struct ctl_client *open_client(const struct fixture *fixture)
{
    struct ctl_client *client = NULL;

    assert_int_equal(ctl_client_connect(fixture->path, LIMIT_MS, &client), 0);
    return client;
}

static int call(struct ctl_client *client, const char *command, struct ctl_error *error)
{
    json_t *result = NULL;
    int ret = ctl_client_call(client, command, NULL, LIMIT_MS, &result, error);

    json_decref(result);
    return ret;
}

/* A socket without our client's manners. */
static int open_socket(const struct fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, fixture->path, strlen(fixture->path));
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until the server closes; the text is for free(). */
static char *read_to_end(int fd)
{
    size_t size = 4 * LINE_MAX_BYTES;
    char *text = calloc(1, size);
    size_t used = 0;

    assert_non_null(text);
    for (;;) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        ssize_t received;

        assert_int_equal(poll(&pollfd, 1, LIMIT_MS), 1);
        received = recv(fd, text + used, size - 1 - used, 0);
        if (received <= 0) {
            return text;
        }
        used += (size_t)received;
        assert_true(used < size - 1);
    }
}

/* How often a piece is in a text. */
static int count(const char *text, const char *piece)
{
    int found = 0;

    for (const char *at = text; (at = strstr(at, piece)) != NULL; at++) {
        found++;
    }
    return found;
}

static void calls(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *client = open_client(fixture);
    json_t *arguments = json_pack("{s:s}", "text", "h\xc3\xa9llo");
    struct ctl_error error;
    json_t *result = NULL;
    pid_t pid = 0;

    assert_string_equal(ctl_client_greeting(client)->name, "vm1");
    assert_int_equal(ctl_client_greeting(client)->major, BALLAST_PROTOCOL_MAJOR);
    assert_int_equal(ctl_client_peer(client, &pid), 0);
    assert_int_equal(pid, getpid());
    pid = 0;
    assert_int_equal(ctl_client_find_listener(fixture->path, LIMIT_MS, &pid), 0);
    assert_int_equal(pid, getpid());

    assert_int_equal(ctl_client_call(client, "ping", arguments, LIMIT_MS, &result, &error), 0);
    assert_true(json_equal(result, arguments));
    json_decref(result);
    json_decref(arguments);
    assert_int_equal(call(client, "none", &error), -EREMOTEIO);
    assert_string_equal(error.class_name, "CommandNotFound");
    assert_int_equal(call(client, "refuse", &error), -EREMOTEIO);
    assert_string_equal(error.class_name, "WrongState");
    assert_string_equal(error.desc, "not now");
    arguments = json_pack("{s:i}", "unknown", 1);
    assert_int_equal(ctl_client_call(client, "ping", arguments, LIMIT_MS, &result, &error),
                     -EREMOTEIO);
    assert_string_equal(error.class_name, "InvalidArgument");
    assert_int_equal(
        ctl_client_call(client, "query-commands", arguments, LIMIT_MS, &result, &error),
        -EREMOTEIO);
    json_decref(arguments);
    assert_int_equal(ctl_client_call(client, "query-commands", NULL, LIMIT_MS, &result, &error), 0);
    assert_int_equal(json_array_size(json_object_get(result, "commands")), 10);
    json_decref(result);
    /* Nothing of this hurt the connection, and a refused command has no after. */
    assert_int_equal(call(client, "ping", &error), 0);
    assert_int_equal(fixture->afters, 0);
    ctl_client_close(client);
}

static void mode_of_the_socket(void **state)
{
    struct fixture *fixture = *state;
    struct stat status;
    mode_t before;

    assert_int_equal(stat(fixture->path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    /* Whatever the process's umask is, and it is not changed. */
    ctl_server_stop(fixture->server);
    fixture->server = NULL;
    before = umask(0777);
    assert_int_equal(start(fixture), 0);
    assert_int_equal(umask(before), 0777);
    assert_int_equal(stat(fixture->path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void starting(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_server *untouched = (struct ctl_server *)state;
    struct ctl_server_config config = {.path = fixture->path, .name = "vm1", .owner = fixture};
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
    struct ctl_client *client;
    struct ctl_error error;
    int fd;

    memset(path, 'x', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    config.path = path;
    assert_int_equal(ctl_server_start(&config, &untouched), -ENAMETOOLONG);
    assert_int_equal(ctl_client_connect(path, LIMIT_MS, &client), -ENAMETOOLONG);
    config.path = "/no/such/place";
    assert_int_equal(ctl_server_start(&config, &untouched), -ENOENT);
    assert_int_equal(ctl_client_connect(config.path, LIMIT_MS, &client), -ENOENT);
    assert_ptr_equal(untouched, state);

    ctl_server_stop(fixture->server);
    fixture->server = NULL;
    assert_int_not_equal(access(fixture->path, F_OK), 0);
    /* A file in the socket's place stays. */
    fd = open(fixture->path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(start(fixture), -EEXIST);
    assert_int_equal(access(fixture->path, F_OK), 0);
    assert_int_equal(unlink(fixture->path), 0);
    /* A dead process's socket does not. */
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        memcpy(address.sun_path, fixture->path, strlen(fixture->path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    }
    close(fd);
    assert_int_equal(ctl_client_connect(fixture->path, LIMIT_MS, &client), -ECONNREFUSED);
    assert_int_equal(start(fixture), 0);
    client = open_client(fixture);
    assert_int_equal(call(client, "ping", &error), 0);
    ctl_client_close(client);
}

/* The answers come in the order of the requests, with their ids, and all of
 * them even though the client has closed its half already. */
static void pipelining(void **state)
{
    struct fixture *fixture = *state;
    int fd = open_socket(fixture);
    const char *at;
    char *text;

    for (int i = 0; i < 100; i++) {
        char line[64];

        snprintf(line, sizeof(line), "{\"execute\": \"ping\", \"id\": \"n%d.\"}\r\n", i);
        send_text(fd, line);
    }
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    text = read_to_end(fd);
    assert_int_equal(count(text, "\"return\""), 100);
    at = text;
    for (int i = 0; i < 100; i++) {
        char id[16];

        snprintf(id, sizeof(id), "\"n%d.\"", i);
        at = strstr(at, id);
        assert_non_null(at);
    }
    free(text);
    close(fd);
}

/* After bytes that make no sense the server says so and hangs up. */
static void nonsense(void **state)
{
    static const char *const lines[] = {
        "hello\n", "\n", "{\"execute\": \"ping\"\n", "[]\n", "\xff\xfe\n", "GET / HTTP/1.1\r\n\r\n",
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        int fd = open_socket(fixture);
        char *text;

        send_text(fd, lines[i]);
        text = read_to_end(fd);
        assert_int_equal(count(text, "\"BALLAST\""), 1);
        assert_int_equal(count(text, "\"ParseError\""), 1);
        assert_int_equal(count(text, "\n"), 2);
        free(text);
        close(fd);
    }
    /* Bad requests are no nonsense: the connection goes on. */
    {
        int fd = open_socket(fixture);
        char *text;

        send_text(fd, "{\"execute\": 5, \"id\": 1}\n{}\n{\"execute\": \"ping\", \"id\": 2}\n");
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        text = read_to_end(fd);
        assert_int_equal(count(text, "\"InvalidRequest\""), 2);
        assert_int_equal(count(text, "{\"return\": {}, \"id\": 2}"), 1);
        free(text);
        close(fd);
    }
}

/* Sends `length` bytes of padding and what follows; stops if the server hangs up. */
static char *send_long(const struct fixture *fixture, const char *before, size_t length,
                       const char *after)
{
    int fd = open_socket(fixture);
    char *padding = malloc(length);
    char *text;
    size_t sent = 0;

    assert_non_null(padding);
    memset(padding, 'p', length);
    send_text(fd, before);
    while (sent < length) {
        ssize_t ret = send(fd, padding + sent, length - sent, MSG_NOSIGNAL);

        if (ret < 0) {
            break;
        }
        sent += (size_t)ret;
    }
    (void)!send(fd, after, strlen(after), MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    text = read_to_end(fd);
    close(fd);
    free(padding);
    return text;
}

static void long_lines(void **state)
{
    static const char before[] = "{\"execute\": \"ping\", \"arguments\": {\"text\": \"";
    static const char after[] = "\"}}\n";
    struct fixture *fixture = *state;
    size_t fits = LINE_MAX_BYTES - strlen(before) - strlen(after);
    char *text = send_long(fixture, before, fits, after);

    assert_int_equal(count(text, "\"return\""), 1);
    free(text);
    text = send_long(fixture, before, fits + 1, after);
    assert_int_equal(count(text, "\"ParseError\""), 1);
    assert_int_equal(count(text, "\"return\""), 0);
    free(text);
    text = send_long(fixture, "", 8 * LINE_MAX_BYTES, "\n");
    assert_int_equal(count(text, "\"ParseError\""), 1);
    free(text);
    /* Ids that come back, and those that are too long to: the request was
     * within the limit, its answer would not be. */
    text = send_long(fixture, "{\"execute\":\"ping\",\"id\":\"", LINE_MAX_BYTES - 27, "\"}\n");
    assert_int_equal(count(text, "\"return\""), 1);
    free(text);
    text = send_long(fixture, "{\"execute\":\"flood\",\"id\":\"", 200, "\"}\n");
    assert_int_equal(count(text, "\"InvalidRequest\""), 1);
    assert_int_equal(count(text, "was executed"), 1);
    free(text);
    text = send_long(fixture, "{\"execute\":\"none\",\"id\":\"", LINE_MAX_BYTES - 27, "\"}\n");
    assert_int_equal(count(text, "\"InvalidRequest\""), 1);
    free(text);
}

static void half_a_line(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *client = open_client(fixture);
    struct ctl_error error;
    char *text;
    int fd = open_socket(fixture);

    /* Gone in the middle of a line, and of a greeting. */
    send_text(fd, "{\"execute\": \"pi");
    close(fd);
    close(open_socket(fixture));
    fd = open_socket(fixture);
    send_text(fd, "{\"execute\": \"ping\"}");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    text = read_to_end(fd);
    assert_int_equal(count(text, "\"ParseError\""), 1);
    free(text);
    close(fd);
    assert_int_equal(call(client, "ping", &error), 0);
    assert_int_equal(fixture->pings, 1);
    ctl_client_close(client);
}

static void too_many_clients(void **state)
{
    enum { CLIENTS = 20 };
    struct fixture *fixture = *state;
    struct ctl_client *clients[CLIENTS];
    struct ctl_error error;
    int busy = 0;

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = open_client(fixture);
    }
    for (int i = 0; i < CLIENTS; i++) {
        int ret = call(clients[i], "ping", &error);

        if (i < CTL_SERVER_CLIENTS_MAX) {
            assert_int_equal(ret, 0);
        } else {
            assert_int_equal(ret, -EREMOTEIO);
            assert_string_equal(error.class_name, "Busy");
            assert_int_equal(ctl_client_wait_closed(clients[i], LIMIT_MS), 0);
            busy++;
        }
    }
    assert_int_equal(busy, CLIENTS - CTL_SERVER_CLIENTS_MAX);
    for (int i = 0; i < CLIENTS; i++) {
        ctl_client_close(clients[i]);
    }
    /* The places become free. When the server gets to know is its affair. */
    for (;;) {
        struct ctl_client *client = open_client(fixture);
        int ret = call(client, "ping", &error);

        ctl_client_close(client);
        if (ret == 0) {
            break;
        }
        assert_string_equal(error.class_name, "Busy");
    }
}

/* Somebody who asks and asks and never reads: he is not read from any more, and
 * the others are served. */
static void a_client_that_does_not_read(void **state)
{
    static const char request[] = "{\"execute\": \"flood\"}\n";
    struct fixture *fixture = *state;
    struct ctl_client *client = open_client(fixture);
    struct ctl_error error;
    int fd = open_socket(fixture);
    size_t sent = 0;
    bool full = false;

    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (!full) {
        ssize_t ret = send(fd, request + sent, strlen(request) - sent, MSG_NOSIGNAL);

        if (ret > 0) {
            sent = (sent + (size_t)ret) % strlen(request);
        } else {
            struct pollfd pollfd = {.fd = fd, .events = POLLOUT};

            assert_int_equal(errno, EAGAIN);
            /* The server goes on reading for a while, until its buffers are full. */
            full = poll(&pollfd, 1, 200) == 0;
        }
        assert_int_equal(call(client, "ping", &error), 0);
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(call(client, "ping", &error), 0);
    }
    close(fd);
    assert_int_equal(call(client, "ping", &error), 0);
    ctl_client_close(client);
}

static void after_the_reply(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *client = open_client(fixture);
    struct ctl_error error;
    char *text;
    int fd;

    assert_int_equal(call(client, "last", &error), 0);
    /* The next request is handled when the callback has returned. */
    assert_int_equal(call(client, "ping", &error), 0);
    assert_int_equal(fixture->afters, 1);

    /* Once for each, also if they come together. */
    fd = open_socket(fixture);
    send_text(fd, "{\"execute\": \"last\"}\n{\"execute\": \"last\"}\n{\"execute\": \"ping\"}\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    text = read_to_end(fd);
    assert_int_equal(count(text, "\"return\""), 3);
    assert_int_equal(fixture->afters, 3);
    free(text);
    close(fd);

    /* And if nobody waits for the reply. */
    fd = open_socket(fixture);
    send_text(fd, "{\"execute\": \"last\"}\n");
    close(fd);
    for (int ms = 0; fixture->afters < 4 && ms < LIMIT_MS; ms += 10) {
        poll(NULL, 0, 10);
    }
    assert_int_equal(fixture->afters, 4);
    ctl_client_close(client);
}

/* A reply that the client does not take does not hold up what comes after. */
static void after_a_reply_that_is_not_read(void **state)
{
    struct fixture *fixture = *state;
    int fd = open_socket(fixture);

    for (int i = 0; i < 2; i++) {
        send_text(fd, "{\"execute\": \"flood\"}\n");
    }
    send_text(fd, "{\"execute\": \"last\"}\n");
    for (int ms = 0; fixture->afters < 1 && ms < LIMIT_MS; ms += 10) {
        poll(NULL, 0, 10);
    }
    assert_int_equal(fixture->afters, 1);
    close(fd);
}

static void wait_for(const atomic_int *counter, int value)
{
    for (int ms = 0; atomic_load(counter) < value; ms++) {
        assert_true(ms < LIMIT_MS);
        usleep(1000);
    }
}

/* A command in steps is answered when it is done; others are served meanwhile. */
static void a_long_command(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *other = open_client(fixture);
    struct ctl_error error;
    json_t *result = NULL;
    int fd = open_socket(fixture);
    char *text;

    send_text(fd, "{\"execute\":\"long\",\"arguments\":{\"steps\":-1},\"id\":1}\n"
                  "{\"execute\":\"ping\",\"id\":2}\n");
    wait_for(&fixture->stepped, 3);
    assert_int_equal(call(other, "ping", &error), 0);
    assert_int_equal(call(other, "long", &error), -EREMOTEIO);
    assert_string_equal(error.class_name, CTL_BUSY);
    assert_non_null(strstr(error.desc, "a long is under way"));
    assert_int_equal(atomic_load(&fixture->pings), 1); /* the one that waits has not had its own */
    assert_int_equal(atomic_load(&fixture->afters), 0);
    shutdown(fd, SHUT_WR); /* it still listens */
    atomic_store(&fixture->enough, true);
    text = read_to_end(fd);
    assert_non_null(strstr(text, "\"long\""));
    assert_non_null(strstr(strstr(text, "\"long\""), "\"id\": 2"));
    free(text);
    close(fd);
    wait_for(&fixture->afters, 1);

    json_t *arguments = json_pack("{s:i, s:b}", "steps", 5, "fails", 1);
    assert_int_equal(ctl_client_call(other, "long", arguments, LIMIT_MS, &result, &error),
                     -EREMOTEIO);
    assert_string_equal(error.class_name, CTL_HOST_MEMORY);
    json_decref(arguments);
    assert_int_equal(atomic_load(&fixture->afters), 1);
    ctl_client_close(other);
}

/* It goes on without the client that asked, and then another may ask. */
static void a_long_command_of_a_client_that_leaves(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *other = open_client(fixture);
    struct linger reset = {.l_onoff = 1};
    struct ctl_error error;
    json_t *result = NULL;
    json_t *arguments = json_pack("{s:i}", "steps", 2);
    int fd = open_socket(fixture);
    int ret;

    send_text(fd, "{\"execute\":\"long\",\"arguments\":{\"steps\":-1}}\n");
    wait_for(&fixture->stepped, 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
    wait_for(&fixture->stepped, 10);
    assert_int_equal(call(other, "long", &error), -EREMOTEIO);
    atomic_store(&fixture->enough, true);
    do {
        ret = ctl_client_call(other, "long", arguments, LIMIT_MS, &result, &error);
    } while (ret == -EREMOTEIO && strcmp(error.class_name, CTL_BUSY) == 0);
    assert_int_equal(ret, 0);
    json_decref(result);
    json_decref(arguments);
    ctl_client_close(other);
}

/* The server stops in the middle of one. */
static void stopping_a_long_command(void **state)
{
    struct fixture *fixture = *state;
    int fd = open_socket(fixture);

    send_text(fd, "{\"execute\":\"long\",\"arguments\":{\"steps\":-1},\"id\":[1]}\n");
    wait_for(&fixture->stepped, 1);
    ctl_server_stop(fixture->server);
    fixture->server = NULL;
    close(fd);
}

static void stopping(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *client = open_client(fixture);
    struct ctl_error error;

    ctl_server_stop(fixture->server);
    fixture->server = NULL;
    assert_int_equal(ctl_client_wait_closed(client, LIMIT_MS), 0);
    assert_int_equal(call(client, "ping", &error), -ECONNRESET);
    ctl_client_close(client);
    ctl_server_stop(NULL);
    assert_int_equal(start(fixture), 0);
}

static struct ctl_client *open_subscriber(const struct fixture *fixture)
{
    struct ctl_client *client = open_client(fixture);
    struct ctl_error error;

    assert_int_equal(call(client, "subscribe", &error), 0);
    return client;
}

/* Takes the next event and returns its number: "n", or "events" of a LOST. */
static long long next_event(struct ctl_client *client, const char *name)
{
    struct ctl_event event;
    json_t *message = NULL;
    long long number;

    assert_int_equal(ctl_client_next_event(client, LIMIT_MS, &message), 0);
    assert_int_equal(ctl_event_read(message, &event), 0);
    if (strcmp(event.name, name) != 0) {
        fail_msg("%s instead of %s", event.name, name);
    }
    number =
        json_integer_value(json_object_get(event.data, strcmp(name, "LOST") == 0 ? "events" : "n"));
    json_decref(message);
    return number;
}

static void no_event(struct ctl_client *client)
{
    json_t *message = (json_t *)client;

    assert_int_equal(ctl_client_next_event(client, 0, &message), -ETIMEDOUT);
    assert_ptr_equal(message, client);
}

static void subscribing(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *deaf = open_client(fixture);
    struct ctl_client *client = open_client(fixture);
    json_t *arguments = json_pack("{s:i}", "unknown", 1);
    json_t *result = NULL;
    struct ctl_error error;

    /* Nothing from before. */
    make_ticks(fixture, 1);
    while (fixture->told < 1) {
        poll(NULL, 0, 1);
    }
    assert_int_equal(ctl_client_call(client, "subscribe", arguments, LIMIT_MS, &result, &error),
                     -EREMOTEIO);
    assert_string_equal(error.class_name, "InvalidArgument");
    json_decref(arguments);
    assert_int_equal(call(client, "subscribe", &error), 0);
    /* Twice is as once. */
    assert_int_equal(call(client, "subscribe", &error), 0);
    make_ticks(fixture, 3);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(next_event(client, "TICK"), i);
    }
    no_event(client);
    no_event(deaf);
    /* Other commands work; a call skips what comes before its reply. */
    assert_int_equal(call(client, "now", &error), 0);
    no_event(client);
    assert_int_equal(call(deaf, "now", &error), 0);
    assert_int_equal(next_event(client, "NOW"), 0);
    assert_int_equal(call(client, "unsubscribe", &error), 0);
    assert_int_equal(call(deaf, "now", &error), 0);
    assert_int_equal(call(client, "ping", &error), 0);
    no_event(client);
    assert_int_equal(call(client, "unsubscribe", &error), 0);
    assert_int_equal(call(client, "subscribe", &error), 0);
    assert_int_equal(call(deaf, "now", &error), 0);
    assert_int_equal(next_event(client, "NOW"), 0);
    ctl_server_stop(fixture->server);
    fixture->server = NULL;
    assert_int_equal(ctl_client_next_event(client, LIMIT_MS, &result), -ECONNRESET);
    ctl_client_close(client);
    ctl_client_close(deaf);
    assert_int_equal(start(fixture), 0);
}

/* Subscribes and asks for the past, or with another value for it. */
static int call_for_past(struct ctl_client *client, json_t *past, struct ctl_error *error)
{
    json_t *arguments = json_pack("{s:o}", "past", past);
    json_t *result = NULL;
    int ret = ctl_client_call(client, "subscribe", arguments, LIMIT_MS, &result, error);

    json_decref(result);
    json_decref(arguments);
    return ret;
}

/* What was before comes first, nothing twice and nothing left out, while more
 * happens all the time. */
static void the_past(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *client = open_client(fixture);
    struct ctl_error error;

    assert_int_equal(call_for_past(client, json_integer(1), &error), -EREMOTEIO);
    assert_string_equal(error.class_name, "InvalidArgument");
    assert_int_equal(call_for_past(client, json_true(), &error), 0);
    no_event(client);
    make_ticks(fixture, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next_event(client, "TICK"), i);
    }
    for (int round = 0; round < 50; round++) {
        struct ctl_client *late = open_client(fixture);
        long long first;

        make_ticks(fixture, 1);
        assert_int_equal(call_for_past(late, json_true(), &error), 0);
        make_ticks(fixture, 1);
        first = next_event(late, "TICK");
        /* The server may have told the tick that was made just before, or not. */
        assert_in_range(first, round == 0 ? 0 : 3 + 2 * round - PAST,
                        round == 0 ? 0 : 3 + 2 * round - PAST + 1);
        for (long long i = first + 1; i < 3 + 2 * (round + 1); i++) {
            assert_int_equal(next_event(late, "TICK"), i);
        }
        no_event(late);
        ctl_client_close(late);
    }
    assert_int_equal(call_for_past(client, json_false(), &error), 0);
    ctl_client_close(client);
}

/* Events stand whole between replies, before the reply of the command that
 * made them. */
static void events_between_replies(void **state)
{
    struct fixture *fixture = *state;
    int fd = open_socket(fixture);
    char *text;

    send_text(fd, "{\"execute\":\"now\"}\n{\"execute\":\"subscribe\",\"id\":1}\n"
                  "{\"execute\":\"now\",\"id\":2}\n{\"execute\":\"ping\",\"id\":3}\n"
                  "{\"execute\":\"now\",\"id\":4}\n{\"execute\":\"unsubscribe\",\"id\":5}\n"
                  "{\"execute\":\"now\",\"id\":6}\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    text = read_to_end(fd);
    assert_string_equal(
        strchr(text, '\n') + 1,
        "{\"return\": {}}\n{\"return\": {}, \"id\": 1}\n"
        "{\"event\": \"NOW\", \"data\": {\"n\": 0}, \"timestamp\": {\"seconds\": 1, "
        "\"microseconds\": 500000}}\n"
        "{\"return\": {}, \"id\": 2}\n{\"return\": {}, \"id\": 3}\n"
        "{\"event\": \"NOW\", \"data\": {\"n\": 0}, \"timestamp\": {\"seconds\": 1, "
        "\"microseconds\": 500000}}\n"
        "{\"return\": {}, \"id\": 4}\n{\"return\": {}, \"id\": 5}\n"
        "{\"return\": {}, \"id\": 6}\n");
    free(text);
    close(fd);
}

/* So few that they fit into what is kept for a client: however slow it is, none is
 * dropped. */
enum { KICKERS = 8, KICKS = 60 };

static void *kicker(void *argument)
{
    for (int i = 0; i < KICKS; i++) {
        errno = EDOM;
        make_ticks(argument, 1);
        if (errno != EDOM) {
            return NULL;
        }
    }
    return argument;
}

/* No kick is lost, on_kick and the handlers never run at once, and every
 * subscriber that reads gets all events in their order. */
static void kicks_from_many_threads(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *subscribers[] = {open_subscriber(fixture), open_subscriber(fixture)};
    struct ctl_client *client = open_client(fixture);
    pthread_t threads[KICKERS];
    struct ctl_error error;

    for (int i = 0; i < KICKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, kicker, fixture), 0);
    }
    for (int i = 0; i < KICKERS * KICKS; i++) {
        assert_int_equal(next_event(subscribers[0], "TICK"), i);
        assert_int_equal(next_event(subscribers[1], "TICK"), i);
        if (i % 16 == 0) {
            assert_int_equal(call(client, "ping", &error), 0);
        }
    }
    for (int i = 0; i < KICKERS; i++) {
        void *kept_errno;

        assert_int_equal(pthread_join(threads[i], &kept_errno), 0);
        assert_non_null(kept_errno);
    }
    no_event(subscribers[0]);
    assert_int_equal(fixture->told, KICKERS * KICKS);
    assert_int_equal(fixture->overlaps, 0);
    ctl_client_close(client);
    ctl_client_close(subscribers[0]);
    ctl_client_close(subscribers[1]);
}

/* Reads an event, tick number `from` or a LOST in its place; returns the number
 * that should come next. */
static long long read_on(struct ctl_client *client, long long from, bool *is_lost)
{
    struct ctl_event event;
    json_t *message = NULL;

    assert_int_equal(ctl_client_next_event(client, LIMIT_MS, &message), 0);
    assert_int_equal(ctl_event_read(message, &event), 0);
    *is_lost = strcmp(event.name, "LOST") == 0;
    if (*is_lost) {
        assert_true(event.realtime_ns > 1500000000);
        from += json_integer_value(json_object_get(event.data, "events"));
    } else {
        assert_int_equal(json_integer_value(json_object_get(event.data, "n")), from);
        from++;
    }
    json_decref(message);
    return from;
}

static long long read_up_to_lost(struct ctl_client *client, long long from)
{
    bool is_lost = false;

    while (!is_lost) {
        from = read_on(client, from, &is_lost);
    }
    return from;
}

/* It reads less than there is, all the time. */
static void a_slow_subscriber(void **state)
{
    enum { ROUNDS = 100, TICKS = 300, READS = 150 };
    struct fixture *fixture = *state;
    struct ctl_client *slow = open_subscriber(fixture);
    long long next = 0;
    int losses = 0;
    bool is_lost;

    for (int round = 1; round <= ROUNDS; round++) {
        make_ticks(fixture, TICKS);
        while (fixture->told < (long long)round * TICKS) {
            poll(NULL, 0, 1);
        }
        for (int i = 0; i < READS && next < fixture->told; i++) {
            next = read_on(slow, next, &is_lost);
            losses += is_lost;
        }
    }
    while (next < ROUNDS * TICKS) {
        next = read_on(slow, next, &is_lost);
        losses += is_lost;
    }
    assert_int_equal(next, ROUNDS * TICKS);
    assert_true(losses > 1);
    no_event(slow);
    ctl_client_close(slow);
}

static void a_subscriber_that_does_not_read(void **state)
{
    enum { TICKS = 10000 };
    struct fixture *fixture = *state;
    struct ctl_client *sleeper = open_subscriber(fixture);
    struct ctl_client *reader = open_subscriber(fixture);
    struct ctl_client *client = open_client(fixture);
    struct ctl_error error;
    long long next;

    /* Much more than all buffers hold, in pieces that a reader can follow. */
    for (int i = 0; i < TICKS; i += 100) {
        make_ticks(fixture, 100);
        for (int j = i; j < i + 100; j++) {
            assert_int_equal(next_event(reader, "TICK"), j);
        }
    }
    assert_int_equal(call(client, "ping", &error), 0);
    /* Where it has missed some it hears how many; those that fit came, and no
     * number is missing or comes twice. */
    next = read_up_to_lost(sleeper, 0);
    assert_true(next <= TICKS);
    make_ticks(fixture, 1);
    assert_int_equal(next_event(reader, "TICK"), TICKS);
    while (next < TICKS) {
        assert_int_equal(next_event(sleeper, "TICK"), next);
        next++;
    }
    assert_int_equal(next_event(sleeper, "TICK"), TICKS);
    /* And again. */
    for (int i = TICKS + 1; i <= 2 * TICKS; i += 100) {
        make_ticks(fixture, 100);
        for (int j = i; j < i + 100; j++) {
            assert_int_equal(next_event(reader, "TICK"), j);
        }
    }
    next = read_up_to_lost(sleeper, TICKS + 1);
    assert_true(next > TICKS + 1 && next <= 2 * TICKS + 1);
    /* Its requests were never held up: it only has to read past the events. */
    assert_int_equal(call(sleeper, "ping", &error), 0);
    ctl_client_close(client);
    ctl_client_close(reader);
    ctl_client_close(sleeper);
}

/* Full of events that it has not read, and asks all the same: the request is
 * executed. (Of several, as many as there is room for the replies.) */
static void a_request_of_a_full_subscriber(void **state)
{
    struct fixture *fixture = *state;
    int fd = open_socket(fixture);
    int before;

    send_text(fd, "{\"execute\":\"subscribe\"}\n{\"execute\":\"ping\"}\n");
    while (fixture->pings < 1) {
        poll(NULL, 0, 1);
    }
    make_ticks(fixture, 20000);
    while (fixture->told < 20000) {
        poll(NULL, 0, 1);
    }
    before = fixture->pings;
    send_text(fd, "{\"execute\":\"ping\"}\n");
    for (int ms = 0; fixture->pings == before && ms < LIMIT_MS; ms++) {
        poll(NULL, 0, 1);
    }
    assert_int_equal(fixture->pings, before + 1);
    close(fd);
}

/* Before an after_reply, which may end the process, what was noted is told. */
static void events_before_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct ctl_client *early = open_subscriber(fixture);
    struct ctl_client *client = open_client(fixture);
    struct ctl_client *late = open_subscriber(fixture);
    struct ctl_error error;

    for (int i = 1; i <= 20; i++) {
        assert_int_equal(call(client, "tick", &error), 0);
        for (int ms = 0; fixture->afters < i && ms < LIMIT_MS; ms++) {
            poll(NULL, 0, 1);
        }
        assert_int_equal(fixture->afters, i);
        assert_int_equal(fixture->told_at_after, i);
        assert_int_equal(next_event(early, "TICK"), i - 1);
        assert_int_equal(next_event(late, "TICK"), i - 1);
    }
    ctl_client_close(early);
    ctl_client_close(client);
    ctl_client_close(late);
}

/* The client's own limits, against sockets that do not answer as they should. */
static void a_bad_server(void **state)
{
    static const struct {
        const char *greeting; /* NULL: silence */
        int error;
    } cases[] = {
        {NULL, -ETIMEDOUT},
        {"{\"QMP\": {}}\n", -EPROTO},
        {"hello\n", -EPROTO},
        {"{\"BALLAST\": {\"version\": {\"major\": 2, \"minor\": 0}}}\n", -EPROTONOSUPPORT},
    };
    struct fixture *fixture = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ctl_client *client = (struct ctl_client *)state;

    ctl_server_stop(fixture->server);
    fixture->server = NULL; /* should this test end early */
    memcpy(address.sun_path, fixture->path, strlen(fixture->path));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* A socket for each: on a busy machine the child may be killed before it
         * has accepted, and the next would accept what the client has left. */
        int listener = socket(AF_UNIX, SOCK_STREAM, 0);
        pid_t child;

        assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listener, 1), 0);
        child = fork();
        if (child == 0) {
            int fd = accept(listener, NULL, NULL);

            if (cases[i].greeting != NULL) {
                send_text(fd, cases[i].greeting);
            }
            pause();
        }
        assert_int_equal(
            ctl_client_connect(fixture->path, cases[i].greeting != NULL ? LIMIT_MS : 50, &client),
            cases[i].error);
        assert_ptr_equal(client, state);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        close(listener);
        unlink(fixture->path);
    }
    assert_int_equal(start(fixture), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mode_of_the_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(starting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pipelining, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_clients, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_does_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_the_reply, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_a_reply_that_is_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(subscribing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_past, set_up, tear_down),
        cmocka_unit_test_setup_teardown(events_between_replies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kicks_from_many_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slow_subscriber, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_subscriber_that_does_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_of_a_full_subscriber, set_up, tear_down),
        cmocka_unit_test_setup_teardown(events_before_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_command, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_command_of_a_client_that_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stopping_a_long_command, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stopping, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bad_server, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
