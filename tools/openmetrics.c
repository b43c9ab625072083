/* SPDX-License-Identifier: MIT */
/*
 * Writing metrics. See openmetrics.h.
 */
#include "openmetrics.h"

#include <string.h>

static const char *const type_words[] = {
    [OPENMETRICS_GAUGE] = "gauge",
    [OPENMETRICS_COUNTER] = "counter",
    [OPENMETRICS_SUMMARY] = "summary",
};

static const char *total_of(const struct openmetrics_family *family)
{
    return family->type == OPENMETRICS_COUNTER ? "_total" : "";
}

void openmetrics_begin(const struct openmetrics *metrics, const struct openmetrics_family *family)
{
    const char *suffix = metrics->is_0_0_4 ? total_of(family) : "";

    fprintf(metrics->file, "# HELP %s%s %s\n# TYPE %s%s %s\n", family->name, suffix, family->help,
            family->name, suffix, type_words[family->type]);
    if (!metrics->is_0_0_4 && family->unit[0] != '\0') {
        fprintf(metrics->file, "# UNIT %s %s\n", family->name, family->unit);
    }
}

static void print_label(FILE *file, const struct openmetrics_label *label)
{
    fprintf(file, "%s=\"", label->name);
    for (const char *at = label->value; *at != '\0'; at++) {
        if (*at == '\n') {
            fputs("\\n", file);
        } else {
            if (*at == '"' || *at == '\\') {
                fputc('\\', file);
            }
            fputc(*at, file);
        }
    }
    fputc('"', file);
}

void openmetrics_sample(const struct openmetrics *metrics, const struct openmetrics_family *family,
                        struct openmetrics_label first, struct openmetrics_label second,
                        double value, int digits)
{
    fprintf(metrics->file, "%s%s{", family->name, total_of(family));
    print_label(metrics->file, &first);
    if (second.name != NULL) {
        fputc(',', metrics->file);
        print_label(metrics->file, &second);
    }
    fprintf(metrics->file, "} %.*f\n", digits, value);
}

void openmetrics_end(const struct openmetrics *metrics)
{
    if (!metrics->is_0_0_4) {
        fputs("# EOF\n", metrics->file);
    }
}
