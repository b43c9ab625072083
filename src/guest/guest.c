/* SPDX-License-Identifier: MIT */
#include "guest/state.h"

#include "base/clock.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

/* Pages that one step of a drain, or one hold of the lock for an operation on a range,
 * deals with: some 10 ms of work. */
#define DRAIN_STEP_PAGES (64 * SUPERPAGE_PAGES)
#define RANGE_STEP_PAGES (2 * SUPERPAGE_PAGES)
/* Superpages that are looked through for what is OUT in one hold of the lock. */
#define OUT_STEP_SUPERPAGES 64
/* A host that cannot take pages just now is asked again for a second in all. What
 * it has not taken by then it gets with the process. */
#define DRAIN_PAUSE_NS UINT64_C(1000000)
#define DRAIN_TRIES    1000
/* "Low cache": less than this share of the target is left, and the domain is
 * not covered. It is noted again after there was twice as much. */
#define LOW_CACHE_SHARE 16

void guest_broken(struct guest *guest, const char *operation, gfn_t at)
{
    atomic_store(&guest->broken, true);
    guest->options.on_broken(guest->options.owner, operation, at);
}

void guest_freeze(const struct guest *guest)
{
    linux_host_freeze(&guest->host);
}

int guest_did(struct guest *guest, const char *operation, gfn_t at, pages_t pages, int err)
{
    history_add(&guest->history, &guest->domain, operation, at, pages, err);
    const char *wrong = domain_check_sums(&guest->domain);
    if (wrong != NULL) {
        domain_declare_broken(&guest->domain);
    }
    if (wrong == NULL && guest->domain.state != DOMAIN_BROKEN) {
        return err;
    }
    guest_broken(guest, operation, at);
    return -EIO;
}

void guest_check(struct guest *guest, const char *when)
{
    if (domain_check(&guest->domain) != NULL) {
        domain_declare_broken(&guest->domain);
        guest_broken(guest, when, gfn(0));
    }
}

void guest_note(struct guest *guest, enum guest_event_kind kind)
{
    const struct domain *domain = &guest->domain;
    struct timespec now;
    if (domain->state == DOMAIN_DYING && kind != GUEST_DYING) {
        return; /* nothing comes after that */
    }
    clock_gettime(CLOCK_REALTIME, &now);
    guest->events[guest->events_made++ % GUEST_EVENTS_KEPT] = (struct guest_event){
        .kind = kind,
        .realtime_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec,
        .target_pages = domain->target_pages,
        .total_pages = domain->total_pages,
        .cache_pages = domain->cache.pages + domain->p2m.given_pages,
        .pod_entries_pages = p2m_pod_pages(&domain->p2m),
    };
    if (guest->options.on_event != NULL) {
        guest->options.on_event(guest->options.owner, kind);
    }
}

void guest_settled(struct guest *guest)
{
    const struct domain *domain = &guest->domain;
    if (domain_refuses(domain) != 0) {
        return; /* what becomes of a dying domain's pages is nobody's news */
    }
    pages_t assets = domain->cache.pages + domain->p2m.given_pages;
    pages_t low = domain->target_pages / LOW_CACHE_SHARE;
    bool covered = domain_covered(domain);
    if (covered && !guest->covered_noted) {
        guest_note(guest, GUEST_COVERED);
    }
    guest->covered_noted = covered;
    if (!covered && assets < low && !guest->low_noted) {
        guest_note(guest, GUEST_LOW_CACHE);
        guest->low_noted = true;
    } else if (covered || assets >= 2 * low) {
        guest->low_noted = false;
    }
    if (!domain->shrinking && !guest->reached_noted) {
        guest_note(guest, GUEST_TARGET_REACHED);
    }
    guest->reached_noted = !domain->shrinking;
    if (guest->upkeep_idle &&
        (domain_wants_upkeep(domain) || (guest->upkeep_calm && domain_wants_recovery(domain)))) {
        pthread_cond_signal(&guest->upkeep);
    }
}

void guest_kick(const struct guest *guest)
{
    uint64_t one = 1;
    ssize_t ignored = write(guest->kick_fd, &one, sizeof(one));
    (void)ignored;
}

bool guest_exists(const struct guest *guest)
{
    return atomic_load(&guest->exists);
}

bool guest_owns(const struct guest *guest, haddr_t at, uint64_t bytes)
{
    return guest_exists(guest) && blocks_overlap(&guest->host.ram, at, bytes);
}

/* What became of an operation of the VMM's on guest RAM, which is returned, and what
 * follows. Under the lock. */
