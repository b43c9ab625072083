/* SPDX-License-Identifier: MIT */
/* The engine's operations where the real kernel refuses them: which error comes,
 * how far a move got before it, and that nothing is lost or gained. */
#include "fixture.h"

#include "host/sys.h"
#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define OPS (&linux_host_ops)

#define RAM_PAGES   (2 * SUPERPAGE_PAGES)
#define CACHE_PAGES (8 * SUPERPAGE_PAGES)

/* A cache whose first superpage and a piece are full, of single pages. */
static void open_singles(struct fixture *f)
{
    fixture_open(f, RAM_PAGES, CACHE_PAGES);
    must_allocate(f, cfn(0), SUPERPAGE_PAGES);
    must_place(f, cfn(0), gfn(0), 1);
    must_take(f, gfn(0), cfn(0), 1);
}

static void destination_taken(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved = 99;
    open_singles(&f);
    must_place(&f, cfn(100), gfn(10), 1);
    page_fill(ram_page(&f, gfn(10)), 1);
    assert_int_equal(OPS->place(&f.host, cfn(0), gfn(10), 1, &moved), -EEXIST);
    assert_int_equal(moved, 0);
    assert_int_equal(OPS->place(&f.host, cfn(0), gfn(10), 20, &moved), -EEXIST);
    assert_int_equal(moved, 0);
    assert_resident(&f, 1, SUPERPAGE_PAGES - 1);
    /* In the middle: those before it went. */
    assert_int_equal(OPS->place(&f.host, cfn(0), gfn(3), 20, &moved), -EEXIST);
    assert_int_equal(moved, 7);
    assert_resident(&f, 8, SUPERPAGE_PAGES - 8);
    assert_true(page_holds(ram_page(&f, gfn(10)), 1));
    /* The last of a range. */
    assert_int_equal(OPS->place(&f.host, cfn(20), gfn(0), 4, &moved), -EEXIST);
    assert_int_equal(moved, 3);
    assert_resident(&f, 11, SUPERPAGE_PAGES - 11);
    /* The same in the other direction. */
    assert_int_equal(OPS->take(&f.host, gfn(3), cfn(98), 7, &moved), -EEXIST);
    assert_int_equal(moved, 0);
    assert_int_equal(OPS->take(&f.host, gfn(3), cfn(5), 7, &moved), -EEXIST);
    assert_int_equal(moved, 2);
    assert_resident(&f, 9, SUPERPAGE_PAGES - 9);
    fixture_close(&f);
}

/* A huge page onto a superpage of which one page is there already. */
static void huge_destination_taken(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved = 99;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_allocate(&f, cfn(SUPERPAGE_PAGES), 1);
    must_place(&f, cfn(SUPERPAGE_PAGES), gfn(300), 1);
    page_fill(ram_page(&f, gfn(300)), 7);
    assert_int_equal(OPS->place(&f.host, cfn(0), gfn(0), SUPERPAGE_PAGES, &moved), -EEXIST);
    assert_int_equal(moved, 300);
    assert_true(page_holds(ram_page(&f, gfn(300)), 7));
    assert_resident(&f, 301, SUPERPAGE_PAGES - 300);
    fixture_close(&f);

    /* And onto one that is whole. */
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), 2 * SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    assert_int_equal(OPS->place(&f.host, cfn(SUPERPAGE_PAGES), gfn(0), SUPERPAGE_PAGES, &moved),
                     -EEXIST);
    assert_int_equal(moved, 0);
    assert_resident(&f, SUPERPAGE_PAGES, SUPERPAGE_PAGES);
    fixture_close(&f);
}

static void source_missing(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved = 99;
    open_singles(&f);
    assert_int_equal(OPS->place(&f.host, cfn(SUPERPAGE_PAGES), gfn(0), 1, &moved), -ENOENT);
    assert_int_equal(moved, 0);
    assert_int_equal(OPS->take(&f.host, gfn(0), cfn(SUPERPAGE_PAGES), 1, &moved), -ENOENT);
    assert_int_equal(moved, 0);
    assert_int_equal(OPS->take(&f.host, gfn(0), cfn(SUPERPAGE_PAGES), SUPERPAGE_PAGES, &moved),
                     -ENOENT);
    assert_int_equal(moved, 0);
    assert_resident(&f, 0, SUPERPAGE_PAGES);
    /* A hole in the middle, and at the end. */
    assert_int_equal(OPS->release(&f.host, cfn(40), 1), 0);
    assert_int_equal(OPS->place(&f.host, cfn(30), gfn(0), 20, &moved), -ENOENT);
    assert_int_equal(moved, 10);
    assert_int_equal(OPS->place(&f.host, cfn(39), gfn(20), 2, &moved), -ENOENT);
    assert_int_equal(moved, 0); /* it is gone: the move before took it */
    assert_int_equal(OPS->place(&f.host, cfn(41), gfn(20), 2, &moved), 0);
    assert_resident(&f, 12, SUPERPAGE_PAGES - 13);
    fixture_close(&f);
}

