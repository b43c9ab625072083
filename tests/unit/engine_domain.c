/* SPDX-License-Identifier: MIT */
/* domain.c: a domain's life, from build to death, with every error on the way. */
#include "fake_domain.h"
#include "unit.h"

#include <errno.h>

#define SP  SUPERPAGE_PAGES
#define GIB (UINT64_C(1) << 30 >> 12)
#define TIB (1024 * GIB)

static struct fake_domain f;

static void stop(void)
{
    fake_domain_free(&f);
}

static void holds(void)
{
    assert_holds(fake_domain_check(&f, true));
}

static void fill(uint64_t from, pages_t pages, uint32_t token)
{
    for (pages_t i = 0; i < pages; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn(from + i), token), 0);
    }
}

static uint32_t token_at(uint64_t n)
{
    uint32_t token = 0;
    assert_true(fake_guest_read(&f.host, gfn(n), &token));
    return token;
}

/* Configuration and build */

static void sizes_out_of_range_are_refused(void **unused)
{
    (void)unused;
    static const pages_t sizes[][2] = {{511, 511},     {0, 0},           {512, 511},
                                       {512, 513},     {512, 0},         {16 * TIB + 1, 512},
                                       {1024, 100000}, {UINT64_MAX, 512}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fake_domain other = {.domain = {.total_pages = 12345}};
        struct domain_config config = {.max_pages = sizes[i][0], .target_pages = sizes[i][1]};
        assert_int_equal(domain_init(&other.domain, &config, &fake_ops, &other.host, NULL),
                         -EINVAL);
        assert_int_equal(other.domain.total_pages, 12345); /* untouched */
    }
}

static void the_smallest_domain(void **unused)
{
    (void)unused;
    fake_domain_start(&f, SP, SP);
    assert_true(domain_covered(&f.domain));
    fill(0, SP, 1);
    assert_int_equal(f.domain.cache.pages, 0);
    assert_true(domain_covered(&f.domain));
    holds();
    stop();
}

static void build_goes_step_by_step(void **unused)
{
    (void)unused;
    assert_int_equal(fake_domain_init(&f, 10 * SP, 5 * SP + 9), 0);
    assert_int_equal(f.domain.state, DOMAIN_BUILDING);
    assert_int_equal(domain_populate(&f.domain, gfn(0)), -EINVAL);
    assert_int_equal(domain_discard(&f.domain, gfn(0), 1), -EINVAL);
    holds();
    pages_t missing = 99;
    assert_int_equal(domain_build_step(&f.domain, SP - 1, &missing), -EINVAL);
    assert_int_equal(missing, 99);
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), 0);
    assert_int_equal(missing, 4 * SP + 9);
    holds();
    assert_int_equal(domain_build_step(&f.domain, 2 * SP + 500, &missing), 0); /* 2 */
    assert_int_equal(missing, 2 * SP + 9);
    assert_int_equal(domain_build_step(&f.domain, 100 * SP, &missing), 0);
    assert_int_equal(missing, 0);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    assert_int_equal(fake_host_resident(&f.host), 5 * SP + 9);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 5);
    assert_int_equal(f.domain.cache.lengths[CACHE_PARTIAL], 1);
    holds();
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), -EINVAL);
    stop();
}

static void a_build_that_fails_gives_back_what_it_had(void **unused)
{
    (void)unused;
    assert_int_equal(fake_domain_init(&f, 10 * SP, 5 * SP), 0);
    fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_ALLOCATE, .err = -ENOMEM, .skip = 2});
    pages_t missing = 99, left = 99;
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), 0);
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), 0);
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), -ENOMEM);
    assert_int_equal(missing, 3 * SP);
    assert_int_equal(fake_host_resident(&f.host), 2 * SP);
    holds();
    domain_begin_dying(&f.domain);
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), -ESHUTDOWN);
    assert_int_equal(domain_drain_step(&f.domain, SP, &left), 0);
    assert_int_equal(left, SP);
    assert_int_equal(domain_drain_step(&f.domain, SP, &left), 0);
    assert_int_equal(left, 0);
    assert_int_equal(fake_host_resident(&f.host), 0);
    holds();
    stop();
}

static void a_build_may_go_on_after_a_failure(void **unused)
{
    (void)unused;
    assert_int_equal(fake_domain_init(&f, 4 * SP, 4 * SP), 0);
    fake_host_fail(
        &f.host, (struct fake_failure){.op = FAKE_ALLOCATE, .err = -ENOMEM, .skip = 1, .times = 1});
    pages_t missing = 0;
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), 0);
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), -ENOMEM);
    assert_int_equal(domain_build_step(&f.domain, 3 * SP, &missing), 0);
    assert_int_equal(missing, 0);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    holds();
    stop();
}

/* Populate */

