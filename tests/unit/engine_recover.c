/* SPDX-License-Identifier: MIT */
/* recover.c: which superpages are to be made whole, and what happens to one
 * that is held meanwhile. */
#include "fake_domain.h"
#include "unit.h"

#include <errno.h>

#define SP SUPERPAGE_PAGES

static struct fake_domain f;

/* A domain whose superpage 1 is in place page by page, and no other. */
static void start_with_singles(void)
{
    fake_domain_start(&f, 4 * SP, 3 * SP);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP), 1), 0);
    for (pages_t i = 1; i < SP; i++) {
        assert_int_equal(domain_populate(&f.domain, gfn(SP + i)), 0);
        assert_true(fake_guest_write(&f.host, gfn(SP + i), 1));
    }
    assert_int_equal(domain_increase_reservation(&f.domain, gfn(SP), 1), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(SP)), 0);
    assert_true(fake_guest_write(&f.host, gfn(SP), 1));
    assert_true(p2m_whole(&f.domain.p2m, 1, P2M_RAM));
    assert_false(fake_guest_is_huge(&f.host, gfn(SP)));
}

static void stop(void)
{
    assert_holds(fake_domain_check(&f, true));
    fake_domain_free(&f);
}

/* Holds the superpage that start_with_singles made. */
static void hold(void)
{
    gfn_t at = gfn(UINT64_MAX);
    assert_true(domain_wants_recovery(&f.domain));
    assert_int_equal(domain_recover_begin(&f.domain, &at), 0);
    assert_int_equal(at.n, SP);
}

static void what_is_in_single_pages_becomes_whole(void **unused)
{
    (void)unused;
    start_with_singles();
    hold();
    gfn_t other = gfn(77);
    assert_int_equal(domain_recover_begin(&f.domain, &other), -EINVAL); /* one at a time */
    assert_int_equal(other.n, 77);
    fake_guest_merge(&f.host, gfn(SP));
    domain_recover_end(&f.domain, true);
    assert_int_equal(f.domain.counters.recovered_2m, 1);
    /* It moves in one piece again. */
    for (pages_t i = 0; i < SP; i++) {
        assert_true(fake_guest_write(&f.host, gfn(SP + i), 0));
    }
    assert_int_equal(domain_discard(&f.domain, gfn(SP), SP), 0);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 3);
    stop();
}

static void what_was_given_up_is_no_hindrance(void **unused)
{
    (void)unused;
    start_with_singles();
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP + 5), 3), 0);
    assert_int_equal(f.domain.p2m.given_pages, 3);
    hold();
    fake_guest_merge(&f.host, gfn(SP));
    domain_recover_end(&f.domain, true);
    assert_holds(fake_domain_check(&f, true));
    /* But for a few pages in use it is not worth while. */
    fake_guest_split(&f.host, gfn(SP));
    f.domain.p2m.entries[1].flags = P2M_TABLE;
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP + 100), 300), 0);
    gfn_t at;
    f.domain.recovery.next = 0;
    assert_int_equal(domain_recover_begin(&f.domain, &at), -ENOENT);
    stop();
}

static void a_round_ends_and_rests_until_something_changes(void **unused)
{
    (void)unused;
    start_with_singles();
    hold();
    domain_recover_end(&f.domain, false);
    gfn_t at;
    assert_true(domain_wants_recovery(&f.domain)); /* the round goes on */
    assert_int_equal(domain_recover_begin(&f.domain, &at), -ENOENT);
    assert_false(domain_wants_recovery(&f.domain));
    assert_int_equal(domain_populate(&f.domain, gfn(2 * SP)), 0);
    assert_true(domain_wants_recovery(&f.domain));
    assert_int_equal(f.domain.counters.recovered_2m, 0);
    stop();
}

static void huge_ones_and_parts_are_left_alone(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 4 * SP + 100, 4 * SP);
    assert_int_equal(domain_populate(&f.domain, gfn(0)), 0); /* huge */
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP), 1), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(SP + 16)), 0); /* a part */
    for (pages_t i = 0; i < 100; i++) { /* whole, but shorter than a superpage */
        assert_int_equal(domain_populate(&f.domain, gfn(4 * SP + i)), 0);
    }
    gfn_t at;
    assert_int_equal(domain_recover_begin(&f.domain, &at), -ENOENT);
    stop();
}

static void nothing_is_taken_from_what_is_held(void **unused)
{
    (void)unused;
    start_with_singles();
    hold();
    uint64_t takes = f.host.calls[FAKE_TAKE];
    /* What the guest gives up or drops is zeroed where it is. */
    assert_int_equal(domain_discard(&f.domain, gfn(SP), SP), 0);
    assert_int_equal(f.domain.p2m.ram_pages, SP);
    uint32_t token = 1;
    assert_true(fake_guest_read(&f.host, gfn(SP + 300), &token));
    assert_int_equal(token, 0);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP), SP), 0);
    assert_int_equal(f.domain.p2m.given_pages, SP);
    assert_int_equal(f.host.calls[FAKE_TAKE], takes);
    assert_holds(fake_domain_check(&f, true));
    /* Once it is let go, it is collected like any other. */
    domain_recover_end(&f.domain, false);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP), 1), 0);
    assert_int_equal(f.domain.p2m.given_pages, 0);
    stop();
}

/* The only zero pages are where nothing may be taken: that is no reason to say
 * that there are none. */
static void a_guest_is_not_exhausted_for_it(void **unused)
{
    (void)unused;
    start_with_singles();
    assert_int_equal(domain_populate(&f.domain, gfn(0)), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(2 * SP)), 0);
    for (pages_t i = 0; i < SP; i++) {
        assert_true(fake_guest_write(&f.host, gfn(i), 1));
        assert_true(fake_guest_write(&f.host, gfn(2 * SP + i), 1));
        assert_true(fake_guest_write(&f.host, gfn(SP + i), 0));
    }
    hold();
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP)), -EAGAIN);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    domain_recover_end(&f.domain, false);
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP)), 0);
    stop();
}

static void not_of_a_domain_that_is_dying(void **unused)
{
    (void)unused;
    start_with_singles();
    hold();
    domain_begin_dying(&f.domain);
    domain_recover_end(&f.domain, true); /* it was under way */
    fake_guest_merge(&f.host, gfn(SP));
    gfn_t at;
    assert_int_equal(domain_recover_begin(&f.domain, &at), -ESHUTDOWN);
    stop();
}

static void not_where_single_pages_are_all_there_is(void **unused)
{
    (void)unused;
    start_with_singles();
    /* As a sweep does that has found no superpage. */
    f.domain.reclaim.superpages_dry = true;
    assert_false(domain_wants_recovery(&f.domain));
    /* Covered, it will not be swept again. */
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(3 * SP), SP), 0);
    assert_true(domain_covered(&f.domain));
    assert_true(domain_wants_recovery(&f.domain));
    /* To end what was not begun does nothing. */
    domain_recover_end(&f.domain, true);
    assert_int_equal(f.domain.counters.recovered_2m, 0);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_single_pages_becomes_whole),
        cmocka_unit_test(what_was_given_up_is_no_hindrance),
        cmocka_unit_test(a_round_ends_and_rests_until_something_changes),
        cmocka_unit_test(huge_ones_and_parts_are_left_alone),
        cmocka_unit_test(nothing_is_taken_from_what_is_held),
        cmocka_unit_test(a_guest_is_not_exhausted_for_it),
        cmocka_unit_test(not_of_a_domain_that_is_dying),
        cmocka_unit_test(not_where_single_pages_are_all_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
