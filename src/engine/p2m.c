/* SPDX-License-Identifier: MIT */
#include "engine/p2m.h"

#include <assert.h>
#include <errno.h>

static p2m_index_t superpages_of(pages_t pages)
{
    return (p2m_index_t)((pages + SUPERPAGE_PAGES - 1) / SUPERPAGE_PAGES);
}

/* The entries' part of the metadata, rounded up so that the splits are aligned. */
static size_t entries_bytes(p2m_index_t count)
{
    return ((size_t)count * sizeof(struct p2m_entry) + 63) / 64 * 64;
}

size_t p2m_metadata_bytes(pages_t span_pages)
{
    p2m_index_t room = superpages_of(span_pages);
    return entries_bytes(room) + (size_t)room * sizeof(struct p2m_split);
}

void p2m_init(struct p2m *p2m, pages_t max_pages, pages_t span_pages, void *metadata)
{
    p2m_index_t room = superpages_of(span_pages);
    *p2m = (struct p2m){
        .max_pages = max_pages,
        .end_pages = max_pages,
        .room = room,
        .count = superpages_of(max_pages),
        .oldest = P2M_NONE,
        .newest = P2M_NONE,
        .sweep_hand = P2M_NONE,
        .eager_hand = P2M_NONE,
        .entries = metadata,
        .splits = (void *)((char *)metadata + entries_bytes(room)),
    };
}

static bool is_absent(const struct p2m *p2m, p2m_index_t index)
{
    return p2m->entries[index].flags & P2M_ABSENT;
}

bool p2m_exists(const struct p2m *p2m, gfn_t at, pages_t pages)
{
    if (at.n > p2m->end_pages || pages > p2m->end_pages - at.n) {
        return false;
    }
    bool all = true;
    if (p2m->max_pages != p2m->end_pages && pages != 0) {
        p2m_index_t last = p2m_index(gfn_add(at, pages - 1));
        for (p2m_index_t i = p2m_index(at); all && i <= last; i++) {
            all = !is_absent(p2m, i);
        }
    }
    return all;
}

/* The first of so many absent superpages in a row, those behind the last one included. */
static p2m_index_t find_absent(const struct p2m *p2m, p2m_index_t wanted)
{
    p2m_index_t run = 0, index = 0;
    for (; index < p2m->count && run < wanted; index++) {
        run = is_absent(p2m, index) ? run + 1 : 0;
    }
    return index - run;
}

int p2m_plug(struct p2m *p2m, pages_t pages, gfn_t *at)
{
    if (pages == 0 || pages % SUPERPAGE_PAGES != 0 || p2m->end_pages % SUPERPAGE_PAGES != 0) {
        return -EINVAL;
    }
    if (pages > p2m->room * SUPERPAGE_PAGES) {
        return -ENOSPC;
    }
    p2m_index_t first = find_absent(p2m, superpages_of(pages));
    if (superpages_of(pages) > p2m->room - first) {
        return -ENOSPC;
    }
    p2m_index_t end = first + superpages_of(pages);
    for (p2m_index_t i = first; i < end; i++) {
        p2m->entries[i].flags = 0;
    }
    if (end > p2m->count) {
        p2m->count = end;
        p2m->end_pages = p2m_first_gfn(end).n;
    }
    p2m->max_pages += pages;
    *at = p2m_first_gfn(first);
    return 0;
}

int p2m_unplug(struct p2m *p2m, gfn_t at, pages_t pages)
{
    p2m_index_t first = p2m_index(at), count = (p2m_index_t)(pages / SUPERPAGE_PAGES);
    for (p2m_index_t i = 0; i < count; i++) {
        const struct p2m_entry *entry = &p2m->entries[first + i];
        if (entry->ram != 0 || entry->given != 0) {
            return -EBUSY;
        }
    }
    for (p2m_index_t i = first; i < first + count; i++) {
        struct p2m_entry *entry = &p2m->entries[i];
        p2m->out_pages -= entry->out;
        entry->out = 0;
        entry->flags = P2M_ABSENT;
    }
    p2m->max_pages -= pages;
    return 0;
}

