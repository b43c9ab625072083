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

/* Reads a small file whole into `text`, which is empty if it cannot. No stdio: we may be in QEMU's
 * process, which may be short of descriptors and memory. */
static int read_text(const char *path, char *text, size_t capacity)
{
    text[0] = '\0';
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
    const char *high;        /* from here on it is slowed down; NULL: there is no such thing */
    const char *reclaimable; /* key in memory.stat, subtree included */
};

static const struct cgroup_version versions[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current", "memory.high", "inactive_file "},
    {"", "/sys/fs/cgroup/unified", "memory.max", "memory.current", "memory.high", "inactive_file "},
    {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", NULL,
     "total_inactive_file "},
};

/* From here on there is no limit: v1 says 2^63, less a page. */
#define NO_LIMIT (UINT64_C(1) << 62)

/* Looks at one cgroup, not above it: if less is left in it, it is the one. */
static void look_at_cgroup(const struct cgroup_version *version, const char *directory,
                           const char *name, struct memory_room *room)
{
    uint64_t limit, usage, high, reclaimable = 0;
    char path[4352], stat[8192];
    if (version->high != NULL && read_number(directory, version->high, &high)) {
        room->cgroup_high_bytes = min_u64(room->cgroup_high_bytes, high);
    }
    if (!read_number(directory, version->limit, &limit) || limit >= NO_LIMIT ||
        !read_number(directory, version->usage, &usage)) {
        return;
    }
    if (snprintf(path, sizeof(path), "%s/memory.stat", directory) < (int)sizeof(path) &&
        read_text(path, stat, sizeof(stat)) == 0) {
        find_number(stat, version->reclaimable, &reclaimable);
    }
    usage -= min_u64(usage, reclaimable);
    uint64_t left = limit - min_u64(limit, usage);
    if (left < room->cgroup_left_bytes) {
        room->cgroup_left_bytes = left;
        room->cgroup_limit_bytes = limit;
        snprintf(room->cgroup, sizeof(room->cgroup), "%s", name);
    }
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

/* Looks at our cgroup and at all above it. */
static void look_at_hierarchy(const char *root, const struct cgroup_version *version,
                              const char *cgroups, struct memory_room *room)
{
    char own[2048], directory[4096];
    if (!own_cgroup(cgroups, version->controllers, own, sizeof(own))) {
        return;
    }
    for (;;) {
        if (snprintf(directory, sizeof(directory), "%s%s%s", root, version->mount, own) <
            (int)sizeof(directory)) {
            look_at_cgroup(version, directory, directory + strlen(root), room);
        }
        char *slash = strrchr(own, '/');
        if (slash == NULL) {
            return;
        }
        *slash = '\0';
    }
}

/* Reads a file of /proc below the root. */
static int read_below(const char *root, const char *file, char *text, size_t capacity)
{
    char path[4352];
    if (snprintf(path, sizeof(path), "%s%s", root, file) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    return read_text(path, text, capacity);
}

int memory_look(const char *root, struct memory_room *room)
{
    struct memory_room found = {.cgroup_left_bytes = UINT64_MAX,
                                .cgroup_limit_bytes = UINT64_MAX,
                                .cgroup_high_bytes = UINT64_MAX};
    char meminfo[4096], cgroups[4096];
    uint64_t total_kib, available_kib;
    int err = read_below(root, "/proc/meminfo", meminfo, sizeof(meminfo));
    if (err == -EMFILE || err == -ENFILE) {
        return err;
    }
    if (err != 0 || !find_number(meminfo, "MemTotal:", &total_kib) ||
        !find_number(meminfo, "MemAvailable:", &available_kib)) {
        return -EIO;
    }
    found.total_bytes = total_kib * 1024;
    found.available_bytes = available_kib * 1024;
    if (read_below(root, "/proc/self/cgroup", cgroups, sizeof(cgroups)) == 0) {
        for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
            look_at_hierarchy(root, &versions[i], cgroups, &found);
        }
    }
    *room = found;
    return 0;
}

int memory_available(uint64_t *bytes, enum memory_limit *limit)
{
    struct memory_room room;
    int err = memory_look("", &room);
    if (err == -EMFILE || err == -ENFILE) {
        *limit = MEMORY_LIMIT_DESCRIPTORS;
        *bytes = 0;
        return 0;
    }
    if (err != 0) {
        return err;
    }
    bool is_cgroup = room.cgroup_left_bytes < room.available_bytes;
    *limit = is_cgroup ? MEMORY_LIMIT_CGROUP : MEMORY_LIMIT_HOST;
    *bytes = is_cgroup ? room.cgroup_left_bytes : room.available_bytes;
    return 0;
}

bool memory_has(uint64_t bytes, struct memory_spare *spare)
{
    struct memory_spare found;
    if (memory_available(&found.bytes, &found.limit) != 0) {
        return true;
    }
    found.bytes -= min_u64(found.bytes, MEMORY_HEADROOM_BYTES);
    if (spare != NULL) {
        *spare = found;
    }
    return bytes <= found.bytes;
}
