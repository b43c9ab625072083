/* SPDX-License-Identifier: MIT */
/*
 * No write is ever lost: threads own pieces of "guest RAM" that is larger than
 * its domain, write and zero them in every way a guest or its devices may, and
 * know what each must hold; meanwhile zero pages are swept away under them,
 * pages are discarded, and the process forks.
 *
 * A page is four pieces, each of another thread, so that one thread's zeros and
 * another's writes meet in one page; every fourth page is one thread's alone,
 * for what is done to whole pages. A piece is zero, or filled from a seed.
 *
 * BALLAST_LOST_WRITES_SECONDS: how long at least; 3 if it is not set.
 */
#include "fixture.h"

#include "base/clock.h"
#include "engine/reclaim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS      4
#define PIECES       4
#define PIECE_WORDS  (PAGE_BYTES / PIECES / sizeof(uint64_t))
#define MAX_PAGES    (32 * SUPERPAGE_PAGES)
#define TARGET_PAGES (8 * SUPERPAGE_PAGES + 100)
/* Pieces that one thread keeps filled at most: should each be in a page of its
 * own, a sixth of the target still has nothing in it. */
#define FILLED_MAX (TARGET_PAGES / THREADS * 5 / 6)
#define FILE_PAGES 64
#define FILE_SEED  UINT64_C(0xf11e)

static struct fixture f;
static uint64_t seeds[MAX_PAGES][PIECES]; /* 0: zero. Each is its owner's alone */
static int file_fd = -1, direct_fd = -1;
static atomic_bool finished;
static atomic_uint_fast64_t operations, direct_reads, forks;

static unsigned owner(pages_t page, unsigned piece)
{
    return (unsigned)(page % 4 == 3 ? page / 4 : page + piece) % THREADS;
}

static uint64_t *piece_at(pages_t page, unsigned piece)
{
    return (uint64_t *)ram_page(&f, gfn(page)) + piece * PIECE_WORDS;
}

static uint64_t word_of(uint64_t seed, size_t i)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xbf58476d1ce4e5b9);
    return seed == 0 ? 0 : (x ^ x >> 29) | 1;
}

__attribute__((noreturn)) static void lost(pages_t page, unsigned piece, size_t word,
                                           uint64_t found)
{
    fprintf(stderr,
            "lost write: page %" PRIu64 ", piece %u, word %zu: 0x%" PRIx64 " instead of 0x%" PRIx64
            " (seed %" PRIu64 ")\n",
            page, piece, word, found, word_of(seeds[page][piece], word), seeds[page][piece]);
    _exit(1);
}

static void check_piece(pages_t page, unsigned piece)
{
    const uint64_t *words = piece_at(page, piece);
    for (size_t i = 0; i < PIECE_WORDS; i++) {
        uint64_t found = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
        if (found != word_of(seeds[page][piece], i)) {
            lost(page, piece, i, found);
        }
    }
}

static const uint64_t all_zero[PIECES];

struct writer {
    unsigned number;
    uint64_t state, next_seed;
    pages_t filled; /* pieces that are not zero */
};

static uint64_t draw(struct writer *writer, uint64_t below)
{
    writer->state ^= writer->state << 13;
    writer->state ^= writer->state >> 7;
    writer->state ^= writer->state << 17;
    return writer->state % below;
}

/* The words of a piece change one after the other, in one of two directions:
 * a sweep may see any of them first. */
static void set_piece(struct writer *writer, pages_t page, unsigned piece, uint64_t seed)
{
    uint64_t *words = piece_at(page, piece);
    bool down = draw(writer, 2);
    writer->filled += (seed != 0) - (seeds[page][piece] != 0);
    for (size_t i = 0; i < PIECE_WORDS; i++) {
        size_t at = down ? PIECE_WORDS - 1 - i : i;
        __atomic_store_n(&words[at], word_of(seed, at), __ATOMIC_RELAXED);
    }
    seeds[page][piece] = seed;
}

/* A page whose contents the kernel changed as a whole. */
static void now_holds(struct writer *writer, pages_t page, const uint64_t page_seeds[PIECES])
{
    for (unsigned piece = 0; piece < PIECES; piece++) {
        writer->filled += (page_seeds[piece] != 0) - (seeds[page][piece] != 0);
        seeds[page][piece] = page_seeds[piece];
        check_piece(page, piece);
    }
}

