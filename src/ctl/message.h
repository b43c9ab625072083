/* SPDX-License-Identifier: MIT */
/*
 * The control protocol's lines: cutting a byte stream into lines, and turning
 * lines into requests and replies and back. docs/protocol.md is the contract.
 *
 * Pure: no system calls but memory, no state outside what the caller passes.
 * Nothing here is locked; one object is used by one thread at a time.
 */
#ifndef BALLAST_CTL_MESSAGE_H
#define BALLAST_CTL_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ballast/protocol.h>

/* Classes of errors, as docs/protocol.md lists them. */
#define CTL_PARSE_ERROR       "ParseError"
#define CTL_INVALID_REQUEST   "InvalidRequest"
#define CTL_COMMAND_NOT_FOUND "CommandNotFound"
#define CTL_INVALID_ARGUMENT  "InvalidArgument"
#define CTL_WRONG_STATE       "WrongState"
#define CTL_HOST_MEMORY       "HostMemory"
#define CTL_BUSY              "Busy"

/* An error reply. Longer texts are cut. */
struct ctl_error {
    char class_name[32];
    char desc[480];
};

/* Fills *error: one of the classes above, and a printf text that says what is
 * wrong and what to do, without a final full stop or newline. */
__attribute__((format(printf, 3, 4))) void
ctl_error_set(struct ctl_error *error, const char *class_name, const char *format, ...);

/*
 * A framer cuts a stream into lines. It holds at most one line's worth of
 * bytes, BALLAST_PROTOCOL_LINE_MAX_BYTES.
 *
 * Invariant: start <= scanned <= used <= BALLAST_PROTOCOL_LINE_MAX_BYTES, and
 * data[start..scanned) contains no newline.
 */
struct ctl_framer {
    char *data;
    size_t start;   /* first byte not yet handed out */
    size_t scanned; /* first byte not yet searched for a newline */
    size_t used;    /* end of what was fed */
};

/* Makes an empty framer. -ENOMEM. */
int ctl_framer_init(struct ctl_framer *framer);

/* Frees what ctl_framer_init() allocated. A zeroed framer is allowed. */
void ctl_framer_fini(struct ctl_framer *framer);

/* Where the next bytes of the stream go: returns the place and its length in
 * *length, which is 0 if the framer is full (take lines out first). Lines
 * handed out earlier are invalid after this. */
char *ctl_framer_space(struct ctl_framer *framer, size_t *length);

/* Says that `length` bytes, at most what ctl_framer_space() gave, were put there. */
void ctl_framer_fed(struct ctl_framer *framer, size_t length);

/* Is there anything for ctl_framer_next() to report: a line, or an error? */
bool ctl_framer_ready(struct ctl_framer *framer);

/* Takes the next line out: 1 and the line without its newline (not ended by
 * NUL; valid until ctl_framer_space()), 0 if no whole line is there yet,
 * -EMSGSIZE if the line is longer than the protocol allows; the stream cannot
 * be used after that. */
int ctl_framer_next(struct ctl_framer *framer, const char **line, size_t *length);

/* The number of bytes that were fed and not yet handed out. */
size_t ctl_framer_pending(const struct ctl_framer *framer);

/* Turns a line into a JSON object, a new reference in *message. -EBADMSG and
 * a ParseError if it is none; -ENOMEM. */
int ctl_decode(const char *line, size_t length, json_t **message, struct ctl_error *error);

/* Turns a message into a line with its newline (malloc'ed, not ended by NUL).
 * -EMSGSIZE if that is longer than the protocol allows, -ENOMEM. */
int ctl_encode(const json_t *message, char **line, size_t *length);

/* A request. All members are borrowed from the message. */
struct ctl_request {
    const char *command;
    json_t *arguments; /* an object, or NULL if there was none */
};

/* Looks at a decoded message as a request. -EINVAL and an InvalidRequest if
 * `execute` is missing, a key has the wrong type or is unknown. */
int ctl_request_read(json_t *message, struct ctl_request *request, struct ctl_error *error);

/* The `id` of a request or reply, borrowed; NULL if it has none. */
json_t *ctl_message_id(const json_t *message);

/* Refuses arguments that are not in `known` (ended by NULL; itself NULL for a
 * command without arguments). `arguments` may be NULL. -EINVAL and an
 * InvalidArgument. */
int ctl_arguments_check(const json_t *arguments, const char *const *known, struct ctl_error *error);

/* Builds {"return": result, "id": id}. Takes over `result` (NULL is taken for
 * {}), borrows `id` (may be NULL). NULL if out of memory. */
json_t *ctl_reply_return(json_t *result, json_t *id);

/* Builds {"error": {...}, "id": id}. Borrows both. NULL if out of memory. */
json_t *ctl_reply_error(const struct ctl_error *error, json_t *id);

/* Reads a reply: 0 and a new reference in *result, or -EREMOTEIO and the
 * server's error in *error, or -EPROTO if it is neither. */
int ctl_reply_read(const json_t *message, json_t **result, struct ctl_error *error);

/* Builds {"event": name, "data": data, "timestamp": {...}}; the time is in ns
 * since 1970. Takes over `data` (NULL is taken for {}). NULL if out of memory. */
json_t *ctl_event_build(const char *name, json_t *data, uint64_t realtime_ns);

/* An event. All members are borrowed from the message. */
struct ctl_event {
    const char *name;
    const json_t *data;   /* an object */
    uint64_t realtime_ns; /* since 1970 */
};

/* Looks at a decoded message as an event. -EPROTO if it is none. */
int ctl_event_read(const json_t *message, struct ctl_event *event);

/* What the server says first. */
struct ctl_greeting {
    int major;
    int minor;
    char package[32];
    char name[BALLAST_NAME_MAX_BYTES + 1];
};

/* Builds the greeting of a domain of this version. NULL if out of memory or if
 * the name is no UTF-8. */
json_t *ctl_greeting_build(const char *name);

/* Reads a greeting. -EPROTO if it is none, -EPROTONOSUPPORT if its major
 * version is not ours (*greeting is filled then too, for the message). */
int ctl_greeting_read(const json_t *message, struct ctl_greeting *greeting);

#endif
