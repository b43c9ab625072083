/* SPDX-License-Identifier: MIT */
#include "engine/cache.h"

#include <assert.h>

/* More slots than pages could fill: one partial slot for pages that come and
 * one for pages that go, one for a superpage on its way, and as many again. */
#define SPARE_SLOTS 8

slot_index_t cache_slots_for(pages_t max_pages)
{
    return (slot_index_t)((max_pages + SUPERPAGE_PAGES - 1) / SUPERPAGE_PAGES) + SPARE_SLOTS;
}

static size_t slots_bytes(slot_index_t count)
{
    return ((size_t)count * sizeof(struct cache_slot) + 63) / 64 * 64;
}

size_t cache_metadata_bytes(slot_index_t count)
{
    return slots_bytes(count) + (size_t)count * sizeof(struct bitmap);
}

void cache_init(struct cache *cache, slot_index_t count, void *metadata)
{
    *cache = (struct cache){
        .count = count,
        .slots = metadata,
        .bitmaps = (void *)((char *)metadata + slots_bytes(count)),
    };
    for (int list = 0; list < CACHE_LISTS; list++) {
        cache->heads[list] = SLOT_NONE;
    }
}

static void push(struct cache *cache, slot_index_t slot, enum cache_list list)
{
    cache->slots[slot].list = (uint8_t)list;
    cache->slots[slot].next = cache->heads[list];
    cache->heads[list] = slot;
    cache->lengths[list]++;
}

/* Takes a slot off its list. The finders below answer with the head of a list
 * almost always, so the walk is short. */
static void unlink_slot(struct cache *cache, slot_index_t slot)
{
    enum cache_list list = cache->slots[slot].list;
    slot_index_t *link = &cache->heads[list];
    while (*link != slot) {
        link = &cache->slots[*link].next;
    }
    *link = cache->slots[slot].next;
    cache->lengths[list]--;
}

static void move_to(struct cache *cache, slot_index_t slot, enum cache_list list)
{
    if (cache->slots[slot].list != list) {
        unlink_slot(cache, slot);
        push(cache, slot, list);
    }
}

slot_index_t cache_find_superpage(const struct cache *cache)
{
    slot_index_t huge = cache->heads[CACHE_FULL_HUGE];
    return huge != SLOT_NONE ? huge : cache->heads[CACHE_FULL];
}

slot_index_t cache_find_empty(const struct cache *cache, bool flat)
{
    if (!flat && cache->heads[CACHE_EMPTY_TABLE] != SLOT_NONE) {
        return cache->heads[CACHE_EMPTY_TABLE];
    }
    if (cache->heads[CACHE_EMPTY] != SLOT_NONE) {
        return cache->heads[CACHE_EMPTY];
    }
    return cache->fresh < cache->count ? cache->fresh : SLOT_NONE;
}

/* The first run of pages that are (or are not) in a slot. */
static struct cache_run first_run(const struct cache *cache, slot_index_t slot, bool present,
                                  pages_t limit)
{
    const struct cache_slot *s = &cache->slots[slot];
    pages_t begin = 0, end = SUPERPAGE_PAGES;
    if (s->pages != 0 && s->pages != SUPERPAGE_PAGES) {
        const struct bitmap *map = &cache->bitmaps[slot];
        begin = bitmap_next(map, 0, SUPERPAGE_PAGES, present);
        end = bitmap_next(map, begin, SUPERPAGE_PAGES, !present);
    }
    return (struct cache_run){
        .at = cfn_add(cache_first_cfn(slot), begin),
        .pages = min_u64(end - begin, limit),
    };
}

struct cache_run cache_find_pages(const struct cache *cache, pages_t limit)
{
    static const enum cache_list order[] = {CACHE_PARTIAL, CACHE_FULL, CACHE_FULL_HUGE};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        slot_index_t slot = cache->heads[order[i]];
        if (slot != SLOT_NONE) {
            return first_run(cache, slot, true, limit);
        }
    }
    return (struct cache_run){cfn(0), 0};
}

struct cache_run cache_find_room(const struct cache *cache, pages_t limit)
{
    slot_index_t slot = cache->heads[CACHE_PARTIAL];
    if (slot == SLOT_NONE) {
        slot = cache_find_empty(cache, false);
    }
    if (slot == SLOT_NONE) {
        return (struct cache_run){cfn(0), 0};
    }
    return first_run(cache, slot, false, limit);
}

/* The list on which a slot belongs by its contents. */
static enum cache_list right_list(const struct cache_slot *s, bool huge)
{
    if (s->pages == 0) {
        return s->table ? CACHE_EMPTY_TABLE : CACHE_EMPTY;
    }
    if (s->pages == SUPERPAGE_PAGES) {
        return huge ? CACHE_FULL_HUGE : CACHE_FULL;
    }
    return CACHE_PARTIAL;
}

/* Puts never used slots, up to and including this one, on the list of empty ones. */
static void start_using(struct cache *cache, slot_index_t slot)
{
    while (cache->fresh <= slot) {
        push(cache, cache->fresh++, CACHE_EMPTY);
    }
}

