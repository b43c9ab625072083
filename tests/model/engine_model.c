/* SPDX-License-Identifier: MIT */
/*
 * The engine against a naive reference, under random operations and failures.
 *
 * The reference keeps, for each gfn, what the guest last put there, and whether
 * it gave the page up. From that and from what the fake host holds it says
 * after each operation what must be true:
 *
 *   what the guest reads is what it wrote last; a page that is not in place
 *   held zeros; a pinned page is in place
 *   what the guest gave up stays given up, until it asks for it, or touches it,
 *   or is found to have written to it; what it did not give up never is
 *   P, E, O and G, counted gfn by gfn, are the p2m's; P + G + C = total, which
 *   is the target or, while shrinking, more; the host has given as many pages
 *   P + G and O + G are what the counters of the domain add up to
 *   total changes in set_target, and downwards while shrinking; at each release
 *   as many assets are left as there are liabilities, and the target
 *   the result is one that the situation allows: -EAGAIN only if the host
 *   failed, -ENOSPC only if no page is cached and none is zero, and so on
 *   whoever waited for a page was woken
 *
 * and all that domain_check and fake_host_compare check. The superpages that an
 * operation has touched are compared after it, all of them now and then.
 *
 * Time runs in episodes: a domain of random sizes is built, lives under its own
 * mix of operations and failures, dies and is drained. The same seed gives the
 * same run.
 */
#include "fake_domain.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SP SUPERPAGE_PAGES

enum action {
    ACT_READ,
    ACT_WRITE,
    ACT_FILL_RUN,
    ACT_ZERO_RUN,
    ACT_ZERO_SUPERPAGE,
    ACT_SCRUB_SUPERPAGE,
    ACT_DISCARD,
    ACT_DISCARD_SUPERPAGE,
    ACT_GIVE_UP,
    ACT_GIVE_UP_SUPERPAGE,
    ACT_TAKE_BACK,
    ACT_TAKE_ALL_BACK,
    ACT_USE_GIVEN,
    ACT_SET_TARGET,
    ACT_SETTLE,
    ACT_RESERVE,
    ACT_EAGER,
    ACT_RECOVER,
    ACT_PIN,
    ACT_UNPIN,
    ACT_INTRUDE,
    ACT_SPLIT,
    ACT_OUT_OF_RANGE,
    ACT_PLUG,
    ACT_UNPLUG,
    ACT_BUILD,
    ACT_DIE,
    ACT_DRAIN,
    ACTIONS,
};

static const char *const action_names[ACTIONS] = {
    "read",
    "write",
    "fill a run",
    "zero a run",
    "zero a superpage",
    "scrub a superpage",
    "discard",
    "discard superpage",
    "give up",
    "give up superpage",
    "take back",
    "take all back",
    "use given",
    "set target",
    "settle",
    "reserve",
    "eager",
    "recover",
    "pin",
    "unpin",
    "intrude",
    "split",
    "out of range",
    "plug",
    "unplug",
    "build",
    "die",
    "drain",
};

/* How often each is drawn, in an ordinary episode. */
static const unsigned weights[ACTIONS] = {
    [ACT_READ] = 20,
    [ACT_WRITE] = 40,
    [ACT_FILL_RUN] = 8,
    [ACT_ZERO_RUN] = 8,
    [ACT_ZERO_SUPERPAGE] = 3,
    [ACT_SCRUB_SUPERPAGE] = 2,
    [ACT_DISCARD] = 8,
    [ACT_DISCARD_SUPERPAGE] = 3,
    [ACT_GIVE_UP] = 5,
    [ACT_GIVE_UP_SUPERPAGE] = 2,
    [ACT_TAKE_BACK] = 4,
    [ACT_TAKE_ALL_BACK] = 0,
    [ACT_USE_GIVEN] = 3,
    [ACT_SET_TARGET] = 1,
    [ACT_SETTLE] = 3,
    [ACT_RESERVE] = 3,
    [ACT_EAGER] = 20,
    [ACT_RECOVER] = 3,
    [ACT_PIN] = 2,
    [ACT_UNPIN] = 2,
    [ACT_INTRUDE] = 1,
    [ACT_SPLIT] = 0,
    [ACT_OUT_OF_RANGE] = 1,
    [ACT_PLUG] = 1,
    [ACT_UNPLUG] = 1,
};

/* No max that is drawn is larger. */
#define MAX_PAGES (9 * SP)

/* What is kept of each gfn: an array for each, so that all of a superpage is
 * compared at once. */
struct reference {
    uint32_t token[MAX_PAGES]; /* what the guest last put there */
    bool up[MAX_PAGES];        /* given up: OUT or GIVEN */
    bool pinned[MAX_PAGES];
};

struct record {
    enum action action;
    uint64_t at, pages;
    int result;
};

#define RECORDS    24
#define MAX_PINNED 16

static struct {
    struct fake_domain fake;
    struct reference pages;
    pages_t max;
    pages_t span;       /* what max may grow to */
    uint64_t unplugged; /* pages that were taken away while they were given up */

    uint64_t seed, random;
    uint64_t operation, operations, episode;
    struct record records[RECORDS];
    struct record *now;

    unsigned chances[ACTIONS];
    unsigned chance_sum;
    gfn_t pinned[MAX_PINNED];
    unsigned pinned_count;
    bool lossy;        /* the episode has failures after which a domain is broken */
    uint64_t failures; /* drawn by the host before this operation */
    uint64_t waiting;  /* gfn that somebody waits for */
    bool woken;
    unsigned zero_one_in;           /* of the tokens that the guest writes */
    unsigned write_one_in;          /* the guest writes while the engine is at work */
    uint64_t raced;                 /* such writes */
    uint64_t writes, writes_before; /* all writes, and those before this operation */
    gfn_t clear_at;                 /* what the engine may fill with zeros in the guest */
    pages_t clear_pages;
    bool giving;      /* releases must leave what PoD entries and the target need */
    bool reserving;   /* only entries of some age may be looked at */
    uint64_t noticed; /* pages found in use that had been given up */
    uint64_t results[256];
} model;

