/* SPDX-License-Identifier: MIT */
#include "cgroup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
static bool make_group(const char *parent, const char *limit_file, uint64_t limit, char *path,
                       size_t size)
{
    char text[32];
    if (snprintf(path, size, "%s/ballast-test-%d", parent, (int)getpid()) >= (int)size ||
        mkdir(path, 0755) != 0) {
        return false;
    }
    snprintf(text, sizeof(text), "%" PRIu64, limit);
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

bool cgroup_make(uint64_t limit_bytes, char *path, size_t size)
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
            if (make_group(parent, versions[i].limit, limit_bytes, path, size)) {
                return true;
            }
            if (cut == own && own[0] == '/' && strrchr(own, '/') == own) {
                own[0] = '\0';
            }
        }
    }
    return false;
}

bool cgroup_enter(const char *path)
{
    return write_file(path, "cgroup.procs", "0");
}

void cgroup_remove(const char *path)
{
    for (int tries = 0; rmdir(path) != 0 && tries < 100; tries++) {
        usleep(10000); /* the kernel may still be taking a process apart */
    }
}
