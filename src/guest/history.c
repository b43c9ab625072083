/* SPDX-License-Identifier: MIT */
#include "guest/history.h"

#include "base/clock.h"

static bool is_same(const struct history_record *a, const struct history_record *b)
{
    return a->operation == b->operation && a->at.n == b->at.n && a->pages == b->pages &&
           a->err == b->err && a->total_pages == b->total_pages &&
           a->cache_pages == b->cache_pages && a->in_place_pages == b->in_place_pages;
}

void history_add(struct history *history, const struct domain *domain, const char *operation,
                 gfn_t at, pages_t pages, int err)
{
    const struct history_record now = {
        .operation = operation,
        .at = at,
        .pages = pages,
        .err = err,
        .times = 1,
        .last_ns = clock_coarse_ns(),
        .total_pages = domain->total_pages,
        .cache_pages = domain->cache.pages,
        .in_place_pages = domain->p2m.ram_pages + domain->p2m.given_pages,
    };
    struct history_record *last = &history->records[(history->made - 1) % HISTORY_KEPT];
    if (history->made != 0 && is_same(last, &now)) {
        last->times++;
        last->last_ns = now.last_ns;
    } else {
        history->records[history->made++ % HISTORY_KEPT] = now;
    }
    __atomic_store_n(&history->operations, history->operations + 1, __ATOMIC_RELAXED);
}
