/* SPDX-License-Identifier: MIT */
/*
 * Placing: which cached pages go where when the guest touches a PoD entry.
 *
 * A superpage if one is cached and the whole range is POD, and more of them
 * ahead of a guest that walks through its memory; else the touched page and
 * some neighbours.
 *
 * Internal to the engine; domain.h has the lock and the meaning of errors.
 */
#ifndef BALLAST_ENGINE_PLACING_H
#define BALLAST_ENGINE_PLACING_H

#include "engine/domain.h"

/*
 * Places a page at `at`, which is POD, and what goes with it. The cache is not
 * empty. Returns 0, -EAGAIN or a fatal error. Work: the placing of AHEAD_MAX
 * superpages and the one that was touched.
 */
int placing_serve(struct domain *domain, gfn_t at);

#endif