static void populate_places_a_superpage(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 4 * SP);
    assert_int_equal(domain_populate(&f.domain, gfn(SP + 77)), 0);
    assert_true(p2m_whole(&f.domain.p2m, 1, P2M_RAM));
    assert_true(fake_guest_is_huge(&f.host, gfn(SP)));
    assert_int_equal(f.domain.counters.faults, 1);
    assert_int_equal(f.domain.counters.populated_2m, 1);
    assert_int_equal(f.domain.counters.populated_4k, 0);
    assert_int_equal(f.host.calls[FAKE_PLACE], 1);
    holds();
    stop();
}

static void populate_of_a_page_in_place_wakes(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 4 * SP);
    assert_int_equal(domain_populate(&f.domain, gfn(5)), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(6)), 0);
    assert_int_equal(f.domain.counters.faults, 2);
    assert_int_equal(f.domain.counters.spurious, 1);
    assert_int_equal(f.host.calls[FAKE_WAKE], 1);
    holds();
    stop();
}

static void populate_out_of_range(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 2 * SP + 3, SP);
    assert_int_equal(domain_populate(&f.domain, gfn(2 * SP + 3)), -EINVAL);
    assert_int_equal(domain_populate(&f.domain, gfn(UINT64_MAX)), -EINVAL);
    assert_int_equal(f.domain.counters.faults, 0);
    assert_int_equal(domain_populate(&f.domain, gfn(2 * SP + 2)), 0);
    holds();
    stop();
}

static void populate_of_a_page_that_is_out(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 2 * SP, SP);
    p2m_set(&f.domain.p2m, gfn(0), 20, P2M_OUT);
    holds();
    assert_int_equal(domain_populate(&f.domain, gfn(3)), 0);
    assert_int_equal(f.domain.counters.out_touched, 1);
    assert_int_equal(f.domain.p2m.out_pages, 19);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(3)), P2M_GIVEN); /* it was not taken back */
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(4)), P2M_OUT);   /* its neighbours stay out */
    assert_int_equal(f.domain.p2m.ram_pages, 0);
    holds();
    stop();
    /* The last one that was out in its superpage: a whole one again. */
    fake_domain_start(&f, 4 * SP, 2 * SP);
    p2m_set(&f.domain.p2m, gfn(SP + 9), 1, P2M_OUT);
    assert_int_equal(domain_populate(&f.domain, gfn(SP + 9)), 0);
    assert_int_equal(f.domain.p2m.ram_pages, SP - 1);
    assert_int_equal(f.domain.p2m.given_pages, 1);
    assert_true(fake_guest_is_huge(&f.host, gfn(SP)));
    holds();
    stop();
}

/* QEMU reads all memory, of a guest that has one page left over: what it reads of
 * what was given up is given up afterwards, and nothing is searched for. */
static void all_is_read(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 3 * SP);
    fill(0, 3 * SP - 1, 7);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(3 * SP), 5 * SP), 0);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(3 * SP - 1), 1), 0);
    assert_int_equal(f.domain.p2m.given_pages + f.domain.cache.pages, 1);
    assert_true(domain_covered(&f.domain));
    for (uint64_t n = 0; n < 8 * SP; n++) {
        assert_int_equal(fake_domain_touch(&f, gfn(n), n < 3 * SP - 1 ? 7 : 0), 0);
    }
    assert_int_equal(f.domain.counters.out_touched, 5 * SP);
    assert_int_equal(f.domain.counters.out_in_use, 0);
    assert_int_equal(f.domain.counters.sweeps, 0);
    assert_int_equal(f.domain.p2m.out_pages + f.domain.p2m.given_pages, 5 * SP + 1);
    assert_true(domain_covered(&f.domain));
    holds();
    stop();
}

static void neighbours_come_along(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 4 * SP);
    fill(0, 1, 1);
    p2m_set(&f.domain.p2m, gfn(SP + 40), 1, P2M_OUT); /* no superpage fits there */
    assert_int_equal(domain_populate(&f.domain, gfn(SP + 3)), 0);
    /* The rest of the 16 that it is in; 1536 cached pages allow for 24. */
    assert_int_equal(f.domain.counters.populated_4k, 13);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(SP + 2)), P2M_POD);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(SP + 15)), P2M_RAM);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(SP + 16)), P2M_POD);
    assert_int_equal(domain_populate(&f.domain, gfn(SP + 32)), 0); /* up to the one that is out */
    assert_int_equal(f.domain.counters.populated_4k, 13 + 8);
    holds();
    stop();
}

