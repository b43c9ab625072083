/* SPDX-License-Identifier: MIT */
#include "agent/references.h"

#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

/* Not in linux/magic.h before 6.1. */
#ifndef CEPH_SUPER_MAGIC
#define CEPH_SUPER_MAGIC 0x00c36400
#endif

/* Linux 6.12 to 7.2: fs/nfs/direct.c and fs/ceph/file.c take the pages of a user's
 * buffer by iov_iter_get_pages2 or its like, which pins none. */
bool references_unseen(int fd)
{
    static atomic_bool told;
    struct statfs about;
    if (fstatfs(fd, &about) != 0 ||
        (about.f_type != NFS_SUPER_MAGIC && about.f_type != CEPH_SUPER_MAGIC)) {
        return false;
    }
    if (!atomic_exchange(&told, true)) {
        fprintf(stderr, "ballast: a disk on NFS or CephFS cannot be used with cache=none or "
                        "cache=directsync: the kernel does not pin the guest's memory there, and "
                        "what is read might be lost; use cache=writeback or cache=writethrough\n");
    }
    return true;
}

/* drivers/vhost/scsi.c, likewise. */
bool references_unseen_by(const char *driver)
{
    return driver != NULL && strncmp(driver, "vhost-scsi", 10) == 0;
}
