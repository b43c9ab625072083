/* SPDX-License-Identifier: MIT */
/* transfer.c and reclaim.c: what moves, what comes back, what a sweep costs. */
#include "engine/transfer.h"

#include "engine/reclaim.h"

#include "fake_domain.h"
#include "unit.h"

#include <errno.h>

#define SP SUPERPAGE_PAGES

static struct fake_domain f;

/* A domain of 16 superpages of which `target` can be backed. */
static void start(pages_t target_superpages)
{
    fake_domain_start(&f, 16 * SP, target_superpages * SP);
}

static void stop(void)
{
    fake_domain_free(&f);
}

static void holds(void)
{
    assert_holds(fake_domain_check(&f, true));
}

/* Populates a superpage and writes `token` to all its pages. */
static void fill(p2m_index_t index, uint32_t token)
{
    gfn_t first = p2m_first_gfn(index);
    for (pages_t i = 0; i < SP; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn_add(first, i), token), 0);
    }
}

static uint32_t token_at(uint64_t n)
{
    uint32_t token = 0;
    assert_true(fake_guest_read(&f.host, gfn(n), &token));
    return token;
}

static uint8_t flags_of(p2m_index_t index)
{
    return f.domain.p2m.entries[index].flags;
}

static void place_counts_what_went(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -EAGAIN}, {-EBUSY, -EBUSY}, {-ESRCH, -ESRCH},
                 {-EIO, -EIO},       {-ENOENT, -EIO},  {-ENOMEM, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (pages_t after = 0; after < 10; after += 3) {
            start(2);
            fake_host_fail(&f.host, (struct fake_failure){
                                        .op = FAKE_PLACE, .err = cases[c].err, .after = after});
            pages_t moved = 99;
            struct cache_run run = cache_find_pages(&f.domain.cache, 10);
            assert_int_equal(transfer_place(&f.domain, run, gfn(100), &moved), cases[c].expected);
            f.domain.p2m.entries[0].flags |= P2M_TABLE; /* is the caller's to note */
            assert_int_equal(moved, after);
            assert_int_equal(f.domain.p2m.ram_pages, after);
            assert_int_equal(f.domain.cache.pages, 2 * SP - after);
            assert_int_equal(f.domain.state,
                             cases[c].expected == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
            holds();
            stop();
        }
    }
}

static void place_meets_a_page_in_place(void **unused)
{
    (void)unused;
    start(2);
    fake_intrude(&f.host, gfn(103), 5);
    pages_t moved = 0;
    struct cache_run run = cache_find_pages(&f.domain.cache, 10);
    assert_int_equal(transfer_place(&f.domain, run, gfn(100), &moved), -EEXIST);
    assert_int_equal(moved, 3);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    holds();
    stop();
}

static void a_huge_zero_superpage_comes_back_huge(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    assert_true(flags_of(0) & P2M_HUGE);
    assert_true(fake_guest_is_huge(&f.host, gfn(0)));
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 1);
    assert_int_equal(flags_of(0), 0);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 2);
    assert_false(fake_guest_has_table(&f.host, gfn(0)));
    holds();
    stop();
}

static void a_superpage_of_singles_comes_back_in_pieces(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    pages_t kept = 0, seen = 0;
    assert_int_equal(transfer_take_run(&f.domain, gfn(7), 1, TRANSFER_IF_ZERO, &kept, &seen), 0);
    assert_int_equal(flags_of(0), P2M_TABLE);
    assert_int_equal(fake_domain_touch(&f, gfn(7), 0), 0);
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 1);
    assert_int_equal(flags_of(0), P2M_TABLE);
    holds();
    stop();
}

static void a_superpage_of_singles_that_is_not_zero_returns_in_pieces(void **unused)
{
    (void)unused;
    start(2);
    fill(0, 5);
    fake_guest_split(&f.host, gfn(0));
    f.domain.p2m.entries[0].flags = P2M_TABLE;
    slot_index_t empty = cache_find_empty(&f.domain.cache, true);
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 0);
    assert_int_equal(f.domain.counters.false_zeros, 1);
    assert_int_equal(flags_of(0), P2M_TABLE);
    /* It left a page table where it was for a moment. */
    assert_int_not_equal(cache_find_empty(&f.domain.cache, true), empty);
    assert_int_equal(cache_find_empty(&f.domain.cache, false), empty);
    holds();
    stop();
}

static void a_superpage_with_one_page_that_is_not_zero_stays(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    assert_true(fake_guest_write_hidden(&f.host, gfn(511), 77));
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 0);
    assert_int_equal(token_at(511), 77);
    assert_int_equal(f.domain.counters.false_zeros, 1);
    assert_true(flags_of(0) & P2M_HUGE); /* it went and came in one piece */
    assert_true(fake_guest_is_huge(&f.host, gfn(0)));
    holds();
    stop();
}

