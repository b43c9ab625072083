/* SPDX-License-Identifier: MIT */
/*
 * What we ask of the QEMU that we live in, through functions that its binary
 * exports for its own modules, or, if it is built without, through its debug symbols
 * (symbols.h).
 *
 * Guest RAM is found by name, not by guess: since QEMU 5.0 every machine's RAM
 * belongs to an object of a type memory-backend-*, and the memory region that
 * holds an address can be asked for its owner (system/memory.c,
 * backends/hostmem.c). ROMs, video memory and the like belong to devices.
 */
#ifndef BALLAST_AGENT_QEMU_H
#define BALLAST_AGENT_QEMU_H

#include "base/types.h"

enum qemu_presence {
    QEMU_ABSENT,   /* this process is some other program */
    QEMU_UNUSABLE, /* it is QEMU, but what we need cannot be found */
    QEMU_AVAILABLE,
};

/* Looks whether this process is QEMU. `program` is the executable that the
 * launcher wanted to become QEMU: it counts as QEMU whatever it is called. */
enum qemu_presence qemu_detect(const char *program);

/* Whether this process exports all that we ask QEMU for; `missing` is called with the
 * name of each function that it does not. For probe.c. */
bool qemu_has_all(void (*missing)(const char *name));

/* Something to be looked up: its name, and where its address goes. */
struct qemu_wanted {
    const char *name;
    void **address;
};

/* Looks for functions and variables of QEMU's: among what it exports, as it does when it is
 * built with modules, and else in the file with its symbols, if that is installed. NULL is
 * put where one is not found; `missing`, if not NULL, is told its name. Whether all were
 * found. */
bool qemu_look_up(const struct qemu_wanted *wanted, size_t count,
                  void (*missing)(const char *name));

/* A block of memory that QEMU made. Both strings are QEMU's. */
struct qemu_block {
    const char *name;       /* of the memory region: "pc.ram", "/objects/ram0" */
    const char *owner_type; /* QOM type: "memory-backend-ram"; "" if it has no owner */
};

/* The block that starts at an address; false if QEMU knows of none. To be
 * called on a thread of QEMU's, after QEMU has put it on its list: from its
 * madvise(MADV_HUGEPAGE) on (ram_block_add in system/physmem.c). */
bool qemu_find_block(haddr_t at, struct qemu_block *block);

/* Whether the block that starts at an address is mapped in the guest's address space. As
 * above. */
bool qemu_block_is_mapped(haddr_t at);

/* Tells QEMU that RAM must stay discardable, which is what it calls memory
 * that may move: devices that would pin all of it (VFIO, SEV, RDMA) then fail to
 * start. -EBUSY if one of them is there already. */
int qemu_require_discards(void);

/*
 * What QEMU tells us from now on, on its main thread if nothing else is said.
 *   ready   the machine is made: its devices are there, no vCPU has run
 *   reset   the guest is about to start anew, because of a reboot or of a
 *           snapshot that is loaded over all of its memory. Not called for the
 *           reset that starts it the first time, nor when it wakes from suspend
 *           to RAM. What QEMU puts into RAM for a start is put there afterwards
 *   round   a round of a migration, or of saving a snapshot, begins: what it need
 *           not read may be told it by qemu_skip. On the thread that migrates
 *   serves  whether memory at an address is the domain's: a DIMM (pc-dimm) of such
 *           memory may be added while the guest runs. Asked, not told
 *   dimm    the memory at an address, which the domain serves, is about to be the
 *           guest's, because a DIMM is plugged, or is so no longer. From when the
 *           machine is made
 */
struct qemu_hooks {
    void (*ready)(void);
    void (*reset)(void);
    void (*round)(void);
    bool (*serves)(haddr_t at);
    void (*dimm)(haddr_t at, bool plugged);
};

/*
 * Sets the hooks, once, on QEMU's main thread while it makes the machine. From
 * then on QEMU refuses, with an error of ours to whoever asks for it, what would
 * undo PoD later: to be the destination of a postcopy migration, and memory
 * devices whose memory the domain does not serve.
 */
void qemu_set_hooks(const struct qemu_hooks *hooks);

/* QEMU's version, as "7.2.0"; "" before qemu_set_hooks. */
const char *qemu_version(void);

/* Within `round`: this round need not send these pages of guest RAM, unless they
 * are written to from here on. Takes QEMU's lock of its migration bitmap, which
 * nobody holds who waits for a page of guest RAM, but for the calling thread. */
void qemu_skip(haddr_t at, uint64_t bytes);

/* Whether QEMU has made its machine: blocks that come later are for DIMMs that are
 * yet to be plugged, or for something else. From any thread. */
bool qemu_machine_is_made(void);

/* Has QEMU's main thread call a function, soon, with QEMU's big lock. From any thread. */
void qemu_call(void (*function)(void *opaque), void *opaque);

/* Sets an error of QEMU's, for whoever QEMU tells of it. */
void qemu_set_error(void **error, const char *text);

/* Asks the guest's balloon to leave the guest that many bytes; the main thread
 * passes it on. Does nothing if there is no balloon. From any thread. */
void qemu_ask_balloon(uint64_t bytes);

/* Asks it for the same again, once the main thread has done what it is at. */
void qemu_ask_balloon_again(void);

#endif
