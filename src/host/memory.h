/* SPDX-License-Identifier: MIT */
/*
 * How much memory this process could still get without anybody being killed
 * for it: the least of what the kernel calls available and what is left under
 * the memory limit of each cgroup above us.
 */
#ifndef BALLAST_HOST_MEMORY_H
#define BALLAST_HOST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Longest path of a cgroup's folder that is looked at, with its NUL. */
#define MEMORY_CGROUP_BYTES 2304

/* A host is never brought below this much available memory on our account. */
#define MEMORY_HEADROOM_BYTES (UINT64_C(64) << 20)

/* What is the narrowest. */
enum memory_limit {
    MEMORY_LIMIT_HOST,   /* MemAvailable in /proc/meminfo */
    MEMORY_LIMIT_CGROUP, /* memory.max (v2) or memory.limit_in_bytes (v1) */
    /* Never answered below: the kernel refused although there seemed to be
     * enough (RLIMIT_AS, vm.overcommit_memory, a limit that we do not read). */
    MEMORY_LIMIT_OTHER,
    /* There is no descriptor left to look with: nothing is taken unseen. */
    MEMORY_LIMIT_DESCRIPTORS,
};

/* The same in detail. */
struct memory_room {
    uint64_t total_bytes;     /* MemTotal */
    uint64_t available_bytes; /* MemAvailable */
    /* Of the cgroup under whose limit the least is left: that, its limit, and its
     * folder without the root. UINT64_MAX, UINT64_MAX and "" if none has one. */
    uint64_t cgroup_left_bytes, cgroup_limit_bytes;
    char cgroup[MEMORY_CGROUP_BYTES];
    /* The least memory.high (v2) of them all: whoever has more is slowed down, and
     * not refused. UINT64_MAX if none has one. */
    uint64_t cgroup_high_bytes;
};

/* Reads it afresh, below `root` ("": of this host). -EIO if the kernel does not say;
 * -EMFILE or -ENFILE if no descriptor is left to ask it with. */
int memory_look(const char *root, struct memory_room *room);

/* Reads it afresh. Page cache that the kernel can drop counts as available;
 * swap does not. Without a descriptor to look with it is 0 bytes. -EIO if the kernel
 * does not say. */
int memory_available(uint64_t *bytes, enum memory_limit *limit);

/* What this process may take: what is available but for the headroom, and what limits
 * it. */
struct memory_spare {
    uint64_t bytes;
    enum memory_limit limit;
};

/* Reads afresh whether the host can give that much and keep its headroom. True if it
 * does not say, for then the kernel will; *spare (or NULL) stays as it is then. */
bool memory_has(uint64_t bytes, struct memory_spare *spare);

#endif
