/* SPDX-License-Identifier: MIT */
/* Whether a page is zero: each byte counts, and none beyond the page is read.
 * Behind the page is one that must not be touched. */
#include "host/zero.h"

#include "unit.h"

#include <string.h>
#include <sys/mman.h>

static unsigned char *page;

static int make_page(void **unused)
{
    (void)unused;
    page = mmap(NULL, 3 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return -1;
    }
    page += PAGE_BYTES; /* nor may the page before it be touched */
    return mprotect(page, PAGE_BYTES, PROT_READ | PROT_WRITE);
}

static void a_zero_page(void **unused)
{
    (void)unused;
    memset(page, 0, PAGE_BYTES);
    assert_true(zero_glance(haddr(page)));
    assert_true(zero_compare(haddr(page)));
    zero_fill(haddr(page));
    assert_true(zero_compare(haddr(page)));
}

static void each_byte_counts(void **unused)
{
    (void)unused;
    for (size_t at = 0; at < PAGE_BYTES; at++) {
        memset(page, 0, PAGE_BYTES);
        page[at] = 1;
        assert_int_equal(zero_glance(haddr(page)), at >= 64 && at < PAGE_BYTES - 64);
        assert_false(zero_compare(haddr(page)));
        zero_fill(haddr(page));
        assert_true(zero_compare(haddr(page)));
    }
}

/* isa-l 2.31 reads on behind a page that ends like this. */
static void every_end_of_bytes_that_are_not_zero(void **unused)
{
    (void)unused;
    for (size_t length = 1; length <= PAGE_BYTES; length++) {
        memset(page, 0, PAGE_BYTES);
        memset(page + PAGE_BYTES - length, 0xff, length);
        assert_false(zero_compare(haddr(page)));
    }
    zero_fill(haddr(page));
    assert_true(zero_compare(haddr(page)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zero_page),
        cmocka_unit_test(each_byte_counts),
        cmocka_unit_test(every_end_of_bytes_that_are_not_zero),
    };
    return cmocka_run_group_tests(tests, make_page, NULL);
}