pages_t p2m_superpage_pages(const struct p2m *p2m, p2m_index_t index)
{
    return min_u64(SUPERPAGE_PAGES, p2m->end_pages - p2m_first_gfn(index).n);
}

static pages_t in_place(const struct p2m_entry *entry)
{
    return (pages_t)entry->ram + entry->given;
}

static bool is_split(const struct p2m_entry *entry, pages_t size)
{
    pages_t some = in_place(entry) + entry->out;
    return !(some == 0 || entry->ram == size || entry->out == size || entry->given == size);
}

/* The state of all pages of an entry that is not split. */
static enum p2m_state whole_state(const struct p2m_entry *entry)
{
    return entry->ram != 0     ? P2M_RAM
           : entry->out != 0   ? P2M_OUT
           : entry->given != 0 ? P2M_GIVEN
                               : P2M_POD;
}

static bool is_present(enum p2m_state state)
{
    return state == P2M_RAM || state == P2M_GIVEN;
}

static bool is_up(enum p2m_state state)
{
    return state == P2M_OUT || state == P2M_GIVEN;
}

enum p2m_state p2m_get(const struct p2m *p2m, gfn_t at)
{
    p2m_index_t index = p2m_index(at);
    const struct p2m_entry *entry = &p2m->entries[index];
    if (!is_split(entry, p2m_superpage_pages(p2m, index))) {
        return whole_state(entry);
    }
    const struct p2m_split *split = &p2m->splits[index];
    pages_t bit = at.n % SUPERPAGE_PAGES;
    if (bitmap_test(&split->present, bit)) {
        return bitmap_test(&split->up, bit) ? P2M_GIVEN : P2M_RAM;
    }
    return bitmap_test(&split->up, bit) ? P2M_OUT : P2M_POD;
}

pages_t p2m_run(const struct p2m *p2m, gfn_t at, pages_t limit)
{
    p2m_index_t index = p2m_index(at);
    const struct p2m_entry *entry = &p2m->entries[index];
    pages_t size = p2m_superpage_pages(p2m, index), first = at.n % SUPERPAGE_PAGES;
    pages_t end = min_u64(size, first + limit);
    if (is_split(entry, size)) {
        const struct p2m_split *split = &p2m->splits[index];
        /* The run goes on for as long as both bits stay what they are. */
        end = bitmap_next(&split->present, first, end, !bitmap_test(&split->present, first));
        end = bitmap_next(&split->up, first, end, !bitmap_test(&split->up, first));
    }
    return end - first;
}

bool p2m_whole(const struct p2m *p2m, p2m_index_t index, enum p2m_state state)
{
    const struct p2m_entry *entry = &p2m->entries[index];
    return p2m_superpage_pages(p2m, index) == SUPERPAGE_PAGES && !is_absent(p2m, index) &&
           !is_split(entry, SUPERPAGE_PAGES) && whole_state(entry) == state;
}

/* 2^40 births last four months at 100,000 a second. They may come round: it
 * would take an entry that old to be misjudged, and then only its age. */
#define BIRTH_MASK ((UINT64_C(1) << 40) - 1)

uint64_t p2m_age(const struct p2m *p2m, p2m_index_t index)
{
    const struct p2m_entry *entry = &p2m->entries[index];
    uint64_t birth = (uint64_t)entry->birth_high << 32 | entry->birth_low;
    return (p2m->births - birth) & BIRTH_MASK;
}

p2m_index_t p2m_advance_sweep_hand(struct p2m *p2m)
{
    p2m_index_t index = p2m->sweep_hand != P2M_NONE ? p2m->sweep_hand : p2m->oldest;
    p2m->sweep_hand = p2m->entries[index].next;
    return index;
}

