/* SPDX-License-Identifier: MIT */
/*
 * A domain on the fake host, with metadata of its own: what the unit tests, the
 * model and the benchmark of the engine start from.
 */
#ifndef BALLAST_TESTS_FAKE_DOMAIN_H
#define BALLAST_TESTS_FAKE_DOMAIN_H

#include "fake_host.h"

struct fake_domain {
    struct fake_host host;
    struct domain domain;
    void *metadata; /* anonymous memory, untouched before the engine touches it */
    size_t metadata_bytes;
};

/* Makes the two and introduces them to each other. Returns what domain_init
 * does; nothing is left to free unless that is 0. */
int fake_domain_init(struct fake_domain *fake, pages_t max_pages, pages_t target_pages);

/* The same, with room for more memory, up to span_pages, by domain_plug. */
int fake_domain_init_with_room(struct fake_domain *fake, pages_t max_pages, pages_t span_pages,
                               pages_t target_pages);

/* As fake_domain_init, and builds it; aborts if it does not come to run. */
void fake_domain_start(struct fake_domain *fake, pages_t max_pages, pages_t target_pages);

/* The same, with room. */
void fake_domain_start_with_room(struct fake_domain *fake, pages_t max_pages, pages_t span_pages,
                                 pages_t target_pages);

void fake_domain_free(struct fake_domain *fake);

/* The engine's equations, the host's comparison (see fake_host_compare) and its
 * complaint if it has one. NULL, or what is wrong. */
const char *fake_domain_check(struct fake_domain *fake, bool all);

/* Populates a gfn and writes a token to it, as a guest does that touches it.
 * Returns what domain_populate did, or 0 if the page was in place. */
int fake_domain_touch(struct fake_domain *fake, gfn_t at, uint32_t token);

/* Bytes of the metadata that were ever touched, in whole pages. */
size_t fake_domain_metadata_used(const struct fake_domain *fake);

#endif
