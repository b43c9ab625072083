/* SPDX-License-Identifier: MIT */
/*
 * On which of the host's NUMA nodes memory shall be: what mbind(2) is told.
 *
 * A page keeps its node when it moves between two addresses. So all places that a domain's
 * pages are moved between, and where they come from, need the same policy.
 */
#ifndef BALLAST_HOST_POLICY_H
#define BALLAST_HOST_POLICY_H

#include "base/types.h"

/* Nodes of the largest hosts that Linux can be built for. */
#define POLICY_NODES_MAX 1024

struct memory_policy {
    int mode; /* MPOL_BIND and so on; 0, MPOL_DEFAULT: none */
    unsigned long nodes[POLICY_NODES_MAX / (8 * sizeof(unsigned long))];
};

/* Takes what mbind is told. -EINVAL if there are more nodes than POLICY_NODES_MAX. */
int policy_read(struct memory_policy *policy, int mode, const unsigned long *nodes,
                unsigned long max_node);

bool policy_is_same(const struct memory_policy *a, const struct memory_policy *b);

/* Gives a range that policy, and moves what is there already to where it shall be.
 * -EIO: some of it stayed where it was; or what mbind says. */
int policy_apply(const struct memory_policy *policy, haddr_t at, uint64_t bytes);

#endif
