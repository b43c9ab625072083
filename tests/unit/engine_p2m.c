/* SPDX-License-Identifier: MIT */
#include "engine/p2m.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

struct fixture {
    struct p2m p2m;
    void *metadata;
};

static void start(struct fixture *f, pages_t max)
{
    f->metadata = calloc(1, p2m_metadata_bytes(max));
    assert_non_null(f->metadata);
    p2m_init(&f->p2m, max, max, f->metadata);
}

static void stop(struct fixture *f)
{
    free(f->metadata);
}

static void starts_all_pod(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, 3 * SUPERPAGE_PAGES);
    assert_int_equal(p2m_pod_pages(&f.p2m), 3 * SUPERPAGE_PAGES);
    assert_int_equal(f.p2m.count, 3);
    for (p2m_index_t i = 0; i < 3; i++) {
        assert_true(p2m_whole(&f.p2m, i, P2M_POD));
        assert_false(p2m_whole(&f.p2m, i, P2M_RAM));
        assert_false(p2m_whole(&f.p2m, i, P2M_OUT));
        assert_int_equal(p2m_run(&f.p2m, p2m_first_gfn(i), 10000), SUPERPAGE_PAGES);
    }
    assert_holds(p2m_check(&f.p2m));
    stop(&f);
}

static void each_state_to_each_state(void **unused)
{
    (void)unused;
    static const enum p2m_state states[] = {P2M_POD, P2M_RAM, P2M_OUT, P2M_GIVEN};
    static const pages_t ranges[][2] = {{0, 512}, {0, 1}, {511, 1}, {63, 2}, {64, 64}, {100, 300}};
    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
                struct fixture f;
                start(&f, 2 * SUPERPAGE_PAGES);
                pages_t first = ranges[r][0], pages = ranges[r][1];
                p2m_set(&f.p2m, gfn(512), 512, states[from]);
                p2m_set(&f.p2m, gfn(512 + first), pages, states[to]);
                assert_holds(p2m_check(&f.p2m));
                for (pages_t i = 0; i < 512; i++) {
                    bool inside = i >= first && i < first + pages;
                    assert_int_equal(p2m_get(&f.p2m, gfn(512 + i)), states[inside ? to : from]);
                }
                assert_true(p2m_whole(&f.p2m, 0, P2M_POD));
                assert_int_equal(p2m_whole(&f.p2m, 1, states[to]), pages == 512 || from == to);
                /* And all the way back, piece by piece. */
                p2m_set(&f.p2m, gfn(512 + first), pages, states[from]);
                assert_true(p2m_whole(&f.p2m, 1, states[from]));
                assert_holds(p2m_check(&f.p2m));
                stop(&f);
            }
        }
    }
}

static void runs_end_where_the_state_does(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, 2 * SUPERPAGE_PAGES);
    p2m_set(&f.p2m, gfn(10), 20, P2M_RAM);
    p2m_set(&f.p2m, gfn(30), 5, P2M_OUT);
    p2m_set(&f.p2m, gfn(100), 10, P2M_RAM);
    p2m_set(&f.p2m, gfn(110), 10, P2M_GIVEN); /* differs from either side in one bit */
    p2m_set(&f.p2m, gfn(120), 10, P2M_OUT);
    assert_int_equal(p2m_run(&f.p2m, gfn(0), 512), 10);
    assert_int_equal(p2m_run(&f.p2m, gfn(3), 4), 4);
    assert_int_equal(p2m_run(&f.p2m, gfn(10), 512), 20);
    assert_int_equal(p2m_run(&f.p2m, gfn(29), 512), 1);
    assert_int_equal(p2m_run(&f.p2m, gfn(30), 512), 5);
    assert_int_equal(p2m_run(&f.p2m, gfn(35), 1000), 65);
    assert_int_equal(p2m_run(&f.p2m, gfn(105), 1000), 5);
    assert_int_equal(p2m_run(&f.p2m, gfn(110), 1000), 10);
    assert_int_equal(p2m_run(&f.p2m, gfn(120), 1000), 10);
    assert_int_equal(p2m_run(&f.p2m, gfn(130), 1000), 512 - 130); /* not past its superpage */
    assert_int_equal(p2m_run(&f.p2m, gfn(1000), 1000), 24);
    stop(&f);
}

