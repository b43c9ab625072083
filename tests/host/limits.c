/* SPDX-License-Identifier: MIT */
/* Hosts that have not enough: an allocation gets all or nothing, nobody is
 * killed for it, and the domain can say what there was. */
#include "cgroup.h"
#include "fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define OPS (&linux_host_ops)

/* linux_host.c keeps so much of what a host has. */
#define HEADROOM (64 * MIB)
#define LIMIT    (192 * MIB)

static uint64_t memory_total(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    uint64_t kib = 0;
    if (file == NULL || fscanf(file, "MemTotal: %" SCNu64, &kib) != 1) {
        kib = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024;
}

static void available(void **unused)
{
    (void)unused;
    uint64_t bytes = 0;
    enum memory_limit limit = (enum memory_limit)99;
    assert_int_equal(memory_available(&bytes, &limit), 0);
    assert_true(bytes != 0 && bytes < memory_total());
    assert_true(limit == MEMORY_LIMIT_HOST || limit == MEMORY_LIMIT_CGROUP);
}

/* More than the host has, whatever it is. */
static void more_than_the_host_has(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t pages = bytes_to_pages(memory_total()) + SUPERPAGE_PAGES;
    fixture_open(&f, SUPERPAGE_PAGES, pages);
    assert_int_equal(OPS->allocate(&f.host, cfn(0), pages), -ENOMEM);
    assert_true(f.host.spare.bytes < memory_total());
    assert_resident(&f, 0, 0);
    fixture_close(&f);
}

static uint64_t mapped_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    uint64_t pages = 0;
    if (file == NULL || fscanf(file, "%" SCNu64, &pages) != 1) {
        pages = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return pages_to_bytes(pages);
}

/* No address space for the pages on their way in. */
static int short_of_addresses(void *unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, SUPERPAGE_PAGES, 64 * SUPERPAGE_PAGES);
    uint64_t bytes = mapped_bytes() + 16 * MIB;
    struct rlimit limit = {bytes, bytes};
    child_check(setrlimit(RLIMIT_AS, &limit) == 0);
    child_check(OPS->allocate(&f.host, cfn(0), 32 * SUPERPAGE_PAGES) == -ENOMEM);
    child_check(cache_resident(&f) == 0);
    /* What does fit, several times: nothing of it stays mapped twice. */
    for (uint64_t i = 0; i < 10; i++) {
        child_check(OPS->allocate(&f.host, cfn(i * SUPERPAGE_PAGES), SUPERPAGE_PAGES) == 0);
    }
    child_check(cache_resident(&f) == 10 * SUPERPAGE_PAGES);
    child_check(OPS->allocate(&f.host, cfn(10 * SUPERPAGE_PAGES), 32 * SUPERPAGE_PAGES) == -ENOMEM);
    child_check(cache_resident(&f) == 10 * SUPERPAGE_PAGES);
    return 0;
}

/* Nor for the cache. */
static int short_of_addresses_to_open(void *unused)
{
    (void)unused;
    struct fixture f;
    fixture_map(&f, SUPERPAGE_PAGES);
    int before = dup(0);
    uint64_t bytes = mapped_bytes() + 48 * MIB; /* the probe of page tables takes 34 */
    struct rlimit limit = {bytes, bytes};
    child_check(setrlimit(RLIMIT_AS, &limit) == 0);
    child_check(linux_host_open(&f.host, f.ram, SUPERPAGE_BYTES, 256 * MIB) == -ENOMEM);
    close(before);
    child_check(dup(0) == before); /* no descriptor was left open */
    child_check(linux_host_open(&f.host, f.ram, SUPERPAGE_BYTES, 16 * MIB) == 0);
    return 0;
}

static void address_space(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(short_of_addresses, NULL), 0);
    assert_int_equal(in_child(short_of_addresses_to_open, NULL), 0);
}

static int in_group(void *group)
{
    struct fixture f;
    uint64_t bytes = 0;
    enum memory_limit limit = MEMORY_LIMIT_HOST;
    child_check(cgroup_enter(group));
    child_check(memory_available(&bytes, &limit) == 0);
    child_check(limit == MEMORY_LIMIT_CGROUP && bytes <= LIMIT && bytes > LIMIT - 32 * MIB);

    /* Too much: refused, and nobody is killed for it. */
    fixture_open(&f, SUPERPAGE_PAGES, 256 * SUPERPAGE_PAGES);
    child_check(OPS->allocate(&f.host, cfn(0), bytes_to_pages(LIMIT)) == -ENOMEM);
    child_check(cache_resident(&f) == 0);
    child_check(f.host.spare.limit == MEMORY_LIMIT_CGROUP);
    child_check(f.host.spare.bytes <= LIMIT - HEADROOM);
    child_check(f.host.spare.bytes > LIMIT - HEADROOM - 32 * MIB);

    /* In steps, as a domain is built: until the headroom is all that is left. */
    uint64_t got = 0;
    while (OPS->allocate(&f.host, cfn(got), SUPERPAGE_PAGES) == 0) {
        got += SUPERPAGE_PAGES;
    }
    child_check(pages_to_bytes(got) > LIMIT - HEADROOM - 32 * MIB);
    child_check(pages_to_bytes(got) <= LIMIT - HEADROOM);
    child_check(cache_resident(&f) == got);
    child_check(memory_available(&bytes, &limit) == 0);
    child_check(limit == MEMORY_LIMIT_CGROUP && bytes < HEADROOM + SUPERPAGE_BYTES + 32 * MIB);

    /* What goes back can be had again. */
    child_check(OPS->release(&f.host, cfn(0), got) == 0);
    child_check(cache_resident(&f) == 0);
    child_check(OPS->allocate(&f.host, cfn(0), got / 2) == 0);
    child_check(cache_resident(&f) == got / 2);
    return 0;
}

static void memory_cgroup(void **unused)
{
    (void)unused;
    char group[1024];
    if (!cgroup_make(LIMIT, group, sizeof(group))) {
        skip_because("no memory cgroup could be made (it takes root, or a delegated one)");
    }
    int status = in_child(in_group, group);
    cgroup_remove(group);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(available),
        cmocka_unit_test(more_than_the_host_has),
        cmocka_unit_test(address_space),
        cmocka_unit_test(memory_cgroup),
    };
    return fixture_available() ? cmocka_run_group_tests_name("host_limits", tests, NULL, NULL) : 77;
}
