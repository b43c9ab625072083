/* SPDX-License-Identifier: MIT */
#include "touched_ram.h"

#include "guest/state.h"
#include "host/sys.h"
#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Free single pages that a scarce domain starts with: no superpage's worth. */
#define SCARCE_PAGES 400

static struct guest guest = GUEST_INITIALIZER;
static enum server server;
/* What the loop has left to give. */
static struct uffd_mover mover;
static haddr_t pool;
static uint64_t pool_bytes, unit_bytes;
/* What a scarce domain has populated, to be given up again. */
static haddr_t hoard;

__attribute__((noreturn)) static void give_up(const char *what, int err)
{
    fprintf(stderr, "bench_fault: %s: %s\n", what, strerror(err));
    exit(1);
}

static void must(const char *what, int err)
{
    if (err != 0) {
        give_up(what, -err);
    }
}

/* Private anonymous memory, aligned to 2 MiB, merged with no neighbour. */
static haddr_t map(uint64_t bytes, int advice)
{
    haddr_t at = {0};
    must("mmap", sys_mmap((haddr_t){0}, bytes + 2 * SUPERPAGE_BYTES, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &at));
    at.a = (at.a / SUPERPAGE_BYTES + 1) * SUPERPAGE_BYTES;
    must("mmap", sys_mmap(at, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, &at));
    sys_madvise(at, bytes, advice);
    return at;
}

/* A virtual machine's own host may have to find memory that it has not used for
 * a while, which costs milliseconds for 2 MiB: nobody's merit or fault here. */
static void warm(uint64_t bytes)
{
    haddr_t at = map(bytes, MADV_HUGEPAGE);
    must("no memory", sys_madvise(at, bytes, MADV_POPULATE_WRITE));
    sys_munmap(at, bytes);
}

static void touch_first_pages(haddr_t at, uint64_t bytes)
{
    for (uint64_t offset = 0; offset < bytes; offset += SUPERPAGE_BYTES) {
        *(volatile uint64_t *)haddr_add(at, offset).a = 1;
    }
}

/* Gives the next piece of the pool to whoever waits at `at`. */
static void loop_serve(haddr_t at)
{
    uint64_t moved = 0;
    haddr_t to = {at.a / unit_bytes * unit_bytes};
    if (pool_bytes == 0) {
        give_up("the loop has no page left", ENOMEM);
    }
    int err = uffd_move(&mover, to, pool, unit_bytes, true, &moved);
    if (err == -EEXIST && moved == 0) {
        uffd_wake(mover.uffd, to, unit_bytes); /* another thread touched it as well */
        return;
    }
    must("UFFDIO_MOVE", err);
    pool = haddr_add(pool, unit_bytes);
    pool_bytes -= unit_bytes;
}

static void *loop_thread(void *unused)
{
    (void)unused;
    struct pollfd fd = {.fd = mover.uffd, .events = POLLIN};
    for (;;) {
        haddr_t faults[16];
        unsigned count = 0;
        poll(&fd, 1, -1);
        must("read", uffd_read_faults(mover.uffd, faults, 16, &count));
        for (unsigned i = 0; i < count; i++) {
            loop_serve(faults[i]);
        }
    }
    return NULL;
}

