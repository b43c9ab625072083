/* SPDX-License-Identifier: MIT */
/* Writers that have the kernel write to guest RAM through io_uring: several reads
 * at a time, with and without O_DIRECT, and into registered buffers, which are
 * pinned as long as they are registered. */
#include "torture.h"

#ifdef HAVE_LIBURING

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define DEPTH 16u
/* Pages that are registered at a time, and reads into each before others are. */
#define BUFFERS          32u
#define READS_PER_BUFFER 16u

struct ring {
    struct io_uring uring;
    size_t pages[BUFFERS]; /* registered */
    size_t reads;
};

/* Has a ring, from the first call on. */
static struct ring *ring_of(struct torture_writer *writer)
{
    if (writer->own == NULL) {
        struct ring *ring = calloc(1, sizeof(*ring));
        torture_must(ring != NULL, "memory");
        if (io_uring_queue_init(DEPTH, &ring->uring, 0) != 0) {
            writer->lacks = "the kernel gives us no io_uring";
            free(ring);
            return NULL;
        }
        writer->own = ring;
    }
    return writer->own;
}

static bool is_among(const size_t *chosen, size_t count, size_t page)
{
    for (size_t i = 0; i < count; i++) {
        if (chosen[i] == page) {
            return true;
        }
    }
    return false;
}

static size_t pick_another(struct torture_writer *writer, const size_t *chosen, size_t count)
{
    size_t page;
    do {
        page = torture_pick(writer);
    } while (is_among(chosen, count, page));
    return page;
}

static void complete(struct ring *ring, unsigned count)
{
    for (unsigned submitted = 0; submitted < count;) {
        int more = io_uring_submit(&ring->uring);
        errno = more < 0 ? -more : 0;
        torture_must(more > 0 || more == -EINTR, "io_uring_submit");
        submitted += more > 0 ? (unsigned)more : 0;
    }
    for (unsigned i = 0; i < count; i++) {
        struct io_uring_cqe *done;
        int err;
        do { /* a process that is stopped is interrupted */
            err = io_uring_wait_cqe(&ring->uring, &done);
        } while (err == -EINTR);
        errno = -err;
        torture_must(err == 0, "io_uring_wait_cqe");
        errno = done->res < 0 ? -done->res : 0;
        torture_must(done->res == (int)TORTURE_PAGE, "a read by io_uring");
        io_uring_cqe_seen(&ring->uring, done);
    }
}

/* Room is made by stores: these pages are zero by the time they are read into. */
static void clear(struct torture_writer *writer, size_t page)
{
    memset(torture_at(page), 0, TORTURE_PAGE);
    torture_wrote(writer, page, 0);
}

static bool read_batch(struct torture_writer *writer, int fd)
{
    struct ring *ring = ring_of(writer);
    size_t chosen[DEPTH], offsets[DEPTH];
    if (ring == NULL) {
        return false;
    }
    if (!torture_has_room(writer, DEPTH)) {
        size_t page = torture_pick(writer);
        torture_find(writer, page);
        clear(writer, page);
        return true;
    }
    for (unsigned i = 0; i < DEPTH; i++) {
        chosen[i] = pick_another(writer, chosen, i);
        offsets[i] = torture_draw(writer, TORTURE_FILE_PAGES);
        torture_find(writer, chosen[i]);
        struct io_uring_sqe *request = io_uring_get_sqe(&ring->uring);
        io_uring_prep_read(request, fd, torture_at(chosen[i]), (unsigned)TORTURE_PAGE,
                           offsets[i] * TORTURE_PAGE);
        if (torture_draw(writer, 4) == 0) {
            request->flags |= IOSQE_ASYNC; /* by a thread of the kernel's */
        }
    }
    complete(ring, DEPTH);
    for (unsigned i = 0; i < DEPTH; i++) {
        torture_wrote(writer, chosen[i], torture_file_seed(offsets[i]));
        if (torture_draw(writer, 2)) {
            torture_find(writer, chosen[i]);
        }
    }
    return true;
}

static bool write_by_uring(struct torture_writer *writer)
{
    return read_batch(writer, torture_file);
}

static bool write_by_direct_uring(struct torture_writer *writer)
{
    if (torture_direct_file < 0) {
        writer->lacks = "the file system has no O_DIRECT";
        return false;
    }
    return read_batch(writer, torture_direct_file);
}

/* Other pages than before: half of them zero when they are pinned, and until they
 * are read into, so that sweeps meet them. */
static bool register_buffers(struct torture_writer *writer, struct ring *ring)
{
    struct iovec buffers[BUFFERS];
    if (ring->reads != 0) {
        torture_must(io_uring_unregister_buffers(&ring->uring) == 0, "unregistering buffers");
    }
    for (unsigned i = 0; i < BUFFERS; i++) {
        size_t page = pick_another(writer, ring->pages, i);
        ring->pages[i] = page;
        torture_find(writer, page);
        if (torture_draw(writer, 2) || !torture_has_room(writer, BUFFERS)) {
            clear(writer, page);
        }
        buffers[i] = (struct iovec){torture_at(page), TORTURE_PAGE};
    }
    if (io_uring_register_buffers(&ring->uring, buffers, BUFFERS) != 0) {
        writer->lacks = "no buffers may be registered (ulimit -l)";
        return false;
    }
    return true;
}

static bool write_by_registered_buffers(struct torture_writer *writer)
{
    struct ring *ring = ring_of(writer);
    int fd = torture_direct_file < 0 ? torture_file : torture_direct_file;
    size_t offsets[DEPTH];
    if (ring == NULL ||
        (ring->reads % (READS_PER_BUFFER * BUFFERS) == 0 && !register_buffers(writer, ring))) {
        return false;
    }
    unsigned first = (unsigned)(ring->reads % BUFFERS);
    bool room = torture_has_room(writer, DEPTH);
    for (unsigned i = 0; i < DEPTH; i++) {
        size_t page = ring->pages[first + i];
        torture_find(writer, page);
        offsets[i] = room ? torture_draw(writer, TORTURE_FILE_PAGES) : 0;
        io_uring_prep_read_fixed(io_uring_get_sqe(&ring->uring), fd, torture_at(page),
                                 (unsigned)TORTURE_PAGE, offsets[i] * TORTURE_PAGE,
                                 (int)(first + i));
    }
    complete(ring, DEPTH);
    for (unsigned i = 0; i < DEPTH; i++) {
        torture_wrote(writer, ring->pages[first + i], torture_file_seed(offsets[i]));
    }
    ring->reads += DEPTH;
    return true;
}

static void end_ring(struct torture_writer *writer)
{
    struct ring *ring = writer->own;
    io_uring_queue_exit(&ring->uring);
}

const struct torture_writer torture_uring_writers[] = {
    {.name = "io_uring", .write = write_by_uring, .end = end_ring},
    {.name = "io_uring, O_DIRECT", .write = write_by_direct_uring, .end = end_ring},
    {.name = "io_uring, registered buffers", .write = write_by_registered_buffers, .end = end_ring},
};

#else

static bool cannot(struct torture_writer *writer)
{
    writer->lacks = "built without liburing";
    return false;
}

const struct torture_writer torture_uring_writers[] = {{.name = "io_uring", .write = cannot}};

#endif

const size_t torture_uring_writer_count =
    sizeof(torture_uring_writers) / sizeof(torture_uring_writers[0]);
