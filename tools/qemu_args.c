/* SPDX-License-Identifier: MIT */
/*
 * QEMU's command line. See qemu_args.h.
 *
 * Facts, from QEMU 7.2's and 10's sources and by trying them:
 *
 *  - "--opt" is "-opt"; there is no "-opt=value". What does not begin with "-"
 *    is a disk image. An option either always takes the next word as its
 *    value, whatever that looks like, or never.
 *  - Options are lists, "key=value,key=value", in which ",," is a comma. The
 *    first item may leave out the key where the option has a main one (size
 *    for -m, guest for -name, type for -machine). -object, -device and -netdev
 *    also take a JSON object.
 *  - A later -m is merged into the earlier ones, key by key; so are -name and
 *    -machine.
 *  - A machine takes one balloon; a second one is an error. The name of the
 *    device depends on the bus that the machine has for virtio. A machine's
 *    name may be followed by a version: pc-q35-7.2, virt-7.2.
 */
#include "qemu_args.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* Options that take no value, of QEMU 7.2 to 10. */
static const char *const flag_options[] = {
    "S",
    "audio-help",
    "daemonize",
    "enable-kvm",
    "enable-sync-profile",
    "full-screen",
    "async-teardown",
    "h",
    "help",
    "jitdump",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-hpet",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nographic",
    "old-param",
    "only-migratable",
    "perfmap",
    "portrait",
    "preconfig",
    "s",
    "semihosting",
    "singlestep",
    "snapshot",
    "usb",
    "version",
    "win2k-hack",
    "xen-attach",
    "xen-domid-restrict",
};

/* Options that do. */
static const char *const value_options[] = {
    "D",          "L",
    "M",          "accel",
    "acpitable",  "action",
    "add-fd",     "append",
    "audio",      "audiodev",
    "bios",       "blockdev",
    "boot",       "cdrom",
    "chardev",    "chroot",
    "compat",     "cpu",
    "d",          "debugcon",
    "device",     "dfilter",
    "display",    "drive",
    "dtb",        "dump-vmstate",
    "echr",       "fda",
    "fdb",        "fsdev",
    "fw_cfg",     "g",
    "gdb",        "global",
    "hda",        "hdb",
    "hdc",        "hdd",
    "icount",     "incoming",
    "initrd",     "iscsi",
    "k",          "kernel",
    "loadvm",     "m",
    "machine",    "mem-path",
    "mon",        "monitor",
    "msg",        "mtdblock",
    "name",       "net",
    "netdev",     "nic",
    "numa",       "object",
    "option-rom", "overcommit",
    "parallel",   "pflash",
    "pidfile",    "plugin",
    "prom-env",   "qmp",
    "qmp-pretty", "qtest",
    "qtest-log",  "readconfig",
    "rotate",     "rtc",
    "run-with",   "runas",
    "sandbox",    "sd",
    "seed",       "semihosting-config",
    "serial",     "set",
    "shim",       "smbios",
    "smp",        "spice",
    "tpmdev",     "trace",
    "usbdevice",  "uuid",
    "vga",        "virtfs",
    "vnc",        "watchdog-action",
    "xen-domid",
};

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define DEFAULT_RAM_BYTES (UINT64_C(128) << 20)

/* What has been read so far. */
struct reader {
    struct qemu_args_problem *problem;
    bool has_size;
    uint64_t size_bytes; /* of the last -m size=; 0: the machine's default */
    bool reads_config;
    bool sets_memory; /* -machine memory.*: another way to say -m */
    bool has_balloon;
    bool is_cut_short; /* the last option lacks its value */
    char *machine;     /* -machine type= */
    char *guest_name;
    char *machine_backend;  /* -machine memory-backend= */
    unsigned numa_backends; /* -numa node,memdev= */
    unsigned backends;      /* -object memory-backend-ram */
    uint64_t backend_bytes; /* the last one's size; 0: not known */
    char *backend_id;
};

/* One item of an option's list, or one member of its JSON object. */
struct item {
    const char *key;   /* "" for a first item without a key */
    const char *value; /* "on" if it has none */
};

