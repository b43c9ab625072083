/* SPDX-License-Identifier: MIT */
/* Maps: letters for superpages, runs of letters, and asking for a whole map in parts. */
#include "unit.h"

#include "ctl/map.h"
#include "ctl/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 60000

static void letters_say_what_is_there(void **unused)
{
    (void)unused;
    static const struct {
        struct ctl_map_counts counts;
        char letter;
        struct ctl_map_cell cell;
    } table[] = {
        {{512, 0, 0, 0, false}, 'P', {CTL_MAP_POD, 0, false}},
        {{512, 512, 0, 0, true}, 'H', {CTL_MAP_HUGE, 8, false}},
        {{512, 512, 0, 0, false}, 'R', {CTL_MAP_RAM, 8, false}},
        {{512, 0, 512, 0, false}, 'O', {CTL_MAP_OUT, 0, false}},
        {{512, 0, 0, 512, true}, 'G', {CTL_MAP_GIVEN, 0, false}},
        {{512, 1, 0, 0, false}, 'b', {CTL_MAP_SPLIT, 1, false}},
        {{512, 64, 0, 0, false}, 'b', {CTL_MAP_SPLIT, 1, false}},
        {{512, 65, 0, 0, false}, 'c', {CTL_MAP_SPLIT, 2, false}},
        {{512, 511, 0, 0, false}, 'i', {CTL_MAP_SPLIT, 8, false}},
        {{512, 0, 1, 0, false}, 'a', {CTL_MAP_SPLIT, 0, false}},
        {{512, 0, 511, 0, false}, 'q', {CTL_MAP_SPLIT, 0, true}},
        {{512, 0, 256, 256, false}, 'q', {CTL_MAP_SPLIT, 0, true}},
        {{512, 256, 128, 0, false}, 'e', {CTL_MAP_SPLIT, 4, false}},
        {{512, 256, 128, 1, false}, 'u', {CTL_MAP_SPLIT, 4, true}},
        {{512, 511, 0, 1, true}, 'y', {CTL_MAP_SPLIT, 8, true}},
        /* The last superpage may be short. */
        {{10, 10, 0, 0, false}, 'R', {CTL_MAP_RAM, 8, false}},
        {{10, 5, 0, 0, false}, 'e', {CTL_MAP_SPLIT, 4, false}},
        {{1, 0, 1, 0, false}, 'O', {CTL_MAP_OUT, 0, false}},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct ctl_map_cell cell;
        assert_int_equal(ctl_map_letter(&table[i].counts), table[i].letter);
        assert_true(ctl_map_read_letter(table[i].letter, &cell));
        assert_int_equal(cell.kind, table[i].cell.kind);
        assert_int_equal(cell.ram_eighths, table[i].cell.ram_eighths);
        assert_int_equal(cell.rest_up, table[i].cell.rest_up);
    }
}

static void nothing_else_is_a_letter(void **unused)
{
    (void)unused;
    unsigned letters = 0;
    for (int c = 0; c < 256; c++) {
        struct ctl_map_cell cell = {.ram_eighths = 77};
        bool is = ctl_map_read_letter((char)c, &cell);
        letters += is;
        assert_true(is != (cell.ram_eighths == 77));
    }
    assert_int_equal(letters, 5 + 9 + 9);
}