static int after_change(struct guest *guest, int err, const char *operation, gfn_t at,
                        pages_t pages)
{
    err = guest_did(guest, operation, at, pages, err);
    guest_settled(guest);
    if (guest->domain.state == DOMAIN_EXHAUSTED) {
        guest_kick(guest); /* a page may have come free */
    }
    return err;
}

typedef int (*range_operation)(struct domain *domain, gfn_t at, pages_t pages);

/* The part of a block that is in a range: whole pages. */
static pages_t part_of(const struct host_block *block, haddr_t at, uint64_t bytes, gfn_t *first)
{
    uint64_t begin = max_u64(at.a, block->at.a) - block->at.a;
    uint64_t end = min_u64(at.a + bytes, block->at.a + block->bytes) - block->at.a;
    pages_t from = (begin + PAGE_BYTES - 1) / PAGE_BYTES, to = bytes_to_pages(end);
    *first = gfn_add(block->first, from);
    return from < to ? to - from : 0;
}

/* Carries an operation out on so many pages, in steps. */
static int in_steps_of(struct guest *guest, gfn_t first, pages_t pages, const char *name,
                       range_operation operation)
{
    int err = 0;
    while (err == 0 && pages != 0) {
        /* Steps end where superpages do, so that those stay in one piece. */
        pages_t step = min_u64(RANGE_STEP_PAGES - first.n % SUPERPAGE_PAGES, pages);
        lock_acquire(&guest->lock);
        err = operation(&guest->domain, first, step);
        err = after_change(guest, err, name, first, step);
        lock_release(&guest->lock);
        first = gfn_add(first, step);
        pages -= step;
    }
    return err;
}

/* The block of that number, if there is one, and the guest uses it. */
static bool get_used_block(struct guest *guest, unsigned number, struct host_block *block)
{
    lock_acquire(&guest->lock);
    bool is = blocks_get(&guest->host.ram, number, block) && !guest->unused[number];
    lock_release(&guest->lock);
    return is;
}

/* Carries it out on the whole pages of guest RAM in a range. Blocks that the guest does
 * not use have nothing in them. */
static int in_steps(struct guest *guest, haddr_t at, uint64_t bytes, const char *name,
                    range_operation operation)
{
    int err = 0;
    for (unsigned i = 0; i < BLOCKS_MAX && err == 0; i++) {
        struct host_block block;
        if (blocks_get(&guest->host.ram, i, &block) && block_overlaps(&block, at, bytes) &&
            get_used_block(guest, i, &block) && block_overlaps(&block, at, bytes)) {
            gfn_t first;
            pages_t pages = part_of(&block, at, bytes, &first);
            err = in_steps_of(guest, first, pages, name, operation);
        }
    }
    return err;
}

int guest_discard(struct guest *guest, haddr_t at, uint64_t bytes)
{
    return in_steps(guest, at, bytes, "discard", domain_discard);
}

int guest_give_up(struct guest *guest, haddr_t at, uint64_t bytes)
{
    return in_steps(guest, at, bytes, "inflate", domain_decrease_reservation);
}

int guest_take_back(struct guest *guest, haddr_t at, uint64_t bytes)
{
    return in_steps(guest, at, bytes, "deflate", domain_increase_reservation);
}

static void for_each_out_of(struct guest *guest, p2m_index_t index,
                            void (*function)(haddr_t at, uint64_t bytes))
{
    const struct p2m *p2m = &guest->domain.p2m;
    gfn_t here = p2m_first_gfn(index);
    gfn_t end = gfn_add(here, p2m_superpage_pages(p2m, index));
    while (p2m->entries[index].out != 0 && here.n < end.n) {
        pages_t run = p2m_run(p2m, here, end.n - here.n);
        if (p2m_get(p2m, here) == P2M_OUT) {
            function(blocks_address(&guest->host.ram, here), pages_to_bytes(run));
        }
        here = gfn_add(here, run);
    }
}

/* The same of a block, as long as it is there and used. */
static void for_each_out_in(struct guest *guest, unsigned number,
                            void (*function)(haddr_t at, uint64_t bytes))
{
    struct host_block block;
    pages_t done = 0;
    for (bool more = true; more;) {
        lock_acquire(&guest->lock);
        more = blocks_get(&guest->host.ram, number, &block) && !guest->unused[number];
        pages_t end = min_u64(done + OUT_STEP_SUPERPAGES * SUPERPAGE_PAGES,
                              more ? bytes_to_pages(block.bytes) : 0);
        for (; done < end; done += SUPERPAGE_PAGES) {
            for_each_out_of(guest, p2m_index(gfn_add(block.first, done)), function);
        }
        more = more && done < bytes_to_pages(block.bytes);
        lock_release(&guest->lock);
    }
}

