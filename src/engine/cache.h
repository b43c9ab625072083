/* SPDX-License-Identifier: MIT */
/*
 * The cache: the pages that a domain owns and the guest does not hold.
 *
 * It is an address range of slots, each a superpage long, numbered by cfn.
 * A slot is empty, full, or partial (a bitmap says which pages are there), and
 * stands on the list that says so:
 *
 *   EMPTY       nothing there, and a huge page could arrive in one piece
 *   EMPTY_TABLE nothing there but a page table, which would split it
 *   PARTIAL     some pages
 *   FULL        512 pages that came one by one
 *   FULL_HUGE   512 pages in one huge page, as far as we know
 *
 *   pages = sum of the slots' pages                     (C)
 *   a slot is on EMPTY* <=> 0 pages, on FULL* <=> 512 pages
 *   every slot below `fresh` is on one list; those above are EMPTY, on none
 *
 * Single pages come from partial slots first and go to partial slots first, so
 * that there are few of them: whole superpages stay whole.
 *
 * This module is the ledger. It moves nothing: reclaim.c and domain.c ask it
 * where, have the host move pages, and tell it what went across.
 *
 * All cached pages hold zeros, except while one of those two is at work.
 * Not thread safe: the domain's lock guards it.
 */
#ifndef BALLAST_ENGINE_CACHE_H
#define BALLAST_ENGINE_CACHE_H

#include "base/bitmap.h"
#include "base/types.h"

enum cache_list {
    CACHE_EMPTY,
    CACHE_EMPTY_TABLE,
    CACHE_PARTIAL,
    CACHE_FULL,
    CACHE_FULL_HUGE,
    CACHE_LISTS,
};

typedef uint32_t slot_index_t;
#define SLOT_NONE UINT32_MAX

struct cache_slot {
    slot_index_t next;
    uint16_t pages;
    uint8_t list;  /* enum cache_list */
    uint8_t table; /* a page table may stand here */
};

struct cache {
    pages_t pages;
    slot_index_t count;
    slot_index_t fresh; /* slots from here on were never used */
    slot_index_t heads[CACHE_LISTS];
    slot_index_t lengths[CACHE_LISTS]; /* EMPTY leaves out the never used */
    struct cache_slot *slots;
    struct bitmap *bitmaps; /* a slot's is used while it is partial */
};

/* A run of pages in one slot. */
struct cache_run {
    cfn_t at;
    pages_t pages;
};

/* Slots that a cache needs so that there is always room: what max_pages fill,
 * and a few more for partial slots and for superpages on their way. */
slot_index_t cache_slots_for(pages_t max_pages);

/* Bytes of zeroed memory that cache_init needs; most of it is never touched:
 * 8 a slot that was ever used are, and 64 more for each that was partial. */
size_t cache_metadata_bytes(slot_index_t count);

/* Makes an empty cache of `count` slots in `metadata`: zeroed, 8-byte aligned,
 * owned by the caller. */
void cache_init(struct cache *cache, slot_index_t count, void *metadata);

static inline slot_index_t cache_slot_of(cfn_t at)
{
    return (slot_index_t)(at.n / SUPERPAGE_PAGES);
}

static inline cfn_t cache_first_cfn(slot_index_t slot)
{
    return cfn((uint64_t)slot * SUPERPAGE_PAGES);
}

/* Slots that hold a whole superpage. */
static inline slot_index_t cache_superpages(const struct cache *cache)
{
    return cache->lengths[CACHE_FULL] + cache->lengths[CACHE_FULL_HUGE];
}

/* A full slot, huge if there is one; SLOT_NONE if there is none. The slot
 * stays where it is until cache_removed says that its pages left. */
slot_index_t cache_find_superpage(const struct cache *cache);

/* An empty slot. With `flat`, only one in which a huge page can arrive in one
 * piece; without, rather one in which it cannot. SLOT_NONE if there is none. */
slot_index_t cache_find_empty(const struct cache *cache, bool flat);

/* A run of at most `limit` cached pages: from a partial slot if there is one,
 * else from a full one, else from a huge one. pages == 0 if the cache is empty. */
struct cache_run cache_find_pages(const struct cache *cache, pages_t limit);

/* A run of at most `limit` free places for single pages: in a partial slot if
 * there is one, else in an empty one. pages == 0 if there is no room at all. */
struct cache_run cache_find_room(const struct cache *cache, pages_t limit);

/* Pages arrived at free places. `huge`: all 512 of a slot, in one piece. */
void cache_added(struct cache *cache, struct cache_run run, bool huge);

/* Pages left. */
void cache_removed(struct cache *cache, struct cache_run run);

/* The page table of an empty slot is gone. */
void cache_flattened(struct cache *cache, slot_index_t slot);

/* A page table may stand in this empty slot: pages were there for a moment. */
void cache_unflattened(struct cache *cache, slot_index_t slot);

/* Puts another slot of the same list first, if there is one: the first has a
 * page that cannot be moved just now. Cost: one walk of that list. */
void cache_rotate(struct cache *cache, slot_index_t slot);

/* Evaluates the equations above. NULL, or the one that does not hold. */
const char *cache_check(const struct cache *cache);

#endif
