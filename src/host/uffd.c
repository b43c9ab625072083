/* SPDX-License-Identifier: MIT */
#include "host/uffd.h"

#include "base/clock.h"
#include "host/pagemap.h"
#include "host/sys.h"
#include "host/verdict.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>

/* The kernel's interface where the C library's headers are older (before 6.8). */
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFDIO_MOVE
#define _UFFDIO_MOVE              0x05
#define UFFDIO_MOVE_MODE_DONTWAKE ((__u64)1 << 0)
struct uffdio_move {
    __u64 dst, src, len, mode;
    __s64 move; /* out: bytes moved, or -errno */
};
#define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif
/* Since 6.1. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* Tries at a move for which the kernel says "again", the last half of them
 * with a pause of a few microseconds. */
#define MOVE_TRIES    64
#define MOVE_PAUSE_NS 20000

/* The system call first: it needs nothing but CAP_SYS_PTRACE or the sysctl.
 * The device is for those to whom the administrator opened it. */
static int open_any(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 || errno != EPERM) {
        return fd >= 0 ? fd : -errno;
    }
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) {
        return errno == EMFILE || errno == ENFILE ? -errno : -EPERM;
    }
    fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    int err = fd >= 0 ? 0 : -errno;
    close(device);
    return fd >= 0 ? fd : err;
}

/* Agrees with the kernel on moves; closes fd if it has none. */
static int shake_hands(int fd, int *uffd)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MOVE};
    if (fd < 0) {
        return fd;
    }
    if (ioctl(fd, UFFDIO_API, &api) != 0) {
        close(fd);
        return -EOPNOTSUPP;
    }
    *uffd = fd;
    return 0;
}

int uffd_open(int *uffd)
{
    return shake_hands(open_any(), uffd);
}

int uffd_open_for_user_faults(int *uffd)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    return shake_hands(fd >= 0 ? fd : -errno, uffd);
}

int uffd_register(int uffd, haddr_t at, uint64_t bytes)
{
    struct uffdio_register registration = {
        .range = {.start = at.a, .len = bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (ioctl(uffd, UFFDIO_REGISTER, &registration) != 0) {
        return -errno;
    }
    bool moves = registration.ioctls >> _UFFDIO_MOVE & 1;
    return moves ? 0 : -EINVAL;
}

int uffd_unregister(int uffd, haddr_t at, uint64_t bytes)
{
    struct uffdio_range range = {.start = at.a, .len = bytes};
    return ioctl(uffd, UFFDIO_UNREGISTER, &range) == 0 ? 0 : -errno;
}

int uffd_can_move(const struct uffd_mover *mover, haddr_t to, haddr_t from)
{
    uint64_t moved = 0;
    /* What the two are is looked at before what is there. */
    return uffd_move(mover, to, from, PAGE_BYTES, false, &moved) == -EIO ? -EINVAL : 0;
}

/* Whether a page that was refused has in truth moved: see uffd.h. Nobody else
 * moves pages meanwhile, so there is no other way to come to this. */
static bool has_moved(const struct uffd_mover *mover, haddr_t to, haddr_t from, int err)
{
    return (err == -EEXIST || err == -ENOENT) && !pagemap_holds(mover->pagemap, from) &&
           pagemap_holds(mover->pagemap, to);
}

__thread int uffd_move_errno;

int uffd_move(const struct uffd_mover *mover, haddr_t to, haddr_t from, uint64_t bytes, bool wake,
              uint64_t *moved_bytes)
{
    uint64_t done = 0;
    bool uncounted = false;
    int err = 0;
    for (int tries = 0; done < bytes;) {
        struct uffdio_move move = {
            .dst = to.a + done,
            .src = from.a + done,
            .len = bytes - done,
            .mode = wake ? 0 : UFFDIO_MOVE_MODE_DONTWAKE,
        };
        err = ioctl(mover->uffd, UFFDIO_MOVE, &move) == 0 ? 0 : -errno;
        if (err == 0) {
            done = bytes;
            break;
        }
        if (move.move > 0) {
            /* It got so far, and says what stopped it only when asked again. */
            done += (uint64_t)move.move;
            continue;
        }
        uffd_move_errno = err;
        err = verdict_of_move(err);
        if (has_moved(mover, haddr_add(to, done), haddr_add(from, done), err)) {
            done += PAGE_BYTES;
            uncounted = true;
            continue;
        }
        if (err != -EAGAIN || ++tries == MOVE_TRIES) {
            break;
        }
        if (tries < MOVE_TRIES / 2) {
            sched_yield();
        } else {
            clock_sleep_ns(MOVE_PAUSE_NS);
        }
    }
    if (uncounted && wake) {
        uffd_wake(mover->uffd, to, done);
    }
    *moved_bytes = done;
    return done == bytes ? 0 : err;
}

int uffd_wake(int uffd, haddr_t at, uint64_t bytes)
{
    struct uffdio_range range = {.start = at.a, .len = bytes};
    return ioctl(uffd, UFFDIO_WAKE, &range) == 0 ? 0 : -errno;
}

int uffd_read_faults(int uffd, haddr_t *faults, unsigned capacity, unsigned *count)
{
    struct uffd_msg messages[16];
    size_t room = min_u64(capacity, sizeof(messages) / sizeof(messages[0])) * sizeof(messages[0]);
    ssize_t got = read(uffd, messages, room);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            return -EIO;
        }
        got = 0;
    }
    unsigned found = 0;
    for (size_t i = 0; i < (size_t)got / sizeof(messages[0]); i++) {
        if (messages[i].event == UFFD_EVENT_PAGEFAULT) {
            faults[found++].a = (uintptr_t)messages[i].arg.pagefault.address;
        }
    }
    *count = found;
    return 0;
}
