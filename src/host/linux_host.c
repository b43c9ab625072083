/* SPDX-License-Identifier: MIT */
#include "host/linux_host.h"

#include "host/pagemap.h"
#include "host/sys.h"
#include "host/uffd.h"
#include "host/verdict.h"
#include "host/zero.h"

#include <stdio.h>
#include <string.h>

static haddr_t guest_address(const struct linux_host *host, gfn_t at)
{
    return blocks_address(&host->ram, at);
}

static haddr_t cache_address(const struct linux_host *host, cfn_t at)
{
    return haddr_add(host->cache, pages_to_bytes(at.n));
}

static haddr_t superpage_of(haddr_t at)
{
    return (haddr_t){at.a / SUPERPAGE_BYTES * SUPERPAGE_BYTES};
}

/*
 * Makes sure that moving less than a superpage from there makes the kernel break
 * no huge page up. Asking the kernel costs as much as moving a page, so we
 * remember where we last did: until pages arrive there, the answer stays.
 */
static int prepare(struct linux_host *host, haddr_t from, pages_t pages, haddr_t known,
                   int (*split)(struct split *split, haddr_t superpage))
{
    haddr_t superpage = superpage_of(from);
    bool breaks =
        pages < SUPERPAGE_PAGES && superpage.a != known.a && split_is_huge(&host->split, superpage);
    return breaks ? split(&host->split, superpage) : 0;
}

/* Pages went from one superpage to another. */
static void remember(haddr_t from, haddr_t *broken_source, haddr_t to, haddr_t *broken_target)
{
    *broken_source = superpage_of(from);
    if (broken_target->a == superpage_of(to).a) {
        broken_target->a = 0;
    }
}

/* A superpage moved, as far as it went. If it did not arrive in one piece the
 * kernel may have broken it up, and what stayed behind with it. */
static void settle(struct linux_host *host, haddr_t to, haddr_t from, uint64_t moved)
{
    if (split_is_huge(&host->split, to)) {
        return;
    }
    split_refill(&host->split, to, moved);
    if (moved != 0 && moved != SUPERPAGE_BYTES) {
        split_refill(&host->split, haddr_add(from, moved), SUPERPAGE_BYTES - moved);
    }
}

/* Keeps what failed, and returns the error. */
static int note(struct linux_host *host, int err, struct linux_failure failure)
{
    if (err != 0 && err != -EAGAIN && err != -EBUSY) {
        failure.err = err;
        failure.kernel_err = uffd_move_errno;
        host->failures[host->failures_made++ % LINUX_FAILURES_KEPT] = failure;
    }
    return err;
}

/* MADV_DONTNEED_LOCKED over 2 MiB without pages has nothing to drop but the table. */
static int drop_table(haddr_t superpage)
{
    return sys_madvise(superpage, SUPERPAGE_BYTES, MADV_DONTNEED_LOCKED);
}

/*
 * Where a huge page is to arrive in one piece there must be no page table. The
 * engine knows of those that moves leave behind. But so does a fault, if the
 * kernel had no huge page for whoever touched that place: and then the kernel
 * would break up what arrives, and lose what is zero of it for a while.
 */
static void clear_way(const struct linux_host *host, haddr_t superpage)
{
    if (host->frees_page_tables &&
        pagemap_is_empty(host->split.mover.pagemap, superpage, SUPERPAGE_BYTES)) {
        drop_table(superpage);
    }
}

static int linux_place(void *context, cfn_t from, gfn_t to, pages_t pages, pages_t *moved)
{
    struct linux_host *host = context;
    haddr_t source = cache_address(host, from), target = guest_address(host, to);
    uint64_t bytes = 0;
    int err = prepare(host, source, pages, host->broken_cached, split_hidden);
    if (pages == SUPERPAGE_PAGES) {
        clear_way(host, target);
    }
    if (err == 0) {
        err = uffd_move(&host->split.mover, target, source, pages_to_bytes(pages), true, &bytes);
    }
    if (pages == SUPERPAGE_PAGES) {
        settle(host, target, source, bytes);
    }
    if (pages == SUPERPAGE_PAGES && bytes == 0 && err == -EEXIST) {
        /* Mapped by single entries now, and still to be broken up. */
        int broke = split_hidden(&host->split, source);
        err = broke == -EIO || broke == -ESRCH ? broke : err;
    }
    if (bytes != 0) {
        remember(source, &host->broken_cached, target, &host->broken_guest);
    }
    *moved = bytes_to_pages(bytes);
    return note(host, err, (struct linux_failure){"place", to, from, pages, *moved, 0, 0});
}