static uint64_t draw(uint64_t below)
{
    model.random ^= model.random << 13;
    model.random ^= model.random >> 7;
    model.random ^= model.random << 17;
    return (model.random >> 11) % below;
}

static bool one_in(unsigned n)
{
    return n != 0 && draw(n) == 0;
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
    const struct domain *d = &model.fake.domain;
    fprintf(stderr, "engine_model: ");
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr,
            "\nseed %" PRIu64 ", operation %" PRIu64 ", episode %" PRIu64 "\n"
            "state %d, max %" PRIu64 ", target %" PRIu64 ", total %" PRIu64 ", P %" PRIu64
            ", O %" PRIu64 ", G %" PRIu64 ", C %" PRIu64 "; host: %" PRIu64 " in place, %" PRIu64
            " cached, %" PRIu64 " foreign\nlast operations:\n",
            model.seed, model.operation, model.episode, (int)d->state, model.max, d->target_pages,
            d->total_pages, d->p2m.ram_pages, d->p2m.out_pages, d->p2m.given_pages, d->cache.pages,
            model.fake.host.guest.present_pages, model.fake.host.cache.present_pages,
            model.fake.host.foreign_pages);
    uint64_t first = model.operation >= RECORDS ? model.operation - RECORDS + 1 : 0;
    for (uint64_t i = first; i <= model.operation; i++) {
        const struct record *r = &model.records[i % RECORDS];
        fprintf(stderr, "  %" PRIu64 ": %s at %" PRIu64 ", %" PRIu64 " pages: %d\n", i,
                action_names[r->action], r->at, r->pages, r->result);
    }
    fprintf(stderr, "to see it again: --seed %" PRIu64 " --operations %" PRIu64 "\n", model.seed,
            model.operation + 1);
    exit(1);
}

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fail("%s", what);
    }
}

/* What must be true */

static bool is_up(enum p2m_state state)
{
    return state == P2M_OUT || state == P2M_GIVEN;
}

/* A page that was given up may be RAM when it was in use when it was collected:
 * it has contents, or had before the guest wrote to it in this operation; in the
 * latter case it may have been reclaimed since. */
static void check_up(gfn_t at, enum p2m_state state)
{
    bool *up = &model.pages.up[at.n];
    bool wrote = model.writes != model.writes_before;
    if (*up && ((state == P2M_RAM && model.pages.token[at.n] != 0) || (!is_up(state) && wrote))) {
        *up = false;
        model.noticed++;
    }
    if (is_up(state) != *up) {
        fail("gfn %" PRIu64 " is in state %d and %s given up", at.n, (int)state,
             *up ? "was" : "was not");
    }
}

/* check_up for a run of pages in one state. */
static void check_run_up(gfn_t at, pages_t pages, enum p2m_state state)
{
    static const bool all[2][SP] = {[true] = {[0 ... SP - 1] = true}};
    if (memcmp(model.pages.up + at.n, all[is_up(state)], pages * sizeof(bool)) != 0) {
        for (pages_t i = 0; i < pages; i++) {
            check_up(gfn_add(at, i), state);
        }
    }
}

static void check_contents(p2m_index_t index)
{
    const struct p2m *p2m = &model.fake.domain.p2m;
    gfn_t first = p2m_first_gfn(index);
    pages_t size = p2m_superpage_pages(p2m, index);
    const uint32_t *reads = fake_guest_tokens(&model.fake.host, index);
    const uint32_t *wrote = model.pages.token + first.n;
    bool same = memcmp(reads, wrote, size * sizeof(*reads)) == 0;
    for (pages_t i = 0; i < size && !same; i++) {
        if (reads[i] != wrote[i]) {
            fail("gfn %" PRIu64 " reads %u, the guest wrote %u%s", first.n + i, reads[i], wrote[i],
                 fake_guest_has(&model.fake.host, gfn_add(first, i)) ? ""
                                                                     : " (it is not in place)");
        }
    }
    for (pages_t i = 0, run = 0; i < size; i += run) {
        run = p2m_run(p2m, gfn_add(first, i), size - i);
        check_run_up(gfn_add(first, i), run, p2m_get(p2m, gfn_add(first, i)));
    }
}

static void check_pinned(void)
{
    for (unsigned i = 0; i < model.pinned_count; i++) {
        if (!fake_guest_has(&model.fake.host, model.pinned[i])) {
            fail("gfn %" PRIu64 " is pinned and not in place", model.pinned[i].n);
        }
    }
}

static void check_sums(void)
{
    const struct p2m *p2m = &model.fake.domain.p2m;
    pages_t in_place = 0, up = 0;
    for (pages_t i = 0; i < model.max; i++) {
        in_place += fake_guest_has(&model.fake.host, gfn(i));
        up += model.pages.up[i];
    }
    expect(p2m->ram_pages + p2m->given_pages + model.fake.host.foreign_pages == in_place,
           "P + G is what is in place");
    expect(p2m->out_pages + p2m->given_pages == up, "O is what the guest gave up");
    expect(p2m_pod_pages(p2m) == model.max - up - p2m->ram_pages, "E is the rest");
}