static void a_superpage_with_a_pinned_page_stays(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    assert_true(fake_guest_pin(&f.host, gfn(300), true));
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 0);
    assert_int_equal(f.domain.counters.busy_skips, 1);
    assert_int_equal(f.domain.counters.false_zeros, 0);
    assert_int_equal(flags_of(0), P2M_TABLE);
    assert_int_equal(f.domain.p2m.ram_pages, SP);
    holds();
    stop();
}

static void a_take_that_fails_leaves_all_in_the_guest(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -EAGAIN}, {-EBUSY, 0},     {-ESRCH, -ESRCH},
                 {-ENOENT, -EIO},    {-EEXIST, -EIO}, {-EIO, -EIO}};
    static const pages_t afters[] = {0, 1, 511};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (size_t a = 0; a < 3; a++) {
            for (int rule = TRANSFER_IF_ZERO; rule <= TRANSFER_COLLECT; rule++) {
                start(2);
                fill(0, 9);
                if (rule == TRANSFER_COLLECT) {
                    p2m_set(&f.domain.p2m, gfn(0), SP, P2M_GIVEN);
                }
                fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE,
                                                              .err = cases[c].err,
                                                              .after = afters[a]});
                assert_int_equal(transfer_take_superpage(&f.domain, 0, (enum transfer_rule)rule),
                                 cases[c].expected);
                assert_int_equal(f.domain.state,
                                 cases[c].expected == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
                for (pages_t i = 0; i < SP; i++) {
                    assert_int_equal(token_at(i), 9);
                }
                holds();
                stop();
            }
        }
    }
}

static void scrubbed_pages_are_zero(void **unused)
{
    (void)unused;
    start(2);
    fill(0, 5);
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_SCRUB), 1);
    assert_int_equal(f.host.pages[FAKE_COMPARE], 0);
    fill(1, 6);
    pages_t kept = 0, seen = 0;
    assert_int_equal(transfer_take_run(&f.domain, gfn(600), 20, TRANSFER_SCRUB, &kept, &seen), 0);
    assert_int_equal(kept, 20);
    assert_int_equal(seen, 20);
    holds();
    stop();
}

/* Leaves the cache no slot but those that hold pages, while `what` runs. */
#define without_empty_slots(what)                                                                  \
    do {                                                                                           \
        struct cache saved_ = f.domain.cache;                                                      \
        f.domain.cache.heads[CACHE_EMPTY] = SLOT_NONE;                                             \
        f.domain.cache.fresh = f.domain.cache.count;                                               \
        what;                                                                                      \
        f.domain.cache.heads[CACHE_EMPTY] = saved_.heads[CACHE_EMPTY];                             \
        f.domain.cache.fresh = saved_.fresh;                                                       \
    } while (0)

static void without_room_nothing_is_taken(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    pages_t kept = 99, seen = 99;
    without_empty_slots({
        assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 0);
        assert_int_equal(transfer_take_run(&f.domain, gfn(0), 9, TRANSFER_SCRUB, &kept, &seen),
                         -ENOSPC);
        assert_int_equal(reclaim_sweep(&f.domain), 0);
    });
    assert_int_equal(kept, 99);
    assert_int_equal(seen, 99);
    assert_int_equal(f.host.calls[FAKE_TAKE], 0);
    holds();
    stop();
}

static void a_flat_slot_is_made_if_there_is_none(void **unused)
{
    (void)unused;
    for (int fails = 0; fails < 2; fails++) {
        start(2);
        assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
        cache_unflattened(&f.domain.cache, cache_find_empty(&f.domain.cache, true));
        if (fails) {
            fake_host_fail(&f.host,
                           (struct fake_failure){.op = FAKE_FLATTEN_CACHE, .err = -EOPNOTSUPP});
        }
        without_empty_slots(
            assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 1));
        assert_int_equal(f.host.calls[FAKE_FLATTEN_CACHE], 1);
        assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], fails ? 1 : 2);
        assert_int_equal(f.domain.cache.lengths[CACHE_FULL], fails ? 1 : 0);
        assert_int_equal(flags_of(0), fails ? P2M_TABLE : 0);
        stop();
    }
}

static void a_slot_that_was_never_used_is_flat(void **unused)
{
    (void)unused;
    start(1);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    cache_unflattened(&f.domain.cache, 0); /* the only one used so far */
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 1);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 1);
    assert_int_equal(f.domain.cache.fresh, 2);
    assert_int_equal(f.host.calls[FAKE_FLATTEN_CACHE], 0);
    holds();
    stop();
}

static void a_page_in_transit_is_offered_again_and_again(void **unused)
{
    (void)unused;
    static const int errs[] = {-EAGAIN, -EBUSY};
    for (size_t e = 0; e < 2; e++) {
        start(2);
        assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
        fake_guest_write_hidden(&f.host, gfn(5), 55);
        fake_host_fail(&f.host,
                       (struct fake_failure){.op = FAKE_PLACE, .err = errs[e], .times = 900});
        assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 0);
        assert_int_equal(token_at(5), 55);
        assert_true(flags_of(0) & P2M_HUGE);
        holds();
        stop();
    }
}

