/* SPDX-License-Identifier: MIT */
/*
 * Which references of the kernel's to a page of guest RAM a move sees, on the
 * kernel that runs: docs/references.md. Each is held while we try: the kernel is
 * in the middle of a system call that needs a second page, which we keep back
 * (halfway.h), or holds it for longer by itself.
 */
#include "halfway.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#define SEED HALFWAY_SEED

/* Guest RAM of one superpage, whole or of single pages, all zero. */
static void open_ram(struct fixture *f, bool whole)
{
    fixture_open(f, SUPERPAGE_PAGES, 3 * SUPERPAGE_PAGES);
    must_allocate(f, cfn(0), SUPERPAGE_PAGES);
    if (whole) {
        must_place(f, cfn(0), gfn(0), SUPERPAGE_PAGES);
    } else {
        for (pages_t page = 0; page < SUPERPAGE_PAGES; page++) {
            must_place(f, cfn(page), gfn(page), 1);
        }
    }
}

static int take(struct fixture *f, gfn_t from, cfn_t to, pages_t pages, pages_t *moved)
{
    int err = linux_host_ops.take(&f->host, from, to, pages, moved);
    for (int tries = 0; err == -EAGAIN && tries < 1000; tries++) {
        clock_sleep_ns(1000000);
        err = linux_host_ops.take(&f->host, from, to, pages, moved);
    }
    return err;
}

/* The page that is held stays, alone and with its superpage; its neighbour goes. */
static void assert_held(struct fixture *f, gfn_t at)
{
    pages_t moved = 7;
    cfn_t room = cfn(SUPERPAGE_PAGES);
    if (ram_huge(f) != 0) {
        assert_int_equal(take(f, gfn(0), room, SUPERPAGE_PAGES, &moved), -EBUSY);
        assert_int_equal(moved, 0);
    }
    assert_int_equal(take(f, at, room, 1, &moved), -EBUSY);
    assert_int_equal(moved, 0);
    assert_resident(f, SUPERPAGE_PAGES, 0);
}

static void assert_free(struct fixture *f, gfn_t at)
{
    pages_t moved = 0;
    cfn_t room = cfn(SUPERPAGE_PAGES);
    assert_int_equal(take(f, at, room, 1, &moved), 0);
    must_place(f, room, at, 1);
    assert_resident(f, SUPERPAGE_PAGES, 0);
}

/* A system call in a thread of its own. */
struct call {
    struct fixture *f;
    struct trap trap;
    int fd;
    ssize_t result;
    gfn_t at;
};

static void *other_process_writes(void *argument)
{
    struct call *call = argument;
    struct iovec from = {(void *)call->trap.page.a, PAGE_BYTES};
    struct iovec to = {ram_page(call->f, call->at), PAGE_BYTES};
    call->result = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
    return NULL;
}

static void *direct_read(void *argument)
{
    struct call *call = argument;
    struct iovec to[] = {{ram_page(call->f, call->at), PAGE_BYTES},
                         {(void *)call->trap.page.a, PAGE_BYTES}};
    call->result = preadv(call->fd, to, 2, 0);
    return NULL;
}

/* Tries to move what a call holds while it is held, and finds what it wrote. */
static void hold_and_try(void *(*function)(void *), int fd, ssize_t expected, bool whole)
{
    struct fixture f;
    struct call call = {.f = &f, .fd = fd, .at = gfn(5)};
    pthread_t thread;
    open_ram(&f, whole);
    trap_set(&call.trap);
    assert_int_equal(pthread_create(&thread, NULL, function, &call), 0);
    trap_wait(&call.trap);
    assert_held(&f, call.at);
    trap_release(&call.trap);
    pthread_join(thread, NULL);
    assert_int_equal(call.result, expected);
    assert_true(page_holds(ram_page(&f, call.at), SEED));
    assert_free(&f, call.at);
    assert_true(page_holds(ram_page(&f, call.at), SEED));
    trap_remove(&call.trap);
    fixture_close(&f);
}

