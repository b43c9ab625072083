/* SPDX-License-Identifier: MIT */
/* What the kernel's errors mean: every errno there is becomes one of the few
 * that engine/ops.h lists, and those that matter the right one. */
#include "host/verdict.h"

#include "unit.h"

#include <errno.h>

#define ERRNO_MAX 4095

static void move(void **unused)
{
    (void)unused;
    assert_int_equal(verdict_of_move(0), 0);
    assert_int_equal(verdict_of_move(-EAGAIN), -EAGAIN);
    assert_int_equal(verdict_of_move(-EINTR), -EAGAIN);
    assert_int_equal(verdict_of_move(-ENOMEM), -EAGAIN); /* for a page table: may come right */
    assert_int_equal(verdict_of_move(-EBUSY), -EBUSY);
    assert_int_equal(verdict_of_move(-EEXIST), -EEXIST);
    assert_int_equal(verdict_of_move(-ENOENT), -ENOENT);
    assert_int_equal(verdict_of_move(-ESRCH), -ESRCH);
    assert_int_equal(verdict_of_move(-EINVAL), -EIO);
    assert_int_equal(verdict_of_move(-EFAULT), -EIO);
    assert_int_equal(verdict_of_move(-EPERM), -EIO);
}

static void allocate(void **unused)
{
    (void)unused;
    assert_int_equal(verdict_of_allocate(0), 0);
    assert_int_equal(verdict_of_allocate(-ENOMEM), -ENOMEM);
    assert_int_equal(verdict_of_allocate(-EFAULT), -ENOMEM);
    assert_int_equal(verdict_of_allocate(-EHWPOISON), -ENOMEM);
    assert_int_equal(verdict_of_allocate(-EINTR), -EAGAIN);
    assert_int_equal(verdict_of_allocate(-EAGAIN), -EAGAIN);
    assert_int_equal(verdict_of_allocate(-EINVAL), -EIO);
}

static void whatever_may_come(void **unused)
{
    (void)unused;
    for (int number = 1; number <= ERRNO_MAX; number++) {
        switch (verdict_of_move(-number)) {
        case -EBUSY:
        case -EAGAIN:
        case -EEXIST:
        case -ENOENT:
        case -ESRCH:
        case -EIO:
            break;
        default:
            fail_msg("a move that fails with %d gives %d", -number, verdict_of_move(-number));
        }
        switch (verdict_of_allocate(-number)) {
        case -ENOMEM:
        case -EAGAIN:
        case -EIO:
            break;
        default:
            fail_msg("an allocation that fails with %d gives %d", -number,
                     verdict_of_allocate(-number));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(move),
        cmocka_unit_test(allocate),
        cmocka_unit_test(whatever_may_come),
    };
    return cmocka_run_group_tests_name("host_verdict", tests, NULL, NULL);
}