/* P + G and O, from the events that changed them. */
static void check_counters(void)
{
    const struct domain_counters *c = &model.fake.domain.counters;
    const struct p2m *p2m = &model.fake.domain.p2m;
    uint64_t came = c->populated_2m * SP + c->populated_4k + c->adopted_pages;
    uint64_t went =
        c->reclaimed_2m * SP + c->reclaimed_4k + c->discarded_pages + c->collected_pages;
    expect(p2m->ram_pages + p2m->given_pages == came - went, "P + G is what the counters say");
    expect(p2m->out_pages + p2m->given_pages ==
               c->given_up_pages - c->taken_back_pages - c->out_in_use - model.unplugged,
           "O is what the counters say");
}

static void check(bool all)
{
    const struct fake_side *guest = &model.fake.host.guest;
    if (all) {
        for (p2m_index_t i = 0; i < model.fake.domain.p2m.count; i++) {
            check_contents(i);
        }
    } else {
        for (uint32_t i = 0; i < guest->dirty_count; i++) {
            check_contents(guest->dirty[i]);
        }
    }
    check_pinned();
    check_counters();
    const char *wrong = fake_domain_check(&model.fake, all);
    if (wrong != NULL) {
        fail("%s", wrong);
    }
    if (all) {
        check_sums(); /* now that the host knows which foreign pages were adopted */
    }
}

static bool any_zero_page_to_be_had(void)
{
    for (pages_t i = 0; i < model.max; i++) {
        enum p2m_state state = p2m_get(&model.fake.domain.p2m, gfn(i));
        if ((state == P2M_RAM || state == P2M_GIVEN) && model.pages.token[i] == 0 &&
            !model.pages.pinned[i]) {
            return true;
        }
    }
    return false;
}

/* Whether there was a reason for -EAGAIN: the host failed, or a superpage was
 * held from which something could have been taken. */
static bool host_failed(void)
{
    return model.fake.host.random_failures != model.failures || model.fake.domain.recovery.held;
}

static bool is_alive(void)
{
    enum domain_state state = model.fake.domain.state;
    return state == DOMAIN_RUNNING || state == DOMAIN_EXHAUSTED;
}

/* What the guest does */

static uint32_t some_token(void)
{
    return one_in(model.zero_one_in) ? 0 : 1 + (uint32_t)draw(UINT32_MAX);
}

static void write_page(gfn_t at, uint32_t token)
{
    bool hidden = token != 0 && one_in(4);
    bool wrote = hidden ? fake_guest_write_hidden(&model.fake.host, at, token)
                        : fake_guest_write(&model.fake.host, at, token);
    if (wrote) {
        model.pages.token[at.n] = token;
        model.writes++;
    }
}

/* What the engine must not do, whatever the guest does meanwhile. */
static void check_call(const struct fake_call *call)
{
    const struct domain *d = &model.fake.domain;
    if (call->op == FAKE_CLEAR_GUEST) {
        expect(call->guest.n >= model.clear_at.n &&
                   call->guest.n - model.clear_at.n + call->pages <= model.clear_pages,
               "what the guest still needs is not filled with zeros");
    }
    if (call->op == FAKE_TAKE) {
        expect(!d->recovery.held || d->recovery.index != p2m_index(call->guest),
               "nothing is taken from what is being recovered");
    }
    if (call->op == FAKE_RELEASE && model.giving) {
        expect(d->cache.pages + d->p2m.given_pages >= p2m_pod_pages(&d->p2m) + call->pages,
               "what a PoD entry may need stays");
        expect(d->total_pages - call->pages >= d->target_pages, "no more is released than asked");
    }
    if ((call->op == FAKE_GLANCE || call->op == FAKE_TAKE) && model.reserving) {
        expect(p2m_age(&d->p2m, p2m_index(call->guest)) > 32, "the reserve spares the young");
    }
}

/* While the engine is at work the guest writes where it is looking. */
static void race(void *unused, const struct fake_call *call)
{
    (void)unused;
    bool about_guest = call->op == FAKE_GLANCE || call->op == FAKE_TAKE || call->op == FAKE_PLACE ||
                       call->op == FAKE_CLEAR_GUEST;
    if (about_guest && one_in(model.write_one_in)) {
        model.raced++;
        uint32_t token = some_token(); /* one draw after the other, for every compiler */
        write_page(gfn_add(call->guest, draw(call->pages)), token);
    }
}

static void before_operation(void *unused, const struct fake_call *call)
{
    check_call(call);
    race(unused, call);
}

static void after_operation(void *unused, const struct fake_call *call)
{
    for (pages_t i = 0; call->op == FAKE_CLEAR_GUEST && i < call->pages; i++) {
        model.pages.token[call->guest.n + i] = 0;
    }
    race(unused, call);
    if ((call->op == FAKE_PLACE || call->op == FAKE_WAKE) && model.waiting >= call->guest.n &&
        model.waiting < call->guest.n + call->pages) {
        model.woken |= fake_guest_has(&model.fake.host, gfn(model.waiting));
    }
}

