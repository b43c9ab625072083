/* SPDX-License-Identifier: MIT */
#include "agent/guest.h"

#include "agent/stop.h"
#include "base/histogram.h"
#include "base/lock.h"
#include "host/clock.h"
#include "host/linux_host.h"
#include "host/sys.h"
#include "host/uffd.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

/* Pages that one step of a build or a drain, or one hold of the lock for a
 * discard, deals with: some 10 ms of work. */
#define BUILD_STEP_PAGES   (32 * SUPERPAGE_PAGES)
#define DRAIN_STEP_PAGES   (64 * SUPERPAGE_PAGES)
#define DISCARD_STEP_PAGES (2 * SUPERPAGE_PAGES)
/* Faults that are read at once. */
#define FAULTS_MAX 16
/* A fault that the host cannot serve just now is tried again after a pause,
 * for about ten seconds in all: by then it will not come right. */
#define RETRY_PAUSE_NS UINT64_C(200000)
#define RETRY_MAX      50000

/* The thread reads guest memory and moves pages; it needs little stack. */
#define FAULT_THREAD_STACK_BYTES (256 * 1024)

static struct {
    struct lock lock; /* guards domain, latency */
    struct domain domain;
    struct histogram latency;
    /* Written by guest_build before `exists`; then constant. */
    struct linux_host host;
    void *metadata;
    atomic_bool exists;
} guest = {.lock = LOCK_INITIALIZER(LOCK_RANK_DOMAIN)};

__attribute__((noreturn)) static void stop_exhausted(gfn_t at)
{
    const struct domain *domain = &guest.domain;
    stop(BALLAST_EXIT_EXHAUSTED,
         "out of memory: the guest touched gfn 0x%" PRIx64 ", all %" PRIu64
         " pages of the target (%" PRIu64
         " MiB) are in use and none holds only zeros, with %" PRIu64
         " PoD entries left; start it with a larger --target, or let its balloon driver start "
         "earlier",
         at.n, domain->total_pages, pages_to_bytes(domain->total_pages) >> 20,
         p2m_pod_pages(&domain->p2m));
}

/* The state is wrong: say what a maintainer needs. */
__attribute__((noreturn)) static void stop_broken(const char *operation, gfn_t at)
{
    const struct domain *domain = &guest.domain;
    const char *equation = domain_check(domain);
    stop(BALLAST_EXIT_BROKEN,
         "internal error in %s at gfn 0x%" PRIx64 ", the guest was stopped (%s; max %" PRIu64
         ", target %" PRIu64 ", total %" PRIu64 ", P %" PRIu64 ", O %" PRIu64 ", C %" PRIu64
         ", faults %" PRIu64 ", reclaimed %" PRIu64 "+%" PRIu64
         "); please report this line with QEMU's and the kernel's versions",
         operation, at.n, equation ? equation : "equations hold", domain->p2m.max_pages,
         domain->target_pages, domain->total_pages, domain->p2m.ram_pages, domain->p2m.out_pages,
         domain->cache.pages, domain->counters.faults, domain->counters.reclaimed_2m,
         domain->counters.reclaimed_4k);
}

/* Serves one fault. The lock is free while we wait for the host. */
static void serve(gfn_t at, uint64_t read_ns)
{
    int err = -EAGAIN;
    for (int tries = 0; tries < RETRY_MAX && err == -EAGAIN; tries++) {
        if (tries != 0) {
            clock_sleep_ns(RETRY_PAUSE_NS);
        }
        lock_acquire(&guest.lock);
        err = domain_populate(&guest.domain, at);
        if (err == 0) {
            histogram_add(&guest.latency, clock_now_ns() - read_ns);
        }
        lock_release(&guest.lock);
    }
    switch (err) {
    case 0:
    case -ESHUTDOWN: /* dying: whoever touched it waits for the end */
    case -ESRCH:     /* the process is going */
        return;
    case -ENOSPC:
        stop_exhausted(at);
    case -EAGAIN:
        stop(BALLAST_EXIT_BROKEN,
             "the host could not place a page at gfn 0x%" PRIx64
             " for ten seconds: it has no memory left for page tables, or something holds on to "
             "the domain's free pages; free memory on the host",
             at.n);
    default:
        stop_broken("populate", at);
    }
}

static void *fault_thread(void *unused)
{
    (void)unused;
    struct pollfd poll_fd = {.fd = guest.host.uffd, .events = POLLIN};
    for (;;) {
        haddr_t faults[FAULTS_MAX];
        unsigned count = 0;
        poll(&poll_fd, 1, -1);
        if (uffd_read_faults(guest.host.uffd, faults, FAULTS_MAX, &count) != 0) {
            return NULL; /* the address space is going away */
        }
        uint64_t now_ns = clock_now_ns();
        for (unsigned i = 0; i < count; i++) {
            gfn_t at;
            if (linux_host_find(&guest.host, faults[i], &at)) {
                serve(at, now_ns);
            } else {
                /* Nobody but us touches the cache, and we never where it is empty. */
                stop_broken("a fault in the cache", gfn(0));
            }
        }
    }
}

