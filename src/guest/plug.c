/* SPDX-License-Identifier: MIT */
#include "guest/plug.h"

#include "base/clock.h"
#include "guest/state.h"

#include <errno.h>

/* A page that something else holds just now is tried again for ten seconds. */
#define BUSY_PAUSE_NS UINT64_C(10000000)
#define BUSY_TRIES    1000

/* Under the lock: the number of the block that begins at an address; BLOCKS_MAX if there
 * is none. */
static unsigned find_block(const struct guest *guest, haddr_t at, struct host_block *block)
{
    unsigned number = 0;
    while (number < BLOCKS_MAX &&
           !(blocks_get(&guest->host.ram, number, block) && block->at.a == at.a)) {
        number++;
    }
    return number;
}

/* Under the lock. */
static int add_block(struct guest *guest, haddr_t at, uint64_t bytes, struct host_block *block)
{
    *block = (struct host_block){.at = at, .bytes = bytes};
    pages_t pages = bytes_to_pages(bytes);
    int err = domain_plug(&guest->domain, pages, &block->first);
    if (err == 0) {
        err = linux_host_plug(&guest->host, block);
        if (err != 0) {
            domain_unplug(&guest->domain, block->first, pages);
        }
    }
    return guest_did(guest, "plug", err == 0 ? block->first : gfn(0), pages, err);
}

int guest_plug(struct guest *guest, haddr_t at, uint64_t bytes, bool starting,
               struct guest_problem *problem)
{
    struct host_block block;
    *problem = (struct guest_problem){.failure = GUEST_FAILED_REGISTER};
    lock_acquire(&guest->lock);
    int err = guest->domain.state == DOMAIN_BUILDING ? -EBUSY : add_block(guest, at, bytes, &block);
    if (err == 0) {
        guest->unused[find_block(guest, at, &block)] = !starting;
    }
    if (err == 0 && !starting) {
        err = domain_decrease_reservation(&guest->domain, block.first, bytes_to_pages(bytes));
        guest_did(guest, "out of use", block.first, bytes_to_pages(bytes), err);
        guest_settled(guest);
    }
    lock_release(&guest->lock);
    return err == 0 && starting ? guest_grow_to_order(guest, problem) : err;
}

/* Gives up all that is in a block, and collects it, as far as the host lets us. Whether
 * there is nothing left in it. Under the lock. */
static int empty_block(struct guest *guest, const struct host_block *block, bool *empty)
{
    pages_t pages = bytes_to_pages(block->bytes);
    int err = domain_decrease_reservation(&guest->domain, block->first, pages);
    if (err == 0) {
        err = domain_collect(&guest->domain, block->first, pages);
    }
    *empty = err == 0;
    for (gfn_t at = block->first; *empty && at.n < block->first.n + pages;) {
        pages_t run = p2m_run(&guest->domain.p2m, at, SUPERPAGE_PAGES);
        *empty = p2m_get(&guest->domain.p2m, at) == P2M_OUT;
        at = gfn_add(at, run);
    }
    guest_did(guest, "out of use", block->first, pages, err);
    guest_settled(guest);
    return err;
}

static void set_fresh(struct guest *guest, unsigned number, bool fresh)
{
    guest->fresh += fresh && !guest->is_fresh[number];
    guest->fresh -= !fresh && guest->is_fresh[number];
    guest->is_fresh[number] = fresh;
}

/* What was out of use is POD, and what somebody touched of it RAM. */
static void take_in(struct guest *guest, const struct host_block *block)
{
    pages_t pages = bytes_to_pages(block->bytes);
    int err = domain_increase_reservation(&guest->domain, block->first, pages);
    guest_did(guest, "in use", block->first, pages, err);
    guest_settled(guest);
}

