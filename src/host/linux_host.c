/* SPDX-License-Identifier: MIT */
#include "host/linux_host.h"

#include "host/sys.h"
#include "host/uffd.h"
#include "host/verdict.h"

#include <isa-l.h>
#include <stdio.h>
#include <string.h>

/* How much of a page glance() looks at: a cache line. */
#define GLANCE_WORDS 8
/* A host is never brought below this much available memory on our account. */
#define HEADROOM_BYTES (UINT64_C(64) << 20)

static haddr_t guest_address(const struct linux_host *host, gfn_t at)
{
    return haddr_add(host->ram, pages_to_bytes(at.n));
}

static haddr_t cache_address(const struct linux_host *host, cfn_t at)
{
    return haddr_add(host->cache, pages_to_bytes(at.n));
}

static int linux_place(void *context, cfn_t from, gfn_t to, pages_t pages, pages_t *moved)
{
    struct linux_host *host = context;
    uint64_t bytes = 0;
    int err = uffd_move(host->uffd, guest_address(host, to), cache_address(host, from),
                        pages_to_bytes(pages), true, &bytes);
    *moved = bytes_to_pages(bytes);
    return err;
}

static int linux_take(void *context, gfn_t from, cfn_t to, pages_t pages, pages_t *moved)
{
    struct linux_host *host = context;
    uint64_t bytes = 0;
    int err = uffd_move(host->uffd, cache_address(host, to), guest_address(host, from),
                        pages_to_bytes(pages), false, &bytes);
    *moved = bytes_to_pages(bytes);
    return err;
}

static void linux_wake(void *context, gfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    uffd_wake(host->uffd, guest_address(host, at), pages_to_bytes(pages));
}

/* The guest may be writing: each word is read once, and none must be kept. */
static bool page_looks_zero(haddr_t at)
{
    const uint64_t *words = (const uint64_t *)at.a;
    uint64_t any = 0;
    for (int i = 0; i < GLANCE_WORDS; i++) {
        any |= __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    }
    return any == 0;
}

static pages_t linux_glance(void *context, gfn_t at, pages_t pages, bool zero)
{
    struct linux_host *host = context;
    haddr_t page = guest_address(host, at);
    pages_t run = 0;
    while (run < pages && page_looks_zero(haddr_add(page, pages_to_bytes(run))) == zero) {
        run++;
    }
    return run;
}

static pages_t linux_compare(void *context, cfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    haddr_t page = cache_address(host, at);
    pages_t run = 0;
    while (run < pages &&
           isal_zero_detect((void *)haddr_add(page, pages_to_bytes(run)).a, PAGE_BYTES) == 0) {
        run++;
    }
    return run;
}

/* Reading is cheaper than writing, and most pages that are given up are zero:
 * Linux guests zero them first (init_on_alloc). */
static void fill_with_zeros(haddr_t at, pages_t pages)
{
    for (; pages != 0; pages--, at = haddr_add(at, PAGE_BYTES)) {
        if (isal_zero_detect((void *)at.a, PAGE_BYTES) != 0) {
            memset((void *)at.a, 0, PAGE_BYTES);
        }
    }
}

static void linux_scrub(void *context, cfn_t at, pages_t pages)
{
    fill_with_zeros(cache_address(context, at), pages);
}

static void linux_clear_guest(void *context, gfn_t at, pages_t pages)
{
    fill_with_zeros(guest_address(context, at), pages);
}

/* Whether the host can give that much and keep its headroom. */
static bool host_has(struct linux_host *host, uint64_t bytes)
{
    uint64_t available;
    enum memory_limit limit;
    if (memory_available(&available, &limit) != 0) {
        return true; /* it does not say; the kernel will */
    }
    host->short_available_bytes = available - min_u64(available, HEADROOM_BYTES);
    host->short_limit = limit;
    return bytes <= host->short_available_bytes;
}

/* Sets what must be alike in all three places that pages are moved between. */
static void advise(haddr_t at, uint64_t bytes)
{
    sys_madvise(at, bytes, MADV_HUGEPAGE); /* as far as the host has huge pages */
    /* A page that a child shares cannot be moved. */
    sys_madvise(at, bytes, MADV_DONTFORK);
}

/* Maps memory at an address that is a multiple of 2 MiB. */
static int map_aligned(uint64_t bytes, haddr_t *at)
{
    haddr_t wide = {0};
    int err = sys_mmap(haddr(NULL), bytes + SUPERPAGE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &wide);
    if (err != 0) {
        return err;
    }
    uint64_t before = -wide.a % SUPERPAGE_BYTES, after = SUPERPAGE_BYTES - before;
    if (before != 0) {
        sys_munmap(wide, before);
    }
    *at = haddr_add(wide, before);
    sys_munmap(haddr_add(*at, bytes), after);
    return 0;
}

/* Memory is faulted in by steps of this much, each time seeing to it first that
 * the host has it. */
#define PREPARE_STEP_BYTES (64 * SUPERPAGE_BYTES)

static int fault_in(struct linux_host *host, haddr_t at, uint64_t bytes)
{
    int err = 0;
    for (uint64_t done = 0; err == 0 && done < bytes;) {
        uint64_t step = min_u64(bytes - done, PREPARE_STEP_BYTES);
        if (!host_has(host, step)) {
            host->short_available_bytes += done;
            return -ENOMEM;
        }
        err = verdict_of_allocate(sys_madvise(haddr_add(at, done), step, MADV_POPULATE_WRITE));
        done += step;
    }
    return err;
}

/*
 * The cache is registered: touching a missing page there would wait for a
 * fault handler, that is, for us. So pages are faulted in aside, where running
 * short is an error and not a wait, and then moved.
 */
