/* SPDX-License-Identifier: MIT */
/*
 * A named test for each class of fault that Xen's populate-on-demand was
 * advised of. The advisories' code is not ours; what went wrong there could go
 * wrong here:
 *
 *   misaligned and odd orders    ranges that are no whole superpage, sizes that
 *                                are no multiple of one, runs across their ends
 *   stats after partial success  a move that did some of its pages and failed
 *   preemption of long work      work that takes long comes in steps, each
 *                                bounded, and takes up where it stopped
 *   failing halfway              an operation that fails after its first half
 *                                has neither done all nor nothing
 *   pages referenced elsewhere   what something else holds on to is not reclaimed
 *   loops without an end         neither a host that never manages nor a range that
 *                                somebody makes up keeps a call busy for ever
 *   dying in the middle          the domain is to die between any two calls
 *
 * docs/testing.md has the advisories by number.
 */
#include "fake_domain.h"
#include "unit.h"

#include <errno.h>

#define SP SUPERPAGE_PAGES

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

/* P + G and O are what the events that the counters have seen add up to. */
static void counters_add_up(void)
{
    const struct domain_counters *c = &f.domain.counters;
    const struct p2m *p2m = &f.domain.p2m;
    assert_int_equal(p2m->ram_pages + p2m->given_pages,
                     c->populated_2m * SP + c->populated_4k + c->adopted_pages -
                         c->reclaimed_2m * SP - c->reclaimed_4k - c->discarded_pages -
                         c->collected_pages);
    assert_int_equal(p2m->out_pages + p2m->given_pages,
                     c->given_up_pages - c->taken_back_pages - c->out_in_use);
}

static void misaligned_and_odd_orders(void **unused)
{
    (void)unused;
    static const pages_t odds[] = {0, 1, 63, 64, 65, 255, 511};
    for (size_t m = 0; m < 7; m++) {
        for (size_t t = 0; t < 7; t++) {
            pages_t max = 3 * SP + odds[m], target = 2 * SP + odds[t];
            fake_domain_start(&f, max, target);
            assert_int_equal(fake_host_resident(&f.host), target);
            /* Each gfn once, the odd ones at the end included. */
            for (pages_t at = 0; at < max; at++) {
                assert_int_equal(fake_domain_touch(&f, gfn(at), 0), 0);
            }
            holds();
            counters_add_up();
            /* Ranges of every odd length, at every odd place, across the ends. */
            for (size_t at = 0; at < 7; at++) {
                for (size_t length = 1; length < 7; length++) {
                    gfn_t from = gfn(SP - odds[at]);
                    pages_t pages = SP + odds[length];
                    assert_int_equal(domain_discard(&f.domain, from, pages), 0);
                    holds();
                    counters_add_up();
                    assert_int_equal(domain_populate(&f.domain, gfn_add(from, pages - 1)), 0);
                    holds();
                }
            }
            assert_int_equal(fake_host_resident(&f.host), target);
            stop();
        }
    }
}

/* Superpages that are moved where no superpage fits. */
static void a_superpage_is_never_placed_on_part_of_one(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 2 * SP + 511, 2 * SP + 511);
    for (pages_t i = 0; i < 511; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn(2 * SP + i), 1), 0);
    }
    assert_int_equal(f.domain.counters.populated_2m, 0);
    assert_int_equal(f.domain.p2m.ram_pages, 511);
    holds();
    /* One page of another state, at either end, is enough. */
    p2m_set(&f.domain.p2m, gfn(0), 1, P2M_OUT);
    p2m_set(&f.domain.p2m, gfn(2 * SP - 1), 1, P2M_OUT);
    assert_int_equal(domain_populate(&f.domain, gfn(511)), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(SP)), 0);
    assert_int_equal(f.domain.counters.populated_2m, 0);
    holds();
    stop();
}

/* Every operation of the host fails after each number of pages in turn. */
static void stats_after_partial_success(void **unused)
{
    (void)unused;
    static const int errs[] = {-EAGAIN, -EBUSY, -ESRCH, -EIO};
    static const pages_t afters[] = {0, 1, 2, 7, 8, 15, 16, 200, 511};
    for (size_t e = 0; e < 4; e++) {
        for (size_t a = 0; a < 9; a++) {
            for (int placing = 0; placing < 2; placing++) {
                for (unsigned skip = 0; skip < 4; skip++) {
                    fake_domain_start(&f, 8 * SP, 3 * SP);
                    fill(0, 2 * SP, 4);
                    fake_host_fail(&f.host,
                                   (struct fake_failure){.op = placing ? FAKE_PLACE : FAKE_TAKE,
                                                         .err = errs[e],
                                                         .after = afters[a],
                                                         .skip = skip,
                                                         .times = 1});
                    pages_t total = f.domain.total_pages;
                    (void)domain_populate(&f.domain, gfn(4 * SP + 3));
                    holds();
                    counters_add_up();
                    (void)domain_discard(&f.domain, gfn(5), SP + 100);
                    holds();
                    counters_add_up();
                    (void)domain_populate(&f.domain, gfn(6 * SP + 3));
                    holds();
                    counters_add_up();
                    assert_int_equal(f.domain.total_pages, total);
                    assert_int_equal(fake_host_resident(&f.host), total);
                    stop();
                }
            }
        }
    }
}