/* A fault at `at`. What may come of it, and nothing else. */
static int populate(gfn_t at)
{
    const struct domain *d = &model.fake.domain;
    model.waiting = at.n;
    model.woken = false;
    bool was_up = model.pages.up[at.n], was_in_place = fake_guest_has(&model.fake.host, at);
    enum p2m_state before = p2m_get(&d->p2m, at);
    bool was_out = before == P2M_OUT;
    uint64_t faults = d->counters.faults, raced = model.raced;
    int err = domain_populate(&model.fake.domain, at);
    model.waiting = UINT64_MAX;
    expect(d->counters.faults == faults + 1, "each fault is counted once");
    if (was_up && !is_up(p2m_get(&d->p2m, at))) {
        model.pages.up[at.n] = false;
    }
    switch (err) {
    case 0:
        expect(fake_guest_has(&model.fake.host, at), "populate puts a page in place");
        expect(was_out ? p2m_get(&d->p2m, at) == P2M_GIVEN
                       : p2m_get(&d->p2m, at) == P2M_RAM ||
                             (was_in_place && p2m_get(&d->p2m, at) == P2M_GIVEN),
               "populate makes the gfn RAM, unless it is in place; or GIVEN, if it was OUT");
        expect(model.woken, "populate wakes whoever waits");
        break;
    case -EAGAIN:
        expect(host_failed(), "-EAGAIN comes from the host");
        break;
    case -ENOSPC:
        expect(d->state == DOMAIN_EXHAUSTED, "-ENOSPC is exhaustion");
        expect(d->cache.pages == 0, "exhausted is who has no cached page");
        expect(p2m_get(&d->p2m, at) == before, "exhaustion changes nothing");
        expect(host_failed() || model.raced != raced || !any_zero_page_to_be_had(),
               "exhausted is who has no page of zeros");
        break;
    case -EIO:
    case -ESRCH:
        expect(model.lossy && host_failed(), "only the host can break a domain");
        expect((err == -EIO) == (d->state == DOMAIN_BROKEN), "-EIO is a broken domain");
        break;
    default:
        fail("populate: error %d", err);
    }
    return err;
}

/* The guest touches a page: what it waits for it gets, or the domain stops. */
static int touch(gfn_t at)
{
    return fake_guest_has(&model.fake.host, at) ? 0 : populate(at);
}

static gfn_t some_gfn(void)
{
    return gfn(draw(model.max));
}

/* Operations */

static int zero_run(gfn_t at, pages_t pages, bool populating)
{
    int err = 0;
    for (pages_t i = 0; i < pages && err == 0; i++) {
        if (populating) {
            err = touch(gfn_add(at, i));
        }
        if (err == 0) {
            write_page(gfn_add(at, i), 0);
        }
    }
    return err;
}

static int fill_run(gfn_t at, pages_t pages)
{
    int err = 0;
    for (pages_t i = 0; i < pages && err == 0; i++) {
        err = touch(gfn_add(at, i));
        if (err == 0) {
            write_page(gfn_add(at, i), 1 + (uint32_t)draw(UINT32_MAX));
        }
    }
    return err;
}

/* What is in place in a range reads zero, unless the guest wrote to it meanwhile
 * or the engine does not know of it. */
static void expect_zeros(gfn_t at, pages_t pages, const char *what)
{
    for (pages_t i = 0; i < pages && model.writes == model.writes_before; i++) {
        enum p2m_state state = p2m_get(&model.fake.domain.p2m, gfn_add(at, i));
        uint32_t token = 0;
        if (state == P2M_RAM || state == P2M_GIVEN) {
            (void)fake_guest_read(&model.fake.host, gfn_add(at, i), &token);
        }
        expect(token == 0, what);
    }
}

static void allow_clearing(gfn_t at, pages_t pages)
{
    model.clear_at = at;
    model.clear_pages = pages;
    fake_host_touched(&model.fake.host, at, pages);
}

static int discard(gfn_t at, pages_t pages)
{
    const struct domain *d = &model.fake.domain;
    pages_t ram = d->p2m.ram_pages;
    unsigned write_one_in = model.write_one_in;
    model.write_one_in = 0; /* what a write to a page on its way out means is anybody's guess */
    bool pinned = false;
    for (pages_t i = 0; i < pages; i++) {
        enum p2m_state state = p2m_get(&d->p2m, gfn_add(at, i));
        if (state == P2M_RAM || state == P2M_GIVEN) {
            model.pages.token[at.n + i] = 0;
            pinned |= model.pages.pinned[at.n + i];
        }
    }
    allow_clearing(at, pages);
    int err = domain_discard(&model.fake.domain, at, pages);
    model.clear_pages = 0;
    model.write_one_in = write_one_in;
    if (err != 0) {
        expect(model.lossy && host_failed(), "only the host can make a discard fail");
        expect(err == -EIO || err == -ESRCH, "a discard fails in two ways");
        return err;
    }
    expect(d->p2m.ram_pages <= ram, "a discard adds no page");
    for (pages_t i = 0; i < pages && !pinned && !host_failed(); i++) {
        expect(p2m_get(&d->p2m, gfn_add(at, i)) != P2M_RAM, "a discard takes all pages");
    }
    expect_zeros(at, pages, "what was discarded reads zero");
    return 0;
}

/* The guest's balloon inflates. */
static int give_up(gfn_t at, pages_t pages)
{
    struct domain *d = &model.fake.domain;
    allow_clearing(at, pages);
    model.giving = true;
    int err = domain_decrease_reservation(d, at, pages);
    model.giving = false;
    model.clear_pages = 0;
    if (err != 0) {
        expect(model.lossy && host_failed(), "only the host can make an inflation fail");
        expect(err == -EIO || err == -ESRCH, "an inflation fails in two ways");
        return err;
    }
    for (pages_t i = 0; i < pages; i++) {
        enum p2m_state state = p2m_get(&d->p2m, gfn_add(at, i));
        model.pages.up[at.n + i] = true; /* or in use, as check_up will see */
        expect(state != P2M_POD, "what was given up is backed by nothing new");
        expect(state != P2M_RAM || model.writes != model.writes_before,
               "what was given up is not RAM");
    }
    expect_zeros(at, pages, "what was given up reads zero");
    return 0;
}

