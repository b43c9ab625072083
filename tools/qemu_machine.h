/* SPDX-License-Identifier: MIT */
/*
 * What QEMU's machines are like where Ballast has to know it.
 *
 * Facts, from QEMU 7.2's and 10's sources and by trying them: a machine takes one
 * balloon; a second one is an error. The name of the device depends on the bus that
 * the machine has for virtio. A machine's name may be followed by a version:
 * pc-q35-7.2, virt-7.2.
 */
#ifndef BALLAST_TOOLS_QEMU_MACHINE_H
#define BALLAST_TOOLS_QEMU_MACHINE_H

#include <stdbool.h>

/* The -device that gives a machine a virtio-balloon, static; NULL if it takes none,
 * or is not known to. `program` is QEMU, or a script that executes it; `machine` is
 * what -machine says, or NULL for the program's default one. */
const char *qemu_machine_balloon(const char *program, const char *machine);

/* Does the program's default machine have QEMU's usual amount of RAM if -m is
 * missing? Boards of other architectures differ. */
bool qemu_machine_has_usual_ram(const char *program);

/* A path's last part. */
const char *qemu_base_name(const char *path);

#endif