static void the_last_superpage_is_short(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SUPERPAGE_PAGES + 7);
    assert_int_equal(f.p2m.count, 2);
    assert_int_equal(p2m_superpage_pages(&f.p2m, 0), 512);
    assert_int_equal(p2m_superpage_pages(&f.p2m, 1), 7);
    assert_int_equal(p2m_run(&f.p2m, gfn(514), 512), 5);
    assert_false(p2m_whole(&f.p2m, 1, P2M_POD)); /* never whole: no superpage fits */
    for (pages_t i = 0; i < 7; i++) {
        p2m_set(&f.p2m, gfn(512 + i), 1, P2M_RAM);
        assert_int_equal(p2m_get(&f.p2m, gfn(512 + i)), P2M_RAM);
        assert_holds(p2m_check(&f.p2m));
    }
    assert_false(p2m_whole(&f.p2m, 1, P2M_RAM));
    assert_int_equal(f.p2m.ram_pages, 7);
    p2m_set(&f.p2m, gfn(512), 7, P2M_OUT);
    assert_int_equal(f.p2m.out_pages, 7);
    assert_int_equal(p2m_pod_pages(&f.p2m), 512);
    assert_holds(p2m_check(&f.p2m));
    stop(&f);
}

static void huge_ends_with_the_first_page_that_leaves(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, SUPERPAGE_PAGES);
    p2m_set(&f.p2m, gfn(0), 512, P2M_RAM);
    f.p2m.entries[0].flags = P2M_HUGE | P2M_TABLE;
    p2m_set(&f.p2m, gfn(5), 3, P2M_RAM); /* no change */
    assert_int_equal(f.p2m.entries[0].flags, P2M_HUGE | P2M_TABLE);
    p2m_set(&f.p2m, gfn(7), 300, P2M_GIVEN); /* in place still */
    assert_int_equal(f.p2m.entries[0].flags, P2M_HUGE | P2M_TABLE);
    p2m_set(&f.p2m, gfn(0), 512, P2M_GIVEN);
    assert_int_equal(f.p2m.entries[0].flags, P2M_HUGE | P2M_TABLE);
    assert_holds(p2m_check(&f.p2m));
    p2m_set(&f.p2m, gfn(0), 100, P2M_RAM);
    p2m_set(&f.p2m, gfn(5), 1, P2M_OUT);
    assert_int_equal(f.p2m.entries[0].flags, P2M_TABLE);
    assert_holds(p2m_check(&f.p2m));
    stop(&f);
}

static void the_list_is_in_order_of_birth(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, 4 * SUPERPAGE_PAGES);
    p2m_set(&f.p2m, gfn(2 * 512), 1, P2M_RAM);
    p2m_set(&f.p2m, gfn(0), 512, P2M_RAM);
    p2m_set(&f.p2m, gfn(3 * 512), 512, P2M_RAM);
    assert_int_equal(f.p2m.oldest, 2);
    assert_int_equal(f.p2m.newest, 3);
    p2m_set(&f.p2m, gfn(2 * 512 + 9), 9, P2M_RAM); /* it is on the list already */
    assert_int_equal(f.p2m.populated, 3);
    p2m_set(&f.p2m, gfn(0), 512, P2M_POD); /* from the middle */
    assert_int_equal(f.p2m.entries[2].next, 3);
    assert_holds(p2m_check(&f.p2m));
    p2m_set(&f.p2m, gfn(0), 1, P2M_RAM); /* born again: newest */
    assert_int_equal(f.p2m.newest, 0);
    assert_holds(p2m_check(&f.p2m));
    p2m_set(&f.p2m, gfn(2 * 512), 512, P2M_POD); /* the oldest */
    assert_int_equal(f.p2m.oldest, 3);
    p2m_set(&f.p2m, gfn(0), 512, P2M_OUT); /* the newest */
    assert_int_equal(f.p2m.newest, 3);
    p2m_set(&f.p2m, gfn(3 * 512), 512, P2M_POD); /* the last */
    assert_int_equal(f.p2m.oldest, P2M_NONE);
    assert_int_equal(f.p2m.newest, P2M_NONE);
    assert_int_equal(f.p2m.populated, 0);
    assert_holds(p2m_check(&f.p2m));
    /* GIVEN is in place as well: no birth, no death. */
    p2m_set(&f.p2m, gfn(0), 9, P2M_RAM);
    p2m_set(&f.p2m, gfn(512), 9, P2M_GIVEN);
    p2m_set(&f.p2m, gfn(0), 9, P2M_GIVEN);
    assert_int_equal(f.p2m.oldest, 0);
    assert_int_equal(f.p2m.populated, 2);
    p2m_set(&f.p2m, gfn(0), 9, P2M_OUT);
    assert_int_equal(f.p2m.oldest, 1);
    assert_holds(p2m_check(&f.p2m));
    stop(&f);
}

