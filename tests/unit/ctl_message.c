/* SPDX-License-Identifier: MIT */
/* The control protocol's lines: framing, requests, replies, greeting. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/message.h"

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define LINE_MAX_BYTES      ((size_t)BALLAST_PROTOCOL_LINE_MAX_BYTES)

/* Feeds all of `text`, which must fit. */
static void feed(struct ctl_framer *framer, const char *text, size_t length)
{
    size_t space;
    char *at = ctl_framer_space(framer, &space);

    assert_true(length <= space);
    memcpy(at, text, length);
    ctl_framer_fed(framer, length);
}

static void expect_line(struct ctl_framer *framer, const char *expected)
{
    const char *line;
    size_t length;

    assert_true(ctl_framer_ready(framer));
    assert_int_equal(ctl_framer_next(framer, &line, &length), 1);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(line, expected, length);
}

static void expect_none(struct ctl_framer *framer)
{
    const char *line;
    size_t length;

    assert_false(ctl_framer_ready(framer));
    assert_int_equal(ctl_framer_next(framer, &line, &length), 0);
}

static void lines_come_out_as_they_went_in(void **state)
{
    struct ctl_framer framer;

    (void)state;
    assert_int_equal(ctl_framer_init(&framer), 0);
    expect_none(&framer);
    feed(&framer, "one\ntwo\n\nthr", 12);
    expect_line(&framer, "one");
    expect_line(&framer, "two");
    expect_line(&framer, "");
    expect_none(&framer);
    assert_int_equal(ctl_framer_pending(&framer), 3);
    feed(&framer, "ee\n", 3);
    expect_line(&framer, "three");
    assert_int_equal(ctl_framer_pending(&framer), 0);
    ctl_framer_fini(&framer);
}

/* However the stream is cut into pieces, the lines are the same. */
static void pieces_do_not_matter(void **state)
{
    static const char stream[] = "a\nbb\n\nccc ccc\nd\n";
    static const char *const lines[] = {"a", "bb", "", "ccc ccc", "d"};
    size_t length = sizeof(stream) - 1;

    (void)state;
    for (size_t piece = 1; piece <= length; piece++) {
        struct ctl_framer framer;
        size_t next = 0;

        assert_int_equal(ctl_framer_init(&framer), 0);
        for (size_t at = 0; at < length; at += piece) {
            feed(&framer, stream + at, at + piece <= length ? piece : length - at);
            while (ctl_framer_ready(&framer)) {
                assert_true(next < ARRAY_LENGTH(lines));
                expect_line(&framer, lines[next++]);
            }
        }
        assert_int_equal(next, ARRAY_LENGTH(lines));
        ctl_framer_fini(&framer);
    }
}

static void the_longest_line(void **state)
{
    struct ctl_framer framer;
    const char *line;
    size_t length;
    size_t space;
    char *at;

    (void)state;
    assert_int_equal(ctl_framer_init(&framer), 0);
    /* With something before it, so that it has to be moved. */
    feed(&framer, "x\n", 2);
    expect_line(&framer, "x");
    at = ctl_framer_space(&framer, &space);
    assert_int_equal(space, LINE_MAX_BYTES);
    memset(at, 'y', space);
    at[space - 1] = '\n';
    ctl_framer_fed(&framer, space);
    assert_int_equal(ctl_framer_next(&framer, &line, &length), 1);
    assert_int_equal(length, LINE_MAX_BYTES - 1);
    assert_int_equal(line[length - 1], 'y');

    /* One byte more, and it is too long. */
    at = ctl_framer_space(&framer, &space);
    memset(at, 'z', space);
    ctl_framer_fed(&framer, space - 1);
    assert_int_equal(ctl_framer_next(&framer, &line, &length), 0);
    ctl_framer_fed(&framer, 1);
    assert_true(ctl_framer_ready(&framer));
    assert_int_equal(ctl_framer_next(&framer, &line, &length), -EMSGSIZE);
    ctl_framer_space(&framer, &space);
    assert_int_equal(space, 0);
    ctl_framer_fini(&framer);
}

