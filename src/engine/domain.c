/* SPDX-License-Identifier: MIT */
#include "engine/domain.h"

#include "engine/placing.h"
#include "engine/reclaim.h"
#include "engine/reservation.h"
#include "engine/transfer.h"

#include <errno.h>

static size_t p2m_part_bytes(pages_t span_pages)
{
    return (p2m_metadata_bytes(span_pages) + 63) / 64 * 64;
}

size_t domain_metadata_bytes(pages_t span_pages)
{
    return p2m_part_bytes(span_pages) + cache_metadata_bytes(cache_slots_for(span_pages));
}

pages_t domain_cache_span_pages(pages_t span_pages)
{
    return cache_slots_for(span_pages) * SUPERPAGE_PAGES;
}

int domain_init(struct domain *domain, const struct domain_config *config,
                const struct engine_ops *ops, void *host, void *metadata)
{
    pages_t max = config->max_pages, target = config->target_pages;
    pages_t span = max_u64(max, config->span_pages);
    if (max < SUPERPAGE_PAGES || span > bytes_to_pages(MAX_DOMAIN_BYTES) ||
        target < SUPERPAGE_PAGES || target > max) {
        return -EINVAL;
    }
    *domain = (struct domain){
        .state = DOMAIN_BUILDING,
        .target_pages = target,
        .ops = ops,
        .host = host,
    };
    p2m_init(&domain->p2m, max, span, metadata);
    cache_init(&domain->cache, cache_slots_for(span), (char *)metadata + p2m_part_bytes(span));
    return 0;
}

int domain_refuses(const struct domain *domain)
{
    switch (domain->state) {
    case DOMAIN_RUNNING:
    case DOMAIN_EXHAUSTED:
        return 0;
    case DOMAIN_DYING:
        return -ESHUTDOWN;
    case DOMAIN_BROKEN:
        return -EIO;
    case DOMAIN_BUILDING:
        break;
    }
    return -EINVAL;
}

/* Where the next `pages` that come from the host go: superpages to slots in
 * which they stay huge, as long as there are any. */
static struct cache_run room_for(const struct domain *domain, pages_t pages, bool *huge)
{
    slot_index_t flat = cache_find_empty(&domain->cache, true);
    *huge = pages >= SUPERPAGE_PAGES && flat != SLOT_NONE;
    return *huge ? (struct cache_run){cache_first_cfn(flat), SUPERPAGE_PAGES}
                 : cache_find_room(&domain->cache, pages);
}

/* Gives pages that were just allocated back. Nobody had a chance to use them:
 * the lock is held. What the host will not take just now stays in the cache:
 * then the domain has more than its target, and settles like one that shrinks. */
static int undo_grow(struct domain *domain, pages_t pages)
{
    int err = 0;
    while (err == 0 && pages != 0) {
        struct cache_run run = cache_find_pages(&domain->cache, pages);
        err = domain->ops->release(domain->host, run.at, run.pages);
        if (err == 0) {
            cache_removed(&domain->cache, run);
            domain->total_pages -= run.pages;
            pages -= run.pages;
        }
    }
    domain->shrinking = domain->total_pages > domain->target_pages;
    return err == 0 || err == -EAGAIN || err == -ESRCH ? 0 : transfer_broken(domain);
}

/* Brings pages from the host into the cache, all or none. */
static int grow(struct domain *domain, pages_t pages)
{
    for (pages_t added = 0; added < pages;) {
        bool huge;
        struct cache_run run = room_for(domain, pages - added, &huge);
        int err = domain->ops->allocate(domain->host, run.at, run.pages);
        if (err != 0) {
            int undone = undo_grow(domain, added);
            return undone != 0 ? undone : err;
        }
        cache_added(&domain->cache, run, huge);
        domain->total_pages += run.pages;
        added += run.pages;
    }
    return 0;
}

int domain_build_step(struct domain *domain, pages_t step_pages, pages_t *missing_pages)
{
    if (domain->state != DOMAIN_BUILDING || step_pages < SUPERPAGE_PAGES) {
        return domain_refuses(domain) ? domain_refuses(domain) : -EINVAL;
    }
    pages_t missing = domain->target_pages - domain->total_pages;
    pages_t pages = min_u64(step_pages / SUPERPAGE_PAGES * SUPERPAGE_PAGES, missing);
    int err = grow(domain, pages);
    if (err != 0) {
        return err;
    }
    if (pages == missing) {
        domain->state = DOMAIN_RUNNING;
    }
    *missing_pages = missing - pages;
    return 0;
}

