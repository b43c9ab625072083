/* SPDX-License-Identifier: MIT */
/*
 * Lost-write torture: writers own the pages of a guest's RAM between them, write
 * whole pages in every way in which a program and the kernel on its behalf can,
 * and hold each page against what was last written to it before they write it
 * anew. The agent, preloaded, does meanwhile what it does, and whoever started
 * us sets targets as fast as it can.
 *
 * A write counts when what it wrote was found there, in full, later on.
 *
 * What a page must hold follows from its seed: 0 stands for zeros, which may be
 * reclaimed at any time and must still read as zeros; the others for noise in
 * every word, or for zeros but for one word somewhere.
 */
#ifndef BALLAST_TESTS_HOST_TORTURE_H
#define BALLAST_TESTS_HOST_TORTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TORTURE_PAGE  ((size_t)4096)
#define TORTURE_WORDS (TORTURE_PAGE / sizeof(uint64_t))
/* Pages of the file that writers read from. */
#define TORTURE_FILE_PAGES ((size_t)512)

struct torture_writer {
    const char *name;
    /* Writes for a while and returns, again and again, until the end; false, with
     * `lacks` set, if it cannot write at all here. */
    bool (*write)(struct torture_writer *writer);
    void (*end)(struct torture_writer *writer); /* or NULL */
    const char *lacks;
    uint64_t random;
    size_t number;
    size_t filled;  /* its pages that are not zero */
    uint64_t words; /* written, and found */
    void *own;      /* what it keeps for itself */
};

/* A number below `below`. */
uint64_t torture_draw(struct torture_writer *writer, uint64_t below);

/* One of the writer's own pages, at random. */
size_t torture_pick(struct torture_writer *writer);

char *torture_at(size_t page);

/* What a page with this seed holds. */
void torture_content(uint64_t content[TORTURE_WORDS], uint64_t seed);

/* Holds an own page against what it must hold, and counts it as found. Ends the
 * process if it does not. */
void torture_find(struct torture_writer *writer, size_t page);

/* A seed to write there: zero more often as more pages are filled. */
uint64_t torture_new_seed(struct torture_writer *writer);

/* May so many more pages be filled? */
bool torture_has_room(const struct torture_writer *writer, size_t pages);

/* The page was written, and holds this now. */
void torture_wrote(struct torture_writer *writer, size_t page, uint64_t seed);

/* Its contents went without a write: it holds zeros, which count for nothing. */
void torture_dropped(struct torture_writer *writer, size_t page);

/* The file: page i of it holds this. The descriptors read it through the page
 * cache, and past it (-1 if its file system cannot). */
uint64_t torture_file_seed(size_t i);
extern int torture_file, torture_direct_file;

/* Ends the process with errno's text if a condition does not hold. */
void torture_must(bool condition, const char *what);

/* The writers by system calls, and by io_uring; torture_kernel.c, torture_uring.c. */
extern const struct torture_writer torture_kernel_writers[], torture_uring_writers[];
extern const size_t torture_kernel_writer_count, torture_uring_writer_count;

/* Runs the writers on these `bytes` of RAM, of which at most `most_pages` are ever
 * not zero, with a file in `folder`, until standard input has the line "end"; then
 * looks at every page once more. Each line, the last too, is answered by one with
 * a JSON object: words found by writer, and why those write nothing that cannot. */
void torture(char *ram, size_t bytes, size_t most_pages, uint64_t seed, const char *folder);

#endif
