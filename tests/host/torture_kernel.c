/* SPDX-License-Identifier: MIT */
/* Writers that have the kernel write to guest RAM, by one system call each. */
#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEGMENTS  ((size_t)8)
#define AIO_DEPTH ((size_t)16)

/* Some of its own pages, all different, found to hold what they must, in order. */
static size_t pick_pages(struct torture_writer *writer, size_t *chosen, size_t most)
{
    size_t count = 1 + torture_draw(writer, most);
    for (size_t i = 0; i < count;) {
        size_t page = torture_pick(writer), before = 0;
        while (before < i && chosen[before] != page) {
            before++;
        }
        if (before == i) {
            torture_find(writer, page);
            chosen[i++] = page;
        }
    }
    return count;
}

/* What has no room for more that is not zero makes room. */
static bool make_room(struct torture_writer *writer)
{
    size_t page = torture_pick(writer);
    if (torture_has_room(writer, AIO_DEPTH)) {
        return true;
    }
    torture_find(writer, page);
    memset(torture_at(page), 0, TORTURE_PAGE);
    torture_wrote(writer, page, 0);
    return false;
}

/* A place in the file for so many pages in a row. */
static size_t draw_offset(struct torture_writer *writer, size_t count)
{
    return torture_draw(writer, TORTURE_FILE_PAGES - count + 1);
}

/* The pages that were read from the file, and each found at once: how long such a
 * page stays as it is is seen later, when it is found again before the next write. */
static void were_read(struct torture_writer *writer, const size_t *chosen, size_t count,
                      size_t offset)
{
    for (size_t i = 0; i < count; i++) {
        torture_wrote(writer, chosen[i], torture_file_seed(offset + i));
    }
    if (torture_draw(writer, 2)) {
        for (size_t i = 0; i < count; i++) {
            torture_find(writer, chosen[i]);
        }
    }
}

/* Pages from all over guest RAM in one call, as a disk's request has them. */
static void read_file(struct torture_writer *writer, int fd)
{
    size_t chosen[SEGMENTS];
    struct iovec segments[SEGMENTS];
    if (!make_room(writer)) {
        return;
    }
    size_t count = pick_pages(writer, chosen, SEGMENTS), offset = draw_offset(writer, count);
    for (size_t i = 0; i < count; i++) {
        segments[i] = (struct iovec){torture_at(chosen[i]), TORTURE_PAGE};
    }
    torture_must(preadv(fd, segments, (int)count, (off_t)(offset * TORTURE_PAGE)) ==
                     (ssize_t)(count * TORTURE_PAGE),
                 "preadv");
    were_read(writer, chosen, count, offset);
}

static bool write_by_read(struct torture_writer *writer)
{
    read_file(writer, torture_file);
    return true;
}

static bool write_by_direct_read(struct torture_writer *writer)
{
    if (torture_direct_file < 0) {
        writer->lacks = "the file system has no O_DIRECT";
        return false;
    }
    read_file(writer, torture_direct_file);
    return true;
}

/* Linux AIO, several reads at a time. */
static void submit_and_wait(aio_context_t context, struct iocb *blocks, size_t count)
{
    struct iocb *pointers[AIO_DEPTH];
    struct io_event events[AIO_DEPTH];
    for (size_t i = 0; i < count; i++) {
        pointers[i] = &blocks[i];
    }
    for (size_t sent = 0; sent < count;) {
        long taken = syscall(SYS_io_submit, context, count - sent, pointers + sent);
        torture_must(taken > 0, "io_submit");
        sent += (size_t)taken;
    }
    for (size_t got = 0; got < count;) { /* a process that is stopped is interrupted */
        long more = syscall(SYS_io_getevents, context, 1, count - got, events + got, NULL);
        torture_must(more > 0 || errno == EINTR, "io_getevents");
        got += more > 0 ? (size_t)more : 0;
    }
    for (size_t i = 0; i < count; i++) {
        errno = (int)-events[i].res;
        torture_must(events[i].res == (long long)TORTURE_PAGE, "a read by AIO");
    }
}

static bool write_by_aio(struct torture_writer *writer)
{
    aio_context_t *context = writer->own;
    size_t chosen[AIO_DEPTH];
    struct iocb blocks[AIO_DEPTH];
    if (torture_direct_file < 0) {
        writer->lacks = "the file system has no O_DIRECT";
        return false;
    }
    if (context == NULL) {
        writer->own = context = calloc(1, sizeof(*context));
        if (syscall(SYS_io_setup, AIO_DEPTH, context) != 0) {
            writer->lacks = "the kernel has no AIO";
            return false;
        }
    }
    if (!make_room(writer)) {
        return true;
    }
    size_t count = pick_pages(writer, chosen, AIO_DEPTH), offset = draw_offset(writer, count);
    memset(blocks, 0, sizeof(blocks));
    for (size_t i = 0; i < count; i++) {
        blocks[i].aio_lio_opcode = IOCB_CMD_PREAD;
        blocks[i].aio_fildes = (uint32_t)torture_direct_file;
        blocks[i].aio_buf = (uintptr_t)torture_at(chosen[i]);
        blocks[i].aio_nbytes = TORTURE_PAGE;
        blocks[i].aio_offset = (long long)((offset + i) * TORTURE_PAGE);
    }
    submit_and_wait(*context, blocks, count);
    were_read(writer, chosen, count, offset);
    return true;
}

/* Through a pipe or a socket: the kernel copies to guest RAM when it is read. Of
 * a page that is not zero the kernel also reads what is there now. */
