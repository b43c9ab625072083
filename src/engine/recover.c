/* SPDX-License-Identifier: MIT */
/*
 * Superpages come back.
 *
 * What was populated page by page, or broken up since, stays in single pages
 * even when all 512 are in place: slower for the guest, and 512 moves where one
 * would do. Such superpages are found here. The host can make one huge page of
 * one in place, while the guest uses it, but that takes it milliseconds: so it
 * is done without the domain's lock, between a begin and an end, and in between
 * nothing is taken from that superpage (transfer.c).
 *
 *   while one is held, all its pages are in place
 */
#include "engine/domain.h"

#include <errno.h>

/* Entries that are looked at in one step. */
#define RECOVER_LOOKS 1024

/* What may leave a superpage in single pages counts up in one of these. */
static uint64_t changes_so_far(const struct domain *domain)
{
    const struct domain_counters *c = &domain->counters;
    return c->populated_2m + c->populated_4k + c->false_zeros + c->out_in_use + c->taken_back_pages;
}

bool domain_wants_recovery(const struct domain *domain)
{
    const struct recovery *recovery = &domain->recovery;
    if (domain->reclaim.superpages_dry && !domain_covered(domain)) {
        return false; /* it lives on single pages, and would break up what was made whole */
    }
    return recovery->next != 0 || recovery->changes != changes_so_far(domain);
}

/* All of it is in place, most of it in use, and not in one piece: pages that the
 * guest gave up and that were not collected yet are no hindrance. */
static bool is_candidate(const struct p2m_entry *entry)
{
    return entry->ram + entry->given == SUPERPAGE_PAGES && entry->ram >= SUPERPAGE_PAGES / 2 &&
           !(entry->flags & P2M_HUGE);
}

int domain_recover_begin(struct domain *domain, gfn_t *at)
{
    struct recovery *recovery = &domain->recovery;
    struct p2m *p2m = &domain->p2m;
    int err = domain_refuses(domain);
    if (err != 0 || recovery->held) {
        return err ? err : -EINVAL;
    }
    if (recovery->next == 0) {
        recovery->changes = changes_so_far(domain);
    }
    for (int looks = 0; looks < RECOVER_LOOKS; looks++) {
        p2m_index_t index = recovery->next;
        recovery->next = index + 1 < p2m->count ? index + 1 : 0;
        if (is_candidate(&p2m->entries[index])) {
            recovery->held = true;
            recovery->index = index;
            *at = p2m_first_gfn(index);
            return 0;
        }
        if (recovery->next == 0) {
            break; /* the round is over */
        }
    }
    return -ENOENT;
}

void domain_recover_end(struct domain *domain, bool merged)
{
    struct recovery *recovery = &domain->recovery;
    struct p2m_entry *entry = &domain->p2m.entries[recovery->index];
    if (recovery->held && merged) {
        entry->flags = (uint8_t)((entry->flags & ~P2M_TABLE) | P2M_HUGE);
        domain->counters.recovered_2m++;
    }
    recovery->held = false;
}
