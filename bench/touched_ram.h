/* SPDX-License-Identifier: MIT */
/*
 * Memory to be touched, in the benchmark's own process, served by one of three:
 *
 *   kernel   ordinary memory: the kernel's own first touch
 *   loop     the least that a userfaultfd can do: a thread that polls, reads a
 *            fault, moves a page there, and knows nothing else
 *   ballast  a domain as the agent makes it, with the agent's own threads
 *
 * All three are mapped as QEMU maps guest RAM (with MADV_HUGEPAGE, except what
 * the kernel is to serve in single pages) and are in one of three states:
 *
 *   whole    nothing is there; superpages are to be had
 *   split    of each 2 MiB the first page is there, so that the rest can only
 *            come as single pages
 *   scarce   nothing is there; only single pages are to be had, and few
 *
 * One of them can be made in a process: the agent's threads end with it.
 */
#ifndef BALLAST_BENCH_TOUCHED_RAM_H
#define BALLAST_BENCH_TOUCHED_RAM_H

#include "base/types.h"

enum server { SERVER_KERNEL, SERVER_LOOP, SERVER_BALLAST };
enum ram_state { RAM_WHOLE, RAM_SPLIT, RAM_SCARCE };

/* Makes it: `bytes`, a multiple of 2 MiB, may be touched, at the address that
 * is returned. Prints why and ends the process if it cannot. */
char *touched_ram_make(enum server server, enum ram_state state, uint64_t bytes);

/* In state scarce: single pages become free for `pages` more touches. */
void touched_ram_spare(pages_t pages);

/* What the domain counted since it was made; zeros without one. */
struct touched_ram_counts {
    uint64_t faults, populated_2m, ahead_2m, populated_4k, sweeps;
};
struct touched_ram_counts touched_ram_counts(void);

#endif
