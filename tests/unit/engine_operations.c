/* SPDX-License-Identifier: MIT */
/*
 * The table in docs/operations.md of what the engine answers, cell by cell: an
 * operation, tried on a domain in a state, must return what the cell says and
 * leave the domain in the state that it says; what is refused must change
 * nothing. A row or a column without a case here, or a case without a row or a
 * column, is a failure.
 *
 * Usage: test_engine_operations OPERATIONS.MD
 */
#include "doc_table.h"
#include "fake_domain.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SP SUPERPAGE_PAGES

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The domain on which everything is tried: superpages 0 and 1 are RAM and not
 * zero (of an exhausted one: 0 to 3), one gfn is OUT, the rest is PoD but for
 * what a state needs. */
#define MAX       (8 * SP)
#define ROOM      (9 * SP) /* what max may grow to */
#define TARGET    (4 * SP)
#define RAM_AT    3
#define GIVEN_AT  (SP + 5)
#define OUT_AT    (7 * SP)
#define POD_AT    (7 * SP + 9)
#define TOKEN     7
#define UNTOUCHED 12345 /* in an output that must stay as it is */

static struct fake_domain f;
static struct doc_table table;

static void fill(uint64_t from, pages_t pages)
{
    for (pages_t i = 0; i < pages; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn(from + i), TOKEN), 0);
    }
}

static void give_up(uint64_t from, pages_t pages)
{
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(from), pages), 0);
}

static void host_fails(enum fake_op op, int err)
{
    fake_host_fail(&f.host, (struct fake_failure){.op = op, .err = err});
}

/* States */

static void make_building(void)
{
    pages_t missing = 0;
    assert_int_equal(fake_domain_init_with_room(&f, MAX, ROOM, TARGET), 0);
    assert_int_equal(domain_build_step(&f.domain, SP, &missing), 0);
}

static void make_running(void)
{
    fake_domain_start_with_room(&f, MAX, ROOM, TARGET);
    fill(0, 2 * SP);
    give_up(OUT_AT, 1);
}

static void make_covered(void)
{
    make_running();
    give_up(3 * SP, 4 * SP);
}

static void make_shrinking(void)
{
    make_running();
    assert_int_equal(domain_set_target(&f.domain, TARGET - SP), 0);
}

static void make_exhausted(void)
{
    make_running();
    fill(2 * SP, 2 * SP);
    assert_int_equal(domain_populate(&f.domain, gfn(POD_AT)), -ENOSPC);
}

static void make_dying(void)
{
    make_running();
    domain_begin_dying(&f.domain);
}

static void make_broken(void)
{
    make_running();
    host_fails(FAKE_PLACE, -EIO);
    assert_int_equal(domain_populate(&f.domain, gfn(POD_AT)), -EIO);
    fake_host_heal(&f.host);
}

static const struct state {
    const char *name;
    void (*make)(void);
} states[] = {
    {"building", make_building},   {"running", make_running},     {"covered", make_covered},
    {"shrinking", make_shrinking}, {"exhausted", make_exhausted}, {"dying", make_dying},
    {"broken", make_broken},
};

static const char *state_now(void)
{
    if (f.domain.state != DOMAIN_RUNNING) {
        return domain_state_name(f.domain.state);
    }
    return f.domain.shrinking ? "shrinking" : domain_covered(&f.domain) ? "covered" : "running";
}

/* Operations. Each returns what the engine did, and fails by itself if an
 * output is not as it must be. */

#define RETURNS_NOTHING 1

static int build(pages_t pages)
{
    pages_t missing = UNTOUCHED;
    int err = domain_build_step(&f.domain, pages, &missing);
    assert_true(err == 0 ? missing < TARGET : missing == UNTOUCHED);
    return err;
}

static int build_step(void)
{
    return build(SP);
}

static int build_last_step(void)
{
    return build(TARGET);
}

static int build_on_a_short_host(void)
{
    host_fails(FAKE_ALLOCATE, -ENOMEM);
    return build(SP);
}

