/* SPDX-License-Identifier: MIT */
#include "fake_host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum page_flags {
    PAGE_PRESENT = 1,
    PAGE_HIDDEN = 2,  /* its token is not 0 but it looks zero */
    PAGE_PINNED = 4,  /* cannot be moved */
    PAGE_FOREIGN = 8, /* in place though the p2m said POD when it came */
};

/* The pages of a superpage, once they are not all alike. */
struct fake_block {
    struct fake_block *next;      /* of all blocks */
    struct fake_block *next_free; /* while it is free */
    uint32_t tokens[SUPERPAGE_PAGES];
    uint32_t homes[SUPERPAGE_PAGES]; /* gfn that a page in transit was taken from */
    uint8_t flags[SUPERPAGE_PAGES];
};

const char *const fake_op_names[FAKE_OPS] = {
    "place",       "take",     "wake",    "glance",        "compare",       "scrub",
    "clear_guest", "allocate", "release", "flatten_guest", "flatten_cache",
};

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void side_init(struct fake_side *side, pages_t limit_pages)
{
    side->limit_pages = limit_pages;
    side->count = (uint32_t)((limit_pages + SUPERPAGE_PAGES - 1) / SUPERPAGE_PAGES);
    side->superpages = zeroed(side->count, sizeof(*side->superpages));
    side->dirty = zeroed(side->count, sizeof(*side->dirty));
}

void fake_host_init(struct fake_host *host, pages_t max_pages, pages_t span_pages)
{
    *host = (struct fake_host){.random = 1};
    side_init(&host->guest, max_pages);
    side_init(&host->cache, span_pages);
}

static void side_free(struct fake_side *side)
{
    free(side->superpages);
    free(side->dirty);
}

void fake_host_free(struct fake_host *host)
{
    side_free(&host->guest);
    side_free(&host->cache);
    while (host->blocks != NULL) {
        struct fake_block *next = host->blocks->next;
        free(host->blocks);
        host->blocks = next;
    }
}

static void breach(struct fake_host *host, const char *what)
{
    if (host->violation == NULL) {
        host->violation = what;
    }
}

/* Failures */

void fake_host_fail(struct fake_host *host, struct fake_failure failure)
{
    if (host->failure_count == FAKE_FAILURES) {
        abort();
    }
    if (failure.times == 0) {
        failure.times = UINT32_MAX;
    }
    host->failures[host->failure_count++] = failure;
}

void fake_host_heal(struct fake_host *host)
{
    host->failure_count = 0;
    host->fail_one_in = 0;
    host->fatal_one_in = 0;
}

static uint64_t draw(struct fake_host *host)
{
    host->random ^= host->random << 13;
    host->random ^= host->random >> 7;
    host->random ^= host->random << 17;
    return host->random;
}

/* The errors that an operation may come back with by chance. */
static int random_error(struct fake_host *host, enum fake_op op, bool fatal)
{
    bool coin = draw(host) & 1024;
    switch (op) {
    case FAKE_PLACE:
        return fatal ? (coin ? -ESRCH : -EIO) : coin ? -EAGAIN : -EBUSY;
    case FAKE_TAKE:
        return fatal ? (coin ? -ENOENT : -EEXIST) : coin ? -EAGAIN : -EBUSY;
    case FAKE_ALLOCATE:
        return fatal ? -EIO : coin ? -EAGAIN : -ENOMEM;
    case FAKE_RELEASE:
        return fatal ? (coin ? -ESRCH : -EIO) : -EAGAIN;
    case FAKE_FLATTEN_GUEST:
    case FAKE_FLATTEN_CACHE:
        return fatal ? -ESRCH : coin ? -EAGAIN : -EOPNOTSUPP;
    default:
        return 0;
    }
}

