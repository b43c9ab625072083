/* SPDX-License-Identifier: MIT */
/*
 * The blocks of guest RAM that come after the first, and how they go again: the nodes of
 * a guest with NUMA, and DIMMs, at the start and while the guest runs.
 *
 * A block is *used* while it is in the guest's address space. One that is not, because its
 * DIMM is yet to be plugged or was unplugged, is OUT throughout: it needs no pages.
 */
#ifndef BALLAST_GUEST_PLUG_H
#define BALLAST_GUEST_PLUG_H

#include "guest/guest.h"
#include "host/policy.h"

/*
 * A block more, of whole superpages, untouched. While the machine is made (`starting`) it
 * is used, and if the domain has not all of its target yet, because that is more than
 * there was RAM until now, the host gives what there is room for now; else it is not used.
 *
 *   -ENOSPC  the domain was not made for so much, or for so many blocks
 *   -EINVAL  it is not of whole superpages, or the first block is not
 *   -EBUSY   there is no domain that runs
 *   else as guest_build, with *problem filled, and the guest must not run
 */
int guest_plug(struct guest *guest, haddr_t at, uint64_t bytes, bool starting,
               struct guest_problem *problem);

/*
 * The block that begins there is in the guest's address space now, or no longer: then
 * what was in it is lost, and its pages go into the cache. While the machine is made what
 * is used becomes POD at once. Later the guest must first be ready for it, which takes it a
 * while: if it were asked to give up as much as it gets, it would give up what it has. So
 * the block stays OUT until the guest touches it, and then becomes POD, and
 * guest_options.on_taken is called.
 */
void guest_use(struct guest *guest, haddr_t at, bool used);

/*
 * The VMM is about to unmap a range with a block in it. When this returns true no page of
 * the domain is in that block, which is no part of it any more; or the domain is dying. If
 * not, because something else holds one of its pages for seconds, the block stays what it
 * was, out of use, and must stay mapped. The target becomes max if it was more than that.
 */
bool guest_unplug(struct guest *guest, haddr_t at, uint64_t bytes);

/* Gives the block in that range a policy on the host's NUMA nodes, as it is made: see
 * linux_host_set_policy. */
int guest_set_policy(struct guest *guest, haddr_t at, uint64_t bytes,
                     const struct memory_policy *policy);

/* Calls a function for each block: whether the guest uses it now is what it returns. */
void guest_review_blocks(struct guest *guest, bool (*is_used)(haddr_t at));

/* The machine is made, and the guest may run: -EINVAL if the target is more than all of
 * its RAM. */
int guest_complete(struct guest *guest);

#endif
