/* SPDX-License-Identifier: MIT */
/*
 * Question: what does the engine itself cost, on one core, and does an
 * operation cost more in a larger domain?
 *
 * The host is the fake one of the tests: it moves no memory and makes no system
 * call, so that what is measured is the engine plus the fake host's own
 * bookkeeping. A real fault costs 40 to 130 us, of which this is a part.
 *
 * Four cases, each for a max of 1 GiB to 16 TiB with the same target:
 *
 *   scrub      a guest that scrubs the last 16 GiB of its max, from the bottom
 *              up, again and again: for each superpage that is populated the
 *              engine finds a zero one and takes it back
 *   superpage  the same in superpages at random from all of max
 *   single     the cache is empty and all memory in use but one page, which
 *              moves about: each fault sweeps until it finds it
 *   discard    a superpage is discarded and populated again
 *
 * Noise: each case runs `rounds` times and the median is given, with the
 * fastest and the slowest. At random, larger domains touch more of their
 * metadata: what the caches of the processor, and the kernel's first touch of
 * those pages, make of that is part of the answer. bench/engine takes turns.
 */
#include "fake_domain.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SP           SUPERPAGE_PAGES
#define GIB_PAGES    (UINT64_C(1) << 18)
#define TARGET_PAGES (GIB_PAGES / 2)
#define SCRUB_PAGES  (16 * GIB_PAGES)
#define MAX_ROUNDS   99

static struct fake_domain fake;
static uint64_t state;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* other work is not our cost */
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(int err)
{
    if (err != 0) {
        fprintf(stderr, "bench/engine: unexpected error %d\n", err);
        exit(1);
    }
}

static size_t metadata_used; /* bytes of the last domain's, in the end */

static gfn_t some_pod_gfn(void)
{
    gfn_t at = gfn(draw(fake.domain.p2m.max_pages));
    while (p2m_get(&fake.domain.p2m, at) != P2M_POD) {
        at = gfn(draw(fake.domain.p2m.max_pages));
    }
    return at;
}

static void do_superpage(void)
{
    must(domain_populate(&fake.domain, some_pod_gfn()));
}

static gfn_t scrubbed; /* so far */

static gfn_t scrub_begin(void)
{
    pages_t max = fake.domain.p2m.max_pages;
    return gfn(max - min_u64(max, SCRUB_PAGES));
}

/* Some superpages are placed ahead, and count like the others. */
static void do_scrub(void)
{
    uint64_t before = fake.domain.counters.populated_2m;
    while (fake.domain.counters.populated_2m == before) {
        if (p2m_get(&fake.domain.p2m, scrubbed) == P2M_POD) {
            must(domain_populate(&fake.domain, scrubbed));
        }
        scrubbed = gfn_add(scrubbed, SP);
        if (scrubbed.n == fake.domain.p2m.max_pages) {
            scrubbed = scrub_begin();
        }
    }
}

static void prepare_scrub(void)
{
    scrubbed = scrub_begin();
    for (pages_t i = 0; i < SCRUB_PAGES / SP; i++) {
        do_scrub();
    }
}

/* As often as there are superpages in the target, and some more: from here on
 * each populate is paired with a reclaim. */
static void prepare_superpage(void)
{
    for (pages_t i = 0; i < 2 * TARGET_PAGES / SP; i++) {
        do_superpage();
    }
}

static gfn_t last;

/* The target in the first superpages, all of it in use; one more is POD. */
static void prepare_single(void)
{
    for (pages_t at = 0; at < TARGET_PAGES; at++) {
        must(fake_domain_touch(&fake, gfn(at), 1));
    }
    last = gfn(0);
}

static void do_single(void)
{
    fake_guest_write(&fake.host, last, 0);
    gfn_t next = last;
    while (fake_guest_has(&fake.host, next)) {
        next = gfn(draw(TARGET_PAGES + SP));
    }
    must(fake_domain_touch(&fake, next, 1));
    last = gfn(draw(TARGET_PAGES));
    while (!fake_guest_has(&fake.host, last)) {
        last = gfn(draw(TARGET_PAGES));
    }
}

static void prepare_discard(void)
{
}

static void do_discard(void)
{
    gfn_t at = p2m_first_gfn(p2m_index(some_pod_gfn()));
    must(domain_populate(&fake.domain, at));
    must(domain_discard(&fake.domain, at, SP));
}

