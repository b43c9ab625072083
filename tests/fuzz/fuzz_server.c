/* SPDX-License-Identifier: MIT */
/*
 * The control server, as any clients may meet it, without sockets: whatever bytes
 * arrive, in whatever pieces, and however slowly the replies are read, each line
 * that was sent gets one answer, in order and with its id; each line that comes back
 * is a JSON object of the protocol and no longer than it may be; and all comes to an end.
 *
 * Lines are short here: short_lines.h.
 *
 * The first byte says how the rest arrives and is read. What follows the first
 * NUL in it is what a second client sends.
 */
#include "fuzz.h"

#include "ctl/clients.h"

#include <errno.h>
#include <string.h>

#define CLIENTS      2
#define LINES_MAX    512
#define TURNS_MAX    (1u << 20)
#define BIG_BYTES    (BALLAST_PROTOCOL_LINE_MAX_BYTES - 100)
#define STORM_EVENTS 10
#define STORM_BYTES  (BALLAST_PROTOCOL_LINE_MAX_BYTES / 8)

/* The client's side of one connection. */
struct peer {
    const uint8_t *data; /* that it sends */
    size_t size;
    size_t at;
    struct ctl_framer replies;
    bool greeted;
    unsigned answers;       /* replies and errors so far */
    unsigned expected;      /* in all */
    json_t *ids[LINES_MAX]; /* of what it sends, line by line; NULL: none */
    bool refused;           /* the last answer was a ParseError */
    bool busy;              /* it takes nothing the next time */
    bool open;
    size_t taken_bytes;
};

static const char storm_start[] = "{\"event\": \"STORM\"";
static const size_t storm_length = sizeof(storm_start) - 1;
static struct peer peers[CLIENTS];
static struct clients clients;
static size_t piece_bytes; /* that arrive at once */
static size_t taken_bytes; /* that are read at once; 0: all */
static bool leaves;        /* without reading on */

/* The greeting, a reply or an event. */
static void check_message(struct peer *peer, const json_t *message)
{
    struct ctl_greeting greeting;
    struct ctl_event event;
    if (!peer->greeted) {
        must(ctl_greeting_read(message, &greeting) == 0);
        peer->greeted = true;
        return;
    }
    if (ctl_event_read(message, &event) == 0) {
        return;
    }
    struct ctl_error error = {0};
    json_t *result = NULL;
    int ret = ctl_reply_read(message, &result, &error);
    must(ret == 0 || ret == -EREMOTEIO);
    json_decref(result);
    must(!peer->refused && peer->answers < peer->expected);
    peer->refused = ret != 0 && strcmp(error.class_name, CTL_PARSE_ERROR) == 0;
    const json_t *id = peer->ids[peer->answers++];
    const json_t *answered = ctl_message_id(message);
    bool too_long = ret != 0 && strstr(error.desc, "id") != NULL && answered == NULL;
    must(too_long || (id == NULL) == (answered == NULL));
    must(answered == NULL || json_equal(id, answered));
}

static void check_lines(struct peer *peer)
{
    const char *line;
    size_t length;
    int got;
    while ((got = ctl_framer_next(&peer->replies, &line, &length)) == 1) {
        struct ctl_error error;
        json_t *message = NULL;
        if (peer->greeted && length > storm_length &&
            memcmp(line, storm_start, storm_length) == 0) {
            continue; /* there are many, and all are the same */
        }
        must(ctl_decode(line, length, &message, &error) == 0);
        check_message(peer, message);
        json_decref(message);
    }
    must(got == 0);
}

static ssize_t take(int fd, const char *data, size_t length)
{
    struct peer *peer = &peers[fd];
    must(peer->open && length > 0);
    if (leaves && peer->taken_bytes > 256) {
        return -EPIPE;
    }
    if (taken_bytes != 0) {
        peer->busy = !peer->busy;
        if (!peer->busy) {
            return -EAGAIN;
        }
        length = length < taken_bytes ? length : taken_bytes;
    }
    for (size_t left = length; left > 0;) {
        size_t space;
        char *to = ctl_framer_space(&peer->replies, &space);
        must(space > 0);
        size_t part = left < space ? left : space;
        memcpy(to, data, part);
        ctl_framer_fed(&peer->replies, part);
        check_lines(peer);
        data += part;
        left -= part;
    }
    peer->taken_bytes += length;
    return (ssize_t)length;
}

static ssize_t give(int fd, char *data, size_t length)
{
    struct peer *peer = &peers[fd];
    size_t left = peer->size - peer->at;
    must(peer->open && length > 0);
    length = length < piece_bytes ? length : piece_bytes;
    length = length < left ? length : left;
    memcpy(data, peer->data + peer->at, length);
    peer->at += length;
    return (ssize_t)length;
}

