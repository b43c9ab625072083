/* SPDX-License-Identifier: MIT */
#include "shared.h"

#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 30000

static int map_and_register(struct shared *shared, int flags, uint64_t modes)
{
    uint64_t bytes = SHARED_PAGES * shared->page_bytes;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, shared->fd, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    shared->at = haddr(at);
    int err = uffd_open(&shared->uffd);
    struct uffdio_register registration = {.range = {shared->at.a, bytes}, .mode = modes};
    if (err == 0 && ioctl(shared->uffd, UFFDIO_REGISTER, &registration) != 0) {
        err = -errno;
        close(shared->uffd);
    }
    if (err != 0) {
        munmap(at, bytes);
    }
    return err;
}

int shared_open(struct shared *shared, int file, bool huge, uint64_t modes)
{
    shared->page_bytes = huge ? SUPERPAGE_BYTES : PAGE_BYTES;
    shared->fd = file;
    if (file < 0) {
        unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
        shared->fd = memfd_create("guest-ram", flags);
    }
    if (shared->fd < 0) {
        return -errno;
    }
    int err = ftruncate(shared->fd, (off_t)(SHARED_PAGES * shared->page_bytes)) == 0 ? 0 : -errno;
    if (err == 0) {
        /* A memfd of huge pages shall have them at once, or not be made. */
        err = map_and_register(shared, file < 0 ? 0 : MAP_NORESERVE, modes);
    }
    if (err != 0) {
        close(shared->fd);
    }
    return err;
}

void shared_close(struct shared *shared)
{
    close(shared->uffd);
    munmap((void *)shared->at.a, SHARED_PAGES * shared->page_bytes);
    close(shared->fd);
}

void *shared_page(const struct shared *shared, unsigned page)
{
    return (void *)haddr_add(shared->at, page * shared->page_bytes).a;
}

uint64_t shared_total(const struct shared *shared)
{
    struct stat stat;
    assert_int_equal(fstat(shared->fd, &stat), 0);
    return (uint64_t)stat.st_blocks * 512 / shared->page_bytes;
}

int shared_populate(const struct shared *shared, unsigned page, const void *content)
{
    /* Missing bytes of an anonymous mapping are zeros. */
    void *from =
        mmap(NULL, shared->page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(from, MAP_FAILED);
    if (content != NULL) {
        memcpy(from, content, PAGE_BYTES);
    }
    struct uffdio_copy copy = {.dst = (uintptr_t)shared_page(shared, page),
                               .src = (uintptr_t)from,
                               .len = shared->page_bytes};
    int err = ioctl(shared->uffd, UFFDIO_COPY, &copy) == 0 ? 0 : -errno;
    munmap(from, shared->page_bytes);
    return err;
}

int shared_punch(const struct shared *shared, unsigned page)
{
    return fallocate(shared->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     (off_t)(page * shared->page_bytes), (off_t)shared->page_bytes) == 0
               ? 0
               : -errno;
}

/* Reading a file makes no page of it. */
static void shared_read(const struct shared *shared, unsigned page, void *content)
{
    assert_int_equal(pread(shared->fd, content, PAGE_BYTES, (off_t)(page * shared->page_bytes)),
                     PAGE_BYTES);
}

void open_memory(struct shared *ram, bool huge, uint64_t modes)
{
    int err = shared_open(ram, -1, huge, modes);
    if (err == -ENOMEM && huge) {
        skip_because("this host has no huge pages set aside (vm.nr_hugepages)");
    }
    if (err == -EINVAL && modes != MISSING) {
        skip_because("this kernel has no such events for shared memory");
    }
    assert_int_equal(err, 0);
}

bool file_holds(const struct shared *ram, unsigned page, uint64_t seed)
{
    uint64_t content[PAGE_BYTES / sizeof(uint64_t)];
    shared_read(ram, page, content);
    return page_holds(content, seed);
}

bool file_holds_zeros(const struct shared *ram, unsigned page)
{
    uint64_t content[PAGE_BYTES / sizeof(uint64_t)];
    shared_read(ram, page, content);
    return page_is_zero(content);
}

bool with_huge_pages = true;

bool is_huge(void **state)
{
    return *state == &with_huge_pages;
}

uint64_t fault_wait(int uffd)
{
    struct pollfd fd = {.fd = uffd, .events = POLLIN};
    struct uffd_msg message;
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(read(uffd, &message, sizeof(message)), sizeof(message));
    assert_int_equal(message.event, UFFD_EVENT_PAGEFAULT);
    return message.arg.pagefault.flags;
}

bool fault_pending(int uffd)
{
    struct pollfd fd = {.fd = uffd, .events = POLLIN};
    return poll(&fd, 1, 0) != 0;
}

/* What the two say to each other. */
struct order {
    unsigned page;
    uint64_t seed;
};

/* Tells the front end where the mapping is, with the userfaultfd, if there is one. */
static bool introduce(int socket, uint64_t at, int uffd)
{
    char room[CMSG_SPACE(sizeof(uffd))] = {0};
    struct iovec io = {&at, sizeof(at)};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
    if (uffd >= 0) {
        message.msg_control = room;
        message.msg_controllen = sizeof(room);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(uffd))};
        memcpy(CMSG_DATA(head), &uffd, sizeof(uffd));
    }
    return sendmsg(socket, &message, 0) == (ssize_t)sizeof(at);
}

