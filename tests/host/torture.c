/* SPDX-License-Identifier: MIT */
/* See torture.h. This file has who owns which page, the writers that need no help
 * of the kernel's, and the whole run. */
#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define SUPERPAGE   ((size_t)512)
#define WRITERS_MAX ((size_t)24)

/* What is known of a page; its owner's alone. */
struct page {
    uint64_t seed;
    bool written; /* since it was last found to hold what it must */
};

static char *ram;
static size_t page_count, writer_count, most_filled;
static struct page *pages;
static struct torture_writer writers[WRITERS_MAX];
static atomic_bool ending;
static uint64_t run_seed;
int torture_file = -1, torture_direct_file = -1;

void torture_must(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "torture: %s: %s\n", what, strerror(errno));
        _exit(99);
    }
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t torture_draw(struct torture_writer *writer, uint64_t below)
{
    writer->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(writer->random) % below;
}

/* Of eight superpages the balloon, the first writer, has five, another writer one,
 * so that superpages come and go whole; in the others each page, or each run of
 * eight or of 64, is of another writer than its neighbours. */
static size_t owner_of(size_t page)
{
    static const size_t runs[] = {1, 8, 64};
    size_t superpage = page / SUPERPAGE, others = writer_count - 1;
    if (superpage % 8 >= 3) {
        return 0;
    }
    if (superpage % 8 == 0) {
        return 1 + superpage / 8 % others;
    }
    return 1 + (page / runs[superpage % 3] + superpage) % others;
}

size_t torture_pick(struct torture_writer *writer)
{
    size_t page;
    do {
        page = torture_draw(writer, page_count);
    } while (owner_of(page) != writer->number);
    return page;
}

char *torture_at(size_t page)
{
    return ram + page * TORTURE_PAGE;
}

void torture_content(uint64_t content[TORTURE_WORDS], uint64_t seed)
{
    if (seed == 0 || seed % 4 == 1) {
        memset(content, 0, TORTURE_PAGE);
        content[seed / 4 % TORTURE_WORDS] = seed;
        return;
    }
    uint64_t word = mix(seed);
    for (size_t i = 0; i < TORTURE_WORDS; i++) {
        content[i] = word | 1;
        word += UINT64_C(0x9e3779b97f4a7c15);
    }
}

__attribute__((noreturn)) static void lost(const struct torture_writer *writer, size_t page,
                                           const uint64_t *content)
{
    for (size_t i = 0; i < TORTURE_WORDS; i++) {
        uint64_t found = ((const volatile uint64_t *)torture_at(page))[i];
        if (found != content[i]) {
            fprintf(stderr,
                    "torture: LOST WRITE: page %zu, word %zu, of writer '%s': 0x%" PRIx64
                    " instead of 0x%" PRIx64 " (its seed is 0x%" PRIx64 ", the run's %" PRIu64
                    ")\n",
                    page, i, writer->name, found, content[i], pages[page].seed, run_seed);
            _exit(98);
        }
    }
    fprintf(stderr,
            "torture: LOST WRITE: page %zu, of writer '%s', was wrong and is right again (the "
            "run's seed is %" PRIu64 ")\n",
            page, writer->name, run_seed);
    _exit(98);
}

void torture_find(struct torture_writer *writer, size_t page)
{
    uint64_t content[TORTURE_WORDS];
    torture_content(content, pages[page].seed);
    if (memcmp(torture_at(page), content, TORTURE_PAGE) != 0) {
        lost(writer, page, content);
    }
    writer->words += pages[page].written ? TORTURE_WORDS : 0;
    pages[page].written = false;
}

bool torture_has_room(const struct torture_writer *writer, size_t count)
{
    return writer->filled + count <= most_filled;
}

uint64_t torture_new_seed(struct torture_writer *writer)
{
    /* Zeros at least every third time, always when there is no room for more. */
    if (torture_draw(writer, 3) == 0 || !torture_has_room(writer, 1)) {
        return 0;
    }
    return torture_draw(writer, UINT64_MAX - 4) + 4;
}

static void set(struct torture_writer *writer, size_t page, uint64_t seed, bool written)
{
    writer->filled += (size_t)(seed != 0) - (size_t)(pages[page].seed != 0);
    pages[page].seed = seed;
    pages[page].written = written;
}

void torture_wrote(struct torture_writer *writer, size_t page, uint64_t seed)
{
    set(writer, page, seed, true);
}

void torture_dropped(struct torture_writer *writer, size_t page)
{
    set(writer, page, 0, false);
}