static void what_is_put_back_in_pieces_is_not_huge(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    fake_guest_write_hidden(&f.host, gfn(5), 55);
    fake_host_fail(
        &f.host, (struct fake_failure){.op = FAKE_PLACE, .err = -EAGAIN, .times = 2, .after = 100});
    assert_int_equal(transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO), 0);
    assert_int_equal(flags_of(0), P2M_TABLE);
    assert_int_equal(token_at(5), 55);
    holds();
    stop();
}

static void a_page_in_transit_that_cannot_return_is_the_end(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -EIO}, {-EBUSY, -EIO},  {-EIO, -EIO},
                 {-ENOENT, -EIO}, {-EEXIST, -EIO}, {-ESRCH, -ESRCH}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (int single = 0; single < 2; single++) {
            start(2);
            assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
            fake_guest_write_hidden(&f.host, gfn(5), 55);
            fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_PLACE, .err = cases[c].err});
            pages_t kept = 0, seen = 0;
            int err = single
                          ? transfer_take_run(&f.domain, gfn(0), 20, TRANSFER_IF_ZERO, &kept, &seen)
                          : transfer_take_superpage(&f.domain, 0, TRANSFER_IF_ZERO);
            assert_int_equal(err, cases[c].expected);
            assert_int_equal(f.domain.state,
                             cases[c].expected == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
            assert_int_equal(kept, single ? 5 : 0); /* what came before is counted */
            assert_holds(domain_check(&f.domain));
            stop();
        }
    }
}

static void a_run_keeps_zeros_and_returns_the_rest(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    for (pages_t i = 0; i < 30; i++) {
        if (i % 3 == 1) {
            fake_guest_write_hidden(&f.host, gfn(100 + i), (uint32_t)(1000 + i));
        }
    }
    pages_t kept = 0, seen = 0;
    assert_int_equal(transfer_take_run(&f.domain, gfn(100), 30, TRANSFER_IF_ZERO, &kept, &seen), 0);
    assert_int_equal(kept, 20);
    assert_int_equal(seen, 30);
    assert_int_equal(f.domain.counters.false_zeros, 10);
    assert_int_equal(f.host.pages[FAKE_COMPARE], 30); /* each once */
    for (pages_t i = 0; i < 30; i++) {
        if (i % 3 == 1) {
            assert_int_equal(token_at(100 + i), 1000 + i);
        }
        assert_int_equal(p2m_get(&f.domain.p2m, gfn(100 + i)), i % 3 == 1 ? P2M_RAM : P2M_POD);
    }
    holds();
    /* There is room for one page in one place now. */
    assert_int_equal(transfer_take_run(&f.domain, gfn(200), 30, TRANSFER_IF_ZERO, &kept, &seen), 0);
    assert_int_equal(kept, 1);
    assert_int_equal(seen, 1);
    holds();
    stop();
}

static void a_run_ends_at_the_page_that_cannot_be_taken(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -EAGAIN}, {-EBUSY, 0},     {-ESRCH, -ESRCH},
                 {-ENOENT, -EIO},    {-EEXIST, -EIO}, {-EIO, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (int rule = TRANSFER_IF_ZERO; rule <= TRANSFER_COLLECT; rule++) {
            start(2);
            assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
            if (rule == TRANSFER_COLLECT) {
                p2m_set(&f.domain.p2m, gfn(0), SP, P2M_GIVEN);
            }
            fake_host_fail(&f.host,
                           (struct fake_failure){.op = FAKE_TAKE, .err = cases[c].err, .after = 4});
            pages_t kept = 0, seen = 0;
            assert_int_equal(
                transfer_take_run(&f.domain, gfn(0), 20, (enum transfer_rule)rule, &kept, &seen),
                cases[c].expected);
            assert_int_equal(kept, 4);
            assert_int_equal(seen, 5);
            assert_int_equal(f.domain.counters.busy_skips, cases[c].err == -EBUSY);
            assert_int_equal(f.domain.p2m.ram_pages + f.domain.p2m.given_pages, SP - 4);
            assert_int_equal(f.domain.p2m.out_pages, rule == TRANSFER_COLLECT ? 4 : 0);
            holds();
            stop();
        }
    }
}

static void a_run_that_is_collected_returns_what_is_in_use(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    p2m_set(&f.domain.p2m, gfn(100), 30, P2M_GIVEN);
    fake_guest_write_hidden(&f.host, gfn(100), 1);
    fake_guest_write(&f.host, gfn(110), 2);
    fake_guest_write(&f.host, gfn(111), 3);
    fake_guest_write(&f.host, gfn(129), 4);
    pages_t kept = 0, seen = 0;
    assert_int_equal(transfer_take_run(&f.domain, gfn(100), 30, TRANSFER_COLLECT, &kept, &seen), 0);
    assert_int_equal(kept, 26);
    assert_int_equal(seen, 30);
    assert_int_equal(f.domain.counters.collected_pages, 26);
    assert_int_equal(f.domain.counters.out_in_use, 4);
    assert_int_equal(f.domain.counters.false_zeros, 0); /* nothing was wrong with them */
    assert_int_equal(f.domain.p2m.out_pages, 26);
    assert_int_equal(f.domain.p2m.given_pages, 0);
    assert_int_equal(token_at(100), 1);
    assert_int_equal(token_at(111), 3);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(129)), P2M_RAM);
    holds();
    stop();
}

