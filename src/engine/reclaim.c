/* SPDX-License-Identifier: MIT */
/*
 * Two hands go round the populated list, which is in order of birth.
 *
 * The eager hand follows the newest entry at a distance of EAGER_LAG births
 * and looks at each entry once, as it ages. A guest that scrubs its memory
 * leaves zero superpages behind; the lag keeps us from those that its CPUs are
 * still writing to.
 *
 * The sweep hand goes round and round, resuming where it stopped. A sweep
 * looks for superpages first; one pass in which it finds none makes the domain
 * "dry", and until enough has changed later sweeps look for single pages at
 * once. Work of one sweep: in each of its two parts an entry is visited once
 * at most, a page is glanced at twice at most and compared in full once at most.
 *
 * A sweep ends as soon as the host says -EAGAIN: its memory map is changing,
 * and may not cease to while we hold on to it. The hand has moved on, so that
 * the next sweep does not begin with the same page.
 */
#include "engine/reclaim.h"

#include "engine/transfer.h"

#include <errno.h>

/* Births between the newest entry and those that the eager hand looks at: more
 * than a guest has CPUs that scrub at once, usually. */
#define EAGER_LAG   32
#define EAGER_LOOKS 4
/* The eager hand rests while the cache has this share of the target in
 * superpages, and more than EAGER_LOW_MIN of them: until then it would only
 * move memory that may be needed again. */
#define EAGER_LOW_SHARE 8
#define EAGER_LOW_MIN   4
/* A sweep for single pages ends with the entry in which it has found this many. */
#define SWEEP_ENOUGH_PAGES 64
/* A dry domain is swept for superpages again when it has reclaimed this share
 * of its populated pages singly: that spreads the cost of a pass thin. */
#define DRY_SHARE 32

static bool looks_zero(struct domain *domain, gfn_t at, pages_t pages)
{
    return domain->ops->glance(domain->host, at, pages, true) == pages;
}

/* Takes a superpage back if it holds only zeros: 1 if so, 0, or an error as
 * transfer_take_superpage has it. */
static int reclaim_superpage(struct domain *domain, p2m_index_t index)
{
    if (!p2m_whole(&domain->p2m, index, P2M_RAM) ||
        !looks_zero(domain, p2m_first_gfn(index), SUPERPAGE_PAGES)) {
        return 0;
    }
    int took = transfer_take_superpage(domain, index, TRANSFER_IF_ZERO);
    if (took == 1) {
        domain->counters.reclaimed_2m++;
    }
    return took;
}

/* Takes RAM pages that look zero, and are, back one by one. Adds them to *got,
 * which holds on error too: -EAGAIN, -ENOSPC, or a fatal one. */
static int reclaim_run(struct domain *domain, gfn_t at, pages_t pages, pages_t *got)
{
    int err = 0;
    while (pages != 0 && err == 0) {
        pages_t kept = 0, seen = 0;
        err = transfer_take_run(domain, at, pages, TRANSFER_IF_ZERO, &kept, &seen);
        domain->counters.reclaimed_4k += kept;
        *got += kept;
        at = gfn_add(at, seen);
        pages -= seen;
    }
    return err;
}

/* Takes the zero pages of a superpage back one by one; as reclaim_run. Each
 * page is glanced at twice at most: as the one that ends a run, and in its own. */
static int reclaim_singles(struct domain *domain, p2m_index_t index, pages_t *got)
{
    gfn_t here = p2m_first_gfn(index);
    gfn_t end = gfn_add(here, p2m_superpage_pages(&domain->p2m, index));
    int err = 0;
    while (here.n < end.n && err == 0) {
        pages_t run = p2m_run(&domain->p2m, here, end.n - here.n);
        if (p2m_get(&domain->p2m, here) != P2M_RAM) {
            here = gfn_add(here, run);
            continue;
        }
        pages_t skip = domain->ops->glance(domain->host, here, run, false);
        here = gfn_add(here, skip);
        if (skip == run) {
            continue;
        }
        pages_t zeros = domain->ops->glance(domain->host, here, run - skip, true);
        err = reclaim_run(domain, here, zeros, got);
        /* None: it changed under our eyes, the guest is using it. */
        here = gfn_add(here, max_u64(zeros, 1));
    }
    return err;
}

/* So many superpages the cache should have while the domain is not covered. */
static pages_t reserve_superpages(const struct domain *domain)
{
    return max_u64(EAGER_LOW_MIN, domain->target_pages / SUPERPAGE_PAGES / EAGER_LOW_SHARE);
}

