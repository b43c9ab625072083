/* SPDX-License-Identifier: MIT */
/* Whether pages are zero: each byte counts, and none beyond them is read. Behind
 * the last page is one that must not be touched. */
#include "host/zero.h"

#include "unit.h"

#include <string.h>
#include <sys/mman.h>

#define PAGES 8

static unsigned char *page; /* the last of PAGES, which follow each other */

static int make_pages(void **unused)
{
    (void)unused;
    /* Nor may the page before them be touched. */
    unsigned char *all =
        mmap(NULL, (PAGES + 2) * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
        return -1;
    }
    page = all + PAGES * PAGE_BYTES;
    return mprotect(all + PAGE_BYTES, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE);
}

static void a_zero_page(void **unused)
{
    (void)unused;
    memset(page, 0, PAGE_BYTES);
    assert_true(zero_glance(haddr(page)));
    assert_true(zero_compare(haddr(page), 1));
    zero_fill(haddr(page));
    assert_true(zero_compare(haddr(page), 1));
}

static void each_byte_counts(void **unused)
{
    (void)unused;
    for (size_t at = 0; at < PAGE_BYTES; at++) {
        memset(page, 0, PAGE_BYTES);
        page[at] = 1;
        assert_int_equal(zero_glance(haddr(page)), at >= 64 && at < PAGE_BYTES - 64);
        assert_false(zero_compare(haddr(page), 1));
        zero_fill(haddr(page));
        assert_true(zero_compare(haddr(page), 1));
    }
}

/* isa-l 2.31 reads on behind a page that ends like this. */
static void every_end_of_bytes_that_are_not_zero(void **unused)
{
    (void)unused;
    for (size_t length = 1; length <= PAGE_BYTES; length++) {
        memset(page, 0, PAGE_BYTES);
        memset(page + PAGE_BYTES - length, 0xff, length);
        assert_false(zero_compare(haddr(page), 1));
    }
    zero_fill(haddr(page));
    assert_true(zero_compare(haddr(page), 1));
}

static void several_pages_at_once(void **unused)
{
    (void)unused;
    for (pages_t pages = 1; pages <= PAGES; pages++) {
        unsigned char *first = page - pages_to_bytes(pages - 1);
        assert_true(zero_compare(haddr(first), pages));
        for (size_t at = 0; at < pages_to_bytes(pages); at += 61) {
            first[at] = 1;
            assert_false(zero_compare(haddr(first), pages));
            first[at] = 0;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zero_page),
        cmocka_unit_test(each_byte_counts),
        cmocka_unit_test(every_end_of_bytes_that_are_not_zero),
        cmocka_unit_test(several_pages_at_once),
    };
    return cmocka_run_group_tests(tests, make_pages, NULL);
}