/* Eager reclaim */

static void eager_rests_while_the_cache_is_well_filled(void **unused)
{
    (void)unused;
    start(8);
    for (p2m_index_t i = 0; i < 4; i++) { /* no neighbours: nothing is placed ahead */
        assert_int_equal(fake_domain_touch(&f, p2m_first_gfn(2 * i), 0), 0);
    }
    f.domain.p2m.births += 1000; /* all of them are old */
    assert_int_equal(reclaim_eager(&f.domain), 0);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 0);
    assert_int_equal(fake_domain_touch(&f, p2m_first_gfn(8), 0), 0);
    f.domain.p2m.births += 1000;
    assert_int_equal(reclaim_eager(&f.domain), 0); /* 3 are left */
    assert_int_equal(f.domain.counters.reclaimed_2m, 1);
    stop();
}

static void eager_rests_when_the_domain_is_covered(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 2 * SP, 2 * SP);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    f.domain.p2m.births += 1000;
    assert_true(domain_covered(&f.domain));
    assert_int_equal(reclaim_eager(&f.domain), 0);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 0);
    stop();
}

static void eager_leaves_the_young_alone(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    for (int births = 1; births < 33; births++) {
        assert_int_equal(reclaim_eager(&f.domain), 0);
        assert_int_equal(f.host.calls[FAKE_GLANCE], 0);
        f.domain.p2m.births++;
    }
    assert_int_equal(reclaim_eager(&f.domain), 0);
    assert_int_equal(f.domain.counters.reclaimed_2m, 1);
    holds();
    stop();
}

static void eager_looks_at_a_few_and_at_each_once(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 32 * SP, 12 * SP);
    for (p2m_index_t i = 0; i < 10; i++) {
        fill(i, 3);
    }
    f.domain.p2m.births += 1000;
    assert_int_equal(reclaim_eager(&f.domain), 0);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 4);
    assert_int_equal(reclaim_eager(&f.domain), 0);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 8);
    assert_int_equal(reclaim_eager(&f.domain), 0);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 10);
    assert_int_equal(reclaim_eager(&f.domain), 0);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 10);
    assert_int_equal(f.host.calls[FAKE_TAKE], 0);
    stop();
}

static void eager_errors(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, 0}, {-EBUSY, 0}, {-ESRCH, -ESRCH}, {-EIO, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        start(2);
        assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
        f.domain.p2m.births += 1000;
        fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = cases[c].err});
        assert_int_equal(reclaim_eager(&f.domain), cases[c].expected);
        holds();
        stop();
    }
}

/* The reserve */

static int reserve(bool *more)
{
    return domain_reserve_step(&f.domain, more);
}

/* Calls it until it says that there is no more to do; returns how often. */
static unsigned reserve_all(void)
{
    bool more = true;
    unsigned steps = 0;
    for (; more; steps++) {
        uint64_t glances = f.host.calls[FAKE_GLANCE], takes = f.host.calls[FAKE_TAKE];
        assert_int_equal(reserve(&more), 0);
        assert_true(f.host.calls[FAKE_GLANCE] - glances <= 4);
        assert_true(f.host.calls[FAKE_TAKE] - takes <= 4);
        assert_true(steps < 100000);
    }
    holds();
    return steps;
}

/* All of `target` superpages populated, and old. */
static void populate_all(pages_t max, pages_t target, uint32_t token)
{
    fake_domain_start(&f, max * SP, target * SP);
    for (p2m_index_t i = 0; i < target; i++) {
        fill(i, token);
    }
    f.domain.p2m.births += 1000;
    f.host.calls[FAKE_GLANCE] = 0;
}

static void the_reserve_is_filled_and_no_more(void **unused)
{
    (void)unused;
    populate_all(64, 20, 0);
    assert_true(domain_wants_upkeep(&f.domain));
    bool more = false;
    assert_int_equal(reserve(&more), 0); /* one at a time */
    assert_true(more);
    assert_int_equal(f.domain.counters.reclaimed_2m, 1);
    reserve_all();
    assert_int_equal(cache_superpages(&f.domain.cache), 4);
    assert_false(domain_wants_upkeep(&f.domain));
    uint64_t glances = f.host.calls[FAKE_GLANCE];
    assert_int_equal(reserve_all(), 1);
    assert_int_equal(f.host.calls[FAKE_GLANCE], glances);
    stop();
    /* A larger domain has a larger one: an eighth. */
    fake_domain_start(&f, 200 * SP, 80 * SP);
    for (p2m_index_t i = 0; i < 80; i++) {
        assert_int_equal(domain_populate(&f.domain, p2m_first_gfn(i)), 0);
    }
    f.domain.p2m.births += 1000;
    reserve_all();
    assert_int_equal(cache_superpages(&f.domain.cache), 10);
    stop();
}