/* Writes word by word, upwards or downwards: a sweep may see any word first. */
static void store_page(struct torture_writer *writer, size_t page, uint64_t seed)
{
    uint64_t content[TORTURE_WORDS], *words = (uint64_t *)torture_at(page);
    bool down = torture_draw(writer, 2);
    torture_content(content, seed);
    for (size_t i = 0; i < TORTURE_WORDS; i++) {
        size_t at = down ? TORTURE_WORDS - 1 - i : i;
        __atomic_store_n(&words[at], content[at], __ATOMIC_RELAXED);
    }
    torture_wrote(writer, page, seed);
}

/* Zeroes a superpage of its own, as a guest does that scrubs its memory. */
static void scrub_superpage(struct torture_writer *writer, size_t first)
{
    for (size_t page = first; page < first + SUPERPAGE; page++) {
        if (owner_of(page) == writer->number) {
            torture_find(writer, page);
            memset(torture_at(page), 0, TORTURE_PAGE);
            torture_wrote(writer, page, 0);
        }
    }
}

/* Own pages in a row, from that one on. */
static size_t run_of(const struct torture_writer *writer, size_t page, size_t most)
{
    size_t run = 1;
    while (run < most && page + run < page_count && owner_of(page + run) == writer->number) {
        run++;
    }
    return run;
}

/* Free page reports: contents that nobody needs. Those of one page are what a
 * balloon gives up, and takes back, or uses without a word. */
static void discard(struct torture_writer *writer, size_t page)
{
    size_t run = run_of(writer, page, 1 + torture_draw(writer, 64));
    for (size_t i = 0; i < run; i++) {
        torture_find(writer, page + i);
        torture_dropped(writer, page + i);
    }
    torture_must(madvise(torture_at(page), run * TORTURE_PAGE, MADV_DONTNEED) == 0, "discard");
    if (run == 1 && torture_draw(writer, 2)) {
        torture_must(madvise(torture_at(page), TORTURE_PAGE, MADV_WILLNEED) == 0, "take back");
    }
}

static bool write_by_stores(struct torture_writer *writer)
{
    for (size_t i = 0; i < 64; i++) {
        size_t page = torture_pick(writer);
        switch (torture_draw(writer, 64)) {
        case 0:
            scrub_superpage(writer, page / SUPERPAGE * SUPERPAGE);
            break;
        case 1:
        case 2:
            discard(writer, page);
            break;
        default:
            for (size_t run = run_of(writer, page, 8); run != 0; run--, page++) {
                torture_find(writer, page);
                store_page(writer, page, torture_new_seed(writer));
            }
        }
    }
    return true;
}

/* The balloon inflates for a while, then deflates. */
struct balloon {
    bool deflates;
    bool given[]; /* superpages: given up, and not touched since */
};

static struct balloon *balloon_of(struct torture_writer *writer)
{
    if (writer->own == NULL) {
        writer->own = calloc(1, sizeof(struct balloon) + page_count / SUPERPAGE * sizeof(bool));
        torture_must(writer->own != NULL, "memory");
    }
    return writer->own;
}

/* What a balloon does, page by page, to a superpage. To look at a page that is zero
 * would be to bring it in, and take a page from another. */
static void give_up(struct torture_writer *writer, size_t first)
{
    for (size_t page = first; page < first + SUPERPAGE; page++) {
        if (pages[page].seed != 0 || torture_draw(writer, 16) == 0) {
            torture_find(writer, page);
        }
        torture_dropped(writer, page);
        torture_must(madvise(torture_at(page), TORTURE_PAGE, MADV_DONTNEED) == 0, "give up");
    }
}

static void take_back(size_t first)
{
    for (size_t page = first; page < first + SUPERPAGE; page++) {
        torture_must(madvise(torture_at(page), TORTURE_PAGE, MADV_WILLNEED) == 0, "take back");
    }
}

/* Whole superpages are given up page by page; taken back, or sometimes used
 * without a word, and written to. */
static bool write_by_balloon(struct torture_writer *writer)
{
    struct balloon *balloon = balloon_of(writer);
    size_t first = torture_pick(writer) / SUPERPAGE * SUPERPAGE;
    bool *given = &balloon->given[first / SUPERPAGE];
    if (torture_draw(writer, 16) == 0) {
        balloon->deflates = !balloon->deflates;
    }
    if (!balloon->deflates && !*given) {
        give_up(writer, first);
        *given = true;
        return true;
    }
    if (*given && !balloon->deflates && torture_draw(writer, 8) != 0) {
        return true;
    }
    if (*given && torture_draw(writer, 4) != 0) {
        take_back(first);
    }
    *given = false;
    for (size_t page = first; page < first + SUPERPAGE; page += 1 + torture_draw(writer, 128)) {
        torture_find(writer, page);
        store_page(writer, page, torture_new_seed(writer));
    }
    return true;
}