/* All or nothing, also where a page is in the way: that one stays. */
static void allocation_onto_a_page(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(SUPERPAGE_PAGES + 100), 1);
    page_fill(cache_page(&f, cfn(SUPERPAGE_PAGES + 100)), 5);
    assert_int_equal(OPS->allocate(&f.host, cfn(0), 3 * SUPERPAGE_PAGES), -EEXIST);
    assert_resident(&f, 0, 1);
    assert_true(page_holds(cache_page(&f, cfn(SUPERPAGE_PAGES + 100)), 5));
    fixture_close(&f);
}

/* A child process that shares memory with us until told to end. */
struct sharer {
    pid_t pid;
    int end;
};

static struct sharer start_sharer(void)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    assert_true(pid > 0);
    close(ends[0]);
    return (struct sharer){pid, ends[1]};
}

static void end_sharer(struct sharer sharer)
{
    close(sharer.end);
    assert_int_equal(waitpid(sharer.pid, NULL, 0), sharer.pid);
}

/* What a fork without MADV_DONTFORK does, which is why the host sets that. */
static void shared_since_a_fork(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved = 99;
    open_singles(&f);
    must_place(&f, cfn(0), gfn(0), 16);
    assert_int_equal(sys_madvise(f.ram, pages_to_bytes(RAM_PAGES), MADV_DOFORK), 0);
    struct sharer sharer = start_sharer();
    assert_int_equal(OPS->take(&f.host, gfn(0), cfn(0), 1, &moved), -EBUSY);
    assert_int_equal(moved, 0);
    /* A write makes a page ours alone again: all but one in the middle. */
    for (pages_t i = 0; i < 16; i++) {
        if (i != 9) {
            page_fill(ram_page(&f, gfn(i)), i);
        }
    }
    assert_int_equal(OPS->take(&f.host, gfn(0), cfn(0), 16, &moved), -EBUSY);
    assert_int_equal(moved, 9);
    assert_resident(&f, 7, SUPERPAGE_PAGES - 7);
    assert_int_equal(OPS->take(&f.host, gfn(9), cfn(9), 7, &moved), -EBUSY);
    assert_int_equal(moved, 0);
    must_take(&f, gfn(10), cfn(10), 6);
    for (pages_t i = 0; i < 16; i++) {
        assert_true(i == 9 || page_holds(cache_page(&f, cfn(i)), i));
    }
    end_sharer(sharer);
    page_fill(ram_page(&f, gfn(9)), 9);
    must_take(&f, gfn(9), cfn(9), 1);
    assert_resident(&f, 0, SUPERPAGE_PAGES);
    fixture_close(&f);
}

/* A huge page that is shared stays, and stays huge. */
static void huge_shared_since_a_fork(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved = 99;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    page_fill(ram_page(&f, gfn(511)), 3);
    assert_int_equal(sys_madvise(f.ram, pages_to_bytes(RAM_PAGES), MADV_DOFORK), 0);
    struct sharer sharer = start_sharer();
    assert_int_equal(OPS->take(&f.host, gfn(0), cfn(0), SUPERPAGE_PAGES, &moved), -EBUSY);
    assert_int_equal(moved, 0);
    assert_resident(&f, SUPERPAGE_PAGES, 0);
    assert_true(page_holds(ram_page(&f, gfn(511)), 3));
    end_sharer(sharer);
    fixture_close(&f);
}

/* As the host sets it up, a fork shares neither range and hinders no move. */
static void a_fork_shares_nothing(void **unused)
{
    (void)unused;
    struct fixture f;
    open_singles(&f);
    must_place(&f, cfn(0), gfn(0), 64);
    struct sharer sharer = start_sharer();
    must_take(&f, gfn(0), cfn(0), 64);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    assert_resident(&f, SUPERPAGE_PAGES, 0);
    end_sharer(sharer);
    fixture_close(&f);
}

/* An io_uring with one registered buffer, which the kernel pins for DMA; or -1
 * and a skip. */
static int pin(haddr_t at, uint64_t bytes)
{
    struct io_uring_params params = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
    if (ring < 0) {
        return -1;
    }
    struct iovec buffer = {.iov_base = (void *)at.a, .iov_len = bytes};
    assert_int_equal(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1), 0);
    return ring;
}

