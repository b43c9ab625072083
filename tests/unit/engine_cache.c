/* SPDX-License-Identifier: MIT */
#include "engine/cache.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 5 };

struct fixture {
    struct cache cache;
    void *metadata;
};

static void start(struct fixture *f, slot_index_t slots)
{
    f->metadata = calloc(1, cache_metadata_bytes(slots));
    assert_non_null(f->metadata);
    cache_init(&f->cache, slots, f->metadata);
}

static void stop(struct fixture *f)
{
    free(f->metadata);
}

static void add(struct fixture *f, uint64_t at, pages_t pages, bool huge)
{
    cache_added(&f->cache, (struct cache_run){cfn(at), pages}, huge);
    assert_holds(cache_check(&f->cache));
}

static void drop(struct fixture *f, uint64_t at, pages_t pages)
{
    cache_removed(&f->cache, (struct cache_run){cfn(at), pages});
    assert_holds(cache_check(&f->cache));
}

static void assert_run(struct cache_run run, uint64_t at, pages_t pages)
{
    assert_int_equal(run.pages, pages);
    assert_int_equal(run.at.n, at);
}

static void empty(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    assert_int_equal(f.cache.pages, 0);
    assert_int_equal(cache_superpages(&f.cache), 0);
    assert_int_equal(cache_find_superpage(&f.cache), SLOT_NONE);
    assert_int_equal(cache_find_pages(&f.cache, 512).pages, 0);
    assert_int_equal(cache_find_empty(&f.cache, true), 0);
    assert_int_equal(cache_find_empty(&f.cache, false), 0);
    assert_run(cache_find_room(&f.cache, 1000), 0, 512);
    assert_run(cache_find_room(&f.cache, 3), 0, 3);
    assert_holds(cache_check(&f.cache));
    stop(&f);
}

static void slots_hold_max_and_to_spare(void **unused)
{
    (void)unused;
    assert_true(cache_slots_for(512) > 1);
    assert_true(cache_slots_for(513) > cache_slots_for(512));
    assert_true(cache_slots_for(bytes_to_pages(MAX_DOMAIN_BYTES)) > 8u << 20);
    assert_true(cache_slots_for(bytes_to_pages(MAX_DOMAIN_BYTES)) < SLOT_NONE);
}

static void a_huge_superpage_comes_and_goes(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    add(&f, 0, 512, true);
    assert_int_equal(cache_superpages(&f.cache), 1);
    assert_int_equal(cache_find_superpage(&f.cache), 0);
    assert_int_equal(f.cache.slots[0].list, CACHE_FULL_HUGE);
    drop(&f, 0, 512);
    assert_int_equal(f.cache.slots[0].list, CACHE_EMPTY); /* and left no table */
    assert_int_equal(cache_find_empty(&f.cache, true), 0);
    stop(&f);
}

static void what_comes_in_pieces_leaves_a_table(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    add(&f, 0, 512, false);
    assert_int_equal(f.cache.slots[0].list, CACHE_FULL);
    assert_int_equal(f.cache.slots[0].table, 1);
    drop(&f, 0, 512);
    assert_int_equal(f.cache.slots[0].list, CACHE_EMPTY_TABLE);
    assert_int_equal(cache_find_empty(&f.cache, false), 0); /* rather where no huge page could */
    assert_int_equal(cache_find_empty(&f.cache, true), 1);  /* a fresh one */
    cache_flattened(&f.cache, 0);
    assert_holds(cache_check(&f.cache));
    assert_int_equal(cache_find_empty(&f.cache, true), 0);

    add(&f, 0, 512, true);
    drop(&f, 100, 1); /* splits it */
    assert_int_equal(f.cache.slots[0].list, CACHE_PARTIAL);
    drop(&f, 0, 100);
    drop(&f, 101, 411);
    assert_int_equal(f.cache.slots[0].list, CACHE_EMPTY_TABLE);
    stop(&f);
}

