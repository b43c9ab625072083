/* SPDX-License-Identifier: MIT */
#include "host/verdict.h"

#include <errno.h>

/*
 * From mm/userfaultfd.c and fs/userfaultfd.c, 6.12 to 6.18:
 *
 *   EAGAIN  the address space is changing (a fork, mremap or munmap that must
 *           be announced), or a page table or folio changed under the move.
 *   ENOMEM  no memory for a page table, or to split a huge page.
 *   EBUSY   the page is not the process's alone (shared since a fork, merged
 *           by KSM) or pinned for DMA, or a huge page could not be split.
 *   EEXIST  the destination holds a page.
 *   ENOENT  the source holds none; also: no mapping covers a range.
 *   ESRCH   the address space has no users left: the process is going.
 *   EINVAL, EFAULT, EPERM and whatever may come: ranges that cannot be moved
 *           between, which we never ask for.
 */
int verdict_of_move(int err)
{
    switch (err) {
    case 0:
    case -EAGAIN:
    case -EBUSY:
    case -EEXIST:
    case -ENOENT:
    case -ESRCH:
        return err;
    case -EINTR:
    case -ENOMEM:
        return -EAGAIN;
    default:
        return -EIO;
    }
}

/* MADV_POPULATE_WRITE (mm/madvise.c): ENOMEM when there is no memory or the
 * range is not mapped, EFAULT or EHWPOISON when a page could not be had,
 * EINTR or EAGAIN when it was interrupted. */
int verdict_of_allocate(int err)
{
    switch (err) {
    case 0:
        return 0;
    case -ENOMEM:
    case -EFAULT:
    case -EHWPOISON:
        return -ENOMEM;
    case -EAGAIN:
    case -EINTR:
        return -EAGAIN;
    default:
        return -EIO;
    }
}

/*
 * MADV_COLLAPSE (mm/khugepaged.c, madvise_collapse_errno):
 *
 *   ENOMEM  there is no huge page to be had.
 *   EBUSY   the memory cgroup has no room for one; or a page is missing, the
 *           shared zero page counting as missing.
 *   EAGAIN  a page is locked, pinned or in swap just now.
 *   EINVAL  and others: this range will not become a huge page.
 */
int verdict_of_merge(int err)
{
    switch (err) {
    case 0:
    case -ENOMEM:
    case -EBUSY:
        return err;
    default:
        return -EAGAIN;
    }
}
