/* SPDX-License-Identifier: MIT */
#include "host/lost.h"

#include "host/pagemap.h"

struct lost_search lost_search_begin(const struct linux_host *host)
{
    return (struct lost_search){.at = host->ram};
}

bool lost_find(const struct linux_host *host, struct lost_search *search, haddr_t *superpage)
{
    int pagemap = host->split.mover.pagemap;
    bool found = false;
    if (!search->in_cache) {
        found = pagemap_find_zero_page(pagemap, &search->at, haddr_add(host->ram, host->ram_bytes));
        if (!found) {
            *search = (struct lost_search){.in_cache = true, .at = host->cache};
        }
    }
    if (!found) {
        haddr_t end = haddr_add(host->cache, host->cache_bytes - SPLIT_AREA_BYTES);
        found = pagemap_find_zero_page(pagemap, &search->at, end);
    }
    if (found) {
        superpage->a = search->at.a / SUPERPAGE_BYTES * SUPERPAGE_BYTES;
        search->at = haddr_add(*superpage, SUPERPAGE_BYTES);
    }
    return found;
}

void lost_bring_back(struct linux_host *host, haddr_t superpage)
{
    uint64_t ram_end = host->ram.a + host->ram_bytes;
    bool in_ram = superpage.a >= host->ram.a && superpage.a < ram_end;
    uint64_t bytes = in_ram ? min_u64(SUPERPAGE_BYTES, ram_end - superpage.a) : SUPERPAGE_BYTES;
    split_refill(&host->split, superpage, bytes);
}
