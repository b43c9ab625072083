/* SPDX-License-Identifier: MIT */
/* A memory cgroup of the test's own, of either version. */
#ifndef BALLAST_TESTS_HOST_CGROUP_H
#define BALLAST_TESTS_HOST_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes one with that limit, below ours or, where ours may have none (v2 wants
 * processes in leaves only), beside it; its path. False if none can be made. */
bool cgroup_make(uint64_t limit_bytes, char *path, size_t size);

/* Puts the calling process into it. */
bool cgroup_enter(const char *path);

/* Removes it, when its last process is gone. */
void cgroup_remove(const char *path);

#endif
