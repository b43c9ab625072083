/* SPDX-License-Identifier: MIT */
/* Sizes: what operators and QEMU write, and what people read. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/size.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static void operator_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"256M", 256 * MIB},
        {"256m", 256 * MIB},
        {"256MiB", 256 * MIB},
        {"256mib", 256 * MIB},
        {"4G", 4 * GIB},
        {"1.5G", 3 * GIB / 2},
        {"1.50GiB", 3 * GIB / 2},
        {"0.25K", 256},
        {"2T", 2 * TIB},
        {"4K", 4 * KIB},
        {"0M", 0},
        {"007M", 7 * MIB},
        {"16777215T", 16777215 * TIB},
        {"1.M", MIB},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        const char *why = NULL;
        uint64_t bytes = 1;

        assert_int_equal(size_parse(good[i].text, &bytes, &why), 0);
        assert_int_equal(bytes, good[i].bytes);
        assert_null(why);
    }
}

static void bad_operator_sizes(void **state)
{
    static const struct {
        const char *text;
        const char *why; /* a piece of the reason */
    } bad[] = {
        {"256", "no unit"},
        {"", "number"},
        {"M", "number"},
        {"-1M", "number"},
        {"+1M", "number"},
        {" 1M", "number"},
        {"0x10M", "unit"},
        {"256MB", "MiB"},
        {"256Mi", "after the unit"},
        {"256M ", "after the unit"},
        {"256MiBs", "after the unit"},
        {"5P", "unit"},
        {"5B", "unit"},
        {"1e3M", "unit"},
        {"0.3K", "whole number"},
        {"16777216T", "too large"},
        {"99999999999999999999M", "too large"},
        {".5G", "number"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        const char *why = NULL;
        uint64_t bytes = 12345;

        assert_int_equal(size_parse(bad[i].text, &bytes, &why), -EINVAL);
        assert_int_equal(bytes, 12345);
        assert_non_null(why);
        assert_non_null(strstr(why, bad[i].why));
    }
}

/* The expected values are what QEMU 7.2 shows as its base memory. */
static void qemu_memory_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"1G", GIB},
        {"1g", GIB},
        {"512", 512 * MIB},
        {"00128", 128 * MIB},
        {"1.5G", 3 * GIB / 2},
        {"0x100", 256 * MIB},
        {"0x10M", 16 * MIB},
        {"8192B", 8192},
        {"8193B", 16384},
        {"4097B", 8192},
        {"1K", 8192},
        {"+5", 5 * MIB},
        {" 1G", GIB},
        {"1.M", MIB},
        {"1.1G", 1181122560},
        {"1.0000001G", 1073750016},
        {"3.3M", 3465216},
        {"1.9999999999G", 2 * GIB},
        {"0", 0},
        {"1T", TIB},
        {"2P", 2048 * TIB},
    };
    static const char *const bad[] = {
        "", "foo", "1e3", "1.5", "1GiB", "-1", ".5G", "1G ", "1.5B", "0x1.8G", "0x", "G",
    };
    uint64_t bytes;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        assert_int_equal(size_parse_qemu_memory(good[i].text, &bytes), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    bytes = 12345;
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(size_parse_qemu_memory(bad[i], &bytes), -EINVAL);
    }
    assert_int_equal(size_parse_qemu_memory("20E", &bytes), -ERANGE);
    assert_int_equal(size_parse_qemu_memory("99999999999999", &bytes), -ERANGE);
    assert_int_equal(size_parse_qemu_memory("99999999999999999999999", &bytes), -ERANGE);
    assert_int_equal(bytes, 12345);
}

static void qemu_sizes_count_bytes(void **state)
{
    uint64_t bytes;

    (void)state;
    assert_int_equal(size_parse_qemu("4096", &bytes), 0);
    assert_int_equal(bytes, 4096);
    assert_int_equal(size_parse_qemu("1G", &bytes), 0);
    assert_int_equal(bytes, GIB);
}

static void formatting(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 bytes"},
        {1, "1 bytes"},
        {1023, "1023 bytes"},
        {4096, "4 KiB"},
        {256 * MIB, "256 MiB"},
        {1023 * MIB, "1023 MiB"},
        {GIB, "1 GiB"},
        {3 * GIB / 2, "1.5 GiB"},
        {GIB + 256 * MIB, "1.25 GiB"},
        {GIB + 11 * MIB, "1.01 GiB"},
        {GIB + GIB / 16, "1.06 GiB"},
        {16 * TIB, "16 TiB"},
        {UINT64_MAX, "16 EiB"},
    };
    char text[SIZE_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        size_format(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operator_sizes),    cmocka_unit_test(bad_operator_sizes),
        cmocka_unit_test(qemu_memory_sizes), cmocka_unit_test(qemu_sizes_count_bytes),
        cmocka_unit_test(formatting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
