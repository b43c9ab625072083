/* SPDX-License-Identifier: MIT */
#include "host/split.h"

#include "base/bitmap.h"
#include "host/pagemap.h"
#include "host/sys.h"
#include "host/uffd.h"

/* As often is a page offered its place again; the host waits a little in each
 * -EAGAIN, so that this is about a second. */
#define PUT_BACK_TRIES 1000

bool split_is_huge(const struct split *split, haddr_t superpage)
{
    return pagemap_is_huge(split->mover.pagemap, superpage);
}

/* The first word of a page: a page is marked if it alone is not zero. */
static uint64_t *first_word(haddr_t at, uint64_t offset)
{
    return (uint64_t *)haddr_add(at, offset).a;
}

void split_mark(haddr_t at, uint64_t bytes)
{
    for (uint64_t offset = 0; offset < bytes; offset += PAGE_BYTES) {
        *first_word(at, offset) = 1;
    }
}

void split_unmark(haddr_t at, uint64_t bytes)
{
    for (uint64_t offset = 0; offset < bytes; offset += PAGE_BYTES) {
        *first_word(at, offset) = 0;
    }
}

void split_refill(struct split *split, haddr_t at, uint64_t bytes)
{
    int pagemap = split->mover.pagemap;
    pages_t lost = pagemap_zero_pages(pagemap, at, bytes);
    haddr_t next = at;
    for (pages_t pages = bytes_to_pages(bytes), run; pages != 0; pages -= run) {
        bool holds;
        run = pagemap_run(pagemap, next, pages, &holds);
        if (holds) { /* touching one that is missing would be to wait for ourselves */
            sys_madvise(next, pages_to_bytes(run), MADV_POPULATE_WRITE);
        }
        next = haddr_add(next, pages_to_bytes(run));
    }
    pages_t left = lost != 0 ? pagemap_zero_pages(pagemap, at, bytes) : 0;
    __atomic_fetch_add(&split->refilled_pages, lost - min_u64(lost, left), __ATOMIC_RELAXED);
}

/* Moves pages to where they belong, which must work. Huge pages stay huge. */
static int put_back(const struct split *split, haddr_t to, haddr_t from, uint64_t bytes, bool wake)
{
    int err = 0;
    for (int tries = 0; bytes != 0 && tries < PUT_BACK_TRIES; tries++) {
        uint64_t moved = 0;
        err = uffd_move(&split->mover, to, from, bytes, wake, &moved);
        to = haddr_add(to, moved);
        from = haddr_add(from, moved);
        bytes -= moved;
        if (err == -ESRCH) {
            return err;
        }
    }
    return bytes == 0 ? 0 : -EIO;
}

int split_hidden(struct split *split, haddr_t superpage)
{
    struct bitmap marked = {0};
    bool holds;
    if (pagemap_run(split->mover.pagemap, superpage, SUPERPAGE_PAGES, &holds) < SUPERPAGE_PAGES ||
        !holds) {
        return 0; /* touching a page that is missing would be to wait for ourselves */
    }
    for (pages_t page = 0; page < SUPERPAGE_PAGES; page++) {
        uint64_t *word = first_word(superpage, pages_to_bytes(page));
        if (*word == 0) {
            *word = 1;
            bitmap_assign(&marked, page, 1, true);
        }
    }
    uint64_t moved = 0;
    int err = uffd_move(&split->mover, split->spare, superpage, PAGE_BYTES, false, &moved);
    if (err == 0) {
        err = put_back(split, superpage, split->spare, PAGE_BYTES, false);
    }
    for (pages_t page = err == -EIO || err == -ESRCH ? SUPERPAGE_PAGES : 0; page < SUPERPAGE_PAGES;
         page++) {
        if (bitmap_test(&marked, page)) {
            *first_word(superpage, pages_to_bytes(page)) = 0;
        }
    }
    return err;
}

/* Maps the place for a guest's superpage afresh: a page table that the last
 * one left there would break the next one up. */
static int renew_aside(const struct split *split)
{
    haddr_t at = {0};
    int err = sys_mmap(split->aside, SUPERPAGE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, &at);
    if (err == 0) {
        sys_madvise(at, SUPERPAGE_BYTES, MADV_DONTFORK); /* see advise() in linux_host.c */
        sys_madvise(at, SUPERPAGE_BYTES, MADV_UNMERGEABLE);
        err = uffd_register(split->mover.uffd, at, SUPERPAGE_BYTES);
    }
    return err == 0 ? 0 : -EAGAIN;
}

int split_guest(struct split *split, haddr_t superpage)
{
    uint64_t moved = 0;
    int err = renew_aside(split);
    if (err == 0) {
        err = uffd_move(&split->mover, split->aside, superpage, SUPERPAGE_BYTES, false, &moved);
    }
    if (moved == SUPERPAGE_BYTES && split_is_huge(split, split->aside)) {
        err = split_hidden(split, split->aside);
    } else {
        split_refill(split, split->aside, moved);
    }
    int back = put_back(split, superpage, split->aside, moved, true);
    return back != 0 ? back : err;
}
