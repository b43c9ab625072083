/* SPDX-License-Identifier: MIT */
#include "agent/map.h"

#include "agent/the_guest.h"
#include "ctl/map.h"
#include "guest/state.h"

/* Superpages that are looked at in one hold of the lock: some microseconds. */
#define STEP_SUPERPAGES 1024

static char letter_of(const struct p2m *p2m, p2m_index_t index)
{
    const struct p2m_entry *entry = &p2m->entries[index];
    pages_t size = p2m_superpage_pages(p2m, index);
    const struct ctl_map_counts counts = {
        .size = size,
        .ram = entry->ram,
        .out = entry->flags & P2M_ABSENT ? size : entry->out,
        .given = entry->given,
        .huge = (entry->flags & P2M_HUGE) != 0,
    };
    return ctl_map_letter(&counts);
}

size_t map_letters(size_t from, size_t room, char *letters, size_t *superpages)
{
    const struct p2m *p2m = &the_guest.domain.p2m;
    lock_acquire(&the_guest.lock);
    size_t count = guest_exists(&the_guest) ? p2m->count : 0; /* it never falls */
    lock_release(&the_guest.lock);
    size_t end = from >= count ? from : min_u64(count, from + room);
    for (size_t at = from; at < end;) {
        size_t step_end = min_u64(end, at + STEP_SUPERPAGES);
        lock_acquire(&the_guest.lock);
        for (; at < step_end; at++) {
            *letters++ = letter_of(p2m, (p2m_index_t)at);
        }
        lock_release(&the_guest.lock);
    }
    *superpages = count;
    return end - from;
}
