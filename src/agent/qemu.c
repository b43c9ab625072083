/* SPDX-License-Identifier: MIT */
#include "agent/qemu.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* QEMU's Notifier (include/qemu/notify.h): the function and a list node. */
struct notifier {
    void (*notify)(struct notifier *self, void *data);
    void *next, **previous;
};

/* From QEMU 7.2 to 10.0 without change: include/exec/memory.h, qom/object.h,
 * sysemu/reset.h, sysemu/sysemu.h, block/aio.h, qapi/error.h, and
 * qapi-commands-machine.h for qmp_balloon. */
static struct {
    void *(*memory_region_from_host)(void *host, uint64_t *offset);
    const char *(*memory_region_name)(const void *region);
    void *(*memory_region_owner)(void *region);
    const char *(*object_get_typename)(const void *object);
    int (*ram_block_discard_require)(bool state);
    void (*qemu_add_machine_init_done_notifier)(struct notifier *notifier);
    void (*qemu_register_reset)(void (*function)(void *opaque), void *opaque);
    void *(*qemu_get_aio_context)(void);
    void (*aio_bh_schedule_oneshot_full)(void *context, void (*function)(void *opaque),
                                         void *opaque, const char *name);
    void (*qmp_balloon)(int64_t bytes, void **error);
    void (*error_free)(void *error);
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
        {"qemu_add_machine_init_done_notifier",
         (void **)&functions.qemu_add_machine_init_done_notifier},
        {"qemu_register_reset", (void **)&functions.qemu_register_reset},
        {"qemu_get_aio_context", (void **)&functions.qemu_get_aio_context},
        {"aio_bh_schedule_oneshot_full", (void **)&functions.aio_bh_schedule_oneshot_full},
        {"qmp_balloon", (void **)&functions.qmp_balloon},
        {"error_free", (void **)&functions.error_free},
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

static struct qemu_hooks hooks;
static atomic_bool machine_ready;
static atomic_uint_fast64_t balloon_bytes; /* the last that was asked for */

static void on_ready(struct notifier *self, void *data)
{
    (void)self;
    (void)data;
    atomic_store(&machine_ready, true);
    hooks.ready();
}

static void on_reset(void *opaque)
{
    (void)opaque;
    hooks.reset();
}

void qemu_set_hooks(const struct qemu_hooks *the_hooks)
{
    static struct notifier notifier = {.notify = on_ready};
    hooks = *the_hooks;
    functions.qemu_add_machine_init_done_notifier(&notifier);
    functions.qemu_register_reset(on_reset, NULL);
}

/* On QEMU's main thread, with its big lock. */
static void set_balloon(void *opaque)
{
    (void)opaque;
    void *error = NULL;
    functions.qmp_balloon((int64_t)atomic_load(&balloon_bytes), &error);
    if (error != NULL) {
        functions.error_free(error); /* it has none: then the guest is not asked */
    }
}

void qemu_ask_balloon(uint64_t bytes)
{
    atomic_store(&balloon_bytes, bytes);
    if (atomic_load(&machine_ready)) {
        functions.aio_bh_schedule_oneshot_full(functions.qemu_get_aio_context(), set_balloon, NULL,
                                               "ballast-balloon");
    }
}
