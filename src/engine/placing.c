/* SPDX-License-Identifier: MIT */
#include "engine/placing.h"

#include "engine/transfer.h"

#include <errno.h>

/* Neighbours that are placed together with a touched single page: the fault
 * costs much more than the pages. Fewer when the cache runs low. */
#define CLUSTER_MAX_PAGES 16
#define CLUSTER_SHARE     64
/* So many of them go in one move with the touched page; the rest come while the
 * guest goes on. Fewer, and it would be at the next before that is there. */
#define CLUSTER_FIRST_PAGES 8
/* Cached pages that are tried in turn if the host says that one is busy. */
#define BUSY_TRIES 4
/* At most so many superpages are placed ahead of a touched one, and at most
 * this share of those in the cache. */
#define AHEAD_MAX   8
#define AHEAD_SHARE 2
/* A neighbour belongs to the same stream if no more entries than this were born
 * since: as many streams as a guest has CPUs that scrub may be under way, 32 of
 * them with what is placed ahead of each, and then some. */
#define AHEAD_MAX_AGE 512

/* Places a cached superpage on one that is POD throughout. Unless the error is
 * fatal the caller may try single pages instead. */
static int place_superpage(struct domain *domain, p2m_index_t index)
{
    struct p2m_entry *entry = &domain->p2m.entries[index];
    gfn_t to = p2m_first_gfn(index);
    if (entry->flags & P2M_TABLE) {
        int err = domain->ops->flatten_guest(domain->host, to);
        if (err != 0) {
            return err == -ESRCH ? err : -EAGAIN; /* the table stays: nothing is harmed */
        }
        entry->flags &= (uint8_t)~P2M_TABLE;
    }
    slot_index_t slot = cache_find_superpage(&domain->cache);
    bool huge = domain->cache.slots[slot].list == CACHE_FULL_HUGE;
    pages_t moved = 0;
    int err = transfer_place(domain, (struct cache_run){cache_first_cfn(slot), SUPERPAGE_PAGES}, to,
                             &moved);
    if (moved == SUPERPAGE_PAGES) {
        entry->flags |= huge ? P2M_HUGE : P2M_TABLE;
        domain->counters.populated_2m++;
        domain->reclaim.superpages_dry = false;
        return 0;
    }
    if (moved != 0) {
        entry->flags |= P2M_TABLE;
        domain->counters.populated_4k += moved;
    }
    if (err == -EBUSY) {
        domain->counters.busy_skips++;
        cache_rotate(&domain->cache, slot);
    }
    return err;
}

/* A page was in place though the p2m said POD. One cached page pays for it. */
static int adopt(struct domain *domain, gfn_t at)
{
    struct cache_run run = cache_find_pages(&domain->cache, 1);
    int err = domain->ops->release(domain->host, run.at, 1);
    if (err != 0) {
        return err == -EAGAIN || err == -ESRCH ? err : transfer_broken(domain);
    }
    cache_removed(&domain->cache, run);
    p2m_set(&domain->p2m, at, 1, P2M_RAM);
    domain->p2m.entries[p2m_index(at)].flags |= P2M_TABLE;
    domain->counters.adopted_pages++;
    domain->ops->wake(domain->host, at, 1);
    return 0;
}

/* How many pages to place at `at`, itself included: those up to the end of its
 * aligned neighbourhood that are POD. */
static pages_t cluster_pages(const struct domain *domain, gfn_t at)
{
    pages_t size = CLUSTER_MAX_PAGES;
    while (size > 1 && size > domain->cache.pages / CLUSTER_SHARE) {
        size /= 2;
    }
    return p2m_run(&domain->p2m, at, size - at.n % size);
}

/* Places a run of cached pages, or the first part of it. */
static int place_run(struct domain *domain, struct cache_run run, gfn_t at, pages_t *moved)
{
    int err = transfer_place(domain, run, at, moved);
    if (*moved != 0) {
        domain->p2m.entries[p2m_index(at)].flags |= P2M_TABLE;
        domain->counters.populated_4k += *moved;
    }
    return err;
}

