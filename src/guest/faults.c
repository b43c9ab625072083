/* SPDX-License-Identifier: MIT */
/*
 * The thread that serves faults.
 *
 * It reads which gfns are waited for and has the engine populate them. Those that
 * cannot be had are kept on a list, if the owner lets them wait (on_unserved): whoever
 * touched them waits, and they are tried again when somebody says that there
 * may be pages (guest_kick), or now and then, for the guest's other CPUs may
 * have zeroed some.
 *
 * A gfn is on the list once, however often it is asked for, and a signal makes
 * its thread ask again: at each of the VMM's kicks if that is a vCPU in KVM, and
 * without a pause in between if it is in another system call (tens of thousands
 * of times a second). To sweep all of memory each time would leave the lock to
 * nobody else. So the list is about as long as there are threads that touch
 * guest RAM; with KVM those are the VMM's and up to 64 of the kernel's for each
 * vCPU (asynchronous page faults). When it is full, further faults wait in the
 * kernel.
 *
 * The path allocates nothing, logs nothing, and takes only the domain's lock.
 */
#include "guest/state.h"

#include "base/clock.h"
#include "host/uffd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Faults that are read at once. */
#define FAULTS_MAX 16
/* How often they are tried without a kick. */
#define WAITING_RETRY_MS 1000
#define WAITING_RETRY_NS (WAITING_RETRY_MS * UINT64_C(1000000))
/* A fault that the host cannot serve just now is tried again after a pause,
 * for about ten seconds in all: by then it will not come right. */
#define RETRY_PAUSE_NS UINT64_C(200000)
#define RETRY_MAX      50000

static bool is_waiting(const struct guest *guest, gfn_t at)
{
    unsigned i = 0;
    while (i < guest->waiting_count && guest->waiting[i].at.n != at.n) {
        i++;
    }
    return i < guest->waiting_count;
}

/* One try, under the lock. */
static int try_populate(struct guest *guest, struct waiting_fault fault)
{
    lock_acquire_first(&guest->lock);
    bool was_exhausted = guest->domain.state == DOMAIN_EXHAUSTED;
    uint64_t spurious = guest->domain.counters.spurious;
    int err = domain_populate(&guest->domain, fault.at);
    err = guest_did(guest, "populate", fault.at, 1, err);
    if (guest->domain.counters.spurious != spurious && !linux_host_holds(&guest->host, fault.at)) {
        /* Whoever touched it would ask again for ever. */
        domain_declare_broken(&guest->domain);
        guest_broken(guest, "populate: a page is missing that should be in place,", fault.at);
        err = -EIO;
    }
    if (err == 0) {
        histogram_add(&guest->latency, clock_now_ns() - fault.read_ns);
        if (!guest->options.reserve || domain_reserve_is_low(&guest->domain)) {
            err = domain_reclaim_eagerly(&guest->domain);
        }
    }
    if (err == -ENOSPC && !was_exhausted) {
        guest_note(guest, GUEST_EXHAUSTED);
    }
    guest_settled(guest);
    lock_release(&guest->lock);
    return err;
}

/* Serves one fault: true if that is done, false if it must wait for pages. The
 * lock is free while we wait for the host. */
static bool serve(struct guest *guest, struct waiting_fault fault)
{
    int err = -EAGAIN;
    for (int tries = 0; tries < RETRY_MAX && err == -EAGAIN; tries++) {
        if (tries != 0) {
            clock_sleep_ns(RETRY_PAUSE_NS);
        }
        err = try_populate(guest, fault);
    }
    switch (err) {
    case 0:
    case -ESHUTDOWN: /* dying: whoever touched it waits for the end */
    case -ESRCH:     /* the process is going */
    case -EIO:       /* broken: the same */
        return true;
    default: /* -ENOSPC, -EAGAIN */
        guest->options.on_unserved(guest->options.owner, fault.at, err);
        return false;
    }
}

/* Tries those that wait, in the order in which they came, until one must wait
 * on: the others would fare no better. */
static void serve_waiting(struct guest *guest)
{
    unsigned served = 0;
    while (served < guest->waiting_count && serve(guest, guest->waiting[served])) {
        served++;
    }
    guest->waiting_count -= served;
    memmove(guest->waiting, guest->waiting + served,
            guest->waiting_count * sizeof(guest->waiting[0]));
    if (served != 0 && guest->waiting_count == 0) {
        lock_acquire(&guest->lock);
        guest_note(guest, GUEST_RESUMED);
        lock_release(&guest->lock);
    }
}

/* Reads and serves what has come. False if no more will. */
static bool serve_new(struct guest *guest)
{
    haddr_t faults[FAULTS_MAX];
    unsigned count = 0, room = GUEST_WAITING_MAX - guest->waiting_count;
    if (uffd_read_faults(guest->host.uffd, faults, room < FAULTS_MAX ? room : FAULTS_MAX, &count) !=
        0) {
        return false; /* the address space is going away */
    }
    uint64_t now_ns = clock_now_ns();
    for (unsigned i = 0; i < count; i++) {
        struct waiting_fault fault = {.read_ns = now_ns};
        if (!linux_host_find(&guest->host, faults[i], &fault.at)) {
            /* Nobody but us touches the cache, and we never where it is empty. */
            guest_broken(guest, "a fault in the cache", gfn(0));
            return false;
        }
        if (is_waiting(guest, fault.at)) {
            continue; /* whoever asks again is woken with the first */
        }
        if (serve(guest, fault)) {
            guest->retry_ns = now_ns; /* there are pages: perhaps for the others too */
        } else {
            guest->waiting[guest->waiting_count++] = fault;
        }
    }
    return true;
}

void *faults_thread(void *argument)
{
    struct guest *guest = argument;
    struct pollfd fds[] = {
        {.fd = guest->host.uffd, .events = POLLIN},
        {.fd = guest->kick_fd, .events = POLLIN},
        {.fd = guest->end_fd, .events = POLLIN},
    };
    for (bool more = true; more && !guest_is_over(guest);) {
        fds[0].fd = guest->waiting_count < GUEST_WAITING_MAX ? guest->host.uffd : -1;
        poll(fds, 3, guest->waiting_count != 0 ? WAITING_RETRY_MS : -1);
        uint64_t kicks;
        bool kicked = read(guest->kick_fd, &kicks, sizeof(kicks)) == sizeof(kicks);
        if (guest->waiting_count != 0 && (kicked || clock_now_ns() >= guest->retry_ns)) {
            serve_waiting(guest);
            guest->retry_ns = clock_now_ns() + WAITING_RETRY_NS;
        }
        more = guest->waiting_count == GUEST_WAITING_MAX || serve_new(guest);
    }
    return NULL;
}
