/* SPDX-License-Identifier: MIT */
/*
 * Breaking a huge page into single pages of which none is lost.
 *
 * When Linux (6.12 and newer) breaks up a huge page, which it does whenever one
 * page of it is moved alone, it gives every 4 KiB of it that hold only zeros
 * back to the host and maps its shared zero page in their place. A later write
 * brings a new page, without a fault that we would see. A domain's total would
 * fall and rise behind its back, and what it was promised might by then be
 * somebody else's. So a huge page is broken up here first, while nobody but us
 * can see it, with a mark in each page that is zero: the kernel keeps those.
 *
 * The functions are called under the lock that guards the domain; split_refill need not be. A
 * superpage here is 2 MiB at an aligned address.
 */
#ifndef BALLAST_HOST_SPLIT_H
#define BALLAST_HOST_SPLIT_H

#include "host/uffd.h"

/* Address space that a splitter needs. */
#define SPLIT_AREA_BYTES (2 * SUPERPAGE_BYTES)

struct split {
    struct uffd_mover mover;
    haddr_t aside; /* a superpage of the guest is broken up here */
    haddr_t spare; /* one page of a superpage goes here and back: that breaks it */
    /* How many pages split_refill has brought back; atomic. */
    uint64_t refilled_pages;
};

/* `area` is aligned, SPLIT_AREA_BYTES long, empty, used for nothing else, and
 * registered before the first page is split. */
static inline struct split split_make(struct uffd_mover mover, haddr_t area)
{
    return (struct split){mover, area, haddr_add(area, SUPERPAGE_BYTES), 0};
}

/* Whether a superpage is mapped as one huge page. */
bool split_is_huge(const struct split *split, haddr_t superpage);

/* Breaks up a huge page that nobody but us can touch; a superpage of which a
 * page is missing is none and stays as it is. Errors are those of
 * engine_ops.take; the contents are as before in any case. */
int split_hidden(struct split *split, haddr_t superpage);

/* Breaks up a huge page of guest RAM. Whoever touches it meanwhile waits.
 * Errors are those of engine_ops.take; -EIO if it could not be put back. */
int split_guest(struct split *split, haddr_t superpage);

/* Marks zeroed pages, before a move that may break up what they are part of... */
void split_mark(haddr_t at, uint64_t bytes);
/* ...and removes the marks of zeroed pages; a page that was lost comes back. */
void split_unmark(haddr_t at, uint64_t bytes);

/* Brings lost pages back, and counts them: for what the kernel broke up unasked. They
 * come from the host, which may have none to spare any more; then they come later, when
 * they are written to. Places without a page stay so. */
void split_refill(struct split *split, haddr_t at, uint64_t bytes);

#endif
