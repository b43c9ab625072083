/* SPDX-License-Identifier: MIT */
/* The one guest that the agent serves, and what becomes of QEMU when it cannot be
 * served: see struct guest_options. */
#ifndef BALLAST_AGENT_THE_GUEST_H
#define BALLAST_AGENT_THE_GUEST_H

#include "guest/guest.h"

/* It exists (guest_exists) from the moment that QEMU has made guest RAM. */
extern struct guest the_guest;

/* What the agent does of its own accord. Set before guest_build, constant from then on. */
struct the_guest_policy {
    bool pause;           /* when exhausted: wait for a larger target instead of ending */
    const char *programs; /* names and versions, for reports; NULL: unknown */
};
extern struct the_guest_policy the_guest_policy;

/* For guest_options.on_unserved: ends the process, unless the guest is exhausted and
 * may wait. */
void the_guest_unserved(void *unused, gfn_t at, int err);

/*
 * For guest_options.on_broken: ends the process. The guest is frozen at once: its
 * memory can no longer be vouched for. Then a report is left (see postmortem.h) and
 * printed, after a line that says where it is. Does not return.
 */
void the_guest_broken(void *unused, const char *operation, gfn_t at);

#endif