static void fewer_neighbours_when_the_cache_is_low(void **unused)
{
    (void)unused;
    static const pages_t cached[] = {1024, 1023, 512, 511, 256, 255, 128, 127, 64, 1};
    static const pages_t placed[] = {16, 8, 8, 4, 4, 2, 2, 1, 1, 1};
    for (size_t i = 0; i < sizeof(cached) / sizeof(cached[0]); i++) {
        fake_domain_start(&f, 8 * SP, 4 * SP);
        fill(0, 4 * SP, 1);
        assert_int_equal(domain_discard(&f.domain, gfn(0), cached[i]), 0);
        assert_int_equal(f.domain.cache.pages, cached[i]);
        p2m_set(&f.domain.p2m, gfn(5 * SP + 100), 1, P2M_OUT);
        assert_int_equal(domain_populate(&f.domain, gfn(5 * SP + 160)), 0);
        assert_int_equal(f.domain.counters.populated_4k, placed[i]);
        holds();
        stop();
    }
}

static void a_table_is_flattened_before_a_superpage_comes(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
        uint64_t superpages;
    } cases[] = {
        {0, 0, 2}, {-EOPNOTSUPP, 0, 1}, {-EAGAIN, 0, 1}, {-EIO, 0, 1}, {-ESRCH, -ESRCH, 1}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        fake_domain_start(&f, 4 * SP, 3 * SP);
        fill(0, 1, 0);
        assert_int_equal(domain_discard(&f.domain, gfn(7), 2), 0); /* splits it */
        assert_int_equal(domain_discard(&f.domain, gfn(0), SP), 0);
        assert_int_equal(f.domain.p2m.ram_pages, 0);
        assert_int_equal(f.domain.p2m.entries[0].flags, P2M_TABLE);
        if (cases[c].err != 0) {
            fake_host_fail(&f.host,
                           (struct fake_failure){.op = FAKE_FLATTEN_GUEST, .err = cases[c].err});
        }
        assert_int_equal(domain_populate(&f.domain, gfn(4)), cases[c].expected);
        assert_int_equal(f.host.calls[FAKE_FLATTEN_GUEST], 1);
        assert_int_equal(f.domain.counters.populated_2m, cases[c].superpages);
        assert_int_equal(fake_guest_is_huge(&f.host, gfn(0)), cases[c].err == 0);
        assert_int_equal(f.domain.p2m.entries[0].flags, cases[c].err == 0 ? P2M_HUGE : P2M_TABLE);
        assert_int_equal(fake_guest_has(&f.host, gfn(4)), cases[c].expected == 0);
        assert_int_equal(f.domain.state, DOMAIN_RUNNING);
        holds();
        stop();
    }
}

/* The first of `place` fails after `after` pages, in a superpage or among singles. */
static void a_place_that_fails(void **unused)
{
    (void)unused;
    static const struct {
        int err, superpage, singles; /* results if nothing of the touched page went */
    } cases[] = {{-EAGAIN, 0, -EAGAIN},
                 {-EBUSY, 0, 0},
                 {-ESRCH, -ESRCH, -ESRCH},
                 {-EIO, -EIO, -EIO},
                 {-ENOENT, -EIO, -EIO}};
    static const pages_t afters[] = {0, 1, 5, 15};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (size_t a = 0; a < 4; a++) {
            for (int superpage = 0; superpage < 2; superpage++) {
                fake_domain_start(&f, 8 * SP, 4 * SP);
                if (!superpage) {
                    p2m_set(&f.domain.p2m, gfn(100), 1, P2M_OUT);
                }
                /* A single page goes with seven neighbours, and then the rest. */
                bool second = !superpage && afters[a] >= 8;
                fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_PLACE,
                                                              .err = cases[c].err,
                                                              .skip = second,
                                                              .after = afters[a] - (second ? 8 : 0),
                                                              .times = 1});
                int expected = superpage ? cases[c].superpage : cases[c].singles;
                bool fatal = cases[c].superpage != 0;
                if (!fatal && afters[a] != 0) {
                    expected = 0;
                }
                assert_int_equal(domain_populate(&f.domain, gfn(0)), expected);
                assert_int_equal(f.domain.state, expected == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
                assert_int_equal(fake_guest_has(&f.host, gfn(0)), expected == 0 || afters[a] != 0);
                assert_int_equal(f.domain.counters.populated_4k, f.domain.p2m.ram_pages);
                assert_int_equal(f.domain.counters.busy_skips,
                                 cases[c].err == -EBUSY && (superpage || afters[a] == 0));
                holds();
                assert_int_equal(domain_populate(&f.domain, gfn(SP)), expected == -EIO ? -EIO : 0);
                stop();
            }
        }
    }
}

static void a_busy_superpage_is_passed_over(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 4 * SP);
    slot_index_t first = cache_find_superpage(&f.domain.cache);
    fake_cache_pin(&f.host, cache_first_cfn(first), true);
    assert_int_equal(domain_populate(&f.domain, gfn(0)), 0);
    assert_int_equal(f.domain.counters.busy_skips, 1);
    assert_true(fake_guest_has(&f.host, gfn(0)));
    assert_int_equal(domain_populate(&f.domain, gfn(SP)), 0);
    assert_int_equal(f.domain.counters.populated_2m, 1);
    holds();
    stop();
}

