/* SPDX-License-Identifier: MIT */
/* reservation.c and the target: what the guest gives up, what it takes back,
 * what becomes of the pages, and what it finds when it goes on using them. */
#include "engine/reservation.h"

#include "engine/reclaim.h"

#include "fake_domain.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

#define SP SUPERPAGE_PAGES

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct fake_domain f;

static void start(pages_t max_superpages, pages_t target_superpages)
{
    fake_domain_start(&f, max_superpages * SP, target_superpages * SP);
}

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

static void give_up(uint64_t from, pages_t pages)
{
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(from), pages), 0);
}

static void take_back(uint64_t from, pages_t pages)
{
    assert_int_equal(domain_increase_reservation(&f.domain, gfn(from), pages), 0);
}

static enum p2m_state state_of(uint64_t n)
{
    return p2m_get(&f.domain.p2m, gfn(n));
}

static uint32_t token_at(uint64_t n)
{
    uint32_t token = 0;
    assert_true(fake_guest_read(&f.host, gfn(n), &token));
    return token;
}

static void host_fails(enum fake_op op, int err, unsigned skip, unsigned times)
{
    fake_host_fail(&f.host,
                   (struct fake_failure){.op = op, .err = err, .skip = skip, .times = times});
}

/* States and operations */

enum operation { POPULATE, DISCARD, GIVE_UP, TAKE_BACK, COLLECT, SWEEP, OPERATIONS };

static int operate(enum operation operation, uint64_t n)
{
    switch (operation) {
    case POPULATE:
        return domain_populate(&f.domain, gfn(n));
    case DISCARD:
        return domain_discard(&f.domain, gfn(n), 1);
    case GIVE_UP:
        return domain_decrease_reservation(&f.domain, gfn(n), 1);
    case TAKE_BACK:
        return domain_increase_reservation(&f.domain, gfn(n), 1);
    case COLLECT:
        return reservation_collect(&f.domain, 1);
    case SWEEP:
        return reclaim_sweep(&f.domain);
    case OPERATIONS:
        break;
    }
    return -EINVAL;
}

/* What a page of a state, and with that token if it is in place, becomes. */
static const struct {
    enum p2m_state from;
    uint32_t token;
    struct {
        enum p2m_state state;
        uint32_t token;
    } to[OPERATIONS];
} transitions[] = {
    {P2M_POD,
     0,
     {{P2M_RAM, 0}, {P2M_POD, 0}, {P2M_OUT, 0}, {P2M_POD, 0}, {P2M_POD, 0}, {P2M_POD, 0}}},
    {P2M_OUT,
     0,
     {{P2M_GIVEN, 0}, {P2M_OUT, 0}, {P2M_OUT, 0}, {P2M_POD, 0}, {P2M_OUT, 0}, {P2M_OUT, 0}}},
    {P2M_RAM,
     0,
     {{P2M_RAM, 0}, {P2M_POD, 0}, {P2M_GIVEN, 0}, {P2M_RAM, 0}, {P2M_RAM, 0}, {P2M_POD, 0}}},
    {P2M_RAM,
     9,
     {{P2M_RAM, 9}, {P2M_POD, 0}, {P2M_GIVEN, 0}, {P2M_RAM, 9}, {P2M_RAM, 9}, {P2M_RAM, 9}}},
    {P2M_GIVEN,
     0,
     {{P2M_GIVEN, 0}, {P2M_GIVEN, 0}, {P2M_GIVEN, 0}, {P2M_RAM, 0}, {P2M_OUT, 0}, {P2M_GIVEN, 0}}},
    {P2M_GIVEN,
     9,
     {{P2M_GIVEN, 9}, {P2M_GIVEN, 0}, {P2M_GIVEN, 0}, {P2M_RAM, 9}, {P2M_RAM, 9}, {P2M_GIVEN, 9}}},
};

/* Puts a page of a superpage that is RAM otherwise into a state. */
static void prepare(uint64_t n, enum p2m_state state, uint32_t token, bool hidden)
{
    if (state == P2M_POD || state == P2M_OUT) {
        assert_int_equal(domain_discard(&f.domain, gfn(n), 1), 0);
    }
    if (state == P2M_OUT || state == P2M_GIVEN) {
        give_up(n, 1);
    }
    if (state == P2M_RAM || state == P2M_GIVEN) {
        assert_true(hidden ? fake_guest_write_hidden(&f.host, gfn(n), token)
                           : fake_guest_write(&f.host, gfn(n), token));
    }
    assert_int_equal(state_of(n), state);
}

static void every_state_by_every_operation(void **unused)
{
    (void)unused;
    static const uint64_t places[] = {0, 5, 63, 64, 511};
    for (size_t t = 0; t < COUNT(transitions); t++) {
        for (int operation = 0; operation < OPERATIONS; operation++) {
            for (size_t p = 0; p < 2 * COUNT(places); p++) {
                bool hidden = p >= COUNT(places);
                uint64_t n = SP + places[p % COUNT(places)];
                start(8, 4);
                fill(SP, SP, 7);
                prepare(n, transitions[t].from, transitions[t].token, hidden);
                uint64_t touched = f.domain.counters.out_touched;
                uint64_t in_use = f.domain.counters.out_in_use;
                assert_int_equal(operate((enum operation)operation, n), 0);
                enum p2m_state to = transitions[t].to[operation].state;
                assert_int_equal(state_of(n), to);
                assert_int_equal(fake_guest_has(&f.host, gfn(n)), to == P2M_RAM || to == P2M_GIVEN);
                if (to == P2M_RAM || to == P2M_GIVEN) {
                    assert_int_equal(token_at(n), transitions[t].to[operation].token);
                }
                /* Used though given up: counted when it is noticed. */
                assert_int_equal(f.domain.counters.out_touched - touched,
                                 transitions[t].from == P2M_OUT && to == P2M_GIVEN);
                assert_int_equal(f.domain.counters.out_in_use - in_use,
                                 transitions[t].from == P2M_GIVEN && to == P2M_RAM &&
                                     operation != TAKE_BACK);
                assert_int_equal(token_at(SP + 100), 7); /* the others stay as they were */
                holds();
                stop();
            }
        }
    }
}

