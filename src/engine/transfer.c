/* SPDX-License-Identifier: MIT */
#include "engine/transfer.h"

#include <errno.h>

/* How often a page in transit is offered back to the guest before we give up.
 * The host waits a little in each -EAGAIN, so that this is about a second. */
#define PUT_BACK_TRIES 1000

int transfer_broken(struct domain *domain)
{
    domain->state = DOMAIN_BROKEN;
    return -EIO;
}

/* Whether a superpage is being made huge at this moment: see recover.c. */
static bool is_held(const struct domain *domain, p2m_index_t index)
{
    return domain->recovery.held && domain->recovery.index == index;
}

/* What a take that failed means for the domain: 0 if it can go on. */
static int verdict(struct domain *domain, int err)
{
    switch (err) {
    case 0:
        return 0;
    case -EBUSY:
        domain->counters.busy_skips++;
        return 0;
    case -EAGAIN:
    case -ESRCH:
        return err;
    default:
        return transfer_broken(domain);
    }
}

int transfer_place(struct domain *domain, struct cache_run from, gfn_t to, pages_t *moved)
{
    pages_t went = 0;
    int err = domain->ops->place(domain->host, from.at, to, from.pages, &went);
    if (went != 0) {
        cache_removed(&domain->cache, (struct cache_run){from.at, went});
        p2m_set(&domain->p2m, to, went, P2M_RAM);
    }
    *moved = went;
    switch (err) {
    case 0:
    case -EAGAIN:
    case -EBUSY:
    case -EEXIST:
    case -ESRCH:
        return err;
    default:
        return transfer_broken(domain);
    }
}

/* What goes across page by page leaves page tables at both ends. `slot` is one
 * of which no page is cached, or that has a table already. */
static void note_tables(struct domain *domain, p2m_index_t index, slot_index_t slot)
{
    struct p2m_entry *entry = &domain->p2m.entries[index];
    entry->flags = (uint8_t)((entry->flags & ~P2M_HUGE) | P2M_TABLE);
    if (domain->cache.slots[slot].pages == 0) {
        cache_unflattened(&domain->cache, slot);
    }
}

/* Places pages in transit back where they came from. Until that has worked
 * the guest would read zeros there, so failing is fatal. */
static int put_back(struct domain *domain, cfn_t from, gfn_t to, pages_t pages)
{
    for (int tries = 0;; tries++) {
        pages_t moved = 0;
        int err = domain->ops->place(domain->host, from, to, pages, &moved);
        if (moved != 0 && moved != SUPERPAGE_PAGES) {
            note_tables(domain, p2m_index(to), cache_slot_of(from));
        }
        from = cfn_add(from, moved);
        to = gfn_add(to, moved);
        pages -= moved;
        if (pages == 0) {
            return 0;
        }
        if (err == -ESRCH) {
            return err;
        }
        if ((err != -EAGAIN && err != -EBUSY) || tries == PUT_BACK_TRIES) {
            return transfer_broken(domain);
        }
    }
}

/* Pages in transit become cached ones. */
static void keep(struct domain *domain, struct cache_run run, gfn_t from, enum transfer_rule rule,
                 bool huge)
{
    p2m_set(&domain->p2m, from, run.pages, rule == TRANSFER_COLLECT ? P2M_OUT : P2M_POD);
    cache_added(&domain->cache, run, huge);
    domain->counters.collected_pages += rule == TRANSFER_COLLECT ? run.pages : 0;
}

/* An empty slot for a superpage, flat if the superpage is huge and a flat one
 * can be had: it then stays huge. */
static slot_index_t slot_for_superpage(struct domain *domain, bool huge)
{
    struct cache *cache = &domain->cache;
    slot_index_t slot = cache_find_empty(cache, huge);
    if (slot == SLOT_NONE) {
        slot = cache_find_empty(cache, false);
        if (slot != SLOT_NONE &&
            domain->ops->flatten_cache(domain->host, cache_first_cfn(slot)) == 0) {
            cache_flattened(cache, slot);
        }
    }
    return slot;
}

