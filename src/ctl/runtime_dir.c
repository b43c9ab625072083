/* SPDX-License-Identifier: MIT */
/*
 * The folders of domains. See runtime_dir.h.
 */
#include "ctl/runtime_dir.h"

#include "ctl/lock_holder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Everything that Ballast puts into a domain's folder, but the lock. */
static const char *const known_files[] = {BALLAST_SOCKET_NAME};

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* How often a folder may vanish between two steps before we give up. */
#define FOLDER_TRIES 100

/* Could somebody else put files into this folder, or take ours away? */
static int check_folder(int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0) {
        return -errno;
    }
    if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return -EPERM;
    }
    return 0;
}

static int open_base(const char *base, int *base_fd)
{
    int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    *base_fd = fd;
    return 0;
}

/* Opens BASE for looking at a domain in it. -EINVAL if `name` is none; -ENOENT: no
 * BASE, so no domains. */
static int open_base_of(const char *base, const char *name, int *base_fd)
{
    return runtime_name_is_valid(name) ? open_base(base, base_fd) : -EINVAL;
}

/* As check_folder(), of BASE: in root's nobody but root can do us harm. */
static int check_base(int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0) {
        return -errno;
    }
    return status.st_uid == 0 && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0 ? 0 : check_folder(fd);
}

int runtime_base_create(const char *base, int *base_fd)
{
    mode_t mode = geteuid() == 0 ? 0755 : 0700;
    int fd = -1;
    int ret;

    if (mkdir(base, mode) < 0 && errno != EEXIST) {
        return -errno;
    }
    ret = open_base(base, &fd);
    if (ret == 0) {
        ret = check_base(fd);
    }
    if (ret < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return ret;
    }
    *base_fd = fd;
    return 0;
}