static void huge_first_for_superpages_and_last_for_singles(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    add(&f, 0, 512, true);
    assert_run(cache_find_pages(&f.cache, 4), 0, 4);
    add(&f, 512, 512, false);
    assert_int_equal(cache_find_superpage(&f.cache), 0);
    assert_run(cache_find_pages(&f.cache, 4), 512, 4);
    add(&f, 1024 + 60, 10, false);
    assert_run(cache_find_pages(&f.cache, 4), 1024 + 60, 4);
    assert_run(cache_find_pages(&f.cache, 400), 1024 + 60, 10);
    assert_run(cache_find_room(&f.cache, 400), 1024, 60);
    drop(&f, 0, 512);
    assert_int_equal(cache_find_superpage(&f.cache), 1); /* the other one then */
    stop(&f);
}

static void pieces_make_a_full_slot(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    add(&f, 256, 256, false);
    add(&f, 0, 128, false);
    assert_int_equal(cache_superpages(&f.cache), 0);
    assert_run(cache_find_room(&f.cache, 512), 128, 128);
    add(&f, 128, 128, false);
    assert_int_equal(cache_superpages(&f.cache), 1);
    assert_int_equal(f.cache.slots[0].list, CACHE_FULL);
    stop(&f);
}

static void unflattened(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    cache_unflattened(&f.cache, 0); /* never used before */
    assert_int_equal(f.cache.slots[0].list, CACHE_EMPTY_TABLE);
    assert_holds(cache_check(&f.cache));
    cache_unflattened(&f.cache, 0); /* again: no change */
    assert_int_equal(f.cache.lengths[CACHE_EMPTY_TABLE], 1);
    assert_int_equal(cache_find_empty(&f.cache, true), 1);
    stop(&f);
}

/* A later slot may be used before an earlier one. */
static void slots_out_of_order(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    add(&f, 3 * 512, 5, false);
    assert_int_equal(f.cache.fresh, 4);
    assert_int_equal(f.cache.lengths[CACHE_EMPTY], 3);
    cache_unflattened(&f.cache, 1); /* from the middle of its list */
    assert_holds(cache_check(&f.cache));
    cache_unflattened(&f.cache, 0); /* from its end */
    assert_holds(cache_check(&f.cache));
    stop(&f);
}

static void no_room(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, 2);
    add(&f, 0, 512, true);
    add(&f, 512, 511, false);
    assert_int_equal(cache_find_empty(&f.cache, true), SLOT_NONE);
    assert_int_equal(cache_find_empty(&f.cache, false), SLOT_NONE);
    assert_run(cache_find_room(&f.cache, 9), 1023, 1);
    add(&f, 1023, 1, false);
    assert_int_equal(cache_find_room(&f.cache, 9).pages, 0);
    stop(&f);
}

static void rotation(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    add(&f, 0, 512, true);
    cache_rotate(&f.cache, 0); /* alone */
    assert_int_equal(cache_find_superpage(&f.cache), 0);
    add(&f, 512, 512, true);
    add(&f, 1024, 512, true);
    assert_int_equal(cache_find_superpage(&f.cache), 2);
    cache_rotate(&f.cache, 0); /* not the first: nothing to do */
    assert_int_equal(cache_find_superpage(&f.cache), 2);
    cache_rotate(&f.cache, 2);
    assert_int_equal(cache_find_superpage(&f.cache), 1);
    assert_holds(cache_check(&f.cache));
    cache_rotate(&f.cache, 1);
    assert_int_equal(cache_find_superpage(&f.cache), 0);
    cache_rotate(&f.cache, 0);
    assert_int_equal(cache_find_superpage(&f.cache), 2);
    assert_holds(cache_check(&f.cache));
    drop(&f, 512, 512); /* not at the head */
    drop(&f, 0, 1);
    stop(&f);
}

