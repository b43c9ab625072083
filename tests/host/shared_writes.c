/* SPDX-License-Identifier: MIT */
/*
 * Why writes to shared guest memory can be lost, by experiment on the kernel that runs,
 * and what would help: docs/shared-memory.md says what follows. A kernel that one day
 * answers otherwise fails here, and then that page is to be written anew.
 *
 * Everything happens in a fixed order: nothing here is a race that is won by luck.
 */
#include "halfway.h"
#include "shared.h"

#include "base/clock.h"
#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

/* Since 6.1. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define SEED  UINT64_C(1234)
#define WORDS (PAGE_BYTES / sizeof(uint64_t))

/* ---- Writes: the processor's ---- */

struct touch {
    uint64_t *at;
    uint64_t value;
};

static void *write_a_word(void *argument)
{
    struct touch *touch = argument;
    __atomic_store_n(touch->at, touch->value, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Takes a page out of our own reach, the file keeping it. */
static void shield(const struct shared *ram, unsigned page, uint64_t mode)
{
    if (mode == WP) {
        struct uffdio_writeprotect protect = {
            .range = {(uintptr_t)shared_page(ram, page), ram->page_bytes},
            .mode = UFFDIO_WRITEPROTECT_MODE_WP};
        assert_int_equal(ioctl(ram->uffd, UFFDIO_WRITEPROTECT, &protect), 0);
    } else {
        assert_int_equal(madvise(shared_page(ram, page), ram->page_bytes, MADV_DONTNEED), 0);
    }
}

static void unshield(const struct shared *ram, unsigned page, uint64_t mode)
{
    struct uffdio_range range = {(uintptr_t)shared_page(ram, page), ram->page_bytes};
    if (mode == WP) {
        struct uffdio_writeprotect protect = {.range = range};
        assert_int_equal(ioctl(ram->uffd, UFFDIO_WRITEPROTECT, &protect), 0);
    } else {
        struct uffdio_continue go_on = {.range = range};
        assert_int_equal(ioctl(ram->uffd, UFFDIO_CONTINUE, &go_on), 0);
    }
}

/* Our own write waits until it is let go. */
static void assert_shielded(const struct shared *ram, unsigned page, uint64_t mode)
{
    struct touch touch = {shared_page(ram, page), SEED};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_a_word, &touch), 0);
    uint64_t flags = fault_wait(ram->uffd);
    assert_true(flags & (mode == WP ? UFFD_PAGEFAULT_FLAG_WP : UFFD_PAGEFAULT_FLAG_MINOR));
    assert_true(file_holds_zeros(ram, page));
    unshield(ram, page, mode);
    pthread_join(thread, NULL);
    assert_false(file_holds_zeros(ram, page));
}

/* Shielded, looked at, found zero, given back: and what another process wrote between
 * the look and the hole is nowhere. */
static void a_write_after_the_look_is_lost(bool huge, uint64_t mode)
{
    struct shared ram;
    struct backend backend;
    open_memory(&ram, huge, MISSING | mode);
    backend_start(&backend, &ram, false);
    for (unsigned page = 0; page < 2; page++) {
        assert_int_equal(shared_populate(&ram, page, NULL), 0);
        shield(&ram, page, mode);
    }
    assert_shielded(&ram, 1, mode);

    assert_true(file_holds_zeros(&ram, 0));
    backend_write(&backend, 0, SEED);
    assert_false(fault_pending(ram.uffd));
    assert_true(file_holds(&ram, 0, SEED)); /* who looked now would see it, but nobody tells */
    assert_int_equal(shared_punch(&ram, 0), 0);
    assert_true(file_holds_zeros(&ram, 0));
    assert_int_equal(shared_total(&ram), 1);
    backend_stop(&backend);
    shared_close(&ram);
}

static void a_write_after_write_protection_is_lost(void **state)
{
    a_write_after_the_look_is_lost(is_huge(state), WP);
}

static void a_write_after_unmapping_is_lost(void **state)
{
    a_write_after_the_look_is_lost(is_huge(state), MINOR);
}

/* ---- Writes: the kernel's on behalf of a device ---- */

struct direct_read {
    struct trap trap;
    void *page;
    int fd;
    ssize_t result;
};

static void *read_directly(void *argument)
{
    struct direct_read *call = argument;
    struct iovec to[] = {{call->page, PAGE_BYTES}, {(void *)call->trap.page.a, PAGE_BYTES}};
    call->result = preadv(call->fd, to, 2, 0);
    return NULL;
}