/* Called for each item; stops at the first that returns less than 0. */
typedef int item_handler(struct reader *reader, const struct item *item, void *context);

__attribute__((format(printf, 3, 4))) static int refuse(struct reader *reader, int ret,
                                                        const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reader->problem->text, sizeof(reader->problem->text), format, arguments);
    va_end(arguments);
    return ret;
}

static bool is_in(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Replaces a string of ours by a copy of another. */
static int set_string(char **string, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL) {
        return -ENOMEM;
    }
    free(*string);
    *string = copy;
    return 0;
}

/* Cuts the next item out of a list: unescapes it in place, ends it with NUL and
 * moves *cursor behind it (to NULL at the end). Returns where its "=" was, or NULL. */
static char *cut_item(char **cursor)
{
    char *from = *cursor;
    char *to = from;
    char *equals = NULL;

    for (;; from++, to++) {
        if (*from == '=' && equals == NULL) {
            equals = to;
        } else if (from[0] == ',' && from[1] == ',') {
            from++;
        } else if (*from == ',') {
            *cursor = from + 1;
            break;
        } else if (*from == '\0') {
            *cursor = NULL;
            break;
        }
        *to = *from;
    }
    *to = '\0';
    return equals;
}

static int each_list_item(struct reader *reader, const char *text, item_handler *handler,
                          void *context)
{
    char *copy = strdup(text);
    char *cursor = copy;
    bool first = true;
    int ret = 0;

    if (copy == NULL) {
        return -ENOMEM;
    }
    while (ret == 0 && cursor != NULL) {
        char *begin = cursor;
        char *equals = cut_item(&cursor);
        struct item item = {.key = begin, .value = "on"};

        if (equals != NULL) {
            *equals = '\0';
            item.value = equals + 1;
        } else if (first) {
            item = (struct item){.key = "", .value = begin};
        }
        if (equals != NULL || *begin != '\0') {
            ret = handler(reader, &item, context);
        }
        first = false;
    }
    free(copy);
    return ret;
}

/* QEMU also takes JSON strings in single quotes, which jansson does not. */
static json_t *load_json(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);

    if (json == NULL && strchr(text, '\'') != NULL && strchr(text, '"') == NULL) {
        char *copy = strdup(text);

        if (copy != NULL) {
            for (char *at = copy; (at = strchr(at, '\'')) != NULL;) {
                *at = '"';
            }
            json = json_loads(copy, 0, NULL);
            free(copy);
        }
    }
    return json;
}

static int each_json_item(struct reader *reader, const char *text, item_handler *handler,
                          void *context)
{
    json_t *json = load_json(text);
    const char *key;
    json_t *value;
    int ret = 0;

    /* If it is no JSON, QEMU will say so. */
    json_object_foreach(json, key, value)
    {
        char number[32];
        struct item item = {.key = key, .value = ""};

        if (json_is_string(value)) {
            item.value = json_string_value(value);
        } else if (json_is_integer(value)) {
            snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            item.value = number;
        } else if (json_is_boolean(value)) {
            item.value = json_is_true(value) ? "on" : "off";
        }
        ret = handler(reader, &item, context);
        if (ret < 0) {
            break;
        }
    }
    json_decref(json);
    return ret;
}

static int each_item(struct reader *reader, const char *text, item_handler *handler, void *context)
{
    if (text[0] == '{') {
        return each_json_item(reader, text, handler, context);
    }
    return each_list_item(reader, text, handler, context);
}

static bool is_key(const struct item *item, const char *key, const char *main_key)
{
    return strcmp(item->key, key) == 0 || (item->key[0] == '\0' && strcmp(key, main_key) == 0);
}

static bool is_on(const char *value)
{
    return strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 ||
           strcmp(value, "y") == 0;
}

static int read_memory(struct reader *reader, const struct item *item, void *context)
{
    (void)context;
    if (!is_key(item, "size", "size")) {
        return 0;
    }
    if (size_parse_qemu_memory(item->value, &reader->size_bytes) < 0) {
        return refuse(reader, -EINVAL,
                      "QEMU's -m %.64s is no size: it is a number, with M, G or T after it if it "
                      "is not in MiB; correct it",
                      item->value);
    }
    reader->has_size = true;
    return 0;
}