/* Whether this call fails, and after how many of its pages. */
static int plan(struct fake_host *host, enum fake_op op, pages_t pages, pages_t *after)
{
    *after = pages;
    for (size_t i = 0; i < host->failure_count; i++) {
        struct fake_failure *failure = &host->failures[i];
        if (failure->op != op || failure->times == 0) {
            continue;
        }
        if (failure->skip != 0) {
            failure->skip--;
        } else {
            failure->times -= failure->times != UINT32_MAX;
            /* A call that is too short never meets the bad page. */
            *after = min_u64(failure->after, pages);
            host->failed[op] += failure->after < pages;
            return failure->after < pages ? failure->err : 0;
        }
    }
    int err = 0;
    if (host->fatal_one_in != 0 && draw(host) % host->fatal_one_in == 0) {
        err = random_error(host, op, true);
    } else if (host->fail_one_in != 0 && draw(host) % host->fail_one_in == 0) {
        err = random_error(host, op, false);
    }
    if (err != 0) {
        host->random_failures++;
        host->failed[op]++;
        *after = draw(host) & 4096 ? 0 : draw(host) % pages;
    }
    return err;
}

static void hook(struct fake_host *host, void (*function)(void *, const struct fake_call *),
                 const struct fake_call *call)
{
    if (function != NULL) {
        function(host->context, call);
    }
}

static void begin(struct fake_host *host, const struct fake_call *call)
{
    host->calls[call->op]++;
    hook(host, host->before, call);
}

/* Pages and superpages */

static struct fake_superpage *superpage(const struct fake_side *side, uint64_t at)
{
    return &side->superpages[at / SUPERPAGE_PAGES];
}

static void mark_dirty(struct fake_side *side, uint64_t at)
{
    struct fake_superpage *sp = superpage(side, at);
    if (!sp->dirty) {
        sp->dirty = true;
        side->dirty[side->dirty_count++] = (uint32_t)(at / SUPERPAGE_PAGES);
    }
}

static bool page_present(const struct fake_side *side, uint64_t at)
{
    const struct fake_superpage *sp = superpage(side, at);
    if (sp->block == NULL) {
        return sp->present != 0;
    }
    return sp->block->flags[at % SUPERPAGE_PAGES] & PAGE_PRESENT;
}

static uint32_t page_token(const struct fake_side *side, uint64_t at)
{
    const struct fake_superpage *sp = superpage(side, at);
    return sp->block == NULL ? 0 : sp->block->tokens[at % SUPERPAGE_PAGES];
}

static uint8_t page_flags(const struct fake_side *side, uint64_t at)
{
    const struct fake_superpage *sp = superpage(side, at);
    if (sp->block == NULL) {
        return sp->present != 0 ? PAGE_PRESENT : 0;
    }
    return sp->block->flags[at % SUPERPAGE_PAGES];
}

/* Gives a superpage a block, if it has none, so that its pages can differ. */
static struct fake_block *block_of(struct fake_host *host, struct fake_superpage *sp)
{
    if (sp->block == NULL) {
        struct fake_block *block = host->free_blocks;
        if (block != NULL) {
            host->free_blocks = block->next_free;
        } else {
            block = zeroed(1, sizeof(*block));
            block->next = host->blocks;
            host->blocks = block;
        }
        memset(block->tokens, 0, sizeof(block->tokens));
        memset(block->flags, sp->present != 0 ? PAGE_PRESENT : 0, sizeof(block->flags));
        sp->block = block;
    }
    return sp->block;
}

static void drop_block(struct fake_host *host, struct fake_superpage *sp)
{
    if (sp->block != NULL) {
        sp->block->next_free = host->free_blocks;
        host->free_blocks = sp->block;
        sp->block = NULL;
    }
}

static void put_page(struct fake_host *host, struct fake_side *side, uint64_t at, uint32_t token,
                     uint8_t flags)
{
    struct fake_superpage *sp = superpage(side, at);
    struct fake_block *block = block_of(host, sp);
    block->tokens[at % SUPERPAGE_PAGES] = token;
    block->flags[at % SUPERPAGE_PAGES] = flags | PAGE_PRESENT;
    sp->present++;
    sp->table = true;
    side->present_pages++;
    mark_dirty(side, at);
}

static void drop_page(struct fake_host *host, struct fake_side *side, uint64_t at)
{
    struct fake_superpage *sp = superpage(side, at);
    struct fake_block *block = block_of(host, sp);
    block->tokens[at % SUPERPAGE_PAGES] = 0;
    block->flags[at % SUPERPAGE_PAGES] = 0;
    sp->present--;
    sp->huge = false;
    sp->table = true;
    side->present_pages--;
    mark_dirty(side, at);
    if (sp->present == 0) {
        drop_block(host, sp);
    }
}