static void read_file(struct writer *writer, pages_t page)
{
    uint64_t at = draw(writer, FILE_PAGES), page_seeds[PIECES];
    bool direct = direct_fd >= 0 && draw(writer, 2);
    for (unsigned piece = 0; piece < PIECES; piece++) {
        page_seeds[piece] = FILE_SEED + at * PIECES + piece;
    }
    ssize_t got = pread(direct ? direct_fd : file_fd, ram_page(&f, gfn(page)), PAGE_BYTES,
                        (off_t)pages_to_bytes(at));
    if (got != (ssize_t)PAGE_BYTES) {
        fprintf(stderr, "reading a file into guest RAM: %zd, %s\n", got, strerror(errno));
        _exit(1);
    }
    atomic_fetch_add(&direct_reads, direct);
    now_holds(writer, page, page_seeds);
}

/* The kernel reads guest RAM, and so does whoever gets it. */
static void write_out(int pipe_fds[2], pages_t page)
{
    uint64_t copy[PIECES][PIECE_WORDS];
    if (write(pipe_fds[1], ram_page(&f, gfn(page)), PAGE_BYTES) != (ssize_t)PAGE_BYTES ||
        read(pipe_fds[0], copy, PAGE_BYTES) != (ssize_t)PAGE_BYTES) {
        perror("writing guest RAM out");
        _exit(1);
    }
    for (unsigned piece = 0; piece < PIECES; piece++) {
        for (size_t i = 0; i < PIECE_WORDS; i++) {
            if (copy[piece][i] != word_of(seeds[page][piece], i)) {
                lost(page, piece, i, copy[piece][i]);
            }
        }
    }
}

static void discard(struct writer *writer, pages_t page)
{
    lock_acquire(&f.lock);
    int err = domain_discard(&f.domain, gfn(page), 1);
    lock_release(&f.lock);
    if (err != 0) {
        fprintf(stderr, "discard: %s\n", strerror(-err));
        _exit(1);
    }
    now_holds(writer, page, all_zero);
}

static void whole_page(struct writer *writer, int pipe_fds[2])
{
    pages_t page = (draw(writer, MAX_PAGES / 16) * THREADS + writer->number) * 4 + 3;
    bool room = writer->filled + PIECES <= FILLED_MAX;
    unsigned what = (unsigned)draw(writer, 4);
    if (what == 0 && room) {
        read_file(writer, page);
    } else if (what <= 1) {
        discard(writer, page);
    } else if (what == 2) {
        write_out(pipe_fds, page);
    } else {
        memset(ram_page(&f, gfn(page)), 0, PAGE_BYTES);
        now_holds(writer, page, all_zero);
    }
}

static void *write_and_check(void *argument)
{
    struct writer *writer = argument;
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        _exit(1);
    }
    while (!atomic_load(&finished)) {
        if (draw(writer, 16) == 0) {
            whole_page(writer, pipe_fds);
        } else {
            pages_t page = draw(writer, MAX_PAGES);
            unsigned piece = (unsigned)draw(writer, PIECES);
            if (owner(page, piece) != writer->number) {
                continue;
            }
            check_piece(page, piece);
            bool fill = writer->filled < FILLED_MAX && draw(writer, 3) != 0;
            if (fill || seeds[page][piece] != 0) {
                set_piece(writer, page, piece,
                          fill ? ++writer->next_seed * THREADS + writer->number : 0);
            }
        }
        atomic_fetch_add(&operations, 1);
    }
    for (pages_t page = 0; page < MAX_PAGES; page++) {
        for (unsigned piece = 0; piece < PIECES; piece++) {
            if (owner(page, piece) == writer->number) {
                check_piece(page, piece);
            }
        }
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return NULL;
}

/* While nobody can move a page, the kernel's books must show the target. */
static void check_books(void)
{
    const char *broken = domain_check(&f.domain);
    pages_t resident = ram_resident(&f) + cache_resident(&f);
    if (broken != NULL || resident != TARGET_PAGES) {
        fprintf(stderr, "%s; %" PRIu64 " pages are resident, the target is %" PRIu64 "\n",
                broken != NULL ? broken : "the equations hold", resident, (pages_t)TARGET_PAGES);
        _exit(1);
    }
}

static void *sweep(void *unused)
{
    (void)unused;
    for (unsigned round = 0; !atomic_load(&finished); round++) {
        lock_acquire(&f.lock);
        int err = round % 2 == 0 ? reclaim_sweep(&f.domain) : reclaim_eager(&f.domain);
        if (round % 64 == 0) {
            check_books();
        }
        lock_release(&f.lock);
        if (err != 0) {
            fprintf(stderr, "sweep: %s\n", strerror(-err));
            _exit(1);
        }
        clock_sleep_ns(200000);
    }
    return NULL;
}