static void list_append(struct p2m *p2m, p2m_index_t index)
{
    struct p2m_entry *entry = &p2m->entries[index];
    entry->next = P2M_NONE;
    entry->prev = p2m->newest;
    entry->birth_low = (uint32_t)p2m->births;
    entry->birth_high = (uint8_t)(p2m->births >> 32);
    p2m->births++;
    if (p2m->newest == P2M_NONE) {
        p2m->oldest = index;
    } else {
        p2m->entries[p2m->newest].next = index;
    }
    p2m->newest = index;
    p2m->populated++;
    /* A hand that had come to the end goes on with what came after. */
    if (p2m->eager_hand == P2M_NONE) {
        p2m->eager_hand = index;
    }
}

static void list_remove(struct p2m *p2m, p2m_index_t index)
{
    struct p2m_entry *entry = &p2m->entries[index];
    if (p2m->sweep_hand == index) {
        p2m->sweep_hand = entry->next;
    }
    if (p2m->eager_hand == index) {
        p2m->eager_hand = entry->next;
    }
    if (entry->prev == P2M_NONE) {
        p2m->oldest = entry->next;
    } else {
        p2m->entries[entry->prev].next = entry->next;
    }
    if (entry->next == P2M_NONE) {
        p2m->newest = entry->prev;
    } else {
        p2m->entries[entry->next].prev = entry->prev;
    }
    p2m->populated--;
}

/* Counts the pages of a range of a split superpage by state. */
static void count_states(const struct p2m_split *split, pages_t first, pages_t pages,
                         struct p2m_entry *counts)
{
    pages_t given = 0;
    for (pages_t w = first / 64; w < BITMAP_WORDS && w * 64 < first + pages; w++) {
        uint64_t both = split->present.words[w] & split->up.words[w];
        given += (pages_t)__builtin_popcountll(both & bitmap_word_mask(w, first, pages));
    }
    counts->given = (uint16_t)given;
    counts->ram = (uint16_t)(bitmap_count(&split->present, first, pages) - given);
    counts->out = (uint16_t)(bitmap_count(&split->up, first, pages) - given);
}

static void assign_states(struct p2m_split *split, pages_t first, pages_t pages,
                          enum p2m_state state)
{
    bitmap_assign(&split->present, first, pages, is_present(state));
    bitmap_assign(&split->up, first, pages, is_up(state));
}

/* Adds pages of a state to an entry's counts. */
static void add_pages(struct p2m_entry *entry, enum p2m_state state, pages_t pages)
{
    uint16_t n = (uint16_t)pages;
    entry->ram = (uint16_t)(entry->ram + (state == P2M_RAM ? n : 0));
    entry->out = (uint16_t)(entry->out + (state == P2M_OUT ? n : 0));
    entry->given = (uint16_t)(entry->given + (state == P2M_GIVEN ? n : 0));
}

void p2m_set(struct p2m *p2m, gfn_t at, pages_t pages, enum p2m_state state)
{
    p2m_index_t index = p2m_index(at);
    struct p2m_entry *entry = &p2m->entries[index];
    struct p2m_split *split = &p2m->splits[index];
    pages_t size = p2m_superpage_pages(p2m, index), first = at.n % SUPERPAGE_PAGES;
    assert(first + pages <= size);

    struct p2m_entry old = *entry, leaving = old;
    if (pages != size) {
        if (!is_split(entry, size)) {
            if (whole_state(entry) == state) {
                return;
            }
            assign_states(split, 0, size, whole_state(entry));
        }
        count_states(split, first, pages, &leaving);
        assign_states(split, first, pages, state);
    }
    entry->ram = (uint16_t)(old.ram - leaving.ram);
    entry->out = (uint16_t)(old.out - leaving.out);
    entry->given = (uint16_t)(old.given - leaving.given);
    add_pages(entry, state, pages);
    if (in_place(entry) != size) {
        entry->flags &= (uint8_t)~P2M_HUGE;
    }
    if (in_place(entry) == 0) {
        entry->flags &= (uint8_t)~P2M_MIXED;
    }
    p2m->ram_pages = p2m->ram_pages - old.ram + entry->ram;
    p2m->out_pages = p2m->out_pages - old.out + entry->out;
    p2m->given_pages = p2m->given_pages - old.given + entry->given;
    if (in_place(&old) == 0 && in_place(entry) != 0) {
        list_append(p2m, index);
    } else if (in_place(&old) != 0 && in_place(entry) == 0) {
        list_remove(p2m, index);
    }
}