static void ranges_of_all_states(void **unused)
{
    (void)unused;
    for (int back = 0; back < 2; back++) {
        start(8, 4);
        fill(SP, 2 * SP, 7); /* 0 is POD, 1 and 2 RAM, 3 of all kinds */
        fill(3 * SP, SP, 7);
        give_up(3 * SP + 100, 100);
        assert_int_equal(domain_discard(&f.domain, gfn(3 * SP + 200), 100), 0);
        give_up(3 * SP + 250, 20);
        assert_int_equal(f.domain.p2m.given_pages, 100);
        assert_int_equal(f.domain.p2m.out_pages, 20);
        const struct domain_counters *c = &f.domain.counters;
        uint64_t cached = f.domain.cache.pages, given_up = c->given_up_pages;
        holds();
        give_up(300, 3 * SP - 40); /* to 260 of 3 */
        assert_int_equal(c->given_up_pages - given_up, 3 * SP - 40 - 110);
        /* 1 and 2 were collected in one piece each; what is left of 3 was not. */
        assert_int_equal(f.domain.cache.pages, cached + 2 * SP);
        assert_true(p2m_whole(&f.domain.p2m, 1, P2M_OUT));
        assert_true(p2m_whole(&f.domain.p2m, 2, P2M_OUT));
        assert_int_equal(state_of(299), P2M_POD);
        assert_int_equal(state_of(300), P2M_OUT);
        assert_int_equal(state_of(3 * SP + 50), P2M_GIVEN);
        assert_int_equal(state_of(3 * SP + 199), P2M_GIVEN);
        assert_int_equal(state_of(3 * SP + 200), P2M_OUT);
        assert_int_equal(state_of(3 * SP + 269), P2M_OUT); /* had been before */
        assert_int_equal(state_of(3 * SP + 270), P2M_POD);
        assert_int_equal(state_of(3 * SP + 300), P2M_RAM);
        assert_int_equal(token_at(3 * SP + 300), 7);
        holds();
        uint64_t taken_back = c->taken_back_pages;
        if (back) {
            take_back(0, 8 * SP);
            assert_int_equal(c->taken_back_pages - taken_back, 3 * SP - 40 + 10);
            assert_int_equal(f.domain.p2m.out_pages + f.domain.p2m.given_pages, 0);
            assert_int_equal(state_of(3 * SP), P2M_RAM);
            assert_int_equal(token_at(3 * SP), 0);
            assert_int_equal(state_of(3 * SP + 250), P2M_POD);
        } else {
            give_up(0, 8 * SP);
            assert_int_equal(f.domain.p2m.out_pages + f.domain.p2m.given_pages, 8 * SP);
            assert_int_equal(f.domain.cache.pages + f.domain.p2m.given_pages, 4 * SP);
        }
        holds();
        stop();
    }
}

static void ranges_beyond_max(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 2 * SP + 3, SP);
    fill(0, 1, 1);
    static const uint64_t ranges[][2] = {{2 * SP + 4, 0}, {2 * SP + 3, 1}, {0, 2 * SP + 4},
                                         {1, UINT64_MAX}, {UINT64_MAX, 1}, {UINT64_MAX, 2}};
    for (size_t i = 0; i < COUNT(ranges); i++) {
        gfn_t at = gfn(ranges[i][0]);
        assert_int_equal(domain_decrease_reservation(&f.domain, at, ranges[i][1]), -EINVAL);
        assert_int_equal(domain_increase_reservation(&f.domain, at, ranges[i][1]), -EINVAL);
    }
    assert_int_equal(f.domain.counters.given_up_pages, 0);
    give_up(2 * SP + 3, 0);
    take_back(0, 0);
    give_up(0, 2 * SP + 3);
    assert_int_equal(p2m_pod_pages(&f.domain.p2m), 0);
    holds();
    take_back(0, 2 * SP + 3);
    assert_int_equal(p2m_pod_pages(&f.domain.p2m), 2 * SP + 3 - f.domain.p2m.ram_pages);
    holds();
    stop();
}

/* Collecting */

static void a_superpage_given_up_page_by_page_is_collected_in_one_piece(void **unused)
{
    (void)unused;
    start(8, 4);
    fill(SP, SP, 7);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 3);
    for (pages_t i = 0; i < SP; i++) {
        assert_int_equal(f.host.calls[FAKE_TAKE], 0);
        assert_true(fake_guest_is_huge(&f.host, gfn(SP)));
        give_up(SP + (i * 7) % SP, 1);
        holds();
    }
    assert_int_equal(f.host.calls[FAKE_TAKE], 1);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 4);
    assert_false(fake_guest_has_table(&f.host, gfn(SP)));
    assert_int_equal(f.domain.counters.collected_pages, SP);
    assert_int_equal(f.domain.counters.given_up_pages, SP);
    /* And back, in one piece again. */
    take_back(SP, SP);
    assert_int_equal(domain_populate(&f.domain, gfn(SP + 9)), 0);
    assert_true(fake_guest_is_huge(&f.host, gfn(SP)));
    holds();
    stop();
}

/* Some of it was POD: no superpage was there to begin with. */
static void a_superpage_with_gaps_waits_for_its_last_page(void **unused)
{
    (void)unused;
    start(8, 4);
    fill(SP, SP, 7);
    assert_int_equal(domain_discard(&f.domain, gfn(SP + 3), 1), 0);
    uint64_t takes = f.host.calls[FAKE_TAKE];
    give_up(SP, SP);
    assert_int_equal(f.domain.p2m.given_pages, SP - 1);
    assert_int_equal(f.host.calls[FAKE_TAKE], takes);
    assert_int_equal(reservation_collect(&f.domain, SP), 0);
    assert_true(p2m_whole(&f.domain.p2m, 1, P2M_OUT));
    assert_int_equal(f.domain.p2m.populated, 0);
    holds();
    stop();
}

static void a_short_superpage_is_collected_when_needed(void **unused)
{
    (void)unused;
    fake_domain_start(&f, SP + 7, SP + 7);
    fill(0, SP + 7, 7);
    give_up(SP, 7);
    assert_int_equal(f.domain.p2m.given_pages, 7);
    assert_int_equal(reservation_collect(&f.domain, 1), 0);
    assert_int_equal(f.domain.p2m.given_pages, 0);
    assert_int_equal(f.domain.cache.pages, 7);
    holds();
    stop();
}

