/* SPDX-License-Identifier: MIT */
/*
 * Reclaim: pages in the p2m that hold only zeros go back into the cache.
 *
 * No page is given back unless it holds zeros after nobody can write to it any
 * more: glance while the guest runs, take it out of the guest's reach, compare
 * in full, and place it back if it is not zero. In between, the page belongs
 * to neither side; whoever touches it waits.
 *
 * Internal to the engine; domain.h has the lock and the meaning of errors.
 */
#ifndef BALLAST_ENGINE_RECLAIM_H
#define BALLAST_ENGINE_RECLAIM_H

#include "engine/domain.h"

/*
 * Looks at superpages that were populated a little while ago, each once, for
 * one that holds only zeros: what a guest leaves behind that scrubs its memory.
 * Called after populates (domain_reclaim_eagerly); does nothing while the cache is well filled or
 * the domain is covered. Work: at most EAGER_LOOKS superpages.
 */
int reclaim_eager(struct domain *domain);

/*
 * The cache is empty: searches the populated memory for zeros, whole
 * superpages first, and stops as soon as it found some. On success the cache
 * may be empty still: then there are none. -EAGAIN: it is empty still because
 * the host cannot move pages just now; there may be some.
 */
int reclaim_sweep(struct domain *domain);

/* Whether the cache has fewer superpages than are good to have, and the domain
 * is not covered. */
bool reclaim_wants_superpages(const struct domain *domain);

/* Whether it has less than half of those. */
bool reclaim_lacks_superpages(const struct domain *domain);

/*
 * Fills the cache's reserve of superpages, which populates would otherwise have
 * to look for: looks at a few superpages as reclaim_eager does and, when there
 * are none left of those, round the whole list, once for each birth. *more says
 * whether to call again; if not, there is nothing to do before the next
 * populate. Work: at most EAGER_LOOKS superpages. Returns 0, -EAGAIN, or a
 * fatal error.
 */
int reclaim_reserve_step(struct domain *domain, bool *more);

#endif
