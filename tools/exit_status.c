/* SPDX-License-Identifier: MIT */
/*
 * How a process ended. See exit_status.h.
 */
#include "exit_status.h"

#include <errno.h>
#include <linux/types.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* From linux/pidfd.h of Linux 6.15, which Debian's headers do not have yet: the
 * structure as of its first version, and the bit that asks for exit_code. */
struct pidfd_info_v0 {
    __u64 mask;
    __u64 cgroupid;
    __u32 pid, tgid, ppid;
    __u32 ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    __s32 exit_code; /* as wait(2) has it */
};
#define PIDFD_GET_INFO_V0 _IOWR(0xFF, 11, struct pidfd_info_v0)
#define PIDFD_EXIT        (1u << 3)

int exit_status_open(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd >= 0 ? fd : -errno;
}

int exit_status_of(int pidfd, int timeout_ms)
{
    struct pidfd_info_v0 info = {.mask = PIDFD_EXIT};
    /* POLLHUP, which is always told: its parent has waited for it. */
    struct pollfd fd = {.fd = pidfd};

    if (pidfd < 0) {
        return -1;
    }
    poll(&fd, 1, timeout_ms);
    if (ioctl(pidfd, PIDFD_GET_INFO_V0, &info) < 0 || (info.mask & PIDFD_EXIT) == 0) {
        return -1;
    }
    return WIFSIGNALED(info.exit_code) ? 128 + WTERMSIG(info.exit_code)
                                       : WEXITSTATUS(info.exit_code);
}
