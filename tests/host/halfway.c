/* SPDX-License-Identifier: MIT */
#include "halfway.h"

#include "host/uffd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

void trap_set(struct trap *trap)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    trap->page = haddr(page);
    assert_int_equal(uffd_open(&trap->uffd), 0);
    assert_int_equal(uffd_register(trap->uffd, trap->page, PAGE_BYTES), 0);
}

void trap_wait(const struct trap *trap)
{
    struct pollfd fd = {.fd = trap->uffd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 30000), 1);
}

void trap_release(const struct trap *trap)
{
    uint64_t content[PAGE_BYTES / sizeof(uint64_t)];
    page_fill(content, HALFWAY_SEED);
    struct uffdio_copy copy = {.dst = trap->page.a, .src = (uintptr_t)content, .len = PAGE_BYTES};
    assert_int_equal(ioctl(trap->uffd, UFFDIO_COPY, &copy), 0);
}

void trap_remove(const struct trap *trap)
{
    close(trap->uffd);
    munmap((void *)trap->page.a, PAGE_BYTES);
}

int open_direct(void)
{
    char path[] = "/var/tmp/halfway-XXXXXX";
    uint64_t content[PAGE_BYTES / sizeof(uint64_t)];
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    page_fill(content, HALFWAY_SEED);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(fd, content, PAGE_BYTES), PAGE_BYTES);
    }
    assert_int_equal(fsync(fd), 0);
    close(fd);
    fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    unlink(path);
    return fd;
}