static void busy_pages_everywhere(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 4 * SP);
    fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_PLACE, .err = -EBUSY});
    assert_int_equal(domain_populate(&f.domain, gfn(0)), -EAGAIN);
    assert_int_equal(f.domain.counters.busy_skips, 1 + 4);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    holds();
    fake_host_heal(&f.host);
    assert_int_equal(domain_populate(&f.domain, gfn(0)), 0);
    holds();
    stop();
}

static void a_page_that_is_in_place_already_is_adopted(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 4 * SP);
    fake_intrude(&f.host, gfn(9), 31337);
    assert_int_equal(fake_host_resident(&f.host), 4 * SP + 1);
    assert_int_equal(domain_populate(&f.domain, gfn(9)), 0);
    assert_int_equal(f.domain.counters.populated_4k, 9); /* the superpage came as far as there */
    assert_int_equal(f.domain.counters.adopted_pages, 1);
    assert_int_equal(token_at(9), 31337);
    holds();
    stop();

    fake_domain_start(&f, 8 * SP, 4 * SP);
    p2m_set(&f.domain.p2m, gfn(100), 1, P2M_OUT);
    fake_intrude(&f.host, gfn(9), 31337);
    assert_int_equal(domain_populate(&f.domain, gfn(9)), 0);
    assert_int_equal(f.domain.counters.adopted_pages, 1);
    assert_int_equal(token_at(9), 31337);
    assert_int_equal(f.domain.total_pages, 4 * SP);
    assert_int_equal(fake_host_resident(&f.host), 4 * SP);
    assert_int_equal(f.host.calls[FAKE_WAKE], 1);
    holds();
    stop();
}

static void adoption_errors(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -EAGAIN}, {-ESRCH, -ESRCH}, {-EIO, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        fake_domain_start(&f, 8 * SP, 4 * SP);
        p2m_set(&f.domain.p2m, gfn(100), 1, P2M_OUT);
        fake_intrude(&f.host, gfn(9), 31337);
        fake_host_fail(&f.host,
                       (struct fake_failure){.op = FAKE_RELEASE, .err = cases[c].err, .times = 1});
        assert_int_equal(domain_populate(&f.domain, gfn(9)), cases[c].expected);
        assert_int_equal(f.domain.counters.adopted_pages, 0);
        holds();
        if (cases[c].expected == -EAGAIN) {
            assert_int_equal(domain_populate(&f.domain, gfn(9)), 0);
            assert_int_equal(f.domain.counters.adopted_pages, 1);
            holds();
        }
        stop();
    }
}

/* Reclaim by populate */

static void a_scrubbing_guest_lives_on_its_own_zeros(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 256 * SP, 16 * SP);
    for (p2m_index_t i = 0; i < 256; i++) {
        assert_int_equal(fake_domain_touch(&f, p2m_first_gfn(i), 0), 0);
        holds();
    }
    assert_int_equal(f.domain.counters.populated_2m, 256);
    assert_true(f.domain.counters.reclaimed_2m >= 240);
    assert_int_equal(f.domain.counters.populated_4k, 0);
    stop();
}

static void single_pages_are_found_in_a_full_guest(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 2 * SP);
    fill(0, 2 * SP, 7);
    for (pages_t i = 0; i < 100; i++) {
        assert_true(fake_guest_write(&f.host, gfn(i * 10), 0));
    }
    for (pages_t i = 0; i < 100; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn(4 * SP + i), 8), 0);
        holds();
    }
    assert_int_equal(f.domain.counters.reclaimed_4k, 100);
    assert_int_equal(domain_populate(&f.domain, gfn(5 * SP)), -ENOSPC);
    stop();
}

static void exhausted_and_on_again(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 2 * SP);
    fill(0, 2 * SP, 7);
    p2m_set(&f.domain.p2m, gfn(3 * SP), 1, P2M_OUT);
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP)), -ENOSPC);
    assert_int_equal(f.domain.state, DOMAIN_EXHAUSTED);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(3 * SP)), P2M_OUT); /* nothing changed */
    assert_int_equal(f.domain.counters.out_touched, 0);
    holds();
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP)), -ENOSPC);
    assert_int_equal(domain_populate(&f.domain, gfn(0)), 0); /* in place: no page needed */
    assert_int_equal(domain_discard(&f.domain, gfn(5), 1), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP)), 0);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    assert_int_equal(f.domain.counters.out_touched, 1);
    holds();
    /* Or because the guest zeroed something. */
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP + 1)), 0); /* 3 * SP was zero */
    assert_true(fake_guest_write(&f.host, gfn(3 * SP + 1), 5));
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP + 2)), -ENOSPC);
    assert_true(fake_guest_write(&f.host, gfn(600), 0));
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP + 2)), 0);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    holds();
    stop();
}

