/* SPDX-License-Identifier: MIT */
/*
 * Pages that the kernel took back unasked.
 *
 * When the kernel breaks up a huge page for reasons of its own (it must make room,
 * or move pages together, and has no other huge page to copy to), it gives every
 * 4 KiB of it that hold only zeros back to the host, and maps its shared zero page
 * there (Linux 6.12 and newer; see split.h). Nothing is lost but the memory itself:
 * the domain has less than its total, until somebody writes there. Mappings that are
 * locked (-overcommit mem-lock=on) are spared.
 *
 * Here such places are looked for, and the host is asked for its pages again.
 */
#ifndef BALLAST_HOST_LOST_H
#define BALLAST_HOST_LOST_H

#include "host/linux_host.h"

/* Where a search has come to. */
struct lost_search {
    unsigned block; /* of guest RAM, which is searched first; BLOCKS_MAX: the cache */
    haddr_t at;     /* in it; 0: at its start */
};

/* From the start. */
static inline struct lost_search lost_search_begin(void)
{
    return (struct lost_search){0};
}

/* Finds the next superpage, of guest RAM or the cache, in which the kernel has put its
 * zero page; false if there is none left. Needs no lock. */
bool lost_find(const struct linux_host *host, struct lost_search *search, haddr_t *superpage);

/* Brings the pages of that superpage back, those that are still wanted. The host should
 * have them to spare: memory_has(), which takes its time. Under the lock that guards the
 * domain. */
void lost_bring_back(struct linux_host *host, haddr_t superpage);

#endif