static int read_name(struct reader *reader, const struct item *item, void *context)
{
    (void)context;
    return is_key(item, "guest", "guest") ? set_string(&reader->guest_name, item->value) : 0;
}

static int read_machine(struct reader *reader, const struct item *item, void *context)
{
    (void)context;
    if (is_key(item, "type", "type")) {
        return set_string(&reader->machine, item->value);
    }
    if (is_key(item, "memory-backend", "type")) {
        return set_string(&reader->machine_backend, item->value);
    }
    if (starts_with(item->key, "memory.") || strcmp(item->key, "memory") == 0) {
        reader->sets_memory = true;
    }
    return 0;
}

static int read_numa(struct reader *reader, const struct item *item, void *context)
{
    (void)context;
    if (is_key(item, "memdev", "type")) {
        reader->numa_backends++;
    }
    return 0;
}

/* An -object. Its items come in any order, so they are gathered first. */
struct object {
    char type[64];
    char id[128];
    char size[64];
    bool is_shared;
};

static int gather_object(struct reader *reader, const struct item *item, void *context)
{
    struct object *object = context;

    (void)reader;
    if (is_key(item, "qom-type", "qom-type")) {
        snprintf(object->type, sizeof(object->type), "%s", item->value);
    } else if (strcmp(item->key, "id") == 0) {
        snprintf(object->id, sizeof(object->id), "%s", item->value);
    } else if (strcmp(item->key, "size") == 0) {
        snprintf(object->size, sizeof(object->size), "%s", item->value);
    } else if (strcmp(item->key, "share") == 0) {
        object->is_shared = is_on(item->value);
    }
    return 0;
}

static int read_object(struct reader *reader, const char *text)
{
    struct object object = {.is_shared = false};
    int ret = each_item(reader, text, gather_object, &object);

    if (ret < 0 || !starts_with(object.type, "memory-backend-")) {
        return ret;
    }
    if (strcmp(object.type, "memory-backend-ram") != 0) {
        return refuse(reader, -ENOTSUP,
                      "guest RAM in a %s cannot be served: only private anonymous memory can be "
                      "moved; leave the option out, or use memory-backend-ram",
                      object.type);
    }
    if (object.is_shared) {
        return refuse(reader, -ENOTSUP,
                      "guest RAM with share=on cannot be served: only private anonymous memory "
                      "can be moved; leave share=on out (vhost-user and virtiofs need it and do "
                      "not work under Ballast)");
    }
    reader->backends++;
    if (size_parse_qemu(object.size, &reader->backend_bytes) < 0) {
        reader->backend_bytes = 0;
    }
    return set_string(&reader->backend_id, object.id);
}

static int read_device(struct reader *reader, const struct item *item, void *context)
{
    (void)context;
    if (!is_key(item, "driver", "driver")) {
        return 0;
    }
    if (starts_with(item->value, "vfio-") || starts_with(item->value, "vhost-vdpa-")) {
        return refuse(reader, -ENOTSUP,
                      "the device %.64s cannot be used: it pins all guest RAM, so that nothing "
                      "can be moved; use a virtio device, or start this guest without Ballast",
                      item->value);
    }
    reader->has_balloon |= starts_with(item->value, "virtio-balloon");
    return 0;
}

static int read_netdev(struct reader *reader, const struct item *item, void *context)
{
    (void)context;
    if (is_key(item, "type", "type") && strcmp(item->value, "vhost-vdpa") == 0) {
        return refuse(reader, -ENOTSUP,
                      "the network back end vhost-vdpa cannot be used: it pins all guest RAM, so "
                      "that nothing can be moved; use tap, user or a socket");
    }
    return 0;
}

