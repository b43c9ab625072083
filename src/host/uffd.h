/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd with UFFDIO_MOVE: the one kernel interface that Ballast stands on.
 *
 * Facts (Linux 6.12, mm/userfaultfd.c, fs/userfaultfd.c):
 * - A userfaultfd belongs to the address space in which it was made: make it
 *   after QEMU has daemonized, when RAM is mapped.
 * - UFFDIO_MOVE (6.8) moves pages between private anonymous ranges of that one
 *   address space, without copying. The destination must be registered.
 * - 6.18 moves pages without counting them when it meets one that is being
 *   migrated (compaction): an -EAGAIN within the call is not forgotten, and the
 *   next pages are moved and then found to be there. uffd_move counts them.
 * - Faults that the kernel takes on the guest's behalf (KVM, virtio, O_DIRECT)
 *   reach us only with CAP_SYS_PTRACE, through /dev/userfaultfd, or with
 *   vm.unprivileged_userfaultfd=1. Without, they fail: we need them.
 */
#ifndef BALLAST_HOST_UFFD_H
#define BALLAST_HOST_UFFD_H

#include "base/types.h"

/*
 * Opens a userfaultfd that can move, close-on-exec and non-blocking.
 *   -EPERM    not permitted for kernel-mode faults
 *   -ENOSYS   the kernel has no userfaultfd
 *   -EOPNOTSUPP  it has no UFFDIO_MOVE: older than 6.8
 *   or what the kernel said: -EMFILE, -ENOMEM
 */
int uffd_open(int *uffd);

/* The same for one that serves no faults of the kernel's own, which needs no
 * permission: it can do nothing for a guest, but shows what the kernel can do. */
int uffd_open_for_user_faults(int *uffd);

/* Registers a range for missing-page faults. -EINVAL if the kernel serves no
 * faults of such memory (files), -EBUSY if another userfaultfd has it. Shared
 * memory it takes, though pages cannot be moved there: see uffd_can_move. */
int uffd_register(int uffd, haddr_t at, uint64_t bytes);

/* Undoes it: whoever waits for a page there gets one of zeros from the host. */
int uffd_unregister(int uffd, haddr_t at, uint64_t bytes);

/* What it takes to move pages: the userfaultfd, and what tells where pages are
 * (pagemap.h), both of this address space. */
struct uffd_mover {
    int uffd, pagemap;
};

/* Whether pages can be moved between two places, of which the source is empty:
 * both private anonymous memory, alike in access and locking, the destination
 * registered. Moves nothing. 0 or -EINVAL. */
int uffd_can_move(const struct uffd_mover *mover, haddr_t to, haddr_t from);

/*
 * Moves whole pages. *moved_bytes says, whatever is returned, how many bytes
 * went. Waits for at most about a millisecond where the kernel asks for it.
 * Errors are those of engine_ops.place. With `wake`, wakes whoever waits at
 * the destination.
 */
int uffd_move(const struct uffd_mover *mover, haddr_t to, haddr_t from, uint64_t bytes, bool wake,
              uint64_t *moved_bytes);

/* What the kernel last said to this thread instead of moving all. Initial-exec, because
 * the fault path must not allocate for this. */
extern __thread int uffd_move_errno __attribute__((tls_model("initial-exec")));

/* Wakes whoever waits in a range. */
int uffd_wake(int uffd, haddr_t at, uint64_t bytes);

/* Reads the addresses of waiting faults, at most `capacity`. *count is 0 if
 * none waits. -EIO if the descriptor does not deliver faults any more. */
int uffd_read_faults(int uffd, haddr_t *faults, unsigned capacity, unsigned *count);

#endif