/* Makes sure that there is a cached page. */
static int find_pages(struct domain *domain)
{
    int err = 0;
    if (domain->cache.pages == 0) {
        err = reservation_collect(domain, 1);
    }
    if (err == 0 && domain->cache.pages == 0) {
        err = reclaim_sweep(domain);
    }
    if (err == 0 && domain->cache.pages == 0) {
        domain->state = DOMAIN_EXHAUSTED;
        err = -ENOSPC;
    }
    return err;
}

/* Somebody touches what the guest gave up: the guest, unasked, or QEMU, which
 * reads all memory when it migrates or dumps. There is no telling which. The page
 * that it gets goes on being given up; what comes of it is seen when it is
 * collected: if it holds zeros, nothing has happened. */
static int populate_out(struct domain *domain, gfn_t at)
{
    p2m_set(&domain->p2m, at, 1, P2M_POD);
    int err = placing_serve(domain, at);
    bool placed = p2m_get(&domain->p2m, at) == P2M_RAM;
    p2m_set(&domain->p2m, at, 1, placed ? P2M_GIVEN : P2M_OUT);
    domain->counters.out_touched += placed;
    return err;
}

int domain_populate(struct domain *domain, gfn_t at)
{
    int err = domain_refuses(domain);
    if (err != 0 || !p2m_exists(&domain->p2m, at, 1)) {
        return err ? err : -EINVAL;
    }
    domain->counters.faults++;
    enum p2m_state state = p2m_get(&domain->p2m, at);
    if (state == P2M_RAM || state == P2M_GIVEN) {
        domain->counters.spurious++;
        domain->ops->wake(domain->host, at, 1);
        return 0;
    }
    err = find_pages(domain);
    if (err != 0) {
        return err;
    }
    domain->state = DOMAIN_RUNNING;
    return state == P2M_OUT ? populate_out(domain, at) : placing_serve(domain, at);
}

int domain_discard(struct domain *domain, gfn_t at, pages_t pages)
{
    int err = domain_refuses(domain);
    if (err != 0 || !p2m_exists(&domain->p2m, at, pages)) {
        return err ? err : -EINVAL;
    }
    while (pages != 0) {
        p2m_index_t index = p2m_index(at);
        pages_t run = p2m_run(&domain->p2m, at, pages), done = run;
        enum p2m_state state = p2m_get(&domain->p2m, at);
        if (state == P2M_GIVEN) {
            /* The guest may have written to it after it gave it up. */
            domain->ops->clear_guest(domain->host, at, run);
        } else if (state == P2M_RAM) {
            pages_t kept = 0;
            int took =
                run == SUPERPAGE_PAGES ? transfer_take_superpage(domain, index, TRANSFER_SCRUB) : 0;
            if (took == 1) {
                kept = run;
            } else if (took == 0 || took == -EAGAIN) {
                took = transfer_take_run(domain, at, run, TRANSFER_SCRUB, &kept, &done);
            }
            domain->counters.discarded_pages += kept;
            if (took < 0 && took != -EAGAIN) {
                return took;
            }
            if (kept < done) {
                domain->ops->clear_guest(domain->host, gfn_add(at, kept), 1);
            }
        }
        at = gfn_add(at, done);
        pages -= done;
    }
    return 0;
}

int domain_plug(struct domain *domain, pages_t pages, gfn_t *at)
{
    int err = domain_refuses(domain);
    return err != 0 ? err : p2m_plug(&domain->p2m, pages, at);
}

int domain_unplug(struct domain *domain, gfn_t at, pages_t pages)
{
    struct p2m *p2m = &domain->p2m;
    int err = domain_refuses(domain);
    if (err != 0 || !p2m_exists(p2m, at, pages) || at.n % SUPERPAGE_PAGES != 0 ||
        pages % SUPERPAGE_PAGES != 0 || pages > p2m->max_pages - SUPERPAGE_PAGES) {
        return err ? err : -EINVAL;
    }
    err = p2m_unplug(p2m, at, pages);
    if (err == 0 && domain->target_pages > p2m->max_pages) {
        domain->target_pages = p2m->max_pages;
        domain->shrinking = domain->total_pages > domain->target_pages;
    }
    return err;
}

