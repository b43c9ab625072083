/* SPDX-License-Identifier: MIT */
/*
 * libballast: what <ballast/ballast.h> promises, in terms of guest/guest.h. It checks
 * arguments and translates; whatever it does more is there.
 */
#pragma GCC visibility push(default)
#include <ballast/ballast.h>
#pragma GCC visibility pop

#include "guest/state.h"
#include "host/pagemap.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct ballast_domain {
    struct guest guest;
    void (*notify)(void *opaque, enum ballast_event event);
    void *opaque;
    atomic_flag told_broken;
};

static void notify(const struct ballast_domain *domain, enum ballast_event event)
{
    if (domain->notify != NULL) {
        domain->notify(domain->opaque, event);
    }
}

static void on_event(void *owner, enum guest_event_kind kind)
{
    const struct ballast_domain *domain = owner;
    switch (kind) {
    case GUEST_LOW_CACHE:
        notify(domain, BALLAST_EVENT_LOW);
        break;
    case GUEST_EXHAUSTED:
        notify(domain, BALLAST_EVENT_EXHAUSTED);
        break;
    case GUEST_RESUMED:
        notify(domain, BALLAST_EVENT_RESUMED);
        break;
    case GUEST_TARGET_REACHED:
        notify(domain, BALLAST_EVENT_TARGET_REACHED);
        break;
    case GUEST_COVERED:
        notify(domain, BALLAST_EVENT_COVERED);
        break;
    case GUEST_BUILT: /* who asked for these knows already */
    case GUEST_TARGET_CHANGED:
    case GUEST_DYING:
        break;
    }
}

/* Whoever touched it waits. That a domain is exhausted is an event already. */
static void on_unserved(void *owner, gfn_t at, int err)
{
    struct ballast_domain *domain = owner;
    (void)at;
    if (err == -EAGAIN) {
        lock_acquire(&domain->guest.lock);
        notify(domain, BALLAST_EVENT_STALLED);
        lock_release(&domain->guest.lock);
    }
}

static void on_broken(void *owner, const char *operation, gfn_t at)
{
    struct ballast_domain *domain = owner;
    (void)operation;
    (void)at;
    guest_freeze(&domain->guest);
    if (!atomic_flag_test_and_set(&domain->told_broken)) {
        notify(domain, BALLAST_EVENT_BROKEN);
    }
}

/* Takes what the caller's header had. Members that are not there are zero. */
static int read_config(const struct ballast_config *config, size_t config_bytes,
                       struct ballast_config *own)
{
    const unsigned char *bytes = (const unsigned char *)config;
    if (config_bytes < sizeof(*own)) {
        return -EINVAL; /* there was no smaller one */
    }
    for (size_t i = sizeof(*own); i < config_bytes; i++) {
        if (bytes[i] != 0) {
            return -E2BIG;
        }
    }
    *own = *config;
    return 0;
}

static int check_config(const struct ballast_config *config)
{
    bool is = config->ram != NULL && (uintptr_t)config->ram % SUPERPAGE_BYTES == 0 &&
              config->ram_bytes % PAGE_BYTES == 0 && config->ram_bytes >= SUPERPAGE_BYTES &&
              config->ram_bytes <= MAX_DOMAIN_BYTES && config->target_bytes % PAGE_BYTES == 0 &&
              config->target_bytes >= SUPERPAGE_BYTES && config->target_bytes <= config->ram_bytes;
    return is ? 0 : -EINVAL;
}

/* What is there already would be more than the target. */
static int check_empty(haddr_t ram, uint64_t bytes)
{
    int pagemap;
    int err = pagemap_open(&pagemap);
    if (err == 0) {
        err = pagemap_is_empty(pagemap, ram, bytes) ? 0 : -EEXIST;
        close(pagemap);
    }
    return err;
}

