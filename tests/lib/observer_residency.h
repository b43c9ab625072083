/* SPDX-License-Identifier: MIT */
/*
 * How many pages of two ranges of another process are backed by memory,
 * according to the kernel's own books. Two ways that share no code in the
 * kernel beyond the page tables themselves:
 *
 *  - PAGEMAP_SCAN on /proc/PID/pagemap (Linux 6.7): walks the page tables of
 *    exactly the ranges asked for. Fast enough for 100 Hz and exact at any
 *    address, so it is the measure.
 *  - /proc/PID/smaps: "Anonymous" plus "Swap" of the mappings that lie in the
 *    ranges. Slower, and of use only if no mapping crosses a range's border.
 *    It is the check on the first.
 *
 * Neither is atomic against a page that moves between the ranges meanwhile:
 * observer.c says how that is told apart from a deviation.
 */
#ifndef BALLAST_TESTS_OBSERVER_RESIDENCY_H
#define BALLAST_TESTS_OBSERVER_RESIDENCY_H

#include <stdint.h>
#include <sys/types.h>

struct range {
    uint64_t start; /* address in the observed process */
    uint64_t bytes;
};

/* In pages of 4 KiB. Swapped pages count as resident: the domain owns them.
 * The kernel's shared zero page does not: it is nobody's memory. */
struct residency {
    uint64_t pages;
    uint64_t huge_pages; /* of these, those mapped by 2 MiB entries */
    uint64_t zero_pages; /* places where the shared zero page is mapped */
};

struct residency_reader {
    pid_t pid;
    int pagemap_fd;
};

/* Opens /proc/PID/pagemap. -errno as from open(2). */
int residency_open(pid_t pid, struct residency_reader *reader);

void residency_close(struct residency_reader *reader);

/* Scans one range. -ENOTTY if the kernel has no PAGEMAP_SCAN; -ESRCH if the
 * process has no memory any more. */
int residency_scan(struct residency_reader *reader, struct range range, struct residency *result);

/* Sums smaps over the mappings inside the range. -EXDEV if a mapping crosses
 * its border; -errno from reading the file. */
int residency_smaps(pid_t pid, struct range range, uint64_t *pages);

/* RssAnon of /proc/PID/status in pages. -ESRCH if the process has no memory
 * any more: it is ending. */
int residency_rss_anon(pid_t pid, uint64_t *pages);

#endif