/* Keeps the page that is at a place now, and shows later what has become of it. */
struct keepsake {
    int ends[2];
};

static void keep(struct keepsake *kept, void *page)
{
    struct iovec io = {page, PAGE_BYTES};
    assert_int_equal(pipe2(kept->ends, O_CLOEXEC), 0);
    assert_int_equal(vmsplice(kept->ends[1], &io, 1, 0), PAGE_BYTES);
}

/* Looks without letting go. */
static void look(const struct keepsake *kept, uint64_t content[WORDS])
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(tee(kept->ends[0], ends[1], PAGE_BYTES, 0), PAGE_BYTES);
    assert_int_equal(read(ends[0], content, PAGE_BYTES), PAGE_BYTES);
    close(ends[0]);
    close(ends[1]);
}

static void let_go(struct keepsake *kept)
{
    close(kept->ends[0]);
    close(kept->ends[1]);
}

/* A disk's DMA is under way. The hole is made as if nothing were; even a look after it
 * comes too early; and what was read from the disk is in no guest's page. */
static void a_pin_does_not_hinder_the_hole(void **state)
{
    bool huge = is_huge(state);
    struct shared ram;
    struct keepsake kept;
    uint64_t content[WORDS];
    pthread_t thread;
    struct direct_read call = {.fd = open_direct()};
    if (call.fd < 0) {
        skip_because("/var/tmp has no O_DIRECT");
    }
    open_memory(&ram, huge, MISSING);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    call.page = shared_page(&ram, 0);
    trap_set(&call.trap);
    keep(&kept, call.page);
    assert_int_equal(pthread_create(&thread, NULL, read_directly, &call), 0);
    trap_wait(&call.trap);
    assert_int_equal(shared_punch(&ram, 0), 0);
    assert_int_equal(shared_total(&ram), 0);
    look(&kept, content);
    assert_true(page_is_zero(content));
    trap_release(&call.trap);
    pthread_join(thread, NULL);
    assert_int_equal(call.result, 2 * PAGE_BYTES); /* no error is told to anybody */
    assert_false(fault_pending(ram.uffd));
    assert_true(file_holds_zeros(&ram, 0));
    look(&kept, content);
    assert_true(page_holds(content, HALFWAY_SEED));
    let_go(&kept);
    trap_remove(&call.trap);
    shared_close(&ram);
    close(call.fd);
}