/* Marks pages in a slot's bitmap, before they are counted. A slot that was
 * empty or full has no valid bitmap yet, and one that stays whole needs none:
 * its memory is never touched. */
static void update_bitmap(struct cache *cache, slot_index_t slot, pages_t first, pages_t pages,
                          bool present)
{
    struct bitmap *map = &cache->bitmaps[slot];
    if (pages == SUPERPAGE_PAGES) {
        return;
    }
    if (cache->slots[slot].pages == 0 || cache->slots[slot].pages == SUPERPAGE_PAGES) {
        bitmap_assign(map, 0, SUPERPAGE_PAGES, !present);
    }
    bitmap_assign(map, first, pages, present);
}

void cache_added(struct cache *cache, struct cache_run run, bool huge)
{
    slot_index_t slot = cache_slot_of(run.at);
    struct cache_slot *s = &cache->slots[slot];
    pages_t first = run.at.n % SUPERPAGE_PAGES;
    assert(first + run.pages <= SUPERPAGE_PAGES && s->pages + run.pages <= SUPERPAGE_PAGES);

    start_using(cache, slot);
    update_bitmap(cache, slot, first, run.pages, true);
    s->pages = (uint16_t)(s->pages + run.pages);
    s->table |= !huge;
    cache->pages += run.pages;
    move_to(cache, slot, right_list(s, huge));
}

void cache_removed(struct cache *cache, struct cache_run run)
{
    slot_index_t slot = cache_slot_of(run.at);
    struct cache_slot *s = &cache->slots[slot];
    pages_t first = run.at.n % SUPERPAGE_PAGES;
    assert(first + run.pages <= SUPERPAGE_PAGES && run.pages <= s->pages);

    update_bitmap(cache, slot, first, run.pages, false);
    s->pages = (uint16_t)(s->pages - run.pages);
    /* What leaves in one piece leaves no page table; anything else does. */
    s->table |= !(run.pages == SUPERPAGE_PAGES && s->list == CACHE_FULL_HUGE);
    cache->pages -= run.pages;
    move_to(cache, slot, right_list(s, false));
}

void cache_flattened(struct cache *cache, slot_index_t slot)
{
    struct cache_slot *s = &cache->slots[slot];
    assert(s->pages == 0);
    s->table = 0;
    move_to(cache, slot, CACHE_EMPTY);
}

void cache_unflattened(struct cache *cache, slot_index_t slot)
{
    struct cache_slot *s = &cache->slots[slot];
    assert(s->pages == 0);
    start_using(cache, slot);
    s->table = 1;
    move_to(cache, slot, CACHE_EMPTY_TABLE);
}

void cache_rotate(struct cache *cache, slot_index_t slot)
{
    slot_index_t second = cache->slots[slot].next;
    enum cache_list list = cache->slots[slot].list;
    if (cache->heads[list] != slot || second == SLOT_NONE) {
        return;
    }
    cache->heads[list] = second;
    slot_index_t last = second;
    while (cache->slots[last].next != SLOT_NONE) {
        last = cache->slots[last].next;
    }
    cache->slots[last].next = slot;
    cache->slots[slot].next = SLOT_NONE;
}

static const char *check_slot(const struct cache *cache, slot_index_t slot, enum cache_list list)
{
    const struct cache_slot *s = &cache->slots[slot];
    if (s->list != list || right_list(s, list == CACHE_FULL_HUGE) != list) {
        return "cache: a slot is on EMPTY* <=> 0 pages, on FULL* <=> 512 pages";
    }
    if (list == CACHE_FULL_HUGE && s->table) {
        return "cache: no page table stands where a huge page does";
    }
    if (list == CACHE_PARTIAL &&
        bitmap_count(&cache->bitmaps[slot], 0, SUPERPAGE_PAGES) != s->pages) {
        return "cache: a partial slot's bitmap holds its pages";
    }
    return NULL;
}

const char *cache_check(const struct cache *cache)
{
    pages_t pages = 0;
    slot_index_t listed = 0;
    if (cache->fresh > cache->count) {
        return "cache: every slot below fresh is on one list";
    }
    for (int list = 0; list < CACHE_LISTS; list++) {
        slot_index_t length = 0;
        for (slot_index_t slot = cache->heads[list]; slot != SLOT_NONE;
             slot = cache->slots[slot].next) {
            if (slot >= cache->fresh || length++ == cache->fresh) {
                return "cache: every slot below fresh is on one list";
            }
            const char *broken = check_slot(cache, slot, (enum cache_list)list);
            if (broken) {
                return broken;
            }
            pages += cache->slots[slot].pages;
        }
        if (length != cache->lengths[list]) {
            return "cache: the lists have the lengths that they say";
        }
        listed += length;
    }
    if (listed != cache->fresh) {
        return "cache: every slot below fresh is on one list";
    }
    return pages == cache->pages ? NULL : "cache: pages = sum of the slots' pages";
}
