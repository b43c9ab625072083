/* SPDX-License-Identifier: MIT */
#include "host/policy.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int policy_read(struct memory_policy *policy, int mode, const unsigned long *nodes,
                unsigned long max_node)
{
    const unsigned long bits = 8 * sizeof(nodes[0]);
    /* The kernel looks at one node less than it is told. */
    unsigned long count = nodes != NULL && max_node > 1 ? max_node - 1 : 0;
    if (count > POLICY_NODES_MAX) {
        return -EINVAL;
    }
    *policy = (struct memory_policy){.mode = mode};
    for (unsigned long node = 0; node < count; node++) {
        policy->nodes[node / bits] |= nodes[node / bits] & (1UL << node % bits);
    }
    return 0;
}

bool policy_is_same(const struct memory_policy *a, const struct memory_policy *b)
{
    return a->mode == b->mode && memcmp(a->nodes, b->nodes, sizeof(a->nodes)) == 0;
}

int policy_apply(const struct memory_policy *policy, haddr_t at, uint64_t bytes)
{
    long result = syscall(SYS_mbind, at.a, bytes, policy->mode, policy->nodes,
                          (unsigned long)POLICY_NODES_MAX + 1, MPOL_MF_STRICT | MPOL_MF_MOVE);
    return result == 0 ? 0 : -errno;
}