static void preemption_of_long_work(void **unused)
{
    (void)unused;
    enum { SUPERPAGES = 300 };
    assert_int_equal(fake_domain_init(&f, SUPERPAGES * SP, SUPERPAGES * SP), 0);
    pages_t missing = SUPERPAGES * SP;
    while (missing != 0) {
        pages_t before = f.host.pages[FAKE_ALLOCATE];
        assert_int_equal(domain_build_step(&f.domain, 8 * SP + 100, &missing), 0);
        assert_true(f.host.pages[FAKE_ALLOCATE] - before <= 8 * SP + 100);
        holds();
    }
    for (p2m_index_t i = 0; i < SUPERPAGES - 10; i++) {
        assert_int_equal(domain_populate(&f.domain, p2m_first_gfn(i)), 0);
    }
    /* A discard is as long as its caller makes it. */
    uint64_t moves = f.host.calls[FAKE_TAKE];
    assert_int_equal(domain_discard(&f.domain, gfn(3), 4 * SP), 0);
    assert_true(f.host.calls[FAKE_TAKE] - moves <= 2 * 5);
    domain_begin_dying(&f.domain);
    pages_t left = f.domain.cache.pages;
    while (left != 0) {
        pages_t before = f.host.pages[FAKE_RELEASE];
        assert_int_equal(domain_drain_step(&f.domain, 777, &left), 0);
        assert_true(f.host.pages[FAKE_RELEASE] - before <= 777);
        assert_holds(domain_check(&f.domain));
    }
    holds();
    stop();
}

/* No fault does more than its share, however many come, and together they see
 * all of the memory: the hand goes round. */
static void faults_of_a_full_guest_are_bounded(void **unused)
{
    (void)unused;
    enum { TARGET = 20 };
    fake_domain_start(&f, 40 * SP, TARGET * SP);
    fill(0, TARGET * SP, 9);
    for (int fault = 0; fault < 100; fault++) {
        uint64_t glances = f.host.pages[FAKE_GLANCE], compares = f.host.pages[FAKE_COMPARE];
        gfn_t zeroed = gfn((uint64_t)(fault * 7919) % (TARGET * SP));
        if (fault % 2 == 0 && fake_guest_has(&f.host, zeroed)) {
            assert_true(fake_guest_write(&f.host, zeroed, 0));
        }
        int err = fake_domain_touch(&f, gfn(30 * SP + (uint64_t)fault), 9);
        assert_true(err == 0 || err == -ENOSPC);
        /* Two parts of a sweep, twice at most in the second. */
        assert_true(f.host.pages[FAKE_GLANCE] - glances <= 3 * TARGET * SP);
        assert_true(f.host.pages[FAKE_COMPARE] - compares <= 2 * TARGET * SP);
        holds();
    }
    stop();
}

/* XSA-388: orders between a page and a superpage, at every alignment, through
 * every operation that takes a range. */
static void intermediate_orders(void **unused)
{
    (void)unused;
    for (pages_t order = 0; order <= 11; order++) {
        pages_t pages = (pages_t)1 << order;
        for (pages_t offset = 0; offset < 2 * SP; offset += pages / 2 + 1 + offset) {
            fake_domain_start(&f, 6 * SP, 4 * SP);
            fill(0, 3 * SP + 17, 3);
            pages_t fits = min_u64(pages, 6 * SP - offset), outside = 0;
            assert_int_equal(domain_decrease_reservation(&f.domain, gfn(offset), fits), 0);
            assert_int_equal(f.domain.p2m.out_pages + f.domain.p2m.given_pages, fits);
            holds();
            counters_add_up();
            assert_int_equal(domain_increase_reservation(&f.domain, gfn(offset), fits), 0);
            assert_int_equal(f.domain.p2m.out_pages + f.domain.p2m.given_pages, 0);
            holds();
            counters_add_up();
            for (pages_t i = 0; i < 6 * SP; i++) {
                bool inside = i >= offset && i < offset + fits;
                outside += !inside && p2m_get(&f.domain.p2m, gfn(i)) == P2M_RAM;
            }
            assert_int_equal(domain_discard(&f.domain, gfn(offset), fits), 0);
            assert_int_equal(f.domain.p2m.ram_pages, outside);
            holds();
            counters_add_up();
            stop();
        }
    }
}