static void the_reserve_rests_when_the_domain_is_covered(void **unused)
{
    (void)unused;
    populate_all(22, 20, 0); /* two short, and as many as the guest gives up fewer */
    bool more = false;
    assert_int_equal(reserve(&more), 0);
    assert_true(more);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(20 * SP), 2 * SP - 1), 0);
    assert_true(domain_wants_upkeep(&f.domain));
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(22 * SP - 1), 1), 0);
    assert_true(domain_covered(&f.domain));
    assert_false(domain_wants_upkeep(&f.domain));
    f.host.calls[FAKE_GLANCE] = 0;
    assert_int_equal(reserve_all(), 1);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 0);
    assert_int_equal(cache_superpages(&f.domain.cache), 1);
    stop();
}

static void the_reserve_goes_round_once_for_each_birth(void **unused)
{
    (void)unused;
    populate_all(64, 20, 5);
    f.domain.p2m.eager_hand = P2M_NONE; /* populates have seen to those */
    assert_true(reserve_all() <= 20 / 4 + 1);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 20); /* each once */
    assert_true(domain_wants_upkeep(&f.domain));
    bool more = true;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(reserve(&more), 0);
        assert_false(more);
    }
    assert_int_equal(f.host.calls[FAKE_GLANCE], 20);
    /* Something was born: what was not zero then may be now. */
    assert_int_equal(domain_discard(&f.domain, gfn(0), 1), 0);
    assert_int_equal(fake_domain_touch(&f, gfn(30 * SP), 7), 0);
    f.host.calls[FAKE_GLANCE] = 0;
    reserve_all();
    assert_int_equal(f.host.calls[FAKE_GLANCE], 19); /* 0 is not whole, 30 is young */
    assert_int_equal(f.domain.counters.reclaimed_2m, 0);
    stop();
}

static void the_reserve_looks_first_at_what_ages(void **unused)
{
    (void)unused;
    populate_all(64, 20, 0);
    f.domain.p2m.eager_hand = 10;
    bool more = false;
    assert_int_equal(reserve(&more), 0);
    assert_true(p2m_whole(&f.domain.p2m, 10, P2M_POD));
    assert_int_equal(f.domain.p2m.eager_hand, 11);
    stop();
}

static void the_reserve_spares_the_young(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 100 * SP, 20 * SP);
    for (p2m_index_t i = 0; i < 20; i++) {
        fill(i, 0);
    }
    for (uint64_t births = 20; births <= 32; births++) {
        reserve_all();
        assert_int_equal(f.host.calls[FAKE_GLANCE], 0);
        assert_int_equal(f.host.calls[FAKE_TAKE], 0);
        f.domain.p2m.births++;
    }
    reserve_all(); /* 0 is old now, and it alone */
    assert_int_equal(f.domain.counters.reclaimed_2m, 1);
    assert_true(p2m_whole(&f.domain.p2m, 0, P2M_POD));
    stop();
}

/* What is given up, or partly there, is none of the reserve's. */
static void the_reserve_takes_whole_superpages_of_ram_only(void **unused)
{
    (void)unused;
    populate_all(64, 20, 0);
    for (p2m_index_t i = 0; i < 20; i++) {
        p2m_set(&f.domain.p2m, gfn_add(p2m_first_gfn(i), i), 1, P2M_GIVEN);
    }
    reserve_all();
    assert_int_equal(f.host.calls[FAKE_GLANCE], 0);
    assert_int_equal(f.domain.counters.reclaimed_2m, 0);
    stop();
}

static void the_reserve_of_nothing(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 64 * SP, SP); /* one superpage is less than there should be */
    assert_true(domain_wants_upkeep(&f.domain));
    assert_int_equal(reserve_all(), 1);
    stop();
}

static void reserve_errors(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -EAGAIN}, {-EBUSY, 0}, {-ESRCH, -ESRCH}, {-EIO, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (int round = 0; round < 2; round++) {
            populate_all(64, 20, 0);
            if (round) {
                f.domain.p2m.eager_hand = P2M_NONE;
            }
            fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = cases[c].err});
            for (int more = 0; more < 2; more++) {
                bool untouched = more;
                if (cases[c].expected == 0) {
                    assert_true(reserve_all() <= 12); /* four looks each, both hands */
                } else {
                    assert_int_equal(reserve(&untouched), cases[c].expected);
                    assert_int_equal(untouched, more);
                }
                assert_int_equal(f.domain.cache.pages, 0);
            }
            holds();
            stop();
        }
    }
}

/* Sweeps */

/* Fills all of a domain with `target` superpages with content. */
static void fill_up(pages_t target)
{
    start(target);
    for (p2m_index_t i = 0; i < target; i++) {
        fill(i, 100 + i);
    }
    assert_int_equal(f.domain.cache.pages, 0);
    f.host.pages[FAKE_GLANCE] = 0;
    f.host.pages[FAKE_COMPARE] = 0;
}