static void a_host_that_cannot_move_just_now_is_no_exhaustion(void **unused)
{
    (void)unused;
    for (int superpage = 0; superpage < 2; superpage++) {
        fake_domain_start(&f, 8 * SP, 2 * SP);
        fill(0, 2 * SP, 7);
        for (pages_t i = 0; i < (superpage ? SP : 3); i++) {
            assert_true(fake_guest_write(&f.host, gfn(SP + i), 0));
        }
        fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = -EAGAIN});
        for (int i = 0; i < 5; i++) {
            assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), -EAGAIN);
            assert_int_equal(f.domain.state, DOMAIN_RUNNING);
            holds();
        }
        assert_int_equal(f.host.calls[FAKE_TAKE], 5); /* one attempt each */
        fake_host_heal(&f.host);
        assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), 0);
        holds();
        stop();
    }
}

static void fatal_errors_of_reclaim_reach_the_caller(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 2 * SP);
    fill(0, 2 * SP, 7);
    assert_true(fake_guest_write(&f.host, gfn(SP), 0));
    fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = -ESRCH, .times = 1});
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), -ESRCH);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = -ENOENT, .times = 1});
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), -EIO);
    assert_int_equal(f.domain.state, DOMAIN_BROKEN);
    holds();
    stop();
    /* In eager reclaim too, though the cache is not empty. */
    fake_domain_start(&f, 8 * SP, 2 * SP);
    fill(0, 1, 0);
    f.domain.p2m.births += 1000;
    fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = -ENOENT, .times = 1});
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), 0);
    assert_int_equal(domain_reclaim_eagerly(&f.domain), -EIO);
    assert_int_equal(f.domain.state, DOMAIN_BROKEN);
    holds();
    /* It refuses everything from here on, and only dying is left. */
    pages_t missing = 99, left = 99;
    assert_int_equal(domain_populate(&f.domain, gfn(0)), -EIO);
    assert_int_equal(domain_reclaim_eagerly(&f.domain), -EIO);
    assert_int_equal(domain_discard(&f.domain, gfn(0), 1), -EIO);
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), -EIO);
    assert_int_equal(domain_drain_step(&f.domain, SP, &left), -EINVAL);
    assert_int_equal(missing, 99);
    assert_int_equal(left, 99);
    domain_begin_dying(&f.domain);
    assert_int_equal(domain_drain_step(&f.domain, SP, &left), 0);
    stop();
}

/* Discard */

static void discard_takes_whatever_is_there(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 6 * SP);
    fill(0, 4 * SP, 7);
    p2m_set(&f.domain.p2m, gfn(6 * SP), 10, P2M_OUT);
    pages_t cached = f.domain.cache.pages;
    /* From the middle of one to the middle of another, whole ones in between. */
    assert_int_equal(domain_discard(&f.domain, gfn(100), 3 * SP), 0);
    assert_int_equal(f.domain.cache.pages, cached + 3 * SP);
    assert_int_equal(f.domain.counters.discarded_pages, 3 * SP);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(99)), P2M_RAM);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(100)), P2M_POD);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(3 * SP + 99)), P2M_POD);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(3 * SP + 100)), P2M_RAM);
    assert_int_equal(token_at(99), 7);
    holds();
    assert_int_equal(domain_discard(&f.domain, gfn(0), 8 * SP), 0); /* POD, RAM and OUT */
    assert_int_equal(f.domain.p2m.ram_pages, 0);
    assert_int_equal(f.domain.p2m.out_pages, 10);
    holds();
    stop();
}

static void discard_out_of_range(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 2 * SP + 3, SP);
    fill(0, 1, 1);
    static const uint64_t ranges[][2] = {{2 * SP + 4, 0}, {2 * SP + 3, 1}, {0, 2 * SP + 4},
                                         {1, UINT64_MAX}, {UINT64_MAX, 1}, {UINT64_MAX, 2}};
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        assert_int_equal(domain_discard(&f.domain, gfn(ranges[i][0]), ranges[i][1]), -EINVAL);
    }
    assert_int_equal(f.domain.counters.discarded_pages, 0);
    assert_int_equal(domain_discard(&f.domain, gfn(2 * SP + 3), 0), 0);
    assert_int_equal(domain_discard(&f.domain, gfn(0), 0), 0);
    assert_int_equal(token_at(0), 1);
    holds();
    stop();
}

static void discard_clears_what_it_cannot_take(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 4 * SP, 2 * SP);
    fill(0, 2 * SP, 7);
    assert_true(fake_guest_pin(&f.host, gfn(20), true));
    assert_true(fake_guest_pin(&f.host, gfn(SP + 511), true));
    assert_int_equal(domain_discard(&f.domain, gfn(0), 2 * SP), 0);
    assert_int_equal(f.domain.p2m.ram_pages, 2);
    assert_int_equal(token_at(20), 0);
    assert_int_equal(token_at(SP + 511), 0);
    assert_int_equal(f.domain.counters.discarded_pages, 2 * SP - 2);
    assert_int_equal(f.host.calls[FAKE_CLEAR_GUEST], 2);
    holds();
    stop();
}