static void a_pinned_page_stays_and_the_others_are_collected(void **unused)
{
    (void)unused;
    start(8, 4);
    fill(SP, SP, 7);
    assert_true(fake_guest_pin(&f.host, gfn(SP + 200), true));
    give_up(SP, SP);
    assert_int_equal(f.domain.p2m.given_pages, 1);
    assert_int_equal(state_of(SP + 200), P2M_GIVEN);
    assert_int_equal(f.domain.counters.collected_pages, SP - 1);
    assert_true(f.domain.counters.busy_skips >= 1);
    holds();
    assert_int_equal(reservation_collect(&f.domain, 1), 0);
    assert_int_equal(state_of(SP + 200), P2M_GIVEN);
    /* The device writes to it: nothing is lost. */
    assert_true(fake_guest_write(&f.host, gfn(SP + 200), 77));
    assert_true(fake_guest_pin(&f.host, gfn(SP + 200), false));
    assert_int_equal(reservation_collect(&f.domain, 1), 0);
    assert_int_equal(state_of(SP + 200), P2M_RAM);
    assert_int_equal(token_at(SP + 200), 77);
    holds();
    stop();
}

static void collecting_stops_when_it_has_enough(void **unused)
{
    (void)unused;
    start(8, 6);
    for (p2m_index_t i = 0; i < 6; i++) {
        fill(i * SP, SP, 7);
    }
    for (p2m_index_t i = 0; i < 6; i++) {
        give_up(i * SP + 10, 30);
    }
    assert_int_equal(reservation_collect(&f.domain, 30), 0);
    assert_int_equal(f.domain.cache.pages, 30);
    assert_int_equal(reservation_collect(&f.domain, 31), 0); /* entry by entry */
    assert_int_equal(f.domain.cache.pages, 90);
    assert_int_equal(f.domain.p2m.sweep_hand, 3);
    assert_int_equal(reservation_collect(&f.domain, 100000), 0);
    assert_int_equal(f.domain.cache.pages, 180);
    uint64_t takes = f.host.calls[FAKE_TAKE];
    assert_int_equal(reservation_collect(&f.domain, 1), 0); /* there is nothing */
    assert_int_equal(f.host.calls[FAKE_TAKE], takes);
    holds();
    stop();
}

static void an_empty_cache_lives_on_what_was_given_up(void **unused)
{
    (void)unused;
    start(8, 2);
    fill(0, 2 * SP, 7);
    give_up(100, 3);
    assert_int_equal(f.domain.cache.pages, 0);
    assert_int_equal(fake_domain_touch(&f, gfn(4 * SP), 8), 0);
    assert_int_equal(f.domain.counters.sweeps, 0);
    assert_int_equal(state_of(101), P2M_OUT);
    assert_int_equal(f.domain.cache.pages, 2);
    holds();
    fill(4 * SP + 1, 2, 8);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP + 3)), -ENOSPC);
    /* Given up and in use: no help. */
    give_up(100, 20);
    for (pages_t i = 0; i < 20; i++) {
        assert_true(!fake_guest_has(&f.host, gfn(100 + i)) ||
                    fake_guest_write_hidden(&f.host, gfn(100 + i), 9));
    }
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP + 3)), -ENOSPC);
    assert_int_equal(f.domain.state, DOMAIN_EXHAUSTED);
    assert_int_equal(f.domain.counters.out_in_use, 17);
    assert_int_equal(f.domain.p2m.given_pages, 0);
    holds();
    give_up(103, 1);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP + 3)), 0);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    holds();
    stop();
}

static void a_host_that_cannot_collect_just_now(void **unused)
{
    (void)unused;
    start(8, 2);
    fill(0, 2 * SP, 7);
    give_up(100, 3);
    give_up(SP + 100, 3);
    host_fails(FAKE_TAKE, -EAGAIN, 0, 2);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), -EAGAIN);
    assert_int_equal(f.domain.counters.sweeps, 0);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), -EAGAIN);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    holds();
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), 0);
    holds();
    stop();
    /* With some pages in hand it only ends the collecting. */
    start(8, 2);
    fill(0, 2 * SP, 7);
    give_up(100, 3);
    give_up(SP + 100, 3);
    host_fails(FAKE_TAKE, -EAGAIN, 1, 1);
    assert_int_equal(reservation_collect(&f.domain, 6), 0);
    assert_int_equal(f.domain.cache.pages, 3);
    holds();
    stop();
}

static void collecting_fails_after_each_number_of_pages(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, 0}, {-EBUSY, 0}, {-ESRCH, -ESRCH}, {-ENOENT, -EIO}, {-EEXIST, -EIO}};
    static const pages_t afters[] = {0, 1, 100, 511};
    for (size_t c = 0; c < COUNT(cases); c++) {
        for (size_t a = 0; a < COUNT(afters); a++) {
            for (unsigned times = 1; times < 4; times++) {
                start(8, 4);
                fill(SP, SP, 7);
                give_up(SP, SP - 1);
                fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_TAKE,
                                                              .err = cases[c].err,
                                                              .after = afters[a],
                                                              .times = times});
                assert_int_equal(domain_decrease_reservation(&f.domain, gfn(2 * SP - 1), 1),
                                 cases[c].expected);
                assert_int_equal(f.domain.state,
                                 cases[c].expected == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
                assert_int_equal(f.domain.p2m.out_pages + f.domain.p2m.given_pages, SP);
                assert_int_equal(f.domain.counters.collected_pages, f.domain.p2m.out_pages);
                holds();
                if (cases[c].expected == 0) {
                    fake_host_heal(&f.host);
                    assert_int_equal(reservation_collect(&f.domain, SP), 0);
                    assert_true(p2m_whole(&f.domain.p2m, 1, P2M_OUT));
                    holds();
                }
                stop();
            }
        }
    }
}

