/* SPDX-License-Identifier: MIT */
/* What is mapped at an address of this process: /proc/self/pagemap, and its
 * PAGEMAP_SCAN (Linux 6.7). Nothing is touched. */
#ifndef BALLAST_HOST_PAGEMAP_H
#define BALLAST_HOST_PAGEMAP_H

#include "base/types.h"

/* Opens it for the address space that the caller has now, close-on-exec.
 * -EOPNOTSUPP if the kernel does not answer. */
int pagemap_open(int *pagemap);

/* Whether the page at an address is mapped as part of a 2 MiB page. */
bool pagemap_is_huge(int pagemap, haddr_t at);

/* The first place from *at on, and before `end`, where the kernel has mapped its
 * shared zero page; false if there is none. Several calls may be needed to see all
 * of a range: *at moves on. */
bool pagemap_find_zero_page(int pagemap, haddr_t *at, haddr_t end);

/* How many places in a range have the zero page. */
pages_t pagemap_zero_pages(int pagemap, haddr_t at, uint64_t bytes);

/* Whether there is a page at an address: in memory, in swap or on its way. */
bool pagemap_holds(int pagemap, haddr_t at);

/* Whether there is no page in a range. */
bool pagemap_is_empty(int pagemap, haddr_t at, uint64_t bytes);

/* The length of the leading run of places that all hold a page, or all do not,
 * as *holds says. `pages` is at least 1. A run may be cut at 512 pages. */
pages_t pagemap_run(int pagemap, haddr_t at, pages_t pages, bool *holds);

#endif