static bool in_one_superpage(uint64_t at, pages_t pages)
{
    return pages != 0 && at % SUPERPAGE_PAGES + pages <= SUPERPAGE_PAGES;
}

static bool in_span(const struct fake_side *side, uint64_t at, pages_t pages)
{
    return pages != 0 && at <= side->limit_pages && pages <= side->limit_pages - at;
}

static bool all_present(const struct fake_side *side, uint64_t at, pages_t pages)
{
    if (superpage(side, at)->present == SUPERPAGE_PAGES) {
        return true;
    }
    for (pages_t i = 0; i < pages; i++) {
        if (!page_present(side, at + i)) {
            return false;
        }
    }
    return true;
}

/* Moves */

/* Why a page cannot be moved, or 0. */
static int page_verdict(const struct fake_side *from_side, uint64_t from,
                        const struct fake_side *to_side, uint64_t to)
{
    if (page_present(to_side, to)) {
        return -EEXIST;
    }
    if (!page_present(from_side, from)) {
        return -ENOENT;
    }
    return page_flags(from_side, from) & PAGE_PINNED ? -EBUSY : 0;
}

/* How many of the first `limit` pages can be moved, and why not the next. */
static pages_t movable(const struct fake_side *from_side, uint64_t from,
                       const struct fake_side *to_side, uint64_t to, pages_t limit, int *err)
{
    const struct fake_superpage *source = superpage(from_side, from);
    *err = 0;
    if (source->block == NULL && source->present != 0 && superpage(to_side, to)->present == 0) {
        return limit;
    }
    for (pages_t i = 0; i < limit; i++) {
        *err = page_verdict(from_side, from + i, to_side, to + i);
        if (*err != 0) {
            return i;
        }
    }
    return limit;
}

static void move_whole(struct fake_side *from_side, uint64_t from, struct fake_side *to_side,
                       uint64_t to)
{
    struct fake_superpage *source = superpage(from_side, from), *dest = superpage(to_side, to);
    bool huge = source->huge && !dest->table;
    dest->block = source->block;
    dest->present = source->present;
    dest->huge = huge;
    dest->table = !huge;
    source->block = NULL;
    source->present = 0;
    source->huge = false;
    source->table = !huge;
    from_side->present_pages -= SUPERPAGE_PAGES;
    to_side->present_pages += SUPERPAGE_PAGES;
    mark_dirty(from_side, from);
    mark_dirty(to_side, to);
}

static void move_pages(struct fake_host *host, struct fake_side *from_side, uint64_t from,
                       struct fake_side *to_side, uint64_t to, pages_t pages)
{
    if (pages == SUPERPAGE_PAGES) {
        move_whole(from_side, from, to_side, to);
        return;
    }
    for (pages_t i = 0; i < pages; i++) {
        uint32_t token = page_token(from_side, from + i);
        uint8_t flags = page_flags(from_side, from + i);
        uint32_t home = 0;
        struct fake_superpage *source = superpage(from_side, from + i);
        if (source->block != NULL) {
            home = source->block->homes[(from + i) % SUPERPAGE_PAGES];
        }
        drop_page(host, from_side, from + i);
        put_page(host, to_side, to + i, token, flags);
        superpage(to_side, to)->block->homes[(to + i) % SUPERPAGE_PAGES] = home;
    }
}

/* Remembers where pages with content came from, and checks that they return. */
static void note_homes(struct fake_host *host, gfn_t from, cfn_t to, pages_t pages)
{
    struct fake_block *block = superpage(&host->cache, to.n)->block;
    for (pages_t i = 0; block != NULL && i < pages; i++) {
        block->homes[(to.n + i) % SUPERPAGE_PAGES] = (uint32_t)(from.n + i);
    }
}

static void check_homes(struct fake_host *host, cfn_t from, gfn_t to, pages_t pages)
{
    const struct fake_block *block = superpage(&host->cache, from.n)->block;
    for (pages_t i = 0; block != NULL && i < pages; i++) {
        pages_t page = (from.n + i) % SUPERPAGE_PAGES;
        if (block->tokens[page] != 0 && block->homes[page] != (uint32_t)(to.n + i)) {
            breach(host, "a page with contents was placed where it did not come from");
        }
    }
}