static void pass_through(struct torture_writer *writer, const int ends[2], bool recv_it)
{
    uint64_t content[TORTURE_WORDS];
    size_t page = torture_pick(writer);
    torture_find(writer, page);
    ssize_t sent = write(ends[1], torture_at(page), TORTURE_PAGE);
    ssize_t got = recv(ends[0], content, TORTURE_PAGE, MSG_WAITALL);
    if (got < 0 && errno == ENOTSOCK) {
        got = read(ends[0], content, TORTURE_PAGE);
    }
    torture_must(sent == (ssize_t)TORTURE_PAGE && got == (ssize_t)TORTURE_PAGE &&
                     memcmp(content, torture_at(page), TORTURE_PAGE) == 0,
                 "the kernel read something else than is there");

    uint64_t seed = torture_new_seed(writer);
    torture_content(content, seed);
    torture_must(write(ends[1], content, TORTURE_PAGE) == (ssize_t)TORTURE_PAGE, "write");
    got = recv_it ? recv(ends[0], torture_at(page), TORTURE_PAGE, MSG_WAITALL)
                  : read(ends[0], torture_at(page), TORTURE_PAGE);
    torture_must(got == (ssize_t)TORTURE_PAGE, "reading it back");
    torture_wrote(writer, page, seed);
}

static bool write_by_pipe(struct torture_writer *writer)
{
    if (writer->own == NULL) {
        writer->own = calloc(2, sizeof(int));
        torture_must(writer->own != NULL && pipe2(writer->own, O_CLOEXEC) == 0, "pipe");
    }
    pass_through(writer, writer->own, false);
    return true;
}

static bool write_by_socket(struct torture_writer *writer)
{
    if (writer->own == NULL) {
        writer->own = calloc(2, sizeof(int));
        torture_must(writer->own != NULL &&
                         socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, writer->own) == 0,
                     "socketpair");
    }
    pass_through(writer, writer->own, true);
    return true;
}

/* What the other process is asked to write, and where. */
struct order {
    char *at[SEGMENTS];
    uint64_t seeds[SEGMENTS];
    size_t count;
};

/* The other process: writes what it is told, and answers with errno or 0. */
__attribute__((noreturn)) static void write_from_outside(int end, pid_t subject)
{
    static uint64_t contents[SEGMENTS][TORTURE_WORDS];
    struct order order;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(end, &order, sizeof(order)) == (ssize_t)sizeof(order)) {
        struct iovec here[SEGMENTS], there[SEGMENTS];
        for (size_t i = 0; i < order.count; i++) {
            torture_content(contents[i], order.seeds[i]);
            here[i] = (struct iovec){contents[i], TORTURE_PAGE};
            there[i] = (struct iovec){order.at[i], TORTURE_PAGE};
        }
        ssize_t wrote = process_vm_writev(subject, here, order.count, there, order.count, 0);
        int answer = wrote == (ssize_t)(order.count * TORTURE_PAGE) ? 0 : errno ? errno : EIO;
        if (write(end, &answer, sizeof(answer)) != (ssize_t)sizeof(answer)) {
            break;
        }
    }
    _exit(0);
}

static int *start_other_process(void)
{
    int ends[2], *own = calloc(1, sizeof(*own));
    pid_t subject = getpid();
    torture_must(own != NULL && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0,
                 "socketpair");
    pid_t child = fork();
    torture_must(child >= 0, "fork");
    if (child == 0) {
        close(ends[0]);
        write_from_outside(ends[1], subject);
    }
    close(ends[1]);
    *own = ends[0];
    return own;
}

static bool write_by_other_process(struct torture_writer *writer)
{
    struct order order = {0};
    size_t chosen[SEGMENTS];
    int answer = 0;
    if (writer->own == NULL) {
        writer->own = start_other_process();
    }
    int end = *(int *)writer->own;
    order.count = pick_pages(writer, chosen, SEGMENTS);
    bool room = torture_has_room(writer, SEGMENTS);
    for (size_t i = 0; i < order.count; i++) {
        order.at[i] = torture_at(chosen[i]);
        order.seeds[i] = room ? torture_new_seed(writer) : 0;
    }
    torture_must(write(end, &order, sizeof(order)) == (ssize_t)sizeof(order) &&
                     read(end, &answer, sizeof(answer)) == (ssize_t)sizeof(answer),
                 "the other process");
    if (answer == EPERM || answer == ENOSYS) {
        writer->lacks = "no permission for process_vm_writev";
        return false;
    }
    errno = answer;
    torture_must(answer == 0, "process_vm_writev");
    for (size_t i = 0; i < order.count; i++) {
        torture_wrote(writer, chosen[i], order.seeds[i]);
    }
    return true;
}

/* It ends when it has no more to read. */
static void end_other_process(struct torture_writer *writer)
{
    close(*(int *)writer->own);
}

const struct torture_writer torture_kernel_writers[] = {
    {.name = "read", .write = write_by_read},
    {.name = "read, O_DIRECT", .write = write_by_direct_read},
    {.name = "AIO, O_DIRECT", .write = write_by_aio},
    {.name = "pipe", .write = write_by_pipe},
    {.name = "socket", .write = write_by_socket},
    {.name = "process_vm_writev", .write = write_by_other_process, .end = end_other_process},
};
const size_t torture_kernel_writer_count =
    sizeof(torture_kernel_writers) / sizeof(torture_kernel_writers[0]);
