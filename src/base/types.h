/* SPDX-License-Identifier: MIT */
/*
 * The units that Ballast counts in.
 *
 * A guest frame number, a cache frame number and a host address are all "an
 * integer that names a page", and mixing them up is the classic way to hand
 * one page to two owners. Each is a type of its own, which the compiler does
 * not convert. A number of pages is a plain integer, pages_t: it is added to
 * frame numbers through the functions below, never stored in one.
 */
#ifndef BALLAST_BASE_TYPES_H
#define BALLAST_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES       UINT64_C(4096)
#define SUPERPAGE_PAGES  UINT64_C(512)
#define SUPERPAGE_BYTES  (PAGE_BYTES * SUPERPAGE_PAGES)
#define MAX_DOMAIN_BYTES (UINT64_C(16) << 40) /* 16 TiB, the largest max */

/* A number of 4 KiB pages. */
typedef uint64_t pages_t;

/* Guest frame number: index of a 4 KiB page of guest RAM, from 0. */
typedef struct {
    uint64_t n;
} gfn_t;

/* Cache frame number: index of a 4 KiB page of the cache's address range, from 0. */
typedef struct {
    uint64_t n;
} cfn_t;

/* An address in this process. */
typedef struct {
    uintptr_t a;
} haddr_t;

static inline gfn_t gfn(uint64_t n)
{
    return (gfn_t){n};
}

static inline cfn_t cfn(uint64_t n)
{
    return (cfn_t){n};
}

static inline haddr_t haddr(const void *pointer)
{
    return (haddr_t){(uintptr_t)pointer};
}

static inline gfn_t gfn_add(gfn_t base, pages_t pages)
{
    return (gfn_t){base.n + pages};
}

static inline cfn_t cfn_add(cfn_t base, pages_t pages)
{
    return (cfn_t){base.n + pages};
}

static inline haddr_t haddr_add(haddr_t base, uint64_t bytes)
{
    return (haddr_t){base.a + bytes};
}

static inline uint64_t pages_to_bytes(pages_t pages)
{
    return pages * PAGE_BYTES;
}

/* Rounds down: a piece of a page is no page. */
static inline pages_t bytes_to_pages(uint64_t bytes)
{
    return bytes / PAGE_BYTES;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