static void discard_errors(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, 0}, {-EBUSY, 0}, {-ESRCH, -ESRCH}, {-ENOENT, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (int whole = 0; whole < 2; whole++) {
            fake_domain_start(&f, 4 * SP, 2 * SP);
            fill(0, 2 * SP, 7);
            fake_host_fail(
                &f.host, (struct fake_failure){.op = FAKE_TAKE, .err = cases[c].err, .after = 30});
            pages_t pages = whole ? SP : 100;
            assert_int_equal(domain_discard(&f.domain, gfn(0), pages), cases[c].expected);
            /* Counted is what went, whatever came then. */
            assert_int_equal(f.domain.counters.discarded_pages, f.domain.cache.pages);
            if (cases[c].expected == 0) {
                for (pages_t i = 0; i < pages; i++) {
                    assert_true(!fake_guest_has(&f.host, gfn(i)) || token_at(i) == 0);
                }
            } else {
                assert_int_equal(f.host.calls[FAKE_CLEAR_GUEST], 0);
                assert_int_equal(f.domain.cache.pages, whole ? 0 : 30);
            }
            holds();
            stop();
        }
    }
}

/* Dying */

static void dying_is_for_ever(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 4 * SP, 3 * SP);
    fill(0, 1, 7);
    pages_t left = 99;
    assert_int_equal(domain_drain_step(&f.domain, SP, &left), -EINVAL); /* not dying yet */
    domain_begin_dying(&f.domain);
    domain_begin_dying(&f.domain);
    holds();
    assert_int_equal(domain_populate(&f.domain, gfn(0)), -ESHUTDOWN);
    assert_int_equal(domain_populate(&f.domain, gfn(3 * SP)), -ESHUTDOWN);
    assert_int_equal(domain_discard(&f.domain, gfn(0), 1), -ESHUTDOWN);
    assert_int_equal(domain_drain_step(&f.domain, 100, &left), 0);
    assert_int_equal(left, 2 * SP - 100);
    holds();
    fake_host_fail(&f.host,
                   (struct fake_failure){.op = FAKE_RELEASE, .err = -EIO, .skip = 1, .times = 1});
    left = 99;
    assert_int_equal(domain_drain_step(&f.domain, UINT64_MAX, &left), -EIO);
    assert_int_equal(left, 99);
    holds();
    assert_int_equal(domain_drain_step(&f.domain, UINT64_MAX, &left), 0);
    assert_int_equal(left, 0);
    assert_int_equal(fake_host_resident(&f.host), SP); /* the guest's own go with it */
    assert_int_equal(domain_drain_step(&f.domain, 1, &left), 0);
    assert_int_equal(domain_drain_step(&f.domain, 0, &left), 0);
    holds();
    stop();
}

/* The check of the checks */

