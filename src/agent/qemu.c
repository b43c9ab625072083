/* SPDX-License-Identifier: MIT */
#include "agent/qemu.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* From QEMU 7.2 to 10.0 without change: include/exec/memory.h, qom/object.h. */
static struct {
    void *(*memory_region_from_host)(void *host, uint64_t *offset);
    const char *(*memory_region_name)(const void *region);
    void *(*memory_region_owner)(void *region);
    const char *(*object_get_typename)(const void *object);
    int (*ram_block_discard_require)(bool state);
} functions;

static bool resolve(void)
{
    struct {
        const char *name;
        void **function;
    } wanted[] = {
        {"memory_region_from_host", (void **)&functions.memory_region_from_host},
        {"memory_region_name", (void **)&functions.memory_region_name},
        {"memory_region_owner", (void **)&functions.memory_region_owner},
        {"object_get_typename", (void **)&functions.object_get_typename},
        {"ram_block_discard_require", (void **)&functions.ram_block_discard_require},
    };
    bool all = true;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        *wanted[i].function = dlsym(RTLD_DEFAULT, wanted[i].name);
        all = all && *wanted[i].function != NULL;
    }
    return all;
}

enum qemu_presence qemu_detect(const char *program)
{
    if (resolve()) {
        return QEMU_AVAILABLE;
    }
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length < 0) {
        return QEMU_ABSENT;
    }
    self[length] = '\0';
    const char *base = strrchr(self, '/') != NULL ? strrchr(self, '/') + 1 : self;
    bool named_so = strncmp(base, "qemu-system-", 12) == 0 || strcmp(base, "qemu-kvm") == 0;
    return named_so || strcmp(self, program) == 0 ? QEMU_UNUSABLE : QEMU_ABSENT;
}

bool qemu_find_block(haddr_t at, struct qemu_block *block)
{
    uint64_t offset = 0;
    void *region = functions.memory_region_from_host((void *)at.a, &offset);
    if (region == NULL || offset != 0) {
        return false;
    }
    void *owner = functions.memory_region_owner(region);
    *block = (struct qemu_block){
        .name = functions.memory_region_name(region),
        .owner_type = owner != NULL ? functions.object_get_typename(owner) : "",
    };
    return true;
}

int qemu_require_discards(void)
{
    return functions.ram_block_discard_require(true) == 0 ? 0 : -EBUSY;
}
