/* SPDX-License-Identifier: MIT */
/*
 * The codec of the control protocol. See message.h.
 */
#include "ctl/message.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES ((size_t)BALLAST_PROTOCOL_LINE_MAX_BYTES)
#define NS_PER_S       INT64_C(1000000000)
#define NS_PER_US      INT64_C(1000)

void ctl_error_set(struct ctl_error *error, const char *class_name, const char *format, ...)
{
    va_list arguments;

    snprintf(error->class_name, sizeof(error->class_name), "%s", class_name);
    va_start(arguments, format);
    vsnprintf(error->desc, sizeof(error->desc), format, arguments);
    va_end(arguments);
}

int ctl_framer_init(struct ctl_framer *framer)
{
    char *data = malloc(LINE_MAX_BYTES);

    if (data == NULL) {
        return -ENOMEM;
    }
    *framer = (struct ctl_framer){.data = data};
    return 0;
}

void ctl_framer_fini(struct ctl_framer *framer)
{
    free(framer->data);
    *framer = (struct ctl_framer){0};
}

char *ctl_framer_space(struct ctl_framer *framer, size_t *length)
{
    if (framer->start > 0) {
        memmove(framer->data, framer->data + framer->start, framer->used - framer->start);
        framer->scanned -= framer->start;
        framer->used -= framer->start;
        framer->start = 0;
    }
    *length = LINE_MAX_BYTES - framer->used;
    return framer->data + framer->used;
}

void ctl_framer_fed(struct ctl_framer *framer, size_t length)
{
    framer->used += length;
}

/* Moves `scanned` to the next newline, or to the end. */
static bool find_newline(struct ctl_framer *framer)
{
    const char *newline;

    if (framer->scanned == framer->used) {
        return false;
    }
    newline = memchr(framer->data + framer->scanned, '\n', framer->used - framer->scanned);
    framer->scanned = newline != NULL ? (size_t)(newline - framer->data) : framer->used;
    return newline != NULL;
}

static bool is_too_long(const struct ctl_framer *framer)
{
    return framer->used - framer->start == LINE_MAX_BYTES;
}

bool ctl_framer_ready(struct ctl_framer *framer)
{
    return find_newline(framer) || is_too_long(framer);
}

int ctl_framer_next(struct ctl_framer *framer, const char **line, size_t *length)
{
    if (!find_newline(framer)) {
        return is_too_long(framer) ? -EMSGSIZE : 0;
    }
    *line = framer->data + framer->start;
    *length = framer->scanned - framer->start;
    framer->scanned++;
    framer->start = framer->scanned;
    return 1;
}

size_t ctl_framer_pending(const struct ctl_framer *framer)
{
    return framer->used - framer->start;
}

int ctl_decode(const char *line, size_t length, json_t **message, struct ctl_error *error)
{
    json_error_t json_error;
    json_t *decoded = json_loadb(line, length, JSON_REJECT_DUPLICATES, &json_error);

    if (decoded == NULL) {
        if (json_error_code(&json_error) == json_error_out_of_memory) {
            return -ENOMEM;
        }
        ctl_error_set(error, CTL_PARSE_ERROR, "the line is not JSON: %s at byte %d",
                      json_error.text, json_error.position);
        return -EBADMSG;
    }
    if (!json_is_object(decoded)) {
        json_decref(decoded);
        ctl_error_set(error, CTL_PARSE_ERROR,
                      "the line is JSON but no object; send {\"execute\": COMMAND}");
        return -EBADMSG;
    }
    *message = decoded;
    return 0;
}

int ctl_encode(const json_t *message, char **line, size_t *length)
{
    size_t bytes = json_dumpb(message, NULL, 0, 0);
    char *text;

    if (bytes == 0) {
        return -ENOMEM;
    }
    if (bytes + 1 > LINE_MAX_BYTES) {
        return -EMSGSIZE;
    }
    text = malloc(bytes + 1);
    if (text == NULL) {
        return -ENOMEM;
    }
    if (json_dumpb(message, text, bytes, 0) != bytes) {
        free(text);
        return -ENOMEM;
    }
    text[bytes] = '\n';
    *line = text;
    *length = bytes + 1;
    return 0;
}

int ctl_request_read(json_t *message, struct ctl_request *request, struct ctl_error *error)
{
    json_t *execute = json_object_get(message, "execute");
    json_t *arguments = json_object_get(message, "arguments");
    const char *key;
    json_t *value;

    /* A misspelt key would otherwise be a request for something else. */
    json_object_foreach(message, key, value)
    {
        if (strcmp(key, "execute") != 0 && strcmp(key, "arguments") != 0 &&
            strcmp(key, "id") != 0) {
            ctl_error_set(error, CTL_INVALID_REQUEST,
                          "unknown key '%.64s'; a request has execute, arguments and id", key);
            return -EINVAL;
        }
    }
    if (execute == NULL) {
        ctl_error_set(error, CTL_INVALID_REQUEST,
                      "the request has no 'execute'; query-commands lists what it can be");
        return -EINVAL;
    }
    if (!json_is_string(execute)) {
        ctl_error_set(error, CTL_INVALID_REQUEST, "'execute' must be a string");
        return -EINVAL;
    }
    if (arguments != NULL && !json_is_object(arguments)) {
        ctl_error_set(error, CTL_INVALID_REQUEST, "'arguments' must be an object");
        return -EINVAL;
    }
    *request = (struct ctl_request){
        .command = json_string_value(execute),
        .arguments = arguments,
    };
    return 0;
}