static const char *check_entry(const struct p2m *p2m, p2m_index_t index)
{
    const struct p2m_entry *entry = &p2m->entries[index];
    pages_t size = p2m_superpage_pages(p2m, index);
    if (in_place(entry) + entry->out > size) {
        return "p2m: ram + out + given <= pages of the superpage";
    }
    if (is_absent(p2m, index) && in_place(entry) + entry->out != 0) {
        return "p2m: an absent entry has no pages in any state";
    }
    if (is_split(entry, size)) {
        struct p2m_entry counts;
        count_states(&p2m->splits[index], 0, size, &counts);
        if (counts.ram != entry->ram || counts.out != entry->out || counts.given != entry->given) {
            return "p2m: split <=> bitmaps say the same as the counts";
        }
    }
    if ((entry->flags & P2M_HUGE) && in_place(entry) != SUPERPAGE_PAGES) {
        return "p2m: only a whole superpage is huge";
    }
    return NULL;
}

static const char *check_list(const struct p2m *p2m)
{
    p2m_index_t length = 0, prev = P2M_NONE;
    uint64_t older = p2m->births + 1;
    bool saw_sweep = p2m->sweep_hand == P2M_NONE, saw_eager = p2m->eager_hand == P2M_NONE;
    for (p2m_index_t i = p2m->oldest; i != P2M_NONE; i = p2m->entries[i].next) {
        if (i >= p2m->count || length++ == p2m->count || in_place(&p2m->entries[i]) == 0 ||
            p2m->entries[i].prev != prev) {
            return "p2m: an entry is on the populated list <=> ram + given > 0";
        }
        uint64_t age = p2m_age(p2m, i);
        if (age == 0 || age >= older) {
            return "p2m: the populated list is in order of birth";
        }
        older = age;
        saw_sweep |= i == p2m->sweep_hand;
        saw_eager |= i == p2m->eager_hand;
        prev = i;
    }
    if (length != p2m->populated || prev != p2m->newest) {
        return "p2m: the populated list has the length that it says";
    }
    return saw_sweep && saw_eager ? NULL : "p2m: the hands point into the populated list";
}

const char *p2m_check(const struct p2m *p2m)
{
    pages_t max = 0, ram = 0, out = 0, given = 0;
    p2m_index_t populated = 0;
    for (p2m_index_t i = 0; i < p2m->count; i++) {
        const char *broken = check_entry(p2m, i);
        if (broken) {
            return broken;
        }
        max += is_absent(p2m, i) ? 0 : p2m_superpage_pages(p2m, i);
        ram += p2m->entries[i].ram;
        out += p2m->entries[i].out;
        given += p2m->entries[i].given;
        populated += in_place(&p2m->entries[i]) != 0;
    }
    if (max != p2m->max_pages) {
        return "p2m: max = the pages of all entries that are not absent";
    }
    if (ram != p2m->ram_pages) {
        return "p2m: ram_pages = sum of ram";
    }
    if (out != p2m->out_pages) {
        return "p2m: out_pages = sum of out";
    }
    if (given != p2m->given_pages) {
        return "p2m: given_pages = sum of given";
    }
    if (populated != p2m->populated) {
        return "p2m: an entry is on the populated list <=> ram + given > 0";
    }
    return check_list(p2m);
}
