/* SPDX-License-Identifier: MIT */
/*
 * Maps of the p2m. See map.h.
 *
 * Letters of split superpages: SPLIT_POD + e and SPLIT_UP + e, where e is their
 * RAM in eighths, 0 to 8; the second if more of the rest is given up than PoD.
 */
#include "ctl/map.h"

#include "base/clock.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EIGHTHS   8
#define SPLIT_POD 'a'
#define SPLIT_UP  'q'
/* A run this short is no shorter with a number. */
#define RUN_MIN 3

#define MAP_MAX_SUPERPAGES (MAX_DOMAIN_BYTES / SUPERPAGE_BYTES)

static const char whole_letters[] = {
    [CTL_MAP_POD] = 'P', [CTL_MAP_HUGE] = 'H',  [CTL_MAP_RAM] = 'R',
    [CTL_MAP_OUT] = 'O', [CTL_MAP_GIVEN] = 'G',
};

char ctl_map_letter(const struct ctl_map_counts *counts)
{
    pages_t up = counts->out + counts->given;
    pages_t pod = counts->size - counts->ram - up;
    pages_t eighths = (counts->ram * EIGHTHS + counts->size - 1) / counts->size;

    if (counts->ram == counts->size) {
        return whole_letters[counts->huge ? CTL_MAP_HUGE : CTL_MAP_RAM];
    }
    if (pod == counts->size) {
        return whole_letters[CTL_MAP_POD];
    }
    if (counts->out == counts->size) {
        return whole_letters[CTL_MAP_OUT];
    }
    if (counts->given == counts->size) {
        return whole_letters[CTL_MAP_GIVEN];
    }
    return (char)((up > pod ? SPLIT_UP : SPLIT_POD) + (int)eighths);
}

bool ctl_map_read_letter(char letter, struct ctl_map_cell *cell)
{
    for (size_t i = 0; i < sizeof(whole_letters); i++) {
        if (letter == whole_letters[i]) {
            bool is_ram = i == CTL_MAP_HUGE || i == CTL_MAP_RAM;

            *cell = (struct ctl_map_cell){
                .kind = (enum ctl_map_kind)i,
                .ram_eighths = is_ram ? EIGHTHS : 0,
            };
            return true;
        }
    }
    if ((letter >= SPLIT_POD && letter <= SPLIT_POD + EIGHTHS) ||
        (letter >= SPLIT_UP && letter <= SPLIT_UP + EIGHTHS)) {
        bool rest_up = letter >= SPLIT_UP;

        *cell = (struct ctl_map_cell){
            .kind = CTL_MAP_SPLIT,
            .ram_eighths = (unsigned)(letter - (rest_up ? SPLIT_UP : SPLIT_POD)),
            .rest_up = rest_up,
        };
        return true;
    }
    return false;
}

size_t ctl_map_pack(const char *letters, size_t count, char *text)
{
    size_t length = 0;

    for (size_t i = 0; i < count;) {
        size_t run = 1;

        while (i + run < count && letters[i + run] == letters[i]) {
            run++;
        }
        if (run < RUN_MIN) {
            run = 1;
        }
        text[length++] = letters[i];
        if (run >= RUN_MIN) {
            /* The number is shorter than what it stands for. */
            length += (size_t)sprintf(text + length, "%zu", run);
        }
        i += run;
    }
    text[length] = '\0';
    return length;
}

/* Reads the length of a run, if one is there; 0 if it is more than `most`. */
static size_t read_run(const char **text, size_t most)
{
    size_t run = 0;

    if (**text < '0' || **text > '9') {
        return most > 0 ? 1 : 0;
    }
    for (; **text >= '0' && **text <= '9'; (*text)++) {
        run = run * 10 + (size_t)(**text - '0');
        if (run > most) {
            return 0;
        }
    }
    return run;
}

int ctl_map_unpack(const char *text, char *letters, size_t count)
{
    size_t at = 0;

    while (*text != '\0') {
        struct ctl_map_cell cell;
        char letter = *text++;
        size_t run = read_run(&text, count - at);

        if (run == 0 || !ctl_map_read_letter(letter, &cell)) {
            return -EPROTO;
        }
        memset(letters + at, letter, run);
        at += run;
    }
    return at == count ? 0 : -EPROTO;
}

/* Adds what a reply says to the map, which has `known` superpages so far. Makes
 * room for it all with the first. */
static int add_part(const json_t *reply, struct ctl_map *map, size_t *known)
{
    json_int_t superpages;
    json_int_t from;
    json_int_t count;
    const char *text;
    int ret;

    if (json_unpack((json_t *)reply, "{s:I, s:I, s:I, s:s}", "superpages", &superpages, "from",
                    &from, "count", &count, "map", &text) != 0 ||
        superpages < 0 || superpages > (json_int_t)MAP_MAX_SUPERPAGES ||
        from != (json_int_t)*known || count < 0 || count > superpages - from ||
        (count == 0 && from < superpages)) {
        return -EPROTO;
    }
    if (map->letters == NULL) {
        map->letters = malloc((size_t)superpages + 1);
        map->count = (size_t)superpages;
    }
    if (map->letters == NULL) {
        return -ENOMEM;
    }
    if (map->count != (size_t)superpages) {
        return -EPROTO;
    }
    ret = ctl_map_unpack(text, map->letters + *known, (size_t)count);
    if (ret == 0) {
        *known += (size_t)count;
    }
    return ret;
}

int ctl_map_query(struct ctl_client *client, int timeout_ms, struct ctl_map *map,
                  struct ctl_error *error)
{
    int64_t deadline = clock_now_ms() + timeout_ms;
    struct ctl_map made = {.letters = NULL};
    size_t known = 0;
    int ret;

    do {
        int64_t left = deadline - clock_now_ms();
        json_t *arguments = json_pack("{s:I}", "from", (json_int_t)known);
        json_t *reply;

        if (arguments == NULL) {
            ret = -ENOMEM;
            break;
        }
        ret = ctl_client_call(client, "query-map", arguments, left > 0 ? (int)left : 0, &reply,
                              error);
        json_decref(arguments);
        if (ret == 0) {
            ret = add_part(reply, &made, &known);
            json_decref(reply);
        }
    } while (ret == 0 && known < made.count);
    if (ret < 0) {
        ctl_map_free(&made);
        return ret;
    }
    *map = made;
    return 0;
}

void ctl_map_free(struct ctl_map *map)
{
    free(map->letters);
    *map = (struct ctl_map){.letters = NULL};
}
