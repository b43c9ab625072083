/* SPDX-License-Identifier: MIT */
/* What cmocka wants included before it, and an assertion on checkers. */
#ifndef BALLAST_TESTS_UNIT_H
#define BALLAST_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The checkers of the engine and of the fake host return NULL, or what is wrong. */
#define assert_holds(check)                                                                        \
    do {                                                                                           \
        const char *wrong_ = (check);                                                              \
        if (wrong_ != NULL) {                                                                      \
            fail_msg("%s", wrong_);                                                                \
        }                                                                                          \
    } while (0)

/* That a checker finds this fault and no other. */
#define assert_finds(check, expected)                                                              \
    do {                                                                                           \
        const char *found_ = (check);                                                              \
        if (found_ == NULL) {                                                                      \
            fail_msg("nothing found instead of: %s", (expected));                                  \
        }                                                                                          \
        assert_string_equal(found_, (expected));                                                   \
    } while (0)

#endif