static void a_page_in_use_that_cannot_return_is_the_end(void **unused)
{
    (void)unused;
    for (int whole = 0; whole < 2; whole++) {
        start(8, 4);
        fill(SP, SP, 7);
        give_up(SP, SP - 1);
        assert_true(fake_guest_write(&f.host, gfn(SP + 5), 55));
        host_fails(FAKE_PLACE, -EIO, 0, 0);
        assert_int_equal(whole ? domain_decrease_reservation(&f.domain, gfn(2 * SP - 1), 1)
                               : reservation_collect(&f.domain, 1),
                         -EIO);
        assert_int_equal(f.domain.state, DOMAIN_BROKEN);
        assert_holds(domain_check(&f.domain));
        stop();
    }
}

static void a_full_cache_collects_nothing(void **unused)
{
    (void)unused;
    start(8, 4);
    fill(SP, SP, 7);
    give_up(SP, SP - 1);
    struct cache saved = f.domain.cache;
    f.domain.cache.heads[CACHE_EMPTY] = SLOT_NONE;
    f.domain.cache.fresh = f.domain.cache.count;
    assert_int_equal(reservation_collect(&f.domain, 1), 0);
    give_up(2 * SP - 1, 1);
    f.domain.cache.heads[CACHE_EMPTY] = saved.heads[CACHE_EMPTY];
    f.domain.cache.fresh = saved.fresh;
    assert_int_equal(f.host.calls[FAKE_TAKE], 0);
    assert_true(p2m_whole(&f.domain.p2m, 1, P2M_GIVEN));
    holds();
    stop();
}

/* Lost writes: the guest uses a page that it gave up, at the worst moment. */

static struct {
    enum fake_op op;
    bool after;
    gfn_t at;
    bool hidden;
    unsigned skip;
    int wrote; /* 1: it went in; 0: the page was away, the guest waits; -1: not yet */
} writer;

static void write_now(const struct fake_call *call, bool after)
{
    if (writer.wrote == -1 && call->op == writer.op && after == writer.after &&
        writer.skip-- == 0) {
        writer.wrote = writer.hidden ? fake_guest_write_hidden(&f.host, writer.at, 4711)
                                     : fake_guest_write(&f.host, writer.at, 4711);
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

static void a_write_to_a_given_page_is_never_lost(void **unused)
{
    (void)unused;
    static const struct {
        enum fake_op op;
        bool after;
        bool in_time; /* it goes in; else the page is away */
    } moments[] = {{FAKE_CLEAR_GUEST, true, true},
                   {FAKE_TAKE, false, true},
                   {FAKE_TAKE, true, false},
                   {FAKE_COMPARE, false, false},
                   {FAKE_COMPARE, true, false}};
    for (size_t m = 0; m < COUNT(moments); m++) {
        for (int whole = 0; whole < 2; whole++) {
            for (int hidden = 0; hidden < 2; hidden++) {
                for (pages_t page = 0; page < SP - 1; page += 70) {
                    start(8, 4);
                    fill(SP, SP, 7);
                    pages_t pages = whole ? SP : SP - 1;
                    writer.op = moments[m].op;
                    writer.after = moments[m].after;
                    writer.at = gfn(SP + page);
                    writer.hidden = hidden;
                    writer.skip = 0;
                    writer.wrote = -1;
                    f.host.before = on_before;
                    f.host.after = on_after;
                    give_up(SP, pages);
                    if (!whole) {
                        assert_int_equal(reservation_collect(&f.domain, 1), 0);
                    }
                    assert_int_equal(writer.wrote, moments[m].in_time);
                    holds();
                    assert_int_equal(f.domain.counters.collected_pages, pages - moments[m].in_time);
                    assert_int_equal(state_of(SP + page), moments[m].in_time ? P2M_RAM : P2M_OUT);
                    if (!moments[m].in_time) { /* it waits, and goes on by a fault */
                        assert_int_equal(fake_domain_touch(&f, writer.at, 4711), 0);
                    }
                    assert_int_equal(token_at(SP + page), 4711);
                    assert_int_equal(f.domain.counters.out_touched, !moments[m].in_time);
                    assert_int_equal(f.domain.counters.out_in_use, moments[m].in_time);
                    /* The others are not. */
                    assert_int_equal(state_of(SP + (page == 0)), P2M_OUT);
                    holds();
                    stop();
                }
            }
        }
    }
}

static void a_reset_finds_what_was_used_unasked(void **unused)
{
    (void)unused;
    start(8, 4);
    fill(SP, 2 * SP, 7);
    give_up(SP, SP);
    give_up(2 * SP, 300);
    assert_true(fake_guest_write(&f.host, gfn(2 * SP + 10), 5));
    assert_int_equal(fake_domain_touch(&f, gfn(SP + 3), 6), 0); /* OUT */
    take_back(0, 8 * SP);
    assert_int_equal(token_at(2 * SP + 10), 5);
    assert_int_equal(token_at(2 * SP + 11), 0);
    assert_int_equal(token_at(SP + 3), 6);
    assert_int_equal(f.domain.p2m.out_pages + f.domain.p2m.given_pages, 0);
    assert_int_equal(f.domain.counters.out_touched, 1);
    holds();
    stop();
}

/* Growing */

static void targets_out_of_range_are_refused(void **unused)
{
    (void)unused;
    fake_domain_start(&f, 8 * SP + 5, 4 * SP);
    static const pages_t targets[] = {0, 1, SP - 1, 8 * SP + 6, UINT64_MAX};
    for (size_t i = 0; i < COUNT(targets); i++) {
        assert_int_equal(domain_set_target(&f.domain, targets[i]), -EINVAL);
    }
    assert_int_equal(f.domain.target_pages, 4 * SP);
    assert_int_equal(f.host.calls[FAKE_ALLOCATE], 4);
    assert_false(f.domain.shrinking);
    assert_int_equal(domain_set_target(&f.domain, 8 * SP + 5), 0);
    holds();
    assert_int_equal(domain_set_target(&f.domain, SP), 0);
    holds();
    stop();
}

static void growing_is_done_at_once(void **unused)
{
    (void)unused;
    static const pages_t more[] = {0, 1, 511, 512, 513, 3 * 512 + 7, 4 * 512};
    for (size_t i = 0; i < COUNT(more); i++) {
        for (int fragmented = 0; fragmented < 2; fragmented++) {
            start(8, 4);
            if (fragmented) {
                fill(0, 4 * SP, 7);
                assert_int_equal(domain_discard(&f.domain, gfn(9), 3), 0);
                assert_int_equal(domain_discard(&f.domain, gfn(SP + 9), 3), 0);
            }
            pages_t cached = f.domain.cache.pages;
            assert_int_equal(domain_set_target(&f.domain, 4 * SP + more[i]), 0);
            assert_int_equal(f.domain.target_pages, 4 * SP + more[i]);
            assert_int_equal(f.domain.total_pages, 4 * SP + more[i]);
            assert_int_equal(f.domain.cache.pages, cached + more[i]);
            assert_int_equal(fake_host_resident(&f.host), 4 * SP + more[i]);
            assert_true(cache_superpages(&f.domain.cache) >= (cached + more[i]) / SP);
            assert_false(f.domain.shrinking);
            holds();
            stop();
        }
    }
}

static void growing_where_no_slot_is_flat(void **unused)
{
    (void)unused;
    start(8, 4);
    while (cache_find_empty(&f.domain.cache, true) != SLOT_NONE) {
        cache_unflattened(&f.domain.cache, cache_find_empty(&f.domain.cache, true));
    }
    assert_int_equal(domain_set_target(&f.domain, 6 * SP + 9), 0);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL_HUGE], 4);
    assert_int_equal(f.domain.cache.lengths[CACHE_FULL], 2);
    assert_int_equal(f.domain.total_pages, 6 * SP + 9);
    holds();
    stop();
}

