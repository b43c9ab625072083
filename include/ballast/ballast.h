/* SPDX-License-Identifier: MIT */
/*
 * libballast: populate-on-demand memory for virtual machine monitors.
 *
 * A domain is the RAM of one guest. The guest believes in all of it, `max`; the host
 * gives `target`, all of it when the domain is created, and not a page more. A page
 * comes when it is first touched, by whomever: a vCPU, a device, the kernel for one of
 * them. What holds only zeros is found and used again. What the guest's balloon gives
 * up may be used elsewhere in the guest, or goes to the host when the target is
 * lowered.
 *
 * Results are 0 or -errno; what a function answers with comes last, and is untouched
 * if it fails. The library never prints, never ends the process, and sets no signal
 * handlers; its threads (three for each domain) take no signals. There can be several
 * domains in a process, which know nothing of each other.
 *
 * Any thread may call any function of a domain, from the return of ballast_create to
 * the call of ballast_destroy. None may be called from a signal handler, or from the
 * domain's own `notify`. Numbers of bytes are multiples of 4096.
 *
 * What else may not be done with guest RAM, and what an event asks for, is in
 * libballast(3). Needs Linux 6.8 or newer; 6.12.37 or newer is advised.
 */
#ifndef BALLAST_BALLAST_H
#define BALLAST_BALLAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What guest RAM must be aligned to, and the smallest target: a superpage. */
#define BALLAST_SUPERPAGE_BYTES 2097152

struct ballast_domain;

/* What a VMM is told. */
enum ballast_event {
    /* Somebody touched a page that cannot be had: every page of the target is in use
     * and holds something. The thread that did waits, a vCPU within KVM_RUN, which a
     * signal ends. It goes on when there are pages: after a larger target, or when the
     * guest gives some up. */
    BALLAST_EVENT_EXHAUSTED = 1,
    /* Nobody waits any more. */
    BALLAST_EVENT_RESUMED = 2,
    /* Less than a 16th of the target is left, and the domain is not covered. */
    BALLAST_EVENT_LOW = 3,
    /* The domain is covered: it can no longer run out, as long as the guest does not
     * use what it gave up. */
    BALLAST_EVENT_COVERED = 4,
    /* The domain has just what its target says, after a change of it. */
    BALLAST_EVENT_TARGET_REACHED = 5,
    /* For ten seconds the host could not place a page: it has no memory left for page
     * tables, say. Whoever touched it waits; it is tried again and again. */
    BALLAST_EVENT_STALLED = 6,
    /* The library found its own state wrong. Guest RAM was taken away, for it can no
     * longer be vouched for: whoever touches it waits until ballast_destroy. The guest
     * must end. Every function but that one answers -EIO from now on. */
    BALLAST_EVENT_BROKEN = 7,
};

/* Zero what is not needed: later versions may add members at the end. */
struct ballast_config {
    /*
     * Guest RAM: mapped by the VMM, private and anonymous (no MAP_SHARED, no file, no
     * MAP_HUGETLB), readable and writable, aligned to BALLAST_SUPERPAGE_BYTES, not
     * touched yet; with MAP_NORESERVE, since `max` may be more than the host has. It
     * stays the VMM's and must stay mapped until ballast_destroy.
     */
    void *ram;
    uint64_t ram_bytes;    /* max: at least a superpage, at most 16 TiB */
    uint64_t target_bytes; /* at least a superpage, at most ram_bytes */
    /*
     * Called when something has happened, on any thread, often one of the library's
     * own; never twice at a time, but for BALLAST_EVENT_BROKEN. It must return soon, must
     * not touch guest RAM, and must not call the library: let it set a flag and write
     * to an eventfd. The first call may come before ballast_create returns. NULL: nobody
     * wants to know.
     */
    void (*notify)(void *opaque, enum ballast_event event);
    void *opaque; /* passed to notify */
};

/*
 * A snapshot. In each:
 *
 *   populated_bytes + pod_bytes + ballooned_bytes = max_bytes
 *   populated_bytes + cached_bytes                = total_bytes
 *   total_bytes = target_bytes, or more while shrinking
 *   total_bytes = what is resident, by the kernel's count, in guest RAM and in
 *                 [cache, cache + cache_span_bytes)
 */
struct ballast_stats {
    bool exhausted; /* see BALLAST_EVENT_EXHAUSTED */
    bool covered;   /* see BALLAST_EVENT_COVERED */
    bool shrinking; /* the target was lowered, and total has not come down to it */
    uint64_t max_bytes, target_bytes, total_bytes;
    uint64_t populated_bytes; /* of guest RAM: backed by a page, in the guest's use */
    uint64_t pod_bytes;       /* of guest RAM: backed by nothing until it is touched */
    uint64_t ballooned_bytes; /* of guest RAM: given up by the guest */
    /* Owned by the domain and not in the guest's use: in the cache, or in guest RAM that
     * was given up and is to be collected. */
    uint64_t cached_bytes;
    /* While ballast_set_target brings memory from the host: how much, and how much of
     * it is there. Not part of total_bytes yet. */
    uint64_t growing_bytes, growing_ready_bytes;
    /* Where the cache is, in this process: for who counts what is resident. */
    const void *cache;
    uint64_t cache_span_bytes; /* address space; little of it is ever used */
    /* From here on counters: since the domain was created; they only rise. */
    uint64_t faults;       /* touches of missing pages that were served */
    uint64_t populated_2m; /* superpages placed */
    uint64_t populated_4k; /* single pages placed, neighbours included */
    uint64_t reclaimed_2m; /* superpages that held only zeros, taken back */
    uint64_t reclaimed_4k; /* single pages that held only zeros, taken back */
    uint64_t recovered_2m; /* superpages that were broken up and are huge again */
    uint64_t sweeps;       /* searches because the cache was empty */
    uint64_t busy_skips;   /* pages that were left alone because something held them */
    /* How long served faults took at most, of 50 % and of 99 % of them (this is at most an
     * eighth too high); and the longest. */
    uint64_t fault_p50_ns, fault_p99_ns, fault_max_ns;
};