static int read_option(struct reader *reader, const char *name, const char *value)
{
    if (strcmp(name, "m") == 0) {
        return each_list_item(reader, value, read_memory, NULL);
    }
    if (strcmp(name, "name") == 0) {
        return each_list_item(reader, value, read_name, NULL);
    }
    if (strcmp(name, "machine") == 0 || strcmp(name, "M") == 0) {
        return each_list_item(reader, value, read_machine, NULL);
    }
    if (strcmp(name, "numa") == 0) {
        return each_item(reader, value, read_numa, NULL);
    }
    if (strcmp(name, "object") == 0) {
        return read_object(reader, value);
    }
    if (strcmp(name, "device") == 0) {
        return each_item(reader, value, read_device, NULL);
    }
    if (strcmp(name, "netdev") == 0) {
        return each_item(reader, value, read_netdev, NULL);
    }
    if (strcmp(name, "mem-path") == 0) {
        return refuse(reader, -ENOTSUP,
                      "QEMU's -mem-path cannot be served: only private anonymous memory can be "
                      "moved, not files and huge page pools; leave it out (Ballast takes "
                      "transparent huge pages by itself)");
    }
    if (strcmp(name, "readconfig") == 0) {
        reader->reads_config = true;
    }
    /* Of QEMUs before 5; also "none", which says that there shall be none. */
    if (strcmp(name, "balloon") == 0) {
        reader->has_balloon = true;
    }
    return 0;
}

/* Does an option take the next word? Of options that we do not know (newer, or
 * a distribution's own) we guess: a value seldom looks like an option. */
static bool takes_value(const char *name, const char *next)
{
    if (next == NULL || is_in(name, flag_options, ARRAY_LENGTH(flag_options))) {
        return false;
    }
    return is_in(name, value_options, ARRAY_LENGTH(value_options)) || next[0] != '-';
}

static int read_all(struct reader *reader, char *const argv[])
{
    for (size_t i = 1; argv[i] != NULL; i++) {
        const char *name = argv[i];
        int ret;

        if (name[0] != '-') {
            continue;
        }
        name += name[1] == '-' ? 2 : 1;
        if (takes_value(name, argv[i + 1])) {
            i++;
            ret = read_option(reader, name, argv[i]);
            if (ret < 0) {
                return ret;
            }
        } else if (argv[i + 1] == NULL) {
            reader->is_cut_short = is_in(name, value_options, ARRAY_LENGTH(value_options));
        }
    }
    return 0;
}