static void growing_is_all_or_nothing(void **unused)
{
    (void)unused;
    static const int errs[] = {-ENOMEM, -EAGAIN, -ESRCH, -EIO};
    enum { CALLS = 5 }; /* four superpages and what is left over */
    for (size_t e = 0; e < COUNT(errs); e++) {
        for (unsigned skip = 0; skip <= CALLS; skip++) {
            for (int shrinking = 0; shrinking < 2; shrinking++) {
                start(10, 4);
                fill(0, 2 * SP + 3, 7);
                if (shrinking) {
                    assert_int_equal(domain_set_target(&f.domain, 3 * SP), 0);
                }
                pages_t target = f.domain.target_pages, cached = f.domain.cache.pages;
                host_fails(FAKE_ALLOCATE, errs[e], skip, 1);
                int err = domain_set_target(&f.domain, 8 * SP + 50);
                assert_int_equal(err, skip < CALLS ? errs[e] : 0);
                assert_int_equal(f.domain.state, DOMAIN_RUNNING);
                if (err != 0) {
                    assert_int_equal(f.domain.target_pages, target);
                    assert_int_equal(f.domain.total_pages, 4 * SP);
                    assert_int_equal(f.domain.cache.pages, cached);
                    assert_int_equal(f.domain.shrinking, shrinking);
                    assert_int_equal(cache_superpages(&f.domain.cache), cached / SP);
                    holds();
                    fake_host_heal(&f.host);
                    assert_int_equal(domain_set_target(&f.domain, 8 * SP + 50), 0);
                }
                assert_int_equal(f.domain.total_pages, 8 * SP + 50);
                assert_false(f.domain.shrinking);
                holds();
                stop();
            }
        }
    }
}

static void what_the_host_will_not_take_back(void **unused)
{
    (void)unused;
    static const struct {
        int err, expected;
    } cases[] = {{-EAGAIN, -ENOMEM}, {-ESRCH, -ENOMEM}, {-EIO, -EIO}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        for (unsigned skip = 0; skip < 3; skip++) {
            start(10, 4);
            give_up(0, 10 * SP); /* nothing is owed to anybody */
            host_fails(FAKE_ALLOCATE, -ENOMEM, 3, 1);
            host_fails(FAKE_RELEASE, cases[c].err, skip, 1);
            assert_int_equal(domain_set_target(&f.domain, 9 * SP), cases[c].expected);
            assert_int_equal(f.domain.target_pages, 4 * SP);
            assert_int_equal(f.domain.total_pages, (7 - skip) * SP);
            assert_true(f.domain.shrinking);
            assert_int_equal(f.domain.state,
                             cases[c].expected == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
            holds();
            if (cases[c].expected != -EIO) {
                bool more = true;
                assert_true(domain_wants_upkeep(&f.domain));
                assert_int_equal(domain_settle_step(&f.domain, 100 * SP, &more), 0);
                assert_false(more);
                assert_false(f.domain.shrinking);
                assert_int_equal(f.domain.total_pages, 4 * SP);
                holds();
            }
            stop();
        }
    }
    /* The same while it is built: what stays is part of what is missing. */
    assert_int_equal(fake_domain_init(&f, 10 * SP, 6 * SP), 0);
    host_fails(FAKE_ALLOCATE, -ENOMEM, 3, 1);
    host_fails(FAKE_RELEASE, -EAGAIN, 1, 1);
    pages_t missing = 99;
    assert_int_equal(domain_build_step(&f.domain, 6 * SP, &missing), -ENOMEM);
    assert_int_equal(missing, 99);
    assert_int_equal(f.domain.total_pages, 2 * SP);
    assert_false(f.domain.shrinking);
    holds();
    assert_int_equal(domain_build_step(&f.domain, 6 * SP, &missing), 0);
    assert_int_equal(missing, 0);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    holds();
    stop();
}

static void a_raised_target_ends_exhaustion(void **unused)
{
    (void)unused;
    start(8, 2);
    fill(0, 2 * SP, 7);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), -ENOSPC);
    host_fails(FAKE_ALLOCATE, -ENOMEM, 0, 1);
    assert_int_equal(domain_set_target(&f.domain, 2 * SP + 1), -ENOMEM);
    assert_int_equal(f.domain.state, DOMAIN_EXHAUSTED);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP)), -ENOSPC);
    holds();
    assert_int_equal(domain_set_target(&f.domain, 2 * SP + 1), 0);
    assert_int_equal(fake_domain_touch(&f, gfn(4 * SP), 7), 0);
    assert_int_equal(f.domain.state, DOMAIN_RUNNING);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP + 1)), -ENOSPC);
    /* A lowered one does not. */
    assert_int_equal(domain_set_target(&f.domain, SP), 0);
    assert_int_equal(domain_populate(&f.domain, gfn(4 * SP + 1)), -ENOSPC);
    assert_int_equal(f.domain.state, DOMAIN_EXHAUSTED);
    holds();
    stop();
}