int ballast_create(const struct ballast_config *config, size_t config_bytes,
                   struct ballast_domain **domain)
{
    struct ballast_config own;
    int err = read_config(config, config_bytes, &own);
    err = err != 0 ? err : check_config(&own);
    err = err != 0 ? err : check_empty(haddr(own.ram), own.ram_bytes);
    if (err != 0) {
        return err;
    }
    struct ballast_domain *made = malloc(sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    *made = (struct ballast_domain){
        .guest = GUEST_INITIALIZER,
        .notify = own.notify,
        .opaque = own.opaque,
        .told_broken = ATOMIC_FLAG_INIT,
    };
    const struct guest_options options = {
        .reserve = true,
        .owner = made,
        .on_event = on_event,
        .on_unserved = on_unserved,
        .on_broken = on_broken,
    };
    struct guest_problem problem;
    err = guest_build(&made->guest, haddr(own.ram), own.ram_bytes, own.target_bytes, &options,
                      &problem);
    if (err != 0) {
        guest_end(&made->guest);
        free(made);
        return err == -ENOSYS ? -EOPNOTSUPP : err;
    }
    *domain = made;
    return 0;
}

void ballast_destroy(struct ballast_domain *domain)
{
    if (domain != NULL) {
        guest_end(&domain->guest);
        free(domain);
    }
}

/* Then its lock may be held by a thread that is stuck: it must not be asked for. */
static bool is_broken(const struct ballast_domain *domain)
{
    return atomic_load(&domain->guest.broken);
}

/* Carries one of guest.h's operations out on a range of guest RAM. */
static int do_range(struct ballast_domain *domain, const void *at, uint64_t bytes,
                    int (*operation)(struct guest *guest, haddr_t at, uint64_t bytes))
{
    struct host_block ram = {0}; /* there is one, from first to last */
    blocks_get(&domain->guest.host.ram, 0, &ram);
    uint64_t offset = (uintptr_t)at - ram.at.a;
    if (offset % PAGE_BYTES != 0 || bytes % PAGE_BYTES != 0 || offset > ram.bytes ||
        bytes > ram.bytes - offset) {
        return -EINVAL;
    }
    return is_broken(domain) ? -EIO : operation(&domain->guest, haddr(at), bytes);
}

int ballast_inflate(struct ballast_domain *domain, void *at, uint64_t bytes)
{
    return do_range(domain, at, bytes, guest_give_up);
}

int ballast_deflate(struct ballast_domain *domain, void *at, uint64_t bytes)
{
    return do_range(domain, at, bytes, guest_take_back);
}

int ballast_discard(struct ballast_domain *domain, void *at, uint64_t bytes)
{
    return do_range(domain, at, bytes, guest_discard);
}

int ballast_reset(struct ballast_domain *domain)
{
    return is_broken(domain) ? -EIO : guest_restart(&domain->guest, 0);
}

int ballast_set_target(struct ballast_domain *domain, uint64_t target_bytes)
{
    struct guest_problem problem;
    bool more = false;
    if (target_bytes % PAGE_BYTES != 0) {
        return -EINVAL;
    }
    int err =
        is_broken(domain) ? -EIO : guest_set_target(&domain->guest, target_bytes, &more, &problem);
    while (err == 0 && more) {
        err = guest_set_target_step(&domain->guest, &more, &problem);
    }
    return err;
}

int ballast_get_stats(struct ballast_domain *domain, struct ballast_stats *stats,
                      size_t stats_bytes)
{
    struct guest_report r;
    if (stats_bytes != sizeof(*stats)) {
        return -EINVAL; /* there was no other one */
    }
    if (is_broken(domain)) {
        return -EIO;
    }
    guest_describe(&domain->guest, &r);
    *stats = (struct ballast_stats){
        .exhausted = r.state == DOMAIN_EXHAUSTED,
        .covered = r.covered,
        .shrinking = r.shrinking,
        .max_bytes = pages_to_bytes(r.max_pages),
        .target_bytes = pages_to_bytes(r.target_pages),
        .total_bytes = pages_to_bytes(r.total_pages),
        .populated_bytes = pages_to_bytes(r.populated_pages),
        .pod_bytes = pages_to_bytes(r.pod_entries_pages),
        .ballooned_bytes = pages_to_bytes(r.out_pages),
        .cached_bytes = pages_to_bytes(r.cache_pages),
        .growing_bytes = pages_to_bytes(r.growing_pages),
        .growing_ready_bytes = pages_to_bytes(r.growing_ready_pages),
        .cache = (const void *)r.cache.a,
        .cache_span_bytes = r.cache_bytes,
        .faults = r.counters.faults,
        .populated_2m = r.counters.populated_2m,
        .populated_4k = r.counters.populated_4k,
        .reclaimed_2m = r.counters.reclaimed_2m,
        .reclaimed_4k = r.counters.reclaimed_4k,
        .recovered_2m = r.counters.recovered_2m,
        .sweeps = r.counters.sweeps,
        .busy_skips = r.counters.busy_skips,
        .fault_p50_ns = r.fault_p50_ns,
        .fault_p99_ns = r.fault_p99_ns,
        .fault_max_ns = r.fault_max_ns,
    };
    return 0;
}

const char *ballast_version(void)
{
    return BALLAST_VERSION;
}