static void *fork_now_and_then(void *unused)
{
    (void)unused;
    while (!atomic_load(&finished)) {
        pid_t child = fork();
        if (child == 0) {
            clock_sleep_ns(3000000);
            _exit(0);
        }
        if (child > 0) {
            waitpid(child, NULL, 0);
            atomic_fetch_add(&forks, 1);
        }
        clock_sleep_ns(20000000);
    }
    return NULL;
}

/* A file of known contents, opened twice if its file system can O_DIRECT. */
static void make_file(void)
{
    char path[] = "lost-writes-XXXXXX";
    uint64_t words[PIECES][PIECE_WORDS];
    file_fd = mkostemp(path, O_CLOEXEC);
    assert_true(file_fd >= 0);
    for (uint64_t page = 0; page < FILE_PAGES; page++) {
        for (unsigned piece = 0; piece < PIECES; piece++) {
            for (size_t i = 0; i < PIECE_WORDS; i++) {
                words[piece][i] = word_of(FILE_SEED + page * PIECES + piece, i);
            }
        }
        assert_int_equal(write(file_fd, words, sizeof(words)), sizeof(words));
    }
    assert_int_equal(fsync(file_fd), 0);
    direct_fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    void *page = aligned_alloc(PAGE_BYTES, PAGE_BYTES);
    if (direct_fd >= 0 && pread(direct_fd, page, PAGE_BYTES, 0) != (ssize_t)PAGE_BYTES) {
        close(direct_fd);
        direct_fd = -1;
    }
    free(page);
    unlink(path);
    if (direct_fd < 0) {
        print_message("this file system has no O_DIRECT: without it\n");
    }
}

/* Everything that could go wrong has had its chance. */
static bool has_seen_enough(void)
{
    lock_acquire(&f.lock);
    const struct domain_counters *c = &f.domain.counters;
    bool enough = c->populated_4k != 0 && c->reclaimed_4k != 0 && c->false_zeros != 0 &&
                  c->discarded_pages != 0 && c->sweeps != 0;
    lock_release(&f.lock);
    return enough && atomic_load(&forks) != 0 && (direct_fd < 0 || atomic_load(&direct_reads) != 0);
}

static void no_write_is_lost(void **unused)
{
    (void)unused;
    const char *wanted = getenv("BALLAST_LOST_WRITES_SECONDS");
    uint64_t seconds = wanted != NULL ? strtoull(wanted, NULL, 10) : 3;
    struct writer writers[THREADS];
    pthread_t threads[THREADS + 2];
    make_file();
    fixture_build(&f, MAX_PAGES, TARGET_PAGES);
    assert_resident(&f, 0, TARGET_PAGES);

    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.number = i, .state = UINT64_C(88172645463325252) + i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_check, &writers[i]), 0);
    }
    assert_int_equal(pthread_create(&threads[THREADS], NULL, sweep, NULL), 0);
    assert_int_equal(pthread_create(&threads[THREADS + 1], NULL, fork_now_and_then, NULL), 0);
    uint64_t end_ns = clock_now_ns() + seconds * UINT64_C(1000000000);
    while (clock_now_ns() < end_ns || !has_seen_enough()) {
        clock_sleep_ns(50000000);
    }
    atomic_store(&finished, true);
    for (unsigned i = 0; i < THREADS + 2; i++) {
        pthread_join(threads[i], NULL);
    }

    lock_acquire(&f.lock);
    const struct domain_counters *c = &f.domain.counters;
    print_message("%" PRIuFAST64 " operations, %" PRIuFAST64 " with O_DIRECT, %" PRIuFAST64
                  " forks; %" PRIu64 " faults, placed %" PRIu64 "+%" PRIu64 ", reclaimed %" PRIu64
                  "+%" PRIu64 ", discarded %" PRIu64 ", false zeros %" PRIu64 ", busy %" PRIu64
                  ", sweeps %" PRIu64 ", adopted %" PRIu64 "\n",
                  atomic_load(&operations), atomic_load(&direct_reads), atomic_load(&forks),
                  c->faults, c->populated_2m, c->populated_4k, c->reclaimed_2m, c->reclaimed_4k,
                  c->discarded_pages, c->false_zeros, c->busy_skips, c->sweeps, c->adopted_pages);
    assert_int_equal(c->adopted_pages, 0); /* nothing but the engine puts pages there */
    check_books();
    lock_release(&f.lock);
    fixture_destroy(&f);
    close(file_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_write_is_lost)};
    return fixture_available() ? cmocka_run_group_tests_name("host_lost_writes", tests, NULL, NULL)
                               : 77;
}