static void check_finds_what_is_wrong(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 4 * SP, 2 * SP);
    fill(0, 1, 7);
    f.domain.total_pages++;
    assert_finds(domain_check(&f.domain), "domain: P + G + C = total");
    f.domain.total_pages--;
    f.domain.target_pages++;
    assert_finds(domain_check(&f.domain),
                 "domain: total = target, once built, until dying, unless shrinking");
    f.domain.state = DOMAIN_EXHAUSTED;
    assert_finds(domain_check(&f.domain),
                 "domain: total = target, once built, until dying, unless shrinking");
    f.domain.state = DOMAIN_BROKEN;
    assert_holds(domain_check(&f.domain));
    f.domain.state = DOMAIN_RUNNING;
    f.domain.shrinking = true;
    assert_finds(domain_check(&f.domain), "domain: total > target while shrinking");
    f.domain.target_pages--;
    assert_finds(domain_check(&f.domain), "domain: total > target while shrinking");
    f.domain.target_pages--;
    assert_holds(domain_check(&f.domain));
    f.domain.shrinking = false;
    assert_finds(domain_check(&f.domain),
                 "domain: total = target, once built, until dying, unless shrinking");
    f.domain.state = DOMAIN_DYING;
    assert_holds(domain_check(&f.domain));
    f.domain.state = DOMAIN_BUILDING;
    assert_holds(domain_check(&f.domain));
    f.domain.state = DOMAIN_RUNNING;
    f.domain.target_pages++;
    f.domain.p2m.given_pages++;
    assert_finds(domain_check(&f.domain), "p2m: given_pages = sum of given");
    f.domain.p2m.given_pages--;
    f.domain.p2m.out_pages++;
    assert_finds(domain_check(&f.domain), "p2m: out_pages = sum of out");
    f.domain.p2m.out_pages--;
    f.domain.p2m.ram_pages++;
    assert_finds(domain_check(&f.domain), "p2m: ram_pages = sum of ram");
    f.domain.p2m.ram_pages--;
    f.domain.cache.pages++;
    assert_finds(domain_check(&f.domain), "cache: pages = sum of the slots' pages");
    f.domain.cache.pages--;
    holds();
    /* The sums alone: more pages of a kind than there are at all. */
    pages_t *kinds[] = {&f.domain.p2m.ram_pages, &f.domain.p2m.out_pages,
                        &f.domain.p2m.given_pages};
    for (size_t kind = 0; kind < 3; kind++) {
        pages_t kept = *kinds[kind];
        for (unsigned i = 0; i < 2; i++) {
            *kinds[kind] = i == 0 ? 4 * SP + 1 : UINT64_MAX;
            assert_finds(domain_check_sums(&f.domain), "domain: P + E + O = max");
        }
        *kinds[kind] = kept;
    }
    f.domain.recovery.held = true;
    f.domain.recovery.index = 3;
    assert_finds(domain_check(&f.domain),
                 "domain: all pages of a superpage that is being recovered are in place");
    f.domain.recovery.index = 4;
    assert_finds(domain_check(&f.domain),
                 "domain: all pages of a superpage that is being recovered are in place");
    f.domain.recovery.held = false;
    /* Links that lead out of the metadata, and round in it. */
    const p2m_index_t nexts[] = {4, P2M_NONE - 1, 0};
    for (size_t i = 0; i < 3; i++) {
        f.domain.p2m.entries[0].next = nexts[i];
        assert_finds(domain_check(&f.domain),
                     "p2m: an entry is on the populated list <=> ram + given > 0");
    }
    f.domain.p2m.entries[0].next = P2M_NONE;
    slot_index_t fresh = f.domain.cache.fresh;
    f.domain.cache.fresh = f.domain.cache.count + 1;
    assert_finds(domain_check(&f.domain), "cache: every slot below fresh is on one list");
    f.domain.cache.fresh = fresh;
    holds();
    domain_declare_broken(&f.domain);
    assert_int_equal(domain_populate(&f.domain, gfn(0)), -EIO);
    f.domain.state = DOMAIN_RUNNING;
    /* And the fake host's. */
    fake_guest_lose(&f.host, gfn(3));
    assert_finds(fake_host_compare(&f.host, &f.domain, true),
                 "a page is not in place that the p2m calls RAM or GIVEN");
    stop();
    fake_domain_start(&f, 4 * SP, 2 * SP);
    fake_cache_lose(&f.host, cfn(5));
    assert_finds(fake_host_compare(&f.host, &f.domain, false),
                 "a cache slot counts other pages than it has");
    stop();
}

/* A page that the host lost is noticed when it is needed. */
static void a_page_that_the_host_lost(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 4 * SP, 2 * SP);
    fake_cache_lose(&f.host, cache_first_cfn(cache_find_superpage(&f.domain.cache)));
    assert_int_equal(domain_populate(&f.domain, gfn(0)), -EIO);
    assert_int_equal(f.domain.state, DOMAIN_BROKEN);
    stop();
    fake_domain_start(&f, 4 * SP, 2 * SP);
    fill(0, 2 * SP, 0);
    fake_guest_lose(&f.host, gfn(9));
    assert_int_equal(domain_discard(&f.domain, gfn(0), 20), -EIO);
    assert_int_equal(f.domain.state, DOMAIN_BROKEN);
    stop();
}

/* Sizes */

static void metadata_of_64_gib_by_superpages(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 64 * GIB, 64 * GIB);
    for (p2m_index_t i = 0; i < 64 * GIB / SP; i++) {
        assert_int_equal(domain_populate(&f.domain, p2m_first_gfn(i)), 0);
    }
    assert_int_equal(f.domain.p2m.ram_pages, 64 * GIB);
    size_t used = fake_domain_metadata_used(&f);
    assert_in_range(used, 1, 1u << 20);
    /* Some of it given up and touched again, page by page: a little more. */
    for (p2m_index_t i = 0; i < 1000; i++) {
        assert_int_equal(domain_discard(&f.domain, p2m_first_gfn(i), 1 + i % 512), 0);
        assert_int_equal(domain_populate(&f.domain, p2m_first_gfn(i)), 0);
    }
    assert_in_range(fake_domain_metadata_used(&f), used, used + 1000 * 128 + (64u << 10));
    holds();
    stop();
    /* All of it given up, taken back and touched again, by superpages. */
    fake_domain_start(&f, 64 * GIB, 64 * GIB);
    assert_int_equal(domain_populate(&f.domain, gfn(0)), 0);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(0), 64 * GIB), 0);
    assert_int_equal(domain_increase_reservation(&f.domain, gfn(0), 64 * GIB), 0);
    for (p2m_index_t i = 0; i < 64 * GIB / SP; i++) {
        assert_int_equal(domain_populate(&f.domain, p2m_first_gfn(i)), 0);
    }
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(0), 64 * GIB), 0);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 64 * GIB / SP);
    assert_in_range(fake_domain_metadata_used(&f), 1, 1u << 20);
    holds();
    stop();
}