json_t *ctl_message_id(const json_t *message)
{
    return json_object_get(message, "id");
}

static bool is_known(const char *key, const char *const *known)
{
    for (; known != NULL && *known != NULL; known++) {
        if (strcmp(key, *known) == 0) {
            return true;
        }
    }
    return false;
}

int ctl_arguments_check(const json_t *arguments, const char *const *known, struct ctl_error *error)
{
    const char *key;
    json_t *value;

    if (arguments == NULL) {
        return 0;
    }
    json_object_foreach((json_t *)arguments, key, value)
    {
        if (!is_known(key, known)) {
            ctl_error_set(error, CTL_INVALID_ARGUMENT, "unknown argument '%.64s'%s", key,
                          known == NULL ? "; this command takes none" : "");
            return -EINVAL;
        }
    }
    return 0;
}

/* Adds a borrowed id, or drops the reply if that fails. */
static json_t *with_id(json_t *reply, json_t *id)
{
    if (reply != NULL && id != NULL && json_object_set(reply, "id", id) != 0) {
        json_decref(reply);
        return NULL;
    }
    return reply;
}

json_t *ctl_reply_return(json_t *result, json_t *id)
{
    if (result == NULL) {
        result = json_object();
    }
    /* "o" takes the reference even when packing fails. */
    return with_id(json_pack("{s:o}", "return", result), id);
}

/* A JSON string of any bytes: what is no UTF-8 (a file's name, a text that was
 * cut inside a character) is replaced, so that the error still gets through. */
static json_t *text_to_json(const char *text)
{
    json_t *string = json_string(text);

    if (string == NULL) {
        char *ascii = strdup(text);

        if (ascii == NULL) {
            return NULL;
        }
        for (char *at = ascii; *at != '\0'; at++) {
            if ((unsigned char)*at >= 0x80) {
                *at = '?';
            }
        }
        string = json_string(ascii);
        free(ascii);
    }
    return string;
}

json_t *ctl_reply_error(const struct ctl_error *error, json_t *id)
{
    return with_id(json_pack("{s:{s:s, s:o}}", "error", "class", error->class_name, "desc",
                             text_to_json(error->desc)),
                   id);
}

int ctl_reply_read(const json_t *message, json_t **result, struct ctl_error *error)
{
    json_t *returned = json_object_get(message, "return");
    const char *class_name;
    const char *desc;

    if (returned != NULL) {
        *result = json_incref(returned);
        return 0;
    }
    if (json_unpack((json_t *)message, "{s:{s:s, s:s}}", "error", "class", &class_name, "desc",
                    &desc) != 0) {
        return -EPROTO;
    }
    ctl_error_set(error, class_name, "%s", desc);
    return -EREMOTEIO;
}

json_t *ctl_event_build(const char *name, json_t *data, uint64_t realtime_ns)
{
    if (data == NULL) {
        data = json_object();
    }
    return json_pack("{s:s, s:o, s:{s:I, s:I}}", "event", name, "data", data, "timestamp",
                     "seconds", (json_int_t)(realtime_ns / (uint64_t)NS_PER_S), "microseconds",
                     (json_int_t)(realtime_ns % (uint64_t)NS_PER_S / (uint64_t)NS_PER_US));
}

int ctl_event_read(const json_t *message, struct ctl_event *event)
{
    struct ctl_event read;
    json_int_t seconds;
    json_int_t us;
    json_t *data;

    if (json_unpack((json_t *)message, "{s:s, s:o, s:{s:I, s:I}}", "event", &read.name, "data",
                    &data, "timestamp", "seconds", &seconds, "microseconds", &us) != 0 ||
        !json_is_object(data) || seconds < 0 || seconds > INT64_MAX / NS_PER_S - 1 || us < 0 ||
        us >= NS_PER_S / NS_PER_US) {
        return -EPROTO;
    }
    read.data = data;
    read.realtime_ns = (uint64_t)(seconds * NS_PER_S + us * NS_PER_US);
    *event = read;
    return 0;
}

json_t *ctl_greeting_build(const char *name)
{
    return json_pack("{s:{s:{s:i, s:i}, s:s, s:s}}", "BALLAST", "version", "major",
                     BALLAST_PROTOCOL_MAJOR, "minor", BALLAST_PROTOCOL_MINOR, "package",
                     BALLAST_VERSION, "name", name);
}

int ctl_greeting_read(const json_t *message, struct ctl_greeting *greeting)
{
    struct ctl_greeting read = {0};
    json_int_t major;
    json_int_t minor;
    const char *package = "";
    const char *name = "";

    if (json_unpack((json_t *)message, "{s:{s:{s:I, s:I}, s?s, s?s}}", "BALLAST", "version",
                    "major", &major, "minor", &minor, "package", &package, "name", &name) != 0 ||
        major < 0 || major > INT_MAX || minor < 0 || minor > INT_MAX) {
        return -EPROTO;
    }
    read.major = (int)major;
    read.minor = (int)minor;
    snprintf(read.package, sizeof(read.package), "%s", package);
    snprintf(read.name, sizeof(read.name), "%s", name);
    *greeting = read;
    return major == BALLAST_PROTOCOL_MAJOR ? 0 : -EPROTONOSUPPORT;
}
