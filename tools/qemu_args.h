/* SPDX-License-Identifier: MIT */
/*
 * What QEMU's command line says about guest RAM, read the way QEMU reads it.
 * Pure: looks at nothing but its arguments.
 */
#ifndef BALLAST_TOOLS_QEMU_ARGS_H
#define BALLAST_TOOLS_QEMU_ARGS_H

#include <stdint.h>

struct qemu_args {
    /* Bytes of guest RAM; 0 if the command line does not say (-readconfig, a
     * machine whose default we do not know), or has DIMMs. */
    uint64_t max_bytes;
    /* What DIMMs may make of it; 0 if it does not say. */
    uint64_t maxmem_bytes;
    /* What -name calls the guest, for free(); NULL if nothing. */
    char *guest_name;
    /* The -device that gives the guest a virtio-balloon, static; NULL if it has
     * one already or the machine is not known to take one. */
    const char *balloon;
};

/* Why a command line cannot be used: one line that says what is wrong, why,
 * and what to do, without a newline. */
struct qemu_args_problem {
    char text[512];
};

/* Reads QEMU's command line, program first, ended by NULL. Errors that QEMU
 * itself reports are left to it, unless they hide the size.
 * -EINVAL: the size in -m cannot be read; -ENOTSUP: guest RAM of a kind that
 * Ballast cannot serve; both fill *problem. -ENOMEM. */
int qemu_args_read(char *const argv[], struct qemu_args *args, struct qemu_args_problem *problem);

/* Frees what *args owns. */
void qemu_args_free(struct qemu_args *args);

#endif
