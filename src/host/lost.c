/* SPDX-License-Identifier: MIT */
#include "host/lost.h"

#include "host/pagemap.h"

/* The piece that a search is in; false if there is none of that number. */
static bool piece_of(const struct linux_host *host, unsigned number, struct host_block *piece)
{
    if (number < BLOCKS_MAX) {
        return blocks_get(&host->ram, number, piece);
    }
    *piece = (struct host_block){.at = host->cache, .bytes = host->cache_bytes - SPLIT_AREA_BYTES};
    return true;
}

bool lost_find(const struct linux_host *host, struct lost_search *search, haddr_t *superpage)
{
    struct host_block piece;
    for (; search->block <= BLOCKS_MAX; search->block++, search->at.a = 0) {
        if (!piece_of(host, search->block, &piece)) {
            continue;
        }
        search->at.a = max_u64(search->at.a, piece.at.a);
        if (pagemap_find_zero_page(host->split.mover.pagemap, &search->at,
                                   haddr_add(piece.at, piece.bytes))) {
            superpage->a = search->at.a / SUPERPAGE_BYTES * SUPERPAGE_BYTES;
            search->at = haddr_add(*superpage, SUPERPAGE_BYTES);
            return true;
        }
    }
    return false;
}

void lost_bring_back(struct linux_host *host, haddr_t superpage)
{
    /* The block may have gone since it was searched. */
    for (unsigned i = 0; i <= BLOCKS_MAX; i++) {
        struct host_block piece;
        if (piece_of(host, i, &piece) && superpage.a - piece.at.a < piece.bytes) {
            uint64_t left = piece.at.a + piece.bytes - superpage.a;
            split_refill(&host->split, superpage, min_u64(SUPERPAGE_BYTES, left));
        }
    }
}
