/* SPDX-License-Identifier: MIT */
/*
 * How much memory this process could still get without anybody being killed
 * for it: the least of what the kernel calls available and what is left under
 * the memory limit of each cgroup above us.
 */
#ifndef BALLAST_HOST_MEMORY_H
#define BALLAST_HOST_MEMORY_H

#include <stdint.h>

/* What is the narrowest. */
/* A host is never brought below this much available memory on our account. */
#define MEMORY_HEADROOM_BYTES (UINT64_C(64) << 20)

enum memory_limit {
    MEMORY_LIMIT_HOST,   /* MemAvailable in /proc/meminfo */
    MEMORY_LIMIT_CGROUP, /* memory.max (v2) or memory.limit_in_bytes (v1) */
    /* Never answered below: the kernel refused although there seemed to be
     * enough (RLIMIT_AS, vm.overcommit_memory, a limit that we do not read). */
    MEMORY_LIMIT_OTHER,
};

/* Reads it afresh. Page cache that the kernel can drop counts as available;
 * swap does not. -EIO if the kernel does not say. */
int memory_available(uint64_t *bytes, enum memory_limit *limit);

#endif