static void hands_move_on_when_their_entry_leaves(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, 3 * SUPERPAGE_PAGES);
    for (p2m_index_t i = 0; i < 3; i++) {
        p2m_set(&f.p2m, p2m_first_gfn(i), 512, P2M_RAM);
    }
    assert_int_equal(f.p2m.eager_hand, 0); /* the first to come */
    f.p2m.sweep_hand = 1;
    f.p2m.eager_hand = 1;
    p2m_set(&f.p2m, gfn(0), 512, P2M_POD); /* not theirs */
    assert_int_equal(f.p2m.sweep_hand, 1);
    p2m_set(&f.p2m, gfn(512), 512, P2M_POD);
    assert_int_equal(f.p2m.sweep_hand, 2);
    assert_int_equal(f.p2m.eager_hand, 2);
    p2m_set(&f.p2m, gfn(1024), 512, P2M_POD);
    assert_int_equal(f.p2m.sweep_hand, P2M_NONE);
    assert_int_equal(f.p2m.eager_hand, P2M_NONE);
    assert_holds(p2m_check(&f.p2m));
    p2m_set(&f.p2m, gfn(512), 1, P2M_RAM); /* eager goes on with what comes next */
    assert_int_equal(f.p2m.eager_hand, 1);
    stop(&f);
}

/* Entries stay for as long as the guest runs; births go round in between. */
static void births_outlast_32_bits(void **unused)
{
    (void)unused;
    struct fixture f;
    start(&f, 3 * SUPERPAGE_PAGES);
    p2m_set(&f.p2m, gfn(0), 512, P2M_RAM);
    static const uint64_t leaps[] = {0x7ffffff0, 0xfffffffe, 0x17fffffff, 0x3000000001};
    for (size_t i = 0; i < sizeof(leaps) / sizeof(leaps[0]); i++) {
        f.p2m.births = leaps[i];
        for (int births = 0; births < 4; births++) {
            p2m_set(&f.p2m, gfn(512), 512, P2M_RAM);
            p2m_set(&f.p2m, gfn(1024), 512, P2M_RAM);
            assert_holds(p2m_check(&f.p2m));
            assert_true(p2m_age(&f.p2m, 1) < p2m_age(&f.p2m, 0));
            assert_int_equal(p2m_age(&f.p2m, 2), 1);
            p2m_set(&f.p2m, gfn(512), 512, P2M_POD);
            p2m_set(&f.p2m, gfn(1024), 512, P2M_POD);
        }
    }
    stop(&f);
}