void guest_for_each_out(struct guest *guest, void (*function)(haddr_t at, uint64_t bytes))
{
    for (unsigned i = 0; guest_exists(guest) && i < BLOCKS_MAX; i++) {
        for_each_out_in(guest, i, function);
    }
}

static int restart_block(struct guest *guest, const struct host_block *block, uint64_t kept_bytes)
{
    pages_t pages = bytes_to_pages(block->bytes);
    pages_t kept = block->first.n == 0 ? bytes_to_pages(kept_bytes) : 0;
    lock_acquire(&guest->lock);
    int err = domain_increase_reservation(&guest->domain, block->first, pages);
    err = after_change(guest, err, "reset", block->first, pages);
    lock_release(&guest->lock);
    return err != 0 ? err
                    : in_steps_of(guest, gfn_add(block->first, kept), pages - kept, "discard",
                                  domain_discard);
}

int guest_restart(struct guest *guest, uint64_t kept_bytes)
{
    int err = 0;
    for (unsigned i = 0; i < BLOCKS_MAX && err == 0; i++) {
        struct host_block block;
        if (get_used_block(guest, i, &block)) {
            err = restart_block(guest, &block, kept_bytes);
        }
    }
    lock_acquire(&guest->lock);
    guest_check(guest, "a reset");
    lock_release(&guest->lock);
    return err;
}

bool guest_next_event(struct guest *guest, uint64_t *next, struct guest_event *event)
{
    lock_acquire(&guest->lock);
    uint64_t made = guest->events_made;
    if (made > GUEST_EVENTS_KEPT) {
        *next = max_u64(*next, made - GUEST_EVENTS_KEPT);
    }
    bool is = *next < made;
    if (is) {
        *event = guest->events[(*next)++ % GUEST_EVENTS_KEPT];
    }
    lock_release(&guest->lock);
    return is;
}

void guest_die(struct guest *guest)
{
    lock_acquire(&guest->lock);
    if (guest->domain.state != DOMAIN_DYING) {
        guest_check(guest, "what came before the end");
        domain_begin_dying(&guest->domain);
        guest_note(guest, GUEST_DYING);
        pthread_cond_signal(&guest->upkeep);
    }
    lock_release(&guest->lock);
    int err = 0;
    unsigned tries = 0;
    for (pages_t left = 1; left != 0 && (err == 0 || (err == -EAGAIN && tries < DRAIN_TRIES));) {
        if (err != 0) {
            clock_sleep_ns(DRAIN_PAUSE_NS);
            tries++;
        }
        lock_acquire(&guest->lock);
        err = domain_drain_step(&guest->domain, DRAIN_STEP_PAGES, &left);
        err = guest_did(guest, "drain", gfn(0), left, err);
        lock_release(&guest->lock);
    }
}

void guest_describe(struct guest *guest, struct guest_report *report)
{
    struct guest_report now = {.state = DOMAIN_BUILDING};
    if (guest_exists(guest)) {
        lock_acquire(&guest->lock);
        const struct domain *domain = &guest->domain;
        now = (struct guest_report){
            .state = guest->built || domain_refuses(domain) != 0 ? domain->state : DOMAIN_BUILDING,
            .max_pages = domain->p2m.max_pages,
            .target_pages = domain->target_pages,
            .total_pages = domain->total_pages,
            .populated_pages = domain->p2m.ram_pages,
            .cache_pages = domain->cache.pages + domain->p2m.given_pages,
            .pod_entries_pages = p2m_pod_pages(&domain->p2m),
            .out_pages = domain->p2m.out_pages + domain->p2m.given_pages,
            .given_pages = domain->p2m.given_pages,
            .cache_superpages = cache_superpages(&domain->cache),
            .covered = domain_covered(domain),
            .shrinking = domain->shrinking,
            .growing_pages = guest->growing_pages,
            .growing_ready_pages = guest->growing_ready_pages,
            .counters = domain->counters,
            .refilled_pages = __atomic_load_n(&guest->host.split.refilled_pages, __ATOMIC_RELAXED),
            .fault_p50_ns = histogram_quantile(&guest->latency, 50),
            .fault_p99_ns = histogram_quantile(&guest->latency, 99),
            .fault_max_ns = guest->latency.max_ns,
            .cache = guest->host.cache,
            .cache_bytes = guest->host.cache_bytes,
        };
        for (unsigned i = 0; i < BLOCKS_MAX; i++) {
            now.blocks += blocks_get(&guest->host.ram, i, &now.ram[now.blocks]);
        }
        lock_release(&guest->lock);
    }
    *report = now;
}
