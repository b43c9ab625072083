/* SPDX-License-Identifier: MIT */
/*
 * Memory that is brought from the host, for the build or for a larger target: aside
 * first, in steps and without the domain's lock, then into the cache, all or nothing.
 */
#include "guest/state.h"

#include <errno.h>

/* Pages that one step of a build moves into the cache: some 10 ms of work. */
#define BUILD_STEP_PAGES (32 * SUPERPAGE_PAGES)

/* Lets others see how far the host is with what it prepares. */
static void note_growth(struct guest *guest)
{
    lock_acquire(&guest->lock);
    guest->growing_pages = bytes_to_pages(guest->host.aside_bytes);
    guest->growing_ready_pages = bytes_to_pages(guest->host.aside_ready_bytes);
    lock_release(&guest->lock);
}

/* linux_host_prepare and its step, and the end of it; under the target's lock. */
static int prepare(struct guest *guest, pages_t pages)
{
    int err = linux_host_prepare(&guest->host, pages_to_bytes(pages));
    note_growth(guest);
    return err;
}

static int prepare_step(struct guest *guest, bool *more)
{
    lock_acquire(&guest->lock);
    bool dying = guest->domain.state == DOMAIN_DYING;
    lock_release(&guest->lock);
    int err = dying ? -ESHUTDOWN : linux_host_prepare_step(&guest->host, more);
    note_growth(guest);
    return err;
}

static void unprepare(struct guest *guest)
{
    linux_host_unprepare(&guest->host);
    note_growth(guest);
}

/* Brings so much from the host, aside. Under the target's lock. */
static int bring(struct guest *guest, pages_t pages)
{
    int err = prepare(guest, pages);
    for (bool more = true; err == 0 && more;) {
        err = prepare_step(guest, &more);
        if (guest->options.on_building != NULL) {
            guest->options.on_building(guest->options.owner, guest->host.aside_ready_bytes,
                                       guest->host.aside_bytes);
        }
    }
    return err;
}

void guest_note_built(struct guest *guest)
{
    if (!guest->built && guest->domain.target_pages == guest->ordered_pages) {
        guest->built = true;
        guest->reached_noted = true;
        guest_note(guest, GUEST_BUILT);
    }
}

int guest_grow_to_order(struct guest *guest, struct guest_problem *problem)
{
    struct domain *domain = &guest->domain;
    lock_acquire(&guest->target_lock);
    lock_acquire(&guest->lock);
    pages_t target_pages = min_u64(guest->ordered_pages, domain->p2m.max_pages);
    pages_t missing = target_pages - domain->target_pages;
    int err = domain_refuses(domain);
    lock_release(&guest->lock);
    if (err == 0 && missing != 0) {
        err = bring(guest, missing);
    }
    if (err == 0 && missing != 0) {
        lock_acquire(&guest->lock);
        err = domain_set_target(domain, target_pages);
        err = guest_did(guest, "build", gfn(0), missing, err);
        guest_note_built(guest);
        lock_release(&guest->lock);
    }
    unprepare(guest);
    *problem = (struct guest_problem){
        .failure = GUEST_FAILED_MEMORY,
        .available_bytes = guest->host.spare.bytes,
        .limit = guest->host.spare.limit,
    };
    lock_release(&guest->target_lock);
    return err;
}

int guest_fill_cache(struct guest *guest)
{
    pages_t missing = guest->domain.target_pages;
    lock_acquire(&guest->target_lock);
    int err = bring(guest, missing);
    while (err == 0 && missing != 0) {
        lock_acquire(&guest->lock);
        err = domain_build_step(&guest->domain, BUILD_STEP_PAGES, &missing);
        err = guest_did(guest, "build", gfn(0), missing, err);
        lock_release(&guest->lock);
    }
    unprepare(guest);
    lock_release(&guest->target_lock);
    return err;
}

/* Why that cannot be the target now, or 0; and what the domain owns. */
static int check_target(struct guest *guest, pages_t target_pages, pages_t *total_pages)
{
    lock_acquire(&guest->lock);
    int err = guest->domain.state == DOMAIN_BUILDING ? -EBUSY : domain_refuses(&guest->domain);
    if (err == 0 && !guest->built) {
        err = -EBUSY;
    }
    if (err == 0 &&
        (target_pages < SUPERPAGE_PAGES || target_pages > guest->domain.p2m.max_pages)) {
        err = -EINVAL;
    }
    *total_pages = guest->domain.total_pages;
    lock_release(&guest->lock);
    return err;
}

/* Changes the target, with what the domain lacks for it prepared. */
static int set_target(struct guest *guest, pages_t target_pages)
{
    lock_acquire(&guest->lock);
    guest_check(guest, "what came before a new target");
    int err = domain_set_target(&guest->domain, target_pages);
    err = guest_did(guest, "set-target", gfn(0), target_pages, err);
    if (err == 0) {
        guest->reached_noted = false;
        guest_note(guest, GUEST_TARGET_CHANGED);
        guest_settled(guest);
        guest_kick(guest);
    }
    lock_release(&guest->lock);
    return err;
}

/* Ends a change of the target: with the new one, or with the error that
 * prevented it. Under the target's lock. */
static int finish_target(struct guest *guest, int err, pages_t target_pages,
                         struct guest_problem *problem)
{
    guest->growing_to_pages = 0;
    if (err == 0) {
        err = set_target(guest, target_pages);
    }
    unprepare(guest);
    problem->available_bytes = guest->host.spare.bytes;
    problem->limit = guest->host.spare.limit;
    return err;
}

int guest_set_target(struct guest *guest, uint64_t target_bytes, bool *more,
                     struct guest_problem *problem)
{
    pages_t target_pages = bytes_to_pages(target_bytes), total_pages = 0;
    *more = false;
    if (!guest_exists(guest)) {
        return -EBUSY;
    }
    /* The build holds the target's lock for as long as it takes: do not wait. */
    int err = check_target(guest, target_pages, &total_pages);
    if (err != 0) {
        return err;
    }
    lock_acquire(&guest->target_lock);
    if (guest->growing_to_pages != 0) {
        lock_release(&guest->target_lock);
        return -EBUSY;
    }
    err = check_target(guest, target_pages, &total_pages);
    if (err == 0 && target_pages > total_pages) {
        err = prepare(guest, target_pages - total_pages);
        *more = err == 0;
    }
    if (*more) {
        guest->growing_to_pages = target_pages;
    } else {
        err = finish_target(guest, err, target_pages, problem);
    }
    lock_release(&guest->target_lock);
    return err;
}

int guest_set_target_step(struct guest *guest, bool *more, struct guest_problem *problem)
{
    *more = false;
    lock_acquire(&guest->target_lock);
    int err = prepare_step(guest, more);
    if (!*more) {
        err = finish_target(guest, err, guest->growing_to_pages, problem);
    }
    lock_release(&guest->target_lock);
    return err;
}
