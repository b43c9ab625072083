/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "base/clock.h"
#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_POLL_MS 50

/* The fixture cannot do its part: no verdict on what is tested. */
__attribute__((noreturn)) static void give_up(const char *what, int err)
{
    fprintf(stderr, "fixture: %s: %s\n", what, strerror(err));
    _exit(1);
}

bool fixture_available(void)
{
    int uffd;
    int err = uffd_open(&uffd);
    if (err != 0) {
        printf("skipped: no userfaultfd that can move pages: %s\n", strerror(-err));
        return false;
    }
    close(uffd);
    return true;
}

void fixture_map(struct fixture *fixture, pages_t ram_pages)
{
    memset(fixture, 0, sizeof(*fixture));
    uint64_t bytes = pages_to_bytes(ram_pages);
    void *wide = mmap(NULL, bytes + 2 * SUPERPAGE_BYTES, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (wide == MAP_FAILED) {
        give_up("mmap", errno);
    }
    fixture->ram.a = ((uintptr_t)wide / SUPERPAGE_BYTES + 1) * SUPERPAGE_BYTES;
    fixture->ram_pages = ram_pages;
    if (mmap((void *)fixture->ram.a, bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        give_up("mmap", errno);
    }
}

void fixture_unmap(struct fixture *fixture)
{
    munmap((void *)fixture->ram.a, pages_to_bytes(fixture->ram_pages));
}

void fixture_open(struct fixture *fixture, pages_t ram_pages, pages_t cache_pages)
{
    fixture_map(fixture, ram_pages);
    int err = linux_host_open(&fixture->host, fixture->ram, pages_to_bytes(ram_pages),
                              pages_to_bytes(cache_pages));
    if (err != 0) {
        give_up("linux_host_open", -err);
    }
}

void fixture_close(struct fixture *fixture)
{
    linux_host_close(&fixture->host);
    fixture_unmap(fixture);
}

static void serve(struct fixture *fixture, haddr_t fault)
{
    gfn_t at;
    if (!linux_host_find(&fixture->host, fault, &at)) {
        give_up("a fault outside of guest RAM", EFAULT);
    }
    int err;
    do {
        lock_acquire(&fixture->lock);
        err = domain_populate(&fixture->domain, at);
        const char *broken = err == 0 || err == -EAGAIN ? NULL : domain_check(&fixture->domain);
        lock_release(&fixture->lock);
        if (broken != NULL) {
            fprintf(stderr, "fixture: %s\n", broken);
        }
        if (err == -EAGAIN) {
            clock_sleep_ns(100000);
        }
    } while (err == -EAGAIN);
    if (err != 0) {
        fprintf(stderr, "fixture: gfn %" PRIu64 "\n", at.n);
        give_up("domain_populate", -err);
    }
}

static void *fault_thread(void *argument)
{
    struct fixture *fixture = argument;
    struct pollfd poll_fd = {.fd = fixture->host.uffd, .events = POLLIN};
    while (!atomic_load(&fixture->stopping)) {
        haddr_t faults[8];
        unsigned count = 0;
        poll(&poll_fd, 1, STOP_POLL_MS);
        if (uffd_read_faults(fixture->host.uffd, faults, 8, &count) != 0) {
            give_up("uffd_read_faults", EIO);
        }
        for (unsigned i = 0; i < count; i++) {
            serve(fixture, faults[i]);
        }
    }
    return NULL;
}

void fixture_build(struct fixture *fixture, pages_t max_pages, pages_t target_pages)
{
    struct domain_config config = {.max_pages = max_pages, .target_pages = target_pages};
    size_t bytes = domain_metadata_bytes(max_pages);
    fixture_open(fixture, max_pages, domain_cache_span_pages(max_pages));
    fixture->metadata = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fixture->metadata == MAP_FAILED) {
        give_up("mmap", errno);
    }
    lock_init(&fixture->lock, LOCK_RANK_DOMAIN);
    int err =
        domain_init(&fixture->domain, &config, &linux_host_ops, &fixture->host, fixture->metadata);
    for (pages_t missing = target_pages; err == 0 && missing != 0;) {
        err = domain_build_step(&fixture->domain, 8 * SUPERPAGE_PAGES, &missing);
    }
    if (err == 0) {
        err = -pthread_create(&fixture->thread, NULL, fault_thread, fixture);
    }
    if (err != 0) {
        give_up("the domain could not be built", -err);
    }
}

void fixture_destroy(struct fixture *fixture)
{
    atomic_store(&fixture->stopping, true);
    pthread_join(fixture->thread, NULL);
    munmap(fixture->metadata, domain_metadata_bytes(fixture->ram_pages));
    fixture_close(fixture);
}

struct residency residency_of(haddr_t at, pages_t pages)
{
    struct range range = {at.a, pages_to_bytes(pages)};
    struct residency_reader reader;
    struct residency result = {0};
    uint64_t anonymous = 0;
    int err = residency_open(getpid(), &reader);
    if (err == 0) {
        err = residency_scan(&reader, range, &result);
        residency_close(&reader);
    }
    int smaps_err = err == 0 ? residency_smaps(getpid(), range, &anonymous) : 0;
    if (err != 0) {
        give_up("/proc/self/pagemap", -err);
    }
    if (smaps_err == 0 && anonymous != result.pages) {
        give_up("pagemap and smaps do not agree", ERANGE);
    }
    return result;
}

pages_t ram_resident(const struct fixture *fixture)
{
    return residency_of(fixture->ram, fixture->ram_pages).pages;
}

pages_t cache_resident(const struct fixture *fixture)
{
    return residency_of(fixture->host.cache, bytes_to_pages(fixture->host.cache_bytes)).pages;
}

size_t ram_huge(const struct fixture *fixture)
{
    return residency_of(fixture->ram, fixture->ram_pages).huge_pages / SUPERPAGE_PAGES;
}

size_t cache_huge(const struct fixture *fixture)
{
    pages_t pages = bytes_to_pages(fixture->host.cache_bytes);
    return residency_of(fixture->host.cache, pages).huge_pages / SUPERPAGE_PAGES;
}

void *ram_page(const struct fixture *fixture, gfn_t at)
{
    return (void *)haddr_add(fixture->ram, pages_to_bytes(at.n)).a;
}

void *cache_page(const struct fixture *fixture, cfn_t at)
{
    return (void *)haddr_add(fixture->host.cache, pages_to_bytes(at.n)).a;
}

static uint64_t word_of(uint64_t seed, size_t i)
{
    uint64_t x = (seed << 9 | i) + UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) | 1;
}