static void the_largest_domain(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 16 * TIB, 4 * GIB);
    uint64_t random = 99;
    for (int i = 0; i < 5000; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        assert_int_equal(fake_domain_touch(&f, gfn((random >> 20) % (16 * TIB)), 0), 0);
    }
    assert_int_equal(fake_domain_touch(&f, gfn(16 * TIB - 1), 6), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(16 * TIB)), -EINVAL);
    assert_int_equal(domain_discard(&f.domain, gfn(16 * TIB - 3 * SP), 3 * SP), 0);
    assert_true(fake_domain_metadata_used(&f) < 64u << 20);
    holds();
    stop();
}

static void a_host_without_huge_pages(void **unused)
{
    (void)unused;
    assert_int_equal(fake_domain_init(&f, 8 * SP, 4 * SP), 0);
    f.host.no_huge = true;
    pages_t missing = 1;
    assert_int_equal(domain_build_step(&f.domain, 4 * SP, &missing), 0);
    for (int round = 0; round < 3; round++) {
        for (p2m_index_t i = 0; i < 8; i++) {
            assert_int_equal(fake_domain_touch(&f, gfn_add(p2m_first_gfn(i), 5), 0), 0);
            holds();
        }
    }
    stop();
}

static void the_kernel_splits_without_telling(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP, 2 * SP);
    for (int round = 0; round < 40; round++) {
        gfn_t at = p2m_first_gfn((p2m_index_t)(round % 8));
        assert_int_equal(fake_domain_touch(&f, at, 0), 0);
        fake_guest_split(&f.host, at);
        holds();
    }
    stop();
}

static void the_reserve_is_low_when_less_than_half_is_left(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 16 * SP, 8 * SP); /* its reserve is of 4 superpages */
    for (p2m_index_t i = 0; i < 8; i++) {
        assert_int_equal(domain_reserve_is_low(&f.domain), cache_superpages(&f.domain.cache) < 2);
        assert_int_equal(fake_domain_touch(&f, p2m_first_gfn(7 - i), 1), 0);
    }
    assert_true(domain_reserve_is_low(&f.domain));
    /* Who is covered needs none. */
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(8 * SP), 8 * SP), 0);
    assert_true(domain_covered(&f.domain));
    assert_false(domain_reserve_is_low(&f.domain));
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(the_smallest_domain),
        cmocka_unit_test(build_goes_step_by_step),
        cmocka_unit_test(a_build_that_fails_gives_back_what_it_had),
        cmocka_unit_test(a_build_may_go_on_after_a_failure),
        cmocka_unit_test(populate_places_a_superpage),
        cmocka_unit_test(populate_of_a_page_in_place_wakes),
        cmocka_unit_test(populate_out_of_range),
        cmocka_unit_test(populate_of_a_page_that_is_out),
        cmocka_unit_test(all_is_read),
        cmocka_unit_test(neighbours_come_along),
        cmocka_unit_test(fewer_neighbours_when_the_cache_is_low),
        cmocka_unit_test(a_table_is_flattened_before_a_superpage_comes),
        cmocka_unit_test(a_place_that_fails),
        cmocka_unit_test(a_busy_superpage_is_passed_over),
        cmocka_unit_test(busy_pages_everywhere),
        cmocka_unit_test(a_page_that_is_in_place_already_is_adopted),
        cmocka_unit_test(adoption_errors),
        cmocka_unit_test(a_scrubbing_guest_lives_on_its_own_zeros),
        cmocka_unit_test(single_pages_are_found_in_a_full_guest),
        cmocka_unit_test(exhausted_and_on_again),
        cmocka_unit_test(a_host_that_cannot_move_just_now_is_no_exhaustion),
        cmocka_unit_test(fatal_errors_of_reclaim_reach_the_caller),
        cmocka_unit_test(discard_takes_whatever_is_there),
        cmocka_unit_test(discard_out_of_range),
        cmocka_unit_test(discard_clears_what_it_cannot_take),
        cmocka_unit_test(discard_errors),
        cmocka_unit_test(dying_is_for_ever),
        cmocka_unit_test(check_finds_what_is_wrong),
        cmocka_unit_test(a_page_that_the_host_lost),
        cmocka_unit_test(metadata_of_64_gib_by_superpages),
        cmocka_unit_test(the_largest_domain),
        cmocka_unit_test(a_host_without_huge_pages),
        cmocka_unit_test(the_kernel_splits_without_telling),
        cmocka_unit_test(the_reserve_is_low_when_less_than_half_is_left),
    };
    return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
