/* SPDX-License-Identifier: MIT */
/*
 * Does a page hold only zeros? Nothing beyond it is ever read: the next one may
 * be missing, and our own thread would wait for it for ever.
 */
#ifndef BALLAST_HOST_ZERO_H
#define BALLAST_HOST_ZERO_H

#include "base/types.h"

/* Looks at the first and the last cache line only, while others may be writing:
 * false means that the page is not zero, true that it may be. */
bool zero_glance(haddr_t page);

/* Asks the processor for what zero_glance will look at. Harmless at any address. */
void zero_glance_soon(haddr_t page);

/* Compares pages in full, one at least, which nobody writes to meanwhile. */
bool zero_compare(haddr_t at, pages_t pages);

/* Fills a page with zeros, which others may be writing to. A page that is zero
 * is only read: that is cheaper. */
void zero_fill(haddr_t page);

#endif
