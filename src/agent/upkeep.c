/* SPDX-License-Identifier: MIT */
/*
 * The thread that works ahead, in short steps so that a fault never waits long
 * for the lock: it fills the reserve of cached superpages while the domain is
 * not covered, and gives pages to the host while the domain shrinks, those that
 * come one by one together. When there is nothing to do it sleeps until
 * guest_settled() says otherwise.
 */
#include "agent/guest_state.h"

#include "host/clock.h"

#include <errno.h>
#include <sched.h>

/* Pages that one step of shrinking gives back. */
#define SETTLE_STEP_PAGES (4 * SUPERPAGE_PAGES)
/* How long to leave a host alone that cannot move pages just now, and how long
 * to gather what a guest gives up before it goes to the host. */
#define BUSY_PAUSE_NS   UINT64_C(10000000)
#define GATHER_PAUSE_NS UINT64_C(20000000)

/* One step, under the lock: 0 and whether there is more to do, or an error. */
static int step(bool *more)
{
    int err = 0;
    *more = false;
    if (guest.domain.shrinking) {
        err = domain_settle_step(&guest.domain, SETTLE_STEP_PAGES, more);
    }
    if (err == 0 && !*more && guest.options.reserve) {
        err = domain_reserve_step(&guest.domain, more);
    }
    return err;
}

void *upkeep_thread(void *unused)
{
    (void)unused;
    lock_acquire(&guest.lock);
    for (;;) {
        bool more = false;
        pages_t before = guest.domain.total_pages;
        int err = step(&more);
        bool gave = guest.domain.total_pages != before;
        guest_settled();
        if (err == -ESHUTDOWN || err == -ESRCH) {
            break; /* dying: there is nothing to work ahead for */
        }
        if (err == -EIO) {
            guest_stop_broken("upkeep", gfn(0));
        }
        if (err == 0 && !more && !gave) {
            guest.upkeep_idle = true;
            lock_wait(&guest.lock, &guest.upkeep);
            guest.upkeep_idle = false;
            continue;
        }
        lock_release(&guest.lock);
        if (err != 0 || !more) {
            clock_sleep_ns(err != 0 ? BUSY_PAUSE_NS : GATHER_PAUSE_NS);
        } else {
            sched_yield(); /* whoever waits for the lock comes first */
        }
        lock_acquire(&guest.lock);
    }
    lock_release(&guest.lock);
    return NULL;
}