/* XSA-31: ranges that somebody made up. Nothing is done of what cannot be done
 * whole, and no time is spent on it. */
static void ranges_without_end(void **unused)
{
    (void)unused;
    static const uint64_t ats[] = {0, 1, 4 * SP - 1, 4 * SP, UINT64_MAX / 2, UINT64_MAX};
    static const pages_t lengths[] = {4 * SP + 1, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
    fake_domain_start(&f, 4 * SP, 2 * SP);
    fill(0, SP, 3);
    const struct domain before = f.domain;
    for (size_t a = 0; a < 6; a++) {
        for (size_t l = 0; l < 4; l++) {
            gfn_t at = gfn(ats[a]);
            assert_int_equal(domain_discard(&f.domain, at, lengths[l]), -EINVAL);
            assert_int_equal(domain_decrease_reservation(&f.domain, at, lengths[l]), -EINVAL);
            assert_int_equal(domain_increase_reservation(&f.domain, at, lengths[l]), -EINVAL);
            assert_int_equal(domain_set_target(&f.domain, lengths[l]), -EINVAL);
        }
    }
    assert_memory_equal(&f.domain, &before, sizeof(before));
    holds();
    stop();
}

/* XSA-507: what something else refers to is neither reclaimed nor collected, whole
 * superpages of it no more than single pages. */
static void pages_referenced_elsewhere(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 6 * SP, 2 * SP);
    fill(0, 2 * SP, 0);
    assert_true(fake_guest_pin(&f.host, gfn(7), true));
    assert_true(fake_guest_pin(&f.host, gfn(SP + 500), true));
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP), SP), 0);
    /* All the memory there is, but for those two pages. */
    for (pages_t i = 0; i < 2 * SP - 2; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn(2 * SP + i), 5), 0);
        assert_true(fake_guest_has(&f.host, gfn(7)) && fake_guest_has(&f.host, gfn(SP + 500)));
    }
    holds();
    assert_int_equal(domain_populate(&f.domain, gfn(5 * SP)), -ENOSPC);
    assert_true(fake_guest_pin(&f.host, gfn(7), false));
    assert_int_equal(domain_populate(&f.domain, gfn(5 * SP)), 0);
    holds();
    stop();
}

static uint64_t calls_so_far(void)
{
    uint64_t calls = 0;
    for (int op = 0; op < FAKE_OPS; op++) {
        calls += f.host.calls[op];
    }
    return calls;
}

/* XSA-246, XSA-277: a host that says "try again" for ever, to one operation or to
 * all of them. Each call of ours comes back, having asked a bounded number of
 * times, with nothing held: the next one works as soon as the host does. */
static void a_host_that_never_manages(void **unused)
{
    (void)unused;
    static const int errs[] = {-EAGAIN, -EBUSY};
    for (size_t e = 0; e < 2; e++) {
        for (unsigned which = 1; which < 1U << FAKE_OPS; which++) {
            /* Those that can fail so: all sets of them. */
            unsigned can = 1U << FAKE_PLACE | 1U << FAKE_TAKE;
            can |= errs[e] == -EAGAIN ? 1U << FAKE_RELEASE | 1U << FAKE_ALLOCATE |
                                            1U << FAKE_FLATTEN_GUEST | 1U << FAKE_FLATTEN_CACHE
                                      : 0;
            if ((which & ~can) != 0) {
                continue;
            }
            fake_domain_start(&f, 6 * SP, 3 * SP);
            fill(0, 2 * SP + 9, 0);
            for (int op = 0; op < FAKE_OPS; op++) {
                if (which & 1U << op) {
                    fake_host_fail(&f.host,
                                   (struct fake_failure){.op = (enum fake_op)op, .err = errs[e]});
                }
            }
            uint64_t before = calls_so_far();
            bool more;
            (void)domain_populate(&f.domain, gfn(4 * SP));
            (void)domain_populate(&f.domain, gfn(2 * SP + 100));
            (void)domain_decrease_reservation(&f.domain, gfn(3), SP);
            (void)domain_discard(&f.domain, gfn(9), SP);
            (void)domain_set_target(&f.domain, 4 * SP);
            (void)domain_set_target(&f.domain, 2 * SP);
            (void)domain_settle_step(&f.domain, SP, &more);
            (void)domain_reserve_step(&f.domain, &more);
            assert_true(calls_so_far() - before < 20 * SP);
            holds();
            counters_add_up();
            fake_host_heal(&f.host);
            assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), 0);
            holds();
            stop();
        }
    }
}