static void runs(void **unused)
{
    (void)unused;
    static const char *const table[][2] = {
        {"", ""},
        {"P", "P"},
        {"PP", "PP"},
        {"PPP", "P3"},
        {"HHHHHHHHHHHHP", "H12P"},
        {"PHPHPH", "PHPHPH"},
        {"aab", "aab"},
        {"OGGGGRiii", "OG4Ri3"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char text[64], letters[64];
        size_t count = strlen(table[i][0]);
        assert_int_equal(ctl_map_pack(table[i][0], count, text), strlen(table[i][1]));
        assert_string_equal(text, table[i][1]);
        assert_int_equal(ctl_map_unpack(text, letters, count), 0);
        assert_memory_equal(letters, table[i][0], count);
    }
}

static void runs_that_are_wrong(void **unused)
{
    (void)unused;
    /* Each for five superpages. */
    static const char *const table[] = {
        "",
        "P4",
        "P6",
        "P5P",
        "PPPPPP",
        "P0HHHHH",
        "3P",
        "P3z2",
        "P-5",
        "P 5",
        "j5",
        "z5",
        "P5\n",
        "P18446744073709551621",
        "P99999999999999999999999999",
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char letters[5];
        assert_int_equal(ctl_map_unpack(table[i], letters, sizeof(letters)), -EPROTO);
    }
}

/* No text is longer than what it stands for: a reply always fits into a line. */
static void no_text_is_long(void **unused)
{
    (void)unused;
    static char letters[CTL_MAP_REPLY_SUPERPAGES], text[CTL_MAP_REPLY_SUPERPAGES + 1];
    for (size_t period = 1; period <= 12; period++) {
        for (size_t i = 0; i < sizeof(letters); i++) {
            letters[i] = (i / period) % 2 == 0 ? 'P' : 'H';
        }
        assert_true(ctl_map_pack(letters, sizeof(letters), text) <= sizeof(letters));
    }
    assert_true(sizeof(text) + 1024 < BALLAST_PROTOCOL_LINE_MAX_BYTES);
}

/* A server that tells at most three superpages at a time of some, or lies. */
struct teller {
    const char *letters;
    const char *lie; /* what it says instead from the second reply on */
    unsigned asked;
};

static int query_map(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)error;
    struct teller *teller = owner;
    size_t from = (size_t)json_integer_value(json_object_get(arguments, "from"));
    size_t superpages = strlen(teller->letters), count = superpages - from;
    char text[16];
    count = count < 3 ? count : 3;
    ctl_map_pack(teller->letters + from, count, text);
    if (teller->asked++ > 0 && teller->lie != NULL) {
        *result = json_loads(teller->lie, 0, NULL);
        return 0;
    }
    *result = json_pack("{s:i, s:i, s:i, s:s}", "superpages", (int)superpages, "from", (int)from,
                        "count", (int)count, "map", text);
    return 0;
}

/* Asks such a server; what ctl_map_query said. */
static int ask(struct teller *teller, struct ctl_map *map, struct ctl_error *error)
{
    static const struct ctl_command commands[] = {{"query-map", query_map, NULL, NULL}};
    char folder[] = "/tmp/ballast-map-XXXXXX", path[64];
    struct ctl_server *server;
    struct ctl_client *client;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    const struct ctl_server_config config = {
        .path = path, .name = "vm", .commands = commands, .command_count = 1, .owner = teller};
    assert_int_equal(ctl_server_start(&config, &server), 0);
    assert_int_equal(ctl_client_connect(path, PATIENCE_MS, &client), 0);
    int ret = ctl_map_query(client, PATIENCE_MS, map, error);
    ctl_client_close(client);
    ctl_server_stop(server);
    unlink(path);
    rmdir(folder);
    return ret;
}

static void a_map_comes_in_parts(void **unused)
{
    (void)unused;
    static const struct {
        const char *letters;
        unsigned asked;
    } table[] = {{"", 1}, {"P", 1}, {"PHa", 1}, {"PHaO", 2}, {"PPPPPPPPPP", 4}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct teller teller = {.letters = table[i].letters};
        struct ctl_error error;
        struct ctl_map map;
        assert_int_equal(ask(&teller, &map, &error), 0);
        assert_int_equal(teller.asked, table[i].asked);
        assert_int_equal(map.count, strlen(table[i].letters));
        assert_memory_equal(map.letters, table[i].letters, map.count);
        ctl_map_free(&map);
    }
}

static void a_map_that_makes_no_sense(void **unused)
{
    (void)unused;
    static const char *const lies[] = {
        "{}",
        "{\"superpages\": 4, \"from\": 3, \"count\": 1, \"map\": 5}",
        "{\"superpages\": 4, \"from\": 3, \"count\": 1, \"map\": \"P2\"}",
        "{\"superpages\": 4, \"from\": 3, \"count\": 2, \"map\": \"PP\"}",
        "{\"superpages\": 4, \"from\": 0, \"count\": 1, \"map\": \"P\"}",
        "{\"superpages\": 4, \"from\": 3, \"count\": 0, \"map\": \"\"}",
        "{\"superpages\": 4, \"from\": 3, \"count\": -1, \"map\": \"\"}",
        "{\"superpages\": 5, \"from\": 3, \"count\": 1, \"map\": \"P\"}",
        "{\"superpages\": -4, \"from\": 3, \"count\": 1, \"map\": \"P\"}",
        "{\"superpages\": 8388609, \"from\": 3, \"count\": 1, \"map\": \"P\"}",
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct teller teller = {.letters = "PHaO", .lie = lies[i]};
        struct ctl_map map = {.count = 77};
        struct ctl_error error;
        assert_int_equal(ask(&teller, &map, &error), -EPROTO);
        assert_int_equal(map.count, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_say_what_is_there),
        cmocka_unit_test(nothing_else_is_a_letter),
        cmocka_unit_test(runs),
        cmocka_unit_test(runs_that_are_wrong),
        cmocka_unit_test(no_text_is_long),
        cmocka_unit_test(a_map_comes_in_parts),
        cmocka_unit_test(a_map_that_makes_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
