/* SPDX-License-Identifier: MIT */
/* placing.c: what is placed ahead of a guest that walks through its memory. What is placed for the
 * touched page itself, and the errors on the way, are in engine_domain.c. */
#include "fake_domain.h"
#include "unit.h"

#include <errno.h>

#define SP SUPERPAGE_PAGES

static struct fake_domain f;

static void start(pages_t max_superpages, pages_t target_superpages)
{
    fake_domain_start(&f, max_superpages * SP, target_superpages * SP);
}

static void stop(void)
{
    assert_holds(fake_domain_check(&f, true));
    fake_domain_free(&f);
}

static void touch(p2m_index_t index)
{
    assert_int_equal(domain_populate(&f.domain, gfn_add(p2m_first_gfn(index), 7)), 0);
}

static bool is_there(p2m_index_t index)
{
    return p2m_whole(&f.domain.p2m, index, P2M_RAM);
}

static void check_ahead(uint64_t superpages)
{
    assert_int_equal(f.domain.counters.ahead_2m, superpages);
}

static void one_touch_is_no_stream(void **unused)
{
    (void)unused;
    start(64, 32);
    touch(5);
    touch(9);
    touch(30);
    check_ahead(0);
    assert_int_equal(f.domain.p2m.ram_pages, 3 * SP);
    stop();
}

static void a_stream_grows(void **unused)
{
    (void)unused;
    start(256, 128);
    uint64_t ahead = 0;
    static const unsigned lengths[] = {0, 1, 3, 7, 8, 8};
    p2m_index_t next = 10;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        assert_false(is_there(next));
        touch(next);
        ahead += lengths[i];
        check_ahead(ahead);
        next += 1 + lengths[i];
        assert_true(is_there(next - 1));
        assert_false(is_there(next));
    }
    assert_int_equal(f.domain.counters.faults, 6);
    assert_int_equal(f.domain.counters.populated_2m, 6 + ahead);
    assert_true(fake_guest_is_huge(&f.host, p2m_first_gfn(next - 1)));
    stop();
}

static void a_stream_may_run_downwards(void **unused)
{
    (void)unused;
    start(64, 60);
    touch(20);
    touch(19);
    assert_true(is_there(18));
    touch(17);
    check_ahead(1 + 3);
    assert_true(is_there(14));
    assert_false(is_there(21)); /* not upwards as well */
    stop();
}

static void it_ends_where_memory_does(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 4 * SP + 9, 4 * SP);
    touch(1);
    touch(0);
    check_ahead(0);
    touch(3);
    touch(2); /* the neighbours are there: nothing left to place */
    check_ahead(0);
    stop();
    fake_domain_start(&f, 4 * SP + 9, 4 * SP);
    touch(2);
    touch(3); /* a short one follows, for which no superpage fits */
    check_ahead(0);
    stop();
}

static void it_ends_at_what_is_not_pod(void **unused)
{
    (void)unused;
    start(64, 32);
    touch(10);
    p2m_set(&f.domain.p2m, gfn(13 * SP + 5), 1, P2M_OUT);
    touch(11);
    check_ahead(1);
    f.host.calls[FAKE_PLACE] = 0;
    p2m_set(&f.domain.p2m, gfn(14 * SP), 1, P2M_OUT);
    touch(13); /* singles: of a stream of superpages nothing is known any more */
    check_ahead(1);
    stop();
}

static void half_of_the_cache_stays(void **unused)
{
    (void)unused;
    start(64, 6);
    touch(0);
    touch(1); /* leaves 4: 1 ahead, for the stream is that long */
    touch(3); /* leaves 2: 1 ahead */
    check_ahead(2);
    assert_int_equal(cache_superpages(&f.domain.cache), 1);
    touch(5);
    check_ahead(2);
    assert_int_equal(f.domain.cache.pages, 0);
    stop();
}

static void old_neighbours_make_no_stream(void **unused)
{
    (void)unused;
    start(64, 32);
    touch(10);
    f.domain.p2m.births += 512; /* so many came after it */
    touch(11);
    check_ahead(0);
    stop();
}

static void what_fails_ahead_harms_nobody(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, 0}, {-EBUSY, 0}, {-EEXIST, 0}, {-ESRCH, -ESRCH}, {-EIO, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        start(64, 32);
        touch(10);
        fake_host_fail(&f.host, (struct fake_failure){
                                    .op = FAKE_PLACE, .err = cases[c].err, .skip = 1, .times = 1});
        assert_int_equal(domain_populate(&f.domain, gfn(11 * SP)), cases[c].expected);
        assert_true(is_there(11));
        check_ahead(0);
        assert_int_equal(f.domain.state, cases[c].err == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
        stop();
    }
}

/* Placed ahead and never used: it is found like anything that holds zeros. */
static void what_is_not_used_comes_back(void **unused)
{
    (void)unused;
    start(64, 8);
    touch(0);
    touch(1);
    touch(3);
    check_ahead(3);
    for (p2m_index_t i = 20; i < 50; i += 2) {
        touch(i);
    }
    assert_true(f.domain.counters.reclaimed_2m >= 12);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_touch_is_no_stream),
        cmocka_unit_test(a_stream_grows),
        cmocka_unit_test(a_stream_may_run_downwards),
        cmocka_unit_test(it_ends_where_memory_does),
        cmocka_unit_test(it_ends_at_what_is_not_pod),
        cmocka_unit_test(half_of_the_cache_stays),
        cmocka_unit_test(old_neighbours_make_no_stream),
        cmocka_unit_test(what_fails_ahead_harms_nobody),
        cmocka_unit_test(what_is_not_used_comes_back),
    };
    return cmocka_run_group_tests_name("placing ahead", tests, NULL, NULL);
}