/* Shrinking */

static void covered_still(void)
{
    assert_true(f.domain.cache.pages + f.domain.p2m.given_pages >= p2m_pod_pages(&f.domain.p2m));
}

static void settle(pages_t step, pages_t expected, bool expected_more)
{
    pages_t total = f.domain.total_pages;
    bool more = !expected_more;
    assert_int_equal(domain_settle_step(&f.domain, step, &more), 0);
    assert_int_equal(total - f.domain.total_pages, expected);
    assert_int_equal(more, expected_more);
    holds();
}

static void shrinking_takes_nothing_that_an_entry_may_need(void **unused)
{
    (void)unused;
    start(8, 4); /* E = 8, C = 4 */
    assert_int_equal(domain_set_target(&f.domain, 2 * SP + 33), 0);
    assert_true(f.domain.shrinking);
    assert_int_equal(f.domain.total_pages, 4 * SP);
    assert_false(reservation_has_surplus(&f.domain));
    settle(100 * SP, 0, false);
    /* 4 and a bit given up: C covers E, no more. */
    give_up(0, 4 * SP);
    settle(100 * SP, 0, false);
    assert_int_equal(f.domain.total_pages, 4 * SP);
    /* From here on each page that is given up is one for the host, which gets
     * them by the superpage, */
    for (pages_t i = 0; i < SP; i++) {
        assert_int_equal(f.domain.total_pages, 4 * SP);
        give_up(4 * SP + i, 1);
        covered_still();
        holds();
    }
    assert_int_equal(f.domain.total_pages, 3 * SP);
    /* or when somebody settles. RAM too, once the guest uses what it has. */
    fill(5 * SP, 100, 7);
    for (pages_t i = 0; i < 100; i++) {
        give_up(5 * SP + i, 1);
        assert_int_equal(f.domain.total_pages, 3 * SP - i);
        assert_true(domain_wants_upkeep(&f.domain));
        settle(100, 1, false);
        covered_still();
    }
    /* Down to the target and not beyond, in one go. */
    give_up(5 * SP, 3 * SP);
    while (f.domain.shrinking) {
        bool more = false;
        assert_int_equal(domain_settle_step(&f.domain, 100, &more), 0);
        covered_still();
        holds();
    }
    assert_int_equal(f.domain.total_pages, 2 * SP + 33);
    assert_int_equal(fake_host_resident(&f.host), 2 * SP + 33);
    settle(100 * SP, 0, false);
    holds();
    stop();
}

static void settling_keeps_to_its_step(void **unused)
{
    (void)unused;
    start(8, 6);
    fill(0, 2 * SP, 7);
    give_up(2 * SP, 6 * SP);
    give_up(100, 200);
    assert_int_equal(domain_set_target(&f.domain, 2 * SP - 150), 0);
    assert_true(domain_wants_upkeep(&f.domain));
    settle(1, 1, true);
    settle(100, 100, true);
    settle(SP, SP, true);
    uint64_t released = f.host.pages[FAKE_RELEASE];
    settle(2 * SP, 2 * SP, true);
    assert_int_equal(f.host.pages[FAKE_RELEASE] - released, 2 * SP);
    assert_int_equal(f.domain.p2m.given_pages, 200); /* as long as there are others */
    settle(SP - 101, SP - 101, true);
    settle(100, 100, true);
    settle(100, 50, false); /* of those given up: all were collected, to be had */
    assert_int_equal(f.domain.p2m.given_pages, 0);
    assert_int_equal(f.domain.total_pages, 2 * SP - 150);
    assert_int_equal(f.domain.cache.pages, 50);
    settle(100, 0, false);
    assert_false(domain_wants_upkeep(&f.domain));
    stop();
}

/* Superpages stay whole while there are others. */
static void settling_gives_the_odd_pages_first(void **unused)
{
    (void)unused;
    start(8, 4);
    fill(0, SP, 7);
    assert_int_equal(domain_discard(&f.domain, gfn(50), 70), 0);
    give_up(SP, 7 * SP);
    assert_int_equal(domain_set_target(&f.domain, 3 * SP - 70), 0);
    settle(10 * SP, SP + 70, false);
    assert_int_equal(f.domain.cache.pages, 2 * SP);
    assert_int_equal(cache_superpages(&f.domain.cache), 2);
    stop();
}

static void given_pages_found_in_use_are_no_surplus(void **unused)
{
    (void)unused;
    start(4, 2);
    fill(0, 2 * SP, 7);
    give_up(2 * SP, 2 * SP - 5); /* E = 5, C = 0 */
    give_up(0, 10);              /* G = 10 */
    for (pages_t i = 0; i < 5; i++) {
        assert_true(fake_guest_write(&f.host, gfn(2 * i), 9));
    }
    assert_int_equal(domain_set_target(&f.domain, SP), 0);
    settle(100, 0, false); /* the five that it finds are what it needs */
    assert_int_equal(f.domain.cache.pages, 5);
    assert_int_equal(f.domain.counters.out_in_use, 5);
    covered_still();
    fill(4 * SP - 5, 5, 3); /* no entry goes without */
    holds();
    /* All in use: nothing to be had, and no endless search. */
    assert_int_equal(domain_set_target(&f.domain, 2 * SP), 0);
    give_up(20, 10);
    for (pages_t i = 0; i < 10; i++) {
        assert_true(fake_guest_write_hidden(&f.host, gfn(20 + i), 9));
    }
    assert_int_equal(domain_set_target(&f.domain, SP), 0);
    settle(100, 0, false);
    assert_int_equal(token_at(25), 9);
    assert_int_equal(f.domain.p2m.given_pages, 0);
    stop();
}

