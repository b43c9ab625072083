/* SPDX-License-Identifier: MIT */
/*
 * The p2m: the state of every gfn.
 *
 * Kept by superpage. An entry counts its RAM, OUT and GIVEN pages; the rest are
 * POD. If all its pages are in one state the counts say so and nothing else is
 * needed; otherwise ("split") two bitmaps say which page is what. The bitmaps
 * have a fixed place each, in memory that is never touched before a superpage
 * is first split, so that splitting allocates nothing.
 *
 *   for each entry:  ram + out + given <= pages of the superpage
 *                    split <=> bitmaps say the same as the counts
 *   ram_pages   = sum of ram                    (P)
 *   given_pages = sum of given                  (G)
 *   out_pages   = sum of out, without given     (O - G)
 *   POD pages   = max - P - O                   (E)
 *   an absent entry has no pages in any state
 *   max         = the pages of all entries that are not absent
 *   an entry is on the populated list <=> ram + given > 0
 *   the list is in order of birth: oldest first
 *
 * The last superpage is shorter if max is no multiple of 2 MiB. Memory that a guest
 * may be given later (DIMMs) comes behind what there is, or where other memory was taken
 * away: there superpages are absent.
 *
 * Not thread safe: the domain's lock guards it.
 */
#ifndef BALLAST_ENGINE_P2M_H
#define BALLAST_ENGINE_P2M_H

#include "base/bitmap.h"
#include "base/types.h"

enum p2m_state {
    P2M_POD, /* backed by nothing yet; the first access populates it */
    P2M_RAM, /* backed by a page */
    P2M_OUT, /* given up by the guest, backed by nothing */
    /* Given up by the guest, with a page in place: its own, zeroed, or one that it
     * got because somebody touched it. To be collected into the cache when that can
     * be done cheaply or must be done. Should the guest write to it after all,
     * nothing is lost: a page that is not zero when it is collected becomes RAM. */
    P2M_GIVEN,
};

/* Index of a superpage of guest RAM; P2M_NONE ends lists. */
typedef uint32_t p2m_index_t;
#define P2M_NONE UINT32_MAX

enum p2m_flags {
    /* The whole superpage is mapped as one huge page, as far as we know: the
     * kernel may split it without telling. */
    P2M_HUGE = 1,
    /* A page table may stand at this place of the host's page tables, in
     * which case a huge page cannot arrive here in one piece. */
    P2M_TABLE = 2,
    /* A sweep found it whole, and a page that is not zero in it. It is swept page
     * by page from then on, until all of it has left. */
    P2M_MIXED = 4,
    /* There is no such memory: it was taken away. */
    P2M_ABSENT = 8,
};

struct p2m_entry {
    p2m_index_t next, prev;   /* on the populated list, if ram + given > 0 */
    uint32_t birth_low;       /* p2m.births when it joined the list: 40 bits of it, */
    uint8_t birth_high;       /* in two parts so that an entry stays at 20 bytes */
    uint8_t flags;            /* enum p2m_flags */
    uint16_t ram, out, given; /* pages in that state */
};

/* RAM: present. OUT: up. GIVEN: both. POD: neither. */
struct p2m_split {
    struct bitmap present, up;
};

struct p2m {
    pages_t max_pages; /* that there are */
    pages_t end_pages; /* gfns are below this; max_pages if no superpage is absent */
    p2m_index_t room;  /* superpages that there is metadata for */
    pages_t ram_pages, out_pages, given_pages;
    p2m_index_t count;                  /* of superpages, the short one and absent ones included */
    p2m_index_t oldest, newest;         /* ends of the populated list */
    p2m_index_t populated;              /* its length */
    uint64_t births;                    /* entries that ever joined it */
    p2m_index_t sweep_hand, eager_hand; /* see reclaim.c; move on when their entry leaves */
    struct p2m_entry *entries;
    struct p2m_split *splits;
};

/* Bytes of zeroed memory that p2m_init needs for a domain of at most span_pages. Most
 * of it is never touched: an entry (20 bytes) a superpage is, and 128 bytes
 * more for each superpage that was ever split. */
size_t p2m_metadata_bytes(pages_t span_pages);

/* Makes a p2m of max_pages gfns, all POD, which may grow to span_pages, in `metadata`:
 * zeroed, 8-byte aligned, p2m_metadata_bytes(span_pages) long, owned by the caller. */
void p2m_init(struct p2m *p2m, pages_t max_pages, pages_t span_pages, void *metadata);

/* Whether all of [at, at + pages) is there. Work: proportional to `pages`, if anything
 * is absent. */
bool p2m_exists(const struct p2m *p2m, gfn_t at, pages_t pages);

/* Adds that many pages, a multiple of 512, all POD, where there is room for them in one
 * piece. -ENOSPC if there is none; -EINVAL if the last superpage is a short one. */
int p2m_plug(struct p2m *p2m, pages_t pages, gfn_t *at);

/* Takes superpages away, which must exist. -EBUSY if a page of them is in place. */
int p2m_unplug(struct p2m *p2m, gfn_t at, pages_t pages);

static inline p2m_index_t p2m_index(gfn_t at)
{
    return (p2m_index_t)(at.n / SUPERPAGE_PAGES);
}

static inline gfn_t p2m_first_gfn(p2m_index_t index)
{
    return gfn((uint64_t)index * SUPERPAGE_PAGES);
}

/* Pages of a superpage: 512, or fewer for the last. (An absent one has as many.) */
pages_t p2m_superpage_pages(const struct p2m *p2m, p2m_index_t index);

/* How many entries joined the populated list since this one did, which is on
 * it, itself included: the newest is of age 1. */
uint64_t p2m_age(const struct p2m *p2m, p2m_index_t index);

/* The entry that the sweep hand points to, after which it moves on: round and
 * round the populated list, which must not be empty. */
p2m_index_t p2m_advance_sweep_hand(struct p2m *p2m);

/* The state of one gfn, which must exist. */
enum p2m_state p2m_get(const struct p2m *p2m, gfn_t at);

/* The length of the run of gfns in the same state as `at` that starts there,
 * ends within its superpage, and is at most `limit`. */
pages_t p2m_run(const struct p2m *p2m, gfn_t at, pages_t limit);

/* Whether all pages of a superpage of full size, not absent, are in that state. */
bool p2m_whole(const struct p2m *p2m, p2m_index_t index, enum p2m_state state);

/* Puts [at, at + pages), which lies within one superpage, into a state.
 * Clears P2M_HUGE unless all pages of the superpage stay in place, and P2M_MIXED
 * if none does. */
void p2m_set(struct p2m *p2m, gfn_t at, pages_t pages, enum p2m_state state);

static inline pages_t p2m_pod_pages(const struct p2m *p2m)
{
    return p2m->max_pages - p2m->ram_pages - p2m->out_pages - p2m->given_pages;
}

/* Evaluates the equations above. NULL, or the one that does not hold. */
const char *p2m_check(const struct p2m *p2m);

#endif
