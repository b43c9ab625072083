/* SPDX-License-Identifier: MIT */
/* What is told of a domain whose state is wrong, and of what came before. */
#include "agent/postmortem.h"
#include "fake_domain.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SP SUPERPAGE_PAGES

static struct fake_domain f;
static struct history history;
static char text[32 * 1024];

static int set_up(void **unused)
{
    (void)unused;
    memset(&history, 0, sizeof(history));
    fake_domain_start(&f, 4 * SP + 7, 2 * SP);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    fake_domain_free(&f);
    return 0;
}

static int populate(gfn_t at)
{
    int err = domain_populate(&f.domain, at);
    history_add(&history, &f.domain, "populate", at, 1, err);
    return err;
}

static void write_it(gfn_t at, bool checked, const struct linux_host *host, size_t size)
{
    const struct postmortem postmortem = {
        .noticed = "populate",
        .at = at,
        .equation = checked ? domain_check(&f.domain) : NULL,
        .checked = checked,
        .programs = "ballast 1.2.3",
        .domain = &f.domain,
        .history = &history,
        .host = host,
    };
    memset(text, '#', sizeof(text));
    postmortem_write(&postmortem, text, size);
}

static void assert_says(const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("it does not say '%s':\n%s", words, text);
    }
}

/* An operation of the host's fails for good. */
static void a_host_that_fails(void **unused)
{
    (void)unused;
    struct linux_host host = {0};
    host.failures[0] =
        (struct linux_failure){"place", gfn(0x400), cfn(0x200), SP, 3, -EIO, -EINVAL};
    host.failures_made = 1;
    assert_int_equal(populate(gfn(5)), 0);
    fake_host_fail(&f.host, (struct fake_failure){.op = FAKE_PLACE, .err = -EIO, .after = 3});
    assert_int_equal(populate(gfn(2 * SP)), -EIO);
    assert_int_equal(f.domain.state, DOMAIN_BROKEN);
    write_it(gfn(2 * SP), true, &host, sizeof(text));
    assert_says("noticed: in populate, at gfn 0x400\n");
    assert_says("equations: all hold\n"); /* what went was counted */
    assert_says("programs: ballast 1.2.3\nkernel: Linux ");
    assert_says("state: broken\n");
    assert_says("pages: max 2055, target 1024, total 1024, P 515, E 1540, O 0, G 0, C 509\n");
    assert_says("counters: faults 2 ");
    assert_says("there: gfn 0x400, state 1; superpage 2: ram 3, out 0, given 0, flags 2\n");
    assert_says("  place gfn 0x400, cfn 0x200, 512 pages, of which 3 went: EIO; the kernel's last "
                "error of a move: EINVAL\n");
    assert_says("last operations, of 2:\n");
    assert_says("populate gfn 0x5, 1 pages: ok, 1 times; total 1024, C 512, P + G 512\n");
    assert_says("populate gfn 0x400, 1 pages: EIO, 1 times; total 1024, C 509, P + G 515\n");
}

/* Each equation that can be made not to hold is named. */
static void an_equation_that_does_not_hold(void **unused)
{
    (void)unused;
    assert_int_equal(populate(gfn(5)), 0);
    write_it(gfn(5), false, NULL, sizeof(text));
    assert_says("equations: not looked at yet\n");
    f.domain.total_pages++;
    write_it(gfn(5), true, NULL, sizeof(text));
    assert_says("equations: domain: P + G + C = total\n");
    f.domain.total_pages--;
    f.domain.p2m.entries[0].ram--;
    write_it(gfn(UINT64_MAX), true, NULL, sizeof(text));
    assert_says("equations: p2m: ");
    assert_null(strstr(text, "there: "));
}

/* However little room there is, it ends in time. */
static void cut_off(void **unused)
{
    (void)unused;
    assert_int_equal(populate(gfn(5)), 0);
    write_it(gfn(5), true, NULL, sizeof(text));
    size_t whole = strlen(text);
    for (size_t size = 1; size <= whole + 1; size++) {
        write_it(gfn(5), true, NULL, size);
        assert_int_equal(strlen(text), size - 1);
        assert_int_equal(text[size], '#');
    }
}

/* The last are kept, and what repeats itself does not push out the rest. */
static void the_last_operations(void **unused)
{
    (void)unused;
    for (uint64_t i = 0; i < 3 * HISTORY_KEPT; i++) {
        history_add(&history, &f.domain, "discard", gfn(i), 1, 0);
    }
    for (int i = 0; i < 1000; i++) {
        history_add(&history, &f.domain, "populate", gfn(7), 1, -EAGAIN);
    }
    assert_int_equal(history.operations, 3 * HISTORY_KEPT + 1000);
    assert_int_equal(history.made, 3 * HISTORY_KEPT + 1);
    write_it(gfn(7), true, NULL, sizeof(text));
    assert_says("populate gfn 0x7, 1 pages: EAGAIN, 1000 times;");
    char oldest[64], lost[64];
    snprintf(oldest, sizeof(oldest), "discard gfn 0x%x,", 2 * HISTORY_KEPT + 1);
    snprintf(lost, sizeof(lost), "discard gfn 0x%x,", 2 * HISTORY_KEPT);
    assert_says(oldest);
    assert_null(strstr(text, lost));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_host_that_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_equation_that_does_not_hold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_operations, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("reports", tests, NULL, NULL);
}
