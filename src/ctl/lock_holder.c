/* SPDX-License-Identifier: MIT */
/*
 * The process behind a lock file. See lock_holder.h.
 */
#include "ctl/lock_holder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TRY_WAIT_MS 10
/* So many times longer if it is not a domain that holds it: on a busy machine an
 * instant may be long. */
#define PATIENCE 30

/* Does a process have this file open? 1, 0 or -errno. */
static int has_open(pid_t pid, const struct lock_file *file)
{
    char path[64];
    struct dirent *item;
    DIR *directory;
    int found = 0;

    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
    directory = opendir(path);
    if (directory == NULL) {
        return errno == ENOENT ? 0 : -errno;
    }
    while (found == 0 && (item = readdir(directory)) != NULL) {
        struct stat status;

        if (fstatat(dirfd(directory), item->d_name, &status, 0) == 0 &&
            status.st_dev == file->device && status.st_ino == file->inode) {
            found = 1;
        }
    }
    closedir(directory);
    return found;
}

/* Opens a pidfd and then checks that the process is the domain's: in this
 * order, so that the number cannot pass to another process in between. */
static int open_if_holder(pid_t pid, const struct lock_file *file, int *pidfd)
{
    int fd = pidfd_open(pid, 0);
    int ret;

    if (fd < 0) {
        return -errno;
    }
    ret = has_open(pid, file);
    if (ret == 1) {
        *pidfd = fd;
        return 0;
    }
    close(fd);
    return ret == 0 ? -ESRCH : ret;
}

static pid_t read_pid(int lock_fd)
{
    char text[32] = {0};
    char *end;
    long pid;

    if (pread(lock_fd, text, sizeof(text) - 1, 0) <= 0) {
        return 0;
    }
    errno = 0;
    pid = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\n' || pid <= 0 || pid > INT_MAX) {
        return 0;
    }
    return (pid_t)pid;
}

int lock_holder_write_pid(int lock_fd)
{
    char text[32];
    int length = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    if (ftruncate(lock_fd, 0) < 0 || pwrite(lock_fd, text, (size_t)length, 0) != length) {
        return errno != 0 ? -errno : -EIO;
    }
    return 0;
}

int lock_holder_read(int lock_fd, struct lock_file *file)
{
    struct stat status;

    if (fstat(lock_fd, &status) < 0) {
        return -errno;
    }
    *file = (struct lock_file){
        .device = status.st_dev,
        .inode = status.st_ino,
        .pid = read_pid(lock_fd),
    };
    return 0;
}

int lock_holder_open(const struct lock_file *file, pid_t candidate, pid_t *found, int *pidfd)
{
    const pid_t candidates[] = {candidate, file->pid};
    int ret = -ESRCH;

    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]) && ret < 0; i++) {
        if (candidates[i] > 0) {
            ret = open_if_holder(candidates[i], file, pidfd);
            if (ret == 0) {
                *found = candidates[i];
            }
        }
    }
    return ret;
}

/* Does a domain hold this lock? Else somebody does who looks, or cleans up, or
 * has just begun: that does not last. */
static bool is_domains(int lock_fd)
{
    struct lock_file file;
    pid_t pid;
    int pidfd;
    int ret = -ESRCH;

    if (lock_holder_read(lock_fd, &file) == 0) {
        ret = lock_holder_open(&file, 0, &pid, &pidfd);
    }
    if (ret == 0) {
        close(pidfd);
    }
    return ret != -ESRCH;
}

int lock_holder_take(int lock_fd, int tries)
{
    for (int made = 1; flock(lock_fd, LOCK_EX | LOCK_NB) < 0; made++) {
        struct timespec wait = {.tv_nsec = TRY_WAIT_MS * 1000000L};

        if (errno != EWOULDBLOCK && errno != EINTR) {
            return -errno;
        }
        if (made >= tries * PATIENCE || (made >= tries && is_domains(lock_fd))) {
            return -EADDRINUSE; /* not -EWOULDBLOCK, which is -EAGAIN by another name */
        }
        nanosleep(&wait, NULL);
    }
    return 0;
}