static void zero(uint64_t at, pages_t pages)
{
    for (pages_t i = 0; i < pages; i++) {
        assert_true(fake_guest_write(&f.host, gfn(at + i), 0));
    }
}

static void a_sweep_ends_with_the_first_superpage(void **unused)
{
    (void)unused;
    fill_up(6);
    zero(2 * SP, SP);
    zero(4 * SP, SP);
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_int_equal(f.domain.cache.pages, SP);
    assert_true(p2m_whole(&f.domain.p2m, 2, P2M_POD));
    assert_int_equal(f.domain.counters.sweeps, 1);
    holds();
    stop();
}

static void a_sweep_resumes_where_the_last_one_stopped(void **unused)
{
    (void)unused;
    fill_up(6);
    zero(2 * SP, SP);
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_int_equal(f.domain.p2m.sweep_hand, 3);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 3);
    zero(0, SP);
    zero(4 * SP, SP);
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_true(p2m_whole(&f.domain.p2m, 4, P2M_POD)); /* the next, not the first */
    assert_true(p2m_whole(&f.domain.p2m, 0, P2M_RAM));
    assert_int_equal(f.host.calls[FAKE_GLANCE], 5);
    assert_int_equal(reclaim_sweep(&f.domain), 0); /* 5, and round to 0 */
    assert_true(p2m_whole(&f.domain.p2m, 0, P2M_POD));
    assert_int_equal(f.host.calls[FAKE_GLANCE], 7);
    holds();
    stop();
}

static void a_dry_domain_is_searched_for_singles_at_once(void **unused)
{
    (void)unused;
    fill_up(6);
    zero(3 * SP + 100, 70);
    zero(5 * SP + 5, 1);
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_true(f.domain.reclaim.superpages_dry);
    assert_int_equal(f.domain.cache.pages, 70); /* enough: it did not go on to the last one */
    assert_int_equal(f.domain.counters.reclaimed_4k, 70);
    assert_int_equal(f.domain.p2m.sweep_hand, 4);
    zero(1 * SP, SP); /* a superpage that nobody looks for now */
    pages_t glanced = f.host.pages[FAKE_GLANCE];
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    /* 4: nothing. 5: one page. 0: nothing. 1: all of it, singly. */
    assert_int_equal(f.domain.counters.reclaimed_2m, 0);
    assert_int_equal(f.domain.counters.reclaimed_4k, 70 + 1 + SP);
    assert_true(f.host.pages[FAKE_GLANCE] - glanced <= 4 * SP * 2);
    holds();
    /* That was much: now it is worth looking for superpages again. */
    zero(0, SP);
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_int_equal(f.domain.counters.reclaimed_2m, 1);
    holds();
    stop();
}

static void a_populated_superpage_ends_the_drought(void **unused)
{
    (void)unused;
    start(6);
    f.domain.reclaim.superpages_dry = true;
    assert_int_equal(fake_domain_touch(&f, gfn(0), 0), 0);
    assert_false(f.domain.reclaim.superpages_dry);
    stop();
}

static void a_sweep_of_nothing(void **unused)
{
    (void)unused;
    start(2);
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_int_equal(f.host.calls[FAKE_GLANCE], 0);
    stop();
}

/* One fault costs at most one pass, whatever the pages look like. */
static void the_work_of_a_sweep_is_bounded(void **unused)
{
    (void)unused;
    enum { TARGET = 12 };
    for (int pattern = 0; pattern < 6; pattern++) {
        fill_up(TARGET);
        for (pages_t at = 0; at < TARGET * SP; at++) {
            uint32_t token = (uint32_t)at + 1;
            bool hidden = pattern == 0 ||                     /* all look zero and are not */
                          (pattern == 1 && at % 2 == 0) ||    /* every other one does */
                          (pattern == 2 && at % SP != 511) || /* all but the last */
                          (pattern == 3 && (at >= 20 || at % 2 == 1)) ||
                          (pattern == 4 && at % 7 < 3);
            if (hidden) {
                fake_guest_write_hidden(&f.host, gfn(at), token);
            } else if (pattern == 3) {
                zero(at, 1); /* leaves holes of one page in the cache */
            } else {
                fake_guest_write(&f.host, gfn(at), token);
            }
        }
        assert_int_equal(reclaim_sweep(&f.domain), 0);
        assert_int_equal(f.domain.cache.pages, pattern == 3 ? 10 : 0);
        /* A pass for superpages and one for single pages, in which each page is
         * glanced at twice at most. */
        assert_true(f.host.pages[FAKE_GLANCE] <= 3 * TARGET * SP);
        assert_true(f.host.pages[FAKE_COMPARE] <= 2 * TARGET * SP);
        for (pages_t at = 0; at < TARGET * SP; at++) {
            assert_true(p2m_get(&f.domain.p2m, gfn(at)) == P2M_POD || token_at(at) == at + 1);
        }
        holds();
        stop();
    }
}

