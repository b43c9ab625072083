/* SPDX-License-Identifier: MIT */
#include "agent/guest_state.h"

#include "agent/postmortem.h"
#include "agent/stop.h"
#include "base/clock.h"
#include "host/sys.h"
#include "host/uffd.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

/* Pages that one step of a build or a drain, or one hold of the lock for a
 * discard, deals with: some 10 ms of work. */
#define BUILD_STEP_PAGES   (32 * SUPERPAGE_PAGES)
#define DRAIN_STEP_PAGES   (64 * SUPERPAGE_PAGES)
#define DISCARD_STEP_PAGES (2 * SUPERPAGE_PAGES)
/* Superpages that are looked through for what is OUT in one hold of the lock. */
#define OUT_STEP_SUPERPAGES 64
/* A host that cannot take pages just now is asked again for a second in all. What
 * it has not taken by then it gets with the process. */
#define DRAIN_PAUSE_NS UINT64_C(1000000)
#define DRAIN_TRIES    1000
/* "Low cache": less than this share of the target is left, and the domain is
 * not covered. It is noted again after there was twice as much. */
#define LOW_CACHE_SHARE 16
/* What a reset leaves alone: firmware of PCs lives below 1 MiB, in a copy that it
 * made in RAM, and the CPU starts in it. */
#define RESTART_KEPT_BYTES SUPERPAGE_BYTES
/* Our threads read guest memory and move pages; they need little stack. */
#define THREAD_STACK_BYTES (256 * 1024)

struct guest_state guest = {
    .target_lock = LOCK_INITIALIZER(LOCK_RANK_TARGET),
    .lock = LOCK_INITIALIZER(LOCK_RANK_DOMAIN),
    .upkeep = PTHREAD_COND_INITIALIZER,
};

void guest_stop_exhausted(gfn_t at)
{
    const struct domain *domain = &guest.domain;
    stop(BALLAST_EXIT_EXHAUSTED,
         "out of memory: the guest touched gfn 0x%" PRIx64 ", all %" PRIu64
         " pages of the target (%" PRIu64
         " MiB) are in use and none holds only zeros, with %" PRIu64
         " PoD entries left; start it with a larger --target, let its balloon driver start "
         "earlier, or choose --on-exhaustion pause",
         at.n, domain->total_pages, pages_to_bytes(domain->total_pages) >> 20,
         p2m_pod_pages(&domain->p2m));
}

void guest_stop_broken(const char *operation, gfn_t at)
{
    static char report[32 * 1024];
    stop_begin();
    linux_host_freeze(&guest.host);
    struct postmortem postmortem = {
        .noticed = operation,
        .at = at,
        .programs = guest.options.programs,
        .domain = &guest.domain,
        .history = &guest.history,
        .host = &guest.host,
    };
    /* First without the equations, should their evaluation go wrong too. */
    postmortem_write(&postmortem, report, sizeof(report));
    stop_keep(report);
    postmortem.equation = domain_check(&guest.domain);
    postmortem.checked = true;
    postmortem_write(&postmortem, report, sizeof(report));
    const char *path = stop_keep(report);
    stop_end(BALLAST_EXIT_BROKEN, report,
             "internal error in %s at gfn 0x%" PRIx64
             " (%s): the guest was stopped, for its memory can no longer be vouched for; please "
             "report it, with %s%s",
             operation, at.n,
             postmortem.equation != NULL ? postmortem.equation : "all equations hold",
             path != NULL ? path : "what follows", path != NULL ? ", which is what follows" : "");
}

int guest_did(const char *operation, gfn_t at, pages_t pages, int err)
{
    history_add(&guest.history, &guest.domain, operation, at, pages, err);
    const char *wrong = domain_check_sums(&guest.domain);
    if (wrong != NULL) {
        domain_declare_broken(&guest.domain);
    }
    if (wrong != NULL || guest.domain.state == DOMAIN_BROKEN) {
        guest_stop_broken(operation, at);
    }
    return err;
}

void guest_check(const char *when)
{
    if (domain_check(&guest.domain) != NULL) {
        domain_declare_broken(&guest.domain);
        guest_stop_broken(when, gfn(0));
    }
}