static const struct bench {
    const char *name;
    void (*prepare)(void);
    void (*once)(void);
    unsigned divisor; /* of the number of operations: this one takes longer */
    bool pairs;       /* each superpage populated is one reclaimed */
} benches[] = {
    {"scrub", prepare_scrub, do_scrub, 1, true},
    {"superpage", prepare_superpage, do_superpage, 1, true},
    {"single", prepare_single, do_single, 100, false},
    {"discard", prepare_discard, do_discard, 1, false},
};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nanoseconds an operation, round by round, in order. */
static void measure(const struct bench *bench, pages_t max, unsigned rounds, uint64_t operations,
                    double *ns)
{
    state = 88172645463325252;
    fake_domain_start(&fake, max, TARGET_PAGES);
    bench->prepare();
    for (uint64_t i = 0; i < operations; i++) {
        bench->once(); /* to warm up */
    }
    for (unsigned round = 0; round < rounds; round++) {
        const struct domain_counters *c = &fake.domain.counters;
        uint64_t populated = c->populated_2m;
        double begin = now();
        for (uint64_t i = 0; i < operations; i++) {
            bench->once();
        }
        double took = now() - begin;
        uint64_t done = bench->pairs ? c->populated_2m - populated : operations;
        ns[round] = took * 1e9 / (double)done;
    }
    const struct domain_counters *c = &fake.domain.counters;
    if (bench->pairs && c->reclaimed_2m + TARGET_PAGES / SP < c->populated_2m) {
        fprintf(stderr, "bench/engine: populates were not paired with reclaims\n");
        exit(1);
    }
    const char *wrong = fake_domain_check(&fake, false);
    if (wrong != NULL) {
        fprintf(stderr, "bench/engine: %s\n", wrong);
        exit(1);
    }
    metadata_used = fake_domain_metadata_used(&fake);
    fake_domain_free(&fake);
    qsort(ns, rounds, sizeof(*ns), compare_doubles);
}

static uint64_t number(const char *text, const char *option, uint64_t most)
{
    char *end = NULL;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value == 0 || value > most) {
        fprintf(stderr, "bench/engine: %s %s: not a number from 1 to %" PRIu64 "\n", option, text,
                most);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"rounds", required_argument, NULL, 'r'},
        {"operations", required_argument, NULL, 'o'},
        {"case", required_argument, NULL, 'c'},
        {"max-gib", required_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool json = false;
    unsigned rounds = 9;
    uint64_t operations = 50000, only_gib = 0;
    const char *only = NULL;
    int option = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'j':
            json = true;
            break;
        case 'r':
            rounds = (unsigned)number(optarg, "--rounds", MAX_ROUNDS);
            break;
        case 'o':
            operations = number(optarg, "--operations", UINT32_MAX);
            break;
        case 'c':
            only = optarg;
            break;
        case 'm':
            only_gib = number(optarg, "--max-gib", MAX_DOMAIN_BYTES >> 30);
            break;
        case 'h':
            printf("usage: bench_engine [--json] [--rounds N] [--operations N] [--case NAME] "
                   "[--max-gib N]\n");
            return 0;
        default:
            return 2;
        }
    }
    static const uint64_t gibs[] = {1, 16, 64, 256, 4096, 16384};
    if (json) {
        printf("[");
    } else {
        printf("populate/reclaim pairs on one core, fake host, target 512 MiB, %u rounds\n\n"
               "%-10s %9s %12s %12s %12s %14s\n",
               rounds, "case", "max", "ns median", "ns fastest", "ns slowest", "pairs/s");
    }
    bool first = true;
    for (size_t b = 0; b < sizeof(benches) / sizeof(benches[0]); b++) {
        for (size_t g = 0; g < sizeof(gibs) / sizeof(gibs[0]); g++) {
            double ns[MAX_ROUNDS];
            uint64_t count = operations / benches[b].divisor;
            if ((only != NULL && strcmp(only, benches[b].name) != 0) ||
                (only_gib != 0 && only_gib != gibs[g])) {
                continue;
            }
            measure(&benches[b], gibs[g] * GIB_PAGES, rounds, count == 0 ? 1 : count, ns);
            double median = ns[rounds / 2];
            if (json) {
                printf("%s\n  {\"case\": \"%s\", \"max_gib\": %" PRIu64 ", \"rounds\": %u, "
                       "\"ns_median\": %.1f, \"ns_min\": %.1f, \"ns_max\": %.1f, "
                       "\"pairs_per_second\": %.0f, \"metadata_bytes\": %zu}",
                       first ? "" : ",", benches[b].name, gibs[g], rounds, median, ns[0],
                       ns[rounds - 1], 1e9 / median, metadata_used);
            } else {
                printf("%-10s %5" PRIu64 " GiB %12.1f %12.1f %12.1f %14.0f\n", benches[b].name,
                       gibs[g], median, ns[0], ns[rounds - 1], 1e9 / median);
            }
            first = false;
            fflush(stdout);
        }
    }
    if (json) {
        printf("\n]\n");
    }
    return 0;
}
