/* SPDX-License-Identifier: MIT */
/* Metrics in both forms of text. What `ballast metrics` makes of domains is in
 * tests/cli/test_metrics.py. */
#include "unit.h"

#include <stdio.h>

#include "openmetrics.h"

static const struct openmetrics_family bytes = {OPENMETRICS_COUNTER, "x_read_bytes", "bytes",
                                                "What was read."};
static const struct openmetrics_family seconds = {OPENMETRICS_SUMMARY, "x_wait_seconds", "seconds",
                                                  "How long."};

/* Writes a family of each kind and compares. */
static void check_text(bool is_0_0_4, const char *expected)
{
    const struct openmetrics_label none = {NULL, NULL};
    char text[1024] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");
    const struct openmetrics metrics = {file, is_0_0_4};

    openmetrics_begin(&metrics, &bytes);
    openmetrics_sample(&metrics, &bytes, (struct openmetrics_label){"name", "a\"b\\c\nd{},="}, none,
                       9007199254740992.0, 0);
    openmetrics_begin(&metrics, &seconds);
    openmetrics_sample(&metrics, &seconds, (struct openmetrics_label){"name", ""},
                       (struct openmetrics_label){"quantile", "0.5"}, 1.5e-6, 9);
    openmetrics_end(&metrics);
    fclose(file);
    assert_string_equal(text, expected);
}

static void openmetrics_text(void **state)
{
    (void)state;
    check_text(false, "# HELP x_read_bytes What was read.\n"
                      "# TYPE x_read_bytes counter\n"
                      "# UNIT x_read_bytes bytes\n"
                      "x_read_bytes_total{name=\"a\\\"b\\\\c\\nd{},=\"} 9007199254740992\n"
                      "# HELP x_wait_seconds How long.\n"
                      "# TYPE x_wait_seconds summary\n"
                      "# UNIT x_wait_seconds seconds\n"
                      "x_wait_seconds{name=\"\",quantile=\"0.5\"} 0.000001500\n"
                      "# EOF\n");
}

static void older_text(void **state)
{
    (void)state;
    check_text(true, "# HELP x_read_bytes_total What was read.\n"
                     "# TYPE x_read_bytes_total counter\n"
                     "x_read_bytes_total{name=\"a\\\"b\\\\c\\nd{},=\"} 9007199254740992\n"
                     "# HELP x_wait_seconds How long.\n"
                     "# TYPE x_wait_seconds summary\n"
                     "x_wait_seconds{name=\"\",quantile=\"0.5\"} 0.000001500\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openmetrics_text),
        cmocka_unit_test(older_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
