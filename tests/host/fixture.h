/* SPDX-License-Identifier: MIT */
/*
 * "Guest RAM" in the test's own process, on the real kernel.
 *
 * The range is mapped as QEMU maps it, with unmapped pages on both sides so
 * that the kernel merges it with no neighbour and /proc/self/smaps speaks of it
 * alone. What is resident where is asked of the kernel, never of the code that
 * is under test.
 */
#ifndef BALLAST_TESTS_HOST_FIXTURE_H
#define BALLAST_TESTS_HOST_FIXTURE_H

#include "../lib/observer_residency.h"
#include "../unit/unit.h"

#include "base/lock.h"
#include "engine/domain.h"
#include "host/linux_host.h"

#include <pthread.h>
#include <stdatomic.h>

#define MIB (UINT64_C(1) << 20)

/* Whether this process may have a userfaultfd that moves. If not, says why,
 * and the test should return 77. */
bool fixture_available(void);

struct fixture {
    haddr_t ram;
    pages_t ram_pages;
    struct linux_host host;
    /* Below: only with fixture_build. */
    struct lock lock; /* guards domain */
    struct domain domain;
    void *metadata;
    atomic_bool stopping;
    pthread_t thread;
};

/* Guest RAM without a host: private anonymous memory, nothing in place. */
void fixture_map(struct fixture *fixture, pages_t ram_pages);
void fixture_unmap(struct fixture *fixture);

/* fixture_map and linux_host_open: both ranges are empty. No fault is served:
 * touch nothing that is missing. */
void fixture_open(struct fixture *fixture, pages_t ram_pages, pages_t cache_pages);
void fixture_close(struct fixture *fixture);

/* fixture_open, a domain that is built, and a thread that serves its faults
 * the way the agent does. Guest RAM may be touched. A fault that cannot be
 * served ends the process with status 1. */
void fixture_build(struct fixture *fixture, pages_t max_pages, pages_t target_pages);
void fixture_destroy(struct fixture *fixture);

/* What the kernel says of a range: /proc/self/pagemap, and smaps where the
 * range consists of whole mappings. If the two do not agree, the process ends. */
struct residency residency_of(haddr_t at, pages_t pages);
pages_t ram_resident(const struct fixture *fixture);
pages_t cache_resident(const struct fixture *fixture);

/* Huge pages that are mapped as such. */
size_t ram_huge(const struct fixture *fixture);
size_t cache_huge(const struct fixture *fixture);

/* Guest RAM and cache together hold so many pages, `in_ram` of them in RAM. */
#define assert_resident(fixture, in_ram, in_cache)                                                 \
    do {                                                                                           \
        assert_int_equal(ram_resident(fixture), (in_ram));                                         \
        assert_int_equal(cache_resident(fixture), (in_cache));                                     \
    } while (0)

void *ram_page(const struct fixture *fixture, gfn_t at);
void *cache_page(const struct fixture *fixture, cfn_t at);

/* Fills a page with words of which no two of different (seed, place) are alike
 * and none is zero; whether it still holds them. */
void page_fill(void *page, uint64_t seed);
bool page_holds(const void *page, uint64_t seed);
bool page_is_zero(const void *page);

/* Operations that succeed as a whole. */
void must_allocate(struct fixture *fixture, cfn_t at, pages_t pages);
void must_place(struct fixture *fixture, cfn_t from, gfn_t to, pages_t pages);
void must_take(struct fixture *fixture, gfn_t from, cfn_t to, pages_t pages);

/* Runs `body` in a child process, for what would harm this one. Returns the
 * child's exit status, or 128 + the signal that ended it. */
int in_child(int (*body)(void *), void *argument);

/* For bodies of in_child, where cmocka's assertions must not be used. */
#define child_check(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                    \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

/* Says why, so that a skipped test is not silent. */
#define skip_because(...)                                                                          \
    do {                                                                                           \
        print_message("skipped: " __VA_ARGS__);                                                    \
        print_message("\n");                                                                       \
        skip();                                                                                    \
    } while (0)

#endif