bool reclaim_wants_superpages(const struct domain *domain)
{
    return cache_superpages(&domain->cache) < reserve_superpages(domain) && !domain_covered(domain);
}

bool reclaim_lacks_superpages(const struct domain *domain)
{
    return cache_superpages(&domain->cache) < reserve_superpages(domain) / 2 &&
           !domain_covered(domain);
}

/* Whether the eager hand has an entry to look at that is old enough. */
static bool eager_is_due(const struct p2m *p2m)
{
    return p2m->eager_hand != P2M_NONE && p2m_age(p2m, p2m->eager_hand) > EAGER_LAG;
}

/* Moves the eager hand on, until it has found a superpage: 1 if so, 0, or an
 * error as transfer_take_superpage has it. */
static int look_eagerly(struct domain *domain)
{
    struct p2m *p2m = &domain->p2m;
    int took = 0;
    for (int looks = 0; looks < EAGER_LOOKS && took == 0 && eager_is_due(p2m); looks++) {
        p2m_index_t index = p2m->eager_hand;
        p2m->eager_hand = p2m->entries[index].next;
        took = reclaim_superpage(domain, index);
    }
    return took;
}

int reclaim_eager(struct domain *domain)
{
    int took = reclaim_wants_superpages(domain) ? look_eagerly(domain) : 0;
    /* It was worth a try; the populate need not wait for the host. */
    return took < 0 && took != -EAGAIN ? took : 0;
}

/* One round of the sweep hand for each birth: what was not zero in the round
 * before may be now. */
static int look_around(struct domain *domain)
{
    struct reclaim *memory = &domain->reclaim;
    struct p2m *p2m = &domain->p2m;
    if (memory->round_births != p2m->births) {
        memory->round_births = p2m->births;
        memory->round_visits = p2m->populated;
    }
    memory->round_visits = (p2m_index_t)min_u64(memory->round_visits, p2m->populated);
    int took = 0;
    for (int looks = 0; looks < EAGER_LOOKS && took == 0 && memory->round_visits != 0; looks++) {
        p2m_index_t index = p2m_advance_sweep_hand(p2m);
        memory->round_visits--;
        if (p2m_age(p2m, index) > EAGER_LAG) {
            took = reclaim_superpage(domain, index);
        }
    }
    return took;
}

int reclaim_reserve_step(struct domain *domain, bool *more)
{
    if (!reclaim_wants_superpages(domain)) {
        *more = false;
        return 0;
    }
    int took = eager_is_due(&domain->p2m) ? look_eagerly(domain) : look_around(domain);
    if (took < 0) {
        return took;
    }
    *more = took == 1 || eager_is_due(&domain->p2m) || domain->reclaim.round_visits != 0 ||
            domain->reclaim.round_births != domain->p2m.births;
    return 0;
}

/* Without those that are known to be mixed: to take, compare and put back each of
 * them in each pass would cost many times what their zero pages are worth. */
static int sweep_superpages(struct domain *domain)
{
    struct p2m *p2m = &domain->p2m;
    for (p2m_index_t visits = p2m->populated; visits > 0; visits--) {
        p2m_index_t index = p2m_advance_sweep_hand(p2m);
        uint64_t false_zeros = domain->counters.false_zeros;
        int took = p2m->entries[index].flags & P2M_MIXED ? 0 : reclaim_superpage(domain, index);
        if (took != 0) {
            return took;
        }
        if (domain->counters.false_zeros != false_zeros) {
            p2m->entries[index].flags |= P2M_MIXED;
        }
    }
    domain->reclaim.superpages_dry = true;
    domain->reclaim.singles_since_dry = 0;
    return 0;
}

static int sweep_singles(struct domain *domain)
{
    pages_t got = 0;
    int err = 0;
    for (p2m_index_t visits = domain->p2m.populated;
         visits > 0 && got < SWEEP_ENOUGH_PAGES && err == 0; visits--) {
        err = reclaim_singles(domain, p2m_advance_sweep_hand(&domain->p2m), &got);
    }
    domain->reclaim.singles_since_dry += got;
    /* No room in the cache is no error either: it is anything but empty. */
    return err == -ENOSPC || (err == -EAGAIN && got != 0) ? 0 : err;
}

int reclaim_sweep(struct domain *domain)
{
    const struct reclaim *memory = &domain->reclaim;
    domain->counters.sweeps++;
    if (!memory->superpages_dry || memory->singles_since_dry >= domain->p2m.ram_pages / DRY_SHARE) {
        int took = sweep_superpages(domain);
        if (took != 0) {
            return took < 0 ? took : 0;
        }
    }
    return sweep_singles(domain);
}