static int populate(uint64_t n)
{
    int err = domain_populate(&f.domain, gfn(n));
    assert_true(err != 0 || fake_guest_has(&f.host, gfn(n)));
    return err;
}

static int populate_pod(void)
{
    return populate(POD_AT);
}

static int populate_pod_with_a_zero_page(void)
{
    if (f.domain.state != DOMAIN_BUILDING) {
        assert_true(fake_guest_write(&f.host, gfn(RAM_AT), 0));
    }
    return populate(POD_AT);
}

static int populate_pod_on_a_busy_host(void)
{
    host_fails(FAKE_PLACE, -EAGAIN);
    return populate(POD_AT);
}

static int populate_pod_on_a_bad_host(void)
{
    host_fails(FAKE_PLACE, -EIO);
    return populate(POD_AT);
}

static int populate_ram(void)
{
    return populate(RAM_AT);
}

static int populate_out(void)
{
    return populate(OUT_AT);
}

/* A GIVEN gfn is there only where it is wanted: an exhausted domain would find
 * its page. */
static int populate_given(void)
{
    return populate(GIVEN_AT);
}

static int populate_beyond(void)
{
    return populate(MAX);
}

/* What three operations on ranges have in common: the state of the gfn that
 * they are called with, and the state that it must have then. */
typedef int range_operation(struct domain *domain, gfn_t at, pages_t pages);

static int on_range(range_operation *operation, uint64_t n, enum p2m_state becomes)
{
    int err = operation(&f.domain, gfn(n), 1);
    if (err == 0) {
        assert_int_equal(p2m_get(&f.domain.p2m, gfn(n)), becomes);
    }
    return err;
}

static int beyond(range_operation *operation)
{
    assert_int_equal(operation(&f.domain, gfn(MAX - 1), 2), operation(&f.domain, gfn(MAX), 1));
    return operation(&f.domain, gfn(MAX), 1);
}

static int discard_pod(void)
{
    return on_range(domain_discard, POD_AT, P2M_POD);
}

static int discard_ram(void)
{
    return on_range(domain_discard, RAM_AT, P2M_POD);
}

static int discard_out(void)
{
    return on_range(domain_discard, OUT_AT, P2M_OUT);
}

static int discard_given(void)
{
    return on_range(domain_discard, GIVEN_AT, P2M_GIVEN);
}

static int discard_beyond(void)
{
    return beyond(domain_discard);
}

static int give_up_pod(void)
{
    return on_range(domain_decrease_reservation, POD_AT, P2M_OUT);
}

static int give_up_ram(void)
{
    return on_range(domain_decrease_reservation, RAM_AT, P2M_GIVEN);
}

static int give_up_out(void)
{
    return on_range(domain_decrease_reservation, OUT_AT, P2M_OUT);
}

static int give_up_given(void)
{
    return on_range(domain_decrease_reservation, GIVEN_AT, P2M_GIVEN);
}

static int give_up_beyond(void)
{
    return beyond(domain_decrease_reservation);
}

static int take_back_pod(void)
{
    return on_range(domain_increase_reservation, POD_AT, P2M_POD);
}

static int take_back_ram(void)
{
    return on_range(domain_increase_reservation, RAM_AT, P2M_RAM);
}

static int take_back_out(void)
{
    return on_range(domain_increase_reservation, OUT_AT, P2M_POD);
}

static int take_back_given(void)
{
    return on_range(domain_increase_reservation, GIVEN_AT, P2M_RAM);
}

static int take_back_beyond(void)
{
    return beyond(domain_increase_reservation);
}

static int plug(pages_t pages)
{
    gfn_t at = gfn(UNTOUCHED);
    int err = domain_plug(&f.domain, pages, &at);
    assert_int_equal(at.n, err == 0 ? MAX : UNTOUCHED);
    assert_int_equal(f.domain.p2m.max_pages, err == 0 ? MAX + pages : MAX);
    return err;
}

static int plug_superpage(void)
{
    return plug(SP);
}

static int plug_without_room(void)
{
    return plug(ROOM - MAX + SP);
}