static int move(struct fake_host *host, const struct fake_call *call, pages_t *moved)
{
    bool placing = call->op == FAKE_PLACE;
    struct fake_side *from_side = placing ? &host->cache : &host->guest;
    struct fake_side *to_side = placing ? &host->guest : &host->cache;
    uint64_t from = placing ? call->cache.n : call->guest.n;
    uint64_t to = placing ? call->guest.n : call->cache.n;
    *moved = 0;
    begin(host, call);
    if (!in_one_superpage(from, call->pages) || !in_one_superpage(to, call->pages) ||
        !in_span(from_side, from, call->pages) || !in_span(to_side, to, call->pages)) {
        breach(host, "a move crosses a superpage's end, or leaves the span, or is empty");
        return -EIO;
    }
    pages_t after = 0;
    int planned = plan(host, call->op, call->pages, &after), err = 0;
    pages_t went = movable(from_side, from, to_side, to, after, &err);
    if (went == after) {
        err = planned;
    }
    if (went != 0) {
        if (placing) {
            check_homes(host, call->cache, call->guest, went);
        }
        move_pages(host, from_side, from, to_side, to, went);
        if (!placing) {
            note_homes(host, call->guest, call->cache, went);
        }
    }
    host->pages[call->op] += went;
    *moved = went;
    hook(host, host->after, call);
    return err;
}

static int op_place(void *opaque, cfn_t from, gfn_t to, pages_t pages, pages_t *moved)
{
    return move(opaque, &(struct fake_call){FAKE_PLACE, to, from, pages}, moved);
}

static int op_take(void *opaque, gfn_t from, cfn_t to, pages_t pages, pages_t *moved)
{
    return move(opaque, &(struct fake_call){FAKE_TAKE, from, to, pages}, moved);
}

/* The rest of the table */

static void op_wake(void *opaque, gfn_t at, pages_t pages)
{
    struct fake_host *host = opaque;
    struct fake_call call = {FAKE_WAKE, at, cfn(0), pages};
    begin(host, &call);
    if (!in_one_superpage(at.n, pages) || !in_span(&host->guest, at.n, pages) ||
        !all_present(&host->guest, at.n, pages)) {
        breach(host, "somebody was woken for a page that is not in place");
        return;
    }
    mark_dirty(&host->guest, at.n);
    host->pages[FAKE_WAKE] += pages;
    hook(host, host->after, &call);
}

static bool looks_zero(const struct fake_block *block, pages_t page)
{
    return block->tokens[page] == 0 || (block->flags[page] & PAGE_HIDDEN);
}

static pages_t op_glance(void *opaque, gfn_t at, pages_t pages, bool zero)
{
    struct fake_host *host = opaque;
    struct fake_call call = {FAKE_GLANCE, at, cfn(0), pages};
    begin(host, &call);
    if (!in_one_superpage(at.n, pages) || !in_span(&host->guest, at.n, pages) ||
        !all_present(&host->guest, at.n, pages)) {
        breach(host, "a glance at a page that is not in place");
        return 0;
    }
    const struct fake_block *block = superpage(&host->guest, at.n)->block;
    pages_t run = block == NULL && zero ? pages : 0;
    while (block != NULL && run < pages &&
           looks_zero(block, (at.n + run) % SUPERPAGE_PAGES) == zero) {
        run++;
    }
    host->pages[FAKE_GLANCE] += min_u64(run + 1, pages);
    hook(host, host->after, &call);
    return run;
}

static bool check_cached(struct fake_host *host, cfn_t at, pages_t pages)
{
    if (!in_one_superpage(at.n, pages) || !in_span(&host->cache, at.n, pages) ||
        !all_present(&host->cache, at.n, pages)) {
        breach(host, "an operation on cached pages that are not there");
        return false;
    }
    return true;
}

