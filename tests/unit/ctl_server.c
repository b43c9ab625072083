/* SPDX-License-Identifier: MIT */
/* The control server and client over real sockets: well-behaved clients, and
 * those that are not. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
};

static int ping(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    static const char *const known[] = {"text", NULL};
    struct fixture *fixture = owner;
    const json_t *text = json_object_get(arguments, "text");
    int ret = ctl_arguments_check(arguments, known, error);

    if (ret < 0) {
        return ret;
    }
    atomic_fetch_add(&fixture->pings, 1);
    if (text != NULL) {
        *result = json_pack("{s:O}", "text", text);
    }
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

    atomic_fetch_add(&fixture->afters, 1);
}

static const struct ctl_command commands[] = {
    {"ping", ping, NULL},
    {"flood", flood, NULL},
    {"refuse", refuse, count_after},
    {"last", ping, count_after},
};

static int start(struct fixture *fixture)
{
    const struct ctl_server_config config = {
        .path = fixture->path,
        .name = "vm1",
        .commands = commands,
        .command_count = sizeof(commands) / sizeof(commands[0]),
        .owner = fixture,
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
    assert_int_equal(json_array_size(json_object_get(result, "commands")), 7);
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
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);

    ctl_server_stop(fixture->server);
    memcpy(address.sun_path, fixture->path, strlen(fixture->path));
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pid_t child = fork();

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
    }
    close(listener);
    unlink(fixture->path);
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
        cmocka_unit_test_setup_teardown(stopping, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bad_server, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
