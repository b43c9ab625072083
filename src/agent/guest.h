/* SPDX-License-Identifier: MIT */
/*
 * The one guest of this process: its domain, its host, and the thread that
 * serves its faults.
 *
 * Any thread may call these functions. The fault thread runs from guest_build
 * to the end of the process: threads of QEMU may touch guest RAM for as long.
 */
#ifndef BALLAST_AGENT_GUEST_H
#define BALLAST_AGENT_GUEST_H

#include "engine/domain.h"
#include "host/memory.h"

/* A snapshot of everything that can be counted. */
struct guest_report {
    enum domain_state state;
    pages_t max_pages, target_pages, total_pages;
    pages_t populated_pages, cache_pages, pod_entries_pages, out_pages;
    pages_t cache_superpages; /* in superpages, not pages */
    bool covered;
    struct domain_counters counters;
    uint64_t fault_p50_ns, fault_p99_ns, fault_max_ns;
    haddr_t ram, cache;
    uint64_t ram_bytes, cache_bytes;
};

/* Why a build failed: the step, and for memory what could be had. */
enum guest_failure {
    GUEST_FAILED_UFFD,     /* no userfaultfd */
    GUEST_FAILED_REGISTER, /* guest RAM or cache could not be registered */
    GUEST_FAILED_METADATA, /* no address space for our own books */
    GUEST_FAILED_MEMORY,   /* the host does not have the target */
    GUEST_FAILED_THREAD,   /* no thread */
};

struct guest_problem {
    enum guest_failure failure;
    uint64_t available_bytes;
    enum memory_limit limit;
};

/*
 * Builds the domain: on return the target is in its cache, all of it, and
 * whoever touches guest RAM waits for the fault thread. RAM must be untouched.
 * On error the process must not run the guest.
 */
int guest_build(haddr_t ram, uint64_t ram_bytes, uint64_t target_bytes,
                struct guest_problem *problem);

/* Whether there is a domain (built, dying or broken), and whether a range
 * has any part in its RAM. */
bool guest_exists(void);
bool guest_owns(haddr_t at, uint64_t bytes);

/* QEMU gives up the contents of part of guest RAM. Parts of pages at the ends
 * stay as they are. */
void guest_discard(haddr_t at, uint64_t bytes);

/* The domain begins to die: its cache goes back to the host, and whoever
 * touches a missing page waits for the end of the process. */
void guest_die(void);

/* Zeros, in state DOMAIN_BUILDING, before there is a domain. */
void guest_describe(struct guest_report *report);

#endif