static void get_to_know(struct backend *backend, bool cooperates)
{
    char room[CMSG_SPACE(sizeof(int))];
    struct iovec io = {&backend->at.a, sizeof(backend->at.a)};
    struct msghdr message = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
    assert_int_equal(recvmsg(backend->socket, &message, MSG_CMSG_CLOEXEC), sizeof(backend->at.a));
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    assert_int_equal(head != NULL, cooperates);
    backend->uffd = -1;
    if (head != NULL) {
        memcpy(&backend->uffd, CMSG_DATA(head), sizeof(backend->uffd));
    }
}

/* The life of a back end. */
static int serve(int socket, const struct shared *shared, bool cooperates)
{
    struct order order;
    struct shared own = *shared;
    int uffd = -1;
    void *at = mmap(NULL, SHARED_PAGES * shared->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                    shared->fd, 0);
    if (at == MAP_FAILED) {
        return 1;
    }
    own.at = haddr(at);
    struct uffdio_register registration = {.range = {own.at.a, SHARED_PAGES * own.page_bytes},
                                           .mode = MISSING};
    if (cooperates && (uffd_open(&uffd) != 0 || ioctl(uffd, UFFDIO_REGISTER, &registration) != 0)) {
        return 1;
    }
    bool heard = introduce(socket, own.at.a, uffd);
    while (heard && read(socket, &order, sizeof(order)) == (ssize_t)sizeof(order)) {
        page_fill(shared_page(&own, order.page), order.seed);
        heard = write(socket, "", 1) == 1;
    }
    return 0;
}

void backend_start(struct backend *backend, const struct shared *shared, bool cooperates)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fflush(NULL);
    backend->pid = fork();
    assert_true(backend->pid >= 0);
    if (backend->pid == 0) {
        close(ends[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* it may be waiting for a page */
        _exit(serve(ends[1], shared, cooperates));
    }
    close(ends[1]);
    backend->socket = ends[0];
    get_to_know(backend, cooperates);
}

void backend_begin(const struct backend *backend, unsigned page, uint64_t seed)
{
    struct order order = {page, seed};
    assert_int_equal(write(backend->socket, &order, sizeof(order)), sizeof(order));
}

void backend_finish(const struct backend *backend)
{
    struct pollfd fd = {.fd = backend->socket, .events = POLLIN};
    char done;
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(read(backend->socket, &done, 1), 1);
}

void backend_write(const struct backend *backend, unsigned page, uint64_t seed)
{
    backend_begin(backend, page, seed);
    backend_finish(backend);
}

void backend_stop(struct backend *backend)
{
    int status;
    close(backend->socket);
    assert_int_equal(waitpid(backend->pid, &status, 0), backend->pid);
    assert_int_equal(status, 0);
    if (backend->uffd >= 0) {
        close(backend->uffd);
    }
}
