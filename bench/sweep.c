/* SPDX-License-Identifier: MIT */
/*
 * Measurements for bench/sweep: a domain all of whose memory is populated is
 * swept for zeros, and right before that the same memory is only read. No
 * thread of a guest runs beside it. bench/sweep has the question.
 */
#include "base/clock.h"
#include "base/types.h"
#include "engine/domain.h"
#include "engine/reclaim.h"
#include "host/linux_host.h"
#include "host/sys.h"
#include "host/uffd.h"

#include <errno.h>
#include <inttypes.h>
#include <isa-l.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define MIB_MAX    (1 << 16)

static struct linux_host host;
static struct domain domain;
static pages_t pages; /* populated, and swept */

static void must(const char *what, int err)
{
    if (err != 0) {
        fprintf(stderr, "bench_sweep: %s: %s\n", what, strerror(-err));
        exit(1);
    }
}

static uint64_t *page_at(pages_t at)
{
    return (uint64_t *)blocks_address(&host.ram, gfn(at)).a;
}

/* What is in the memory: for each page the word that is not zero, or none. */
#define NO_WORD SIZE_MAX

static size_t word_of_none(pages_t page)
{
    (void)page;
    return NO_WORD;
}

static size_t word_at_start(pages_t page)
{
    (void)page;
    return 0;
}

static size_t word_at_end(pages_t page)
{
    (void)page;
    return PAGE_WORDS - 1;
}

/* Zeros but for the last page of each superpage. */
static size_t word_in_last_page(pages_t page)
{
    return page % SUPERPAGE_PAGES == SUPERPAGE_PAGES - 1 ? PAGE_WORDS / 2 : NO_WORD;
}