static pages_t op_compare(void *opaque, cfn_t at, pages_t pages)
{
    struct fake_host *host = opaque;
    struct fake_call call = {FAKE_COMPARE, gfn(0), at, pages};
    begin(host, &call);
    if (!check_cached(host, at, pages)) {
        return 0;
    }
    pages_t run = 0;
    if (superpage(&host->cache, at.n)->block == NULL) {
        run = pages;
    }
    while (run < pages && page_token(&host->cache, at.n + run) == 0) {
        run++;
    }
    host->pages[FAKE_COMPARE] += min_u64(run + 1, pages);
    hook(host, host->after, &call);
    return run;
}

static void op_scrub(void *opaque, cfn_t at, pages_t pages)
{
    struct fake_host *host = opaque;
    struct fake_call call = {FAKE_SCRUB, gfn(0), at, pages};
    begin(host, &call);
    if (!check_cached(host, at, pages)) {
        return;
    }
    struct fake_superpage *sp = superpage(&host->cache, at.n);
    for (pages_t i = 0; sp->block != NULL && i < pages; i++) {
        sp->block->tokens[(at.n + i) % SUPERPAGE_PAGES] = 0;
        sp->block->flags[(at.n + i) % SUPERPAGE_PAGES] &= (uint8_t)~PAGE_HIDDEN;
    }
    mark_dirty(&host->cache, at.n);
    host->pages[FAKE_SCRUB] += pages;
    hook(host, host->after, &call);
}

static void op_clear_guest(void *opaque, gfn_t at, pages_t pages)
{
    struct fake_host *host = opaque;
    struct fake_call call = {FAKE_CLEAR_GUEST, at, cfn(0), pages};
    begin(host, &call);
    if (!in_one_superpage(at.n, pages) || !in_span(&host->guest, at.n, pages) ||
        !all_present(&host->guest, at.n, pages)) {
        breach(host, "clear_guest of a page that is not in place");
        return;
    }
    for (pages_t i = 0; i < pages; i++) {
        fake_guest_write(host, gfn_add(at, i), 0);
    }
    mark_dirty(&host->guest, at.n);
    host->pages[FAKE_CLEAR_GUEST] += pages;
    hook(host, host->after, &call);
}

static int op_allocate(void *opaque, cfn_t at, pages_t pages)
{
    struct fake_host *host = opaque;
    struct fake_side *side = &host->cache;
    struct fake_call call = {FAKE_ALLOCATE, gfn(0), at, pages};
    begin(host, &call);
    if (!in_span(side, at.n, pages)) {
        breach(host, "an allocation outside the cache's span, or of nothing");
        return -EIO;
    }
    pages_t after = 0;
    int err = plan(host, FAKE_ALLOCATE, pages, &after);
    if (err != 0) {
        return err; /* all or nothing */
    }
    for (pages_t done = 0; done < pages;) {
        uint64_t here = at.n + done;
        pages_t run = min_u64(SUPERPAGE_PAGES - here % SUPERPAGE_PAGES, pages - done);
        struct fake_superpage *sp = superpage(side, here);
        if (run == SUPERPAGE_PAGES && sp->present == 0) {
            sp->present = (uint16_t)SUPERPAGE_PAGES;
            sp->huge = !host->no_huge && !sp->table;
            sp->table = !sp->huge;
            host->silent_splits |= !sp->huge;
            side->present_pages += SUPERPAGE_PAGES;
            mark_dirty(side, here);
        } else {
            for (pages_t i = 0; i < run; i++) {
                if (page_present(side, here + i)) {
                    breach(host, "an allocation where a page is already");
                    return -EEXIST;
                }
                put_page(host, side, here + i, 0, 0);
            }
        }
        done += run;
    }
    host->pages[FAKE_ALLOCATE] += pages;
    hook(host, host->after, &call);
    return 0;
}

static int op_release(void *opaque, cfn_t at, pages_t pages)
{
    struct fake_host *host = opaque;
    struct fake_call call = {FAKE_RELEASE, gfn(0), at, pages};
    begin(host, &call);
    if (!check_cached(host, at, pages)) {
        return -EIO;
    }
    pages_t after = 0;
    int err = plan(host, FAKE_RELEASE, pages, &after);
    if (err != 0) {
        return err;
    }
    struct fake_superpage *sp = superpage(&host->cache, at.n);
    bool whole = sp->huge && pages == SUPERPAGE_PAGES;
    for (pages_t i = 0; i < pages; i++) {
        drop_page(host, &host->cache, at.n + i);
    }
    sp->table = !whole;
    host->pages[FAKE_RELEASE] += pages;
    hook(host, host->after, &call);
    return 0;
}

