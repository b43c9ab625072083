/* SPDX-License-Identifier: MIT */
/*
 * Reservations: what the guest gives up and takes back by its balloon, and
 * what becomes of the pages.
 *
 * A page that the guest gives up is zeroed where it is and becomes GIVEN. It
 * is collected into the cache when its whole superpage has been given up (in
 * one piece then, which is why we wait), or earlier if the cache is empty or
 * the domain must shrink. Because it is compared when it is collected, a guest
 * that goes on using a page it gave up loses nothing.
 *
 * Internal to the engine; domain.h has the lock and the meaning of errors.
 */
#ifndef BALLAST_ENGINE_RESERVATION_H
#define BALLAST_ENGINE_RESERVATION_H

#include "engine/domain.h"

/*
 * Collects GIVEN pages, entry by entry from the sweep hand, until `enough`
 * pages are in the cache that were not, or one pass is done. Returns 0, -EAGAIN
 * if there are none because the host cannot just now, or a fatal error.
 */
int reservation_collect(struct domain *domain, pages_t enough);

/*
 * While total > target, gives pages to the host that no PoD entry may need:
 * at most `step_pages`. Returns 0, -EAGAIN, or a fatal error.
 */
int reservation_settle(struct domain *domain, pages_t step_pages);

/* Whether reservation_settle has something to give. */
bool reservation_has_surplus(const struct domain *domain);

#endif
