/* SPDX-License-Identifier: MIT */
/*
 * System calls as they are.
 *
 * The agent replaces madvise and its kin in the process it lives in (see
 * agent/interpose.c). Its own calls must not come back to it, so they bypass
 * the C library's names. Each returns 0 or -errno.
 */
#ifndef BALLAST_HOST_SYS_H
#define BALLAST_HOST_SYS_H

#include "base/types.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Since Linux 5.14 and 5.18; older headers lack it. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
/* 6.1. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static inline int sys_madvise(haddr_t at, uint64_t bytes, int advice)
{
    return syscall(SYS_madvise, at.a, bytes, advice) == 0 ? 0 : -errno;
}

static inline int sys_mmap(haddr_t hint, uint64_t bytes, int protection, int flags, haddr_t *at)
{
    long result = syscall(SYS_mmap, hint.a, bytes, protection, flags, -1, 0L);
    if (result == -1 || result == 0) {
        return result == -1 ? -errno : -ENOMEM; /* at 0 nothing of use can be */
    }
    at->a = (uintptr_t)result;
    return 0;
}

static inline int sys_munmap(haddr_t at, uint64_t bytes)
{
    return syscall(SYS_munmap, at.a, bytes) == 0 ? 0 : -errno;
}

#endif
