/* SPDX-License-Identifier: MIT */
/*
 * Metrics as text for Prometheus, in one of two forms.
 *
 * OpenMetrics 1.0: a counter's family is named without the _total of its samples, a
 * family has its unit, and "# EOF" ends it all. The older text format, version 0.0.4,
 * is the only one that node_exporter's textfile collector reads: there a counter's
 * family has the name of its samples, and the other two do not exist.
 */
#ifndef BALLAST_TOOLS_OPENMETRICS_H
#define BALLAST_TOOLS_OPENMETRICS_H

#include <stdbool.h>
#include <stdio.h>

enum openmetrics_type {
    OPENMETRICS_GAUGE,
    OPENMETRICS_COUNTER,
    OPENMETRICS_SUMMARY, /* of quantiles alone */
};

struct openmetrics_family {
    enum openmetrics_type type;
    const char *name; /* with its unit, without _total */
    const char *unit; /* "" if it has none */
    const char *help; /* one line */
};

struct openmetrics_label {
    const char *name; /* NULL: there is no label */
    const char *value;
};

struct openmetrics {
    FILE *file;
    bool is_0_0_4; /* the older form */
};

/* Begins a family. Its samples follow, and then another family. */
void openmetrics_begin(const struct openmetrics *metrics, const struct openmetrics_family *family);

/* A sample with two labels, of which the second may be missing. The value is
 * printed with as many digits after the point as are said. */
void openmetrics_sample(const struct openmetrics *metrics, const struct openmetrics_family *family,
                        struct openmetrics_label first, struct openmetrics_label second,
                        double value, int digits);

/* Ends the text. */
void openmetrics_end(const struct openmetrics *metrics);

#endif
