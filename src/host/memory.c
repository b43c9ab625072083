/* SPDX-License-Identifier: MIT */
#include "host/memory.h"

#include "base/types.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads a small file whole into `text`. No stdio: we may be in QEMU's process,
 * which may be short of descriptors and memory. */
static int read_text(const char *path, char *text, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    size_t length = 0;
    ssize_t got = 0;
    while (length < capacity - 1 && (got = read(fd, text + length, capacity - 1 - length)) > 0) {
        length += (size_t)got;
    }
    close(fd);
    text[length] = '\0';
    return got < 0 ? -EIO : 0;
}

/* The number after `key` at the start of a line; false if there is none. */
static bool find_number(const char *text, const char *key, uint64_t *number)
{
    size_t length = strlen(key);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, key, length) == 0) {
            char *end;
            *number = strtoull(line + length, &end, 10);
            return end != line + length;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

/* A file that holds one number. "max" and huge numbers mean no limit. */
static bool read_number(const char *directory, const char *file, uint64_t *number)
{
    char path[4352], text[64];
    if (snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int)sizeof(path) ||
        read_text(path, text, sizeof(text)) != 0) {
        return false;
    }
    return find_number(text, "", number);
}

/* Where each version of cgroups keeps what. */
struct cgroup_version {
    const char *controllers; /* second field of /proc/self/cgroup */
    const char *mount;
    const char *limit, *usage;
    const char *reclaimable; /* key in memory.stat, subtree included */
};

static const struct cgroup_version versions[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "},
    {"", "/sys/fs/cgroup/unified", "memory.max", "memory.current", "inactive_file "},
    {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file "},
};

/* What is left in one cgroup, not looking above it. */
static uint64_t left_in_cgroup(const struct cgroup_version *version, const char *directory)
{
    uint64_t limit, usage, reclaimable = 0;
    char path[4352], stat[8192];
    if (!read_number(directory, version->limit, &limit) ||
        !read_number(directory, version->usage, &usage)) {
        return UINT64_MAX;
    }
    if (snprintf(path, sizeof(path), "%s/memory.stat", directory) < (int)sizeof(path) &&
        read_text(path, stat, sizeof(stat)) == 0) {
        find_number(stat, version->reclaimable, &reclaimable);
    }
    usage -= min_u64(usage, reclaimable);
    return limit - min_u64(limit, usage);
}

/* Whether a list such as "memory,hugetlb" has a word; the empty list has "". */
static bool has_word(const char *list, size_t length, const char *word)
{
    const char *end = list + length;
    for (const char *at = list;;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t size = (size_t)((comma != NULL ? comma : end) - at);
        if (size == strlen(word) && strncmp(at, word, size) == 0) {
            return true;
        }
        if (comma == NULL) {
            return false;
        }
        at = comma + 1;
    }
}

/* The path of our cgroup in that hierarchy: the third field of the line of
 * /proc/self/cgroup whose second names the controller. */
static bool own_cgroup(const char *text, const char *controllers, char *path, size_t capacity)
{
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *second = strchr(line, ':');
        const char *third = second != NULL ? strchr(second + 1, ':') : NULL;
        const char *end = strchr(line, '\n');
        if (third != NULL && (end == NULL || third < end)) {
            size_t length = (size_t)(third - second - 1);
            size_t path_length = end != NULL ? (size_t)(end - third - 1) : strlen(third + 1);
            if (has_word(second + 1, length, controllers) && path_length < capacity) {
                memcpy(path, third + 1, path_length);
                path[path_length] = '\0';
                return true;
            }
        }
        line = end != NULL ? end + 1 : NULL;
    }
    return false;
}

/* The least that is left in our cgroup or any above it. */
static uint64_t left_in_hierarchy(const struct cgroup_version *version, const char *cgroups)
{
    char own[2048], directory[4096];
    if (!own_cgroup(cgroups, version->controllers, own, sizeof(own))) {
        return UINT64_MAX;
    }
    uint64_t left = UINT64_MAX;
    for (;;) {
        if (snprintf(directory, sizeof(directory), "%s%s", version->mount, own) <
            (int)sizeof(directory)) {
            left = min_u64(left, left_in_cgroup(version, directory));
        }
        char *slash = strrchr(own, '/');
        if (slash == NULL) {
            return left;
        }
        *slash = '\0';
    }
}

int memory_available(uint64_t *bytes, enum memory_limit *limit)
{
    char meminfo[4096], cgroups[4096];
    uint64_t available_kib;
    if (read_text("/proc/meminfo", meminfo, sizeof(meminfo)) != 0 ||
        !find_number(meminfo, "MemAvailable:", &available_kib)) {
        return -EIO;
    }
    uint64_t left = UINT64_MAX, available = available_kib * 1024;
    if (read_text("/proc/self/cgroup", cgroups, sizeof(cgroups)) == 0) {
        for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
            left = min_u64(left, left_in_hierarchy(&versions[i], cgroups));
        }
    }
    *limit = left < available ? MEMORY_LIMIT_CGROUP : MEMORY_LIMIT_HOST;
    *bytes = min_u64(left, available);
    return 0;
}
