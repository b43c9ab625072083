/* SPDX-License-Identifier: MIT */
/* The engine's operations on real memory, where they succeed: what moves,
 * whether it stays in one piece, what it holds, and where the kernel has it. */
#include "fixture.h"

#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Since 6.4, and in newer headers. */
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

#define OPS (&linux_host_ops)

#define RAM_PAGES   (4 * SUPERPAGE_PAGES)
#define CACHE_PAGES (8 * SUPERPAGE_PAGES)

static void allocate_and_release(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    assert_resident(&f, 0, 0);
    /* More than one superpage, and a piece. */
    must_allocate(&f, cfn(0), 3 * SUPERPAGE_PAGES);
    assert_resident(&f, 0, 3 * SUPERPAGE_PAGES);
    must_allocate(&f, cfn(3 * SUPERPAGE_PAGES), 7);
    assert_resident(&f, 0, 3 * SUPERPAGE_PAGES + 7);
    assert_int_equal(OPS->compare(&f.host, cfn(0), 3 * SUPERPAGE_PAGES + 7),
                     3 * SUPERPAGE_PAGES + 7);
    /* In the middle, and all of it. */
    assert_int_equal(OPS->release(&f.host, cfn(100), 50), 0);
    assert_resident(&f, 0, 3 * SUPERPAGE_PAGES + 7 - 50);
    assert_int_equal(OPS->release(&f.host, cfn(0), 100), 0);
    assert_int_equal(OPS->release(&f.host, cfn(150), 3 * SUPERPAGE_PAGES + 7 - 150), 0);
    assert_resident(&f, 0, 0);
    fixture_close(&f);
}

static void fill(const struct fixture *f, gfn_t at, pages_t pages)
{
    for (pages_t i = 0; i < pages; i++) {
        page_fill(ram_page(f, gfn_add(at, i)), at.n + i + 1);
    }
}

static void check_ram(const struct fixture *f, gfn_t at, pages_t pages, uint64_t seed)
{
    for (pages_t i = 0; i < pages; i++) {
        assert_true(page_holds(ram_page(f, gfn_add(at, i)), seed + i));
    }
}

static void check_cache(const struct fixture *f, cfn_t at, pages_t pages, uint64_t seed)
{
    for (pages_t i = 0; i < pages; i++) {
        assert_true(page_holds(cache_page(f, cfn_add(at, i)), seed + i));
    }
}

