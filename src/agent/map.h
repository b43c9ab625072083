/* SPDX-License-Identifier: MIT */
/*
 * The guest's p2m as letters, one a superpage (ctl/map.h): what query-map tells.
 */
#ifndef BALLAST_AGENT_MAP_H
#define BALLAST_AGENT_MAP_H

#include <stddef.h>

/* Writes the letters of at most `room` superpages from `from` on. Returns how many
 * that were; *superpages is how many there are in all, 0 before there is a domain.
 * Any thread. Lets the domain's lock go now and then, so that what was read first
 * may be another moment's than what was read last. */
size_t map_letters(size_t from, size_t room, char *letters, size_t *superpages);

#endif