int guest_start_thread(const char *name, void *(*function)(void *))
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    /* Signals are QEMU's business: none is ever delivered to our threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    int err = pthread_create(&thread, &attributes, function, NULL);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0) {
        pthread_setname_np(thread, name);
    }
    return -err;
}

void guest_note(enum guest_event_kind kind)
{
    const struct domain *domain = &guest.domain;
    struct timespec now;
    if (domain->state == DOMAIN_DYING && kind != GUEST_DYING) {
        return; /* nothing comes after that */
    }
    clock_gettime(CLOCK_REALTIME, &now);
    guest.events[guest.events_made++ % GUEST_EVENTS_KEPT] = (struct guest_event){
        .kind = kind,
        .realtime_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec,
        .target_pages = domain->target_pages,
        .total_pages = domain->total_pages,
        .cache_pages = domain->cache.pages + domain->p2m.given_pages,
        .pod_entries_pages = p2m_pod_pages(&domain->p2m),
    };
    if (guest.options.on_event != NULL) {
        guest.options.on_event();
    }
}

void guest_settled(void)
{
    const struct domain *domain = &guest.domain;
    if (domain_refuses(domain) != 0) {
        return; /* what becomes of a dying domain's pages is nobody's news */
    }
    pages_t assets = domain->cache.pages + domain->p2m.given_pages;
    pages_t low = domain->target_pages / LOW_CACHE_SHARE;
    bool covered = domain_covered(domain);
    if (covered && !guest.covered_noted) {
        guest_note(GUEST_COVERED);
    }
    guest.covered_noted = covered;
    if (!covered && assets < low && !guest.low_noted) {
        guest_note(GUEST_LOW_CACHE);
        guest.low_noted = true;
    } else if (covered || assets >= 2 * low) {
        guest.low_noted = false;
    }
    if (!domain->shrinking && !guest.reached_noted) {
        guest_note(GUEST_TARGET_REACHED);
    }
    guest.reached_noted = !domain->shrinking;
    if (guest.upkeep_idle &&
        (domain_wants_upkeep(domain) || (guest.upkeep_calm && domain_wants_recovery(domain)))) {
        pthread_cond_signal(&guest.upkeep);
    }
}

