/* SPDX-License-Identifier: MIT */
#include "host/blocks.h"

#include <errno.h>

/* The word: how many pages, at most MAX_DOMAIN_BYTES, and above that the superpage at
 * which it begins, which leaves room for addresses of 51 bits. */
#define PAGES_BITS 34
#define PAGES_MASK ((UINT64_C(1) << PAGES_BITS) - 1)

static struct host_block decode(const struct blocks *blocks, unsigned number)
{
    uint64_t word = atomic_load_explicit(&blocks->where[number], memory_order_acquire);
    return (struct host_block){
        .at = {(word >> PAGES_BITS) * SUPERPAGE_BYTES},
        .bytes = pages_to_bytes(word & PAGES_MASK),
    };
}

int blocks_add(struct blocks *blocks, const struct host_block *block)
{
    if (block->at.a % SUPERPAGE_BYTES != 0 || block->first.n % SUPERPAGE_PAGES != 0 ||
        block->bytes % PAGE_BYTES != 0 || block->bytes == 0 || block->bytes > MAX_DOMAIN_BYTES) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        if (atomic_load(&blocks->where[i]) == 0) {
            blocks->first[i] = block->first;
            atomic_store_explicit(&blocks->where[i],
                                  block->at.a / SUPERPAGE_BYTES << PAGES_BITS |
                                      bytes_to_pages(block->bytes),
                                  memory_order_release);
            return 0;
        }
    }
    return -ENOSPC;
}

void blocks_remove(struct blocks *blocks, gfn_t first)
{
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        if (blocks->first[i].n == first.n) {
            atomic_store(&blocks->where[i], 0);
        }
    }
}

bool blocks_get(const struct blocks *blocks, unsigned number, struct host_block *block)
{
    struct host_block found = decode(blocks, number);
    if (found.bytes == 0) {
        return false;
    }
    found.first = blocks->first[number];
    *block = found;
    return true;
}

haddr_t blocks_address(const struct blocks *blocks, gfn_t at)
{
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        struct host_block block = decode(blocks, i);
        uint64_t offset = at.n - blocks->first[i].n;
        if (offset < bytes_to_pages(block.bytes)) {
            return haddr_add(block.at, pages_to_bytes(offset));
        }
    }
    return (haddr_t){0};
}

bool blocks_find(const struct blocks *blocks, haddr_t at, gfn_t *found)
{
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        struct host_block block = decode(blocks, i);
        if (at.a - block.at.a < block.bytes) {
            *found = gfn_add(blocks->first[i], bytes_to_pages(at.a - block.at.a));
            return true;
        }
    }
    return false;
}

bool blocks_overlap(const struct blocks *blocks, haddr_t at, uint64_t bytes)
{
    bool overlap = false;
    for (unsigned i = 0; i < BLOCKS_MAX && !overlap; i++) {
        struct host_block block = decode(blocks, i);
        overlap = block.bytes != 0 && block_overlaps(&block, at, bytes);
    }
    return overlap;
}
