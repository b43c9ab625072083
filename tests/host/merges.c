/* SPDX-License-Identifier: MIT */
/* Making single pages one huge page again, on the real kernel: nothing is lost
 * and nothing comes on top, while somebody writes there. */
#include "fixture.h"

#include "host/merge.h"

#include <errno.h>
#include <sys/mman.h>

#define OPS (&linux_host_ops)

#define RAM_PAGES   (4 * SUPERPAGE_PAGES)
#define CACHE_PAGES (8 * SUPERPAGE_PAGES)
#define ROUNDS      20

static struct fixture f;

/* Superpage 1 of the guest, in single pages that came from two huge ones. */
static void open_in_singles(void)
{
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), 2 * SUPERPAGE_PAGES);
    for (pages_t i = 0; i < SUPERPAGE_PAGES; i++) {
        must_place(&f, cfn(i * 2), gfn(SUPERPAGE_PAGES + i), 1);
    }
    assert_int_equal(ram_huge(&f), 0);
    assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES);
}

/* Skips the test on a host that has no huge page just now. */
static void must_merge(void)
{
    int err = -EAGAIN;
    for (int tries = 0; tries < 100 && err == -EAGAIN; tries++) {
        err = linux_host_merge(&f.host, gfn(SUPERPAGE_PAGES));
    }
    if (err == -ENOMEM) {
        fixture_close(&f);
        skip_because("the host has no huge page to spare");
    }
    assert_int_equal(err, 0);
    assert_int_equal(ram_huge(&f), 1);
}

static void contents_stay(void **unused)
{
    (void)unused;
    open_in_singles();
    for (pages_t i = 0; i < SUPERPAGE_PAGES; i += 3) {
        page_fill(ram_page(&f, gfn(SUPERPAGE_PAGES + i)), i + 1);
    }
    must_merge();
    assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES);
    for (pages_t i = 0; i < SUPERPAGE_PAGES; i++) {
        const void *page = ram_page(&f, gfn(SUPERPAGE_PAGES + i));
        assert_true(i % 3 == 0 ? page_holds(page, i + 1) : page_is_zero(page));
    }
    /* It goes in one piece now, to where there was a page table too. */
    pages_t moved = 0;
    assert_int_equal(
        OPS->take(&f.host, gfn(SUPERPAGE_PAGES), cfn(4 * SUPERPAGE_PAGES), SUPERPAGE_PAGES, &moved),
        0);
    assert_int_equal(cache_huge(&f), 1);
    assert_resident(&f, 0, 2 * SUPERPAGE_PAGES);
    fixture_close(&f);
}

/* The kernel broke a huge page up by itself, and put its zero page where there
 * were only zeros: such a place becomes whole again too. */
static void what_the_kernel_lost_comes_back(void **unused)
{
    (void)unused;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    if (ram_huge(&f) != 1) {
        fixture_close(&f);
        skip_because("the host has no huge page to spare");
    }
    page_fill(ram_page(&f, gfn(SUPERPAGE_PAGES + 5)), 5);
    page_fill(ram_page(&f, gfn(SUPERPAGE_PAGES)), 1);
    /* Going elsewhere and back page by page, unprepared, does it. */
    uint64_t moved = 0;
    haddr_t here = haddr(ram_page(&f, gfn(SUPERPAGE_PAGES))), there = f.host.split.spare;
    assert_int_equal(uffd_move(&f.host.split.mover, there, here, PAGE_BYTES, false, &moved), 0);
    assert_int_equal(uffd_move(&f.host.split.mover, here, there, PAGE_BYTES, false, &moved), 0);
    assert_int_equal(ram_huge(&f), 0);
    must_merge();
    assert_resident(&f, SUPERPAGE_PAGES, 0);
    assert_true(page_holds(ram_page(&f, gfn(SUPERPAGE_PAGES)), 1));
    assert_true(page_holds(ram_page(&f, gfn(SUPERPAGE_PAGES + 5)), 5));
    assert_true(page_is_zero(ram_page(&f, gfn(SUPERPAGE_PAGES + 6))));
    fixture_close(&f);
}

static atomic_bool finished;

/* Counts up in a word of each page; returns how far it came. */
static void *count_up(void *unused)
{
    uint64_t round = 0;
    (void)unused;
    while (!atomic_load(&finished)) {
        for (pages_t i = 0; i < SUPERPAGE_PAGES; i++) {
            volatile uint64_t *word = ram_page(&f, gfn(SUPERPAGE_PAGES + i));
            if (*word != round) {
                return (void *)UINTPTR_MAX;
            }
            *word = round + 1;
        }
        round++;
    }
    return (void *)(uintptr_t)round;
}

static void nothing_is_lost_meanwhile(void **unused)
{
    (void)unused;
    open_in_singles();
    pthread_t thread;
    atomic_store(&finished, false);
    assert_int_equal(pthread_create(&thread, NULL, count_up, NULL), 0);
    int merged = 0;
    for (int i = 0; i < ROUNDS; i++) {
        merged += linux_host_merge(&f.host, gfn(SUPERPAGE_PAGES)) == 0;
        pages_t moved = 0; /* breaks it up again */
        int err = OPS->take(&f.host, gfn(SUPERPAGE_PAGES + 7), cfn(7 * SUPERPAGE_PAGES), 1, &moved);
        assert_true(err == 0 || err == -EBUSY || err == -EAGAIN);
        if (moved == 1) {
            must_place(&f, cfn(7 * SUPERPAGE_PAGES), gfn(SUPERPAGE_PAGES + 7), 1);
        }
        assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES);
    }
    atomic_store(&finished, true);
    void *rounds;
    pthread_join(thread, &rounds);
    fixture_close(&f);
    assert_int_not_equal((uintptr_t)rounds, UINTPTR_MAX);
    print_message("merged %d times of %d, beside %ju rounds of writes\n", merged, ROUNDS,
                  (uintmax_t)(uintptr_t)rounds);
    if (merged == 0) {
        skip_because("the host has no huge page to spare");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_stay),
        cmocka_unit_test(what_the_kernel_lost_comes_back),
        cmocka_unit_test(nothing_is_lost_meanwhile),
    };
    return fixture_available() ? cmocka_run_group_tests_name("host_merges", tests, NULL, NULL) : 77;
}
