/* SPDX-License-Identifier: MIT */
/*
 * The Linux host of one domain: carries out the engine's operations on real
 * memory (ops.h says what each must do).
 *
 *   guest page g  is where its block says (blocks.h)
 *   cached page c is at  cache + c * 4096
 *
 * All of it is private anonymous memory registered with one userfaultfd. A
 * page is resident in one of them from allocate to release; moves keep the sum:
 *
 *   resident(ram) + resident(cache) = the domain's total_pages
 *
 * which is what the kernel's own accounting must show. New pages are faulted
 * in aside and moved into the cache when they are all there, so the sum steps
 * from one total to the next.
 */
#ifndef BALLAST_HOST_LINUX_HOST_H
#define BALLAST_HOST_LINUX_HOST_H

#include "base/lock.h"
#include "engine/ops.h"
#include "host/blocks.h"
#include "host/memory.h"
#include "host/policy.h"
#include "host/split.h"

/* An operation that the host did not do, for reports. */
struct linux_failure {
    const char *operation;
    gfn_t guest;
    cfn_t cache;
    pages_t pages, moved_pages;
    int err, kernel_err; /* ours; the kernel's when it last refused a move */
};

#define LINUX_FAILURES_KEPT 8

struct linux_host {
    int uffd;
    struct blocks ram;
    haddr_t cache;
    uint64_t cache_bytes; /* with the splitter's area at its end */
    struct split split;
    /* A superpage of the cache, and one of guest RAM, of which a page is known
     * to be missing, so that it is no huge page; or nowhere. */
    haddr_t broken_cached, broken_guest;
    /* While not NULL: compare() does not go on when this lock is wanted. Guarded by
     * that lock, which is the one that guards the domain. */
    const struct lock *yields_to;
    struct memory_policy policy; /* of all that pages are moved between */
    bool frees_page_tables;      /* MADV_DONTNEED frees empty page tables (6.14) */
    /* Pages for allocate to take, from the start on; those that are faulted in. */
    haddr_t aside;
    uint64_t aside_bytes, aside_ready_bytes;
    /* Why allocate last gave -ENOMEM: what was to be had, and where. */
    struct memory_spare spare;
    /* The last failures but -EAGAIN and -EBUSY, which are everyday matters; number
     * n is at n % LINUX_FAILURES_KEPT. */
    struct linux_failure failures[LINUX_FAILURES_KEPT];
    uint64_t failures_made;
};

/* The operations; their `host` argument is a struct linux_host. */
extern const struct engine_ops linux_host_ops;

/*
 * Prepares [ram, ram + ram_bytes), which is mapped, private, anonymous, 2 MiB
 * aligned and untouched, and a cache of cache_bytes (a multiple of 2 MiB).
 * From here on whoever touches guest RAM waits for a page.
 *
 *   errors of uffd_open, uffd_register, uffd_can_move and pagemap_open; -ENOMEM if there is no
 * address space for the cache. Nothing is left behind.
 */
int linux_host_open(struct linux_host *host, haddr_t ram, uint64_t ram_bytes, uint64_t cache_bytes);

/*
 * Takes in one more block of guest RAM, as linux_host_open takes the first; and lets one
 * go, of which no page is in place. Under the domain's lock.
 *
 *   errors of uffd_register; -ENOSPC if there are as many as there can be. Nothing has
 *   changed then.
 */
int linux_host_plug(struct linux_host *host, const struct host_block *block);
void linux_host_unplug(struct linux_host *host, const struct host_block *block);

/*
 * Gives a block of guest RAM, and the cache, a policy on the host's NUMA nodes. All blocks
 * have the same, or none: -EOPNOTSUPP if there is another already. Else errors of
 * policy_apply, after which the guest must not run. While nothing is being prepared.
 */
int linux_host_set_policy(struct linux_host *host, haddr_t at, uint64_t bytes,
                          const struct memory_policy *policy);

/*
 * Has memory ready aside, which the next calls of allocate take without waiting
 * for the kernel: so that a domain can grow all or nothing, and its lock is held
 * only for the moves. Begins with it, and does nothing but to see whether the
 * host has that much: else -ENOMEM, and nothing is left behind. Needs no lock but
 * one that keeps out others who prepare.
 */
int linux_host_prepare(struct linux_host *host, uint64_t bytes);

/* Faults in the next piece: a tenth of a second's work on a host whose memory is
 * at hand, far more on one that must find it. *more says whether there is more
 * to do. -ENOMEM: the host has no more. */
int linux_host_prepare_step(struct linux_host *host, bool *more);

/* Gives back what of it was not taken. Under the domain's lock. */
void linux_host_unprepare(struct linux_host *host);

/* Whether a page of guest RAM is in place, by what the kernel says. */
bool linux_host_holds(const struct linux_host *host, gfn_t at);

/* Takes guest RAM away from the guest, all of it, for good: whoever touches it
 * waits for a page that does not come. For a guest whose memory can no longer be
 * vouched for, until its process has ended. Needs no lock. */
void linux_host_freeze(const struct linux_host *host);

/* Has whoever waits for a page go on, with one of zeros, and whoever comes later. The
 * domain is of no use from then on. Needs no lock. */
void linux_host_unregister(const struct linux_host *host);

/* Undoes linux_host_open. Guest RAM is ordinary memory again. */
void linux_host_close(struct linux_host *host);

/* Whether an address lies in guest RAM, and at which gfn. Under the domain's lock. */
static inline bool linux_host_find(const struct linux_host *host, haddr_t at, gfn_t *found)
{
    return blocks_find(&host->ram, at, found);
}

#endif
