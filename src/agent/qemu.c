/* SPDX-License-Identifier: MIT */
#include "agent/qemu.h"

#include "agent/references.h"
#include "agent/symbols.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* QEMU's Notifier (include/qemu/notify.h): the function and a list node. */
struct notifier {
    void (*notify)(struct notifier *self, void *data);
    void *next, **previous;
};

/* QEMU's NotifierWithReturn. The error's place is the third argument from QEMU
 * 9.0 on; before, it is in the data. */
struct asking_notifier {
    int (*notify)(struct asking_notifier *self, void *data, void **error);
    void *next, **previous;
};

/* What postcopy's notifiers are told (migration/postcopy-ram.h). */
struct postcopy_data {
    int reason;
    void **error; /* before QEMU 9.0 */
};
#define POSTCOPY_PROBE 0 /* may there be a postcopy migration to here? */

/* And those of migration's rounds (migration/misc.h). */
struct precopy_data {
    int reason;
};
#define PRECOPY_AFTER_BITMAP_SYNC 2 /* QEMU knows what is to be sent in this round */

/* QEMU's DeviceListener (include/hw/qdev-core.h). */
struct device_listener {
    void (*realize)(struct device_listener *self, void *device);
    void (*unrealize)(struct device_listener *self, void *device);
    bool (*hide_device)(struct device_listener *self, const void *options, bool from_json,
                        void **error);
    void *next, **previous;
};

/* What qmp_query_version returns (qapi/control.json). */
struct version_info {
    const struct {
        int64_t major, minor, micro;
    } * qemu;
    char *package;
};

/* From QEMU 7.2 to 10.0 without change: include/exec/memory.h, qom/object.h,
 * sysemu/reset.h, sysemu/runstate.h, sysemu/sysemu.h, block/aio.h,
 * qapi/error.h, qapi/qmp/qdict.h, sysemu/hostmem.h, hw/qdev-core.h, migration/postcopy-ram.h, and
 * what is made from qapi/machine.json and qapi/control.json. */
static struct {
    void *(*memory_region_from_host)(void *host, uint64_t *offset);
    const char *(*memory_region_name)(const void *region);
    void *(*memory_region_owner)(void *region);
    bool (*memory_region_is_mapped)(void *region);
    void *(*host_memory_backend_get_memory)(void *backend);
    void *(*memory_region_get_ram_ptr)(void *region);
    void *(*object_get_objects_root)(void);
    void *(*object_resolve_path_component)(void *parent, const char *part);
    void *(*object_property_get_link)(void *object, const char *name, void **error);
    const char *(*object_get_typename)(const void *object);
    int (*ram_block_discard_require)(bool state);
    void (*qemu_add_machine_init_done_notifier)(struct notifier *notifier);
    void (*qemu_register_reset)(void (*function)(void *opaque), void *opaque);
    void *(*qemu_get_aio_context)(void);
    void (*aio_bh_schedule_oneshot_full)(void *context, void (*function)(void *opaque),
                                         void *opaque, const char *name);
    void (*qmp_balloon)(int64_t bytes, void **error);
    void (*error_free)(void *error);
    void (*error_setg_internal)(void **error, const char *file, int line, const char *function,
                                const char *format, ...);
    struct version_info *(*qmp_query_version)(void **error);
    void (*qapi_free_VersionInfo)(struct version_info *version);
    void (*postcopy_add_notifier)(struct asking_notifier *notifier);
    void (*device_listener_register)(struct device_listener *listener);
    const char *(*qdict_get_try_str)(const void *dict, const char *key);
    void (*qemu_register_wakeup_notifier)(struct notifier *notifier);
    void (*precopy_add_notifier)(struct asking_notifier *notifier);
    bool (*migrate_postcopy_ram)(void);
    void (*qemu_guest_free_page_hint)(void *at, size_t bytes);
    void *(*qemu_add_vm_change_state_handler)(void (*function)(void *opaque, bool running,
                                                               int state),
                                              void *opaque);
} functions;