static bool is_touched(const struct guest *guest, const struct host_block *block)
{
    const struct p2m *p2m = &guest->domain.p2m;
    p2m_index_t index = p2m_index(block->first);
    p2m_index_t end = p2m_index(gfn_add(block->first, bytes_to_pages(block->bytes)));
    while (index < end && p2m->entries[index].ram == 0 && p2m->entries[index].given == 0) {
        index++;
    }
    return index < end;
}

bool guest_take_fresh(struct guest *guest)
{
    bool any = false;
    for (unsigned i = 0; guest->fresh != 0 && i < BLOCKS_MAX; i++) {
        struct host_block block;
        if (guest->is_fresh[i] && blocks_get(&guest->host.ram, i, &block) &&
            is_touched(guest, &block)) {
            set_fresh(guest, i, false);
            take_in(guest, &block);
            any = true;
        }
    }
    return any;
}

void guest_use(struct guest *guest, haddr_t at, bool used)
{
    struct host_block block;
    lock_acquire(&guest->lock);
    unsigned number = find_block(guest, at, &block);
    if (number < BLOCKS_MAX && guest->unused[number] == used) {
        bool empty;
        guest->unused[number] = !used;
        set_fresh(guest, number, used);
        if (used) {
            pthread_cond_signal(&guest->upkeep);
        } else {
            empty_block(guest, &block, &empty);
        }
    }
    lock_release(&guest->lock);
}

/* One try, under the lock. */
static int remove_block(struct guest *guest, const struct host_block *block, unsigned number)
{
    bool empty = false;
    pages_t target_pages = guest->domain.target_pages;
    int err = empty_block(guest, block, &empty);
    if (err != 0 || !empty) {
        return err != 0 ? err : -EBUSY;
    }
    err = domain_unplug(&guest->domain, block->first, bytes_to_pages(block->bytes));
    guest_did(guest, "unplug", block->first, bytes_to_pages(block->bytes), err);
    if (err == 0) {
        linux_host_unplug(&guest->host, block);
        guest->unused[number] = false;
        set_fresh(guest, number, false);
        if (guest->domain.target_pages != target_pages) {
            guest->reached_noted = false;
            guest_note(guest, GUEST_TARGET_CHANGED);
        }
        guest_settled(guest);
    }
    return err;
}

bool guest_unplug(struct guest *guest, haddr_t at, uint64_t bytes)
{
    int err = -EAGAIN;
    for (int tries = 0; tries < BUSY_TRIES && (err == -EAGAIN || err == -EBUSY); tries++) {
        if (tries != 0) {
            clock_sleep_ns(BUSY_PAUSE_NS);
        }
        struct host_block block;
        lock_acquire(&guest->lock);
        unsigned number = find_block(guest, at, &block);
        bool whole = number < BLOCKS_MAX && block.first.n != 0 && block.bytes <= bytes;
        err = whole ? remove_block(guest, &block, number) : -EINVAL;
        lock_release(&guest->lock);
    }
    if (err == -EINVAL) {
        guest_die(guest); /* a VMM frees the guest's first memory only when it is done with it */
    }
    return err != -EAGAIN && err != -EBUSY;
}

int guest_set_policy(struct guest *guest, haddr_t at, uint64_t bytes,
                     const struct memory_policy *policy)
{
    lock_acquire(&guest->target_lock);
    lock_acquire(&guest->lock);
    int err = linux_host_set_policy(&guest->host, at, bytes, policy);
    lock_release(&guest->lock);
    lock_release(&guest->target_lock);
    return err;
}

void guest_review_blocks(struct guest *guest, bool (*is_used)(haddr_t at))
{
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        struct host_block block;
        lock_acquire(&guest->lock);
        bool is = blocks_get(&guest->host.ram, i, &block);
        lock_release(&guest->lock);
        if (is && block.first.n != 0) {
            guest_use(guest, block.at, is_used(block.at));
        }
    }
}

int guest_complete(struct guest *guest)
{
    lock_acquire(&guest->lock);
    int err = guest->built ? 0 : -EINVAL;
    lock_release(&guest->lock);
    return err;
}
