/* SPDX-License-Identifier: MIT */
/*
 * What a domain needs of the host. See host_check.h.
 */
#include "host_check.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host/uffd.h"

#define AGENT_FILE "/ballast-agent.so"

__attribute__((format(printf, 3, 4))) static int fail(struct host_problem *problem, int ret,
                                                      const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(problem->text, sizeof(problem->text), format, arguments);
    va_end(arguments);
    return ret;
}

bool host_kernel_is_at_least(const char *release, int major, int minor, int patch)
{
    int found[3] = {0, 0, 0};

    if (sscanf(release, "%9d.%9d.%9d", &found[0], &found[1], &found[2]) < 2) {
        return true;
    }
    if (found[0] != major) {
        return found[0] > major;
    }
    return found[1] != minor ? found[1] > minor : found[2] >= patch;
}

int host_check_kernel(struct host_problem *problem)
{
    struct utsname host;
    int uffd = -1;
    int ret;

    if (uname(&host) == 0 &&
        !host_kernel_is_at_least(host.release, HOST_KERNEL_MAJOR, HOST_KERNEL_MINOR, 0)) {
        return fail(problem, -ENOTSUP,
                    "this kernel is too old: it is Linux %s, and moving pages needs %d.%d; boot a "
                    "newer one (Debian 12 has one in bookworm-backports)",
                    host.release, HOST_KERNEL_MAJOR, HOST_KERNEL_MINOR);
    }
    ret = uffd_open(&uffd);
    if (ret == 0) {
        close(uffd);
        return 0;
    }
    if (ret == -EPERM || ret == -EACCES) {
        return fail(problem, -EPERM,
                    "userfaultfd is not permitted: serving the kernel's own page faults needs a "
                    "right; be root, or give this user access to /dev/userfaultfd, or set the "
                    "sysctl vm.unprivileged_userfaultfd to 1 ('ballast doctor --fix' says how)");
    }
    if (ret == -EOPNOTSUPP) {
        return fail(problem, -ENOTSUP,
                    "this kernel cannot move pages: its userfaultfd has no UFFDIO_MOVE; boot "
                    "Linux %d.%d or newer on a processor for which it has it",
                    HOST_KERNEL_MAJOR, HOST_KERNEL_MINOR);
    }
    return fail(problem, -ENOTSUP,
                "userfaultfd does not work: %s; boot a kernel with CONFIG_USERFAULTFD",
                strerror(-ret));
}

/* Is this an executable file? 0, or -errno. */
static int check_executable(const char *path)
{
    struct stat status;

    if (stat(path, &status) < 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode)) {
        return -EACCES;
    }
    return access(path, X_OK) < 0 ? -errno : 0;
}

/* Looks for `word` in the folders of $PATH. */
static int search_path(const char *word, char path[static PATH_MAX])
{
    const char *folders = getenv("PATH");
    int ret = -ENOENT;

    if (folders == NULL) {
        folders = "/usr/local/bin:/usr/bin:/bin";
    }
    while (folders != NULL) {
        const char *colon = strchr(folders, ':');
        int length = colon != NULL ? (int)(colon - folders) : (int)strlen(folders);
        char candidate[PATH_MAX];
        int found;

        /* An empty one is the current folder. */
        if (snprintf(candidate, sizeof(candidate), "%.*s/%s", length > 0 ? length : 1,
                     length > 0 ? folders : ".", word) < (int)sizeof(candidate)) {
            found = check_executable(candidate);
            if (found == 0) {
                memcpy(path, candidate, strlen(candidate) + 1);
                return 0;
            }
            /* As execvp(): a file that may not be executed is worth mentioning. */
            if (found == -EACCES) {
                ret = -EACCES;
            }
        }
        folders = colon != NULL ? colon + 1 : NULL;
    }
    return ret;
}

int host_find_program(const char *word, char path[static PATH_MAX], char real[static PATH_MAX],
                      struct host_problem *problem)
{
    int ret;

    if (strlen(word) >= PATH_MAX) {
        return fail(problem, -ENAMETOOLONG,
                    "the program cannot be started: its name is too long; use a shorter one");
    }
    if (strchr(word, '/') != NULL) {
        memcpy(path, word, strlen(word) + 1);
        ret = check_executable(word);
    } else {
        ret = search_path(word, path);
    }
    if (ret == 0 && realpath(path, real) == NULL) {
        ret = -errno;
    }
    if (ret == -ENOENT) {
        return fail(problem, ret,
                    "the program '%s' cannot be started: there is no such file; install QEMU or "
                    "correct the name",
                    word);
    }
    if (ret < 0) {
        return fail(problem, ret,
                    "the program '%s' cannot be started: %s; give the name of an executable "
                    "file",
                    word, strerror(-ret));
    }
    return 0;
}

/* Reads a piece of a file, all or nothing. */
static bool read_at(int fd, void *to, size_t bytes, uint64_t offset)
{
    return offset <= INT64_MAX && pread(fd, to, bytes, (off_t)offset) == (ssize_t)bytes;
}

