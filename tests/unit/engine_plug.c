/* SPDX-License-Identifier: MIT */
/* Memory that the guest is given, and memory that is taken from it, while the domain lives. */
#include "engine/domain.h"

#include "fake_domain.h"
#include "unit.h"

#include <errno.h>

#define SP SUPERPAGE_PAGES

static struct fake_domain f;

static void start(pages_t max_superpages, pages_t room_superpages, pages_t target_superpages)
{
    fake_domain_start_with_room(&f, max_superpages * SP, room_superpages * SP,
                                target_superpages * SP);
}

static void stop(void)
{
    assert_holds(fake_domain_check(&f, true));
    fake_domain_free(&f);
}

static gfn_t plug(pages_t superpages)
{
    gfn_t at = gfn(UINT64_MAX);
    pages_t max = f.domain.p2m.max_pages, total = f.domain.total_pages;
    assert_int_equal(domain_plug(&f.domain, superpages * SP, &at), 0);
    assert_int_equal(f.domain.p2m.max_pages, max + superpages * SP);
    assert_int_equal(f.domain.total_pages, total);
    assert_true(p2m_exists(&f.domain.p2m, at, superpages * SP));
    assert_holds(fake_domain_check(&f, true));
    return at;
}

/* What the agent does when a DIMM goes. */
static void empty(gfn_t at, pages_t superpages)
{
    assert_int_equal(domain_decrease_reservation(&f.domain, at, superpages * SP), 0);
    assert_int_equal(domain_collect(&f.domain, at, superpages * SP), 0);
}

static void unplug(gfn_t at, pages_t superpages)
{
    pages_t max = f.domain.p2m.max_pages;
    assert_int_equal(domain_unplug(&f.domain, at, superpages * SP), 0);
    assert_int_equal(f.domain.p2m.max_pages, max - superpages * SP);
    assert_false(p2m_exists(&f.domain.p2m, at, 1));
    assert_holds(fake_domain_check(&f, true));
}

static void memory_comes_and_goes(void **unused)
{
    (void)unused;
    start(4, 16, 3);
    gfn_t at = plug(6);
    assert_int_equal(at.n, 4 * SP);
    for (pages_t i = 0; i < SP; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn_add(at, i), 7), 0);
    }
    assert_int_equal(fake_domain_touch(&f, gfn_add(at, 5 * SP + 17), 7), 0);
    assert_int_equal(domain_unplug(&f.domain, at, 6 * SP), -EBUSY);
    empty(at, 6);
    unplug(at, 6);
    assert_int_equal(f.domain.p2m.ram_pages, 0);
    assert_int_equal(f.domain.cache.pages, 3 * SP); /* the target stays */
    assert_int_equal(f.domain.target_pages, 3 * SP);
    stop();
}

static void what_is_absent_takes_part_in_nothing(void **unused)
{
    (void)unused;
    start(4, 16, 4);
    gfn_t first = plug(2), second = plug(2);
    unplug(first, 2);
    assert_int_equal(domain_populate(&f.domain, first), -EINVAL);
    assert_int_equal(domain_discard(&f.domain, gfn_add(first, SP), SP + 1), -EINVAL);
    assert_int_equal(domain_decrease_reservation(&f.domain, gfn(0), 8 * SP), -EINVAL);
    assert_int_equal(domain_increase_reservation(&f.domain, first, 1), -EINVAL);
    assert_int_equal(domain_collect(&f.domain, first, SP), -EINVAL);
    assert_int_equal(domain_unplug(&f.domain, first, SP), -EINVAL);
    /* A guest that walks towards it is not met there: the fake host would tell. */
    for (pages_t i = 0; i < 4 * SP; i++) {
        assert_int_equal(domain_populate(&f.domain, gfn(i)), 0);
    }
    assert_int_equal(fake_domain_touch(&f, gfn_add(second, 3), 7), 0);
    assert_holds(fake_domain_check(&f, true));
    stop();
}

static void gaps_are_used_again(void **unused)
{
    (void)unused;
    start(1, 8, 1);
    gfn_t a = plug(2), b = plug(2), c = plug(2);
    gfn_t none = gfn(5);
    assert_int_equal(domain_plug(&f.domain, 2 * SP, &none), -ENOSPC);
    assert_int_equal(none.n, 5);
    unplug(a, 2);
    unplug(b, 2);
    assert_int_equal(plug(3).n, a.n);
    assert_int_equal(domain_plug(&f.domain, 3 * SP, &none), -ENOSPC);
    assert_int_equal(plug(1).n, a.n + 3 * SP);
    unplug(c, 2);
    assert_int_equal(plug(3).n, c.n);
    stop();
}

static void the_target_is_at_most_max(void **unused)
{
    (void)unused;
    start(2, 8, 2);
    gfn_t at = plug(4);
    assert_int_equal(domain_set_target(&f.domain, 5 * SP), 0);
    for (pages_t i = 0; i < 2 * SP; i++) {
        assert_int_equal(fake_domain_touch(&f, gfn(i), 7), 0);
    }
    empty(at, 4);
    unplug(at, 4);
    assert_int_equal(f.domain.target_pages, 2 * SP);
    assert_true(f.domain.shrinking);
    bool more = true;
    while (more) {
        assert_int_equal(domain_settle_step(&f.domain, SP, &more), 0);
    }
    assert_int_equal(f.domain.total_pages, 2 * SP);
    assert_false(f.domain.shrinking);
    stop();
}

static void what_cannot_be(void **unused)
{
    (void)unused;
    start(2, 8, 2);
    gfn_t at = gfn(5);
    assert_int_equal(domain_plug(&f.domain, 0, &at), -EINVAL);
    assert_int_equal(domain_plug(&f.domain, SP + 1, &at), -EINVAL);
    assert_int_equal(domain_plug(&f.domain, 100 * SP, &at), -ENOSPC);
    assert_int_equal(domain_plug(&f.domain, UINT64_MAX / SP * SP, &at), -ENOSPC);
    assert_int_equal(domain_unplug(&f.domain, gfn(0), 2 * SP), -EINVAL); /* all of it */
    assert_int_equal(domain_unplug(&f.domain, gfn(1), SP), -EINVAL);
    assert_int_equal(domain_unplug(&f.domain, gfn(0), SP - 1), -EINVAL);
    assert_int_equal(domain_unplug(&f.domain, gfn(2 * SP), SP), -EINVAL);
    domain_begin_dying(&f.domain);
    assert_int_equal(domain_plug(&f.domain, SP, &at), -ESHUTDOWN);
    assert_int_equal(domain_unplug(&f.domain, gfn(0), SP), -ESHUTDOWN);
    assert_int_equal(domain_collect(&f.domain, gfn(0), SP), -ESHUTDOWN);
    assert_int_equal(at.n, 5);
    stop();
    /* Behind a superpage that is cut short there is no place for another. */
    fake_domain_start_with_room(&f, SP + 5, 8 * SP, SP);
    assert_int_equal(domain_plug(&f.domain, SP, &at), -EINVAL);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_comes_and_goes),
        cmocka_unit_test(what_is_absent_takes_part_in_nothing),
        cmocka_unit_test(gaps_are_used_again),
        cmocka_unit_test(the_target_is_at_most_max),
        cmocka_unit_test(what_cannot_be),
    };
    return cmocka_run_group_tests_name("memory that comes and goes", tests, NULL, NULL);
}