static void settling_errors(void **unused)
{
    (void)unused;
    static const struct {
        enum fake_op op;
        int err, expected;
    } cases[] = {{FAKE_RELEASE, -EAGAIN, -EAGAIN}, {FAKE_RELEASE, -ESRCH, -ESRCH},
                 {FAKE_RELEASE, -EIO, -EIO},       {FAKE_TAKE, -EAGAIN, -EAGAIN},
                 {FAKE_TAKE, -EBUSY, 0},           {FAKE_TAKE, -ESRCH, -ESRCH},
                 {FAKE_TAKE, -ENOENT, -EIO}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        start(8, 4);
        fill(0, 3 * SP, 7);
        give_up(4 * SP, 4 * SP);
        give_up(SP, 100);
        assert_int_equal(domain_set_target(&f.domain, 4 * SP - 70), 0);
        /* C = 1, G = 100, E = 1: what is cached goes, what was given up stays. */
        fill(3 * SP, SP, 7);
        assert_int_equal(f.domain.cache.pages, 0);
        host_fails(cases[c].op, cases[c].err, 0, 0);
        bool more = true;
        assert_int_equal(domain_settle_step(&f.domain, 1000, &more), cases[c].expected);
        assert_int_equal(more, cases[c].expected != 0); /* untouched on failure */
        assert_int_equal(f.domain.total_pages, 4 * SP);
        assert_true(f.domain.shrinking);
        assert_int_equal(f.domain.state,
                         cases[c].expected == -EIO ? DOMAIN_BROKEN : DOMAIN_RUNNING);
        holds();
        if (cases[c].expected != -EIO) {
            fake_host_heal(&f.host);
            settle(1000, 70, false);
            assert_int_equal(f.domain.cache.pages, 30);
        }
        stop();
    }
}

/* What the balloon gives while the domain shrinks goes on to the host; if that
 * fails the balloon need not know. */
static void inflating_while_shrinking_errors(void **unused)
{
    (void)unused;
    static const struct {
        enum fake_op op;
        int err, expected;
    } cases[] = {{FAKE_RELEASE, -EAGAIN, 0}, {FAKE_RELEASE, -ESRCH, -ESRCH},
                 {FAKE_RELEASE, -EIO, -EIO}, {FAKE_TAKE, -EAGAIN, 0},
                 {FAKE_TAKE, -EBUSY, 0},     {FAKE_TAKE, -ESRCH, -ESRCH},
                 {FAKE_TAKE, -ENOENT, -EIO}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        start(4, 4);
        fill(0, 4 * SP, 7);
        assert_int_equal(domain_set_target(&f.domain, 4 * SP - 20), 0);
        host_fails(cases[c].op, cases[c].err, 0, 0);
        assert_int_equal(domain_decrease_reservation(&f.domain, gfn(SP), 20), cases[c].expected);
        assert_int_equal(f.domain.total_pages, 4 * SP);
        holds();
        if (cases[c].expected == 0) {
            fake_host_heal(&f.host);
            settle(1000, 20, false);
            assert_int_equal(f.domain.total_pages, 4 * SP - 20);
        }
        stop();
    }
}

/* Page by page, as balloons inflate: no walk of the list for each page, and for
 * each superpage that has come together one take and one release. */
static void inflating_while_shrinking_is_bounded(void **unused)
{
    (void)unused;
    enum { SUPERPAGES = 64 };
    start(SUPERPAGES, SUPERPAGES);
    fill(0, SUPERPAGES * SP, 7);
    assert_int_equal(domain_set_target(&f.domain, SP), 0);
    p2m_index_t hand = f.domain.p2m.sweep_hand;
    for (pages_t i = 0; i < 3 * SP; i++) {
        give_up(60 * SP + i, 1);
        pages_t whole = (i + 1) / SP;
        assert_int_equal(f.domain.total_pages, (SUPERPAGES - whole) * SP);
        assert_int_equal(f.host.calls[FAKE_TAKE], whole);
        assert_int_equal(f.host.calls[FAKE_RELEASE], whole);
        assert_int_equal(f.domain.p2m.sweep_hand, hand);
    }
    holds();
    /* A whole superpage goes in one piece. */
    uint64_t takes = f.host.calls[FAKE_TAKE], releases = f.host.calls[FAKE_RELEASE];
    give_up(5 * SP, SP);
    assert_int_equal(f.host.calls[FAKE_TAKE] - takes, 1);
    assert_int_equal(f.host.calls[FAKE_RELEASE] - releases, 1);
    holds();
    stop();
}

static void a_new_target_while_shrinking(void **unused)
{
    (void)unused;
    start(8, 6);
    fill(0, 6 * SP, 7);
    assert_int_equal(domain_set_target(&f.domain, 2 * SP), 0);
    assert_int_equal(domain_set_target(&f.domain, 3 * SP), 0); /* less far down */
    assert_true(f.domain.shrinking);
    holds();
    give_up(6 * SP, 2 * SP);
    give_up(0, SP);
    assert_int_equal(f.domain.total_pages, 5 * SP);
    assert_int_equal(domain_set_target(&f.domain, 5 * SP), 0); /* this far and no further */
    assert_false(f.domain.shrinking);
    give_up(SP, SP);
    assert_int_equal(f.domain.total_pages, 5 * SP);
    holds();
    assert_int_equal(domain_set_target(&f.domain, 2 * SP), 0);
    settle(100, 100, true);
    assert_int_equal(domain_set_target(&f.domain, 5 * SP - 50), 0); /* up from where it is */
    assert_int_equal(f.domain.total_pages, 5 * SP - 50);
    assert_false(f.domain.shrinking);
    holds();
    assert_int_equal(domain_set_target(&f.domain, 2 * SP), 0);
    assert_int_equal(domain_set_target(&f.domain, 7 * SP), 0); /* and beyond */
    assert_int_equal(f.domain.total_pages, 7 * SP);
    assert_int_equal(f.host.pages[FAKE_RELEASE], SP + 100);
    holds();
    stop();
}

static void a_deflation_while_shrinking_stops_it(void **unused)
{
    (void)unused;
    start(8, 4);
    give_up(0, 6 * SP);
    assert_int_equal(domain_set_target(&f.domain, SP), 0);
    settle(SP, SP, true);
    take_back(0, SP); /* E = 3, C = 3 */
    settle(SP, 0, false);
    assert_true(f.domain.shrinking);
    give_up(0, 100);
    settle(SP, 100, false);
    stop();
}

