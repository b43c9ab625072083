/* SPDX-License-Identifier: MIT */
/*
 * One measurement for bench/fault: touches memory that is not there, and says
 * how long each touch took. bench/fault has the question and the method.
 *
 * A touch is a write of one word. The memory is touched in one of these orders:
 *
 *   sequential  2 MiB after 2 MiB, each page of it; each thread in a part of
 *               its own. In single pages: page after page
 *   strided     every second superpage, then the others. In single pages: in
 *               steps of 17, or so
 *   random      superpages (single pages) at random
 *   groups      neighbourhoods of 64 KiB at random, within each from below
 *   virgin      as groups, one in each 2 MiB, of which nothing was there
 *
 * "first" are touches where nothing of the superpage (in single pages: of the
 * neighbourhood) had been touched before, "rest" the others, which are timed
 * only for single pages.
 */
#include "touched_ram.h"

#include "base/clock.h"
#include "host/uffd.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUP_PAGES 16
#define THREADS_MAX 64
#define MIB_MAX     (1 << 16)

static const char *const servers[] = {"kernel", "loop", "ballast"};
static const char *const units[] = {"2m", "4k"};
enum order { SEQUENTIAL, STRIDED, RANDOM, GROUPS, VIRGIN };
static const char *const orders[] = {"sequential", "strided", "random", "groups", "virgin"};

static struct {
    enum server server;
    bool single;
    enum order order;
    size_t threads;
    uint64_t bytes;
} options;

/* What is touched, in order: the page; and how long it took, 0 if that was not
 * measured. */
struct touch {
    uint32_t page;
    bool first;
    uint64_t ns;
};

static struct touch *touches;
static size_t touch_count;
static char *ram;
static pthread_barrier_t barrier;

static uint64_t random_state = 88172645463325252;

static uint32_t draw(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % below);
}

/* 0 to count - 1 in random order; the caller frees it. */
static uint32_t *shuffled(uint32_t count)
{
    uint32_t *numbers = malloc(count * sizeof(*numbers));
    if (numbers == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = draw(i + 1);
        numbers[i] = numbers[other];
        numbers[other] = i;
    }
    return numbers;
}

static void add(uint32_t page)
{
    touches[touch_count++].page = page;
}

static void plan_superpages(uint32_t count)
{
    uint32_t *mixed = shuffled(count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t half = (count + 1) / 2;
        uint32_t strided = i < half ? 2 * i : 2 * (i - half) + 1;
        uint32_t at = options.order == SEQUENTIAL ? i
                      : options.order == STRIDED  ? strided
                                                  : mixed[i];
        for (uint32_t page = 0; page < SUPERPAGE_PAGES; page++) {
            add(at * (uint32_t)SUPERPAGE_PAGES + page);
        }
    }
    free(mixed);
}

static void plan_groups(uint32_t count)
{
    uint32_t *mixed = shuffled(count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t page = 0; page < GROUP_PAGES; page++) {
            add(mixed[i] * GROUP_PAGES + page);
        }
    }
    free(mixed);
}

static void plan_virgin(uint32_t superpages)
{
    uint32_t *mixed = shuffled(superpages);
    for (uint32_t i = 0; i < superpages; i++) {
        uint32_t group = draw(SUPERPAGE_PAGES / GROUP_PAGES);
        for (uint32_t page = 0; page < GROUP_PAGES; page++) {
            add(mixed[i] * (uint32_t)SUPERPAGE_PAGES + group * GROUP_PAGES + page);
        }
    }
    free(mixed);
}

/* So that all of them come, once each. */
static uint32_t stride_through(uint32_t count)
{
    static const uint32_t primes[] = {17, 19, 23, 29, 31};
    size_t i = 0;
    while (count % primes[i] == 0 && i + 1 < sizeof(primes) / sizeof(primes[0])) {
        i++;
    }
    return primes[i];
}

static void plan_pages(uint32_t count)
{
    uint32_t stride = stride_through(count);
    uint32_t *mixed = shuffled(count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t page = options.order == SEQUENTIAL ? i
                        : options.order == STRIDED  ? (uint32_t)((uint64_t)i * stride % count)
                                                    : mixed[i];
        add(page);
    }
    free(mixed);
}

/* It is no first touch. */
static void drop_what_is_there(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < touch_count; i++) {
        if (touches[i].page % SUPERPAGE_PAGES != 0) {
            touches[kept++] = touches[i];
        }
    }
    touch_count = kept;
}

static void plan(void)
{
    uint32_t pages = (uint32_t)bytes_to_pages(options.bytes);
    uint32_t superpages = pages / (uint32_t)SUPERPAGE_PAGES;
    uint32_t unit = options.single ? GROUP_PAGES : (uint32_t)SUPERPAGE_PAGES;
    touches = calloc(pages, sizeof(*touches));
    bool *seen = calloc(pages / unit, sizeof(*seen));
    if (touches == NULL || seen == NULL) {
        abort();
    }
    if (!options.single) {
        plan_superpages(superpages);
    } else if (options.order == GROUPS) {
        plan_groups(pages / GROUP_PAGES);
    } else if (options.order == VIRGIN) {
        plan_virgin(superpages);
    } else {
        plan_pages(pages);
    }
    if (options.single && options.order != VIRGIN) {
        drop_what_is_there();
    }
    for (size_t i = 0; i < touch_count; i++) {
        touches[i].first = !seen[touches[i].page / unit];
        seen[touches[i].page / unit] = true;
    }
    free(seen);
}

