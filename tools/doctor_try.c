/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor: trying for real what cannot be read anywhere. What is tried are
 * the agent's own ways (src/host). Each trial has a process of its own: it may hang
 * in the kernel, or be killed by a filter on system calls.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/types.h"
#include "host/pagemap.h"
#include "host/uffd.h"

/* What takes longer hangs. */
#define TRIAL_LIMIT_S 10

/* How often a move is tried that the kernel cannot do just now (the page is being
 * migrated, say), with a pause after each. */
#define MOVE_TRIES    100
#define MOVE_PAUSE_NS 10000000

/* Runs a trial in a child. Its result, or -EINTR if something ended it. */
static int try(int (*trial)(void))
{
    pid_t child = fork();
    int status;

    if (child < 0) {
        return -errno;
    }
    if (child == 0) {
        alarm(TRIAL_LIMIT_S);
        _exit(-trial());
    }
    if (waitpid(child, &status, 0) < 0) {
        return -errno;
    }
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

static int try_userfaultfd(void)
{
    int uffd;
    int ret = uffd_open(&uffd);

    /* Without moves it was permitted nevertheless. */
    return ret == -EOPNOTSUPP ? 0 : ret;
}

static int try_move(void)
{
    struct uffd_mover mover;
    uint64_t moved_bytes;
    unsigned char *pages =
        mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *to = pages + PAGE_BYTES;
    int ret = pages != MAP_FAILED ? 0 : -errno;

    if (ret == 0) {
        ret = uffd_open(&mover.uffd);
    }
    if (ret == -EPERM) {
        /* The kernel can be tried without the permission. */
        ret = uffd_open_for_user_faults(&mover.uffd);
    }
    if (ret == 0) {
        ret = pagemap_open(&mover.pagemap);
    }
    if (ret == 0) {
        ret = uffd_register(mover.uffd, haddr(to), PAGE_BYTES);
    }
    if (ret == 0) {
        memset(pages, 0x5a, PAGE_BYTES);
        ret = -EAGAIN;
    }
    for (int tries = 0; ret == -EAGAIN && tries < MOVE_TRIES; tries++) {
        ret = uffd_move(&mover, haddr(to), haddr(pages), PAGE_BYTES, true, &moved_bytes);
        if (ret == -EAGAIN) {
            clock_sleep_ns(MOVE_PAUSE_NS);
        }
    }
    if (ret == 0 && (to[0] != 0x5a || to[PAGE_BYTES - 1] != 0x5a || pages[0] != 0)) {
        ret = -EIO;
    }
    return ret;
}

static int try_kvm(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (kvm < 0) {
        return -errno;
    }
    return ioctl(kvm, KVM_CREATE_VM, 0) >= 0 ? 0 : -errno;
}

void doctor_try(struct doctor_trials *trials)
{
    trials->userfaultfd = try(try_userfaultfd);
    trials->move = try(try_move);
    trials->kvm = try(try_kvm);
}