static int flatten(struct fake_host *host, struct fake_side *side, uint64_t at,
                   const struct fake_call *call)
{
    begin(host, call);
    if (at % SUPERPAGE_PAGES != 0 || !in_span(side, at, SUPERPAGE_PAGES)) {
        breach(host, "flatten at something that is no whole superpage");
        return -EIO;
    }
    pages_t after = 0;
    int err = plan(host, call->op, 1, &after);
    struct fake_superpage *sp = superpage(side, at);
    if (err == 0 && sp->present != 0) {
        if (side == &host->cache || host->foreign_pages == 0) {
            breach(host, "flatten of a superpage that holds pages");
        }
        err = -EEXIST;
    }
    if (err == 0) {
        sp->table = false;
    }
    hook(host, host->after, call);
    return err;
}

static int op_flatten_guest(void *opaque, gfn_t at)
{
    struct fake_host *host = opaque;
    return flatten(host, &host->guest, at.n,
                   &(struct fake_call){FAKE_FLATTEN_GUEST, at, cfn(0), SUPERPAGE_PAGES});
}

static int op_flatten_cache(void *opaque, cfn_t at)
{
    struct fake_host *host = opaque;
    return flatten(host, &host->cache, at.n,
                   &(struct fake_call){FAKE_FLATTEN_CACHE, gfn(0), at, SUPERPAGE_PAGES});
}

const struct engine_ops fake_ops = {
    .place = op_place,
    .take = op_take,
    .wake = op_wake,
    .glance = op_glance,
    .compare = op_compare,
    .scrub = op_scrub,
    .clear_guest = op_clear_guest,
    .allocate = op_allocate,
    .release = op_release,
    .flatten_guest = op_flatten_guest,
    .flatten_cache = op_flatten_cache,
};

/* What others do */

bool fake_guest_has(const struct fake_host *host, gfn_t at)
{
    return page_present(&host->guest, at.n);
}

static bool guest_write(struct fake_host *host, gfn_t at, uint32_t token, uint8_t hidden)
{
    if (!page_present(&host->guest, at.n)) {
        return false;
    }
    struct fake_superpage *sp = superpage(&host->guest, at.n);
    if (sp->block == NULL && token == 0) {
        return true;
    }
    struct fake_block *block = block_of(host, sp);
    pages_t page = at.n % SUPERPAGE_PAGES;
    block->tokens[page] = token;
    block->flags[page] = (uint8_t)((block->flags[page] & ~PAGE_HIDDEN) | hidden);
    return true;
}

bool fake_guest_write(struct fake_host *host, gfn_t at, uint32_t token)
{
    return guest_write(host, at, token, 0);
}

bool fake_guest_write_hidden(struct fake_host *host, gfn_t at, uint32_t token)
{
    return guest_write(host, at, token, PAGE_HIDDEN);
}

bool fake_guest_read(const struct fake_host *host, gfn_t at, uint32_t *token)
{
    if (!page_present(&host->guest, at.n)) {
        return false;
    }
    *token = page_token(&host->guest, at.n);
    return true;
}

const uint32_t *fake_guest_tokens(const struct fake_host *host, p2m_index_t index)
{
    static const uint32_t zeros[SUPERPAGE_PAGES];
    const struct fake_block *block = host->guest.superpages[index].block;
    return block != NULL ? block->tokens : zeros;
}

static bool pin(struct fake_host *host, struct fake_side *side, uint64_t at, bool pinned)
{
    if (!page_present(side, at)) {
        return false;
    }
    struct fake_block *block = block_of(host, superpage(side, at));
    uint8_t *flags = &block->flags[at % SUPERPAGE_PAGES];
    *flags = (uint8_t)((*flags & ~PAGE_PINNED) | (pinned ? PAGE_PINNED : 0));
    return true;
}