int domain_set_target(struct domain *domain, pages_t target_pages)
{
    int err = domain_refuses(domain);
    if (err != 0 || target_pages < SUPERPAGE_PAGES || target_pages > domain->p2m.max_pages) {
        return err ? err : -EINVAL;
    }
    if (target_pages > domain->total_pages) {
        err = grow(domain, target_pages - domain->total_pages);
    }
    if (err == 0) {
        domain->target_pages = target_pages;
        domain->shrinking = domain->total_pages > target_pages;
    }
    return err;
}

int domain_settle_step(struct domain *domain, pages_t step_pages, bool *more)
{
    int err = domain_refuses(domain);
    if (err != 0) {
        return err;
    }
    pages_t before = domain->total_pages;
    err = reservation_settle(domain, step_pages);
    if (err == 0) {
        *more = domain->shrinking && before - domain->total_pages == step_pages;
    }
    return err;
}

int domain_reclaim_eagerly(struct domain *domain)
{
    int err = domain_refuses(domain);
    return err != 0 ? err : reclaim_eager(domain);
}

int domain_reserve_step(struct domain *domain, bool *more)
{
    int err = domain_refuses(domain);
    return err != 0 ? err : reclaim_reserve_step(domain, more);
}

bool domain_reserve_is_low(const struct domain *domain)
{
    return reclaim_lacks_superpages(domain);
}

bool domain_wants_upkeep(const struct domain *domain)
{
    return reservation_has_surplus(domain) || reclaim_wants_superpages(domain);
}

void domain_begin_dying(struct domain *domain)
{
    domain->state = DOMAIN_DYING;
}

int domain_drain_step(struct domain *domain, pages_t step_pages, pages_t *left_pages)
{
    if (domain->state != DOMAIN_DYING) {
        return -EINVAL;
    }
    while (step_pages != 0 && domain->cache.pages != 0) {
        struct cache_run run = cache_find_pages(&domain->cache, step_pages);
        int err = domain->ops->release(domain->host, run.at, run.pages);
        if (err != 0) {
            return err;
        }
        cache_removed(&domain->cache, run);
        domain->total_pages -= run.pages;
        step_pages -= run.pages;
    }
    *left_pages = domain->cache.pages;
    return 0;
}

void domain_declare_broken(struct domain *domain)
{
    domain->state = DOMAIN_BROKEN;
}

const char *domain_check_sums(const struct domain *domain)
{
    const struct p2m *p2m = &domain->p2m;
    /* E is what the others leave of max: they must leave something. */
    if (p2m->ram_pages > p2m->max_pages || p2m->out_pages > p2m->max_pages - p2m->ram_pages ||
        p2m->given_pages > p2m->max_pages - p2m->ram_pages - p2m->out_pages) {
        return "domain: P + E + O = max";
    }
    if (p2m->ram_pages + p2m->given_pages + domain->cache.pages != domain->total_pages) {
        return "domain: P + G + C = total";
    }
    const struct recovery *recovery = &domain->recovery;
    if (recovery->held &&
        (recovery->index >= p2m->count ||
         p2m->entries[recovery->index].ram + p2m->entries[recovery->index].given !=
             SUPERPAGE_PAGES)) {
        return "domain: all pages of a superpage that is being recovered are in place";
    }
    bool steady = domain->state == DOMAIN_RUNNING || domain->state == DOMAIN_EXHAUSTED;
    if (steady && !domain->shrinking && domain->total_pages != domain->target_pages) {
        return "domain: total = target, once built, until dying, unless shrinking";
    }
    if (steady && domain->shrinking && domain->total_pages <= domain->target_pages) {
        return "domain: total > target while shrinking";
    }
    return NULL;
}

const char *domain_check(const struct domain *domain)
{
    const char *broken = p2m_check(&domain->p2m);
    if (broken == NULL) {
        broken = cache_check(&domain->cache);
    }
    return broken != NULL ? broken : domain_check_sums(domain);
}

const char *domain_state_name(enum domain_state state)
{
    switch (state) {
    case DOMAIN_BUILDING:
        return "building";
    case DOMAIN_RUNNING:
        return "running";
    case DOMAIN_EXHAUSTED:
        return "exhausted";
    case DOMAIN_DYING:
        return "dying";
    case DOMAIN_BROKEN:
        return "broken";
    }
    return "none that there is";
}
