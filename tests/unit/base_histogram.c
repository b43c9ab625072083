/* SPDX-License-Identifier: MIT */
/* Histograms: quantiles against sorted arrays, at most an eighth too high. */
#include "base/histogram.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void empty(void **unused)
{
    (void)unused;
    struct histogram none = {0};
    assert_int_equal(histogram_quantile(&none, 0), 0);
    assert_int_equal(histogram_quantile(&none, 50), 0);
    assert_int_equal(histogram_quantile(&none, 100), 0);
    assert_int_equal(none.max_ns, 0);
}

/* A single value is its own quantile, whatever it is and whatever one asks for. */
static void one_value(void **unused)
{
    (void)unused;
    for (int bit = 0; bit < 64; bit++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)off;
            struct histogram one = {0};
            histogram_add(&one, value);
            assert_true(one.count == 1 && one.max_ns == value);
            assert_true(histogram_quantile(&one, 0) == value);
            assert_true(histogram_quantile(&one, 99) == value);
            assert_true(histogram_quantile(&one, 100) == value);
        }
    }
    struct histogram most = {0};
    histogram_add(&most, UINT64_MAX);
    assert_true(histogram_quantile(&most, 50) == UINT64_MAX);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

#define VALUES 2000

static void against_a_sorted_array(void **unused)
{
    (void)unused;
    static uint64_t values[VALUES];
    static struct histogram histogram;
    for (int round = 0; round < 50; round++) {
        size_t count = 1 + draw() % VALUES;
        memset(&histogram, 0, sizeof(histogram));
        for (size_t i = 0; i < count; i++) {
            values[i] = draw() >> draw() % 64;
            histogram_add(&histogram, values[i]);
        }
        qsort(values, count, sizeof(values[0]), compare);
        assert_true(histogram.count == count && histogram.max_ns == values[count - 1]);
        uint64_t sum = 0, before = 0;
        for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
            sum += histogram.buckets[i];
        }
        assert_true(sum == count);
        for (unsigned percent = 0; percent <= 100; percent++) {
            uint64_t said = histogram_quantile(&histogram, percent);
            /* The smallest value that so many do not exceed. */
            size_t rank = (count * percent + 99) / 100;
            uint64_t exact = values[rank != 0 ? rank - 1 : 0];
            assert_true(said >= exact);
            assert_true(said - exact <= exact / 8);
            assert_true(said <= histogram.max_ns);
            assert_true(said >= before); /* a quantile never falls */
            before = said;
        }
        assert_true(histogram_quantile(&histogram, 100) == histogram.max_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),
        cmocka_unit_test(one_value),
        cmocka_unit_test(against_a_sorted_array),
    };
    return cmocka_run_group_tests_name("base_histogram", tests, NULL, NULL);
}
