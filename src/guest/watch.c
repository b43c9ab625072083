/* SPDX-License-Identifier: MIT */
/*
 * The thread that sees to it that a domain whose state is wrong does not just
 * hang, and that a wrong state is found though nobody meets it.
 *
 * Two of our threads read guest memory and the cache where it must be in place.
 * Should a page be missing there after all (something in the process dropped it
 * behind our back), the thread waits in the kernel for a page that only it could
 * bring, or that needs the lock it holds. So here we wait for the lock, in turns
 * of a second. If it cannot be had for STUCK_TURNS turns, while no operation ends,
 * it will not be had any more. Turns are counted, not seconds: a process that was
 * stopped for an hour (SIGSTOP, a debugger, a host that sleeps) has had one.
 *
 * With the lock, all equations are evaluated if anything was done since the last
 * time, as long as that is a short matter. And pages that the kernel took back
 * unasked are asked for again (host/lost.h).
 */
#include "guest/state.h"

#include "base/clock.h"
#include "host/lost.h"
#include "host/memory.h"

#include <poll.h>
#include <sched.h>

#define ROUND_MS 5000
#define TURN_NS  UINT64_C(1000000000)
/* No operation takes so long: each does some 10 ms of work, or, where memory must come
 * back from a slow swap first, some seconds. */
#define STUCK_TURNS 30
/* A pass over the metadata of such a domain takes 0.04 ms, and about a millisecond
 * if every superpage is split. */
#define CHECK_MAX_PAGES ((UINT64_C(16) << 30) / PAGE_BYTES)

static uint64_t operations(const struct guest *guest)
{
    return __atomic_load_n(&guest->history.operations, __ATOMIC_RELAXED);
}

static bool take_lock(struct guest *guest)
{
    uint64_t before = operations(guest);
    for (unsigned turns = 0; turns < STUCK_TURNS; turns++) {
        if (lock_acquire_until(&guest->lock, clock_now_ns() + TURN_NS)) {
            return true;
        }
        uint64_t now = operations(guest);
        turns = now != before ? 0 : turns;
        before = now;
    }
    return false;
}

/* What the kernel took back unasked is asked for again, a superpage at a time. */
static void bring_back_lost(struct guest *guest)
{
    struct lost_search search = lost_search_begin();
    haddr_t superpage;
    bool more = true;
    while (more && lost_find(&guest->host, &search, &superpage) &&
           memory_has(SUPERPAGE_BYTES, NULL)) {
        lock_acquire(&guest->lock);
        more = domain_refuses(&guest->domain) == 0;
        if (more) {
            lost_bring_back(&guest->host, superpage);
        }
        lock_release(&guest->lock);
        while (lock_is_wanted(&guest->lock)) {
            sched_yield();
        }
    }
}

/* Waits for the next round: false if there is none. */
static bool rest(const struct guest *guest)
{
    struct pollfd end = {.fd = guest->end_fd, .events = POLLIN};
    poll(&end, 1, ROUND_MS);
    return !guest_is_over(guest);
}

void *watch_thread(void *argument)
{
    struct guest *guest = argument;
    uint64_t seen = 0;
    while (rest(guest)) {
        if (!take_lock(guest)) {
            guest_broken(guest, "waiting for the domain's lock: a thread of ours is stuck", gfn(0));
            break;
        }
        if (operations(guest) != seen && guest->domain.p2m.max_pages <= CHECK_MAX_PAGES) {
            guest_check(guest, "a look now and then");
        }
        seen = operations(guest);
        lock_release(&guest->lock);
        bring_back_lost(guest);
    }
    return NULL;
}
