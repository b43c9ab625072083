/* SPDX-License-Identifier: MIT */
/*
 * Moving pages between the p2m and the cache, ledgers included.
 *
 * Everything that changes P and C together goes through here, so that a move
 * that succeeded in part is counted in part, in one place.
 *
 * Internal to the engine; domain.h has the lock and the meaning of errors.
 */
#ifndef BALLAST_ENGINE_TRANSFER_H
#define BALLAST_ENGINE_TRANSFER_H

#include "engine/domain.h"

#include <errno.h>

/* What becomes of pages taken from the guest. */
enum transfer_rule {
    TRANSFER_IF_ZERO, /* keep what holds only zeros, place the rest back */
    TRANSFER_SCRUB,   /* keep all, filled with zeros: the contents are not needed */
    TRANSFER_COLLECT, /* GIVEN pages: keep what holds only zeros; the rest is in use, RAM again */
};

/* Moves cached pages to POD gfns of one superpage: as many as *moved says,
 * whatever is returned: 0, -EAGAIN, -EBUSY or -EEXIST as engine_ops.place says
 * it, or a fatal error, -EIO or -ESRCH, which counts even if pages went. */
int transfer_place(struct domain *domain, struct cache_run from, gfn_t to, pages_t *moved);

/*
 * Takes a superpage that is RAM throughout (for TRANSFER_COLLECT: GIVEN) into
 * the cache, all or nothing; its gfns become POD (OUT). Returns 1 if the cache has it, 0 if it
 * stays in the guest (not zero, busy, no room), -EAGAIN if it stays because the host cannot just
 * now (also while it is held: see recover.c), or a fatal error: -EIO, -ESRCH.
 */
int transfer_take_superpage(struct domain *domain, p2m_index_t index, enum transfer_rule rule);

/*
 * The same for RAM (GIVEN) pages of one superpage, one by one: at most `pages`, as many as there is
 * room for in one place. *kept_pages went into the cache; *seen_pages, at least 1, were dealt with,
 * the rest were not. Returns 0, -EAGAIN if the host cannot move the last one seen just now, or a
 * fatal error; both counts hold in each case. -ENOSPC, and nothing done, if
 * there is no room at all.
 */
int transfer_take_run(struct domain *domain, gfn_t at, pages_t pages, enum transfer_rule rule,
                      pages_t *kept_pages, pages_t *seen_pages);

/* Whether an error leaves nothing to be tried: the ledgers and the host no longer
 * agree, or the process is going. */
static inline bool transfer_is_fatal(int err)
{
    return err == -EIO || err == -ESRCH;
}

/* Declares that ledgers and host no longer agree. Returns -EIO. */
int transfer_broken(struct domain *domain);

#endif