static int linux_take(void *context, gfn_t from, cfn_t to, pages_t pages, pages_t *moved)
{
    struct linux_host *host = context;
    haddr_t source = guest_address(host, from), target = cache_address(host, to);
    uint64_t bytes = 0;
    int err = prepare(host, source, pages, host->broken_guest, split_guest);
    if (pages == SUPERPAGE_PAGES) {
        clear_way(host, target);
    }
    if (err == 0) {
        err = uffd_move(&host->split.mover, target, source, pages_to_bytes(pages), false, &bytes);
    }
    if (pages == SUPERPAGE_PAGES) {
        settle(host, target, source, bytes);
    }
    if (bytes != 0) {
        remember(source, &host->broken_guest, target, &host->broken_cached);
    }
    *moved = bytes_to_pages(bytes);
    return note(host, err, (struct linux_failure){"take", from, to, pages, *moved, 0, 0});
}

static void linux_wake(void *context, gfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    uffd_wake(host->uffd, guest_address(host, at), pages_to_bytes(pages));
}

/* Each page that is glanced at costs a wait for memory, unless it is asked for
 * so many pages before. */
#define GLANCE_AHEAD_PAGES 16

static pages_t linux_glance(void *context, gfn_t at, pages_t pages, bool zero)
{
    struct linux_host *host = context;
    haddr_t page = guest_address(host, at);
    pages_t run = 0;
    while (run < pages && zero_glance(haddr_add(page, pages_to_bytes(run))) == zero) {
        run++;
        if (run + GLANCE_AHEAD_PAGES < pages) {
            zero_glance_soon(haddr_add(page, pages_to_bytes(run + GLANCE_AHEAD_PAGES)));
        }
    }
    return run;
}

/* So many pages are compared at once: page by page costs a fifth more. A fault
 * that waits for the lock waits for no more than this, some microseconds. */
#define COMPARE_PAGES 8

static pages_t linux_compare(void *context, cfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    haddr_t page = cache_address(host, at);
    pages_t run = 0, step = min_u64(pages, COMPARE_PAGES);
    while (step != 0) {
        if (zero_compare(haddr_add(page, pages_to_bytes(run)), step)) {
            run += step;
            step = min_u64(pages - run, step);
        } else {
            step /= 2; /* nearer to the page that is not zero */
        }
        if (host->yields_to != NULL && lock_is_wanted(host->yields_to)) {
            break;
        }
    }
    return run;
}

