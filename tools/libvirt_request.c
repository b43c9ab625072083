/* SPDX-License-Identifier: MIT */
/*
 * The hook's word to the emulator. See libvirt_request.h.
 */
#include "libvirt_request.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/types.h"
#include "ctl/runtime_dir.h"
#include "ctl/runtime_path.h"

#define ROOTS_BASE     "/run/ballast"
#define FOLDER         ".libvirt"
#define REQUEST_BYTES  4096
#define PARTIAL_SUFFIX ".new"

bool libvirt_uuid_is_valid(const char *text)
{
    for (unsigned i = 0; i < LIBVIRT_UUID_BYTES - 1; i++) {
        bool is_hyphen = i == 8 || i == 13 || i == 18 || i == 23;

        if (is_hyphen ? text[i] != '-'
                      : text[i] == '\0' || strchr("0123456789abcdef", text[i]) == NULL) {
            return false;
        }
    }
    return text[LIBVIRT_UUID_BYTES - 1] == '\0';
}

int libvirt_base(char base[static PATH_MAX])
{
    struct stat status;
    int ret = runtime_base(base, PATH_MAX);

    if (ret != -ENOENT) {
        return ret;
    }
    snprintf(base, PATH_MAX, "/run/user/%lu", (unsigned long)geteuid());
    if (stat(base, &status) < 0 || status.st_uid != geteuid()) {
        return -ENOENT;
    }
    snprintf(base, PATH_MAX, "/run/user/%lu/ballast", (unsigned long)geteuid());
    return 0;
}

/* Opens BASE/.libvirt, which others cannot write to. */
static int open_folder(const char *base, bool create)
{
    char path[PATH_MAX + sizeof(FOLDER) + 1];
    struct stat status;
    int fd;

    snprintf(path, sizeof(path), "%s/" FOLDER, base);
    if (create && mkdir(path, 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &status) < 0 || (status.st_uid != geteuid() && status.st_uid != 0) ||
        (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        close(fd);
        return -EINVAL;
    }
    return fd;
}

/* Writes all of a new file, readable by all, and puts it in its place. */
static int write_file(int folder, const char *name, const char *text)
{
    char partial[LIBVIRT_UUID_BYTES + sizeof(PARTIAL_SUFFIX)];
    size_t length = strlen(text);
    int ret = 0;
    int fd;

    snprintf(partial, sizeof(partial), "%s" PARTIAL_SUFFIX, name);
    unlinkat(folder, partial, 0);
    fd = openat(folder, partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return -errno;
    }
    errno = ENOSPC;
    if (write(fd, text, length) != (ssize_t)length || fchmod(fd, 0644) < 0 ||
        renameat(folder, partial, folder, name) < 0) {
        ret = -errno;
        unlinkat(folder, partial, 0);
    }
    close(fd);
    return ret;
}

int libvirt_request_write(const char *base, const char *uuid, const struct libvirt_request *request)
{
    json_t *json = json_pack("{s:s, s:b, s:I, s:b, s:b}", "name", request->name, "asks",
                             (int)request->asks, "target_bytes", (json_int_t)request->target_bytes,
                             "pause", (int)request->pause, "reserve", (int)request->reserve);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    int folder = text != NULL ? open_folder(base, true) : -ENOMEM;
    int ret = folder < 0 ? folder : write_file(folder, uuid, text);

    if (folder >= 0) {
        close(folder);
    }
    free(text);
    json_decref(json);
    return ret;
}

int libvirt_request_remove(const char *base, const char *uuid)
{
    int folder = open_folder(base, false);
    int ret = 0;

    if (folder < 0) {
        return folder == -ENOENT ? 0 : folder;
    }
    if (unlinkat(folder, uuid, 0) < 0 && errno != ENOENT) {
        ret = -errno;
    }
    close(folder);
    return ret;
}

static int parse(const char *text, struct libvirt_request *request)
{
    json_t *json = json_loads(text, 0, NULL);
    struct libvirt_request read = {.asks = false};
    const char *name;
    json_int_t target;
    int asks, pause, reserve;
    int ret = -EINVAL;

    if (json_unpack(json, "{s:s, s:b, s:I, s:b, s:b}", "name", &name, "asks", &asks, "target_bytes",
                    &target, "pause", &pause, "reserve", &reserve) == 0 &&
        runtime_name_is_valid(name) && target >= 0) {
        memcpy(read.name, name, strlen(name) + 1);
        read.asks = asks != 0;
        read.target_bytes = (uint64_t)target;
        read.pause = pause != 0;
        read.reserve = reserve != 0;
        *request = read;
        ret = 0;
    }
    json_decref(json);
    return ret;
}

static int read_request(const char *base, const char *uuid, struct libvirt_request *request)
{
    char text[REQUEST_BYTES] = "";
    struct stat status;
    int folder = open_folder(base, false);
    int ret = -EINVAL;
    int fd;

    if (folder < 0) {
        return folder;
    }
    fd = openat(folder, uuid, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        ret = -errno;
    } else if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
               read(fd, text, sizeof(text) - 1) > 0) {
        ret = parse(text, request);
    }
    if (fd >= 0) {
        close(fd);
    }
    close(folder);
    return ret;
}

int libvirt_request_find(const char *uuid, char base[static PATH_MAX],
                         struct libvirt_request *request)
{
    int ret = -ENOENT;

    if (!libvirt_uuid_is_valid(uuid)) {
        return -ENOENT;
    }
    /* Root's libvirt runs QEMU as another user, mostly. */
    if (geteuid() != 0) {
        snprintf(base, PATH_MAX, "%s", ROOTS_BASE);
        ret = read_request(base, uuid, request);
    }
    if (ret == -ENOENT && libvirt_base(base) == 0) {
        ret = read_request(base, uuid, request);
    }
    return ret;
}