/* It deflates. */
static int take_back(gfn_t at, pages_t pages)
{
    const struct domain *d = &model.fake.domain;
    pages_t in_place = d->p2m.ram_pages + d->p2m.given_pages, cached = d->cache.pages;
    fake_host_touched(&model.fake.host, at, pages);
    expect(domain_increase_reservation(&model.fake.domain, at, pages) == 0,
           "a deflation cannot fail");
    expect(d->p2m.ram_pages + d->p2m.given_pages == in_place && d->cache.pages == cached,
           "a deflation moves no page");
    for (pages_t i = 0; i < pages; i++) {
        model.pages.up[at.n + i] = false;
    }
    return 0;
}

/* The guest writes to a page that it gave up and that is in place still. */
static void use_given(gfn_t from)
{
    const struct p2m *p2m = &model.fake.domain.p2m;
    for (pages_t seen = 0, run = 0; p2m->given_pages != 0 && seen < model.max; seen += run) {
        gfn_t at = gfn((from.n + seen) % model.max);
        run = p2m_run(p2m, at, SP);
        if (p2m_get(p2m, at) == P2M_GIVEN) {
            uint32_t token = some_token();
            write_page(gfn_add(at, draw(run)), token);
            return;
        }
    }
}

static int set_target(void)
{
    struct domain *d = &model.fake.domain;
    pages_t total = d->total_pages, target = d->target_pages;
    pages_t near = one_in(2) ? 700 : model.max;
    pages_t below = min_u64(total, model.max); /* the total is above max after an unplug */
    pages_t low = max_u64(SP, below - min_u64(below, near));
    pages_t wanted = low + draw(min_u64(model.max, total + near) - low + 1);
    model.now->at = wanted;
    uint64_t releases_failed = model.fake.host.failed[FAKE_RELEASE];
    int err = domain_set_target(d, wanted);
    if (err == 0) {
        expect(d->target_pages == wanted, "the target is what was asked for");
        expect(d->total_pages == max_u64(total, wanted), "growing is done at once");
        expect(d->shrinking == (total > wanted), "shrinking is what is left to do");
        return 0;
    }
    expect(host_failed() && wanted > total, "only a host without memory refuses");
    expect(err == -ENOMEM || err == -EAGAIN || (model.lossy && (err == -EIO || err == -ESRCH)),
           "a growth fails in some ways and no other");
    expect(d->target_pages == target, "a growth that failed leaves the target");
    expect(d->total_pages >= total && d->total_pages < wanted, "and gives back what it got");
    expect(d->total_pages == total || model.fake.host.failed[FAKE_RELEASE] != releases_failed,
           "all of it, if the host takes it");
    return err;
}

static int settle(void)
{
    struct domain *d = &model.fake.domain;
    pages_t step = 1 + draw(one_in(2) ? 3 * SP : 50), total = d->total_pages;
    model.now->at = total - d->target_pages;
    model.now->pages = step;
    model.giving = true;
    bool more = false;
    int err = domain_settle_step(d, step, &more);
    model.giving = false;
    expect(total - d->total_pages <= step, "a step is no longer than asked");
    expect(d->shrinking == (d->total_pages > d->target_pages), "it ends with the target");
    if (err != 0) {
        expect(host_failed(), "settling fails only if the host does");
        expect(err == -EAGAIN || (model.lossy && (err == -EIO || err == -ESRCH)),
               "settling fails in some ways and no other");
        return err;
    }
    expect(!more || total - d->total_pages == step, "more is to come only after a full step");
    const struct p2m *p2m = &d->p2m;
    bool surplus = d->cache.pages + p2m->given_pages > p2m_pod_pages(p2m);
    if (d->shrinking && surplus && total - d->total_pages < step && !host_failed() &&
        model.writes == model.writes_before) {
        expect(d->cache.pages == 0 && p2m->given_pages <= model.pinned_count,
               "only what is pinned keeps it from going on");
    }
    return 0;
}

static int reserve(void)
{
    struct domain *d = &model.fake.domain;
    const uint64_t *calls = model.fake.host.calls;
    uint32_t steps = 0, most = 3 * d->p2m.count + 8;
    bool more = true;
    int err = 0;
    model.reserving = true;
    for (; more && err == 0 && steps < most; steps++) {
        uint64_t glances = calls[FAKE_GLANCE], takes = calls[FAKE_TAKE];
        more = false;
        err = domain_reserve_step(d, &more);
        expect(calls[FAKE_GLANCE] - glances <= 4 && calls[FAKE_TAKE] - takes <= 4,
               "a step looks at a few superpages");
    }
    model.reserving = false;
    expect(!more || err != 0 || model.writes != model.writes_before, "the reserve comes to rest");
    expect(err == 0 || host_failed(), "the reserve fails only if the host does");
    expect(err == 0 || err == -EAGAIN || model.lossy, "the reserve fails in some ways");
    return err;
}

static int reclaim_eagerly(void)
{
    struct domain *d = &model.fake.domain;
    const uint64_t *calls = model.fake.host.calls;
    uint64_t takes = calls[FAKE_TAKE];
    model.reserving = true;
    int err = domain_reclaim_eagerly(d);
    model.reserving = false;
    expect(calls[FAKE_TAKE] - takes <= 4, "eager reclaim looks at a few superpages");
    expect(err == 0 || (model.lossy && host_failed()), "eager reclaim fails with the host only");
    return err;
}

