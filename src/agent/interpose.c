/* SPDX-License-Identifier: MIT */
/*
 * The C library's functions that QEMU calls on guest RAM and that must not
 * have their usual effect there, and those by which it would have the kernel use
 * guest RAM unseen (references.h). These are the only symbols that the agent
 * exports. Where the range has no part in guest RAM they do what they always
 * do, by a direct system call.
 *
 * QEMU's uses, 7.2 to 10.0: util/mmap-alloc.c, util/oslib-posix.c,
 * util/osdep.c, system/physmem.c, os-posix.c.
 */
#include "agent/agent.h"
#include "agent/references.h"
#include "agent/the_guest.h"
#include "guest/plug.h"
#include "host/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int madvise(void *address, size_t length, int advice);
EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd,
                    off64_t offset);
EXPORT int munmap(void *address, size_t length);
EXPORT void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...);
EXPORT int mlockall(int flags);
EXPORT long mbind(void *address, unsigned long length, int mode, const unsigned long *nodes,
                  unsigned long max_node, unsigned int flags);
EXPORT int open64(const char *path, int flags, ...);
/* What a fortified build calls where no mode is given. */
EXPORT int open64_without_mode(const char *path, int flags) __asm__("__open64_2");
EXPORT int fcntl64(int fd, int command, ...);
EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length);

static int fail(int err)
{
    errno = err;
    return -1;
}

/* Guest RAM is QEMU's to advise on in so far as it stays ours to move. */
static bool advise_guest(haddr_t at, size_t length, int advice)
{
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
    case MADV_FREE:
        /* Either way the page goes to the cache, not to the host. One page at a
         * time is how QEMU's balloon inflates; free page reports and migration
         * drop more at once, which the guest may use again unasked. A domain that
         * is dying takes no page: QEMU gets what it asked for. */
        return (length == PAGE_BYTES ? guest_give_up(&the_guest, at, length)
                                     : guest_discard(&the_guest, at, length)) != -ESHUTDOWN;
    case MADV_WILLNEED:
        /* Said of one page, by a balloon that deflates. */
        if (length == PAGE_BYTES) {
            guest_take_back(&the_guest, at, length);
        }
        return true;
    case MADV_MERGEABLE:
        /* Merged pages cannot be moved, and merging would change the total. */
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        /* prealloc=on: the host has given the target already, and no more. */
    case MADV_DOFORK:
        /* A page that a child shares cannot be moved. */
        return true;
    default:
        return false;
    }
}

int madvise(void *address, size_t length, int advice)
{
    haddr_t at = haddr(address);
    if (guest_owns(&the_guest, at, length) && advise_guest(at, length, advice)) {
        return 0;
    }
    int err = sys_madvise(at, length, advice);
    if (err == 0 && advice == MADV_HUGEPAGE) {
        agent_see_block(at, length);
    }
    return err == 0 ? 0 : fail(-err);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    if ((flags & MAP_FIXED) && guest_owns(&the_guest, haddr(address), length)) {
        errno = ENOTSUP;
        return MAP_FAILED;
    }
    bool anonymous = (flags & MAP_ANONYMOUS) && (flags & MAP_PRIVATE) && fd == -1;
    if (anonymous && (protection & PROT_WRITE) && agent_expects_ram(length)) {
        /* max may be more than the host has, and only target is ever used. */
        flags |= MAP_NORESERVE;
    }
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

int munmap(void *address, size_t length)
{
    if (guest_owns(&the_guest, haddr(address), length) &&
        !guest_unplug(&the_guest, haddr(address), length)) {
        return 0; /* nobody asks what became of it, and nobody will use it */
    }
    int err = sys_munmap(haddr(address), length);
    return err == 0 ? 0 : fail(-err);
}

void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *target = (flags & MREMAP_FIXED) ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    if (guest_owns(&the_guest, haddr(old), old_size) ||
        ((flags & MREMAP_FIXED) && guest_owns(&the_guest, haddr(target), new_size))) {
        errno = ENOTSUP;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, old, old_size, new_size, flags, target);
}

/* For a memory back end with host-nodes and policy. */
long mbind(void *address, unsigned long length, int mode, const unsigned long *nodes,
           unsigned long max_node, unsigned int flags)
{
    struct memory_policy policy;
    if (!guest_owns(&the_guest, haddr(address), length)) {
        return syscall(SYS_mbind, address, length, mode, nodes, max_node, flags);
    }
    int err = policy_read(&policy, mode, nodes, max_node);
    err = err != 0 ? err : agent_set_policy(haddr(address), length, &policy);
    return err == 0 ? 0 : fail(-err);
}

int mlockall(int flags)
{
    if (agent_active()) {
        /* Locks pages as they come, in guest RAM and cache alike, instead of
         * bringing all of max in. */
        flags |= MCL_ONFAULT;
    }
    return (int)syscall(SYS_mlockall, flags);
}

/* A descriptor that reads past the page cache, or is to, where that is not safe. */
static bool is_unsafe(int fd, int flags)
{
    return (flags & O_DIRECT) && agent_active() && references_unseen(fd);
}

static int open_safely(const char *path, int flags, mode_t mode)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && is_unsafe(fd, flags)) {
        close(fd);
        return fail(EINVAL);
    }
    return fd;
}

/* QEMU opens disks by this. It takes EINVAL for a file system without O_DIRECT. */
int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    bool has_mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    mode_t mode = has_mode ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_safely(path, flags, mode);
}

int open64_without_mode(const char *path, int flags)
{
    return open_safely(path, flags, 0);
}

/* And by this it changes their flags, or those of descriptors that it was given. */
int fcntl64(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    unsigned long argument = va_arg(arguments, unsigned long);
    va_end(arguments);
    if (command == F_SETFL && is_unsafe(fd, (int)argument)) {
        return fail(EINVAL);
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

/* QEMU asks for this to migrate without copying, and does without if it cannot be
 * had: what waits to be sent would be read when the page may be another's. */
int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    if (level == SOL_SOCKET && option == SO_ZEROCOPY && agent_active()) {
        return fail(ENOPROTOOPT);
    }
    return (int)syscall(SYS_setsockopt, fd, level, option, value, length);
}