static void *touch_slice(void *argument)
{
    size_t thread = (size_t)(uintptr_t)argument;
    size_t begin = touch_count * thread / options.threads;
    size_t end = touch_count * (thread + 1) / options.threads;
    pthread_barrier_wait(&barrier);
    for (size_t i = begin; i < end; i++) {
        struct touch *touch = &touches[i];
        volatile uint64_t *word = (volatile uint64_t *)(ram + pages_to_bytes(touch->page));
        if (options.order == VIRGIN && i % GROUP_PAGES == 0) {
            touched_ram_spare(GROUP_PAGES);
        }
        if (touch->first || options.single) {
            uint64_t before_ns = clock_now_ns();
            *word = 1;
            touch->ns = clock_now_ns() - before_ns;
        } else {
            *word = 1;
        }
    }
    return NULL;
}

/* Nanoseconds from when all threads are ready until the last is done. */
static uint64_t run(void)
{
    pthread_t threads[THREADS_MAX];
    pthread_barrier_init(&barrier, NULL, (unsigned)options.threads + 1);
    for (size_t i = 0; i < options.threads; i++) {
        if (pthread_create(&threads[i], NULL, touch_slice, (void *)(uintptr_t)i) != 0) {
            fprintf(stderr, "bench_fault: no thread\n");
            exit(1);
        }
    }
    uint64_t before_ns = clock_now_ns();
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < options.threads; i++) {
        pthread_join(threads[i], NULL);
    }
    return clock_now_ns() - before_ns;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_latencies(const char *name, bool first)
{
    uint64_t *ns = malloc(touch_count * sizeof(*ns));
    size_t count = 0;
    double sum = 0;
    if (ns == NULL) {
        abort();
    }
    for (size_t i = 0; i < touch_count; i++) {
        if (touches[i].first == first && touches[i].ns != 0) {
            sum += (double)touches[i].ns;
            ns[count++] = touches[i].ns;
        }
    }
    qsort(ns, count, sizeof(*ns), compare);
    if (count != 0) {
        printf(", \"%s\": {\"count\": %zu, \"mean_ns\": %.0f, \"p50_ns\": %" PRIu64
               ", \"p99_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 "}",
               name, count, sum / (double)count, ns[count / 2], ns[count * 99 / 100],
               ns[count - 1]);
    }
    free(ns);
}

/* The number of a name in a list; ends the program if it is none of them. */
static int choose(const char *text, const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    fprintf(stderr, "bench_fault: '%s' is not what can be chosen here; see --help\n", text);
    exit(2);
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end = NULL;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value == 0 || value > most) {
        fprintf(stderr, "bench_fault: '%s' is not a number from 1 to %" PRIu64 "\n", text, most);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        printf("usage: bench_fault kernel|loop|ballast 2m|4k ORDER THREADS MIB\n\n"
               "ORDER: sequential, strided, random; with 4k also groups, virgin (one thread).\n"
               "Touches MIB (even) of memory once and prints the times; for bench/fault.\n");
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    options.server = (enum server)choose(argv[1], servers, 3);
    options.single = choose(argv[2], units, 2) == 1;
    options.order = (enum order)choose(argv[3], orders, options.single ? 5 : 3);
    options.threads = number(argv[4], options.order == VIRGIN ? 1 : THREADS_MAX);
    options.bytes = number(argv[5], MIB_MAX) / 2 * SUPERPAGE_BYTES;
    if (options.bytes < 4 * SUPERPAGE_BYTES) {
        fprintf(stderr, "bench_fault: MIB must be at least 8\n");
        return 2;
    }
    int uffd;
    int err = uffd_open(&uffd);
    if (err != 0) {
        printf("no userfaultfd that can move pages: %s\n", strerror(-err));
        return 77;
    }
    close(uffd);
    enum ram_state state = !options.single           ? RAM_WHOLE
                           : options.order == VIRGIN ? RAM_SCARCE
                                                     : RAM_SPLIT;
    plan();
    ram = touched_ram_make(options.server, state, options.bytes);
    struct touched_ram_counts before = touched_ram_counts();
    uint64_t ns = run();
    struct touched_ram_counts after = touched_ram_counts();
    printf("{\"touches\": %zu, \"ns\": %" PRIu64 ", \"faults\": %" PRIu64
           ", \"populated_2m\": %" PRIu64 ", \"ahead_2m\": %" PRIu64 ", \"populated_4k\": %" PRIu64
           ", \"sweeps\": %" PRIu64,
           touch_count, ns, after.faults - before.faults, after.populated_2m - before.populated_2m,
           after.ahead_2m - before.ahead_2m, after.populated_4k - before.populated_4k,
           after.sweeps - before.sweeps);
    print_latencies("first", true);
    print_latencies("rest", false);
    printf("}\n");
    fflush(stdout);
    _exit(0);
}
