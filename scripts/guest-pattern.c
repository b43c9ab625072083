/* SPDX-License-Identifier: MIT */
/*
 * A program for the guest: fills memory with what it can check, and checks all
 * of it again and again while the host does things to it.
 *
 *   pattern MIB
 *
 * Each page of MIB MiB is of a kind and a generation, which say what must be in
 * it: noise in every word; zeros but for one byte, which a host that looks for
 * zero pages must not miss; zeros, which it may take; or nothing, for it was
 * given back to the kernel, and must read as zeros. In each round all pages are
 * checked, a third of them is made anew as another kind, and half as much
 * memory again is zeroed, checked and freed, so that pages move under the rest.
 *
 * Says after each round on its standard output
 *
 *   ballast-guest: intact ROUND MemTotal KB kB
 *
 * or, and ends then,
 *
 *   ballast-guest: DAMAGED page PAGE of kind KIND, word WORD: 0xIS, not 0xOUGHT
 *
 * of each of the first few pages that are wrong.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE       ((size_t)4096)
#define WORDS      (PAGE / sizeof(uint64_t))
#define PAUSE_US   200000
#define DAMAGE_MAX 8

enum kind { NOISE, ONE_BYTE, ZEROS, DROPPED, KINDS };

static uint64_t mix(uint64_t value)
{
    value ^= value >> 33;
    value *= UINT64_C(0xff51afd7ed558ccd);
    value ^= value >> 33;
    value *= UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ value >> 33;
}

/* What a page of a generation starts from; never 0 in its lowest byte. */
static uint64_t seed(size_t page, uint32_t generation)
{
    return mix((uint64_t)page << 32 | generation) | 1;
}

/* At first all are noise: what has never been used must come. */
static enum kind kind_of(size_t page, uint32_t generation)
{
    return generation == 0 ? NOISE : (enum kind)(seed(page, generation) >> 8 & 7) % KINDS;
}

static uint64_t word_of(enum kind kind, uint64_t start, size_t word)
{
    switch (kind) {
    case NOISE:
        return start + word * UINT64_C(0x9e3779b97f4a7c15);
    case ONE_BYTE:
        return word == (start >> 16) % WORDS ? start & 0xff : 0;
    default:
        return 0;
    }
}

static void write_page(uint64_t *at, size_t page, uint32_t generation)
{
    enum kind kind = kind_of(page, generation);
    uint64_t start = seed(page, generation);
    if (kind == DROPPED) {
        madvise(at, PAGE, MADV_DONTNEED);
        return;
    }
    for (size_t i = 0; i < WORDS; i++) {
        at[i] = word_of(kind, start, i);
    }
}

/* Says what is wrong with a page; 1 if anything is. */
static unsigned check_page(const uint64_t *at, size_t page, uint32_t generation)
{
    enum kind kind = kind_of(page, generation);
    uint64_t start = seed(page, generation);
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t ought = word_of(kind, start, i);
        if (at[i] != ought) {
            printf("ballast-guest: DAMAGED page %zu of kind %d, word %zu: 0x%llx, not 0x%llx\n",
                   page, kind, i, (unsigned long long)at[i], (unsigned long long)ought);
            return 1;
        }
    }
    return 0;
}

static void *map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        perror("ballast-guest: DAMAGED: no memory for the pattern");
        exit(1);
    }
    return at;
}

/* Zeroes memory, looks whether it stays so, and frees it. */
static unsigned churn(size_t bytes)
{
    void *at = map(bytes);
    const volatile uint64_t *words = at; /* the compiler must not know what is there */
    unsigned damaged = 0;
    memset(at, 0, bytes);
    for (size_t i = 0; i < bytes / sizeof(*words) && damaged == 0; i++) {
        if (words[i] != 0) {
            printf("ballast-guest: DAMAGED zeros, word %zu: 0x%llx\n", i,
                   (unsigned long long)words[i]);
            damaged = 1;
        }
    }
    munmap(at, bytes);
    return damaged;
}

static unsigned long mem_total_kib(void)
{
    unsigned long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    if (file != NULL) {
        if (fscanf(file, "MemTotal: %lu", &kib) != 1) {
            kib = 0;
        }
        fclose(file);
    }
    return kib;
}

int main(int count, char **arguments)
{
    size_t pages = count == 2 ? strtoul(arguments[1], NULL, 10) * 256 : 0;
    if (pages == 0) {
        fprintf(stderr, "usage: pattern MIB\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t *at = map(pages * PAGE);
    uint32_t *generations = calloc(pages, sizeof(*generations));
    if (generations == NULL) {
        perror("ballast-guest: DAMAGED: no memory for the generations");
        return 1;
    }
    for (size_t page = 0; page < pages; page++) {
        write_page(at + page * WORDS, page, 0);
    }
    for (unsigned round = 0;; round++) {
        unsigned damaged = churn(pages / 2 * PAGE);
        for (size_t page = 0; page < pages && damaged < DAMAGE_MAX; page++) {
            damaged += check_page(at + page * WORDS, page, generations[page]);
        }
        if (damaged != 0) {
            return 1;
        }
        printf("ballast-guest: intact %u MemTotal %lu kB\n", round, mem_total_kib());
        for (size_t page = 0; page < pages; page++) {
            if (mix(page + (uint64_t)round * pages) % 3 == 0) {
                write_page(at + page * WORDS, page, ++generations[page]);
            }
        }
        usleep(PAUSE_US);
    }
}
