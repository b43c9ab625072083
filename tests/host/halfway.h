/* SPDX-License-Identifier: MIT */
/*
 * Stops a system call halfway, while the kernel holds some of the memory that it
 * was given: it also needs a page that is kept back (a trap).
 */
#ifndef BALLAST_TESTS_HOST_HALFWAY_H
#define BALLAST_TESTS_HOST_HALFWAY_H

#include "fixture.h"

/* What a trap's page holds when it comes, and what open_direct's file holds. */
#define HALFWAY_SEED UINT64_C(77)

/* A page that is missing until trap_release: who touches it waits. */
struct trap {
    int uffd;
    haddr_t page;
};

void trap_set(struct trap *trap);

/* Until somebody waits for the page, 30 s at most. */
void trap_wait(const struct trap *trap);

/* The page comes, filled from HALFWAY_SEED. */
void trap_release(const struct trap *trap);

void trap_remove(const struct trap *trap);

/* Two pages of a file, filled from HALFWAY_SEED, for reading with O_DIRECT; -1 if its
 * file system has no O_DIRECT, or says so only: what copies from a cache of pages
 * touches each page when its turn comes. */
int open_direct(void);

#endif
