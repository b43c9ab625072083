/* SPDX-License-Identifier: MIT */
/* What is mapped at an address of this process: PAGEMAP_SCAN (Linux 6.7). */
#ifndef BALLAST_HOST_PAGEMAP_H
#define BALLAST_HOST_PAGEMAP_H

#include "base/types.h"

/* Opens it for the address space that the caller has now, close-on-exec.
 * -EOPNOTSUPP if the kernel does not answer. */
int pagemap_open(int *pagemap);

/* Whether the page at an address is mapped as part of a 2 MiB page. */
bool pagemap_is_huge(int pagemap, haddr_t at);

#endif