static void what_is_no_object(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[1]",
        "\"x\"",
        "1",
        "null",
        "{} {}",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":1,\"a\":2}",
        "\xff",
        "{\"a\":\"\xc3\"}",
        "{\"a\":99999999999999999999}",
        "{\"a\": \"\\u0000\"}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        struct ctl_error error = {.class_name = ""};
        json_t *message = (json_t *)&error;

        assert_int_equal(ctl_decode(bad[i], strlen(bad[i]), &message, &error), -EBADMSG);
        assert_ptr_equal(message, &error);
        assert_string_equal(error.class_name, "ParseError");
        assert_true(strlen(error.desc) > 0);
    }
}

static void a_deep_line_is_refused(void **state)
{
    struct ctl_error error;
    json_t *message;
    char *line = malloc(LINE_MAX_BYTES);

    (void)state;
    assert_non_null(line);
    memset(line, '[', LINE_MAX_BYTES);
    assert_int_equal(ctl_decode(line, LINE_MAX_BYTES, &message, &error), -EBADMSG);
    free(line);
}

static void requests(void **state)
{
    static const struct {
        const char *line;
        const char *desc; /* a piece of the error, or NULL if it is good */
    } cases[] = {
        {"{\"execute\": \"a\"}", NULL},
        {"{\"execute\": \"a\", \"arguments\": {\"x\": 1}, \"id\": [null]}", NULL},
        {"{}", "no 'execute'"},
        {"{\"id\": 1}", "no 'execute'"},
        {"{\"execute\": 1}", "string"},
        {"{\"execute\": null}", "string"},
        {"{\"execute\": \"a\", \"arguments\": []}", "object"},
        {"{\"execute\": \"a\", \"arguments\": null}", "object"},
        {"{\"execute\": \"a\", \"argument\": {}}", "'argument'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct ctl_request request = {.command = "untouched"};
        struct ctl_error error;
        json_t *message;
        int ret;

        assert_int_equal(ctl_decode(cases[i].line, strlen(cases[i].line), &message, &error), 0);
        ret = ctl_request_read(message, &request, &error);
        if (cases[i].desc == NULL) {
            assert_int_equal(ret, 0);
            assert_string_equal(request.command, "a");
        } else {
            assert_int_equal(ret, -EINVAL);
            assert_string_equal(error.class_name, "InvalidRequest");
            assert_non_null(strstr(error.desc, cases[i].desc));
            assert_string_equal(request.command, "untouched");
        }
        json_decref(message);
    }
}

static void unknown_arguments_are_refused(void **state)
{
    static const char *const known[] = {"a", "b", NULL};
    json_t *both = json_pack("{s:i, s:i}", "a", 1, "b", 2);
    json_t *more = json_pack("{s:i, s:i}", "a", 1, "c", 2);
    json_t *none = json_object();
    struct ctl_error error;

    (void)state;
    assert_int_equal(ctl_arguments_check(NULL, NULL, &error), 0);
    assert_int_equal(ctl_arguments_check(none, NULL, &error), 0);
    assert_int_equal(ctl_arguments_check(both, known, &error), 0);
    assert_int_equal(ctl_arguments_check(more, known, &error), -EINVAL);
    assert_string_equal(error.class_name, "InvalidArgument");
    assert_non_null(strstr(error.desc, "'c'"));
    assert_int_equal(ctl_arguments_check(both, NULL, &error), -EINVAL);
    json_decref(both);
    json_decref(more);
    json_decref(none);
}

/* Encodes, checks the text, decodes, and gives the message back. */
static json_t *round_trip(json_t *message, const char *expected)
{
    struct ctl_error error;
    json_t *again;
    size_t length;
    char *line;

    assert_non_null(message);
    assert_int_equal(ctl_encode(message, &line, &length), 0);
    json_decref(message);
    assert_int_equal(line[length - 1], '\n');
    if (expected != NULL) {
        assert_int_equal(length - 1, strlen(expected));
        assert_memory_equal(line, expected, length - 1);
    }
    assert_int_equal(ctl_decode(line, length - 1, &again, &error), 0);
    free(line);
    return again;
}

static void replies(void **state)
{
    json_t *id = json_pack("[i, n]", 7);
    struct ctl_error error;
    struct ctl_error received;
    json_t *result = NULL;
    json_t *reply;

    (void)state;
    reply = round_trip(ctl_reply_return(NULL, NULL), "{\"return\": {}}");
    assert_int_equal(ctl_reply_read(reply, &result, &error), 0);
    assert_int_equal(json_object_size(result), 0);
    json_decref(result);
    json_decref(reply);

    reply = round_trip(ctl_reply_return(json_pack("{s:i}", "x", 1), id),
                       "{\"return\": {\"x\": 1}, \"id\": [7, null]}");
    assert_true(json_equal(ctl_message_id(reply), id));
    json_decref(reply);

    ctl_error_set(&error, CTL_WRONG_STATE, "it is %s", "late");
    reply = round_trip(ctl_reply_error(&error, id),
                       "{\"error\": {\"class\": \"WrongState\", \"desc\": \"it is late\"}, "
                       "\"id\": [7, null]}");
    assert_int_equal(ctl_reply_read(reply, &result, &received), -EREMOTEIO);
    assert_string_equal(received.class_name, error.class_name);
    assert_string_equal(received.desc, error.desc);
    json_decref(reply);

    reply = json_object();
    assert_int_equal(ctl_reply_read(reply, &result, &received), -EPROTO);
    json_decref(reply);
    json_decref(id);
}

/* An error must get through, whatever bytes it quotes. */
static void errors_with_bad_bytes(void **state)
{
    struct ctl_error error;
    json_t *result;

    (void)state;
    for (size_t fill = sizeof(error.desc) - 4; fill <= sizeof(error.desc) + 4; fill++) {
        char text[sizeof(error.desc) + 16];
        json_t *reply;

        memset(text, 'x', sizeof(text));
        memcpy(text + fill, "\xc3\xa9", 3);
        ctl_error_set(&error, CTL_INVALID_ARGUMENT, "%s", text);
        reply = round_trip(ctl_reply_error(&error, NULL), NULL);
        assert_int_equal(ctl_reply_read(reply, &result, &error), -EREMOTEIO);
        assert_int_equal(error.desc[fill - 10], 'x');
        json_decref(reply);
    }
}

static void too_long_to_be_sent(void **state)
{
    char *text = malloc(LINE_MAX_BYTES + 1);
    size_t overhead = strlen("{\"return\": {}, \"id\": \"\"}\n");
    size_t length;
    char *line = NULL;
    json_t *reply;
    json_t *id;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', LINE_MAX_BYTES);
    id = json_stringn(text, LINE_MAX_BYTES - overhead);
    reply = ctl_reply_return(NULL, id);
    assert_int_equal(ctl_encode(reply, &line, &length), 0);
    assert_int_equal(length, LINE_MAX_BYTES);
    free(line);
    json_decref(reply);
    json_decref(id);

    id = json_stringn(text, LINE_MAX_BYTES - overhead + 1);
    reply = ctl_reply_return(NULL, id);
    line = NULL;
    assert_int_equal(ctl_encode(reply, &line, &length), -EMSGSIZE);
    assert_null(line);
    json_decref(reply);
    json_decref(id);
    free(text);
}

static void greetings(void **state)
{
    static const char *const bad[] = {
        "{}",
        "{\"QMP\": {}}",
        "{\"BALLAST\": {}}",
        "{\"BALLAST\": {\"version\": {\"major\": 1}}}",
        "{\"BALLAST\": {\"version\": {\"major\": \"1\", \"minor\": 0}}}",
        "{\"BALLAST\": {\"version\": {\"major\": -1, \"minor\": 0}}}",
        "{\"BALLAST\": {\"version\": {\"major\": 1, \"minor\": 99999999999}}}",
        "{\"BALLAST\": {\"version\": {\"major\": 1, \"minor\": 0}, \"name\": 1}}",
    };
    struct ctl_greeting greeting = {.major = -1};
    json_t *message = round_trip(ctl_greeting_build("vm1"), NULL);

    (void)state;
    assert_int_equal(ctl_greeting_read(message, &greeting), 0);
    assert_int_equal(greeting.major, BALLAST_PROTOCOL_MAJOR);
    assert_int_equal(greeting.minor, BALLAST_PROTOCOL_MINOR);
    assert_string_equal(greeting.name, "vm1");
    assert_string_not_equal(greeting.package, "");
    json_decref(message);

    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        message = json_loads(bad[i], 0, NULL);
        assert_non_null(message);
        assert_int_equal(ctl_greeting_read(message, &greeting), -EPROTO);
        json_decref(message);
    }

    /* A newer server, of which we know all that we need. */
    message = json_pack("{s:{s:{s:i, s:i}, s:s, s:s, s:b}}", "BALLAST", "version", "major", 1,
                        "minor", 7, "package", "9", "name", "vm2", "new", 1);
    assert_int_equal(ctl_greeting_read(message, &greeting), 0);
    assert_int_equal(greeting.minor, 7);
    json_decref(message);
    message = json_pack("{s:{s:{s:i, s:i}}}", "BALLAST", "version", "major", 2, "minor", 0);
    assert_int_equal(ctl_greeting_read(message, &greeting), -EPROTONOSUPPORT);
    assert_int_equal(greeting.major, 2);
    json_decref(message);
}

