/* SPDX-License-Identifier: MIT */
#include "host/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The kernel's interface, which the C library's headers have since 6.7. */
struct scan_region {
    uint64_t start, end, categories;
};

struct scan_argument {
    uint64_t size, flags;
    uint64_t start, end, walk_end;
    uint64_t regions, regions_length, max_pages;
    uint64_t inverted, all_of, any_of, returned;
};

#define SCAN_IOCTL   _IOWR('f', 16, struct scan_argument)
#define SCAN_PRESENT (UINT64_C(1) << 3)
#define SCAN_SWAPPED (UINT64_C(1) << 4)
#define SCAN_ZERO    (UINT64_C(1) << 5)
#define SCAN_HUGE    (UINT64_C(1) << 6)

/* The number of regions found of pages of any of some categories, 0 or 1, and the
 * first of them; or -errno. */
static int scan(int pagemap, uint64_t start, uint64_t end, uint64_t categories,
                struct scan_region *region)
{
    struct scan_argument argument = {
        .size = sizeof(argument),
        .start = start,
        .end = end,
        .regions = (uintptr_t)region,
        .regions_length = 1,
        .any_of = categories,
        .returned = categories,
    };
    int found = ioctl(pagemap, SCAN_IOCTL, &argument);
    return found >= 0 ? found : -errno;
}

static int scan_for_huge(int pagemap, haddr_t at)
{
    struct scan_region region;
    uint64_t page = at.a / PAGE_BYTES * PAGE_BYTES;
    return scan(pagemap, page, page + PAGE_BYTES, SCAN_HUGE, &region);
}

int pagemap_open(int *pagemap)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? -EOPNOTSUPP : -errno;
    }
    if (scan_for_huge(fd, haddr(pagemap)) < 0) {
        close(fd);
        return -EOPNOTSUPP;
    }
    *pagemap = fd;
    return 0;
}

bool pagemap_is_huge(int pagemap, haddr_t at)
{
    return scan_for_huge(pagemap, at) > 0;
}

bool pagemap_find_zero_page(int pagemap, haddr_t *at, haddr_t end)
{
    struct scan_region region;
    if (at->a >= end.a || scan(pagemap, at->a, end.a, SCAN_ZERO, &region) <= 0) {
        return false;
    }
    at->a = (uintptr_t)region.start;
    return true;
}

pages_t pagemap_zero_pages(int pagemap, haddr_t at, uint64_t bytes)
{
    struct scan_region region = {.end = at.a};
    uint64_t end = at.a + bytes;
    pages_t pages = 0;
    while (region.end < end && scan(pagemap, region.end, end, SCAN_ZERO, &region) > 0) {
        pages += bytes_to_pages(region.end - region.start);
    }
    return pages;
}

bool pagemap_is_empty(int pagemap, haddr_t at, uint64_t bytes)
{
    struct scan_region region;
    return scan(pagemap, at.a, at.a + bytes, SCAN_PRESENT | SCAN_SWAPPED, &region) == 0;
}

pages_t pagemap_run(int pagemap, haddr_t at, pages_t pages, bool *holds)
{
    const uint64_t page_bits = UINT64_C(3) << 62; /* present, or swapped or migrating */
    uint64_t entries[SUPERPAGE_PAGES];
    size_t bytes = min_u64(pages, SUPERPAGE_PAGES) * sizeof(entries[0]);
    off_t offset = (off_t)(at.a / PAGE_BYTES * sizeof(entries[0]));
    ssize_t got = pread(pagemap, entries, bytes, offset);
    if (got < (ssize_t)sizeof(entries[0])) {
        *holds = false; /* beyond the address space */
        return min_u64(pages, SUPERPAGE_PAGES);
    }
    pages_t known = (pages_t)got / sizeof(entries[0]), run = 1;
    *holds = (entries[0] & page_bits) != 0;
    while (run < known && ((entries[run] & page_bits) != 0) == *holds) {
        run++;
    }
    return run;
}

bool pagemap_holds(int pagemap, haddr_t at)
{
    bool holds;
    pagemap_run(pagemap, at, 1, &holds);
    return holds;
}
