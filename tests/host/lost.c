/* SPDX-License-Identifier: MIT */
/* Pages that the kernel took back unasked are found, and come back. */
#include "fixture.h"

#include "host/lost.h"

#define RAM_PAGES   (4 * SUPERPAGE_PAGES + 100)
#define CACHE_PAGES (8 * SUPERPAGE_PAGES)

static struct fixture f;

/* Has the kernel break up the huge page at `at`, as it may at any time: by a move
 * of one page of it to elsewhere and back, unprepared. */
static void break_up(haddr_t at)
{
    uint64_t moved = 0;
    haddr_t there = f.host.split.spare;
    assert_int_equal(uffd_move(&f.host.split.mover, there, at, PAGE_BYTES, false, &moved), 0);
    assert_int_equal(uffd_move(&f.host.split.mover, at, there, PAGE_BYTES, false, &moved), 0);
}

static void they_come_back(void **unused)
{
    (void)unused;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), 2 * SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(2 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    if (ram_huge(&f) != 1 || cache_huge(&f) != 1) {
        fixture_close(&f);
        skip_because("the host has no huge pages to spare");
    }
    haddr_t in_ram = haddr(ram_page(&f, gfn(2 * SUPERPAGE_PAGES)));
    haddr_t in_cache = haddr(cache_page(&f, cfn(SUPERPAGE_PAGES)));
    struct lost_search search = lost_search_begin();
    haddr_t found = {0};
    assert_false(lost_find(&f.host, &search, &found));
    page_fill(ram_page(&f, gfn(2 * SUPERPAGE_PAGES + 5)), 5);
    break_up(in_ram);
    break_up(in_cache);
    pages_t left = ram_resident(&f) + cache_resident(&f);
    if (left == 2 * SUPERPAGE_PAGES) {
        fixture_close(&f);
        skip_because("this kernel keeps pages of zeros (before 6.12)");
    }
    search = lost_search_begin();
    assert_true(lost_find(&f.host, &search, &found));
    assert_int_equal(found.a, in_ram.a);
    lost_bring_back(&f.host, found);
    assert_int_equal(ram_resident(&f), SUPERPAGE_PAGES);
    assert_true(lost_find(&f.host, &search, &found));
    assert_int_equal(found.a, in_cache.a);
    lost_bring_back(&f.host, found);
    assert_false(lost_find(&f.host, &search, &found));
    assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES);
    assert_int_equal(f.host.split.refilled_pages, 2 * SUPERPAGE_PAGES - left);
    assert_true(page_holds(ram_page(&f, gfn(2 * SUPERPAGE_PAGES + 5)), 5));
    assert_true(page_is_zero(ram_page(&f, gfn(2 * SUPERPAGE_PAGES + 6))));
    /* What has left meanwhile is not touched: nobody would serve that. */
    must_take(&f, gfn(2 * SUPERPAGE_PAGES), cfn(4 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    lost_bring_back(&f.host, in_ram);
    assert_resident(&f, 0, 2 * SUPERPAGE_PAGES);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_come_back),
    };
    return fixture_available() ? cmocka_run_group_tests_name("host_lost", tests, NULL, NULL) : 77;
}