/* The two halves of a recovery: other operations come in between. */
static void recover(void)
{
    struct domain *d = &model.fake.domain;
    gfn_t at = gfn(UINT64_MAX);
    if (d->recovery.held) {
        bool merged = one_in(2);
        uint64_t before = d->counters.recovered_2m;
        expect(domain_recover_begin(d, &at) == -EINVAL, "one is held at a time");
        if (merged) {
            fake_guest_merge(&model.fake.host, p2m_first_gfn(d->recovery.index));
        }
        domain_recover_end(d, merged);
        expect(d->counters.recovered_2m - before == merged, "what is merged is counted");
        return;
    }
    int err = domain_recover_begin(d, &at);
    expect(err == 0 || err == -ENOENT, "a search for what to recover finds one or none");
    expect((err == 0) == d->recovery.held && (err == 0) == (at.n != UINT64_MAX),
           "what is found is held");
    const struct p2m_entry *entry = &d->p2m.entries[p2m_index(err == 0 ? at : gfn(0))];
    expect(err != 0 || entry->ram + entry->given == SP, "what is recovered is in place throughout");
}

static void pin(gfn_t at)
{
    if (model.pinned_count < MAX_PINNED && !model.pages.pinned[at.n] &&
        fake_guest_pin(&model.fake.host, at, true)) {
        model.pages.pinned[at.n] = true;
        model.pinned[model.pinned_count++] = at;
    }
}

static void unpin(void)
{
    if (model.pinned_count != 0) {
        unsigned which = (unsigned)draw(model.pinned_count);
        gfn_t at = model.pinned[which];
        fake_guest_pin(&model.fake.host, at, false);
        model.pages.pinned[at.n] = false;
        model.pinned[which] = model.pinned[--model.pinned_count];
    }
}

static void intrude(gfn_t at)
{
    if (!fake_guest_has(&model.fake.host, at)) {
        uint32_t token = some_token();
        fake_intrude(&model.fake.host, at, token);
        model.pages.token[at.n] = token;
    }
}

static int out_of_range(void)
{
    struct domain *d = &model.fake.domain;
    uint64_t beyond = model.max + (one_in(2) ? 0 : draw(UINT64_MAX - model.max));
    expect(domain_populate(d, gfn(beyond)) == -EINVAL, "a gfn beyond max is refused");
    pages_t pages = 1 + draw(UINT64_MAX - 1), inside = draw(model.max + 1);
    expect(domain_discard(d, gfn(beyond), pages) == -EINVAL, "a range beyond max is refused");
    expect(domain_discard(d, gfn(inside), model.max - inside + pages) == -EINVAL ||
               pages > UINT64_MAX - (model.max - inside),
           "a range that ends beyond max is refused");
    expect(domain_decrease_reservation(d, gfn(beyond), pages) == -EINVAL &&
               domain_increase_reservation(d, gfn(beyond), pages) == -EINVAL &&
               domain_decrease_reservation(d, gfn(inside), model.max - inside + 1) == -EINVAL &&
               domain_increase_reservation(d, gfn(inside), model.max - inside + 1) == -EINVAL,
           "no balloon is larger than max");
    expect(domain_set_target(d, draw(SP)) == -EINVAL &&
               domain_set_target(d, model.max + pages - (pages > UINT64_MAX - model.max)) ==
                   -EINVAL,
           "a target out of range is refused");
    return -EINVAL;
}

/* The guest is given more memory, behind what it has. */
static int plug(void)
{
    pages_t pages = (1 + draw(2)) * SP;
    gfn_t at = gfn(UINT64_MAX);
    int err = domain_plug(&model.fake.domain, pages, &at);
    model.now->at = model.max;
    model.now->pages = pages;
    if (model.max % SP != 0) {
        expect(err == -EINVAL, "behind a superpage that is short nothing is plugged");
    } else if (pages > model.span - model.max) {
        expect(err == -ENOSPC, "there is no more than the span");
    } else {
        expect(err == 0 && at.n == model.max, "what is plugged comes behind the rest");
        model.max += pages;
    }
    return err;
}

/* Its last superpages are taken away: given up as a rule, collected, and unplugged. */
static int unplug(void)
{
    struct domain *d = &model.fake.domain;
    pages_t pages = (1 + draw(2)) * SP;
    if (model.max % SP != 0 || pages >= model.max) {
        expect(domain_unplug(d, gfn(model.max % SP != 0 ? model.max - SP : 0),
                             model.max % SP != 0 ? SP : model.max) == -EINVAL,
               "superpages are unplugged, and not all");
        return -EINVAL;
    }
    gfn_t at = gfn(model.max - pages);
    model.now->at = at.n;
    model.now->pages = pages;
    int err = one_in(8) ? 0 : give_up(at, pages);
    if (err == 0) {
        err = domain_collect(d, at, pages);
        expect(err == 0 || (model.lossy && host_failed()), "only the host can fail to collect");
    }
    pages_t in_place = 0, foreign = 0, up = 0;
    for (pages_t i = 0; i < pages && err == 0; i++) {
        enum p2m_state state = p2m_get(&d->p2m, gfn_add(at, i));
        bool ours = state == P2M_RAM || state == P2M_GIVEN;
        in_place += ours;
        foreign += !ours && fake_guest_has(&model.fake.host, gfn_add(at, i));
        up += is_up(state);
    }
    /* Nobody puts pages where there is no memory. */
    if (err != 0 || foreign != 0) {
        return err;
    }
    pages_t total = d->total_pages, target = d->target_pages;
    err = domain_unplug(d, at, pages);
    expect(err == (in_place != 0 ? -EBUSY : 0), "what is in place cannot be unplugged");
    if (err == 0) {
        model.max -= pages;
        model.unplugged += up;
        memset(model.pages.up + at.n, 0, pages * sizeof(bool));
        memset(model.pages.token + at.n, 0, pages * sizeof(uint32_t));
        for (pages_t i = 0; i < pages; i += SP) {
            fake_guest_unmap(&model.fake.host, gfn_add(at, i));
        }
    }
    expect(d->total_pages == total && d->target_pages == min_u64(target, model.max) &&
               d->shrinking == (total > d->target_pages),
           "the target is not above max, and the total follows later");
    return err;
}

