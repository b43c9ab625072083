/* SPDX-License-Identifier: MIT */
/*
 * A program for the guest: reads and writes a disk past the guest's page cache, so
 * that the host's kernel or the disk itself writes right into the memory that is
 * checked here.
 *
 *   disk DEVICE MIB
 *
 * WORKERS processes have a part of the disk and of MIB MiB of memory each. What is
 * in a page of the disk follows from its number and its generation. Over and over a
 * worker takes some pages of its memory, holds them against what it last put there,
 * and then reads them from the disk, zeroes them, or fills them anew and writes
 * them to the disk. What they hold then is checked at once, and again the next time.
 *
 * Says now and then on its standard output
 *
 *   ballast-guest: intact worker WORKER: OPERATIONS operations, PAGES pages
 *
 * or, and ends then,
 *
 *   ballast-guest: DAMAGED page PAGE, word WORD: 0xIS, not 0xOUGHT
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE    ((size_t)4096)
#define WORDS   (PAGE / sizeof(uint64_t))
#define WORKERS 3
#define RUN_MAX ((size_t)32)
#define SAY     50 /* operations between two lines */

struct worker {
    int fd, number;
    uint64_t random;
    size_t first, disk_pages; /* of the disk: its own */
    size_t pages;             /* of memory */
    uint64_t *memory;
    uint64_t *holds;       /* what is in each page of memory: a seed, 0 for zeros */
    uint32_t *generations; /* of its pages of the disk */
};

static uint64_t mix(uint64_t value)
{
    value ^= value >> 33;
    value *= UINT64_C(0xff51afd7ed558ccd);
    value ^= value >> 33;
    value *= UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ value >> 33;
}

static size_t draw(struct worker *worker, size_t below)
{
    worker->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(worker->random) % below;
}

/* Some pages of the disk hold zeros, others zeros but for one word. */
static uint64_t seed_of(const struct worker *worker, size_t page)
{
    uint64_t seed = mix((worker->first + page) << 32 | worker->generations[page]);
    return seed % 8 == 0 ? 0 : seed;
}

static uint64_t word_of(uint64_t seed, size_t word)
{
    if (seed % 8 == 1) {
        return word == seed / 8 % WORDS ? seed : 0;
    }
    return seed == 0 ? 0 : (seed + word * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

static void check(const struct worker *worker, size_t page)
{
    const uint64_t *at = worker->memory + page * WORDS;
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t ought = word_of(worker->holds[page], i), is = at[i];
        if (is != ought) {
            printf("ballast-guest: DAMAGED page %zu, word %zu: 0x%llx, not 0x%llx\n", page, i,
                   (unsigned long long)is, (unsigned long long)ought);
            exit(1);
        }
    }
}

static void must(int truth, const char *what)
{
    if (!truth) {
        printf("ballast-guest: DAMAGED %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* Fills pages of memory with what pages of the disk are to hold from now on, and
 * writes them there. */
static void write_run(struct worker *worker, size_t page, size_t at, size_t run)
{
    for (size_t i = 0; i < run; i++) {
        worker->generations[at + i]++;
        worker->holds[page + i] = seed_of(worker, at + i);
        for (size_t word = 0; word < WORDS; word++) {
            worker->memory[(page + i) * WORDS + word] = word_of(worker->holds[page + i], word);
        }
    }
    must(pwrite(worker->fd, worker->memory + page * WORDS, run * PAGE,
                (off_t)((worker->first + at) * PAGE)) == (ssize_t)(run * PAGE),
         "writing");
}

static void read_run(struct worker *worker, size_t page, size_t at, size_t run)
{
    must(pread(worker->fd, worker->memory + page * WORDS, run * PAGE,
               (off_t)((worker->first + at) * PAGE)) == (ssize_t)(run * PAGE),
         "reading");
    for (size_t i = 0; i < run; i++) {
        worker->holds[page + i] = seed_of(worker, at + i);
    }
}

static void zero_run(struct worker *worker, size_t page, size_t run)
{
    memset(worker->memory + page * WORDS, 0, run * PAGE);
    memset(worker->holds + page, 0, run * sizeof(worker->holds[0]));
}

__attribute__((noreturn)) static void work(struct worker *worker)
{
    size_t checked = 0;
    for (size_t at = 0; at < worker->disk_pages; at += RUN_MAX) {
        write_run(worker, 0, at, RUN_MAX);
    }
    for (unsigned operations = 1;; operations++) {
        size_t run = 1 + draw(worker, RUN_MAX), page = draw(worker, worker->pages - run);
        size_t at = draw(worker, worker->disk_pages - run);
        for (size_t i = 0; i < run; i++) {
            check(worker, page + i);
        }
        switch (draw(worker, 4)) {
        case 0:
            write_run(worker, page, at, run);
            break;
        case 1:
            /* Half of all memory, so that there is something to reclaim. */
            run = worker->pages / 2;
            page = draw(worker, worker->pages - run);
            zero_run(worker, page, run);
            break;
        default:
            read_run(worker, page, at, run);
        }
        for (size_t i = 0; i < run; i++) {
            check(worker, page + i);
        }
        checked += run;
        if (operations % SAY == 0) {
            printf("ballast-guest: intact worker %d: %u operations, %zu pages\n", worker->number,
                   operations, checked);
        }
    }
}

int main(int count, char **arguments)
{
    size_t pages = count == 3 ? strtoul(arguments[2], NULL, 10) * 256 / WORKERS : 0;
    int fd = count == 3 ? open(arguments[1], O_RDWR | O_DIRECT) : -1;
    if (pages <= RUN_MAX || fd < 0) {
        fprintf(stderr, "ballast-guest: DAMAGED: usage: disk DEVICE MIB, or no device\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    size_t disk_pages = (size_t)lseek(fd, 0, SEEK_END) / PAGE / WORKERS / RUN_MAX * RUN_MAX;
    for (int i = 0; i < WORKERS; i++) {
        struct worker worker = {
            .fd = fd,
            .number = i,
            .random = (uint64_t)i << 32,
            .first = (size_t)i * disk_pages,
            .disk_pages = disk_pages,
            .pages = pages,
        };
        if (fork() == 0) {
            worker.memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            worker.holds = calloc(pages, sizeof(worker.holds[0]));
            worker.generations = calloc(disk_pages, sizeof(worker.generations[0]));
            must(worker.memory != MAP_FAILED && worker.holds != NULL && worker.generations != NULL,
                 "no memory");
            work(&worker);
        }
    }
    wait(NULL); /* one that ends has found damage */
    return 1;
}