bool fake_guest_pin(struct fake_host *host, gfn_t at, bool pinned)
{
    return pin(host, &host->guest, at.n, pinned);
}

void fake_cache_pin(struct fake_host *host, cfn_t at, bool pinned)
{
    if (!pin(host, &host->cache, at.n, pinned)) {
        abort();
    }
}

void fake_host_touched(struct fake_host *host, gfn_t at, pages_t pages)
{
    for (pages_t done = 0; done < pages; done += SUPERPAGE_PAGES) {
        mark_dirty(&host->guest, at.n + done);
    }
    if (pages != 0) {
        mark_dirty(&host->guest, at.n + pages - 1);
    }
}

void fake_intrude(struct fake_host *host, gfn_t at, uint32_t token)
{
    if (page_present(&host->guest, at.n)) {
        abort();
    }
    put_page(host, &host->guest, at.n, token, PAGE_FOREIGN);
    host->foreign_pages++;
}

void fake_guest_lose(struct fake_host *host, gfn_t at)
{
    drop_page(host, &host->guest, at.n);
}

void fake_cache_lose(struct fake_host *host, cfn_t at)
{
    drop_page(host, &host->cache, at.n);
}

void fake_guest_split(struct fake_host *host, gfn_t at)
{
    struct fake_superpage *sp = superpage(&host->guest, at.n);
    sp->table |= sp->huge;
    sp->huge = false;
    host->silent_splits = true;
}

void fake_guest_merge(struct fake_host *host, gfn_t at)
{
    struct fake_superpage *sp = superpage(&host->guest, at.n);
    if (sp->present != SUPERPAGE_PAGES) {
        breach(host, "a superpage is made whole of which pages are missing");
    }
    sp->huge = true;
    sp->table = false;
    mark_dirty(&host->guest, at.n);
}

void fake_guest_unmap(struct fake_host *host, gfn_t at)
{
    struct fake_superpage *sp = superpage(&host->guest, at.n);
    if (sp->present != 0) {
        breach(host, "memory is unmapped that is in place");
    }
    sp->huge = false;
    sp->table = false;
    mark_dirty(&host->guest, at.n);
}

bool fake_guest_is_huge(const struct fake_host *host, gfn_t at)
{
    return superpage(&host->guest, at.n)->huge;
}

bool fake_guest_has_table(const struct fake_host *host, gfn_t at)
{
    return superpage(&host->guest, at.n)->table;
}

bool fake_cache_is_huge(const struct fake_host *host, cfn_t at)
{
    return superpage(&host->cache, at.n)->huge;
}

/* Comparison with the ledgers */

/* Whether a run of pages is as the p2m's state has it; counts those of others. */
static const char *compare_run(struct fake_host *host, uint8_t *flags, pages_t pages, bool in_place,
                               pages_t *foreign)
{
    const uint8_t mask = PAGE_PRESENT | PAGE_FOREIGN, expected = in_place ? PAGE_PRESENT : 0;
    unsigned odd = 0;
    for (pages_t i = 0; i < pages; i++) {
        odd |= (flags[i] & mask) ^ expected;
    }
    for (pages_t i = 0; odd != 0 && i < pages; i++) {
        if (in_place && (flags[i] & PAGE_FOREIGN)) {
            flags[i] &= (uint8_t)~PAGE_FOREIGN; /* adopted */
            host->foreign_pages--;
        }
        *foreign += (flags[i] & PAGE_FOREIGN) != 0;
        if (in_place != ((flags[i] & mask) == PAGE_PRESENT)) {
            return in_place ? "a page is not in place that the p2m calls RAM or GIVEN"
                            : "a page is in place that the p2m calls neither RAM nor GIVEN";
        }
    }
    return NULL;
}