void guest_kick(void)
{
    uint64_t one = 1;
    ssize_t ignored = write(guest.kick_fd, &one, sizeof(one));
    (void)ignored;
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

/* Lets others see how far the host is with what it prepares. */
static void note_growth(void)
{
    lock_acquire(&guest.lock);
    guest.growing_pages = bytes_to_pages(guest.host.aside_bytes);
    guest.growing_ready_pages = bytes_to_pages(guest.host.aside_ready_bytes);
    lock_release(&guest.lock);
}

/* linux_host_prepare and its step, and the end of it; under the target's lock. */
static int prepare(pages_t pages)
{
    int err = linux_host_prepare(&guest.host, pages_to_bytes(pages));
    note_growth();
    return err;
}

static int prepare_step(bool *more)
{
    lock_acquire(&guest.lock);
    bool dying = guest.domain.state == DOMAIN_DYING;
    lock_release(&guest.lock);
    int err = dying ? -ESHUTDOWN : linux_host_prepare_step(&guest.host, more);
    note_growth();
    return err;
}

static void unprepare(void)
{
    linux_host_unprepare(&guest.host);
    note_growth();
}

/* Faults the target in, all of it or nothing, and moves it into the cache. */
static int fill_cache(void)
{
    pages_t missing = guest.domain.target_pages;
    lock_acquire(&guest.target_lock);
    int err = prepare(missing);
    for (bool more = true; err == 0 && more;) {
        err = prepare_step(&more);
        if (guest.options.on_building != NULL) {
            guest.options.on_building(guest.host.aside_ready_bytes, guest.host.aside_bytes);
        }
    }
    while (err == 0 && missing != 0) {
        lock_acquire(&guest.lock);
        err = domain_build_step(&guest.domain, BUILD_STEP_PAGES, &missing);
        guest_did("build", gfn(0), missing, err);
        lock_release(&guest.lock);
    }
    unprepare();
    lock_release(&guest.target_lock);
    return err;
}

static int fail(struct guest_problem *problem, enum guest_failure failure, int err)
{
    *problem = (struct guest_problem){
        .failure = failure,
        .available_bytes = guest.host.short_available_bytes,
        .limit = guest.host.short_limit,
    };
    return err;
}

static int start_threads(void)
{
    int err = guest_start_thread("ballast-fault", faults_thread);
    err = err != 0 ? err : guest_start_thread("ballast-upkeep", upkeep_thread);
    return err != 0 ? err : guest_start_thread("ballast-watch", watch_thread);
}

int guest_build(haddr_t ram, uint64_t ram_bytes, uint64_t target_bytes,
                const struct guest_options *options, struct guest_problem *problem)
{
    guest.options = *options;
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
    /* A target may be set as soon as there is a domain, before it has threads. */
    guest.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (guest.kick_fd < 0) {
        return fail(problem, GUEST_FAILED_THREAD, -errno);
    }
    atomic_store(&guest.exists, true);
    err = fill_cache();
    if (err != 0) {
        return fail(problem, GUEST_FAILED_MEMORY, err);
    }
    lock_acquire(&guest.lock);
    guest.reached_noted = true;
    guest_note(GUEST_BUILT);
    lock_release(&guest.lock);
    err = start_threads();
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

/* What became of an operation of QEMU's on guest RAM, which is returned, and what
 * follows. Under the lock. */
static int after_change(int err, const char *operation, gfn_t at, pages_t pages)
{
    guest_did(operation, at, pages, err);
    guest_settled();
    if (guest.domain.state == DOMAIN_EXHAUSTED) {
        guest_kick(); /* a page may have come free */
    }
    return err;
}

int guest_discard(haddr_t at, uint64_t bytes)
{
    const struct linux_host *host = &guest.host;
    uint64_t begin = max_u64(at.a, host->ram.a) - host->ram.a;
    uint64_t end = min_u64(at.a + bytes, host->ram.a + host->ram_bytes) - host->ram.a;
    pages_t first = (begin + PAGE_BYTES - 1) / PAGE_BYTES, last = bytes_to_pages(end);
    int err = 0;
    while (err == 0 && first < last) {
        /* Steps end where superpages do, so that those stay in one piece. */
        pages_t step = DISCARD_STEP_PAGES - first % SUPERPAGE_PAGES;
        step = min_u64(step, last - first);
        lock_acquire(&guest.lock);
        err = domain_discard(&guest.domain, gfn(first), step);
        err = after_change(err, "discard", gfn(first), step);
        lock_release(&guest.lock);
        first += step;
    }
    return err;
}

int guest_give_up(haddr_t page)
{
    gfn_t at;
    int err = -EINVAL;
    if (linux_host_find(&guest.host, page, &at)) {
        lock_acquire(&guest.lock);
        err = domain_decrease_reservation(&guest.domain, at, 1);
        err = after_change(err, "inflate", at, 1);
        lock_release(&guest.lock);
    }
    return err;
}

void guest_take_back(haddr_t page)
{
    gfn_t at;
    if (linux_host_find(&guest.host, page, &at)) {
        lock_acquire(&guest.lock);
        after_change(domain_increase_reservation(&guest.domain, at, 1), "deflate", at, 1);
        lock_release(&guest.lock);
    }
}

static void for_each_out_of(p2m_index_t index, void (*function)(haddr_t at, uint64_t bytes))
{
    const struct p2m *p2m = &guest.domain.p2m;
    gfn_t here = p2m_first_gfn(index);
    gfn_t end = gfn_add(here, p2m_superpage_pages(p2m, index));
    while (p2m->entries[index].out != 0 && here.n < end.n) {
        pages_t run = p2m_run(p2m, here, end.n - here.n);
        if (p2m_get(p2m, here) == P2M_OUT) {
            function(haddr_add(guest.host.ram, pages_to_bytes(here.n)), pages_to_bytes(run));
        }
        here = gfn_add(here, run);
    }
}

void guest_for_each_out(void (*function)(haddr_t at, uint64_t bytes))
{
    p2m_index_t count = guest_exists() ? guest.domain.p2m.count : 0;
    for (p2m_index_t index = 0; index < count;) {
        lock_acquire(&guest.lock);
        for (unsigned step = 0; step < OUT_STEP_SUPERPAGES && index < count; step++) {
            for_each_out_of(index++, function);
        }
        lock_release(&guest.lock);
    }
}

void guest_restart(void)
{
    if (guest_exists()) {
        lock_acquire(&guest.lock);
        int err = domain_increase_reservation(&guest.domain, gfn(0), guest.domain.p2m.max_pages);
        after_change(err, "reset", gfn(0), guest.domain.p2m.max_pages);
        guest_check("a reset");
        lock_release(&guest.lock);
        guest_discard(haddr_add(guest.host.ram, RESTART_KEPT_BYTES),
                      guest.host.ram_bytes - RESTART_KEPT_BYTES);
    }
}

/* Why that cannot be the target now, or 0; and what the domain owns. */
static int check_target(pages_t target_pages, pages_t *total_pages)
{
    lock_acquire(&guest.lock);
    int err = guest.domain.state == DOMAIN_BUILDING ? -EBUSY : domain_refuses(&guest.domain);
    if (err == 0 && (target_pages < SUPERPAGE_PAGES || target_pages > guest.domain.p2m.max_pages)) {
        err = -EINVAL;
    }
    *total_pages = guest.domain.total_pages;
    lock_release(&guest.lock);
    return err;
}

/* Changes the target, with what the domain lacks for it prepared. */
static int set_target(pages_t target_pages)
{
    lock_acquire(&guest.lock);
    guest_check("what came before a new target");
    int err = domain_set_target(&guest.domain, target_pages);
    guest_did("set-target", gfn(0), target_pages, err);
    if (err == 0) {
        guest.reached_noted = false;
        guest_note(GUEST_TARGET_CHANGED);
        guest_settled();
        guest_kick();
    }
    lock_release(&guest.lock);
    return err;
}

/* Ends a change of the target: with the new one, or with the error that
 * prevented it. Under the target's lock. */
static int finish_target(int err, pages_t target_pages, struct guest_problem *problem)
{
    guest.growing_to_pages = 0;
    if (err == 0) {
        err = set_target(target_pages);
    }
    unprepare();
    problem->available_bytes = guest.host.short_available_bytes;
    problem->limit = guest.host.short_limit;
    return err;
}

int guest_set_target(uint64_t target_bytes, bool *more, struct guest_problem *problem)
{
    pages_t target_pages = bytes_to_pages(target_bytes), total_pages = 0;
    *more = false;
    if (!guest_exists()) {
        return -EBUSY;
    }
    /* The build holds the target's lock for as long as it takes: do not wait. */
    int err = check_target(target_pages, &total_pages);
    if (err != 0) {
        return err;
    }
    lock_acquire(&guest.target_lock);
    if (guest.growing_to_pages != 0) {
        lock_release(&guest.target_lock);
        return -EBUSY;
    }
    err = check_target(target_pages, &total_pages);
    if (err == 0 && target_pages > total_pages) {
        err = prepare(target_pages - total_pages);
        *more = err == 0;
    }
    if (*more) {
        guest.growing_to_pages = target_pages;
    } else {
        err = finish_target(err, target_pages, problem);
    }
    lock_release(&guest.target_lock);
    return err;
}

int guest_set_target_step(bool *more, struct guest_problem *problem)
{
    *more = false;
    lock_acquire(&guest.target_lock);
    int err = prepare_step(more);
    if (!*more) {
        err = finish_target(err, guest.growing_to_pages, problem);
    }
    lock_release(&guest.target_lock);
    return err;
}

bool guest_next_event(uint64_t *next, struct guest_event *event)
{
    lock_acquire(&guest.lock);
    uint64_t made = guest.events_made;
    if (made > GUEST_EVENTS_KEPT) {
        *next = max_u64(*next, made - GUEST_EVENTS_KEPT);
    }
    bool is = *next < made;
    if (is) {
        *event = guest.events[(*next)++ % GUEST_EVENTS_KEPT];
    }
    lock_release(&guest.lock);
    return is;
}

void guest_die(void)
{
    lock_acquire(&guest.lock);
    if (guest.domain.state != DOMAIN_DYING) {
        guest_check("what came before the end");
        domain_begin_dying(&guest.domain);
        guest_note(GUEST_DYING);
        pthread_cond_signal(&guest.upkeep);
    }
    lock_release(&guest.lock);
    int err = 0;
    unsigned tries = 0;
    for (pages_t left = 1; left != 0 && (err == 0 || (err == -EAGAIN && tries < DRAIN_TRIES));) {
        if (err != 0) {
            clock_sleep_ns(DRAIN_PAUSE_NS);
            tries++;
        }
        lock_acquire(&guest.lock);
        err = domain_drain_step(&guest.domain, DRAIN_STEP_PAGES, &left);
        guest_did("drain", gfn(0), left, err);
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
            .cache_pages = domain->cache.pages + domain->p2m.given_pages,
            .pod_entries_pages = p2m_pod_pages(&domain->p2m),
            .out_pages = domain->p2m.out_pages + domain->p2m.given_pages,
            .given_pages = domain->p2m.given_pages,
            .cache_superpages = cache_superpages(&domain->cache),
            .covered = domain_covered(domain),
            .shrinking = domain->shrinking,
            .growing_pages = guest.growing_pages,
            .growing_ready_pages = guest.growing_ready_pages,
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
