/* SPDX-License-Identifier: MIT */
/*
 * Folders for other users' domains. See runtime_offer.h.
 *
 * The folder belongs to a user whom we do not trust: nothing in it is followed,
 * created or written, and only names that Ballast uses are removed.
 */
#include "ctl/runtime_offer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/lock_holder.h"
#include "ctl/runtime_dir.h"
#include "ctl/runtime_path.h"

/* Removes what a dead domain left in its folder. -EADDRINUSE if it lives. */
static int clear_folder(int dir_fd)
{
    int lock = openat(dir_fd, BALLAST_LOCK_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int ret = 0;

    if (lock >= 0) {
        ret = lock_holder_take(lock, LOCK_TRIES);
    }
    if (ret == 0) {
        /* The lock last: until then nobody else takes the folder for his own. */
        unlinkat(dir_fd, BALLAST_SOCKET_NAME, 0);
        unlinkat(dir_fd, BALLAST_LOCK_NAME, 0);
    }
    if (lock >= 0) {
        close(lock);
    }
    return ret;
}

/* Opens BASE/NAME and clears it. A descriptor or -errno. */
static int open_cleared(int base_fd, const char *name)
{
    int dir_fd = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int ret;

    if (dir_fd < 0) {
        return -errno;
    }
    ret = clear_folder(dir_fd);
    if (ret < 0) {
        close(dir_fd);
        return ret;
    }
    return dir_fd;
}

int runtime_offer(const char *base, const char *name, uid_t uid, gid_t gid)
{
    int base_fd;
    int dir_fd;
    int ret;

    if (!runtime_name_is_valid(name)) {
        return -EINVAL;
    }
    ret = runtime_base_create(base, &base_fd);
    if (ret < 0) {
        return ret;
    }
    ret = mkdirat(base_fd, name, 0700) < 0 && errno != EEXIST ? -errno : 0;
    if (ret == 0) {
        dir_fd = open_cleared(base_fd, name);
        ret = dir_fd < 0 ? dir_fd : 0;
    }
    if (ret == 0) {
        if (fchown(dir_fd, uid, gid) < 0 || fchmod(dir_fd, 0700) < 0) {
            ret = -errno;
        }
        close(dir_fd);
    }
    close(base_fd);
    return ret;
}

int runtime_withdraw(const char *base, const char *name)
{
    int base_fd;
    int dir_fd;
    int ret = 0;

    if (!runtime_name_is_valid(name)) {
        return -EINVAL;
    }
    base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base_fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    dir_fd = open_cleared(base_fd, name);
    if (dir_fd < 0) {
        ret = dir_fd == -ENOENT ? 0 : dir_fd;
    } else {
        close(dir_fd);
        if (unlinkat(base_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
            ret = -errno;
        }
    }
    close(base_fd);
    return ret;
}
