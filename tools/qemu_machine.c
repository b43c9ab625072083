/* SPDX-License-Identifier: MIT */
/*
 * QEMU's machines. See qemu_machine.h.
 */
#include "qemu_machine.h"

#include <stddef.h>
#include <string.h>

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

const char *qemu_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* What follows "qemu-system-" in a program's name, or NULL. */
static const char *find_system(const char *program)
{
    static const char prefix[] = "qemu-system-";
    const char *base = qemu_base_name(program);

    return strncmp(base, prefix, strlen(prefix)) == 0 ? base + strlen(prefix) : NULL;
}

bool qemu_machine_has_usual_ram(const char *program)
{
    const char *system = find_system(program);

    return system == NULL || strcmp(system, "x86_64") == 0 || strcmp(system, "i386") == 0;
}

const char *qemu_machine_balloon(const char *program, const char *machine)
{
    const char *system = find_system(program);

    for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
        if (is_same_or_null(machines[i].program, system) &&
            (machine == NULL || is_machine(machine, machines[i].name))) {
            return machines[i].balloon;
        }
    }
    return NULL;
}
