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

#include "host/policy.h"

bool agent_active(void);

/* Whether a new private anonymous mapping of that size is going to be guest
 * RAM, as far as one can tell before QEMU says so. */
bool agent_expects_ram(uint64_t bytes);

/*
 * QEMU asks for huge pages, which it does once for each block of memory that it
 * makes, before anything is in it. If the block is guest RAM, builds the
 * domain, or adds it to the domain; if it is guest RAM of a kind that Ballast cannot
 * serve, stops QEMU. Memory for DIMMs that comes while the guest runs is added or not.
 */
void agent_see_block(haddr_t at, uint64_t bytes);

/* QEMU sets a policy on the host's NUMA nodes for guest RAM, as mbind(2) is told. 0 or
 * -errno; stops QEMU if it is one that cannot be kept, and the guest has not run. */
int agent_set_policy(haddr_t at, uint64_t bytes, const struct memory_policy *policy);

#endif
