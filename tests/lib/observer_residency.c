/* SPDX-License-Identifier: MIT */
/* See observer_residency.h. */
#include "observer_residency.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PAGE 4096u

/* Linux's user interface since 6.7; the headers of Debian 12 are older. */
struct scan_region {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

struct scan_argument {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t regions;
    uint64_t regions_length;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_any_of_mask;
    uint64_t return_mask;
};

/* Regions per call. The kernel collects at most 512 before it copies them out,
 * and 6.18 goes wrong when it has to do that twice in one call: with room for
 * 1024, ranges in a stopped process came back a third too large, and with room
 * for 513 a call made no progress. With 512 or less, all was as in pagemap. */
#define SCAN_REGIONS 256

#define SCAN_IOCTL    _IOWR('f', 16, struct scan_argument)
#define SCAN_PRESENT  (UINT64_C(1) << 3)
#define SCAN_SWAPPED  (UINT64_C(1) << 4)
#define SCAN_ZERO_PFN (UINT64_C(1) << 5)
#define SCAN_HUGE     (UINT64_C(1) << 6)

int residency_open(pid_t pid, struct residency_reader *reader)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    *reader = (struct residency_reader){.pid = pid, .pagemap_fd = fd};
    return 0;
}

void residency_close(struct residency_reader *reader)
{
    close(reader->pagemap_fd);
    reader->pagemap_fd = -1;
}

int residency_scan(struct residency_reader *reader, struct range range, struct residency *result)
{
    struct scan_region regions[SCAN_REGIONS];
    struct residency sum = {0};
    uint64_t end = range.start + range.bytes;
    uint64_t at = range.start;

    while (at < end) {
        struct scan_argument argument = {
            .size = sizeof(argument),
            .start = at,
            .end = end,
            .regions = (uintptr_t)regions,
            .regions_length = SCAN_REGIONS,
            .category_any_of_mask = SCAN_PRESENT | SCAN_SWAPPED,
            .return_mask = SCAN_PRESENT | SCAN_SWAPPED | SCAN_ZERO_PFN | SCAN_HUGE,
        };
        int count = ioctl(reader->pagemap_fd, SCAN_IOCTL, &argument);

        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return -errno;
        }
        for (int i = 0; i < count; i++) {
            uint64_t pages = (regions[i].end - regions[i].start) / PAGE;

            if (regions[i].categories & SCAN_ZERO_PFN) {
                sum.zero_pages += pages;
                continue;
            }
            sum.pages += pages;
            if (regions[i].categories & SCAN_HUGE) {
                sum.huge_pages += pages;
            }
        }
        if (argument.walk_end <= at) {
            return -ESRCH;
        }
        at = argument.walk_end;
    }
    *result = sum;
    return 0;
}

/* Opens one of the process's files in /proc. */
static int open_proc(pid_t pid, const char *name, FILE **file)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    *file = fopen(path, "re");
    return *file != NULL ? 0 : -errno;
}

int residency_smaps(pid_t pid, struct range range, uint64_t *pages)
{
    uint64_t range_end = range.start + range.bytes;
    uint64_t kilobytes = 0;
    bool inside = false;
    size_t size = 0;
    char *line = NULL;
    FILE *file;
    int r = open_proc(pid, "smaps", &file);

    if (r < 0) {
        return r;
    }
    while (getline(&line, &size, file) > 0) {
        uint64_t start;
        uint64_t end;
        uint64_t value;

        /* A mapping's first line starts with its addresses, the others with "Name:". */
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2) {
            inside = start >= range.start && end <= range_end;
            if (!inside && start < range_end && end > range.start) {
                r = -EXDEV;
                break;
            }
        } else if (inside && (sscanf(line, "Anonymous: %" SCNu64 " kB", &value) == 1 ||
                              sscanf(line, "Swap: %" SCNu64 " kB", &value) == 1)) {
            kilobytes += value;
        }
    }
    if (r == 0 && ferror(file)) {
        r = -EIO;
    }
    free(line);
    fclose(file);
    if (r == 0) {
        *pages = kilobytes / (PAGE / 1024);
    }
    return r;
}

int residency_rss_anon(pid_t pid, uint64_t *pages)
{
    uint64_t kilobytes;
    bool found = false;
    char line[256];
    FILE *file;
    int r = open_proc(pid, "status", &file);

    if (r < 0) {
        return r == -ENOENT ? -ESRCH : r;
    }
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        found = sscanf(line, "RssAnon: %" SCNu64 " kB", &kilobytes) == 1;
    }
    fclose(file);
    if (!found) {
        return -ESRCH;
    }
    *pages = kilobytes / (PAGE / 1024);
    return 0;
}