/* Is what `fd` has open still what `name` in `dir_fd` stands for? */
static bool is_still_there(int dir_fd, const char *name, int fd)
{
    struct stat opened;
    struct stat named;

    return fstat(fd, &opened) == 0 && fstatat(dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* Opens the folder and takes its lock, once. -EAGAIN: it vanished under our
 * hands; -EADDRINUSE: held by somebody; -ENOENT: no such folder. */
static int try_lock_folder(int base_fd, const char *name, int tries, int *dir_fd, int *lock_fd)
{
    int dir = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int lock = -1;
    int ret;

    if (dir < 0) {
        return -errno;
    }
    ret = check_folder(dir);
    if (ret == 0) {
        lock = openat(dir, BALLAST_LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock < 0) {
            /* No file can be made in a folder that has been removed. */
            ret = errno == ENOENT ? -EAGAIN : -errno;
        }
    }
    if (ret == 0) {
        ret = lock_holder_take(lock, tries);
    }
    if (ret == 0 &&
        (!is_still_there(dir, BALLAST_LOCK_NAME, lock) || !is_still_there(base_fd, name, dir))) {
        ret = -EAGAIN;
    }
    if (ret < 0) {
        if (lock >= 0) {
            close(lock);
        }
        close(dir);
        return ret;
    }
    *dir_fd = dir;
    *lock_fd = lock;
    return 0;
}

/* Removes the known files but the lock, which we hold. */
static int remove_known_files(int dir_fd)
{
    for (size_t i = 0; i < ARRAY_LENGTH(known_files); i++) {
        if (unlinkat(dir_fd, known_files[i], 0) < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    return 0;
}

/* Makes the folder if it is not there and takes its lock. */
static int create_locked(int base_fd, const char *name, int *dir_fd, int *lock_fd)
{
    for (int i = 0; i < FOLDER_TRIES; i++) {
        int ret;

        if (mkdirat(base_fd, name, 0700) < 0 && errno != EEXIST) {
            return -errno;
        }
        ret = try_lock_folder(base_fd, name, LOCK_TRIES, dir_fd, lock_fd);
        if (ret != -EAGAIN && ret != -ENOENT) {
            return ret;
        }
    }
    return -EAGAIN;
}

int runtime_dir_create(const char *base, const char *name, struct runtime_dir *dir)
{
    struct runtime_dir made = {.base_fd = -1, .dir_fd = -1, .lock_fd = -1};
    int ret = runtime_socket_path(base, name, made.socket_path, sizeof(made.socket_path));

    if (ret == 0) {
        ret = runtime_format_path(made.path, sizeof(made.path), "%s/%s", base, name);
    }
    if (ret == 0) {
        ret = runtime_base_create(base, &made.base_fd);
    }
    if (ret < 0) {
        return ret;
    }
    snprintf(made.name, sizeof(made.name), "%s", name);
    ret = create_locked(made.base_fd, name, &made.dir_fd, &made.lock_fd);
    if (ret < 0) {
        close(made.base_fd);
        return ret;
    }
    ret = remove_known_files(made.dir_fd);
    if (ret == 0) {
        ret = lock_holder_write_pid(made.lock_fd);
    }
    if (ret < 0) {
        runtime_dir_remove(&made);
        return ret;
    }
    *dir = made;
    return 0;
}

/* Removes a folder whose lock we hold. From the moment when the lock file is
 * gone somebody else may move in, and even out again: then all is well too. */
static int remove_folder(int base_fd, const char *name, int dir_fd)
{
    int ret = remove_known_files(dir_fd);

    if (ret == 0 && unlinkat(dir_fd, BALLAST_LOCK_NAME, 0) < 0 && errno != ENOENT) {
        ret = -errno;
    }
    for (int i = 0; i < FOLDER_TRIES && ret == 0; i++) {
        if (unlinkat(base_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
            return 0;
        }
        if (errno != ENOTEMPTY && errno != EEXIST) {
            return -errno;
        }
        if (faccessat(dir_fd, BALLAST_LOCK_NAME, F_OK, 0) == 0 ||
            !is_still_there(base_fd, name, dir_fd)) {
            return 0;
        }
        /* Foreign files, or a newcomer's that went between our two looks. */
    }
    return ret < 0 ? ret : -ENOTEMPTY;
}

int runtime_dir_remove(struct runtime_dir *dir)
{
    int ret = remove_folder(dir->base_fd, dir->name, dir->dir_fd);

    runtime_dir_close(dir);
    return ret;
}

void runtime_dir_close(struct runtime_dir *dir)
{
    close(dir->lock_fd);
    close(dir->dir_fd);
    close(dir->base_fd);
    dir->lock_fd = -1;
    dir->dir_fd = -1;
    dir->base_fd = -1;
}

int runtime_clean(const char *base, const char *name)
{
    int base_fd = -1;
    int dir_fd = -1;
    int lock_fd = -1;
    int ret = open_base_of(base, name, &base_fd);

    if (ret < 0) {
        return ret == -ENOENT ? 0 : ret;
    }
    ret = try_lock_folder(base_fd, name, 1, &dir_fd, &lock_fd);
    if (ret == 0) {
        ret = remove_folder(base_fd, name, dir_fd);
        close(lock_fd);
        close(dir_fd);
    } else if (ret == -ENOENT) {
        ret = 0;
    } else if (ret == -EAGAIN || ret == -EADDRINUSE) {
        ret = -EBUSY;
    }
    close(base_fd);
    return ret;
}

int runtime_forget_report(const char *base, const char *name)
{
    int base_fd = -1;
    int dir_fd;
    int ret = open_base_of(base, name, &base_fd);

    if (ret < 0) {
        return ret == -ENOENT ? 0 : ret;
    }
    dir_fd = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if ((dir_fd < 0 || unlinkat(dir_fd, BALLAST_REPORT_NAME, 0) < 0) && errno != ENOENT) {
        ret = -errno;
    }
    if (dir_fd >= 0) {
        close(dir_fd);
    }
    close(base_fd);
    return ret;
}

static int look_at(int base_fd, const char *name, enum runtime_state *state)
{
    int dir = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int lock;
    int ret = 0;

    if (dir < 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) {
            return -errno;
        }
        *state = RUNTIME_NONE;
        return 0;
    }
    lock = openat(dir, BALLAST_LOCK_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (lock < 0) {
        ret = errno == ENOENT ? 0 : -errno;
        if (ret == 0) {
            *state = RUNTIME_DEAD;
        }
    } else if (flock(lock, LOCK_SH | LOCK_NB) == 0) {
        *state = RUNTIME_DEAD;
    } else if (errno == EWOULDBLOCK) {
        *state = RUNTIME_LIVE;
    } else {
        ret = -errno;
    }
    if (lock >= 0) {
        close(lock);
    }
    close(dir);
    return ret;
}

int runtime_look(const char *base, const char *name, enum runtime_state *state)
{
    int base_fd = -1;
    int ret = open_base_of(base, name, &base_fd);

    if (ret < 0) {
        if (ret == -ENOENT) {
            *state = RUNTIME_NONE;
            ret = 0;
        }
        return ret;
    }
    ret = look_at(base_fd, name, state);
    close(base_fd);
    return ret;
}

static int compare_entries(const void *a, const void *b)
{
    const struct runtime_entry *left = a;
    const struct runtime_entry *right = b;

    return strcmp(left->name, right->name);
}

/* Appends a domain, if `name` is one, to an array that grows. */
static int list_append(int base_fd, const char *name, struct runtime_entry **entries, size_t *count)
{
    struct runtime_entry entry = {.state = RUNTIME_NONE};
    struct runtime_entry *grown;
    int ret;

    if (!runtime_name_is_valid(name)) {
        return 0;
    }
    ret = look_at(base_fd, name, &entry.state);
    if (ret < 0 || entry.state == RUNTIME_NONE) {
        return ret;
    }
    grown = reallocarray(*entries, *count + 1, sizeof(**entries));
    if (grown == NULL) {
        return -ENOMEM;
    }
    memcpy(entry.name, name, strlen(name) + 1);
    grown[*count] = entry;
    *entries = grown;
    (*count)++;
    return 0;
}

int runtime_list(const char *base, struct runtime_entry **entries, size_t *count)
{
    struct runtime_entry *found = NULL;
    size_t found_count = 0;
    struct dirent *item;
    DIR *directory = opendir(base);
    int ret = 0;

    if (directory == NULL) {
        if (errno != ENOENT) {
            return -errno;
        }
        *entries = NULL;
        *count = 0;
        return 0;
    }
    while (ret == 0 && (errno = 0, item = readdir(directory)) != NULL) {
        ret = list_append(dirfd(directory), item->d_name, &found, &found_count);
    }
    if (ret == 0) {
        ret = -errno;
    }
    closedir(directory);
    if (ret < 0) {
        free(found);
        return ret;
    }
    if (found_count > 0) {
        qsort(found, found_count, sizeof(*found), compare_entries);
    }
    *entries = found;
    *count = found_count;
    return 0;
}

int runtime_open_process(const char *base, const char *name, pid_t pid, pid_t *found, int *pidfd)
{
    char path[PATH_MAX];
    struct lock_file file;
    int lock;
    int ret;

    if (!runtime_name_is_valid(name)) {
        return -EINVAL;
    }
    ret = runtime_format_path(path, sizeof(path), "%s/%s/%s", base, name, BALLAST_LOCK_NAME);
    if (ret < 0) {
        return ret;
    }
    lock = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (lock < 0) {
        return errno == ENOENT ? -ESRCH : -errno;
    }
    ret = lock_holder_read(lock, &file);
    close(lock);
    return ret < 0 ? ret : lock_holder_open(&file, pid, found, pidfd);
}
