/* SPDX-License-Identifier: MIT */
/*
 * The thread that works ahead, in short steps so that a fault never waits long
 * for the lock: it fills the reserve of cached superpages while the domain is
 * not covered, and gives pages to the host while the domain shrinks, those that
 * come one by one together. When that is done it makes superpages whole again,
 * one at a time and with a tenth of its time at most; the lock is free meanwhile.
 * When there is nothing to do it sleeps until guest_settled(guest) says otherwise.
 */
#include "guest/state.h"

#include "base/clock.h"
#include "host/merge.h"

#include <errno.h>
#include <sched.h>

/* Pages that one step of shrinking gives back. */
#define SETTLE_STEP_PAGES (4 * SUPERPAGE_PAGES)
/* How long to leave a host alone that cannot move pages just now, and how long
 * to gather what a guest gives up before it goes to the host. */
#define BUSY_PAUSE_NS   UINT64_C(10000000)
#define GATHER_PAUSE_NS UINT64_C(20000000)
/* Rest after a superpage was made whole, in times of what that took; between
 * two rounds; and when the host has no huge page to spare. */
#define RECOVER_REST     9
#define ROUND_PAUSE_NS   UINT64_C(1000000000)
#define NO_HUGE_PAUSE_NS (10 * ROUND_PAUSE_NS)
/* How often to see whether the guest has begun to use what it was given (plug.h). */
#define FRESH_PAUSE_NS UINT64_C(100000000)

/* One step, under the lock: 0 and whether there is more to do, or an error. */
static int step(struct guest *guest, bool *more)
{
    int err = 0;
    *more = false;
    if (guest->domain.shrinking) {
        err = domain_settle_step(&guest->domain, SETTLE_STEP_PAGES, more);
    }
    if (err == 0 && !*more && guest->options.reserve) {
        /* A search that is broken off finds nothing: not when it is needed most. */
        guest->host.yields_to = domain_reserve_is_low(&guest->domain) ? NULL : &guest->lock;
        err = domain_reserve_step(&guest->domain, more);
        guest->host.yields_to = NULL;
    }
    return err;
}

/* Looks for a superpage to make whole, and makes it; lets go of the lock
 * meanwhile. Returns when to go on. */
static uint64_t recover(struct guest *guest)
{
    gfn_t at;
    bool found = domain_recover_begin(&guest->domain, &at) == 0;
    bool round_over = guest->domain.recovery.next == 0;
    lock_release(&guest->lock);
    uint64_t began_ns = clock_now_ns();
    int err = found ? linux_host_merge(&guest->host, at) : 0;
    uint64_t now_ns = clock_now_ns();
    lock_acquire(&guest->lock);
    if (found) {
        domain_recover_end(&guest->domain, err == 0);
        guest_did(guest, "recover", at, SUPERPAGE_PAGES, err);
    }
    uint64_t pause_ns = err == -ENOMEM ? NO_HUGE_PAUSE_NS : RECOVER_REST * (now_ns - began_ns);
    return now_ns + (round_over ? max_u64(pause_ns, ROUND_PAUSE_NS) : pause_ns);
}

/* Waits for work: until then, or for any length of time if no superpage is to
 * be recovered. Returns when the next one may be. */
static uint64_t rest(struct guest *guest, uint64_t recover_ns)
{
    guest->upkeep_idle = true;
    guest->upkeep_calm = !domain_wants_recovery(&guest->domain);
    if (guest->fresh != 0) {
        lock_wait_until(&guest->lock, &guest->upkeep, clock_now_ns() + FRESH_PAUSE_NS);
    } else if (guest->upkeep_calm) {
        lock_wait(&guest->lock, &guest->upkeep);
        recover_ns = clock_now_ns() + ROUND_PAUSE_NS;
    } else {
        lock_wait_until(&guest->lock, &guest->upkeep, recover_ns);
    }
    guest->upkeep_idle = false;
    return recover_ns;
}

/* Tells whose business it is that the guest has begun to use a DIMM, say; the lock is free
 * meanwhile. */
static void tell_taken(struct guest *guest)
{
    if (guest_take_fresh(guest) && guest->options.on_taken != NULL) {
        lock_release(&guest->lock);
        guest->options.on_taken(guest->options.owner);
        lock_acquire(&guest->lock);
    }
}

void *upkeep_thread(void *argument)
{
    struct guest *guest = argument;
    uint64_t recover_ns = clock_now_ns() + ROUND_PAUSE_NS;
    lock_acquire(&guest->lock);
    for (;;) {
        bool more = false;
        pages_t before = guest->domain.total_pages;
        pages_t cached = guest->domain.cache.pages;
        int err = step(guest, &more);
        if (err != 0 || cached != guest->domain.cache.pages) {
            err = guest_did(guest, "upkeep", gfn(0), 0, err);
        }
        bool gave = guest->domain.total_pages != before;
        guest_settled(guest);
        tell_taken(guest);
        if (err == -ESHUTDOWN || err == -ESRCH || guest_is_over(guest)) {
            break; /* dying: there is nothing to work ahead for */
        }
        if (err == 0 && !more && !gave) {
            if (domain_wants_recovery(&guest->domain) && clock_now_ns() >= recover_ns) {
                recover_ns = recover(guest);
            } else {
                recover_ns = rest(guest, recover_ns);
            }
            continue;
        }
        lock_release(&guest->lock);
        if (err != 0 || !more) {
            clock_sleep_ns(err != 0 ? BUSY_PAUSE_NS : GATHER_PAUSE_NS);
        } else {
            do {
                sched_yield();
            } while (lock_is_wanted(&guest->lock)); /* whoever waits for it comes first */
        }
        lock_acquire(&guest->lock);
    }
    lock_release(&guest->lock);
    return NULL;
}
