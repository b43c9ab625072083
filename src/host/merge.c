/* SPDX-License-Identifier: MIT */
#include "host/merge.h"

#include "host/memory.h"
#include "host/sys.h"
#include "host/verdict.h"

#include <errno.h>

static int collapse(haddr_t superpage)
{
    return verdict_of_merge(sys_madvise(superpage, SUPERPAGE_BYTES, MADV_COLLAPSE));
}

int linux_host_merge(struct linux_host *host, gfn_t at)
{
    haddr_t superpage = blocks_address(&host->ram, at);
    if (!memory_has(SUPERPAGE_BYTES, NULL)) {
        return -ENOMEM;
    }
    int err = collapse(superpage);
    if (err == -EBUSY) {
        /* The kernel has broken it up unasked and lost what was zero, perhaps. */
        split_refill(&host->split, superpage, SUPERPAGE_BYTES);
        err = collapse(superpage);
    }
    return err;
}
