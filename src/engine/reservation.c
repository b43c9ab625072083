/* SPDX-License-Identifier: MIT */
#include "engine/reservation.h"

#include "engine/transfer.h"

#include <errno.h>

/* Pages that one page of inflation may make surplus, and then some: a domain
 * that shrinks gives back as fast as its guest does. */
#define SETTLE_STEP_PAGES SUPERPAGE_PAGES

/* Collects the GIVEN pages of one superpage one by one. */
static int collect_singles(struct domain *domain, p2m_index_t index)
{
    gfn_t here = p2m_first_gfn(index);
    gfn_t end = gfn_add(here, p2m_superpage_pages(&domain->p2m, index));
    int err = 0;
    while (here.n < end.n && err == 0) {
        pages_t run = p2m_run(&domain->p2m, here, end.n - here.n), kept = 0;
        if (p2m_get(&domain->p2m, here) == P2M_GIVEN) {
            err = transfer_take_run(domain, here, run, TRANSFER_COLLECT, &kept, &run);
        }
        here = gfn_add(here, run);
    }
    return err;
}

/* Collects the GIVEN pages of one superpage, in one piece if they are all of it. */
static int collect_entry(struct domain *domain, p2m_index_t index)
{
    if (p2m_whole(&domain->p2m, index, P2M_GIVEN)) {
        int took = transfer_take_superpage(domain, index, TRANSFER_COLLECT);
        if (took != 0) {
            return took < 0 ? took : 0;
        }
    }
    return collect_singles(domain, index);
}

int reservation_collect(struct domain *domain, pages_t enough)
{
    struct p2m *p2m = &domain->p2m;
    pages_t before = domain->cache.pages;
    int err = 0;
    for (p2m_index_t visits = p2m->populated;
         visits != 0 && p2m->given_pages != 0 && err == 0 && domain->cache.pages - before < enough;
         visits--) {
        p2m_index_t index = p2m_advance_sweep_hand(p2m);
        if (p2m->entries[index].given != 0) {
            err = collect_entry(domain, index);
        }
    }
    /* No room in the cache: it is anything but empty. */
    return err == -ENOSPC || (err == -EAGAIN && domain->cache.pages > before) ? 0 : err;
}

/* Pages that neither a PoD entry nor the target needs. */
static pages_t surplus(const struct domain *domain)
{
    pages_t assets = domain->cache.pages + domain->p2m.given_pages;
    pages_t liabilities = p2m_pod_pages(&domain->p2m);
    if (domain->total_pages <= domain->target_pages || assets <= liabilities) {
        return 0;
    }
    return min_u64(domain->total_pages - domain->target_pages, assets - liabilities);
}

bool reservation_has_surplus(const struct domain *domain)
{
    return surplus(domain) != 0;
}

/* Whether it is time to give surplus to the host: a superpage's worth of it, or
 * all that is left to give. Page by page would cost a system call for each, and
 * break up the cache's superpages. What is less waits for domain_settle_step. */
static bool is_due(const struct domain *domain)
{
    pages_t pages = surplus(domain);
    return pages >= SUPERPAGE_PAGES ||
           (pages != 0 && pages == domain->total_pages - domain->target_pages);
}

int reservation_settle(struct domain *domain, pages_t step_pages)
{
    int err = 0;
    while (err == 0 && step_pages != 0 && surplus(domain) != 0) {
        pages_t pages = min_u64(step_pages, surplus(domain));
        if (domain->cache.pages == 0) {
            err = reservation_collect(domain, pages);
            if (domain->cache.pages == 0) {
                break; /* what was given up is in use again, or busy */
            }
            continue; /* some of it may have been: there is less surplus then */
        }
        struct cache_run run = cache_find_pages(&domain->cache, pages);
        err = domain->ops->release(domain->host, run.at, run.pages);
        if (err == 0) {
            cache_removed(&domain->cache, run);
            domain->total_pages -= run.pages;
            step_pages -= run.pages;
            domain->shrinking = domain->total_pages > domain->target_pages;
        }
    }
    return err == 0 || err == -EAGAIN || err == -ESRCH ? err : transfer_broken(domain);
}

/* Common to both directions; 0 if the range may be dealt with. */
static int check_range(const struct domain *domain, gfn_t at, pages_t pages)
{
    int err = domain_refuses(domain);
    return err == 0 && !p2m_exists(&domain->p2m, at, pages) ? -EINVAL : err;
}

int domain_decrease_reservation(struct domain *domain, gfn_t at, pages_t pages)
{
    int err = check_range(domain, at, pages);
    while (err == 0 && pages != 0) {
        p2m_index_t index = p2m_index(at);
        pages_t run = p2m_run(&domain->p2m, at, pages);
        enum p2m_state state = p2m_get(&domain->p2m, at);
        if (state == P2M_POD) {
            p2m_set(&domain->p2m, at, run, P2M_OUT);
        } else if (state == P2M_RAM || state == P2M_GIVEN) {
            /* GIVEN: the guest may have used it since, and gives it up again. */
            domain->ops->clear_guest(domain->host, at, run);
            p2m_set(&domain->p2m, at, run, P2M_GIVEN);
        }
        domain->counters.given_up_pages += state == P2M_POD || state == P2M_RAM ? run : 0;
        if (p2m_whole(&domain->p2m, index, P2M_GIVEN) ||
            (domain->cache.pages == 0 && is_due(domain))) {
            /* It need not be searched for later. If the host cannot just now,
             * it is collected another time. */
            err = collect_entry(domain, index);
        }
        if (!transfer_is_fatal(err) && is_due(domain)) {
            err = reservation_settle(domain, SETTLE_STEP_PAGES);
        }
        err = transfer_is_fatal(err) ? err : 0;
        at = gfn_add(at, run);
        pages -= run;
    }
    return err;
}

int domain_collect(struct domain *domain, gfn_t at, pages_t pages)
{
    int err = check_range(domain, at, pages);
    p2m_index_t end = p2m_index(gfn_add(at, pages));
    for (p2m_index_t index = p2m_index(at); err == 0 && index < end; index++) {
        if (domain->p2m.entries[index].given != 0) {
            err = collect_entry(domain, index);
            err = transfer_is_fatal(err) ? err : 0;
        }
    }
    return err;
}

int domain_increase_reservation(struct domain *domain, gfn_t at, pages_t pages)
{
    int err = check_range(domain, at, pages);
    while (err == 0 && pages != 0) {
        pages_t run = p2m_run(&domain->p2m, at, pages);
        enum p2m_state state = p2m_get(&domain->p2m, at);
        if (state == P2M_OUT || state == P2M_GIVEN) {
            p2m_set(&domain->p2m, at, run, state == P2M_OUT ? P2M_POD : P2M_RAM);
            domain->counters.taken_back_pages += run;
        }
        at = gfn_add(at, run);
        pages -= run;
    }
    return err;
}