static void unpin(int ring)
{
    assert_int_equal(syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
    close(ring);
}

static void pinned_for_dma(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved = 99;
    open_singles(&f);
    must_place(&f, cfn(0), gfn(0), 32);
    for (pages_t i = 0; i < 32; i++) {
        page_fill(ram_page(&f, gfn(i)), i);
    }
    int ring = pin(haddr(ram_page(&f, gfn(12))), 2 * PAGE_BYTES);
    if (ring < 0) {
        fixture_close(&f);
        skip_because("io_uring is not to be had (kernel.io_uring_disabled?)");
    }
    assert_int_equal(OPS->take(&f.host, gfn(13), cfn(13), 1, &moved), -EBUSY);
    assert_int_equal(moved, 0);
    assert_int_equal(OPS->take(&f.host, gfn(0), cfn(0), 32, &moved), -EBUSY);
    assert_int_equal(moved, 12);
    must_take(&f, gfn(14), cfn(14), 18);
    assert_resident(&f, 2, SUPERPAGE_PAGES - 2);
    assert_true(page_holds(ram_page(&f, gfn(12)), 12));
    unpin(ring);
    must_take(&f, gfn(12), cfn(12), 2);
    for (pages_t i = 0; i < 32; i++) {
        assert_true(page_holds(cache_page(&f, cfn(i)), i));
    }
    assert_resident(&f, 0, SUPERPAGE_PAGES);
    fixture_close(&f);
}

/* One pinned page of a huge page: nothing of it that could be lost moves. */
static void huge_pinned_for_dma(void **unused)
{
    (void)unused;
    struct fixture f;
    pages_t moved = 99;
    fixture_open(&f, RAM_PAGES, CACHE_PAGES);
    must_allocate(&f, cfn(0), SUPERPAGE_PAGES);
    must_place(&f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    page_fill(ram_page(&f, gfn(200)), 3);
    int ring = pin(haddr(ram_page(&f, gfn(200))), PAGE_BYTES);
    if (ring < 0) {
        fixture_close(&f);
        skip_because("io_uring is not to be had (kernel.io_uring_disabled?)");
    }
    assert_int_equal(OPS->take(&f.host, gfn(0), cfn(0), SUPERPAGE_PAGES, &moved), -EBUSY);
    assert_true(moved <= 200);
    assert_resident(&f, SUPERPAGE_PAGES - moved, moved);
    assert_true(page_holds(ram_page(&f, gfn(200)), 3));
    unpin(ring);
    must_take(&f, gfn(moved), cfn(moved), SUPERPAGE_PAGES - moved);
    assert_true(page_holds(cache_page(&f, cfn(200)), 3));
    assert_resident(&f, 0, SUPERPAGE_PAGES);
    fixture_close(&f);
}

static haddr_t map(int flags)
{
    haddr_t at = {0};
    assert_int_equal(
        sys_mmap(haddr(NULL), SUPERPAGE_BYTES, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, &at),
        0);
    *(volatile char *)at.a = 1;
    return at;
}

/* Ranges that cannot be moved between: a broken caller, not a busy kernel. */
static void impossible_moves(void **unused)
{
    (void)unused;
    struct fixture f;
    uint64_t bytes = 99;
    open_singles(&f);
    haddr_t alone = map(MAP_PRIVATE), shared = map(MAP_SHARED);
    /* Into memory that is not registered. */
    assert_int_equal(uffd_move(&f.host.split.mover, haddr_add(alone, PAGE_BYTES), f.host.cache,
                               PAGE_BYTES, true, &bytes),
                     -EIO);
    assert_int_equal(bytes, 0);
    /* Out of shared memory. */
    assert_int_equal(uffd_move(&f.host.split.mover, f.ram, shared, PAGE_BYTES, true, &bytes), -EIO);
    assert_int_equal(bytes, 0);
    /* An address within a page. */
    assert_int_equal(
        uffd_move(&f.host.split.mover, haddr_add(f.ram, 1), f.host.cache, PAGE_BYTES, true, &bytes),
        -EIO);
    assert_int_equal(bytes, 0);
    /* Memory that may not be written to. */
    assert_int_equal(mprotect((void *)alone.a, SUPERPAGE_BYTES, PROT_READ), 0);
    assert_int_equal(uffd_move(&f.host.split.mover, f.ram, alone, PAGE_BYTES, true, &bytes), -EIO);
    assert_int_equal(bytes, 0);
    /* A source where nothing is mapped: as good as a page that is not there. */
    sys_munmap(alone, SUPERPAGE_BYTES);
    assert_int_equal(uffd_move(&f.host.split.mover, f.ram, alone, PAGE_BYTES, true, &bytes),
                     -ENOENT);
    assert_int_equal(bytes, 0);
    assert_resident(&f, 0, SUPERPAGE_PAGES);
    sys_munmap(shared, SUPERPAGE_BYTES);
    fixture_close(&f);
}

static int try_open(struct fixture *f, int ram_flags, int fd)
{
    assert_ptr_equal(mmap((void *)f->ram.a, pages_to_bytes(RAM_PAGES), PROT_READ | PROT_WRITE,
                          ram_flags | MAP_FIXED, fd, 0),
                     (void *)f->ram.a);
    return linux_host_open(&f->host, f->ram, pages_to_bytes(RAM_PAGES), SUPERPAGE_BYTES);
}

/* How many descriptors are open: whatever fails must leave none behind. */
static int lowest_free_fd(void)
{
    int fd = dup(0);
    assert_true(fd >= 0);
    close(fd);
    return fd;
}

/* Memory of which pages cannot be moved is refused before there is a guest,
 * and not by a guest that stops later. */
static void memory_of_other_kinds(void **unused)
{
    (void)unused;
    struct fixture f;
    int memfd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(memfd, (off_t)pages_to_bytes(RAM_PAGES)), 0);
    fixture_map(&f, RAM_PAGES);
    int lowest = lowest_free_fd();
    assert_int_equal(try_open(&f, MAP_SHARED | MAP_ANONYMOUS, -1), -EINVAL);
    assert_int_equal(try_open(&f, MAP_SHARED, memfd), -EINVAL);
    assert_int_equal(try_open(&f, MAP_PRIVATE, memfd), -EINVAL);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(try_open(&f, MAP_PRIVATE, file), -EINVAL);
    close(file);
    assert_int_equal(lowest_free_fd(), lowest);
    /* The address is as good as ever. */
    assert_int_equal(try_open(&f, MAP_PRIVATE | MAP_ANONYMOUS, -1), 0);
    fixture_close(&f);
    close(memfd);
}

static void memory_that_is_not_there(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_map(&f, RAM_PAGES);
    fixture_unmap(&f);
    int lowest = lowest_free_fd();
    assert_int_equal(linux_host_open(&f.host, f.ram, pages_to_bytes(RAM_PAGES), SUPERPAGE_BYTES),
                     -EINVAL);
    assert_int_equal(lowest_free_fd(), lowest);
}

/* A range that another userfaultfd has already. */
static void memory_of_somebody_else(void **unused)
{
    (void)unused;
    struct fixture f;
    struct linux_host second;
    open_singles(&f);
    must_place(&f, cfn(0), gfn(0), 1);
    assert_int_equal(linux_host_open(&second, f.ram, pages_to_bytes(RAM_PAGES), SUPERPAGE_BYTES),
                     -EBUSY);
    must_take(&f, gfn(0), cfn(0), 1);
    fixture_close(&f);
}

static void faults_of_nobody(void **unused)
{
    (void)unused;
    struct fixture f;
    haddr_t faults[2];
    unsigned count = 99;
    open_singles(&f);
    assert_int_equal(uffd_read_faults(f.host.uffd, faults, 2, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(uffd_wake(f.host.uffd, f.ram, PAGE_BYTES), 0);
    assert_int_equal(uffd_read_faults(-1, faults, 2, &count), -EIO);
    fixture_close(&f);
}

/* Why there is no userfaultfd, in a process that may have one. */
static int without_descriptors(void *unused)
{
    (void)unused;
    int uffd = 99;
    struct rlimit limit = {(rlim_t)lowest_free_fd(), (rlim_t)lowest_free_fd()};
    child_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    child_check(uffd_open(&uffd) == -EMFILE);
    child_check(uffd == 99);
    return 0;
}

/* As nobody: it depends on the machine whether that may. */
static int without_privilege(void *unused)
{
    (void)unused;
    int uffd = 99;
    FILE *file = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");
    int anybody = file != NULL ? fgetc(file) == '1' : 0;
    child_check(setresuid(65534, 65534, 65534) == 0);
    bool device = access("/dev/userfaultfd", R_OK | W_OK) == 0;
    int err = uffd_open(&uffd);
    child_check(err == (anybody || device ? 0 : -EPERM));
    child_check(err == 0 || uffd == 99);
    return 0;
}

static void opening(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(without_descriptors, NULL), 0);
    if (geteuid() != 0) {
        skip_because("only root can become nobody");
    }
    assert_int_equal(in_child(without_privilege, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destination_taken),
        cmocka_unit_test(huge_destination_taken),
        cmocka_unit_test(source_missing),
        cmocka_unit_test(allocation_onto_a_page),
        cmocka_unit_test(shared_since_a_fork),
        cmocka_unit_test(huge_shared_since_a_fork),
        cmocka_unit_test(a_fork_shares_nothing),
        cmocka_unit_test(pinned_for_dma),
        cmocka_unit_test(huge_pinned_for_dma),
        cmocka_unit_test(impossible_moves),
        cmocka_unit_test(memory_of_other_kinds),
        cmocka_unit_test(memory_that_is_not_there),
        cmocka_unit_test(memory_of_somebody_else),
        cmocka_unit_test(faults_of_nobody),
        cmocka_unit_test(opening),
    };
    return fixture_available() ? cmocka_run_group_tests_name("host_errors", tests, NULL, NULL) : 77;
}