static haddr_t make_loop(enum ram_state state, uint64_t bytes)
{
    bool single = state != RAM_WHOLE;
    haddr_t at = map(bytes, MADV_HUGEPAGE);
    unit_bytes = single ? PAGE_BYTES : SUPERPAGE_BYTES;
    pool_bytes = bytes;
    pool = map(bytes, single ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    must("no memory", sys_madvise(pool, bytes, MADV_POPULATE_WRITE));
    must("userfaultfd", uffd_open(&mover.uffd));
    must("userfaultfd", uffd_register(mover.uffd, at, bytes));
    mover.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    for (uint64_t i = 0; state == RAM_SPLIT && i < bytes; i += SUPERPAGE_BYTES) {
        loop_serve(haddr_add(at, i));
    }
    pthread_t thread;
    must("thread", -pthread_create(&thread, NULL, loop_thread, NULL));
    return at;
}

static haddr_t make_kernel(enum ram_state state, uint64_t bytes)
{
    haddr_t at = map(bytes, state == RAM_WHOLE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (state == RAM_SPLIT) {
        touch_first_pages(at, bytes);
    }
    return at;
}

static void on_unserved(void *unused, gfn_t at, int err)
{
    (void)unused;
    (void)at;
    give_up("a page cannot be had", -err);
}

static void on_broken(void *unused, const char *operation, gfn_t at)
{
    (void)unused;
    (void)at;
    give_up(operation, EIO);
}

/* A domain that is not covered. Whole: a fifth of its target is not touched.
 * Split: it was all populated once, and all but the first pages given up.
 * Scarce: another range has all of the target but a few pages. */
static haddr_t make_ballast(enum ram_state state, uint64_t bytes)
{
    const struct guest_options options = {
        .reserve = true, .on_unserved = on_unserved, .on_broken = on_broken};
    struct guest_problem problem;
    haddr_t at = map(2 * bytes, MADV_HUGEPAGE);
    uint64_t spare = bytes / SUPERPAGE_BYTES / 4 * SUPERPAGE_BYTES;
    uint64_t target = bytes + (state == RAM_SCARCE ? 0 : spare);
    must("the domain could not be built",
         guest_build(&guest, at, 2 * bytes, target, &options, &problem));
    if (state == RAM_SPLIT) {
        touch_first_pages(at, bytes);
        for (uint64_t i = 0; i < bytes; i += SUPERPAGE_BYTES) {
            must("discard", guest_discard(&guest, haddr_add(at, i + PAGE_BYTES),
                                          SUPERPAGE_BYTES - PAGE_BYTES));
        }
    }
    if (state == RAM_SCARCE) {
        for (uint64_t i = 0; i < bytes; i += PAGE_BYTES) {
            *(volatile uint64_t *)haddr_add(at, bytes + i).a = 1;
        }
        hoard = haddr_add(at, bytes);
        touched_ram_spare(SCARCE_PAGES);
    }
    return at;
}

char *touched_ram_make(enum server who, enum ram_state state, uint64_t bytes)
{
    haddr_t at;
    server = who;
    warm(bytes + bytes / 4);
    switch (who) {
    case SERVER_KERNEL:
        at = make_kernel(state, bytes);
        break;
    case SERVER_LOOP:
        at = make_loop(state, bytes);
        break;
    default:
        at = make_ballast(state, bytes);
    }
    return (char *)at.a;
}

/* Leaves the last 16th of each superpage in use: nothing becomes whole. */
void touched_ram_spare(pages_t pages)
{
    const pages_t usable = SUPERPAGE_PAGES - SUPERPAGE_PAGES / 16;
    while (server == SERVER_BALLAST && pages != 0) {
        pages_t inside = hoard.a / PAGE_BYTES % SUPERPAGE_PAGES;
        pages_t step = min_u64(pages, usable - inside);
        must("discard", guest_discard(&guest, hoard, pages_to_bytes(step)));
        hoard = haddr_add(hoard, pages_to_bytes(step));
        if (inside + step == usable) {
            hoard = haddr_add(hoard, pages_to_bytes(SUPERPAGE_PAGES - usable));
        }
        pages -= step;
    }
}

struct touched_ram_counts touched_ram_counts(void)
{
    struct guest_report report;
    guest_describe(&guest, &report);
    return (struct touched_ram_counts){
        .faults = report.counters.faults,
        .populated_2m = report.counters.populated_2m,
        .ahead_2m = report.counters.ahead_2m,
        .populated_4k = report.counters.populated_4k,
        .sweeps = report.counters.sweeps,
    };
}
