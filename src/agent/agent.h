/* SPDX-License-Identifier: MIT */
/*
 * The agent: what the preloaded object does in QEMU's process.
 *
 * Its constructor runs before QEMU's main. From then on agent_active() says
 * whether this process is a QEMU that Ballast was asked to serve; the
 * interposed functions (interpose.c) do nothing of their own otherwise.
 */
#ifndef BALLAST_AGENT_AGENT_H
#define BALLAST_AGENT_AGENT_H

#include "base/types.h"

bool agent_active(void);

/* Whether a new private anonymous mapping of that size is going to be guest
 * RAM, as far as one can tell before QEMU says so. */
bool agent_expects_ram(uint64_t bytes);

/*
 * QEMU asks for huge pages, which it does once for each block of memory that it
 * makes, before anything is in it. If the block is guest RAM, builds the
 * domain; if it is guest RAM of a kind that Ballast cannot serve, stops QEMU.
 */
void agent_see_block(haddr_t at, uint64_t bytes);

#endif