/* For each call that the host gets in a long scenario: that one fails. */
static uint64_t scenario(enum fake_op op, int err, unsigned skip, pages_t after, int *worst)
{
    *worst = 0;
    assert_int_equal(fake_domain_init(&f, 6 * SP + 50, 3 * SP + 20), 0);
    if (err != 0) {
        fake_host_fail(
            &f.host,
            (struct fake_failure){.op = op, .err = err, .skip = skip, .after = after, .times = 1});
    }
    pages_t missing = 1;
    for (int tries = 0; missing != 0 && tries < 9; tries++) {
        (void)domain_build_step(&f.domain, SP, &missing);
        holds();
    }
    assert_int_equal(missing, 0);
    uint64_t random = 5;
    for (int i = 0; i < 120; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        gfn_t at = gfn((random >> 33) % (6 * SP + 50));
        int result = 0;
        pages_t total = f.domain.total_pages;
        bool more = false;
        if (i % 13 == 4) {
            result = domain_set_target(&f.domain, SP + (random >> 20) % (5 * SP + 50));
            total = max_u64(total, f.domain.total_pages);
        } else if (i % 13 == 6) {
            result = domain_settle_step(&f.domain, 300, &more);
        } else if (i % 13 == 9) {
            result = domain_reserve_step(&f.domain, &more);
        } else if (i % 5 == 1) {
            pages_t pages = min_u64(6 * SP + 50 - at.n, (random >> 20) % 700);
            result = i % 2 == 0 ? domain_decrease_reservation(&f.domain, at, pages)
                                : domain_increase_reservation(&f.domain, at, pages);
        } else if (i % 7 == 3) {
            pages_t pages = min_u64(6 * SP + 50 - at.n, (random >> 20) % 700);
            result = domain_discard(&f.domain, at, pages);
        } else if (i % 7 == 5) {
            for (pages_t page = 0; page < SP; page++) {
                fake_guest_write(&f.host, gfn(at.n / SP % 6 * SP + page), 0);
            }
        } else {
            result = fake_domain_touch(&f, at, i % 4 == 0 ? 0 : (uint32_t)i);
        }
        assert_true(f.domain.total_pages <= total);
        *worst = result < *worst || *worst == 0 ? result : *worst;
        if (result == -EIO || result == -ESRCH) {
            *worst = result;
            break;
        }
        holds();
        counters_add_up();
    }
    uint64_t calls = f.host.calls[op];
    /* Whatever happened, it can die and be drained. */
    bool sound = *worst != -EIO && *worst != -ESRCH;
    fake_host_heal(&f.host);
    domain_begin_dying(&f.domain);
    pages_t left = 0;
    assert_int_equal(domain_drain_step(&f.domain, UINT64_MAX, &left), 0);
    assert_int_equal(left, 0);
    assert_holds(domain_check(&f.domain));
    if (sound) {
        holds();
        assert_int_equal(fake_host_resident(&f.host),
                         f.domain.p2m.ram_pages + f.domain.p2m.given_pages);
    }
    stop();
    return calls;
}

static void an_operation_failing_halfway(void **unused)
{
    (void)unused;
    static const struct {
        enum fake_op op;
        int err;
    } cases[] = {
        {FAKE_PLACE, -EAGAIN},
        {FAKE_PLACE, -EBUSY},
        {FAKE_PLACE, -ENOENT},
        {FAKE_PLACE, -ESRCH},
        {FAKE_PLACE, -EIO},
        {FAKE_TAKE, -EAGAIN},
        {FAKE_TAKE, -EBUSY},
        {FAKE_TAKE, -ENOENT},
        {FAKE_TAKE, -EEXIST},
        {FAKE_TAKE, -ESRCH},
        {FAKE_ALLOCATE, -ENOMEM},
        {FAKE_ALLOCATE, -EAGAIN},
        {FAKE_RELEASE, -EAGAIN},
        {FAKE_RELEASE, -ESRCH},
        {FAKE_RELEASE, -EIO},
        {FAKE_FLATTEN_GUEST, -EAGAIN},
        {FAKE_FLATTEN_GUEST, -EOPNOTSUPP},
        {FAKE_FLATTEN_GUEST, -ESRCH},
        {FAKE_FLATTEN_CACHE, -EOPNOTSUPP},
    };
    static const pages_t afters[] = {0, 1, 8, 300};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (size_t a = 0; a < 4; a++) {
            int worst = 0;
            uint64_t calls = scenario(cases[c].op, 0, 0, 0, &worst);
            assert_int_not_equal(worst, -EIO);
            for (unsigned skip = 0; skip < calls; skip++) {
                scenario(cases[c].op, cases[c].err, skip, afters[a], &worst);
                bool fatal = cases[c].err == -EIO || cases[c].err == -ENOENT ||
                             cases[c].err == -EEXIST || cases[c].err == -ESRCH;
                assert_true(fatal || (worst != -EIO && worst != -ESRCH));
                if (afters[a] == 0 && fatal) { /* it cannot have been missed */
                    assert_true(worst == -EIO || worst == -ESRCH);
                }
            }
        }
    }
}