static int plug_part(void)
{
    assert_int_equal(plug(0), plug(SP + 1));
    return plug(SP + 1);
}

static int unplug(uint64_t n, pages_t pages)
{
    int err = domain_unplug(&f.domain, gfn(n), pages);
    assert_int_equal(f.domain.p2m.max_pages, err == 0 ? MAX - pages : MAX);
    if (err == 0) {
        assert_false(p2m_exists(&f.domain.p2m, gfn(n), 1));
        for (uint64_t at = n; at < n + pages; at += SP) {
            fake_guest_unmap(&f.host, gfn(at));
        }
    }
    return err;
}

static int unplug_superpage(void)
{
    return unplug(6 * SP, SP);
}

static int unplug_in_place(void)
{
    return unplug(0, SP);
}

/* In an exhausted domain that leaves as much as the target, else less. */
static int unplug_unused(void)
{
    p2m_index_t from = MAX / SP;
    while (from > 2 && !p2m_whole(&f.domain.p2m, from - 1, P2M_RAM)) {
        from--;
    }
    return unplug(from * SP, MAX - from * SP);
}

static int unplug_all(void)
{
    return unplug(0, MAX);
}

static int unplug_part(void)
{
    assert_int_equal(unplug(6 * SP + 1, SP), unplug(6 * SP, SP + 1));
    return unplug(6 * SP, SP - 1);
}

static int unplug_beyond(void)
{
    assert_int_equal(unplug(MAX - SP, 2 * SP), unplug(MAX, SP));
    return unplug(MAX, SP);
}

static int collect_given(void)
{
    int err = domain_collect(&f.domain, gfn(SP), SP);
    if (err == 0) {
        assert_int_equal(p2m_get(&f.domain.p2m, gfn(GIVEN_AT)), P2M_OUT);
    }
    return err;
}

static int collect_beyond(void)
{
    return domain_collect(&f.domain, gfn(MAX), SP);
}

static int set_target(pages_t target)
{
    int err = domain_set_target(&f.domain, target);
    if (err == 0) {
        assert_int_equal(f.domain.target_pages, target);
        assert_true(f.domain.total_pages >= target);
        assert_int_equal(f.domain.shrinking, f.domain.total_pages > target);
    }
    return err;
}

static int set_target_up(void)
{
    return set_target(TARGET + SP);
}

static int set_target_up_on_a_short_host(void)
{
    host_fails(FAKE_ALLOCATE, -ENOMEM);
    return set_target(TARGET + SP);
}

static int set_target_down(void)
{
    return set_target(TARGET - 2 * SP);
}

static int set_target_same(void)
{
    return set_target(f.domain.target_pages);
}

static int set_target_too_low(void)
{
    assert_int_equal(set_target(0), set_target(SP - 1));
    return set_target(SP - 1);
}

static int set_target_too_high(void)
{
    assert_int_equal(set_target(UINT64_MAX), set_target(MAX + 1));
    return set_target(MAX + 1);
}

/* A step whose output says whether there is more to do. Refused, it leaves it
 * as it was, whichever that is. */
static int step(int (*take)(bool *more))
{
    bool more = true;
    int err = take(&more);
    if (err != 0) {
        assert_true(more);
        more = false;
        assert_int_equal(take(&more), err);
        assert_false(more);
    }
    return err;
}

static int settle(bool *more)
{
    return domain_settle_step(&f.domain, SP, more);
}

static int settle_step(void)
{
    return step(settle);
}

static int reserve(bool *more)
{
    return domain_reserve_step(&f.domain, more);
}

static int reserve_step(void)
{
    return step(reserve);
}

static int begin_dying(void)
{
    domain_begin_dying(&f.domain);
    return RETURNS_NOTHING;
}

static int drain_step(void)
{
    pages_t left = UNTOUCHED, before = f.domain.cache.pages;
    int err = domain_drain_step(&f.domain, 10, &left);
    assert_true(err == 0 ? left == before - 10 : left == UNTOUCHED);
    return err;
}

static int refuses(void)
{
    return domain_refuses(&f.domain);
}