static unsigned whole_takes;

static void count_whole_takes(void *unused, const struct fake_call *call)
{
    (void)unused;
    whole_takes += call->op == FAKE_TAKE && call->pages == SP;
}

/* Zero but for a page that looks it: once a sweep has seen that, it takes what is
 * zero in there page by page, however many sweeps that is. */
static void a_mixed_superpage_is_tried_once(void **unused)
{
    (void)unused;
    enum { MIXED = 4 };
    fill_up(MIXED);
    zero(0, MIXED * SP);
    for (uint64_t i = 0; i < MIXED; i++) {
        assert_true(fake_guest_write_hidden(&f.host, gfn(i * SP + 99), 7));
    }
    f.host.before = count_whole_takes;
    whole_takes = 0;
    for (int sweeps = 0; sweeps < 2 * MIXED; sweeps++) {
        f.domain.reclaim.singles_since_dry = SP * 16; /* time for superpages again */
        assert_int_equal(reclaim_sweep(&f.domain), 0);
    }
    /* Each once whole, and at most once as a run of all its pages. */
    assert_true(whole_takes <= 2 * MIXED);
    assert_int_equal(f.domain.counters.reclaimed_4k, MIXED * (SP - 1));
    assert_int_equal(token_at(2 * SP + 99), 7);
    assert_true(flags_of(2) & P2M_MIXED);
    /* It is forgotten when all of it has left. */
    assert_int_equal(domain_discard(&f.domain, gfn(2 * SP), SP), 0);
    assert_false(flags_of(2) & P2M_MIXED);
    holds();
    stop();
}

static void sweep_errors(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -EAGAIN}, {-EBUSY, 0}, {-ESRCH, -ESRCH}, {-EIO, -EIO}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (int superpage = 0; superpage < 2; superpage++) {
            fill_up(4);
            zero(SP, superpage ? SP : 5);
            zero(3 * SP, superpage ? SP : 5);
            fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = cases[c].err});
            assert_int_equal(reclaim_sweep(&f.domain), cases[c].expected);
            assert_int_equal(f.domain.cache.pages, 0);
            holds();
            stop();
        }
    }
}

static void a_sweep_that_is_put_off_does_not_start_over(void **unused)
{
    (void)unused;
    fill_up(4);
    zero(SP, 5);
    zero(3 * SP, 5);
    fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE, .err = -EAGAIN, .times = 1});
    assert_int_equal(reclaim_sweep(&f.domain), -EAGAIN);
    assert_int_equal(f.domain.p2m.sweep_hand, 2);
    /* With some pages in hand, -EAGAIN only ends the sweep. */
    fake_host_fail(&f.host,
                   (struct fake_failure){.op = FAKE_TAKE, .err = -EAGAIN, .skip = 1, .times = 1});
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_int_equal(f.domain.cache.pages, 5);
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(3 * SP)), P2M_POD);
    holds();
    stop();
}

/* Lost writes: the guest writes at the worst moment. */

static struct {
    enum fake_op op;
    bool after;
    gfn_t at;
    uint32_t token;
    bool hidden;
    unsigned skip;
    int wrote; /* 1: it went in; 0: the page was away, the guest waits */
} writer;

static void write_now(const struct fake_call *call, bool after)
{
    if (writer.wrote == -1 && call->op == writer.op && after == writer.after &&
        writer.skip-- == 0) {
        writer.wrote = writer.hidden ? fake_guest_write_hidden(&f.host, writer.at, writer.token)
                                     : fake_guest_write(&f.host, writer.at, writer.token);
    }
}

static void on_before(void *unused, const struct fake_call *call)
{
    (void)unused;
    write_now(call, false);
}

static void on_after(void *unused, const struct fake_call *call)
{
    (void)unused;
    write_now(call, true);
}

static void write_at(enum fake_op op, bool after, unsigned skip, gfn_t at, bool hidden)
{
    writer.op = op;
    writer.after = after;
    writer.at = at;
    writer.token = 4711;
    writer.hidden = hidden;
    writer.skip = skip;
    writer.wrote = -1;
    f.host.before = on_before;
    f.host.after = on_after;
}

static void a_write_after_the_glance_survives(void **unused)
{
    (void)unused;
    for (int superpage = 0; superpage < 2; superpage++) {
        for (int hidden = 0; hidden < 2; hidden++) {
            for (pages_t page = 0; page < 40; page += 13) {
                fill_up(4);
                zero(SP, superpage ? SP : 40);
                /* Superpages: glances 0, 1. Singles: 0 to 3, then 0, and 1 twice. */
                write_at(FAKE_GLANCE, true, superpage ? 1 : 6, gfn(SP + page), hidden);
                assert_int_equal(reclaim_sweep(&f.domain), 0);
                assert_int_equal(writer.wrote, 1);
                assert_int_equal(token_at(SP + page), 4711);
                /* All the others were found. */
                assert_int_equal(f.domain.cache.pages, superpage ? SP - 1 : 39);
                assert_true(f.domain.counters.false_zeros >= 1);
                holds();
                stop();
            }
        }
    }
}