/* The last pages that are owed go at once, be they ever so few. */
static void shrinking_ends_with_the_last_page(void **unused)
{
    (void)unused;
    start(4, 4);
    fill(0, 4 * SP, 7);
    assert_int_equal(domain_set_target(&f.domain, 4 * SP - 3), 0);
    give_up(9, 1);
    give_up(700, 1);
    assert_int_equal(f.domain.total_pages, 4 * SP);
    give_up(30, 1);
    assert_int_equal(f.domain.total_pages, 4 * SP - 3);
    assert_false(f.domain.shrinking);
    holds();
    stop();
}

static void covered_and_upkeep(void **unused)
{
    (void)unused;
    start(8, 6);
    assert_false(domain_covered(&f.domain));
    assert_false(domain_wants_upkeep(&f.domain)); /* the reserve is full */
    fill(0, 3 * SP, 7);                           /* E = 5, C = 3 */
    assert_true(domain_wants_upkeep(&f.domain));
    give_up(SP, SP);
    assert_false(domain_covered(&f.domain)); /* E = 5, C = 4 */
    give_up(0, SP - 1);
    assert_false(domain_covered(&f.domain));
    give_up(2 * SP, 1);
    assert_true(domain_covered(&f.domain)); /* C = 4, G = 1 */
    assert_false(domain_wants_upkeep(&f.domain));
    assert_int_equal(domain_set_target(&f.domain, 5 * SP), 0);
    assert_false(domain_wants_upkeep(&f.domain));
    give_up(2 * SP + 1, 1);
    assert_true(domain_wants_upkeep(&f.domain));
    settle(SP, 1, false);
    assert_false(domain_wants_upkeep(&f.domain));
    holds();
    stop();
}

static void nothing_before_and_after_life(void **unused)
{
    (void)unused;
    for (int phase = 0; phase < 3; phase++) {
        int expected = phase == 0 ? -EINVAL : phase == 1 ? -ESHUTDOWN : -EIO;
        if (phase == 0) {
            assert_int_equal(fake_domain_init(&f, 8 * SP, 4 * SP), 0);
        } else {
            start(8, 4);
            fill(0, SP, 7);
            give_up(0, 10);
            assert_int_equal(domain_set_target(&f.domain, 2 * SP), 0);
            f.domain.state = phase == 1 ? DOMAIN_DYING : DOMAIN_BROKEN;
        }
        uint64_t calls[FAKE_OPS];
        memcpy(calls, f.host.calls, sizeof(calls));
        pages_t target = f.domain.target_pages, out = f.domain.p2m.out_pages;
        for (int more = 0; more < 2; more++) {
            bool untouched = more;
            assert_int_equal(domain_settle_step(&f.domain, 1, &untouched), expected);
            assert_int_equal(domain_reserve_step(&f.domain, &untouched), expected);
            assert_int_equal(untouched, more);
        }
        assert_int_equal(domain_set_target(&f.domain, 3 * SP), expected);
        assert_int_equal(domain_set_target(&f.domain, 7 * SP), expected);
        assert_int_equal(domain_decrease_reservation(&f.domain, gfn(9), 3), expected);
        assert_int_equal(domain_increase_reservation(&f.domain, gfn(9), 3), expected);
        assert_memory_equal(calls, f.host.calls, sizeof(calls));
        assert_int_equal(f.domain.target_pages, target);
        assert_int_equal(f.domain.p2m.out_pages, out);
        holds();
        stop();
    }
}

/* Given pages are the guest's when it dies: its memory goes with it. */
static void dying_with_pages_given(void **unused)
{
    (void)unused;
    start(8, 4);
    fill(0, SP, 7);
    give_up(0, 10);
    assert_int_equal(domain_set_target(&f.domain, 2 * SP), 0);
    domain_begin_dying(&f.domain);
    pages_t left = 1;
    while (left != 0) {
        assert_int_equal(domain_drain_step(&f.domain, 300, &left), 0);
        holds();
    }
    assert_int_equal(f.domain.total_pages, SP);
    assert_int_equal(f.domain.p2m.given_pages, 10);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_by_every_operation),
        cmocka_unit_test(ranges_of_all_states),
        cmocka_unit_test(ranges_beyond_max),
        cmocka_unit_test(a_superpage_given_up_page_by_page_is_collected_in_one_piece),
        cmocka_unit_test(a_superpage_with_gaps_waits_for_its_last_page),
        cmocka_unit_test(a_short_superpage_is_collected_when_needed),
        cmocka_unit_test(a_pinned_page_stays_and_the_others_are_collected),
        cmocka_unit_test(collecting_stops_when_it_has_enough),
        cmocka_unit_test(an_empty_cache_lives_on_what_was_given_up),
        cmocka_unit_test(a_host_that_cannot_collect_just_now),
        cmocka_unit_test(collecting_fails_after_each_number_of_pages),
        cmocka_unit_test(a_page_in_use_that_cannot_return_is_the_end),
        cmocka_unit_test(a_full_cache_collects_nothing),
        cmocka_unit_test(a_write_to_a_given_page_is_never_lost),
        cmocka_unit_test(a_reset_finds_what_was_used_unasked),
        cmocka_unit_test(targets_out_of_range_are_refused),
        cmocka_unit_test(growing_is_done_at_once),
        cmocka_unit_test(growing_where_no_slot_is_flat),
        cmocka_unit_test(growing_is_all_or_nothing),
        cmocka_unit_test(what_the_host_will_not_take_back),
        cmocka_unit_test(a_raised_target_ends_exhaustion),
        cmocka_unit_test(shrinking_takes_nothing_that_an_entry_may_need),
        cmocka_unit_test(settling_keeps_to_its_step),
        cmocka_unit_test(settling_gives_the_odd_pages_first),
        cmocka_unit_test(given_pages_found_in_use_are_no_surplus),
        cmocka_unit_test(settling_errors),
        cmocka_unit_test(inflating_while_shrinking_errors),
        cmocka_unit_test(inflating_while_shrinking_is_bounded),
        cmocka_unit_test(a_new_target_while_shrinking),
        cmocka_unit_test(a_deflation_while_shrinking_stops_it),
        cmocka_unit_test(shrinking_ends_with_the_last_page),
        cmocka_unit_test(covered_and_upkeep),
        cmocka_unit_test(nothing_before_and_after_life),
        cmocka_unit_test(dying_with_pages_given),
    };
    return cmocka_run_group_tests_name("reservation and target", tests, NULL, NULL);
}
