/* SPDX-License-Identifier: MIT */
/*
 * Everything that the engine asks of the host, in one table.
 *
 * The engine makes no system call and knows no address: it names guest pages
 * by gfn and cached pages by cfn. The Linux host (host/linux_ops.c) carries
 * these out with userfaultfd and madvise; the tests (tests/lib/fake_host.c)
 * carry them out on invented pages, and fail them on schedule.
 *
 * Calls come one at a time, under the lock that guards the domain. None may
 * call back into the engine, allocate, or touch a guest page that may be
 * missing.
 *
 * Errors have these meanings and no others. Which errno of which system call
 * becomes which of them is decided in host/verdict.c.
 *
 *   -EBUSY    something else refers to this page (a DMA pin, a share); the
 *             page stays where it is. Others may work: skip it.
 *   -EAGAIN   the host cannot do it just now (its memory map is changing, or
 *             it has no memory for a page table). The same call may work later.
 *   -EEXIST   the destination holds a page already.
 *   -ENOENT   the source holds no page.
 *   -ENOMEM   the host has no memory to give (allocate only).
 *   -EOPNOTSUPP  this host cannot do this at all (flatten only).
 *   -ESRCH    the process is going away; nothing further will work.
 *   -EIO      anything else: the host does not do what it must.
 */
#ifndef BALLAST_ENGINE_OPS_H
#define BALLAST_ENGINE_OPS_H

#include "base/types.h"

struct engine_ops {
    /*
     * Moves `pages` pages from the cache into the guest, and wakes whoever
     * waits for them. Neither range crosses a superpage boundary.
     *
     * Writes to *moved, whatever it returns, how many pages went across: the
     * first *moved of the range did, the rest did not. An error is about the
     * page that follows those.
     *
     * A whole superpage whose source is one huge page arrives as one huge page
     * if the destination has no page table (see flatten_guest).
     */
    int (*place)(void *host, cfn_t from, gfn_t to, pages_t pages, pages_t *moved);

    /*
     * The other way: from the guest into the cache. When it returns, nobody
     * can write to the pages that went across: neither a vCPU nor a device.
     * Whoever touches them waits until place() or wake().
     */
    int (*take)(void *host, gfn_t from, cfn_t to, pages_t pages, pages_t *moved);

    /* Wakes whoever waits for pages that are in the guest already. */
    void (*wake)(void *host, gfn_t at, pages_t pages);

    /*
     * A quick look at guest pages that are in place, while the guest runs:
     * returns the length of the leading run of pages that look as asked,
     * where a page "looks zero" if its first and last bytes are zero. A page that looks
     * zero need not be; one that does not is not.
     */
    pages_t (*glance)(void *host, gfn_t at, pages_t pages, bool zero);

    /* Compares cached pages in full: the length of the leading run of pages
     * that hold only zeros, or less if the host is in a hurry: what it did not
     * look at counts as not zero. */
    pages_t (*compare)(void *host, cfn_t at, pages_t pages);

    /* Fills cached pages with zeros. */
    void (*scrub)(void *host, cfn_t at, pages_t pages);

    /* Fills guest pages that are in place with zeros: pages that the guest gave
     * up, or discarded while something else holds them. */
    void (*clear_guest)(void *host, gfn_t at, pages_t pages);

    /*
     * Brings new zeroed pages from the host into an empty part of the cache,
     * huge where it can. All or nothing: on error the part is empty again.
     * The range may span superpages.
     */
    int (*allocate)(void *host, cfn_t at, pages_t pages);

    /* Gives cached pages back to the host: all, or none on error. */
    int (*release)(void *host, cfn_t at, pages_t pages);

    /*
     * Removes the page table that single pages left behind at a superpage of
     * the guest, or of the cache, in which no page is in place: without it a
     * superpage can arrive there in one piece. Never harms the contents.
     */
    int (*flatten_guest)(void *host, gfn_t at);
    int (*flatten_cache)(void *host, cfn_t at);
};

#endif