static enum action draw_action(void)
{
    uint64_t ticket = draw(model.chance_sum);
    for (int a = 0; a < ACTIONS; a++) {
        if (ticket < model.chances[a]) {
            return (enum action)a;
        }
        ticket -= model.chances[a];
    }
    abort();
}

static pages_t some_run(gfn_t at)
{
    pages_t most = one_in(8) ? 2000 : 40;
    return 1 + draw(min_u64(model.max - at.n, most));
}

static void begin_operation(enum action action, gfn_t at, pages_t pages)
{
    model.now = &model.records[model.operation % RECORDS];
    *model.now = (struct record){action, at.n, pages, 0};
    model.failures = model.fake.host.random_failures;
    model.writes_before = model.writes;
}

static void end_operation(int result)
{
    model.now->result = result;
    model.results[-result]++;
    model.operation++;
}

static void live(void)
{
    enum action action = draw_action();
    gfn_t at = some_gfn();
    p2m_index_t index = p2m_index(at);
    gfn_t first = p2m_first_gfn(index);
    pages_t size = p2m_superpage_pages(&model.fake.domain.p2m, index);
    pages_t run = some_run(at), total = model.fake.domain.total_pages;
    bool was_shrinking = model.fake.domain.shrinking;
    int result = 0;
    begin_operation(action, at, run);
    switch (action) {
    case ACT_READ:
        result = one_in(10) ? populate(at) : touch(at);
        break;
    case ACT_WRITE:
        result = touch(at);
        if (result == 0) {
            write_page(at, some_token());
        }
        break;
    case ACT_FILL_RUN:
        result = fill_run(at, min_u64(run, 64));
        break;
    case ACT_ZERO_RUN:
        result = zero_run(at, min_u64(run, 64), one_in(2));
        break;
    case ACT_ZERO_SUPERPAGE:
        result = zero_run(first, size, false);
        break;
    case ACT_SCRUB_SUPERPAGE:
        result = zero_run(first, size, true);
        break;
    case ACT_DISCARD:
        result = discard(at, run);
        break;
    case ACT_DISCARD_SUPERPAGE:
        result = discard(first, size);
        break;
    case ACT_GIVE_UP:
        result = give_up(at, run);
        break;
    case ACT_GIVE_UP_SUPERPAGE:
        result = give_up(first, size);
        break;
    case ACT_TAKE_BACK:
        result = take_back(at, run);
        break;
    case ACT_TAKE_ALL_BACK:
        result = take_back(gfn(0), model.max);
        break;
    case ACT_USE_GIVEN:
        use_given(at);
        break;
    case ACT_SET_TARGET:
        result = set_target();
        break;
    case ACT_SETTLE:
        result = settle();
        break;
    case ACT_RESERVE:
        result = reserve();
        break;
    case ACT_EAGER:
        result = reclaim_eagerly();
        break;
    case ACT_RECOVER:
        recover();
        break;
    case ACT_PIN:
        pin(at);
        break;
    case ACT_UNPIN:
        unpin();
        break;
    case ACT_INTRUDE:
        intrude(at);
        break;
    case ACT_SPLIT:
        fake_guest_split(&model.fake.host, at);
        break;
    case ACT_OUT_OF_RANGE:
        result = out_of_range();
        break;
    case ACT_PLUG:
        result = plug();
        break;
    case ACT_UNPLUG:
        result = unplug();
        break;
    case ACT_BUILD:
    case ACT_DIE:
    case ACT_DRAIN:
    case ACTIONS:
        abort();
    }
    if (action != ACT_SET_TARGET) {
        pages_t now = model.fake.domain.total_pages;
        expect(now == total || (was_shrinking && now < total), "total falls, while shrinking");
    }
    if (is_alive() && result != -ESRCH) {
        check(one_in(256));
    } else {
        expect(domain_check(&model.fake.domain) == NULL, "a broken domain's ledgers add up");
    }
    end_operation(result);
}

/* Episodes */

/* false: the build failed, as it may. */
static bool build(void)
{
    struct domain *d = &model.fake.domain;
    pages_t missing = d->target_pages;
    for (int tries = 0; missing != 0; tries++) {
        pages_t step = SP + draw(4 * SP);
        begin_operation(ACT_BUILD, gfn(d->total_pages), step);
        pages_t total = d->total_pages;
        uint64_t releases_failed = model.fake.host.failed[FAKE_RELEASE];
        int err = domain_build_step(d, step, &missing);
        if (err == 0) {
            expect(d->total_pages + missing == d->target_pages, "what is missing is not there");
        } else {
            expect(host_failed(), "a build fails only if the host does");
            expect(d->total_pages >= total && d->total_pages < d->target_pages,
                   "a failed step takes nothing back");
            expect(d->total_pages == total ||
                       model.fake.host.failed[FAKE_RELEASE] != releases_failed,
                   "a failed step leaves what the host does not take back");
        }
        check(true);
        end_operation(err);
        if (d->state == DOMAIN_BROKEN || err == -ESRCH) {
            expect(model.lossy, "only a host that fails for good breaks a build");
            return false;
        }
        if (err != 0 && (one_in(3) || tries > 50)) {
            return false;
        }
    }
    expect(d->state == DOMAIN_RUNNING, "a domain that is built runs");
    return true;
}