static void hang_up(int fd)
{
    must(peers[fd].open);
    peers[fd].open = false;
}

/* The line's worth of text that commands and events carry. */
static json_t *text_of(size_t length)
{
    static char text[BIG_BYTES];
    memset(text, 'x', sizeof(text));
    return json_pack("{s:o}", "text", json_stringn(text, length));
}

static void broadcast(const char *name, json_t *data)
{
    json_t *event = ctl_event_build(name, data, 1500000000);
    must(event != NULL);
    clients_broadcast(&clients, event);
    json_decref(event);
}

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
    broadcast("TICK", json_object());
    return 0;
}

/* As long a reply as there may be. */
static int big(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    (void)arguments;
    (void)error;
    *result = text_of(BIG_BYTES);
    return 0;
}

/* More events than are kept for who does not read. */
static int storm(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)owner;
    (void)arguments;
    (void)result;
    (void)error;
    for (int i = 0; i < STORM_EVENTS; i++) {
        broadcast("STORM", text_of(STORM_BYTES));
    }
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

static void catch_up(void *context)
{
    (void)context;
    broadcast("LAST", json_object());
}

static json_t *past(void *owner)
{
    (void)owner;
    json_t *events = json_array();
    for (int i = 0; i < 3; i++) {
        json_array_append_new(events, ctl_event_build("PAST", json_object(), 1500000000));
    }
    return events;
}

/* What answers there must be: one a line, and none after the first that is no
 * message. False if there are too many lines for us. */
static bool expect(struct peer *peer)
{
    const char *at = (const char *)peer->data;
    const char *end = at + peer->size;
    while (at < end && peer->expected < LINES_MAX) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct ctl_error error;
        json_t *message;
        unsigned index = peer->expected++;
        size_t length = (size_t)((newline != NULL ? newline : end) - at);
        if (newline == NULL || length >= BALLAST_PROTOCOL_LINE_MAX_BYTES ||
            ctl_decode(at, length, &message, &error) != 0) {
            return true;
        }
        peer->ids[index] = json_incref(ctl_message_id(message));
        json_decref(message);
        at = newline + 1;
    }
    return at == end;
}

static bool begin(const uint8_t *data, size_t size)
{
    const uint8_t *cut = memchr(data, 0, size);
    size_t first = cut != NULL ? (size_t)(cut - data) : size;
    const uint8_t *sent[CLIENTS] = {data, cut != NULL ? cut + 1 : data + size};
    const size_t bytes[CLIENTS] = {first, cut != NULL ? size - first - 1 : 0};
    bool fits = true;
    for (int i = 0; i < CLIENTS; i++) {
        peers[i] = (struct peer){.data = sent[i], .size = bytes[i]};
        must(ctl_framer_init(&peers[i].replies) == 0);
        fits = fits && expect(&peers[i]);
    }
    return fits;
}

static void end(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        for (unsigned line = 0; line < LINES_MAX; line++) {
            json_decref(peers[i].ids[line]);
        }
        ctl_framer_fini(&peers[i].replies);
    }
}

static void converse(unsigned turns)
{
    for (int i = 0; i < CLIENTS; i++) {
        peers[i].open = true;
        must(clients_add(&clients, i) == 0);
    }
    for (unsigned turn = 0; turn < turns && (peers[0].open || peers[1].open); turn++) {
        for (unsigned place = 0; place < CLIENTS; place++) {
            clients_turn(&clients, place, true);
        }
        clients_step(&clients);
        must(turn < TURNS_MAX);
    }
    clients_fini(&clients);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ctl_command commands[] = {
        {"echo", echo, NULL, NULL},      {"set-target", refuse, NULL, NULL},
        {"tell", tell, NULL, nothing},   {"big", big, NULL, NULL},
        {"storm", storm, NULL, nothing}, {"long", steps, steps, nothing},
    };
    static const struct ctl_server_config config = {
        .name = "fuzz",
        .commands = commands,
        .command_count = sizeof(commands) / sizeof(commands[0]),
        .past_events = past,
    };
    static const struct session_transport transport = {take, give, hang_up};
    if (size == 0) {
        return -1;
    }
    size_t piece = data[0] & 15u;
    unsigned reader = data[0] >> 4;
    piece_bytes = piece == 15 ? SIZE_MAX : piece * piece + 1;
    taken_bytes = reader < 8 ? 0 : (size_t)64 << (reader % 4);
    leaves = reader == 7;
    if (begin(data + 1, size - 1)) {
        clients_init(&clients, &config, &transport, catch_up, NULL);
        converse(reader == 6 ? 2 : UINT32_MAX);
        for (int i = 0; i < CLIENTS; i++) {
            must(!peers[i].open);
            must(leaves || reader == 6 ||
                 (peers[i].greeted && peers[i].answers == peers[i].expected));
        }
    }
    end();
    return 0;
}
