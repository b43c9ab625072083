/* SPDX-License-Identifier: MIT */
/*
 * The syntax of QEMU's command line. See qemu_options.h.
 */
#include "qemu_options.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static bool is_in(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
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

int qemu_each_option(char *const argv[], qemu_option_handler *handler, void *context,
                     bool *is_cut_short)
{
    *is_cut_short = false;
    for (size_t i = 1; argv[i] != NULL; i++) {
        const char *name = argv[i];
        int ret;

        if (name[0] != '-') {
            continue;
        }
        name += name[1] == '-' ? 2 : 1;
        if (takes_value(name, argv[i + 1])) {
            i++;
            ret = handler(name, argv[i], context);
            if (ret != 0) {
                return ret;
            }
        } else if (argv[i + 1] == NULL) {
            *is_cut_short = is_in(name, value_options, ARRAY_LENGTH(value_options));
        }
    }
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

int qemu_each_item(const char *list, qemu_item_handler *handler, void *context)
{
    char *copy = strdup(list);
    char *cursor = copy;
    bool first = true;
    int ret = 0;

    if (copy == NULL) {
        return -ENOMEM;
    }
    while (ret == 0 && cursor != NULL) {
        char *begin = cursor;
        char *equals = cut_item(&cursor);
        struct qemu_item item = {.key = begin, .value = "on"};

        if (equals != NULL) {
            *equals = '\0';
            item.value = equals + 1;
        } else if (first) {
            item = (struct qemu_item){.key = "", .value = begin};
        }
        if (equals != NULL || *begin != '\0') {
            ret = handler(&item, context);
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

static int each_member(const char *text, qemu_item_handler *handler, void *context)
{
    json_t *json = load_json(text);
    const char *key;
    json_t *value;
    int ret = 0;

    /* NULL, if it is no JSON, has no members. */
    json_object_foreach(json, key, value)
    {
        char number[32];
        struct qemu_item item = {.key = key, .value = ""};

        if (json_is_string(value)) {
            item.value = json_string_value(value);
        } else if (json_is_integer(value)) {
            snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            item.value = number;
        } else if (json_is_boolean(value)) {
            item.value = json_is_true(value) ? "on" : "off";
        }
        ret = handler(&item, context);
        if (ret != 0) {
            break;
        }
    }
    json_decref(json);
    return ret;
}

int qemu_each_item_or_member(const char *value, qemu_item_handler *handler, void *context)
{
    return value[0] == '{' ? each_member(value, handler, context)
                           : qemu_each_item(value, handler, context);
}

bool qemu_item_is(const struct qemu_item *item, const char *key, const char *main_key)
{
    return strcmp(item->key, key) == 0 || (item->key[0] == '\0' && strcmp(key, main_key) == 0);
}