/* Each equation of cache.h, broken on purpose. */
static void check_finds_what_is_wrong(void **unused)
{
    (void)unused;
    static const char wrong_list[] =
        "cache: a slot is on EMPTY* <=> 0 pages, on FULL* <=> 512 pages";
    struct fixture f;
    start(&f, SLOTS);
    add(&f, 0, 512, true);
    add(&f, 512, 512, false);
    add(&f, 1024, 7, false);
    add(&f, 1536, 512, true);
    drop(&f, 1536, 512);
    struct cache *cache = &f.cache, saved = *cache;
    struct cache_slot saved_slots[SLOTS];
    struct bitmap saved_bitmap = cache->bitmaps[2];
    memcpy(saved_slots, cache->slots, sizeof(saved_slots));
#define broken(breakage, what)                                                                     \
    do {                                                                                           \
        breakage;                                                                                  \
        assert_finds(cache_check(cache), what);                                                    \
        *cache = saved;                                                                            \
        memcpy(cache->slots, saved_slots, sizeof(saved_slots));                                    \
        cache->bitmaps[2] = saved_bitmap;                                                          \
        assert_holds(cache_check(cache));                                                          \
    } while (0)
    broken(cache->slots[0].pages = 511, wrong_list);
    broken(cache->slots[2].pages = 0, wrong_list);
    broken(cache->slots[2].pages = 512, wrong_list);
    broken(cache->slots[3].table = 1, wrong_list);
    broken(cache->slots[0].table = 1, "cache: no page table stands where a huge page does");
    broken(cache->slots[1].list = CACHE_FULL_HUGE, wrong_list);
    broken(cache->slots[2].pages = 8, "cache: a partial slot's bitmap holds its pages");
    broken(bitmap_assign(&cache->bitmaps[2], 100, 1, true),
           "cache: a partial slot's bitmap holds its pages");
    broken(cache->slots[0].next = 0, "cache: every slot below fresh is on one list");
    broken(cache->fresh--, "cache: every slot below fresh is on one list");
    broken(cache->fresh++, "cache: every slot below fresh is on one list");
    broken(cache->lengths[CACHE_FULL]++, "cache: the lists have the lengths that they say");
    broken(cache->pages++, "cache: pages = sum of the slots' pages");
#undef broken
    stop(&f);
}

static bool naive_has(const bool *pages, struct cache_run run, bool value)
{
    for (pages_t i = 0; i < run.pages; i++) {
        if (pages[run.at.n + i] != value) {
            return false;
        }
    }
    return true;
}

static void against_an_array(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SLOTS);
    bool naive[SLOTS * 512] = {0};
    pages_t count = 0;
    uint64_t random = 7;
    for (int round = 0; round < 50000; round++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        pages_t limit = (random >> 40) % 4 ? 1 + (random >> 33) % 40 : 512;
        struct cache_run run = {cfn(0), 0};
        bool adding = (random >> 20) % 2;
        if (adding) {
            slot_index_t slot = cache_find_empty(&f.cache, true);
            bool huge = limit == 512 && slot != SLOT_NONE && (random >> 50) % 2;
            run = huge ? (struct cache_run){cache_first_cfn(slot), 512}
                       : cache_find_room(&f.cache, limit);
            assert_int_equal(run.pages == 0, count == SLOTS * 512);
            if (run.pages != 0) {
                assert_true(naive_has(naive, run, false));
                cache_added(&f.cache, run, huge);
            }
        } else {
            run = cache_find_pages(&f.cache, limit);
            if (limit == 512 && cache_superpages(&f.cache) != 0) {
                run.at = cache_first_cfn(cache_find_superpage(&f.cache));
                run.pages = 512;
            }
            assert_int_equal(run.pages == 0, count == 0);
            if (run.pages != 0) {
                assert_true(naive_has(naive, run, true));
                cache_removed(&f.cache, run);
            }
        }
        assert_true(run.pages <= limit);
        memset(naive + run.at.n, adding, run.pages);
        count = adding ? count + run.pages : count - run.pages;
        assert_int_equal(f.cache.pages, count);
        assert_holds(cache_check(&f.cache));
        slot_index_t full = 0;
        for (slot_index_t slot = 0; slot < SLOTS; slot++) {
            full += naive_has(naive, (struct cache_run){cache_first_cfn(slot), 512}, true);
        }
        assert_int_equal(cache_superpages(&f.cache), full);
    }
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),
        cmocka_unit_test(slots_hold_max_and_to_spare),
        cmocka_unit_test(a_huge_superpage_comes_and_goes),
        cmocka_unit_test(what_comes_in_pieces_leaves_a_table),
        cmocka_unit_test(huge_first_for_superpages_and_last_for_singles),
        cmocka_unit_test(pieces_make_a_full_slot),
        cmocka_unit_test(unflattened),
        cmocka_unit_test(slots_out_of_order),
        cmocka_unit_test(no_room),
        cmocka_unit_test(rotation),
        cmocka_unit_test(check_finds_what_is_wrong),
        cmocka_unit_test(against_an_array),
    };
    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