/* One page in eight is in use: some from the start, some only further in. */
static size_t word_mixed(pages_t page)
{
    uint64_t mixed = (page + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    return mixed % 8 != 0 ? NO_WORD : mixed / 8 % 4 == 0 ? PAGE_WORDS / 2 : 0;
}

static const struct content {
    const char *name;
    size_t (*word)(pages_t page);
} contents[] = {
    {"zeros", word_of_none},
    {"dirty at the start", word_at_start},
    {"dirty at the end", word_at_end},
    {"last page of 2 MiB dirty", word_in_last_page},
    {"mixed", word_mixed},
};
#define CONTENTS (sizeof(contents) / sizeof(contents[0]))

static void open_domain(void)
{
    struct domain_config config = {.max_pages = 2 * pages, .target_pages = pages};
    uint64_t bytes = pages_to_bytes(config.max_pages);
    haddr_t ram = {0}, metadata = {0};
    must("mmap", sys_mmap((haddr_t){0}, bytes + SUPERPAGE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &ram));
    ram.a = (ram.a + SUPERPAGE_BYTES - 1) / SUPERPAGE_BYTES * SUPERPAGE_BYTES;
    must("mmap",
         sys_mmap((haddr_t){0}, domain_metadata_bytes(config.max_pages), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &metadata));
    must("userfaultfd", linux_host_open(&host, ram, bytes,
                                        pages_to_bytes(domain_cache_span_pages(config.max_pages))));
    must("domain", domain_init(&domain, &config, &linux_host_ops, &host, (void *)metadata.a));
    for (pages_t missing = pages; missing != 0;) {
        must("domain", domain_build_step(&domain, 32 * SUPERPAGE_PAGES, &missing));
    }
}

/* All of the target; in use meanwhile, so that nothing is reclaimed, and all
 * zeros in the end. */
static void populate_all(void)
{
    for (pages_t at = 0; at < pages; at += SUPERPAGE_PAGES) {
        must("populate", domain_populate(&domain, gfn(at)));
        *page_at(at) = 1;
    }
    for (pages_t at = 0; at < pages; at += SUPERPAGE_PAGES) {
        *page_at(at) = 0;
    }
}

static void fill(const struct content *content)
{
    for (pages_t at = 0; at < pages; at++) {
        size_t word = content->word(at);
        if (word != NO_WORD) {
            page_at(at)[word] = 1;
        }
    }
}

/* The fastest of two ways to read all of it, while it holds only zeros: the
 * machine's read bandwidth. */
static uint64_t read_ns(void)
{
    typedef uint64_t vector __attribute__((vector_size(64)));
    uint64_t begin_ns = clock_now_ns();
    vector any = {0};
    const vector *vectors = (const vector *)page_at(0);
    for (size_t i = 0; i < pages_to_bytes(pages) / sizeof(vector); i += 4) {
        any |= (vectors[i] | vectors[i + 1]) | (vectors[i + 2] | vectors[i + 3]);
    }
    __asm__ volatile("" : : "m"(any));
    uint64_t vector_ns = clock_now_ns() - begin_ns;

    begin_ns = clock_now_ns();
    int found = 0;
    for (pages_t at = 0; at < pages; at++) {
        found |= isal_zero_detect(page_at(at), PAGE_BYTES);
    }
    __asm__ volatile("" : : "r"(found));
    return min_u64(vector_ns, clock_now_ns() - begin_ns);
}

/* Sweeps until all is seen: no more is found, or all that is zero. */
static uint64_t sweep_ns(void)
{
    uint64_t begin_ns = clock_now_ns();
    pages_t before;
    do {
        before = domain.cache.pages;
        must("sweep", reclaim_sweep(&domain));
    } while (domain.cache.pages != before && domain.p2m.ram_pages != 0);
    return clock_now_ns() - begin_ns;
}

static void close_domain(void)
{
    const char *wrong = domain_check(&domain);
    if (wrong != NULL) {
        fprintf(stderr, "bench_sweep: %s\n", wrong);
        exit(1);
    }
    haddr_t ram = blocks_address(&host.ram, gfn(0));
    linux_host_close(&host);
    sys_munmap(ram, pages_to_bytes(2 * pages));
    sys_munmap(haddr(domain.p2m.entries), domain_metadata_bytes(2 * pages));
}

static void measure(const struct content *content)
{
    open_domain();
    populate_all();
    uint64_t reading_ns = read_ns();
    fill(content);
    uint64_t sweeping_ns = sweep_ns();
    const struct domain_counters *c = &domain.counters;
    printf("{\"case\": \"%s\", \"pages\": %" PRIu64 ", \"read_ns\": %" PRIu64
           ", \"sweep_ns\": %" PRIu64 ", \"sweeps\": %" PRIu64 ", \"reclaimed_2m\": %" PRIu64
           ", \"reclaimed_4k\": %" PRIu64 ", \"false_zeros\": %" PRIu64 "}",
           content->name, pages, reading_ns, sweeping_ns, c->sweeps, c->reclaimed_2m,
           c->reclaimed_4k, c->false_zeros);
    close_domain();
}

int main(int argc, char **argv)
{
    char *end = NULL;
    uint64_t mib = argc == 2 ? strtoull(argv[1], &end, 10) : 0;
    if (argc != 2 || *end != '\0' || mib < 2 || mib > MIB_MAX) {
        printf("usage: bench_sweep MIB\n\n"
               "Sweeps so much memory (2 to %d MiB), full of this and that, once each, and prints "
               "the times; for bench/sweep.\n",
               MIB_MAX);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    int uffd;
    int err = uffd_open(&uffd);
    if (err != 0) {
        printf("no userfaultfd that can move pages: %s\n", strerror(-err));
        return 77;
    }
    close(uffd);
    pages = mib / 2 * SUPERPAGE_PAGES;
    printf("[");
    for (size_t i = 0; i < CONTENTS; i++) {
        printf("%s", i == 0 ? "" : ",\n ");
        measure(&contents[i]);
    }
    printf("]\n");
    return 0;
}
