/* SPDX-License-Identifier: MIT */
/* Bitmaps against an array of bools: every range of a few hundred patterns. */
#include "base/bitmap.h"

#include "unit.h"

#include <string.h>

static uint64_t state = 88172645463325252;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static void assign_every_range_of_a_word_and_a_half(void **unused)
{
    (void)unused;
    for (pages_t at = 0; at < 96; at++) {
        for (pages_t count = 0; at + count <= 96; count++) {
            struct bitmap ones = {0}, zeros;
            memset(&zeros, 0xff, sizeof(zeros));
            bitmap_assign(&ones, at, count, true);
            bitmap_assign(&zeros, at, count, false);
            for (pages_t bit = 0; bit < SUPERPAGE_PAGES; bit++) {
                bool inside = bit >= at && bit < at + count;
                assert_int_equal(bitmap_test(&ones, bit), inside);
                assert_int_equal(bitmap_test(&zeros, bit), !inside);
            }
        }
    }
}

static void edges(void **unused)
{
    (void)unused;
    struct bitmap map = {0};
    bitmap_assign(&map, 0, SUPERPAGE_PAGES, true);
    assert_int_equal(bitmap_count(&map, 0, SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    assert_int_equal(bitmap_next(&map, 0, SUPERPAGE_PAGES, false), SUPERPAGE_PAGES);
    assert_int_equal(bitmap_next(&map, SUPERPAGE_PAGES, SUPERPAGE_PAGES, true), SUPERPAGE_PAGES);
    bitmap_assign(&map, SUPERPAGE_PAGES, 0, false); /* an empty range at the very end */
    assert_int_equal(bitmap_count(&map, 0, SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    assert_int_equal(bitmap_count(&map, SUPERPAGE_PAGES, 0), 0);
    bitmap_assign(&map, 511, 1, false);
    assert_int_equal(bitmap_next(&map, 0, SUPERPAGE_PAGES, false), 511);
    assert_int_equal(bitmap_next(&map, 0, 511, false), 511);
    assert_int_equal(bitmap_next(&map, 0, 100, false), 100);
    assert_int_equal(bitmap_next(&map, 511, SUPERPAGE_PAGES, true), SUPERPAGE_PAGES);
    assert_int_equal(bitmap_next(&map, 5, 5, true), 5);
}

static void against_an_array(void **unused)
{
    (void)unused;
    struct bitmap map = {0};
    bool naive[SUPERPAGE_PAGES] = {0};
    for (int round = 0; round < 20000; round++) {
        pages_t at = draw(SUPERPAGE_PAGES), count = draw(SUPERPAGE_PAGES - at + 1);
        bool value = draw(2);
        if (draw(2)) {
            count = min_u64(count, draw(20));
        }
        bitmap_assign(&map, at, count, value);
        for (pages_t i = 0; i < count; i++) {
            naive[at + i] = value;
        }
        pages_t from = draw(SUPERPAGE_PAGES), to = from + draw(SUPERPAGE_PAGES - from + 1);
        pages_t set = 0, next = from;
        for (pages_t i = from; i < to; i++) {
            set += naive[i];
        }
        while (next < to && naive[next] != value) {
            next++;
        }
        assert_int_equal(bitmap_count(&map, from, to - from), set);
        assert_int_equal(bitmap_next(&map, from, to, value), next);
        assert_int_equal(bitmap_test(&map, from), naive[from]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assign_every_range_of_a_word_and_a_half),
        cmocka_unit_test(edges),
        cmocka_unit_test(against_an_array),
    };
    return cmocka_run_group_tests_name("bitmap", tests, NULL, NULL);
}
