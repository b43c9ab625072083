/* SPDX-License-Identifier: MIT */
/*
 * What QEMU's command line means. See qemu_args.h.
 *
 * A later -m is merged into the earlier ones, key by key; so are -name and
 * -machine (QEMU 7.2 to 10).
 */
#include "qemu_args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "qemu_machine.h"
#include "qemu_options.h"

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
    uint64_t maxmem_bytes;
    bool has_dimm;
    char *machine_backend;  /* -machine memory-backend= */
    unsigned backends;      /* -object memory-backend-ram */
    uint64_t backend_bytes; /* the last one's size; 0: not known */
    char *backend_id;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct reader *reader, int ret,
                                                        const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reader->problem->text, sizeof(reader->problem->text), format, arguments);
    va_end(arguments);
    return ret;
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

static bool is_on(const char *value)
{
    return strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 ||
           strcmp(value, "y") == 0;
}

static int read_memory(const struct qemu_item *item, void *context)
{
    struct reader *reader = context;

    if (strcmp(item->key, "maxmem") == 0 &&
        size_parse_qemu(item->value, &reader->maxmem_bytes) < 0) {
        reader->maxmem_bytes = 0; /* QEMU will say so */
    }
    if (!qemu_item_is(item, "size", "size")) {
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

static int read_name(const struct qemu_item *item, void *context)
{
    struct reader *reader = context;

    return qemu_item_is(item, "guest", "guest") ? set_string(&reader->guest_name, item->value) : 0;
}

static int read_machine(const struct qemu_item *item, void *context)
{
    struct reader *reader = context;

    if (qemu_item_is(item, "type", "type")) {
        return set_string(&reader->machine, item->value);
    }
    if (qemu_item_is(item, "memory-backend", "type")) {
        return set_string(&reader->machine_backend, item->value);
    }
    if (starts_with(item->key, "memory.") || strcmp(item->key, "memory") == 0) {
        reader->sets_memory = true;
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

static int gather_object(const struct qemu_item *item, void *context)
{
    struct object *object = context;

    if (qemu_item_is(item, "qom-type", "qom-type")) {
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
    int ret = qemu_each_item_or_member(text, gather_object, &object);

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
                      "can be moved; leave share=on out, and instead of virtiofs and vhost-user, "
                      "which need it, use virtio-9p, virtio-blk or vhost-net");
    }
    reader->backends++;
    if (size_parse_qemu(object.size, &reader->backend_bytes) < 0) {
        reader->backend_bytes = 0;
    }
    return set_string(&reader->backend_id, object.id);
}

static int read_device(const struct qemu_item *item, void *context)
{
    struct reader *reader = context;

    if (!qemu_item_is(item, "driver", "driver")) {
        return 0;
    }
    if (starts_with(item->value, "vfio-") || starts_with(item->value, "vhost-vdpa-")) {
        return refuse(reader, -ENOTSUP,
                      "the device %.64s cannot be used: it pins all guest RAM, so that nothing "
                      "can be moved; use a virtio device, or start this guest without Ballast",
                      item->value);
    }
    if (starts_with(item->value, "vhost-scsi")) {
        return refuse(reader, -ENOTSUP,
                      "the device %.64s cannot be used: the kernel does not pin the memory that it "
                      "writes to, and what it writes might be lost; use virtio-scsi-pci",
                      item->value);
    }
    if (starts_with(item->value, "virtio-mem") || strcmp(item->value, "nvdimm") == 0 ||
        starts_with(item->value, "virtio-pmem")) {
        return refuse(
            reader, -ENOTSUP,
            "the device %.64s cannot be used: it brings memory with rules of its own, and "
            "Ballast serves DIMMs only; use pc-dimm, or a larger -m and 'ballast set'",
            item->value);
    }
    reader->has_dimm |= strcmp(item->value, "pc-dimm") == 0;
    reader->has_balloon |= starts_with(item->value, "virtio-balloon");
    return 0;
}

static int read_netdev(const struct qemu_item *item, void *context)
{
    struct reader *reader = context;

    if (qemu_item_is(item, "type", "type") && strcmp(item->value, "vhost-vdpa") == 0) {
        return refuse(reader, -ENOTSUP,
                      "the network back end vhost-vdpa cannot be used: it pins all guest RAM, so "
                      "that nothing can be moved; use tap, user or a socket");
    }
    return 0;
}

static int read_option(const char *name, const char *value, void *context)
{
    struct reader *reader = context;

    if (strcmp(name, "m") == 0) {
        return qemu_each_item(value, read_memory, reader);
    }
    if (strcmp(name, "name") == 0) {
        return qemu_each_item(value, read_name, reader);
    }
    if (strcmp(name, "machine") == 0 || strcmp(name, "M") == 0) {
        return qemu_each_item(value, read_machine, reader);
    }
    if (strcmp(name, "object") == 0) {
        return read_object(reader, value);
    }
    if (strcmp(name, "device") == 0) {
        return qemu_each_item_or_member(value, read_device, reader);
    }
    if (strcmp(name, "netdev") == 0) {
        return qemu_each_item_or_member(value, read_netdev, reader);
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

static uint64_t find_max(const struct reader *reader, const char *program)
{
    if (reader->sets_memory || reader->has_dimm) {
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
    return qemu_machine_has_usual_ram(program) ? DEFAULT_RAM_BYTES : 0;
}

/* Is a program without arguments a script that has its own? */
static bool is_script_without_arguments(char *const argv[])
{
    return argv[1] == NULL && !starts_with(qemu_base_name(argv[0]), "qemu") &&
           strcmp(qemu_base_name(argv[0]), "kvm") != 0;
}

static const char *find_balloon(const struct reader *reader, char *const argv[])
{
    /* A configuration file may have a balloon, and may choose the machine. */
    if (reader->has_balloon || reader->reads_config || reader->is_cut_short ||
        is_script_without_arguments(argv)) {
        return NULL;
    }
    return qemu_machine_balloon(argv[0], reader->machine);
}

int qemu_args_read(char *const argv[], struct qemu_args *args, struct qemu_args_problem *problem)
{
    struct reader reader = {.problem = problem};
    int ret = qemu_each_option(argv, read_option, &reader, &reader.is_cut_short);

    if (ret == 0) {
        *args = (struct qemu_args){
            .max_bytes = find_max(&reader, argv[0]),
            .maxmem_bytes = reader.maxmem_bytes,
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