static void a_write_that_ends_the_zeros_between_two_glances(void **unused)
{
    (void)unused;
    fill_up(4);
    zero(SP + 10, 3);
    write_at(FAKE_GLANCE, true, 5, gfn(SP + 10), false); /* seen to look zero just before */
    assert_int_equal(reclaim_sweep(&f.domain), 0);
    assert_int_equal(writer.wrote, 1);
    assert_int_equal(token_at(SP + 10), 4711);
    assert_int_equal(f.domain.cache.pages, 2);
    holds();
    stop();
}

static void a_write_to_a_page_in_transit_waits(void **unused)
{
    (void)unused;
    for (int zeros = 0; zeros < 2; zeros++) {
        fill_up(4);
        zero(SP, SP);
        if (!zeros) {
            fake_guest_write_hidden(&f.host, gfn(SP + 9), 1234);
        }
        write_at(FAKE_COMPARE, false, 0, gfn(SP + 3), false);
        assert_int_equal(transfer_take_superpage(&f.domain, 1, TRANSFER_IF_ZERO), zeros);
        assert_int_equal(writer.wrote, 0);
        /* It is let go by a populate, whichever way it went. */
        assert_int_equal(fake_domain_touch(&f, gfn(SP + 3), 4711), 0);
        assert_int_equal(token_at(SP + 3), 4711);
        if (!zeros) {
            assert_int_equal(token_at(SP + 9), 1234);
        }
        holds();
        stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(place_counts_what_went),
        cmocka_unit_test(place_meets_a_page_in_place),
        cmocka_unit_test(a_huge_zero_superpage_comes_back_huge),
        cmocka_unit_test(a_superpage_of_singles_comes_back_in_pieces),
        cmocka_unit_test(a_superpage_of_singles_that_is_not_zero_returns_in_pieces),
        cmocka_unit_test(a_superpage_with_one_page_that_is_not_zero_stays),
        cmocka_unit_test(a_superpage_with_a_pinned_page_stays),
        cmocka_unit_test(a_take_that_fails_leaves_all_in_the_guest),
        cmocka_unit_test(scrubbed_pages_are_zero),
        cmocka_unit_test(without_room_nothing_is_taken),
        cmocka_unit_test(a_flat_slot_is_made_if_there_is_none),
        cmocka_unit_test(a_slot_that_was_never_used_is_flat),
        cmocka_unit_test(a_page_in_transit_is_offered_again_and_again),
        cmocka_unit_test(what_is_put_back_in_pieces_is_not_huge),
        cmocka_unit_test(a_page_in_transit_that_cannot_return_is_the_end),
        cmocka_unit_test(a_run_keeps_zeros_and_returns_the_rest),
        cmocka_unit_test(a_run_ends_at_the_page_that_cannot_be_taken),
        cmocka_unit_test(a_run_that_is_collected_returns_what_is_in_use),
        cmocka_unit_test(eager_rests_while_the_cache_is_well_filled),
        cmocka_unit_test(eager_rests_when_the_domain_is_covered),
        cmocka_unit_test(eager_leaves_the_young_alone),
        cmocka_unit_test(eager_looks_at_a_few_and_at_each_once),
        cmocka_unit_test(eager_errors),
        cmocka_unit_test(the_reserve_is_filled_and_no_more),
        cmocka_unit_test(the_reserve_rests_when_the_domain_is_covered),
        cmocka_unit_test(the_reserve_goes_round_once_for_each_birth),
        cmocka_unit_test(the_reserve_looks_first_at_what_ages),
        cmocka_unit_test(the_reserve_spares_the_young),
        cmocka_unit_test(the_reserve_takes_whole_superpages_of_ram_only),
        cmocka_unit_test(the_reserve_of_nothing),
        cmocka_unit_test(reserve_errors),
        cmocka_unit_test(a_sweep_ends_with_the_first_superpage),
        cmocka_unit_test(a_sweep_resumes_where_the_last_one_stopped),
        cmocka_unit_test(a_dry_domain_is_searched_for_singles_at_once),
        cmocka_unit_test(a_populated_superpage_ends_the_drought),
        cmocka_unit_test(a_sweep_of_nothing),
        cmocka_unit_test(the_work_of_a_sweep_is_bounded),
        cmocka_unit_test(a_mixed_superpage_is_tried_once),
        cmocka_unit_test(sweep_errors),
        cmocka_unit_test(a_sweep_that_is_put_off_does_not_start_over),
        cmocka_unit_test(a_write_after_the_glance_survives),
        cmocka_unit_test(a_write_that_ends_the_zeros_between_two_glances),
        cmocka_unit_test(a_write_to_a_page_in_transit_waits),
    };
    return cmocka_run_group_tests_name("transfer and reclaim", tests, NULL, NULL);
}