/* Is it a 64-bit program that no dynamic linker is going to load? */
static bool is_static(int fd)
{
    Elf64_Ehdr header;

    if (!read_at(fd, &header, sizeof(header), 0) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr)) {
        return false;
    }
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr program;

        if (!read_at(fd, &program, sizeof(program), header.e_phoff + i * sizeof(program)) ||
            program.p_type == PT_INTERP) {
            return false;
        }
    }
    return true;
}

/* Does executing it change what the process may do? The dynamic linker ignores
 * LD_PRELOAD then. */
static bool gains_rights(int fd, const struct stat *status)
{
    if ((status->st_mode & S_ISUID) != 0 && status->st_uid != getuid()) {
        return true;
    }
    if ((status->st_mode & S_ISGID) != 0 && (status->st_mode & S_IXGRP) != 0 &&
        status->st_gid != getgid()) {
        return true;
    }
    return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

int host_check_program(const char *path, struct host_problem *problem)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int ret = 0;

    if (fd < 0 || fstat(fd, &status) < 0) {
        ret = -errno;
        fail(problem, ret, "the program '%s' cannot be read: %s; check its mode", path,
             strerror(-ret));
    } else if (gains_rights(fd, &status)) {
        ret = fail(problem, -ENOTSUP,
                   "the program '%s' cannot be a domain: it gains rights when it is executed "
                   "(setuid, setgid or file capabilities), so no agent can be loaded into it; use "
                   "a copy without them",
                   path);
    } else if (is_static(fd)) {
        ret = fail(problem, -ENOTSUP,
                   "the program '%s' cannot be a domain: it is statically linked, so no agent "
                   "can be loaded into it; use a dynamically linked QEMU",
                   path);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}

/* The folder that we were started from. */
static int own_folder(char folder[static PATH_MAX])
{
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    char *slash;

    if (length < 0) {
        return -errno;
    }
    folder[length] = '\0';
    slash = strrchr(folder, '/');
    if (slash == NULL) {
        return -ENOENT;
    }
    *slash = '\0';
    return 0;
}

/* Makes a path absolute if it names a file that can be read. */
static bool is_usable(const char *candidate, char path[static PATH_MAX])
{
    char real[PATH_MAX];

    if (realpath(candidate, real) == NULL || access(real, R_OK) < 0) {
        return false;
    }
    memcpy(path, real, strlen(real) + 1);
    return true;
}

/* Is the agent in this folder below another? */
static bool find_agent_in(const char *folder, const char *below, char path[static PATH_MAX])
{
    char candidate[2 * PATH_MAX];

    snprintf(candidate, sizeof(candidate), "%s/%s" AGENT_FILE, folder, below);
    return is_usable(candidate, path);
}

/* Looks for the agent that belongs to this ballast: in the build folder (only if
 * we are in its tools/, so that an installed ballast does not look in /usr/src),
 * in the installation that we are in, wherever that was put, and at last under
 * the prefix that was configured. */
static bool find_agent(char path[static PATH_MAX])
{
    char folder[PATH_MAX];

    if (own_folder(folder) == 0) {
        const char *last = strrchr(folder, '/');

        if (last != NULL && strcmp(last, "/tools") == 0 &&
            find_agent_in(folder, "../src/agent", path)) {
            return true;
        }
        /* The emulator is installed beside it. */
        if (find_agent_in(folder, ".", path)) {
            return true;
        }
        if (BALLAST_AGENT_DIR_FROM_BIN[0] != '\0' &&
            find_agent_in(folder, BALLAST_AGENT_DIR_FROM_BIN, path)) {
            return true;
        }
    }
    return is_usable(BALLAST_AGENT_DIR AGENT_FILE, path);
}

int host_find_agent(char path[static PATH_MAX], struct host_problem *problem)
{
    const char *chosen = getenv("BALLAST_AGENT_SO");
    char found[PATH_MAX];

    if (chosen != NULL && chosen[0] != '\0') {
        if (!is_usable(chosen, found)) {
            return fail(problem, -ENOENT,
                        "the agent cannot be read: BALLAST_AGENT_SO is %s, %s; correct it", chosen,
                        strerror(errno));
        }
    } else if (!find_agent(found)) {
        return fail(problem, -ENOENT,
                    "the agent was not found: there is no " BALLAST_AGENT_DIR AGENT_FILE
                    "; install Ballast, or set BALLAST_AGENT_SO to where it is");
    }
    if (strpbrk(found, " :") != NULL || strchr(found, '$') != NULL) {
        return fail(problem, -EINVAL,
                    "the agent cannot be loaded from %s: LD_PRELOAD cannot hold a path with a "
                    "space, ':' or '$'; put it elsewhere and set BALLAST_AGENT_SO",
                    found);
    }
    memcpy(path, found, strlen(found) + 1);
    return 0;
}