static int map_aside(struct linux_host *host, uint64_t bytes, haddr_t *aside)
{
    haddr_t at;
    int err = host_has(host, bytes) ? map_aligned(bytes, &at) : -ENOMEM;
    if (err != 0) {
        return verdict_of_allocate(err);
    }
    advise(at, bytes);
    err = fault_in(host, at, bytes);
    if (err != 0) {
        sys_munmap(at, bytes);
        return err;
    }
    *aside = at;
    return 0;
}

/* Moves pages from aside into the cache, all or none. */
static int move_in(struct linux_host *host, cfn_t at, haddr_t aside, uint64_t bytes)
{
    uint64_t moved = 0;
    int err = uffd_move(host->uffd, cache_address(host, at), aside, bytes, false, &moved);
    if (err != 0 && moved != 0) {
        sys_madvise(cache_address(host, at), moved, MADV_DONTNEED);
    }
    return err;
}

static int linux_allocate(void *context, cfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    uint64_t bytes = pages_to_bytes(pages);
    if (bytes <= host->aside_bytes) {
        int err = move_in(host, at, host->aside, bytes);
        sys_munmap(host->aside, bytes);
        host->aside = haddr_add(host->aside, bytes);
        host->aside_bytes -= bytes;
        return err;
    }
    haddr_t aside;
    int err = map_aside(host, bytes, &aside);
    if (err == 0) {
        err = move_in(host, at, aside, bytes);
        sys_munmap(aside, bytes);
    }
    return err;
}

int linux_host_prepare(struct linux_host *host, uint64_t bytes)
{
    haddr_t aside;
    int err = map_aside(host, bytes, &aside);
    if (err == 0) {
        host->aside = aside;
        host->aside_bytes = bytes;
    }
    return err;
}

void linux_host_unprepare(struct linux_host *host)
{
    if (host->aside_bytes != 0) {
        sys_munmap(host->aside, host->aside_bytes);
        host->aside_bytes = 0;
    }
}

static int linux_release(void *context, cfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    return sys_madvise(cache_address(host, at), pages_to_bytes(pages), MADV_DONTNEED) == 0 ? 0
                                                                                           : -EIO;
}

/* MADV_DONTNEED over 2 MiB without pages has nothing to drop but the table. */
static int flatten(const struct linux_host *host, haddr_t at)
{
    if (!host->frees_page_tables) {
        return -EOPNOTSUPP;
    }
    return sys_madvise(at, SUPERPAGE_BYTES, MADV_DONTNEED) == 0 ? 0 : -EIO;
}

static int linux_flatten_guest(void *context, gfn_t at)
{
    struct linux_host *host = context;
    return flatten(host, guest_address(host, at));
}

static int linux_flatten_cache(void *context, cfn_t at)
{
    struct linux_host *host = context;
    return flatten(host, cache_address(host, at));
}

const struct engine_ops linux_host_ops = {
    .place = linux_place,
    .take = linux_take,
    .wake = linux_wake,
    .glance = linux_glance,
    .compare = linux_compare,
    .scrub = linux_scrub,
    .clear_guest = linux_clear_guest,
    .allocate = linux_allocate,
    .release = linux_release,
    .flatten_guest = linux_flatten_guest,
    .flatten_cache = linux_flatten_cache,
};

/* Kilobytes of page tables of this process, or 0 if the kernel does not say. */
static unsigned long page_table_kib(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    unsigned long kib = 0;
    char line[128];
    while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
        if (sscanf(line, "VmPTE: %lu", &kib) == 1) {
            break;
        }
    }
    if (status != NULL) {
        fclose(status);
    }
    return kib;
}

/* Tries whether MADV_DONTNEED frees the page table of what it empties, on a
 * few pages of our own: enough of them that other threads of the process,
 * which come and go with a page table, do not decide the answer. */
static bool probe_frees_page_tables(void)
{
    const uint64_t tables = 16, bytes = tables * SUPERPAGE_BYTES;
    haddr_t at;
    if (map_aligned(bytes, &at) != 0) {
        return false;
    }
    sys_madvise(at, bytes, MADV_NOHUGEPAGE);
    for (uint64_t i = 0; i < tables; i++) {
        *(volatile char *)haddr_add(at, i * SUPERPAGE_BYTES).a = 1;
    }
    unsigned long before = page_table_kib();
    sys_madvise(at, bytes, MADV_DONTNEED);
    unsigned long after = page_table_kib();
    sys_munmap(at, bytes);
    return before >= after + tables * PAGE_BYTES / 1024 / 2;
}

int linux_host_open(struct linux_host *host, haddr_t ram, uint64_t ram_bytes, uint64_t cache_bytes)
{
    struct linux_host made = {.ram = ram, .ram_bytes = ram_bytes, .cache_bytes = cache_bytes};
    made.frees_page_tables = probe_frees_page_tables();
    int err = uffd_open(&made.uffd);
    if (err != 0) {
        return err;
    }
    err = map_aligned(cache_bytes, &made.cache);
    if (err != 0) {
        close(made.uffd);
        return err;
    }
    advise(made.cache, cache_bytes);
    advise(ram, ram_bytes);
    /* A merged page cannot be moved, and merging would change the total. */
    sys_madvise(ram, ram_bytes, MADV_UNMERGEABLE);
    err = uffd_register(made.uffd, made.cache, cache_bytes);
    if (err == 0) {
        err = uffd_register(made.uffd, ram, ram_bytes);
    }
    if (err != 0) {
        linux_host_close(&made);
        return err;
    }
    *host = made;
    return 0;
}

void linux_host_close(struct linux_host *host)
{
    close(host->uffd); /* unregisters both ranges */
    sys_munmap(host->cache, host->cache_bytes);
}