int transfer_take_superpage(struct domain *domain, p2m_index_t index, enum transfer_rule rule)
{
    struct p2m_entry *entry = &domain->p2m.entries[index];
    gfn_t from = p2m_first_gfn(index);
    bool huge = entry->flags & P2M_HUGE;
    if (is_held(domain, index)) {
        return -EAGAIN;
    }
    slot_index_t slot = slot_for_superpage(domain, huge);
    if (slot == SLOT_NONE) {
        return 0;
    }
    huge = huge && (slot >= domain->cache.fresh || !domain->cache.slots[slot].table);

    cfn_t to = cache_first_cfn(slot);
    pages_t moved = 0;
    int err = domain->ops->take(domain->host, from, to, SUPERPAGE_PAGES, &moved);
    bool whole = moved == SUPERPAGE_PAGES;
    if (whole && rule == TRANSFER_SCRUB) {
        domain->ops->scrub(domain->host, to, SUPERPAGE_PAGES);
    }
    if (whole &&
        (rule == TRANSFER_SCRUB || domain->ops->compare(domain->host, to, moved) == moved)) {
        if (!huge) {
            entry->flags |= P2M_TABLE;
        }
        keep(domain, (struct cache_run){to, moved}, from, rule, huge);
        return 1;
    }

    /* Not what we hoped for: all of it goes back. */
    if (moved != 0) {
        domain->counters.false_zeros += whole;
        int back = put_back(domain, to, from, moved);
        if (back != 0) {
            return back;
        }
        if (!huge) {
            note_tables(domain, index, slot);
        }
    }
    return verdict(domain, err);
}

/* A page that was put back because it is not zero. */
static void note_in_use(struct domain *domain, gfn_t at, enum transfer_rule rule)
{
    if (rule == TRANSFER_COLLECT) {
        p2m_set(&domain->p2m, at, 1, P2M_RAM);
        domain->counters.out_in_use++;
    } else {
        domain->counters.false_zeros++;
    }
}

/* Keeps the zero pages of a run in transit and puts the others back. */
static int keep_zeros(struct domain *domain, struct cache_run run, gfn_t from,
                      enum transfer_rule rule, pages_t *kept_pages)
{
    pages_t done = 0;
    int err = 0;
    while (done < run.pages && err == 0) {
        cfn_t at = cfn_add(run.at, done);
        pages_t zeros = domain->ops->compare(domain->host, at, run.pages - done);
        if (zeros != 0) {
            keep(domain, (struct cache_run){at, zeros}, gfn_add(from, done), rule, false);
            *kept_pages += zeros;
            done += zeros;
        }
        if (done < run.pages) { /* the one that ended the run of zeros */
            err = put_back(domain, cfn_add(run.at, done), gfn_add(from, done), 1);
            note_in_use(domain, gfn_add(from, done), rule);
            done++;
        }
    }
    return err;
}

int transfer_take_run(struct domain *domain, gfn_t at, pages_t pages, enum transfer_rule rule,
                      pages_t *kept_pages, pages_t *seen_pages)
{
    struct cache_run run = cache_find_room(&domain->cache, pages);
    if (run.pages == 0) {
        return -ENOSPC;
    }
    if (is_held(domain, p2m_index(at))) {
        *kept_pages = 0;
        *seen_pages = 1;
        return -EAGAIN;
    }
    pages_t moved = 0, kept = 0;
    int err = domain->ops->take(domain->host, at, run.at, run.pages, &moved);
    run.pages = moved;
    note_tables(domain, p2m_index(at), cache_slot_of(run.at));
    int fatal = 0;
    if (moved != 0 && rule == TRANSFER_SCRUB) {
        domain->ops->scrub(domain->host, run.at, moved);
        keep(domain, run, at, rule, false);
        kept = moved;
    } else if (moved != 0) {
        fatal = keep_zeros(domain, run, at, rule, &kept);
    }
    if (fatal == 0) {
        fatal = verdict(domain, err);
    }
    *kept_pages = kept;
    *seen_pages = moved + (err != 0);
    return fatal;
}