static void die(bool doubtful)
{
    struct domain *d = &model.fake.domain;
    begin_operation(ACT_DIE, gfn(0), 0);
    domain_begin_dying(d);
    expect(domain_populate(d, some_gfn()) == -ESHUTDOWN, "the dying populate nothing");
    expect(domain_discard(d, gfn(0), 1) == -ESHUTDOWN, "the dying discard nothing");
    bool more = false;
    expect(domain_decrease_reservation(d, gfn(0), 1) == -ESHUTDOWN &&
               domain_increase_reservation(d, gfn(0), 1) == -ESHUTDOWN,
           "the dying have no balloon");
    expect(domain_set_target(d, SP) == -ESHUTDOWN &&
               domain_settle_step(d, 1, &more) == -ESHUTDOWN &&
               domain_reserve_step(d, &more) == -ESHUTDOWN,
           "the dying have no plans");
    end_operation(-ESHUTDOWN);
    pages_t left = d->cache.pages;
    while (left != 0) {
        pages_t step = 1 + draw(one_in(4) ? 3 * SP : 100), before = d->cache.pages;
        begin_operation(ACT_DRAIN, gfn(0), step);
        int err = domain_drain_step(d, step, &left);
        expect(err == 0 || host_failed(), "drain fails only if the host does");
        expect(before - d->cache.pages <= step, "drain keeps to its step");
        expect(err != 0 || before - d->cache.pages == min_u64(step, before), "drain does its step");
        if (!doubtful) {
            check(false);
        }
        if (err == -EIO || err == -ESRCH) {
            model.fake.host.fatal_one_in = 0; /* it must come to an end */
        }
        end_operation(err);
    }
    expect(d->total_pages == d->p2m.ram_pages + d->p2m.given_pages,
           "after the drain the guest's pages are left");
    expect(doubtful || model.fake.host.cache.present_pages == 0, "the cache is drained");
}

static void draw_mix(void)
{
    model.chance_sum = 0;
    for (int a = 0; a < ACTIONS; a++) {
        model.chances[a] = weights[a];
        /* Some episodes are about little else than one or two of them. */
        if (one_in(8)) {
            model.chances[a] *= 10;
        } else if (one_in(8)) {
            model.chances[a] = 0;
        }
        model.chance_sum += model.chances[a];
    }
    if (one_in(8)) {
        model.chances[ACT_TAKE_ALL_BACK] = 1;
        model.chance_sum++;
    }
    if (model.chance_sum == 0 || one_in(16)) {
        model.chances[ACT_SPLIT] = 5;
        model.chance_sum += 5;
    }
}

static void run_episode(void)
{
    static const unsigned rates[] = {0, 0, 1000, 100, 20, 4};
    model.max = (1 + draw(MAX_PAGES / SP - 1)) * SP + (one_in(2) ? draw(SP) : 0);
    pages_t target = SP + draw(min_u64(model.max, one_in(2) ? 3 * SP : UINT64_MAX) - SP + 1);
    model.span = one_in(2) ? model.max : MAX_PAGES;
    model.unplugged = 0;
    memset(&model.pages, 0, sizeof(model.pages));
    model.pinned_count = 0;
    model.waiting = UINT64_MAX;
    if (fake_domain_init_with_room(&model.fake, model.max, model.span, target) != 0) {
        fail("domain_init refuses max %" PRIu64 ", target %" PRIu64, model.max, target);
    }
    struct fake_host *host = &model.fake.host;
    host->before = before_operation;
    host->after = after_operation;
    host->random = 1 + draw(UINT32_MAX);
    host->no_huge = one_in(8);
    host->fail_one_in = rates[draw(sizeof(rates) / sizeof(rates[0]))];
    host->fatal_one_in = one_in(6) ? 1 + (unsigned)draw(5000) : 0;
    model.lossy = host->fatal_one_in != 0;
    model.write_one_in = one_in(2) ? 1 + (unsigned)draw(20) : 0;
    static const unsigned zeros[] = {2, 3, 10, 1000};
    model.zero_one_in = zeros[draw(sizeof(zeros) / sizeof(zeros[0]))];
    draw_mix();

    bool doubtful = false;
    if (build()) {
        uint64_t end = model.operation + 100 + draw(5000);
        while (model.operation < min_u64(end, model.operations) && !doubtful) {
            live();
            /* After -ESRCH a page may be in transit for ever: the process is gone. */
            doubtful =
                !is_alive() || model.records[(model.operation - 1) % RECORDS].result == -ESRCH;
        }
    }
    die(doubtful);
    fake_domain_free(&model.fake);
    model.episode++;
}

static uint64_t number(const char *text, const char *option)
{
    char *end = NULL;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value == 0) {
        fprintf(stderr, "engine_model: %s %s: not a positive number\n", option, text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"operations", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    model.seed = 1;
    model.operations = 1000000;
    int option = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            model.seed = number(optarg, "--seed");
            break;
        case 'o':
            model.operations = number(optarg, "--operations");
            break;
        case 'h':
            printf("usage: engine_model [--seed N] [--operations N]\n");
            return 0;
        default:
            return 2;
        }
    }
    /* Small seeds differ in few bits: spread them. */
    model.random = model.seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    printf("seed %" PRIu64 ", %" PRIu64 " operations\n", model.seed, model.operations);
    fflush(stdout);
    while (model.operation < model.operations) {
        run_episode();
    }
    printf("%" PRIu64 " operations in %" PRIu64 " episodes; results:", model.operation,
           model.episode);
    for (size_t i = 0; i < sizeof(model.results) / sizeof(model.results[0]); i++) {
        if (model.results[i] != 0) {
            printf(" %s %" PRIu64, i == 0 ? "ok" : strerrorname_np((int)i), model.results[i]);
        }
    }
    printf("; %" PRIu64 " writes while the engine was at work; %" PRIu64
           " pages given up found in use\n",
           model.raced, model.noticed);
    return 0;
}