static const struct operation {
    const char *name;
    int (*run)(void);
    bool with_given; /* needs a GIVEN gfn */
} operations[] = {
    {"build a step", build_step, false},
    {"build the last step", build_last_step, false},
    {"build a step, the host lacks the memory", build_on_a_short_host, false},
    {"populate a PoD gfn", populate_pod, false},
    {"populate a PoD gfn, a page of RAM holds zeros", populate_pod_with_a_zero_page, false},
    {"populate a PoD gfn, the host cannot just now", populate_pod_on_a_busy_host, false},
    {"populate a PoD gfn, the host does not do what it must", populate_pod_on_a_bad_host, false},
    {"populate a RAM gfn", populate_ram, false},
    {"populate an OUT gfn", populate_out, false},
    {"populate a GIVEN gfn", populate_given, true},
    {"populate beyond max", populate_beyond, false},
    {"discard a PoD gfn", discard_pod, false},
    {"discard a RAM gfn", discard_ram, false},
    {"discard an OUT gfn", discard_out, false},
    {"discard a GIVEN gfn", discard_given, true},
    {"discard beyond max", discard_beyond, false},
    {"give up a PoD gfn", give_up_pod, false},
    {"give up a RAM gfn", give_up_ram, false},
    {"give up an OUT gfn", give_up_out, false},
    {"give up a GIVEN gfn", give_up_given, true},
    {"give up beyond max", give_up_beyond, false},
    {"take back a PoD gfn", take_back_pod, false},
    {"take back a RAM gfn", take_back_ram, false},
    {"take back an OUT gfn", take_back_out, false},
    {"take back a GIVEN gfn", take_back_given, true},
    {"take back beyond max", take_back_beyond, false},
    {"collect a GIVEN gfn", collect_given, true},
    {"collect beyond max", collect_beyond, false},
    {"plug a superpage", plug_superpage, false},
    {"plug more than there is room for", plug_without_room, false},
    {"plug a part of a superpage", plug_part, false},
    {"unplug a superpage", unplug_superpage, false},
    {"unplug a superpage, a page of it is in place", unplug_in_place, false},
    {"unplug all of which no page is in place", unplug_unused, false},
    {"unplug all of guest RAM", unplug_all, false},
    {"unplug a part of a superpage", unplug_part, false},
    {"unplug beyond max", unplug_beyond, false},
    {"set target, up", set_target_up, false},
    {"set target, up, the host lacks the memory", set_target_up_on_a_short_host, false},
    {"set target, down", set_target_down, false},
    {"set target, the same", set_target_same, false},
    {"set target, below a superpage", set_target_too_low, false},
    {"set target, above max", set_target_too_high, false},
    {"settle step", settle_step, false},
    {"reserve step", reserve_step, false},
    {"begin dying", begin_dying, false},
    {"drain step", drain_step, false},
    {"ask whether it refuses", refuses, false},
};

/* The table */

/* What a cell says, such as "0" or "-EIO → broken". */
struct expected {
    int answer;
    const char *after;
};

static struct expected read_cell(const char *cell, const char *before)
{
    static const struct {
        const char *text;
        int answer;
    } answers[] = {
        {"0", 0},
        {"-EINVAL", -EINVAL},
        {"-ENOSPC", -ENOSPC},
        {"-EBUSY", -EBUSY},
        {"-EAGAIN", -EAGAIN},
        {"-ENOMEM", -ENOMEM},
        {"-ESHUTDOWN", -ESHUTDOWN},
        {"-EIO", -EIO},
        {"void", RETURNS_NOTHING},
    };
    static const char *const arrow = " → ";
    const char *rest = strstr(cell, arrow);
    size_t length = rest != NULL ? (size_t)(rest - cell) : strlen(cell);
    for (size_t i = 0; i < COUNT(answers); i++) {
        if (strlen(answers[i].text) == length && strncmp(answers[i].text, cell, length) == 0) {
            return (struct expected){answers[i].answer,
                                     rest != NULL ? rest + strlen(arrow) : before};
        }
    }
    fail_msg("the cell '%s' is no answer that this test knows", cell);
    return (struct expected){0, ""};
}