/*
 * Makes a domain and brings all of the target from the host, which takes as long as the
 * kernel takes to find and clear so much memory. When it returns the guest may run. The thread that
 * calls it must be of the process that will touch guest RAM: not of one that forks to become it.
 *
 * `config_bytes` is sizeof(struct ballast_config); what `config` points to is only read
 * until it returns.
 *
 *   -EINVAL      a size or an alignment is not as struct ballast_config says, or guest
 *                RAM is not private anonymous memory
 *   -EEXIST      something is in guest RAM already
 *   -E2BIG       `config` has members that this version does not know, and they are
 *                not zero
 *   -ENOMEM      the host cannot give the target and keep 64 MiB for itself, or the
 *                memory cgroup cannot, or there is no address space (RLIMIT_AS)
 *   -EPERM       userfaultfd for the kernel's own faults is not permitted: it takes
 *                CAP_SYS_PTRACE, or /dev/userfaultfd opened to this user, or
 *                vm.unprivileged_userfaultfd=1
 *   -EOPNOTSUPP  the kernel is older than 6.8, or was built without userfaultfd
 *   -EBUSY       guest RAM is registered with another userfaultfd
 *   -EAGAIN      no thread can be had, or the host cannot move pages just now
 *   -EMFILE, -ENFILE  no descriptor can be had (a domain has four)
 *   -EIO         the host does not do what it must
 */
int ballast_create(const struct ballast_config *config, size_t config_bytes,
                   struct ballast_domain **domain);

/*
 * Ends a domain and gives its cache back to the host. No other function of it may be
 * under way, or called later. Guest RAM is the VMM's again, ordinary memory with what
 * was in it; whoever waits for a page, and whoever touches a missing one later, gets one
 * of zeros from the host. So stop the guest first. NULL is no domain: nothing is done.
 */
void ballast_destroy(struct ballast_domain *domain);

/*
 * The guest's balloon inflates: the guest gives up [at, at + bytes) of its RAM, and what
 * is in it is lost. Should it use these pages all the same, it finds zeros, and nothing
 * that it writes is lost. `at` is the VMM's address of guest RAM, aligned to 4096.
 *
 * The library's lock is let go every 4 MiB: if it fails, part of it may be done.
 *
 *   -EINVAL  no part of guest RAM, or not aligned
 *   -EIO     the domain is broken
 */
int ballast_inflate(struct ballast_domain *domain, void *at, uint64_t bytes);

/* The balloon deflates: the guest takes back [at, at + bytes), of which some or all may
 * not have been given up. Errors as above. */
int ballast_deflate(struct ballast_domain *domain, void *at, uint64_t bytes);

/* The contents of [at, at + bytes) are not needed any more, and the guest may use it again
 * without a word: free page reports, or what else MADV_DONTNEED would be used for. It
 * reads as zeros afterwards. Errors as above. */
int ballast_discard(struct ballast_domain *domain, void *at, uint64_t bytes);

/* The guest starts anew: it has given nothing up, and all its RAM is as when the domain
 * was created. vCPUs and devices must not touch it meanwhile. -EIO as above. */
int ballast_reset(struct ballast_domain *domain);

/*
 * Changes the target. To a larger one: what is lacking is brought from the host first,
 * while all else goes on; all or nothing. Takes as long as in ballast_create. To a smaller
 * one: done at once; what no page that is missing may need goes to the host within
 * moments, the rest as the guest gives pages up, which is up to its balloon.
 * ballast_stats.shrinking and BALLAST_EVENT_TARGET_REACHED say when.
 *
 *   -EINVAL  less than a superpage, more than max, or no multiple of 4096
 *   -ENOMEM  as in ballast_create; the target is what it was
 *   -EBUSY   another thread is changing it
 *   -EAGAIN  the host cannot move memory just now; the target is what it was
 *   -EIO     the domain is broken
 */
int ballast_set_target(struct ballast_domain *domain, uint64_t target_bytes);

/* Tells how the domain is. `stats_bytes` is sizeof(struct ballast_stats): no more is written.
 * -EINVAL if it is no size that this function ever had, -EIO if the domain is broken. */
int ballast_get_stats(struct ballast_domain *domain, struct ballast_stats *stats,
                      size_t stats_bytes);

/* The version of the library that is running, as "0.1.0". Never freed. */
const char *ballast_version(void);

#ifdef __cplusplus
}
#endif

#endif
