/* SPDX-License-Identifier: MIT */
#include "fake_domain.h"

#include <stdlib.h>
#include <sys/mman.h>

int fake_domain_init_with_room(struct fake_domain *fake, pages_t max_pages, pages_t span_pages,
                               pages_t target_pages)
{
    struct domain_config config = {
        .max_pages = max_pages, .span_pages = span_pages, .target_pages = target_pages};
    if (span_pages > bytes_to_pages(MAX_DOMAIN_BYTES)) {
        /* Refused before it looks at its metadata. */
        return domain_init(&fake->domain, &config, &fake_ops, &fake->host, NULL);
    }
    fake->metadata_bytes = domain_metadata_bytes(span_pages);
    fake->metadata = mmap(NULL, fake->metadata_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fake->metadata == MAP_FAILED) {
        abort();
    }
    /* A huge page would be touched as a whole. */
    madvise(fake->metadata, fake->metadata_bytes, MADV_NOHUGEPAGE);
    int err = domain_init(&fake->domain, &config, &fake_ops, &fake->host, fake->metadata);
    if (err != 0) {
        munmap(fake->metadata, fake->metadata_bytes);
        return err;
    }
    fake_host_init(&fake->host, span_pages, domain_cache_span_pages(span_pages));
    return 0;
}

int fake_domain_init(struct fake_domain *fake, pages_t max_pages, pages_t target_pages)
{
    return fake_domain_init_with_room(fake, max_pages, max_pages, target_pages);
}

void fake_domain_start(struct fake_domain *fake, pages_t max_pages, pages_t target_pages)
{
    fake_domain_start_with_room(fake, max_pages, max_pages, target_pages);
}

void fake_domain_start_with_room(struct fake_domain *fake, pages_t max_pages, pages_t span_pages,
                                 pages_t target_pages)
{
    pages_t missing = target_pages;
    if (fake_domain_init_with_room(fake, max_pages, span_pages, target_pages) != 0 ||
        domain_build_step(&fake->domain, target_pages, &missing) != 0) {
        abort();
    }
    while (missing != 0) {
        if (domain_build_step(&fake->domain, SUPERPAGE_PAGES, &missing) != 0) {
            abort();
        }
    }
}

void fake_domain_free(struct fake_domain *fake)
{
    fake_host_free(&fake->host);
    munmap(fake->metadata, fake->metadata_bytes);
}

const char *fake_domain_check(struct fake_domain *fake, bool all)
{
    const char *wrong = domain_check(&fake->domain);
    if (wrong == NULL) {
        wrong = fake_host_compare(&fake->host, &fake->domain, all);
    }
    return wrong != NULL ? wrong : fake->host.violation;
}

int fake_domain_touch(struct fake_domain *fake, gfn_t at, uint32_t token)
{
    int err = 0;
    if (!fake_guest_has(&fake->host, at)) {
        err = domain_populate(&fake->domain, at);
    }
    if (err == 0 && !fake_guest_write(&fake->host, at, token)) {
        abort();
    }
    return err;
}

size_t fake_domain_metadata_used(const struct fake_domain *fake)
{
    size_t pages = (fake->metadata_bytes + PAGE_BYTES - 1) / PAGE_BYTES, used = 0;
    unsigned char *resident = malloc(pages);
    if (resident == NULL || mincore(fake->metadata, fake->metadata_bytes, resident) != 0) {
        abort();
    }
    for (size_t i = 0; i < pages; i++) {
        used += resident[i] & 1;
    }
    free(resident);
    return used * PAGE_BYTES;
}