bool qemu_look_up(const struct qemu_wanted *wanted, size_t count, void (*missing)(const char *name))
{
    struct symbols symbols = {.file = NULL};
    bool has_symbols = false, has_looked = false;
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        void *address = dlsym(RTLD_DEFAULT, wanted[i].name);
        if (address == NULL && !has_looked) {
            has_looked = true;
            has_symbols = symbols_open(SYMBOLS_FOLDER, &symbols) == 0;
        }
        if (address == NULL && has_symbols) {
            address = symbols_find(&symbols, wanted[i].name);
        }
        if (address == NULL && missing != NULL) {
            missing(wanted[i].name);
        }
        all = all && address != NULL;
        *wanted[i].address = address;
    }
    symbols_close(&symbols);
    return all;
}

/* Looks for them all. `missing`, if not NULL, is told of each that is not there. */
static bool resolve(void (*missing)(const char *name))
{
    const struct qemu_wanted wanted[] = {
        {"memory_region_from_host", (void **)&functions.memory_region_from_host},
        {"memory_region_name", (void **)&functions.memory_region_name},
        {"memory_region_owner", (void **)&functions.memory_region_owner},
        {"memory_region_is_mapped", (void **)&functions.memory_region_is_mapped},
        {"host_memory_backend_get_memory", (void **)&functions.host_memory_backend_get_memory},
        {"memory_region_get_ram_ptr", (void **)&functions.memory_region_get_ram_ptr},
        {"object_get_objects_root", (void **)&functions.object_get_objects_root},
        {"object_resolve_path_component", (void **)&functions.object_resolve_path_component},
        {"object_property_get_link", (void **)&functions.object_property_get_link},
        {"object_get_typename", (void **)&functions.object_get_typename},
        {"ram_block_discard_require", (void **)&functions.ram_block_discard_require},
        {"qemu_add_machine_init_done_notifier",
         (void **)&functions.qemu_add_machine_init_done_notifier},
        {"qemu_register_reset", (void **)&functions.qemu_register_reset},
        {"qemu_get_aio_context", (void **)&functions.qemu_get_aio_context},
        {"aio_bh_schedule_oneshot_full", (void **)&functions.aio_bh_schedule_oneshot_full},
        {"qmp_balloon", (void **)&functions.qmp_balloon},
        {"error_free", (void **)&functions.error_free},
        {"error_setg_internal", (void **)&functions.error_setg_internal},
        {"qmp_query_version", (void **)&functions.qmp_query_version},
        {"qapi_free_VersionInfo", (void **)&functions.qapi_free_VersionInfo},
        {"postcopy_add_notifier", (void **)&functions.postcopy_add_notifier},
        {"device_listener_register", (void **)&functions.device_listener_register},
        {"qdict_get_try_str", (void **)&functions.qdict_get_try_str},
        {"qemu_register_wakeup_notifier", (void **)&functions.qemu_register_wakeup_notifier},
        {"precopy_add_notifier", (void **)&functions.precopy_add_notifier},
        {"migrate_postcopy_ram", (void **)&functions.migrate_postcopy_ram},
        {"qemu_guest_free_page_hint", (void **)&functions.qemu_guest_free_page_hint},
        {"qemu_add_vm_change_state_handler", (void **)&functions.qemu_add_vm_change_state_handler},
    };
    return qemu_look_up(wanted, sizeof(wanted) / sizeof(wanted[0]), missing);
}

bool qemu_has_all(void (*missing)(const char *name))
{
    return resolve(missing);
}