/* Each equation of p2m.h, broken on purpose. */
static void check_finds_what_is_wrong(void **unused)
{
    (void)unused;
    static const char list[] = "p2m: an entry is on the populated list <=> ram + given > 0";
    struct fixture f;
    start(&f, 3 * SUPERPAGE_PAGES);
    p2m_set(&f.p2m, gfn(0), 512, P2M_RAM);
    p2m_set(&f.p2m, gfn(512), 10, P2M_RAM);
    p2m_set(&f.p2m, gfn(522), 10, P2M_OUT);
    p2m_set(&f.p2m, gfn(1024), 512, P2M_RAM);
    struct p2m *p2m = &f.p2m;
    struct p2m_entry *one = &p2m->entries[1];
    assert_holds(p2m_check(p2m));

    struct p2m saved = *p2m;
    struct p2m_entry saved_entries[3];
    struct p2m_split saved_split = p2m->splits[1];
    memcpy(saved_entries, p2m->entries, sizeof(saved_entries));
#define broken(breakage, what)                                                                     \
    do {                                                                                           \
        breakage;                                                                                  \
        assert_finds(p2m_check(p2m), what);                                                        \
        *p2m = saved;                                                                              \
        memcpy(p2m->entries, saved_entries, sizeof(saved_entries));                                \
        p2m->splits[1] = saved_split;                                                              \
        assert_holds(p2m_check(p2m));                                                              \
    } while (0)
    broken(one->out = 503, "p2m: ram + out + given <= pages of the superpage");
    broken(one->ram = 11, "p2m: split <=> bitmaps say the same as the counts");
    broken(one->out = 11, "p2m: split <=> bitmaps say the same as the counts");
    broken(one->given = 11, "p2m: split <=> bitmaps say the same as the counts");
    broken(bitmap_assign(&p2m->splits[1].up, 0, 512, false),
           "p2m: split <=> bitmaps say the same as the counts");
    broken(p2m->given_pages++, "p2m: given_pages = sum of given");
    broken(one->flags |= P2M_HUGE, "p2m: only a whole superpage is huge");
    broken(p2m->ram_pages++, "p2m: ram_pages = sum of ram");
    broken(p2m->out_pages++, "p2m: out_pages = sum of out");
    broken(p2m->populated++, list);
    broken(p2m->entries[0].next = 2, list);
    broken(p2m->entries[2].next = 0, list);
    broken(one->prev = 2, list);
    broken(p2m->entries[0].birth_low += 7, "p2m: the populated list is in order of birth");
    broken(p2m->entries[2].birth_low += 7, "p2m: the populated list is in order of birth");
    broken(p2m->births = 2, "p2m: the populated list is in order of birth");
    broken(p2m->newest = 1, "p2m: the populated list has the length that it says");
    broken(one->next = P2M_NONE, "p2m: the populated list has the length that it says");
    broken((p2m_set(p2m, gfn(1024), 512, P2M_POD), p2m->sweep_hand = 2),
           "p2m: the hands point into the populated list");
    broken((p2m_set(p2m, gfn(1024), 512, P2M_POD), p2m->eager_hand = 2),
           "p2m: the hands point into the populated list");
#undef broken
    stop(&f);
    /* One is on the list in another's stead: the number is right. */
    start(&f, 2 * SUPERPAGE_PAGES);
    p2m_set(&f.p2m, gfn(0), 512, P2M_RAM);
    f.p2m.oldest = f.p2m.newest = f.p2m.eager_hand = 1;
    f.p2m.entries[1].next = f.p2m.entries[1].prev = P2M_NONE;
    assert_finds(p2m_check(&f.p2m), list);
    stop(&f);
}

static void against_an_array(void **unused)
{
    (void)unused;
    enum { MAX = 3 * 512 + 77 };
    struct fixture f;
    start(&f, MAX);
    enum p2m_state naive[MAX] = {0};
    uint64_t random = 42;
    for (int round = 0; round < 20000; round++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        pages_t at = (random >> 33) % MAX;
        pages_t room = p2m_superpage_pages(&f.p2m, p2m_index(gfn(at))) - at % 512;
        pages_t pages = 1 + (random >> 20) % room;
        enum p2m_state state = (random >> 50) % 4;
        if ((random >> 55) % 8 == 0) {
            at -= at % 512;
            pages = p2m_superpage_pages(&f.p2m, p2m_index(gfn(at)));
        }
        p2m_set(&f.p2m, gfn(at), pages, state);
        pages_t ram = 0, out = 0, given = 0;
        for (pages_t i = 0; i < pages; i++) {
            naive[at + i] = state;
        }
        for (pages_t i = 0; i < MAX; i++) {
            assert_int_equal(p2m_get(&f.p2m, gfn(i)), naive[i]);
            ram += naive[i] == P2M_RAM;
            out += naive[i] == P2M_OUT;
            given += naive[i] == P2M_GIVEN;
        }
        assert_int_equal(f.p2m.ram_pages, ram);
        assert_int_equal(f.p2m.out_pages, out);
        assert_int_equal(f.p2m.given_pages, given);
        assert_int_equal(p2m_pod_pages(&f.p2m), MAX - ram - out - given);
        pages_t run = 0, limit = 1 + (random >> 40) % 600, from = (random >> 13) % MAX;
        while (from + run < MAX && run < limit && (run == 0 || (from + run) % 512 != 0) &&
               naive[from + run] == naive[from]) {
            run++;
        }
        assert_int_equal(p2m_run(&f.p2m, gfn(from), limit), run);
        assert_holds(p2m_check(&f.p2m));
    }
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_all_pod),
        cmocka_unit_test(each_state_to_each_state),
        cmocka_unit_test(runs_end_where_the_state_does),
        cmocka_unit_test(the_last_superpage_is_short),
        cmocka_unit_test(huge_ends_with_the_first_page_that_leaves),
        cmocka_unit_test(the_list_is_in_order_of_birth),
        cmocka_unit_test(hands_move_on_when_their_entry_leaves),
        cmocka_unit_test(births_outlast_32_bits),
        cmocka_unit_test(check_finds_what_is_wrong),
        cmocka_unit_test(against_an_array),
    };
    return cmocka_run_group_tests_name("p2m", tests, NULL, NULL);
}
