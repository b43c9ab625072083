/* SPDX-License-Identifier: MIT */
/*
 * Where the gfns of guest RAM are: its blocks, each a piece of this process's address
 * space. Gfns count through all of them; between two blocks addresses need not go on.
 *
 *   page g of the block that begins with gfn f is at  address + (g - f) * 4096
 *   a block begins with a superpage, both as gfns and as addresses
 *   no gfn and no address is in two blocks
 *
 * Blocks are added and removed, and gfns looked up, under the domain's lock. Whether an
 * address is in guest RAM may be asked by any thread without it: where a block is, is one
 * word.
 */
#ifndef BALLAST_HOST_BLOCKS_H
#define BALLAST_HOST_BLOCKS_H

#include "base/types.h"

#include <stdatomic.h>

/* QEMU has at most 128 nodes and 256 slots for DIMMs; who has more than this many of
 * either is told. */
#define BLOCKS_MAX 64

struct host_block {
    haddr_t at;
    uint64_t bytes;
    gfn_t first;
};

struct blocks {
    _Atomic uint64_t where[BLOCKS_MAX]; /* see blocks.c; 0: none */
    gfn_t first[BLOCKS_MAX];
};

/* Adds a block: whole pages, aligned to 2 MiB. -EINVAL if it is not, -ENOSPC if there are
 * as many as there can be. */
int blocks_add(struct blocks *blocks, const struct host_block *block);

/* Removes the block that begins with that gfn. */
void blocks_remove(struct blocks *blocks, gfn_t first);

/* The block of that number, of BLOCKS_MAX; false if there is none. */
bool blocks_get(const struct blocks *blocks, unsigned number, struct host_block *block);

/* The address of a gfn, which must be in a block. */
haddr_t blocks_address(const struct blocks *blocks, gfn_t at);

/* Whether an address is in a block, and at which gfn. */
bool blocks_find(const struct blocks *blocks, haddr_t at, gfn_t *found);

/* Whether any part of a range is in that block. */
static inline bool block_overlaps(const struct host_block *block, haddr_t at, uint64_t bytes)
{
    return at.a < block->at.a + block->bytes && at.a + bytes > block->at.a;
}

/* Whether any part of a range is in a block. Any thread. */
bool blocks_overlap(const struct blocks *blocks, haddr_t at, uint64_t bytes);

#endif
