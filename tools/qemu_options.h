/* SPDX-License-Identifier: MIT */
/*
 * How QEMU's command line is written: which words are options and which their
 * values, and how a value is a list of items. What they mean is for qemu_args.h.
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
 */
#ifndef BALLAST_TOOLS_QEMU_OPTIONS_H
#define BALLAST_TOOLS_QEMU_OPTIONS_H

#include <stdbool.h>

/* Called for each option that has a value, the name without its dashes. What is
 * not 0 ends the walk and is returned. */
typedef int qemu_option_handler(const char *name, const char *value, void *context);

/* Walks through a command line, program first, ended by NULL. *is_cut_short says
 * whether the last option lacks its value. Returns what the handler did, or 0. */
int qemu_each_option(char *const argv[], qemu_option_handler *handler, void *context,
                     bool *is_cut_short);

/* One item of an option's list, or one member of its JSON object. */
struct qemu_item {
    const char *key;   /* "" for a first item without a key */
    const char *value; /* "on" if it has none */
};

/* Called for each item; what is not 0 ends the walk and is returned. */
typedef int qemu_item_handler(const struct qemu_item *item, void *context);

/* Walks through a list. Returns what the handler did, or 0, or -ENOMEM. */
int qemu_each_item(const char *list, qemu_item_handler *handler, void *context);

/* The same of a value that may be a JSON object; of one that is no JSON though it
 * begins like it there are no items, for QEMU will say so. */
int qemu_each_item_or_member(const char *value, qemu_item_handler *handler, void *context);

/* Is this the item of that key, if the option's main key is main_key? */
bool qemu_item_is(const struct qemu_item *item, const char *key, const char *main_key);

#endif
