/* SPDX-License-Identifier: MIT */
/*
 * Making single pages one huge page again.
 *
 * The kernel does it in place (MADV_COLLAPSE, Linux 6.1): it brings a huge page,
 * copies the single ones while nobody can write to them, and gives them back.
 * Not a page is missing meanwhile, whoever counts those that are mapped. Until
 * it is done the host needs 2 MiB beyond the total. It takes hundreds of
 * microseconds, or milliseconds if the host must look for a huge page.
 *
 * The pages must be ordinary ones: where the kernel has put its shared zero page
 * because it broke up a huge page by itself (see split.h), it says EBUSY.
 */
#ifndef BALLAST_HOST_MERGE_H
#define BALLAST_HOST_MERGE_H

#include "host/linux_host.h"

/*
 * Makes the superpage of guest RAM at `at`, of which every page is in place, one
 * huge page; the guest may use it meanwhile. Needs no lock, but nobody may move
 * pages from there until it returns (domain_recover_begin sees to that).
 *
 *   0        it is huge
 *   -ENOMEM  the host has no huge page to spare
 *   -EBUSY, -EAGAIN  not this one, now: as it was
 */
int linux_host_merge(struct linux_host *host, gfn_t at);

#endif