/* A child now and then, as QEMU has them: while a fork is under way moves fail. */
static bool fork_child(struct torture_writer *writer)
{
    (void)writer;
    pid_t child = fork();
    torture_must(child >= 0, "fork");
    if (child == 0) {
        usleep(2000);
        _exit(0);
    }
    torture_must(waitpid(child, NULL, 0) == child, "waitpid");
    usleep(50000);
    return true;
}

static const struct torture_writer plain_writers[] = {
    {.name = "balloon", .write = write_by_balloon},
    {.name = "stores", .write = write_by_stores},
    {.name = "stores, another thread", .write = write_by_stores},
};

uint64_t torture_file_seed(size_t i)
{
    return i % 8 == 0 ? 0 : mix(i) | (i % 8 < 4);
}

/* A file of known contents, opened twice if its file system can O_DIRECT: tmpfs
 * takes the flag, and copies from its pages all the same. */
static void make_file(const char *folder)
{
    char path[4096];
    uint64_t content[TORTURE_WORDS];
    struct statfs about;
    snprintf(path, sizeof(path), "%s/torture-XXXXXX", folder);
    torture_file = mkostemp(path, O_CLOEXEC);
    torture_must(torture_file >= 0, "making a file");
    for (size_t i = 0; i < TORTURE_FILE_PAGES; i++) {
        torture_content(content, torture_file_seed(i));
        torture_must(write(torture_file, content, sizeof(content)) == (ssize_t)sizeof(content),
                     "writing a file");
    }
    torture_must(fsync(torture_file) == 0 && fstatfs(torture_file, &about) == 0, "writing a file");
    if (about.f_type != TMPFS_MAGIC) {
        torture_direct_file = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    }
    torture_must(unlink(path) == 0, "removing a file's name");
}

static void *run_writer(void *argument)
{
    struct torture_writer *writer = argument;
    while (!atomic_load(&ending) && writer->write(writer)) {
    }
    if (writer->end != NULL && writer->lacks == NULL) {
        writer->end(writer);
    }
    for (size_t page = 0; page < page_count; page++) {
        if (owner_of(page) == writer->number) {
            torture_find(writer, page);
        }
    }
    return NULL;
}

static void add_writers(const struct torture_writer *more, size_t count, uint64_t seed)
{
    torture_must(writer_count + count <= WRITERS_MAX, "so many writers");
    for (size_t i = 0; i < count; i++) {
        writers[writer_count] = more[i];
        writers[writer_count].number = writer_count;
        writers[writer_count].random = mix(seed + writer_count);
        writer_count++;
    }
}

/* The counts are other threads', which go on: each is right within a page. */
static void say_counts(void)
{
    uint64_t sum = 0;
    printf("{\"seed\": %" PRIu64 ", \"words\": {", run_seed);
    for (size_t i = 0; i < writer_count; i++) {
        uint64_t words = __atomic_load_n(&writers[i].words, __ATOMIC_RELAXED);
        printf("%s\"%s\": %" PRIu64, i == 0 ? "" : ", ", writers[i].name, words);
        sum += words;
    }
    printf("}, \"sum\": %" PRIu64 ", \"lacks\": {", sum);
    bool first = true;
    for (size_t i = 0; i < writer_count; i++) {
        const char *lacks = __atomic_load_n(&writers[i].lacks, __ATOMIC_RELAXED);
        if (lacks != NULL) {
            printf("%s\"%s\": \"%s\"", first ? "" : ", ", writers[i].name, lacks);
            first = false;
        }
    }
    printf("}}\n");
    fflush(stdout);
}

void torture(char *at, size_t bytes, size_t most_pages, uint64_t seed, const char *folder)
{
    struct torture_writer forks = {.write = fork_child, .number = WRITERS_MAX};
    pthread_t threads[WRITERS_MAX + 1];
    char line[16];
    ram = at;
    page_count = bytes / TORTURE_PAGE;
    run_seed = seed;
    pages = calloc(page_count, sizeof(*pages));
    torture_must(pages != NULL, "memory");
    make_file(folder);
    add_writers(plain_writers, sizeof(plain_writers) / sizeof(plain_writers[0]), seed);
    add_writers(torture_kernel_writers, torture_kernel_writer_count, seed);
    add_writers(torture_uring_writers, torture_uring_writer_count, seed);
    most_filled = most_pages / writer_count;
    for (size_t i = 0; i < writer_count; i++) {
        torture_must(pthread_create(&threads[i], NULL, run_writer, &writers[i]) == 0, "a thread");
    }
    torture_must(pthread_create(&threads[writer_count], NULL, run_writer, &forks) == 0, "a thread");
    while (fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "end\n") != 0) {
        say_counts();
    }
    atomic_store(&ending, true);
    for (size_t i = 0; i <= writer_count; i++) {
        pthread_join(threads[i], NULL);
    }
    say_counts();
}