static void dying_in_the_middle(void **unused)
{
    (void)unused;
    for (int life = 0; life < 60; life++) {
        assert_int_equal(fake_domain_init(&f, 5 * SP, 3 * SP), 0);
        pages_t missing = 3 * SP, left = 0;
        for (int i = 0; i < life; i++) {
            if (missing != 0) {
                assert_int_equal(domain_build_step(&f.domain, SP, &missing), 0);
            } else if (i % 11 == 4) {
                gfn_t at = gfn((uint64_t)i * 29);
                assert_int_equal(domain_decrease_reservation(&f.domain, at, 600), 0);
            } else if (i % 11 == 7) {
                assert_int_equal(domain_set_target(&f.domain, (3 - (pages_t)i % 3) * SP), 0);
            } else if (i % 5 == 0) {
                assert_int_equal(domain_discard(&f.domain, gfn((uint64_t)i * 41), 300), 0);
            } else {
                int err = fake_domain_touch(&f, gfn((uint64_t)i * 97 % (5 * SP)), (uint32_t)i % 2);
                assert_true(err == 0 || err == -ENOSPC);
            }
        }
        domain_begin_dying(&f.domain);
        pages_t in_guest = f.domain.p2m.ram_pages + f.domain.p2m.given_pages;
        bool more = false;
        uint64_t places = f.host.calls[FAKE_PLACE], takes = f.host.calls[FAKE_TAKE];
        do {
            holds();
            /* The guest goes on for a while, and QEMU too. */
            assert_int_equal(domain_populate(&f.domain, gfn(left % (5 * SP))), -ESHUTDOWN);
            assert_int_equal(domain_discard(&f.domain, gfn(0), 5 * SP), -ESHUTDOWN);
            assert_int_equal(domain_build_step(&f.domain, SP, &missing), -ESHUTDOWN);
            assert_int_equal(domain_decrease_reservation(&f.domain, gfn(0), SP), -ESHUTDOWN);
            assert_int_equal(domain_increase_reservation(&f.domain, gfn(0), SP), -ESHUTDOWN);
            assert_int_equal(domain_set_target(&f.domain, 5 * SP), -ESHUTDOWN);
            assert_int_equal(domain_settle_step(&f.domain, SP, &more), -ESHUTDOWN);
            assert_int_equal(domain_reserve_step(&f.domain, &more), -ESHUTDOWN);
            domain_begin_dying(&f.domain);
            assert_int_equal(domain_drain_step(&f.domain, 200, &left), 0);
        } while (left != 0);
        assert_int_equal(f.host.calls[FAKE_PLACE], places);
        assert_int_equal(f.host.calls[FAKE_TAKE], takes);
        assert_int_equal(fake_host_resident(&f.host), in_guest);
        assert_int_equal(f.domain.total_pages, in_guest);
        holds();
        stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misaligned_and_odd_orders),
        cmocka_unit_test(a_superpage_is_never_placed_on_part_of_one),
        cmocka_unit_test(stats_after_partial_success),
        cmocka_unit_test(preemption_of_long_work),
        cmocka_unit_test(faults_of_a_full_guest_are_bounded),
        cmocka_unit_test(intermediate_orders),
        cmocka_unit_test(ranges_without_end),
        cmocka_unit_test(pages_referenced_elsewhere),
        cmocka_unit_test(a_host_that_never_manages),
        cmocka_unit_test(an_operation_failing_halfway),
        cmocka_unit_test(dying_in_the_middle),
    };
    return cmocka_run_group_tests_name("classes of Xen's advisories", tests, NULL, NULL);
}