/* Places neighbours of a page that was just placed: as many as come easily. What
 * does not can wait for its own fault. */
static int place_neighbours(struct domain *domain, gfn_t at, pages_t pages)
{
    struct cache_run run = cache_find_pages(&domain->cache, pages);
    pages_t moved = 0;
    int err = run.pages != 0 ? place_run(domain, run, at, &moved) : 0;
    return transfer_is_fatal(err) ? err : 0;
}

/* Places single pages. The cache is not empty and `at` is POD. */
static int place_singles(struct domain *domain, gfn_t at)
{
    pages_t want = cluster_pages(domain, at);
    for (int tries = 0; tries < BUSY_TRIES; tries++) {
        struct cache_run run = cache_find_pages(&domain->cache, min_u64(want, CLUSTER_FIRST_PAGES));
        pages_t moved = 0;
        int err = place_run(domain, run, at, &moved);
        if (transfer_is_fatal(err)) {
            return err;
        }
        if (moved != 0) {
            return err == 0 && moved < want
                       ? place_neighbours(domain, gfn_add(at, moved), want - moved)
                       : 0;
        }
        if (err == -EEXIST) {
            return adopt(domain, at);
        }
        if (err != -EBUSY) {
            return err;
        }
        domain->counters.busy_skips++;
        cache_rotate(&domain->cache, cache_slot_of(run.at));
    }
    return -EAGAIN;
}

/* Superpages beside `index`, in steps of `step`, that were populated whole and
 * not long ago: as many as there are in a row, at most `limit`. Steps below
 * index 0 come out above every index. */
static unsigned stream_length(const struct p2m *p2m, p2m_index_t index, p2m_index_t step,
                              unsigned limit)
{
    unsigned length = 0;
    for (p2m_index_t i = index + step; length < limit && i < p2m->count; i += step, length++) {
        if (!p2m_whole(p2m, i, P2M_RAM) || p2m_age(p2m, i) > AHEAD_MAX_AGE) {
            break;
        }
    }
    return length;
}

/*
 * A guest that has just used the superpages before this one, in order, will use
 * those behind it: they are placed before it comes to them. The further the
 * stream has come, the more, as in reading ahead; it may run downwards too.
 * What the guest does not use after all holds zeros, and is reclaimed as such.
 */
static int place_ahead(struct domain *domain, p2m_index_t index)
{
    const struct p2m *p2m = &domain->p2m;
    const p2m_index_t up = 1, down = (p2m_index_t)-1;
    unsigned limit = (unsigned)min_u64(AHEAD_MAX, cache_superpages(&domain->cache) / AHEAD_SHARE);
    unsigned below = stream_length(p2m, index, down, limit);
    unsigned above = below == 0 ? stream_length(p2m, index, up, limit) : 0;
    p2m_index_t step = below != 0 ? up : down;
    int err = 0;
    for (unsigned left = below + above; left != 0 && err == 0; left--) {
        index += step;
        if (index >= p2m->count || !p2m_whole(p2m, index, P2M_POD)) {
            break;
        }
        err = place_superpage(domain, index);
        domain->counters.ahead_2m += err == 0;
    }
    return transfer_is_fatal(err) ? err : 0;
}

int placing_serve(struct domain *domain, gfn_t at)
{
    p2m_index_t index = p2m_index(at);
    if (p2m_whole(&domain->p2m, index, P2M_POD) && cache_superpages(&domain->cache) != 0) {
        int err = place_superpage(domain, index);
        if (transfer_is_fatal(err)) {
            return err;
        }
        if (p2m_get(&domain->p2m, at) == P2M_RAM) {
            return err == 0 ? place_ahead(domain, index) : 0;
        }
    }
    return place_singles(domain, at);
}