void page_fill(void *page, uint64_t seed)
{
    uint64_t *words = page;
    for (size_t i = 0; i < PAGE_BYTES / sizeof(words[0]); i++) {
        words[i] = word_of(seed, i);
    }
}

bool page_holds(const void *page, uint64_t seed)
{
    const uint64_t *words = page;
    size_t i = 0;
    while (i < PAGE_BYTES / sizeof(words[0]) && words[i] == word_of(seed, i)) {
        i++;
    }
    return i == PAGE_BYTES / sizeof(words[0]);
}

bool page_is_zero(const void *page)
{
    static const char zeros[PAGE_BYTES];
    return memcmp(page, zeros, PAGE_BYTES) == 0;
}

void must_allocate(struct fixture *fixture, cfn_t at, pages_t pages)
{
    assert_int_equal(linux_host_ops.allocate(&fixture->host, at, pages), 0);
}

void must_place(struct fixture *fixture, cfn_t from, gfn_t to, pages_t pages)
{
    pages_t moved = 0;
    assert_int_equal(linux_host_ops.place(&fixture->host, from, to, pages, &moved), 0);
    assert_int_equal(moved, pages);
}

void must_take(struct fixture *fixture, gfn_t from, cfn_t to, pages_t pages)
{
    pages_t moved = 0;
    assert_int_equal(linux_host_ops.take(&fixture->host, from, to, pages, &moved), 0);
    assert_int_equal(moved, pages);
}

int in_child(int (*body)(void *), void *argument)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int status = body(argument);
        fflush(NULL);
        _exit(status);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        give_up("fork", errno);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