static void events(void **state)
{
    static const char *const bad[] = {
        "{}",
        "{\"event\":\"X\",\"data\":{}}",
        "{\"event\":5,\"data\":{},\"timestamp\":{\"seconds\":1,\"microseconds\":0}}",
        "{\"event\":\"X\",\"data\":[],\"timestamp\":{\"seconds\":1,\"microseconds\":0}}",
        "{\"event\":\"X\",\"data\":{},\"timestamp\":{\"seconds\":-1,\"microseconds\":0}}",
        "{\"event\":\"X\",\"data\":{},\"timestamp\":{\"seconds\":1,\"microseconds\":1000000}}",
        ("{\"event\":\"X\",\"data\":{},\"timestamp\":{\"seconds\":9223372036854775807,"
         "\"microseconds\":0}}"),
        "{\"return\":{}}",
    };
    json_t *message = ctl_event_build("BUILT", json_pack("{s:i}", "n", 7), 1700000000123456789u);
    json_t *expected = json_loads("{\"event\":\"BUILT\",\"data\":{\"n\":7},\"timestamp\":{"
                                  "\"seconds\":1700000000,\"microseconds\":123456}}",
                                  0, NULL);
    struct ctl_event event = {.name = "untouched"};

    (void)state;
    assert_true(json_equal(message, expected));
    json_decref(expected);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *other = json_loads(bad[i], 0, NULL);

        assert_non_null(other);
        assert_int_equal(ctl_event_read(other, &event), -EPROTO);
        assert_string_equal(event.name, "untouched");
        json_decref(other);
    }
    assert_int_equal(ctl_event_read(message, &event), 0);
    assert_string_equal(event.name, "BUILT");
    assert_int_equal(json_integer_value(json_object_get(event.data, "n")), 7);
    assert_true(event.realtime_ns == 1700000000123456000u);
    json_decref(message);
    message = ctl_event_build("X", NULL, 0);
    assert_int_equal(ctl_event_read(message, &event), 0);
    assert_int_equal(json_object_size(event.data), 0);
    json_decref(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_as_they_went_in),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(the_longest_line),
        cmocka_unit_test(what_is_no_object),
        cmocka_unit_test(a_deep_line_is_refused),
        cmocka_unit_test(requests),
        cmocka_unit_test(unknown_arguments_are_refused),
        cmocka_unit_test(replies),
        cmocka_unit_test(errors_with_bad_bytes),
        cmocka_unit_test(too_long_to_be_sent),
        cmocka_unit_test(greetings),
        cmocka_unit_test(events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