static int start_thread(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    /* Signals are QEMU's business: none is ever delivered to our thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, FAULT_THREAD_STACK_BYTES);
    int err = pthread_create(&thread, &attributes, fault_thread, NULL);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0) {
        pthread_setname_np(thread, "ballast-fault");
    }
    return -err;
}

/* The books' memory: as much address space as the worst case needs, of which
 * only what is used is ever backed. */
static int map_metadata(pages_t max_pages)
{
    haddr_t at = {0};
    uint64_t bytes = domain_metadata_bytes(max_pages);
    int err = sys_mmap(haddr(NULL), bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &at);
    if (err == 0) {
        /* A huge page would back much that is never used; and a fork must not
         * make the fault path wait for a copy. */
        sys_madvise(at, bytes, MADV_NOHUGEPAGE);
        sys_madvise(at, bytes, MADV_DONTFORK);
        guest.metadata = (void *)at.a;
    }
    return err;
}

static int fill_cache(void)
{
    pages_t missing = guest.domain.target_pages;
    int err = 0;
    while (err == 0 && missing != 0) {
        lock_acquire(&guest.lock);
        err = domain_build_step(&guest.domain, BUILD_STEP_PAGES, &missing);
        lock_release(&guest.lock);
    }
    return err;
}

static int fail(struct guest_problem *problem, enum guest_failure failure, int err)
{
    *problem = (struct guest_problem){
        .failure = failure,
        .available_bytes =
            guest.host.short_available_bytes + pages_to_bytes(guest.domain.total_pages),
        .limit = guest.host.short_limit,
    };
    return err;
}

int guest_build(haddr_t ram, uint64_t ram_bytes, uint64_t target_bytes,
                struct guest_problem *problem)
{
    struct domain_config config = {
        .max_pages = bytes_to_pages(ram_bytes),
        .target_pages = bytes_to_pages(target_bytes),
    };
    int err = map_metadata(config.max_pages);
    if (err == 0) {
        lock_acquire(&guest.lock);
        err = domain_init(&guest.domain, &config, &linux_host_ops, &guest.host, guest.metadata);
        lock_release(&guest.lock);
    }
    if (err != 0) {
        return fail(problem, GUEST_FAILED_METADATA, err);
    }
    uint64_t cache_bytes = pages_to_bytes(domain_cache_span_pages(config.max_pages));
    int uffd;
    err = uffd_open(&uffd);
    if (err != 0) {
        return fail(problem, GUEST_FAILED_UFFD, err);
    }
    close(uffd);
    err = linux_host_open(&guest.host, ram, ram_bytes, cache_bytes);
    if (err != 0) {
        return fail(problem, GUEST_FAILED_REGISTER, err);
    }
    atomic_store(&guest.exists, true);
    err = fill_cache();
    if (err != 0) {
        return fail(problem, GUEST_FAILED_MEMORY, err);
    }
    err = start_thread();
    return err != 0 ? fail(problem, GUEST_FAILED_THREAD, err) : 0;
}

bool guest_exists(void)
{
    return atomic_load(&guest.exists);
}

bool guest_owns(haddr_t at, uint64_t bytes)
{
    const struct linux_host *host = &guest.host;
    return guest_exists() && at.a < host->ram.a + host->ram_bytes && at.a + bytes > host->ram.a;
}

void guest_discard(haddr_t at, uint64_t bytes)
{
    const struct linux_host *host = &guest.host;
    uint64_t begin = max_u64(at.a, host->ram.a) - host->ram.a;
    uint64_t end = min_u64(at.a + bytes, host->ram.a + host->ram_bytes) - host->ram.a;
    pages_t first = (begin + PAGE_BYTES - 1) / PAGE_BYTES, last = bytes_to_pages(end);
    while (first < last) {
        /* Steps end where superpages do, so that those stay in one piece. */
        pages_t step = DISCARD_STEP_PAGES - first % SUPERPAGE_PAGES;
        step = min_u64(step, last - first);
        lock_acquire(&guest.lock);
        int err = domain_discard(&guest.domain, gfn(first), step);
        lock_release(&guest.lock);
        if (err == -EIO) {
            stop_broken("discard", gfn(first));
        }
        if (err != 0) {
            return; /* dying */
        }
        first += step;
    }
}

void guest_die(void)
{
    lock_acquire(&guest.lock);
    domain_begin_dying(&guest.domain);
    lock_release(&guest.lock);
    int err = 0;
    for (pages_t left = 1; err == 0 && left != 0;) {
        lock_acquire(&guest.lock);
        err = domain_drain_step(&guest.domain, DRAIN_STEP_PAGES, &left);
        lock_release(&guest.lock);
    }
}

void guest_describe(struct guest_report *report)
{
    struct guest_report now = {.state = DOMAIN_BUILDING};
    if (guest_exists()) {
        lock_acquire(&guest.lock);
        const struct domain *domain = &guest.domain;
        now = (struct guest_report){
            .state = domain->state,
            .max_pages = domain->p2m.max_pages,
            .target_pages = domain->target_pages,
            .total_pages = domain->total_pages,
            .populated_pages = domain->p2m.ram_pages,
            .cache_pages = domain->cache.pages,
            .pod_entries_pages = p2m_pod_pages(&domain->p2m),
            .out_pages = domain->p2m.out_pages,
            .cache_superpages = cache_superpages(&domain->cache),
            .covered = domain_covered(domain),
            .counters = domain->counters,
            .fault_p50_ns = histogram_quantile(&guest.latency, 50),
            .fault_p99_ns = histogram_quantile(&guest.latency, 99),
            .fault_max_ns = guest.latency.max_ns,
            .ram = guest.host.ram,
            .cache = guest.host.cache,
            .ram_bytes = guest.host.ram_bytes,
            .cache_bytes = guest.host.cache_bytes,
        };
        lock_release(&guest.lock);
    }
    *report = now;
}
