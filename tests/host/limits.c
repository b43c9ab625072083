/* SPDX-License-Identifier: MIT */
/* Hosts that have not enough: an allocation gets all or nothing, nobody is
 * killed for it, and the domain can say what there was. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
    assert_true(f.host.short_available_bytes < memory_total());
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

static bool write_file(const char *directory, const char *name, const char *text)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool wrote = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return wrote;
}

/* Makes a cgroup with a memory limit in `parent`; false if it cannot. */
static bool make_group(const char *parent, const char *limit_file, char *path, size_t size)
{
    char text[32];
    if (snprintf(path, size, "%s/ballast-test-%d", parent, (int)getpid()) >= (int)size ||
        mkdir(path, 0755) != 0) {
        return false;
    }
    snprintf(text, sizeof(text), "%" PRIu64, LIMIT);
    if (write_file(path, limit_file, text)) {
        return true;
    }
    rmdir(path);
    return false;
}

/* The path of our cgroup in the hierarchy whose controllers are those. */
static bool own_group(const char *controllers, char *path, size_t size)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[512], wanted[64];
    bool found = false;
    snprintf(wanted, sizeof(wanted), ":%s:", controllers);
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        char *at = strstr(line, wanted);
        if (at != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(path, size, "%s", at + strlen(wanted));
            found = true;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

/* A memory cgroup below ours, or beside ours where ours may have none (v2 wants
 * processes in leaves only). */
static bool find_group(char *path, size_t size)
{
    static const struct {
        const char *controllers, *mount, *limit;
    } versions[] = {
        {"", "/sys/fs/cgroup", "memory.max"},
        {"", "/sys/fs/cgroup/unified", "memory.max"},
        {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
    };
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        char own[256], parent[512];
        if (!own_group(versions[i].controllers, own, sizeof(own))) {
            continue;
        }
        for (char *cut = own; cut != NULL; cut = strrchr(own, '/')) {
            if (cut != own) {
                *cut = '\0';
            }
            snprintf(parent, sizeof(parent), "%s%s", versions[i].mount, own);
            if (make_group(parent, versions[i].limit, path, size)) {
                return true;
            }
            if (cut == own && own[0] == '/' && strrchr(own, '/') == own) {
                own[0] = '\0';
            }
        }
    }
    return false;
}

static int in_group(void *group)
{
    struct fixture f;
    uint64_t bytes = 0;
    enum memory_limit limit = MEMORY_LIMIT_HOST;
    child_check(write_file(group, "cgroup.procs", "0"));
    child_check(memory_available(&bytes, &limit) == 0);
    child_check(limit == MEMORY_LIMIT_CGROUP && bytes <= LIMIT && bytes > LIMIT - 32 * MIB);

    /* Too much: refused, and nobody is killed for it. */
    fixture_open(&f, SUPERPAGE_PAGES, 256 * SUPERPAGE_PAGES);
    child_check(OPS->allocate(&f.host, cfn(0), bytes_to_pages(LIMIT)) == -ENOMEM);
    child_check(cache_resident(&f) == 0);
    child_check(f.host.short_limit == MEMORY_LIMIT_CGROUP);
    child_check(f.host.short_available_bytes <= LIMIT - HEADROOM);
    child_check(f.host.short_available_bytes > LIMIT - HEADROOM - 32 * MIB);

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
    if (!find_group(group, sizeof(group))) {
        skip_because("no memory cgroup could be made (it takes root, or a delegated one)");
    }
    int status = in_child(in_group, group);
    for (int tries = 0; rmdir(group) != 0 && tries < 100; tries++) {
        usleep(10000); /* the kernel may still be taking the child apart */
    }
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