/* All that an operation which is refused must leave alone. */
struct counts {
    pages_t max, target, total, ram, pod, out, given, cached;
};

static struct counts count(void)
{
    const struct domain *d = &f.domain;
    return (struct counts){d->p2m.max_pages,   d->target_pages,        d->total_pages,
                           d->p2m.ram_pages,   p2m_pod_pages(&d->p2m), d->p2m.out_pages,
                           d->p2m.given_pages, d->cache.pages};
}

static void make(const struct state *state, bool with_given)
{
    state->make();
    assert_string_equal(state_now(), state->name);
    if (!with_given || strcmp(state->name, "building") == 0) {
        return;
    }
    /* What is dying or broken had it before. */
    enum domain_state now = f.domain.state;
    if (domain_refuses(&f.domain) != 0) {
        f.domain.state = DOMAIN_RUNNING;
    }
    give_up(GIVEN_AT, 1);
    f.domain.state = now;
    assert_int_equal(p2m_get(&f.domain.p2m, gfn(GIVEN_AT)), P2M_GIVEN);
    assert_string_equal(state_now(), state->name);
}

static void try_cell(const struct operation *operation, const struct state *state, const char *cell)
{
    struct expected expected = read_cell(cell, state->name);
    make(state, operation->with_given);
    struct counts before = count();
    int answer = operation->run();
    if (answer != expected.answer || strcmp(state_now(), expected.after) != 0) {
        fail_msg("'%s' while %s: the table says '%s', the engine %d → %s", operation->name,
                 state->name, cell, answer, state_now());
    }
    struct counts after = count();
    if (answer < 0 && memcmp(&before, &after, sizeof(before)) != 0) {
        fail_msg("'%s' while %s is refused, and changes something", operation->name, state->name);
    }
    assert_holds(fake_domain_check(&f, true));
    fake_domain_free(&f);
}

/* The names of one side of the table are those that are known, in any order. */
static const struct operation *find_operation(const char *name)
{
    for (size_t i = 0; i < COUNT(operations); i++) {
        if (strcmp(operations[i].name, name) == 0) {
            return &operations[i];
        }
    }
    fail_msg("the table has a row '%s', which this test does not know", name);
    return NULL;
}

static const struct state *find_state(const char *name)
{
    for (size_t i = 0; i < COUNT(states); i++) {
        if (strcmp(states[i].name, name) == 0) {
            return &states[i];
        }
    }
    fail_msg("the table has a column '%s', which this test does not know", name);
    return NULL;
}

static void every_cell_holds(void **unused)
{
    (void)unused;
    for (size_t row = 1; row < table.rows; row++) {
        const struct operation *operation = find_operation(table.cells[row][0]);
        for (size_t column = 1; column < table.columns; column++) {
            try_cell(operation, find_state(table.cells[0][column]), table.cells[row][column]);
        }
    }
}

static void every_case_has_its_place(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT(operations); i++) {
        size_t found = 0;
        for (size_t row = 1; row < table.rows; row++) {
            found += strcmp(table.cells[row][0], operations[i].name) == 0;
        }
        if (found != 1) {
            fail_msg("the table has %zu rows '%s'", found, operations[i].name);
        }
    }
    for (size_t i = 0; i < COUNT(states); i++) {
        size_t found = 0;
        for (size_t column = 1; column < table.columns; column++) {
            found += strcmp(table.cells[0][column], states[i].name) == 0;
        }
        if (found != 1) {
            fail_msg("the table has %zu columns '%s'", found, states[i].name);
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: %s OPERATIONS.MD\n", arguments[0]);
        return 2;
    }
    const char *wrong = doc_table_read(arguments[1], "operation", &table);
    if (wrong != NULL) {
        fprintf(stderr, "%s: %s\n", arguments[1], wrong);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_has_its_place),
        cmocka_unit_test(every_cell_holds),
    };
    return cmocka_run_group_tests_name("engine_operations", tests, NULL, NULL);
}
