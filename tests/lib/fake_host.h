/* SPDX-License-Identifier: MIT */
/*
 * A host of invented pages: carries out the engine's operations without a
 * system call, checks what a kernel would check, and fails on schedule.
 *
 * A page has no bytes but a token: 0 stands for a page of zeros, any other
 * value for that content. A page with a token may still "look zero" to a
 * glance. Memory is kept by superpage and only where something was touched, so
 * that a domain of 16 TiB costs little.
 *
 * What it vouches for, call by call; the first breach is kept in `violation`:
 *
 *   a range lies within one superpage and within max, or the cache's span
 *   (allocate and release: within the span)
 *   glances and clear_guest touch pages that are in place only
 *   compare and scrub touch cached pages that are there only
 *   a page whose token is not 0 is placed nowhere but where it was taken from
 *   a flattened superpage holds no page
 *
 * A missing source is -ENOENT and an occupied destination -EEXIST, as the
 * kernel has it.
 *
 * Huge pages are followed on both sides. A whole superpage moves in one piece
 * if it is huge and the place where it goes has no page table; anything else
 * splits it and leaves tables at both ends.
 */
#ifndef BALLAST_TESTS_FAKE_HOST_H
#define BALLAST_TESTS_FAKE_HOST_H

#include "engine/domain.h"

enum fake_op {
    FAKE_PLACE,
    FAKE_TAKE,
    FAKE_WAKE,
    FAKE_GLANCE,
    FAKE_COMPARE,
    FAKE_SCRUB,
    FAKE_CLEAR_GUEST,
    FAKE_ALLOCATE,
    FAKE_RELEASE,
    FAKE_FLATTEN_GUEST,
    FAKE_FLATTEN_CACHE,
    FAKE_OPS,
};

extern const char *const fake_op_names[FAKE_OPS];

/* One call of an operation, as the hooks see it. What an operation does not
 * have (a glance has no cfn) is 0. */
struct fake_call {
    enum fake_op op;
    gfn_t guest;
    cfn_t cache;
    pages_t pages;
};

struct fake_superpage {
    struct fake_block *block; /* NULL: no page, or 512 pages of zeros */
    uint16_t present;
    bool huge;
    bool table; /* a page table stands here, whether it holds pages or not */
    bool dirty; /* changed since fake_host_compare looked */
};

struct fake_side {
    uint32_t count;
    pages_t limit_pages;
    pages_t present_pages;
    struct fake_superpage *superpages;
    uint32_t *dirty;
    uint32_t dirty_count;
};

/* The next failures of an operation: let `skip` calls go by, then fail `times`
 * calls (0: all that follow) with `err` after `after` pages went across. */
struct fake_failure {
    enum fake_op op;
    int err;
    unsigned skip;
    unsigned times;
    pages_t after;
};

#define FAKE_FAILURES 8

struct fake_host {
    struct fake_side guest, cache;
    pages_t foreign_pages;                   /* see fake_intrude */
    struct fake_block *blocks, *free_blocks; /* all there are; those not in use */

    uint64_t calls[FAKE_OPS];
    uint64_t pages[FAKE_OPS];  /* went across, were looked at, compared, ... */
    uint64_t failed[FAKE_OPS]; /* calls that failed as scheduled or by chance */
    const char *violation;

    bool no_huge; /* allocate finds no huge pages */
    /* The engine cannot know what is huge: no_huge, or fake_guest_split. */
    bool silent_splits;

    /* Called before and after each operation; may use the guest's functions
     * below. */
    void (*before)(void *context, const struct fake_call *call);
    void (*after)(void *context, const struct fake_call *call);
    void *context;

    struct fake_failure failures[FAKE_FAILURES];
    size_t failure_count;
    uint64_t random;          /* state of the generator */
    uint32_t fail_one_in;     /* 0: never; errors that the engine must live with */
    uint32_t fatal_one_in;    /* 0: never; errors after which it may not go on */
    uint64_t random_failures; /* so many were drawn, of both kinds */
};

extern const struct engine_ops fake_ops;

/* A host for a domain of max_pages whose cache spans span_pages. */
void fake_host_init(struct fake_host *host, pages_t max_pages, pages_t span_pages);
void fake_host_free(struct fake_host *host);

/* Adds a failure to the schedule. */
void fake_host_fail(struct fake_host *host, struct fake_failure failure);

/* Forgets all failures, scheduled and random. */
void fake_host_heal(struct fake_host *host);

/* Pages that this host has given: in the guest, in the cache. */
static inline pages_t fake_host_resident(const struct fake_host *host)
{
    return host->guest.present_pages + host->cache.present_pages;
}

/* What the guest, or something on its behalf, does. `false`: the page is not
 * in place, so that it would have to wait for it. */
bool fake_guest_has(const struct fake_host *host, gfn_t at);
bool fake_guest_write(struct fake_host *host, gfn_t at, uint32_t token);
/* Writes a token that a glance does not see. */
bool fake_guest_write_hidden(struct fake_host *host, gfn_t at, uint32_t token);
bool fake_guest_read(const struct fake_host *host, gfn_t at, uint32_t *token);
/* The tokens of a superpage's 512 pages, 0 where no page is in place; good until
 * anything changes. */
const uint32_t *fake_guest_tokens(const struct fake_host *host, p2m_index_t index);
/* While it is pinned a page cannot be moved: -EBUSY. */
bool fake_guest_pin(struct fake_host *host, gfn_t at, bool pinned);

/* The same for a cached page. */
void fake_cache_pin(struct fake_host *host, cfn_t at, bool pinned);

/* Has the next comparison look at these gfns though the host saw no change:
 * the ledger alone may have changed. */
void fake_host_touched(struct fake_host *host, gfn_t at, pages_t pages);

/* Somebody else puts a page in a place where there is none. */
void fake_intrude(struct fake_host *host, gfn_t at, uint32_t token);

/* Somebody else takes a page away. */
void fake_guest_lose(struct fake_host *host, gfn_t at);
void fake_cache_lose(struct fake_host *host, cfn_t at);

/* The kernel splits the huge page at `at` without telling. */
void fake_guest_split(struct fake_host *host, gfn_t at);

/* It makes one huge page of a superpage all of whose pages are in place. */
void fake_guest_merge(struct fake_host *host, gfn_t at);

/* The memory of a superpage without pages is unmapped, and its page table with it. */
void fake_guest_unmap(struct fake_host *host, gfn_t at);

/* Whether a superpage of either side is one huge page; has a page table. */
bool fake_guest_is_huge(const struct fake_host *host, gfn_t at);
bool fake_guest_has_table(const struct fake_host *host, gfn_t at);
bool fake_cache_is_huge(const struct fake_host *host, cfn_t at);

/*
 * Compares the host with what the domain's ledgers say: which page is in place,
 * which in the cache, that all cached pages hold zeros, and, unless the kernel split
 * behind the engine's back, that what it calls huge or free of page tables is. With `all`,
 * everywhere; without, where something changed since the last time, and the sums. NULL, or what
 * disagrees.
 */
const char *fake_host_compare(struct fake_host *host, const struct domain *domain, bool all);

#endif