static void a_registered_buffer_does_not_either(void **state)
{
#ifdef HAVE_LIBURING
    bool huge = is_huge(state);
    struct shared ram;
    struct io_uring ring;
    struct io_uring_cqe *done;
    uint64_t content[WORDS];
    int ends[2];
    open_memory(&ram, huge, MISSING);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    struct iovec buffer = {shared_page(&ram, 0), PAGE_BYTES};
    if (io_uring_queue_init(1, &ring, 0) != 0 ||
        io_uring_register_buffers(&ring, &buffer, 1) != 0) {
        skip_because("no io_uring, or no buffers of it");
    }
    assert_int_equal(shared_punch(&ram, 0), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    page_fill(content, SEED);
    assert_int_equal(write(ends[1], content, PAGE_BYTES), PAGE_BYTES);
    io_uring_prep_read_fixed(io_uring_get_sqe(&ring), ends[0], buffer.iov_base, PAGE_BYTES, 0, 0);
    assert_int_equal(io_uring_submit(&ring), 1);
    assert_int_equal(io_uring_wait_cqe(&ring, &done), 0);
    assert_int_equal(done->res, PAGE_BYTES);
    assert_false(fault_pending(ram.uffd));
    assert_int_equal(shared_total(&ram), 0);
    assert_true(file_holds_zeros(&ram, 0));
    io_uring_queue_exit(&ring);
    close(ends[0]);
    close(ends[1]);
    shared_close(&ram);
#else
    (void)state;
    skip_because("built without liburing");
#endif
}

/* The seal that keeps new writers out lets old ones write, and forbids holes; the one
 * that looks for who holds pages cannot be set while anybody may write. */
static void seals_do_not_help(void **state)
{
    bool huge = is_huge(state);
    struct shared ram;
    struct backend backend;
    open_memory(&ram, huge, MISSING);
    backend_start(&backend, &ram, false);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    assert_int_equal(fcntl(ram.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(fcntl(ram.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    backend_write(&backend, 0, SEED);
    assert_true(file_holds(&ram, 0, SEED));
    assert_int_equal(shared_punch(&ram, 0), -EPERM);
    backend_stop(&backend);
    shared_close(&ram);
}

/* ---- What would help ---- */

/* A back end that has registered its mapping, and handed over the userfaultfd, can be
 * protected by us, in its address space: it waits, and its write comes after the hole. */
static void with_every_process_registered_the_processors_writes_are_kept(void **unused)
{
    (void)unused;
    struct shared ram;
    struct backend backend;
    open_memory(&ram, false, MISSING | WP);
    backend_start(&backend, &ram, true);
    struct uffdio_register again = {.range = {backend.at.a, SHARED_PAGES * ram.page_bytes},
                                    .mode = MISSING | WP};
    assert_int_equal(ioctl(backend.uffd, UFFDIO_REGISTER, &again), 0);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    shield(&ram, 0, WP);
    struct uffdio_writeprotect protect = {.range = {backend.at.a, ram.page_bytes},
                                          .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    assert_int_equal(ioctl(backend.uffd, UFFDIO_WRITEPROTECT, &protect), 0);

    assert_true(file_holds_zeros(&ram, 0));
    backend_begin(&backend, 0, SEED);
    assert_true(fault_wait(backend.uffd) & UFFD_PAGEFAULT_FLAG_WP);
    assert_int_equal(shared_punch(&ram, 0), 0);
    protect.mode = 0; /* holes stay protected; this wakes as well */
    assert_int_equal(ioctl(backend.uffd, UFFDIO_WRITEPROTECT, &protect), 0);
    assert_int_equal(fault_wait(backend.uffd) & UFFD_PAGEFAULT_FLAG_WP, 0);
    assert_int_equal(shared_total(&ram), 0);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    assert_int_equal(uffd_wake(backend.uffd, backend.at, ram.page_bytes), 0);
    backend_finish(&backend);
    assert_true(file_holds(&ram, 0, SEED));
    assert_int_equal(shared_total(&ram), 1);
    backend_stop(&backend);
    shared_close(&ram);
}

/* 2 MiB of a file in pages of 4 KiB, mapped where a huge page could be. */
static void *map_small_pages(int fd)
{
    char *wide = mmap(NULL, 2 * SUPERPAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(wide, MAP_FAILED);
    void *at = mmap(wide + (SUPERPAGE_BYTES - (uintptr_t)wide % SUPERPAGE_BYTES), SUPERPAGE_BYTES,
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    return at;
}

static int collapse(void *at)
{
    int err = -EAGAIN;
    for (int tries = 0; err == -EAGAIN && tries < 20; tries++) {
        clock_sleep_ns(1000000);
        err = madvise(at, SUPERPAGE_BYTES, MADV_COLLAPSE) == 0 ? 0 : -errno;
    }
    return err;
}

/* One operation notices who else holds a page: making 2 MiB one huge page. But only if
 * they are not one yet, and it copies them. */
static void collapsing_sees_pins_of_small_pages_only(void **unused)
{
    (void)unused;
    struct keepsake kept;
    int fd = memfd_create("guest-ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, SUPERPAGE_BYTES), 0);
    char *at = map_small_pages(fd);
    assert_int_equal(madvise(at, SUPERPAGE_BYTES, MADV_NOHUGEPAGE), 0);
    memset(at, 1, SUPERPAGE_BYTES);
    assert_int_equal(madvise(at, SUPERPAGE_BYTES, MADV_HUGEPAGE), 0);
    keep(&kept, at + 5 * PAGE_BYTES);
    int held = collapse(at);
    let_go(&kept);
    int err = collapse(at);
    if (err == -EINVAL || err == -ENOMEM) {
        skip_because("shared memory cannot be made huge here: %s", strerror(-err));
    }
    assert_int_equal(err, 0);
    assert_int_equal(held, -EAGAIN);
    keep(&kept, at + 5 * PAGE_BYTES);
    assert_int_equal(collapse(at), 0);
    let_go(&kept);
    munmap(at, SUPERPAGE_BYTES);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BOTH(a_write_after_write_protection_is_lost),
        WITH_BOTH(a_write_after_unmapping_is_lost),
        WITH_BOTH(a_pin_does_not_hinder_the_hole),
        WITH_BOTH(a_registered_buffer_does_not_either),
        WITH_BOTH(seals_do_not_help),
        cmocka_unit_test(with_every_process_registered_the_processors_writes_are_kept),
        cmocka_unit_test(collapsing_sees_pins_of_small_pages_only),
    };
    return fixture_available()
               ? cmocka_run_group_tests_name("host_shared_writes", tests, NULL, NULL)
               : 77;
}
