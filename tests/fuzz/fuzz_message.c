/* SPDX-License-Identifier: MIT */
/* The control protocol's codec, fed with a stream in pieces: what is read is
 * taken for a request, a reply, an event and a greeting, and what was decoded
 * comes back the same when it is encoded and decoded again. */
#include "fuzz.h"

#include "ctl/message.h"

#include <string.h>

static void read_as_anything(json_t *message)
{
    struct ctl_request request;
    struct ctl_error error = {0};
    struct ctl_event event;
    struct ctl_greeting greeting;
    json_t *result = NULL;
    if (ctl_request_read(message, &request, &error) == 0) {
        static const char *const known[] = {"target_bytes", NULL};
        must(request.command != NULL);
        must(request.arguments == NULL || json_is_object(request.arguments));
        ctl_arguments_check(request.arguments, known, &error);
    } else {
        must(error.class_name[0] != '\0' && error.desc[0] != '\0');
    }
    if (ctl_reply_read(message, &result, &error) == 0) {
        must(result != NULL);
        json_decref(result);
    }
    if (ctl_event_read(message, &event) == 0) {
        must(event.name != NULL && json_is_object(event.data));
    }
    ctl_greeting_read(message, &greeting);
}

static void check_line(const char *line, size_t length)
{
    struct ctl_error error = {0};
    json_t *message = NULL;
    if (ctl_decode(line, length, &message, &error) != 0) {
        return;
    }
    must(json_is_object(message));
    read_as_anything(message);
    char *again = NULL;
    size_t again_length = 0;
    if (ctl_encode(message, &again, &again_length) == 0) {
        json_t *same = NULL;
        must(again_length > 0 && again[again_length - 1] == '\n');
        must(memchr(again, '\n', again_length) == again + again_length - 1);
        must(ctl_decode(again, again_length - 1, &same, &error) == 0);
        must(json_equal(message, same));
        json_decref(same);
        free(again);
    }
    json_decref(message);
}

/* The first byte says in what pieces the rest arrives. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ctl_framer framer = {0};
    if (size == 0 || ctl_framer_init(&framer) != 0) {
        return -1;
    }
    size_t piece = (size_t)data[0] * data[0] + 1, lines = 0;
    for (size_t at = 1; at < size;) {
        size_t space;
        char *to = ctl_framer_space(&framer, &space);
        must(space > 0); /* lines are taken out below, and longer ones end it */
        size_t length = size - at < piece ? size - at : piece;
        length = length < space ? length : space;
        memcpy(to, data + at, length);
        ctl_framer_fed(&framer, length);
        at += length;
        const char *line;
        int got;
        while ((got = ctl_framer_next(&framer, &line, &length)) == 1) {
            must(length <= BALLAST_PROTOCOL_LINE_MAX_BYTES);
            check_line(line, length);
            lines++;
        }
        if (got < 0) {
            break;
        }
    }
    must(lines <= size);
    ctl_framer_fini(&framer);
    return 0;
}