static void process_vm_writev_is_seen(void **unused)
{
    (void)unused;
    hold_and_try(other_process_writes, -1, PAGE_BYTES, false);
    hold_and_try(other_process_writes, -1, PAGE_BYTES, true);
}

static void direct_read_is_seen(void **unused)
{
    (void)unused;
    int fd = open_direct();
    if (fd < 0) {
        print_message("  skipped: /var/tmp has no O_DIRECT\n");
        skip();
    }
    hold_and_try(direct_read, fd, 2 * PAGE_BYTES, false);
    hold_and_try(direct_read, fd, 2 * PAGE_BYTES, true);
    close(fd);
}

static void registered_buffer_is_seen(void **unused)
{
    (void)unused;
#ifdef HAVE_LIBURING
    for (int whole = 0; whole < 2; whole++) {
        struct fixture f;
        struct io_uring ring;
        open_ram(&f, whole);
        struct iovec buffer = {ram_page(&f, gfn(5)), PAGE_BYTES};
        if (io_uring_queue_init(1, &ring, 0) != 0 ||
            io_uring_register_buffers(&ring, &buffer, 1) != 0) {
            print_message("  skipped: no io_uring, or no buffers of it\n");
            skip();
        }
        assert_held(&f, gfn(5));
        assert_held(&f, gfn(5)); /* for as long as it is registered */
        assert_int_equal(io_uring_unregister_buffers(&ring), 0);
        io_uring_queue_exit(&ring);
        pages_t moved = 0;
        int tries = 0;
        while (take(&f, gfn(5), cfn(SUPERPAGE_PAGES), 1, &moved) == -EBUSY && tries++ < 10000) {
            clock_sleep_ns(1000000); /* the kernel may let go of it a little later */
        }
        assert_int_equal(moved, 1);
        fixture_close(&f);
    }
#else
    print_message("  skipped: built without liburing\n");
    skip();
#endif
}

/* A plain reference is not seen: the page goes, and who holds on to it goes on to
 * use it where it is then. What this means for a write is that it would be found
 * in the cache; so Ballast refuses what writes so, and a page that holds anything
 * but zeros goes back to where it was, the same page, before anybody sees. */
static void plain_reference_is_not_seen(void **unused)
{
    (void)unused;
    struct fixture f;
    int ends[2];
    uint64_t got[PAGE_BYTES / sizeof(uint64_t)];
    pages_t moved = 0;
    open_ram(&f, false);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct iovec page = {ram_page(&f, gfn(5)), PAGE_BYTES};
    assert_int_equal(vmsplice(ends[1], &page, 1, 0), PAGE_BYTES);
    int err = take(&f, gfn(5), cfn(SUPERPAGE_PAGES), 1, &moved);
    if (err == -EBUSY) {
        print_message("  this kernel sees vmsplice's references: docs/references.md says not\n");
    }
    assert_int_equal(err, 0);
    page_fill(cache_page(&f, cfn(SUPERPAGE_PAGES)), SEED);
    assert_int_equal(read(ends[0], got, PAGE_BYTES), PAGE_BYTES);
    assert_true(page_holds(got, SEED));

    /* The same, of a page that is placed back. */
    must_place(&f, cfn(SUPERPAGE_PAGES), gfn(5), 1);
    assert_int_equal(vmsplice(ends[1], &page, 1, 0), PAGE_BYTES);
    assert_free(&f, gfn(5));
    page_fill(ram_page(&f, gfn(5)), SEED + 1);
    assert_int_equal(read(ends[0], got, PAGE_BYTES), PAGE_BYTES);
    assert_true(page_holds(got, SEED + 1));
    close(ends[0]);
    close(ends[1]);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(process_vm_writev_is_seen),
        cmocka_unit_test(direct_read_is_seen),
        cmocka_unit_test(registered_buffer_is_seen),
        cmocka_unit_test(plain_reference_is_not_seen),
    };
    return fixture_available() ? cmocka_run_group_tests_name("host_references", tests, NULL, NULL)
                               : 77;
}
