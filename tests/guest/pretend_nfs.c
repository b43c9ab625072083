/* SPDX-License-Identifier: MIT */
/* Preloaded, it lets a program believe that all its files are on NFS. */
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

__attribute__((visibility("default"))) int fstatfs(int fd, struct statfs *about);

int fstatfs(int fd, struct statfs *about)
{
    (void)fd;
    memset(about, 0, sizeof(*about));
    about->f_type = NFS_SUPER_MAGIC;
    return 0;
}
