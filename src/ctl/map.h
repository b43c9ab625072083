/* SPDX-License-Identifier: MIT */
/*
 * The p2m as a map: one letter a superpage, what query-map sends in runs
 * (docs/protocol.md). The agent makes letters and packs them; clients ask for the
 * whole map, and read letters.
 *
 * Nothing here is locked; all but ctl_map_query() is pure.
 */
#ifndef BALLAST_CTL_MAP_H
#define BALLAST_CTL_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/types.h"
#include "ctl/client.h"

enum ctl_map_kind {
    CTL_MAP_POD,   /* all of it PoD: backed by nothing yet */
    CTL_MAP_HUGE,  /* all of it RAM, and one huge page as far as the agent knows */
    CTL_MAP_RAM,   /* all of it RAM, in single pages */
    CTL_MAP_OUT,   /* all of it given up, backed by nothing */
    CTL_MAP_GIVEN, /* all of it given up, the pages still in place */
    CTL_MAP_SPLIT, /* of several kinds */
};
#define CTL_MAP_KINDS 6

/* What is in a superpage, in pages; what is none of these is PoD. */
struct ctl_map_counts {
    pages_t size; /* 512, or fewer for the last superpage of a domain */
    pages_t ram, out, given;
    bool huge;
};

/* What a letter says. */
struct ctl_map_cell {
    enum ctl_map_kind kind;
    unsigned ram_eighths; /* RAM in eighths of the superpage, rounded up: 0 if there is none */
    /* Of a split one: more of what is not RAM is given up than PoD. */
    bool rest_up;
};

/* The letter for a superpage, which must have a page. */
char ctl_map_letter(const struct ctl_map_counts *counts);

/* What a letter says. False if it is none. */
bool ctl_map_read_letter(char letter, struct ctl_map_cell *cell);

/* Most superpages that one reply of query-map tells: its text, which is never
 * longer than that, then fits into a line. */
#define CTL_MAP_REPLY_SUPERPAGES 32768

/* Writes letters as runs: a letter, followed by the length of the run if that is
 * three or more. `text` has room for count + 1 bytes, and gets a NUL. Returns the
 * length without it, which is at most `count`. */
size_t ctl_map_pack(const char *letters, size_t count, char *text);

/* The reverse, for exactly `count` superpages. -EPROTO if the text is for another
 * number of them, or is no such text; `letters` may be written to then. */
int ctl_map_unpack(const char *text, char *letters, size_t count);

/* A whole map. */
struct ctl_map {
    size_t count;  /* of superpages */
    char *letters; /* one each, not ended by NUL */
};

/* Asks for all of a domain's map, in as many requests as it takes; what changes
 * between two of them may not fit together. 0, and a map that the caller frees; the
 * errors of ctl_client_call(), timeout_ms being for all of it; -EREMOTEIO with the
 * class CommandNotFound is what older agents say. -EPROTO if the answer makes no
 * sense. */
int ctl_map_query(struct ctl_client *client, int timeout_ms, struct ctl_map *map,
                  struct ctl_error *error);

/* Frees what ctl_map_query() made. A zeroed map is allowed. */
void ctl_map_free(struct ctl_map *map);

#endif
