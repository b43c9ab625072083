/* SPDX-License-Identifier: MIT */
/* Where the gfns of guest RAM are. */
#include "host/blocks.h"

#include "unit.h"

#include <errno.h>

#define MIB UINT64_C(1048576)

static struct blocks blocks;

static struct host_block block(uint64_t mib, uint64_t bytes, pages_t first)
{
    return (struct host_block){.at = {mib * MIB}, .bytes = bytes, .first = gfn(first)};
}

static void gfns_and_addresses(void **unused)
{
    (void)unused;
    blocks = (struct blocks){0};
    struct host_block low = block(1024, 8 * MIB, 0), high = block(0x7f00000, 6 * MIB, 2048);
    assert_int_equal(blocks_add(&blocks, &low), 0);
    assert_int_equal(blocks_add(&blocks, &high), 0);
    assert_int_equal(blocks_address(&blocks, gfn(3)).a, 1024 * MIB + 3 * PAGE_BYTES);
    assert_int_equal(blocks_address(&blocks, gfn(2048)).a, high.at.a);
    assert_int_equal(blocks_address(&blocks, gfn(3583)).a, high.at.a + 6 * MIB - PAGE_BYTES);
    assert_int_equal(blocks_address(&blocks, gfn(3584)).a, 0);
    gfn_t found = gfn(77);
    assert_true(blocks_find(&blocks, haddr_add(high.at, 4097), &found));
    assert_int_equal(found.n, 2049);
    assert_false(blocks_find(&blocks, haddr_add(high.at, 6 * MIB), &found));
    assert_false(blocks_find(&blocks, (haddr_t){high.at.a - 1}, &found));
    assert_int_equal(found.n, 2049);
    assert_true(blocks_overlap(&blocks, (haddr_t){high.at.a - 1}, 2));
    assert_false(blocks_overlap(&blocks, (haddr_t){high.at.a - 1}, 1));
    assert_false(blocks_overlap(&blocks, haddr_add(low.at, 8 * MIB), MIB));
    blocks_remove(&blocks, low.first);
    assert_false(blocks_find(&blocks, low.at, &found));
    assert_false(blocks_overlap(&blocks, low.at, 8 * MIB));
    assert_true(blocks_find(&blocks, high.at, &found));
}

static void what_is_no_block(void **unused)
{
    (void)unused;
    blocks = (struct blocks){0};
    const struct host_block wrong[] = {block(1, 2 * MIB, 0), block(2, 2 * MIB, 1),
                                       block(2, 4095, 0), block(2, 0, 0),
                                       block(2, MAX_DOMAIN_BYTES + 4096, 0)};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(blocks_add(&blocks, &wrong[i]), -EINVAL);
    }
    struct host_block large = block(2, MAX_DOMAIN_BYTES, 0), got;
    assert_int_equal(blocks_add(&blocks, &large), 0);
    assert_true(blocks_get(&blocks, 0, &got));
    assert_int_equal(got.bytes, MAX_DOMAIN_BYTES);
    assert_int_equal(got.at.a, 2 * MIB);
    assert_false(blocks_get(&blocks, 1, &got));
}

static void as_many_as_there_can_be(void **unused)
{
    (void)unused;
    blocks = (struct blocks){0};
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        struct host_block one = block(1024 + 4 * i, 2 * MIB, i * SUPERPAGE_PAGES);
        assert_int_equal(blocks_add(&blocks, &one), 0);
    }
    struct host_block more = block(8, 2 * MIB, BLOCKS_MAX * SUPERPAGE_PAGES);
    assert_int_equal(blocks_add(&blocks, &more), -ENOSPC);
    blocks_remove(&blocks, gfn(7 * SUPERPAGE_PAGES));
    assert_int_equal(blocks_add(&blocks, &more), 0);
    assert_int_equal(blocks_address(&blocks, more.first).a, more.at.a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gfns_and_addresses),
        cmocka_unit_test(what_is_no_block),
        cmocka_unit_test(as_many_as_there_can_be),
    };
    return cmocka_run_group_tests_name("blocks of guest RAM", tests, NULL, NULL);
}