static void contents_go_along(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    assert_resident(&f, SUPERPAGE_PAGES, 0);
    for (pages_t i = 0; i < SUPERPAGE_PAGES; i++) {
        assert_true(page_is_zero(ram_page(&f, gfn(SUPERPAGE_PAGES + i))));
    }
    fill(&f, gfn(SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    must_take(&f, gfn(SUPERPAGE_PAGES), cfn(2 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    assert_resident(&f, 0, SUPERPAGE_PAGES);
    check_cache(&f, cfn(2 * SUPERPAGE_PAGES), SUPERPAGE_PAGES, SUPERPAGE_PAGES + 1);
    /* Runs of every small length, to other places in another order. */
    pages_t done = 0;
    for (pages_t run = 1; done + run <= SUPERPAGE_PAGES; run++) {
        gfn_t to = gfn(SUPERPAGE_PAGES - done - run);
        must_place(&f, cfn(2 * SUPERPAGE_PAGES + done), to, run);
        check_ram(&f, to, run, SUPERPAGE_PAGES + 1 + done);
        done += run;
        assert_resident(&f, done, SUPERPAGE_PAGES - done);
    }
    fixture_close(&f);
}

/* A cache of two superpages that are huge, or a visible skip. */
static void open_huge(struct fixture *f)
{
    fixture_open(f, RAM_PAGES, CACHE_PAGES);
    must_allocate(f, cfn(0), 2 * SUPERPAGE_PAGES);
    if (cache_huge(f) != 2) {
        fixture_close(f);
        skip_because("this host gives no huge pages (transparent_hugepage/enabled, or no free "
                     "2 MiB pieces)");
    }
}

static void a_superpage_stays_whole(void **unused)
{
    (void)unused;
    struct fixture f;
    open_huge(&f);
    for (int round = 0; round < 3; round++) {
        must_place(&f, cfn(0), gfn(2 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
        assert_int_equal(ram_huge(&f), 1);
        assert_int_equal(cache_huge(&f), 1);
        assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES);
        fill(&f, gfn(2 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
        must_take(&f, gfn(2 * SUPERPAGE_PAGES), cfn(4 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
        assert_int_equal(ram_huge(&f), 0);
        assert_int_equal(cache_huge(&f), 2);
        assert_resident(&f, 0, 2 * SUPERPAGE_PAGES);
        check_cache(&f, cfn(4 * SUPERPAGE_PAGES), SUPERPAGE_PAGES, 2 * SUPERPAGE_PAGES + 1);
        /* Back to where it began: those places have no page table either. */
        must_place(&f, cfn(4 * SUPERPAGE_PAGES), gfn(0), SUPERPAGE_PAGES);
        must_take(&f, gfn(0), cfn(0), SUPERPAGE_PAGES);
        assert_int_equal(cache_huge(&f), 2);
    }
    fixture_close(&f);
}

/* One page of a superpage goes: the rest stays, in small pages, as it was. */
static void a_single_splits(void **unused)
{
    (void)unused;
    struct fixture f;
    open_huge(&f);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    fill(&f, gfn(0), SUPERPAGE_PAGES);
    must_take(&f, gfn(5), cfn(3 * SUPERPAGE_PAGES + 77), 1);
    assert_int_equal(ram_huge(&f), 0);
    assert_int_equal(cache_huge(&f), 1);
    assert_resident(&f, SUPERPAGE_PAGES - 1, SUPERPAGE_PAGES + 1);
    check_cache(&f, cfn(3 * SUPERPAGE_PAGES + 77), 1, 6);
    check_ram(&f, gfn(0), 5, 1);
    check_ram(&f, gfn(6), SUPERPAGE_PAGES - 6, 7);
    fixture_close(&f);
}

/* Linux 6.12 and newer give zero pages of a huge page that they break up back
 * to the host. Whatever is done to part of a superpage, none may go. */
static void breaking_up_loses_nothing(void **unused)
{
    (void)unused;
    struct fixture f;
    const pages_t all = 2 * SUPERPAGE_PAGES;
    /* A single page placed, out of a whole cached superpage. */
    open_huge(&f);
    must_place(&f, cfn(17), gfn(0), 1);
    assert_resident(&f, 1, all - 1);
    assert_int_equal(OPS->compare(&f.host, cfn(18), SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    /* Once more, now that the first is known to be in pieces: it is whole again. */
    must_take(&f, gfn(0), cfn(17), 1);
    must_place(&f, cfn(0), gfn(SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    must_place(&f, cfn(SUPERPAGE_PAGES), gfn(0), SUPERPAGE_PAGES);
    must_take(&f, gfn(0), cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(3), gfn(0), 5);
    assert_resident(&f, SUPERPAGE_PAGES + 5, SUPERPAGE_PAGES - 5);
    fixture_close(&f);

    /* Single pages taken out of a whole superpage of the guest, some of which
     * hold something; no one of them changes. */
    open_huge(&f);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    fill(&f, gfn(100), 50);
    *(uint64_t *)ram_page(&f, gfn(0)) = 1; /* looks like the splitter's own mark */
    ((char *)ram_page(&f, gfn(7)))[PAGE_BYTES - 1] = 1;
    must_take(&f, gfn(140), cfn(4 * SUPERPAGE_PAGES), 20);
    assert_resident(&f, SUPERPAGE_PAGES - 20, SUPERPAGE_PAGES + 20);
    assert_int_equal(ram_huge(&f), 0);
    assert_int_equal(*(uint64_t *)ram_page(&f, gfn(0)), 1);
    assert_int_equal(((char *)ram_page(&f, gfn(7)))[PAGE_BYTES - 1], 1);
    check_ram(&f, gfn(100), 40, 101);
    check_cache(&f, cfn(4 * SUPERPAGE_PAGES), 10, 141);
    for (pages_t i = 0; i < SUPERPAGE_PAGES; i++) {
        bool filled = i >= 100 && i < 150, taken = i >= 140 && i < 160;
        if (!filled && !taken && i != 0 && i != 7) {
            assert_true(page_is_zero(ram_page(&f, gfn(i))));
        }
    }
    /* Again, with the place aside that has been used before. */
    must_place(&f, cfn(SUPERPAGE_PAGES), gfn(SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    must_take(&f, gfn(SUPERPAGE_PAGES), cfn(5 * SUPERPAGE_PAGES), 1);
    assert_resident(&f, 2 * SUPERPAGE_PAGES - 21, 21);
    fixture_close(&f);

    /* Part of a whole cached superpage given back, at either end. */
    open_huge(&f);
    assert_int_equal(OPS->release(&f.host, cfn(SUPERPAGE_PAGES - 1), 2), 0);
    assert_resident(&f, 0, all - 2);
    assert_int_equal(cache_huge(&f), 0);
    must_place(&f, cfn(5), gfn(5), 1);
    must_place(&f, cfn(SUPERPAGE_PAGES + 5), gfn(6), 1);
    assert_resident(&f, 2, all - 4);
    fixture_close(&f);
}

/* Leaves a page table in an empty superpage of guest RAM, or of the cache. */
static void leave_tables(struct fixture *f, gfn_t guest, cfn_t cache, cfn_t page)
{
    must_place(f, page, guest, 1);
    must_take(f, guest, cache, 1);
    must_place(f, cache, guest, 1);
    must_take(f, guest, page, 1);
}

/* A whole superpage onto a place with a page table, in both directions: the
 * kernel breaks it up of itself. */
static void arriving_in_pieces_loses_nothing(void **unused)
{
    (void)unused;
    struct fixture f;
    open_huge(&f);
    f.host.frees_page_tables = false; /* as before Linux 6.14 */
    must_allocate(&f, cfn(6 * SUPERPAGE_PAGES), 1);
    leave_tables(&f, gfn(0), cfn(4 * SUPERPAGE_PAGES), cfn(6 * SUPERPAGE_PAGES));
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    assert_int_equal(ram_huge(&f), 0);
    assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES + 1);
    must_place(&f, cfn(SUPERPAGE_PAGES), gfn(SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    assert_int_equal(ram_huge(&f), 1);
    must_take(&f, gfn(SUPERPAGE_PAGES), cfn(4 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
    assert_int_equal(cache_huge(&f), 0);
    assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES + 1);
    fixture_close(&f);
}

/* Where the kernel frees page tables, one that nobody knew of does not stand in the
 * way: a fault leaves one where the kernel had no huge page. */
static void a_page_table_is_cleared_away(void **unused)
{
    (void)unused;
    struct fixture f;
    open_huge(&f);
    must_allocate(&f, cfn(6 * SUPERPAGE_PAGES), 1);
    leave_tables(&f, gfn(0), cfn(4 * SUPERPAGE_PAGES), cfn(6 * SUPERPAGE_PAGES));
    if (f.host.frees_page_tables) {
        must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
        assert_int_equal(ram_huge(&f), 1);
        must_take(&f, gfn(0), cfn(4 * SUPERPAGE_PAGES), SUPERPAGE_PAGES);
        assert_int_equal(ram_huge(&f), 0);
        assert_int_equal(cache_huge(&f), 2);
    }
    fixture_close(&f);
}

/* mlockall, as `-overcommit mem-lock=on` has it: MADV_DONTNEED would refuse. */
static int release_locked(void *unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved;
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
        return 77;
    }
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    child_check(OPS->allocate(&f.host, cfn(0), SUPERPAGE_PAGES + 1) == 0);
    child_check(OPS->place(&f.host, cfn(0), gfn(0), 3, &moved) == 0);
    child_check(OPS->take(&f.host, gfn(1), cfn(1), 1, &moved) == 0);
    child_check(ram_resident(&f) == 2 && cache_resident(&f) == SUPERPAGE_PAGES - 1);
    child_check(OPS->release(&f.host, cfn(3), SUPERPAGE_PAGES - 3) == 0);
    child_check(OPS->release(&f.host, cfn(1), 1) == 0);
    child_check(OPS->release(&f.host, cfn(SUPERPAGE_PAGES), 1) == 0);
    child_check(ram_resident(&f) == 2 && cache_resident(&f) == 0);
    int flattened = OPS->flatten_cache(&f.host, cfn(0));
    child_check(flattened == (f.host.frees_page_tables ? 0 : -EOPNOTSUPP));
    return 0;
}

static void locked_memory(void **unused)
{
    (void)unused;
    int status = in_child(release_locked, NULL);
    if (status == 77) {
        skip_because("this user may not lock memory (ulimit -l)");
    }
    assert_int_equal(status, 0);
}

static void flattening(void **unused)
{
    (void)unused;
    struct fixture f;
    open_huge(&f);
    const gfn_t guest = gfn(SUPERPAGE_PAGES);
    const cfn_t cache = cfn(4 * SUPERPAGE_PAGES), page = cfn(6 * SUPERPAGE_PAGES);
    must_allocate(&f, page, 1);
    leave_tables(&f, guest, cache, page);
    assert_resident(&f, 0, 2 * SUPERPAGE_PAGES + 1);
    if (!f.host.frees_page_tables) {
        assert_int_equal(OPS->flatten_guest(&f.host, guest), -EOPNOTSUPP);
        assert_int_equal(OPS->flatten_cache(&f.host, cache), -EOPNOTSUPP);
        fixture_close(&f);
        skip_because("this kernel does not free empty page tables (Linux 6.14 does)");
    }
    /* Without it the superpage arrives in pieces: this is what it is for. */
    f.host.frees_page_tables = false;
    must_place(&f, cfn(0), guest, SUPERPAGE_PAGES);
    assert_int_equal(ram_huge(&f), 0);
    assert_int_equal(cache_huge(&f), 1);
    assert_int_equal(OPS->release(&f.host, page, 1), 0);
    must_take(&f, guest, cfn(0), SUPERPAGE_PAGES);
    assert_resident(&f, 0, 2 * SUPERPAGE_PAGES);

    /* With it, in one; and back into the cache likewise. */
    f.host.frees_page_tables = true;
    assert_int_equal(OPS->flatten_guest(&f.host, guest), 0);
    assert_resident(&f, 0, 2 * SUPERPAGE_PAGES);
    must_place(&f, cfn(SUPERPAGE_PAGES), guest, SUPERPAGE_PAGES);
    assert_int_equal(ram_huge(&f), 1);
    fill(&f, guest, SUPERPAGE_PAGES);
    assert_int_equal(OPS->flatten_cache(&f.host, cache), 0);
    must_take(&f, guest, cache, SUPERPAGE_PAGES);
    assert_int_equal(cache_huge(&f), 1);
    check_cache(&f, cache, SUPERPAGE_PAGES, SUPERPAGE_PAGES + 1);
    assert_resident(&f, 0, 2 * SUPERPAGE_PAGES);
    fixture_close(&f);
}

static void glance(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    assert_int_equal(OPS->glance(&f.host, gfn(0), SUPERPAGE_PAGES, true), SUPERPAGE_PAGES);
    assert_int_equal(OPS->glance(&f.host, gfn(0), SUPERPAGE_PAGES, false), 0);
    /* The first cache line decides, and the last, wherever in them the bit is. */
    for (unsigned at = 0; at < 1024; at++) {
        unsigned bit = at < 512 ? at : at + PAGE_BYTES * 8 - 1024;
        ((char *)ram_page(&f, gfn(9)))[bit / 8] = (char)(1 << bit % 8);
        assert_int_equal(OPS->glance(&f.host, gfn(0), 20, true), 9);
        assert_int_equal(OPS->glance(&f.host, gfn(9), 20, false), 1);
        assert_int_equal(OPS->glance(&f.host, gfn(9), 1, false), 1);
        ((char *)ram_page(&f, gfn(9)))[bit / 8] = 0;
    }
    /* What is between it may miss: compare does not. */
    ((char *)ram_page(&f, gfn(9)))[PAGE_BYTES / 2] = 1;
    assert_int_equal(OPS->glance(&f.host, gfn(0), 20, true), 20);
    must_take(&f, gfn(0), cfn(0), SUPERPAGE_PAGES);
    assert_int_equal(OPS->compare(&f.host, cfn(0), SUPERPAGE_PAGES), 9);
    fixture_close(&f);
}

static void compare(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), 4);
    unsigned char *page = cache_page(&f, cfn(2));
    for (size_t i = 0; i < PAGE_BYTES; i++) {
        page[i] = 0x80;
        assert_int_equal(OPS->compare(&f.host, cfn(0), 4), 2);
        assert_int_equal(OPS->compare(&f.host, cfn(2), 1), 0);
        page[i] = 0;
    }
    assert_int_equal(OPS->compare(&f.host, cfn(0), 4), 4);
    fixture_close(&f);
}

static void scrub_and_clear(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), 8);
    must_place(&f, cfn(0), gfn(0), 8);
    fill(&f, gfn(0), 8);
    OPS->clear_guest(&f.host, gfn(3), 1);
    check_ram(&f, gfn(0), 3, 1);
    assert_true(page_is_zero(ram_page(&f, gfn(3))));
    check_ram(&f, gfn(4), 4, 5);
    must_take(&f, gfn(0), cfn(0), 8);
    OPS->scrub(&f.host, cfn(4), 3);
    assert_int_equal(OPS->compare(&f.host, cfn(3), 4), 4);
    check_cache(&f, cfn(0), 3, 1);
    check_cache(&f, cfn(7), 1, 8);
    assert_resident(&f, 0, 8);
    fixture_close(&f);
}

static void find(void **unused)
{
    (void)unused;
    struct fixture f;
    gfn_t at = gfn(12345);
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    assert_true(linux_host_find(&f.host, f.ram, &at));
    assert_int_equal(at.n, 0);
    assert_true(linux_host_find(&f.host, haddr_add(f.ram, 3 * PAGE_BYTES + 4095), &at));
    assert_int_equal(at.n, 3);
    assert_true(linux_host_find(&f.host, haddr_add(f.ram, pages_to_bytes(RAM_PAGES) - 1), &at));
    assert_int_equal(at.n, RAM_PAGES - 1);
    at = gfn(12345);
    assert_false(linux_host_find(&f.host, haddr_add(f.ram, pages_to_bytes(RAM_PAGES)), &at));
    assert_false(linux_host_find(&f.host, (haddr_t){f.ram.a - 1}, &at));
    assert_false(linux_host_find(&f.host, f.host.cache, &at));
    assert_int_equal(at.n, 12345);
    fixture_close(&f);
}

/* After close guest RAM is what it was before: a touch brings a page. */
static void closing(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(0), 1);
    fill(&f, gfn(0), 1);
    linux_host_close(&f.host);
    check_ram(&f, gfn(0), 1, 1);
    fill(&f, gfn(SUPERPAGE_PAGES), 3);
    check_ram(&f, gfn(SUPERPAGE_PAGES), 3, SUPERPAGE_PAGES + 1);
    fixture_unmap(&f);
}

static atomic_bool compacting;

/* Makes holes in the machine's memory and has the kernel close them, which it
 * does by migrating pages: ours among others. */
static void *compact(void *unused)
{
    (void)unused;
    const size_t bytes = 64 * MIB;
    while (atomic_load(&compacting)) {
        char *holes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
        madvise(holes, bytes, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < bytes; at += PAGE_BYTES) {
            holes[at] = 1;
        }
        for (size_t at = 0; at < bytes; at += 2 * PAGE_BYTES) {
            madvise(holes + at, PAGE_BYTES, MADV_DONTNEED);
        }
        if (fd < 0 || write(fd, "1", 1) != 1) {
            atomic_store(&compacting, false);
        }
        close(fd);
        munmap(holes, bytes);
    }
    return NULL;
}

#define MIGRATING_PAGES  (32 * SUPERPAGE_PAGES)
#define MIGRATING_ROUNDS 150

/* While the kernel migrates pages it may say "again" in the middle of a move.
 * What it moved must be counted all the same (6.18 forgets some of it). */
static void moves_of_migrating_pages(void **unused)
{
    (void)unused;
    struct fixture f;
    pthread_t thread;
    const uint64_t bytes = pages_to_bytes(MIGRATING_PAGES);
    if (access("/proc/sys/vm/compact_memory", W_OK) != 0) {
        skip_because("only root can make the kernel compact memory");
    }
    fixture_map(&f, MIGRATING_PAGES);
    /* Single pages, from all over the machine's memory. */
    madvise((void *)f.ram.a, bytes, MADV_NOHUGEPAGE);
    fill(&f, gfn(0), MIGRATING_PAGES);
    assert_int_equal(linux_host_open(&f.host, f.ram, bytes, bytes), 0);
    assert_resident(&f, MIGRATING_PAGES, 0);
    atomic_store(&compacting, true);
    assert_int_equal(pthread_create(&thread, NULL, compact, NULL), 0);
    for (int round = 0; round < MIGRATING_ROUNDS; round++) {
        haddr_t from = round % 2 == 0 ? f.ram : f.host.cache;
        haddr_t to = round % 2 == 0 ? f.host.cache : f.ram;
        for (uint64_t done = 0, moved = 0; done < bytes; done += moved) {
            int err = uffd_move(&f.host.split.mover, haddr_add(to, done), haddr_add(from, done),
                                bytes - done, false, &moved);
            assert_true(err == 0 || err == -EAGAIN || err == -EBUSY);
        }
    }
    bool compacted = atomic_exchange(&compacting, false);
    pthread_join(thread, NULL);
    assert_resident(&f, MIGRATING_PAGES, 0);
    check_ram(&f, gfn(0), MIGRATING_PAGES, 1);
    fixture_close(&f);
    if (!compacted) {
        skip_because("this kernel does not compact memory on request");
    }
}

/* Whether KSM may merge the page at `at`, as /proc/self/smaps has it. */
static bool is_mergeable(const void *at)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[512];
    bool inside = false, found = false, mergeable = false;
    while (smaps != NULL && !found && fgets(line, sizeof(line), smaps) != NULL) {
        uintptr_t from, to;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
            inside = (uintptr_t)at >= from && (uintptr_t)at < to;
        }
        found = inside && strncmp(line, "VmFlags:", 8) == 0;
        mergeable = found && strstr(line, " mg") != NULL;
    }
    if (smaps != NULL) {
        fclose(smaps);
    }
    return mergeable;
}

/* A service manager may ask for the merging of all that a process has. */
#define NO_KSM 2
static int merge_all(void *unused)
{
    (void)unused;
    if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) != 0) {
        return NO_KSM;
    }
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    void *other =
        mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    child_check(is_mergeable(other));
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    child_check(!is_mergeable(ram_page(&f, gfn(0))));
    child_check(!is_mergeable(cache_page(&f, cfn(0))));
    must_take(&f, gfn(0), cfn(SUPERPAGE_PAGES), 1); /* breaks it up, in a place aside */
    child_check(!is_mergeable((void *)f.host.split.spare.a));
    child_check(!is_mergeable((void *)f.host.split.aside.a));
    return 0;
}

static void nothing_is_merged(void **unused)
{
    (void)unused;
    int status = in_child(merge_all, NULL);
    if (status == NO_KSM) {
        skip_because("the kernel does not merge all of a process");
    }
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocate_and_release),
        cmocka_unit_test(contents_go_along),
        cmocka_unit_test(a_superpage_stays_whole),
        cmocka_unit_test(a_single_splits),
        cmocka_unit_test(breaking_up_loses_nothing),
        cmocka_unit_test(arriving_in_pieces_loses_nothing),
        cmocka_unit_test(a_page_table_is_cleared_away),
        cmocka_unit_test(locked_memory),
        cmocka_unit_test(flattening),
        cmocka_unit_test(glance),
        cmocka_unit_test(compare),
        cmocka_unit_test(scrub_and_clear),
        cmocka_unit_test(find),
        cmocka_unit_test(moves_of_migrating_pages),
        cmocka_unit_test(closing),
        cmocka_unit_test(nothing_is_merged),
    };
    return fixture_available() ? cmocka_run_group_tests_name("host_moves", tests, NULL, NULL) : 77;
}
