/* SPDX-License-Identifier: MIT */
/*
 * Why the total cannot hold in shared guest memory, by experiment on the kernel that
 * runs: docs/shared-memory.md says what follows. A kernel that one day answers otherwise
 * fails here, and then that page is to be written anew.
 */
#include "shared.h"

#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#define SEED UINT64_C(1234)

static int move(int uffd, haddr_t to, haddr_t from, uint64_t bytes)
{
    struct uffd_mover mover = {.uffd = uffd, .pagemap = -1};
    uint64_t moved = 0;
    int err = uffd_move(&mover, to, from, bytes, false, &moved);
    assert_int_equal(moved, err == 0 ? bytes : 0);
    return err == 0 ? 0 : uffd_move_errno;
}

/* Two pages of private memory, registered, with something at the first. */
static haddr_t map_private(const struct shared *ram)
{
    void *at =
        mmap(NULL, 3 * SUPERPAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    haddr_t aligned = haddr((char *)at + (SUPERPAGE_BYTES - (uintptr_t)at % SUPERPAGE_BYTES));
    memset((void *)aligned.a, 1, ram->page_bytes);
    assert_int_equal(uffd_register(ram->uffd, aligned, 2 * ram->page_bytes), 0);
    return aligned;
}

/* Neither out of a file nor into it, and not within it either. */
static void cannot_be_moved(void **state)
{
    bool huge = is_huge(state);
    struct shared ram;
    open_memory(&ram, huge, MISSING);
    uint64_t bytes = ram.page_bytes;
    haddr_t first = haddr(shared_page(&ram, 0)), second = haddr(shared_page(&ram, 1));
    haddr_t private = map_private(&ram);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    page_fill(shared_page(&ram, 0), SEED);
    assert_int_equal(move(ram.uffd, second, first, bytes), -EINVAL);
    assert_int_equal(move(ram.uffd, haddr_add(private, bytes), first, bytes), -EINVAL);
    assert_int_equal(move(ram.uffd, second, private, bytes), -EINVAL);
    assert_int_equal(move(ram.uffd, haddr_add(private, bytes), private, bytes), 0);

    assert_int_equal(fallocate(ram.fd, FALLOC_FL_COLLAPSE_RANGE, 0, (off_t)bytes), -1);
    assert_int_equal(errno, EOPNOTSUPP);
    assert_int_equal(fallocate(ram.fd, FALLOC_FL_INSERT_RANGE, 0, (off_t)bytes), -1);
    assert_int_equal(errno, EOPNOTSUPP);
    assert_int_equal(shared_total(&ram), 1);
    assert_true(file_holds(&ram, 0, SEED));
    shared_close(&ram);
}

/* A hole that another process touches, or writes to through the file, is filled by the
 * host: nobody asks us. */
static void others_populate_unasked(void **state)
{
    bool huge = is_huge(state);
    struct shared ram;
    struct backend backend;
    uint64_t content[PAGE_BYTES / sizeof(uint64_t)];
    open_memory(&ram, huge, MISSING);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    backend_start(&backend, &ram, false);
    assert_int_equal(shared_total(&ram), 1);
    backend_write(&backend, 1, SEED);
    assert_int_equal(shared_total(&ram), 2);
    page_fill(content, SEED);
    if (!huge) { /* hugetlbfs has no write() */
        assert_int_equal(pwrite(ram.fd, content, PAGE_BYTES, 2 * PAGE_BYTES), PAGE_BYTES);
        assert_int_equal(shared_total(&ram), 3);
    }
    assert_false(fault_pending(ram.uffd));
    backend_stop(&backend);
    shared_close(&ram);
}

/* What takes the place of a move is a page more or a page less in between. */
static void populating_takes_two_steps(void **state)
{
    bool huge = is_huge(state);
    struct shared ram, cache;
    open_memory(&ram, huge, MISSING);
    open_memory(&cache, huge, MISSING);
    for (unsigned page = 0; page < 2; page++) {
        assert_int_equal(shared_populate(&cache, page, NULL), 0);
    }
    assert_int_equal(shared_total(&ram) + shared_total(&cache), 2);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    assert_int_equal(shared_total(&ram) + shared_total(&cache), 3);
    assert_int_equal(shared_punch(&cache, 0), 0);
    assert_int_equal(shared_total(&ram) + shared_total(&cache), 2);
    assert_int_equal(shared_punch(&cache, 1), 0);
    assert_int_equal(shared_total(&ram) + shared_total(&cache), 1);
    assert_int_equal(shared_populate(&ram, 1, NULL), 0);
    assert_int_equal(shared_total(&ram) + shared_total(&cache), 2);
    shared_close(&cache);
    shared_close(&ram);
}

/* For processes of their own: whether such a file system could be put at /tmp, and a
 * userfaultfd can be had where that is allowed. */
static bool mount_own(const char *type, const char *options)
{
    int uffd;
    return (unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/tmp", type, 0, options) == 0 && uffd_open(&uffd) == 0 &&
           close(uffd) == 0;
}

/* Guest RAM and a cache that holds two pages, in files there. */
static bool open_own(struct shared *ram, struct shared *cache, bool huge)
{
    return shared_open(ram, open("/tmp/ram", O_RDWR | O_CREAT, 0600), huge, MISSING) == 0 &&
           shared_open(cache, open("/tmp/cache", O_RDWR | O_CREAT, 0600), huge, MISSING) == 0 &&
           shared_populate(cache, 0, NULL) == 0 && shared_populate(cache, 1, NULL) == 0;
}

#define CANNOT 77 /* such a process's status if the host does not let it */

/* A host with two pages: a tmpfs of that size. Whoever takes the page between the two
 * steps has it. */
static int neighbour_takes_it(void *unused)
{
    (void)unused;
    struct shared ram, cache;
    if (!mount_own("tmpfs", "size=8k")) {
        return CANNOT;
    }
    int neighbour = open("/tmp/neighbour", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    child_check(neighbour >= 0 && open_own(&ram, &cache, false));
    child_check(shared_populate(&ram, 0, NULL) == -ENOMEM);
    child_check(shared_punch(&cache, 0) == 0);
    child_check(write(neighbour, "theirs", 6) == 6);
    child_check(shared_populate(&ram, 0, NULL) == -ENOMEM);
    child_check(shared_total(&ram) + shared_total(&cache) == 1);
    return 0;
}

static void between_two_steps_the_page_is_anybodys(void **unused)
{
    (void)unused;
    int status = in_child(neighbour_takes_it, NULL);
    if (status == CANNOT) {
        skip_because("no file systems can be mounted here");
    }
    assert_int_equal(status, 0);
}

/* Only hugetlbfs can keep it: what is mounted with min_size= has so many pages of the
 * pool for itself. */
static int neighbour_cannot_take_it(void *unused)
{
    (void)unused;
    struct shared ram, cache;
    unsigned taken = 0;
    if (!mount_own("hugetlbfs", "pagesize=2M,size=4M,min_size=4M")) {
        return CANNOT;
    }
    child_check(open_own(&ram, &cache, true));
    child_check(shared_populate(&ram, 0, NULL) != 0);
    child_check(shared_punch(&cache, 0) == 0);
    int neighbour = memfd_create("neighbour", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
    while (taken < 64 &&
           fallocate(neighbour, 0, (off_t)(taken * SUPERPAGE_BYTES), (off_t)SUPERPAGE_BYTES) == 0) {
        taken++;
    }
    if (taken == 64) {
        return CANNOT; /* it shall not take all of a large pool */
    }
    child_check(shared_populate(&ram, 0, NULL) == 0);
    child_check(shared_total(&ram) + shared_total(&cache) == 2);
    return 0;
}

static void a_pool_of_huge_pages_keeps_it(void **unused)
{
    (void)unused;
    int status = in_child(neighbour_cannot_take_it, NULL);
    if (status == CANNOT) {
        skip_because("no hugetlbfs of 4 MiB can be mounted here (vm.nr_hugepages), or there are "
                     "more than 64 huge pages");
    }
    assert_int_equal(status, 0);
}

/* Instead of making holes, mapping the page elsewhere keeps the total to the page; but
 * the other process still has it where it was, and writes into what is another's now. */
static void mapping_elsewhere_is_ours_alone(void **state)
{
    bool huge = is_huge(state);
    struct shared ram;
    struct backend backend;
    open_memory(&ram, huge, MISSING);
    backend_start(&backend, &ram, false);
    assert_int_equal(shared_populate(&ram, 0, NULL), 0);
    assert_true(file_holds_zeros(&ram, 0));
    /* Page 0 of the guest gives its page to page 1 of the guest. */
    assert_ptr_not_equal(mmap(shared_page(&ram, 1), ram.page_bytes, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_FIXED, ram.fd, 0),
                         MAP_FAILED);
    void *gone = mmap(shared_page(&ram, 0), ram.page_bytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    assert_ptr_not_equal(gone, MAP_FAILED);
    assert_int_equal(shared_total(&ram), 1);
    backend_write(&backend, 0, SEED);
    assert_true(page_holds(shared_page(&ram, 1), SEED));
    backend_stop(&backend);
    shared_close(&ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BOTH(cannot_be_moved),
        WITH_BOTH(others_populate_unasked),
        WITH_BOTH(populating_takes_two_steps),
        cmocka_unit_test(between_two_steps_the_page_is_anybodys),
        cmocka_unit_test(a_pool_of_huge_pages_keeps_it),
        WITH_BOTH(mapping_elsewhere_is_ours_alone),
    };
    return fixture_available() ? cmocka_run_group_tests_name("host_shared_total", tests, NULL, NULL)
                               : 77;
}