enum qemu_presence qemu_detect(const char *program)
{
    if (resolve(NULL)) {
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

bool qemu_block_is_mapped(haddr_t at)
{
    uint64_t offset;
    void *region = functions.memory_region_from_host((void *)at.a, &offset);
    return region != NULL && functions.memory_region_is_mapped(region);
}

int qemu_require_discards(void)
{
    return functions.ram_block_discard_require(true) == 0 ? 0 : -EBUSY;
}

static struct qemu_hooks hooks;
static atomic_bool machine_ready;
static char version_text[32];
static atomic_uint_fast64_t balloon_bytes; /* the last that was asked for; 0: nothing yet */

static void on_ready(struct notifier *self, void *data)
{
    (void)self;
    (void)data;
    atomic_store(&machine_ready, true);
    hooks.ready();
}

bool qemu_machine_is_made(void)
{
    return atomic_load(&machine_ready);
}

/* Main thread only. */
static bool was_reset;           /* once, when the machine was made */
static bool waking;              /* from suspend to RAM, which QEMU does by a reset, too */
static bool state_is_new = true; /* since the guest ran last: it came in, or was reset */

static void on_wakeup(struct notifier *self, void *data)
{
    (void)self;
    (void)data;
    waking = true;
}

static void on_reset(void *opaque)
{
    (void)opaque;
    if (was_reset && !waking) {
        hooks.reset();
    }
    was_reset = true;
    waking = false;
    state_is_new = true;
}

void qemu_set_error(void **error, const char *text)
{
    functions.error_setg_internal(error, __FILE__, __LINE__, __func__, "%s", text);
}

static bool error_is_in_data;

/* Postcopy needs a userfaultfd of QEMU's own on guest RAM, and would find out
 * that it cannot have it when the guest has left its source for ever. */
static int on_postcopy(struct asking_notifier *self, void *data, void **error)
{
    (void)self;
    const struct postcopy_data *asked = data;
    if (asked->reason != POSTCOPY_PROBE) {
        return 0;
    }
    qemu_set_error(
        error_is_in_data ? asked->error : error,
        "Ballast serves the page faults of this guest's RAM, so it cannot be the destination "
        "of a postcopy migration; migrate without postcopy-ram");
    return -ENOTSUP;
}

/* On the thread that migrates, or saves a snapshot. What is not sent the other end
 * has never had, so that it is as empty there. Not if postcopy may follow: whoever
 * asked for such a page there would wait for it for ever. */
static int on_precopy(struct asking_notifier *self, void *data, void **error)
{
    (void)self;
    (void)error;
    const struct precopy_data *told = data;
    if (told->reason == PRECOPY_AFTER_BITMAP_SYNC && !functions.migrate_postcopy_ram()) {
        hooks.round();
    }
    return 0;
}

void qemu_skip(haddr_t at, uint64_t bytes)
{
    functions.qemu_guest_free_page_hint((void *)at.a, bytes);
}

/* Where the memory of a back end is; nowhere if there is none. */
static haddr_t memory_of(void *backend)
{
    void *region = backend != NULL ? functions.host_memory_backend_get_memory(backend) : NULL;
    return haddr(region != NULL ? functions.memory_region_get_ram_ptr(region) : NULL);
}

/* Whether a memory device is a DIMM whose memory is the domain's. */
static bool is_served(const char *driver, const char *memdev)
{
    void *backend =
        functions.object_resolve_path_component(functions.object_get_objects_root(), memdev);
    bool is_memory = backend != NULL &&
                     strncmp(functions.object_get_typename(backend), "memory-backend-", 15) == 0;
    haddr_t at = memory_of(is_memory ? backend : NULL);
    return driver != NULL && strcmp(driver, "pc-dimm") == 0 && at.a != 0 && hooks.serves(at);
}

/* Called for each device that becomes real or goes. A DIMM's memory is mapped after the
 * first, and was unmapped before the second. */
static void on_dimm(void *device, bool plugged)
{
    if (qemu_machine_is_made() && strcmp(functions.object_get_typename(device), "pc-dimm") == 0) {
        haddr_t at = memory_of(functions.object_property_get_link(device, "memdev", NULL));
        if (at.a != 0) {
            hooks.dimm(at, plugged);
        }
    }
}

static void on_realize(struct device_listener *self, void *device)
{
    (void)self;
    on_dimm(device, true);
}

static void on_unrealize(struct device_listener *self, void *device)
{
    (void)self;
    on_dimm(device, false);
}

/* Memory devices other than a DIMM of ours (nvdimm, virtio-mem, one whose memory is shared
 * or more than there is room for) bring RAM that is not the domain's; and some devices
 * write to guest RAM where we cannot see it. */
static bool on_device(struct device_listener *self, const void *options, bool from_json,
                      void **error)
{
    (void)self;
    (void)from_json;
    const char *memdev = functions.qdict_get_try_str(options, "memdev");
    const char *driver = functions.qdict_get_try_str(options, "driver");
    if (memdev != NULL && !is_served(driver, memdev)) {
        qemu_set_error(error,
                       "this memory cannot be added to the guest: Ballast serves a pc-dimm of a "
                       "memory-backend-ram without share=on, whose size is a multiple of 2 MiB, "
                       "up to -m's maxmem; use one, or 'ballast set' up to what -m says");
    } else if (references_unseen_by(driver)) {
        qemu_set_error(error,
                       "the host's kernel does not pin the memory that vhost-scsi writes to, and "
                       "under Ballast what it writes might be lost; use virtio-scsi-pci");
    }
    return false; /* it hides nothing: an error is what keeps the device out */
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

/* A state that came in, by migration or from a snapshot, has brought what its
 * balloon was asked for where it comes from: it is asked again when it runs. Only
 * then, for who asks the balloon for something else by QEMU's monitor means it. */
static void on_run_state(void *opaque, bool running, int state)
{
    (void)opaque;
    (void)state;
    uint64_t bytes = atomic_load(&balloon_bytes);
    if (running && state_is_new && bytes != 0) {
        qemu_ask_balloon(bytes);
    }
    state_is_new = state_is_new && !running;
}

void qemu_set_hooks(const struct qemu_hooks *the_hooks)
{
    static struct notifier ready = {.notify = on_ready};
    static struct notifier wakeup = {.notify = on_wakeup};
    static struct asking_notifier postcopy = {.notify = on_postcopy};
    static struct asking_notifier precopy = {.notify = on_precopy};
    static struct device_listener devices = {
        .realize = on_realize, .unrealize = on_unrealize, .hide_device = on_device};
    hooks = *the_hooks;
    functions.qemu_add_machine_init_done_notifier(&ready);
    functions.qemu_register_wakeup_notifier(&wakeup);
    functions.qemu_register_reset(on_reset, NULL);
    functions.qemu_add_vm_change_state_handler(on_run_state, NULL);
    struct version_info *version = functions.qmp_query_version(NULL);
    error_is_in_data = version->qemu->major < 9;
    snprintf(version_text, sizeof(version_text), "%" PRId64 ".%" PRId64 ".%" PRId64,
             version->qemu->major, version->qemu->minor, version->qemu->micro);
    functions.qapi_free_VersionInfo(version);
    functions.postcopy_add_notifier(&postcopy);
    functions.precopy_add_notifier(&precopy);
    functions.device_listener_register(&devices);
}

const char *qemu_version(void)
{
    return version_text;
}

void qemu_call(void (*function)(void *opaque), void *opaque)
{
    functions.aio_bh_schedule_oneshot_full(functions.qemu_get_aio_context(), function, opaque,
                                           "ballast");
}

void qemu_ask_balloon_again(void)
{
    if (atomic_load(&machine_ready) && atomic_load(&balloon_bytes) != 0) {
        qemu_call(set_balloon, NULL);
    }
}

void qemu_ask_balloon(uint64_t bytes)
{
    atomic_store(&balloon_bytes, bytes);
    qemu_ask_balloon_again();
}