static void fill_with_zeros(haddr_t at, pages_t pages)
{
    for (; pages != 0; pages--, at = haddr_add(at, PAGE_BYTES)) {
        zero_fill(at);
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

/* Sets what must be alike in all three places that pages are moved between. */
static void advise(haddr_t at, uint64_t bytes)
{
    sys_madvise(at, bytes, MADV_HUGEPAGE); /* as far as the host has huge pages */
    /* A page that a child shares cannot be moved. */
    sys_madvise(at, bytes, MADV_DONTFORK);
    /* Nor can a merged one, and merging would change the total. Not only QEMU asks
     * for it: a service manager may, for the whole process (PR_SET_MEMORY_MERGE). */
    sys_madvise(at, bytes, MADV_UNMERGEABLE);
}

/* The same of what is not guest RAM but ours: there are zeros in it, or what the guest has
 * lost. Nobody wants that in a core dump. */
static void advise_ours(haddr_t at, uint64_t bytes)
{
    advise(at, bytes);
    sys_madvise(at, bytes, MADV_DONTDUMP);
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
#define PREPARE_STEP_BYTES (32 * SUPERPAGE_BYTES)
/* Others may be at the same, having seen the same memory. So a step is no more than
 * such a part of what is left: then so many builds at once never overrun the headroom,
 * and in the last steps, of a superpage each, 32 do not. */
#define PREPARE_SHARE 8

/* Faults in a step of [at, at + bytes), of which *done bytes are there already. */
static int fault_in_step(struct linux_host *host, haddr_t at, uint64_t bytes, uint64_t *done)
{
    uint64_t step = min_u64(bytes - *done, PREPARE_STEP_BYTES);
    if (!memory_has(step, &host->spare)) {
        host->spare.bytes += *done;
        return -ENOMEM;
    }
    uint64_t share = host->spare.bytes / PREPARE_SHARE;
    share -= share % SUPERPAGE_BYTES;
    step = min_u64(step, max_u64(share, SUPERPAGE_BYTES));
    int err = verdict_of_allocate(sys_madvise(haddr_add(at, *done), step, MADV_POPULATE_WRITE));
    if (err != 0) {
        host->spare.limit = MEMORY_LIMIT_OTHER;
        return err;
    }
    *done += step;
    return 0;
}

/* Calls split_mark or split_unmark for what is not mapped by huge pages. */
static void mark_pieces(const struct linux_host *host, haddr_t at, uint64_t bytes,
                        void (*mark)(haddr_t at, uint64_t bytes))
{
    for (uint64_t piece; bytes != 0; bytes -= piece, at = haddr_add(at, piece)) {
        piece = min_u64(bytes, SUPERPAGE_BYTES - at.a % SUPERPAGE_BYTES);
        if (!split_is_huge(&host->split, at)) {
            mark(at, piece);
        }
    }
}

/*
 * The cache is registered: touching a missing page there would wait for a
 * fault handler, that is, for us. So pages are faulted in aside, where running
 * short is an error and not a wait, and then moved. This makes the place.
 */
static int map_aside(struct linux_host *host, uint64_t bytes, haddr_t *aside)
{
    haddr_t at;
    if (!memory_has(bytes, &host->spare)) {
        return -ENOMEM;
    }
    int err = map_aligned(bytes, &at);
    if (err != 0) {
        host->spare.limit = MEMORY_LIMIT_OTHER;
        return verdict_of_allocate(err);
    }
    advise_ours(at, bytes);
    if (host->policy.mode != 0) {
        err = policy_apply(&host->policy, at, bytes);
        if (err != 0) {
            sys_munmap(at, bytes);
            return verdict_of_allocate(err);
        }
    }
    *aside = at;
    return 0;
}

/* Moves pages from aside into the cache, all or none. Where they are not of
 * 2 MiB they may still be of 64 KiB, say, and broken up by the move: hence the
 * marks. */
static int move_in(struct linux_host *host, cfn_t at, haddr_t aside, uint64_t bytes)
{
    haddr_t target = cache_address(host, at);
    uint64_t moved = 0;
    host->broken_cached.a = 0;
    mark_pieces(host, aside, bytes, split_mark);
    int err = uffd_move(&host->split.mover, target, aside, bytes, false, &moved);
    if (err == 0) {
        mark_pieces(host, target, bytes, split_unmark);
    } else if (moved != 0) {
        sys_madvise(target, moved, MADV_DONTNEED_LOCKED);
    }
    return err;
}

static int linux_allocate(void *context, cfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    uint64_t bytes = pages_to_bytes(pages);
    if (bytes <= host->aside_ready_bytes) {
        int err = move_in(host, at, host->aside, bytes);
        sys_munmap(host->aside, bytes);
        host->aside = haddr_add(host->aside, bytes);
        host->aside_bytes -= bytes;
        host->aside_ready_bytes -= bytes;
        return err;
    }
    haddr_t aside = {0};
    int err = map_aside(host, bytes, &aside);
    if (err != 0) {
        return err;
    }
    for (uint64_t done = 0; err == 0 && done < bytes;) {
        err = fault_in_step(host, aside, bytes, &done);
    }
    if (err == 0) {
        err = move_in(host, at, aside, bytes);
    }
    sys_munmap(aside, bytes);
    return err;
}

int linux_host_prepare(struct linux_host *host, uint64_t bytes)
{
    haddr_t aside = {0};
    int err = map_aside(host, bytes, &aside);
    if (err == 0) {
        host->aside = aside;
        host->aside_bytes = bytes;
        host->aside_ready_bytes = 0;
    }
    return err;
}

int linux_host_prepare_step(struct linux_host *host, bool *more)
{
    int err = 0;
    if (host->aside_ready_bytes < host->aside_bytes) {
        err = fault_in_step(host, host->aside, host->aside_bytes, &host->aside_ready_bytes);
    }
    if (err == 0) {
        *more = host->aside_ready_bytes < host->aside_bytes;
    }
    return err;
}

void linux_host_unprepare(struct linux_host *host)
{
    if (host->aside_bytes != 0) {
        sys_munmap(host->aside, host->aside_bytes);
        host->aside_bytes = 0;
        host->aside_ready_bytes = 0;
    }
}

static int linux_release(void *context, cfn_t at, pages_t pages)
{
    struct linux_host *host = context;
    haddr_t begin = cache_address(host, at), end = haddr_add(begin, pages_to_bytes(pages));
    /* What remains of a huge page at either end must remain. */
    const haddr_t ends[] = {begin, end};
    for (int i = 0; i < 2; i++) {
        if (ends[i].a % SUPERPAGE_BYTES != 0 &&
            split_is_huge(&host->split, superpage_of(ends[i]))) {
            int err = split_hidden(&host->split, superpage_of(ends[i]));
            if (err != 0) {
                return note(host, err,
                            (struct linux_failure){"release", gfn(0), at, pages, 0, 0, 0});
            }
        }
    }
    int err = sys_madvise(begin, pages_to_bytes(pages), MADV_DONTNEED_LOCKED) == 0 ? 0 : -EIO;
    return note(host, err, (struct linux_failure){"release", gfn(0), at, pages, 0, 0, 0});
}

static int flatten(const struct linux_host *host, haddr_t at)
{
    if (!host->frees_page_tables) {
        return -EOPNOTSUPP;
    }
    return drop_table(at) == 0 ? 0 : -EIO;
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
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it has been mapped, not at 0 */
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
    struct linux_host made = {
        .cache_bytes = cache_bytes + SPLIT_AREA_BYTES,
    };
    made.frees_page_tables = probe_frees_page_tables();
    int err = uffd_open(&made.uffd);
    if (err != 0) {
        return err;
    }
    struct uffd_mover mover = {.uffd = made.uffd};
    err = pagemap_open(&mover.pagemap);
    if (err != 0) {
        close(made.uffd);
        return err;
    }
    err = map_aligned(made.cache_bytes, &made.cache);
    if (err != 0) {
        close(mover.pagemap);
        close(made.uffd);
        return err;
    }
    made.split = split_make(mover, haddr_add(made.cache, cache_bytes));
    advise_ours(made.cache, made.cache_bytes);
    err = uffd_register(made.uffd, made.cache, made.cache_bytes);
    if (err == 0) {
        err = linux_host_plug(&made, &(struct host_block){ram, ram_bytes, gfn(0)});
    }
    if (err == 0) {
        err = uffd_can_move(&mover, ram, made.split.spare);
    }
    if (err != 0) {
        linux_host_close(&made);
        return err;
    }
    *host = made;
    return 0;
}

int linux_host_set_policy(struct linux_host *host, haddr_t at, uint64_t bytes,
                          const struct memory_policy *policy)
{
    if (host->policy.mode != 0 && !policy_is_same(&host->policy, policy)) {
        return -EOPNOTSUPP;
    }
    int err = policy_apply(policy, at, bytes);
    if (err == 0 && host->policy.mode == 0) {
        err = policy_apply(policy, host->cache, host->cache_bytes);
    }
    if (err == 0) {
        host->policy = *policy;
    }
    return err;
}

int linux_host_plug(struct linux_host *host, const struct host_block *block)
{
    int err = blocks_add(&host->ram, block);
    if (err == 0) {
        advise(block->at, block->bytes);
        err = uffd_register(host->uffd, block->at, block->bytes);
        if (err != 0) {
            blocks_remove(&host->ram, block->first);
        }
    }
    return err;
}

void linux_host_unplug(struct linux_host *host, const struct host_block *block)
{
    blocks_remove(&host->ram, block->first);
    host->broken_guest.a = 0;
}

bool linux_host_holds(const struct linux_host *host, gfn_t at)
{
    return pagemap_holds(host->split.mover.pagemap, guest_address(host, at));
}

void linux_host_freeze(const struct linux_host *host)
{
    struct host_block block;
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        if (blocks_get(&host->ram, i, &block)) {
            sys_madvise(block.at, block.bytes, MADV_DONTNEED_LOCKED);
        }
    }
}

void linux_host_unregister(const struct linux_host *host)
{
    struct host_block block;
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        if (blocks_get(&host->ram, i, &block)) {
            uffd_unregister(host->uffd, block.at, block.bytes);
        }
    }
    uffd_unregister(host->uffd, host->cache, host->cache_bytes);
}

void linux_host_close(struct linux_host *host)
{
    close(host->split.mover.pagemap);
    close(host->uffd); /* unregisters both ranges */
    sys_munmap(host->cache, host->cache_bytes);
}