static const char *compare_guest(struct fake_host *host, const struct p2m *p2m, uint32_t index)
{
    struct fake_superpage *sp = &host->guest.superpages[index];
    gfn_t first = p2m_first_gfn(index);
    pages_t size = p2m_superpage_pages(p2m, index);
    pages_t foreign = 0;
    for (pages_t i = 0, run = 0; i < size && sp->block != NULL; i += run) {
        enum p2m_state state = p2m_get(p2m, gfn_add(first, i));
        run = p2m_run(p2m, gfn_add(first, i), size - i);
        const char *wrong = compare_run(host, sp->block->flags + i, run,
                                        state == P2M_RAM || state == P2M_GIVEN, &foreign);
        if (wrong != NULL) {
            return wrong;
        }
    }
    if (p2m->entries[index].ram + p2m->entries[index].given != sp->present - foreign) {
        return "the p2m counts other pages in a superpage than there are";
    }
    uint8_t flags = p2m->entries[index].flags;
    if (!host->silent_splits && (flags & P2M_HUGE) && !sp->huge) {
        return "a superpage is not huge that the p2m calls huge";
    }
    if (!host->silent_splits && sp->table && foreign == 0 && !(flags & P2M_TABLE)) {
        return "a page table stands where the p2m says there is none";
    }
    return NULL;
}

/* The pages of a slot against its bitmap, or all of them if it is full. */
static const char *compare_cached(const struct fake_block *block, const struct cache *cache,
                                  uint32_t slot)
{
    static const uint32_t zeros[SUPERPAGE_PAGES];
    const struct cache_slot *s = &cache->slots[slot];
    for (pages_t i = 0; i < SUPERPAGE_PAGES; i++) {
        bool cached =
            s->pages == SUPERPAGE_PAGES || (s->pages != 0 && bitmap_test(&cache->bitmaps[slot], i));
        bool present = block->flags[i] & PAGE_PRESENT;
        if (cached != present) {
            return present ? "the cache does not know of a page that it has"
                           : "the cache has not got a page that it knows of";
        }
    }
    /* A page that is not there has no token. */
    return memcmp(block->tokens, zeros, sizeof(zeros)) != 0 ? "a cached page does not hold zeros"
                                                            : NULL;
}

static const char *compare_cache(const struct fake_host *host, const struct cache *cache,
                                 uint32_t slot)
{
    const struct fake_superpage *sp = &host->cache.superpages[slot];
    const struct cache_slot *s = &cache->slots[slot];
    if (s->pages != sp->present) {
        return "a cache slot counts other pages than it has";
    }
    const char *wrong = sp->block != NULL ? compare_cached(sp->block, cache, slot) : NULL;
    if (wrong != NULL || host->silent_splits) {
        return wrong;
    }
    if ((slot >= cache->fresh || s->list == CACHE_EMPTY) && sp->table) {
        return "a cache slot said to be flat has a page table";
    }
    if (slot < cache->fresh && s->list == CACHE_FULL_HUGE && !sp->huge) {
        return "a cache slot said to be huge is not";
    }
    return NULL;
}

static const char *compare_side(struct fake_host *host, const struct domain *domain, bool guest,
                                bool all)
{
    struct fake_side *side = guest ? &host->guest : &host->cache;
    const char *wrong = NULL;
    uint32_t count = all ? side->count : side->dirty_count;
    for (uint32_t i = 0; i < count && wrong == NULL; i++) {
        uint32_t index = all ? i : side->dirty[i];
        if (guest && index >= domain->p2m.count) {
            continue; /* not yet there: whether something is in place is counted below */
        }
        wrong = guest ? compare_guest(host, &domain->p2m, index)
                      : compare_cache(host, &domain->cache, index);
    }
    while (side->dirty_count != 0) {
        side->superpages[side->dirty[--side->dirty_count]].dirty = false;
    }
    return wrong;
}

const char *fake_host_compare(struct fake_host *host, const struct domain *domain, bool all)
{
    const char *wrong = compare_side(host, domain, true, all);
    if (wrong == NULL) {
        wrong = compare_side(host, domain, false, all);
    }
    if (wrong != NULL) {
        return wrong;
    }
    if (host->guest.present_pages !=
        domain->p2m.ram_pages + domain->p2m.given_pages + host->foreign_pages) {
        return "as many pages are in place as P says";
    }
    if (host->cache.present_pages != domain->cache.pages) {
        return "as many pages are cached as C says";
    }
    if (fake_host_resident(host) != domain->total_pages + host->foreign_pages) {
        return "as many pages are resident as total says";
    }
    return NULL;
}