static int check_backends(struct reader *reader)
{
    if (reader->backends > 1 || reader->numa_backends > 1) {
        return refuse(reader, -ENOTSUP,
                      "guest RAM in more than one memory back end cannot be served: Ballast "
                      "manages one block; use -m alone, or one memory-backend-ram");
    }
    if (reader->backends == 1 && reader->machine_backend == NULL && reader->numa_backends == 0) {
        return refuse(reader, -ENOTSUP,
                      "the memory back end '%.64s' beside the machine's own RAM cannot be served: "
                      "Ballast manages one block; leave it out, or make it the machine's with "
                      "-machine memory-backend=%.64s",
                      reader->backend_id, reader->backend_id);
    }
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* What follows "qemu-system-" in a program's name, or NULL. */
static const char *find_system(const char *program)
{
    const char *base = base_name(program);

    return starts_with(base, "qemu-system-") ? base + strlen("qemu-system-") : NULL;
}

/* Is this machine's default known? Boards of other architectures differ. */
static bool has_usual_default(const char *program)
{
    const char *system = find_system(program);

    return system == NULL || strcmp(system, "x86_64") == 0 || strcmp(system, "i386") == 0;
}

static uint64_t find_max(const struct reader *reader, const char *program)
{
    if (reader->sets_memory) {
        return 0;
    }
    if (reader->has_size && reader->size_bytes != 0) {
        return reader->size_bytes;
    }
    if (reader->reads_config) {
        return 0;
    }
    if (reader->machine_backend != NULL && !reader->has_size) {
        bool is_ours =
            reader->backends == 1 && strcmp(reader->machine_backend, reader->backend_id) == 0;

        return is_ours ? reader->backend_bytes : 0;
    }
    return has_usual_default(program) ? DEFAULT_RAM_BYTES : 0;
}

#define BALLOON(device) device ",id=ballast-balloon,free-page-reporting=on"
#define BALLOON_PCI     BALLOON("virtio-balloon-pci")
#define BALLOON_CCW     BALLOON("virtio-balloon-ccw")
#define BALLOON_MMIO    BALLOON("virtio-balloon-device")

/* Which balloon a machine takes. */
struct machine {
    const char *program; /* what follows "qemu-system-"; NULL: any other program */
    const char *name;    /* without its version */
    const char *balloon;
};

/* The first machine of a program is its default one, unless `name` is "". */
static const struct machine machines[] = {
    {"x86_64", "pc", BALLOON_PCI},
    {"x86_64", "q35", BALLOON_PCI},
    {"x86_64", "microvm", BALLOON_MMIO},
    {"i386", "pc", BALLOON_PCI},
    {"i386", "q35", BALLOON_PCI},
    {"i386", "microvm", BALLOON_MMIO},
    /* Debian's QEMU with nothing but that machine. */
    {"x86_64-microvm", "microvm", BALLOON_MMIO},
    {"aarch64", "", NULL},
    {"aarch64", "virt", BALLOON_PCI},
    {"arm", "", NULL},
    {"arm", "virt", BALLOON_PCI},
    {"riscv64", "", NULL},
    {"riscv64", "virt", BALLOON_PCI},
    {"riscv32", "", NULL},
    {"riscv32", "virt", BALLOON_PCI},
    {"loongarch64", "virt", BALLOON_PCI},
    {"ppc64", "pseries", BALLOON_PCI},
    {"s390x", "s390-ccw-virtio", BALLOON_CCW},
    /* A script, or kvm, qemu-kvm and so on: whatever the machine says. */
    {NULL, "pc", BALLOON_PCI},
    {NULL, "q35", BALLOON_PCI},
    {NULL, "microvm", BALLOON_MMIO},
    {NULL, "virt", BALLOON_PCI},
    {NULL, "pseries", BALLOON_PCI},
    {NULL, "s390-ccw-virtio", BALLOON_CCW},
};

static bool is_same_or_null(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Is this the name of a machine, with or without a version? */
static bool is_machine(const char *name, const char *machine)
{
    size_t length = strlen(machine);

    return length > 0 && strncmp(name, machine, length) == 0 &&
           (name[length] == '\0' || name[length] == '-');
}

/* Is a program without arguments a script that has its own? */
static bool is_script_without_arguments(char *const argv[])
{
    return argv[1] == NULL && !starts_with(base_name(argv[0]), "qemu") &&
           strcmp(base_name(argv[0]), "kvm") != 0;
}

static const char *find_balloon(const struct reader *reader, char *const argv[])
{
    const char *system = find_system(argv[0]);

    /* A configuration file may have a balloon, and may choose the machine. */
    if (reader->has_balloon || reader->reads_config || reader->is_cut_short ||
        is_script_without_arguments(argv)) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(machines); i++) {
        if (is_same_or_null(machines[i].program, system) &&
            (reader->machine == NULL || is_machine(reader->machine, machines[i].name))) {
            return machines[i].balloon;
        }
    }
    return NULL;
}

int qemu_args_read(char *const argv[], struct qemu_args *args, struct qemu_args_problem *problem)
{
    struct reader reader = {.problem = problem};
    int ret = read_all(&reader, argv);

    if (ret == 0) {
        ret = check_backends(&reader);
    }
    if (ret == 0) {
        *args = (struct qemu_args){
            .max_bytes = find_max(&reader, argv[0]),
            .guest_name = reader.guest_name,
            .balloon = find_balloon(&reader, argv),
        };
        reader.guest_name = NULL;
    }
    free(reader.guest_name);
    free(reader.machine);
    free(reader.machine_backend);
    free(reader.backend_id);
    return ret;
}

void qemu_args_free(struct qemu_args *args)
{
    free(args->guest_name);
    args->guest_name = NULL;
}
