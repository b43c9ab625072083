/* SPDX-License-Identifier: MIT */
/*
 * ballast metrics: all domains, for Prometheus.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/types.h"
#include "cli.h"
#include "domain.h"
#include "openmetrics.h"
#include "survey.h"

static const char help[] =
    "Usage: ballast metrics [--textfile PATH]\n"
    "\n"
    "Prints all domains' figures for Prometheus, as OpenMetrics text. All domains\n"
    "are asked at once; one that does not answer within some seconds has\n"
    "ballast_domain_up 0 and no other figures, and a line on standard error says why.\n"
    "\n"
    "Options:\n"
    "  --textfile PATH  write, instead, the file PATH, for node_exporter's textfile\n"
    "                   collector: in the older text format, which is all that it\n"
    "                   reads, and in one step. PATH must end in .prom\n"
    "\n"
    "Examples:\n"
    "  ballast metrics\n"
    "  ballast metrics --textfile /var/lib/prometheus/node-exporter/ballast.prom\n";

/* How a figure of query-domain becomes a value. */
enum scale {
    AS_IT_IS,
    PAGES,       /* to bytes */
    SUPERPAGES,  /* to bytes */
    NANOSECONDS, /* to seconds */
};

/* A sample: what query-domain calls it, and its label beside the domain's name. */
struct sample {
    const char *key; /* NULL: no more */
    struct openmetrics_label label;
};

#define SAMPLES_MAX 3

struct metric {
    struct openmetrics_family family;
    enum scale scale;
    struct sample samples[SAMPLES_MAX];
};

#define GAUGE(what, help_text)                                                                     \
    {                                                                                              \
        OPENMETRICS_GAUGE, "ballast_domain_" what, "", help_text                                   \
    }
#define BYTES(what, help_text)                                                                     \
    {                                                                                              \
        OPENMETRICS_GAUGE, "ballast_domain_" what "_bytes", "bytes", help_text                     \
    }
#define COUNTER(what, help_text)                                                                   \
    {                                                                                              \
        OPENMETRICS_COUNTER, "ballast_domain_" what, "", help_text                                 \
    }
#define COUNTED_BYTES(what, help_text)                                                             \
    {                                                                                              \
        OPENMETRICS_COUNTER, "ballast_domain_" what "_bytes", "bytes", help_text                   \
    }

static const struct metric metrics[] = {
    {BYTES("max", "Guest RAM as the guest believes it."), PAGES, {{"max_pages", {0}}}},
    {BYTES("target", "Memory that the operator granted."), PAGES, {{"target_pages", {0}}}},
    {BYTES("owned", "Memory that the domain owns now: populated and cache."),
     PAGES,
     {{"total_pages", {0}}}},
    {BYTES("populated", "Memory that the guest has in use."), PAGES, {{"populated_pages", {0}}}},
    {BYTES("cache", "Memory that the domain owns and the guest has not in use."),
     PAGES,
     {{"cache_pages", {0}}}},
    {BYTES("cache_superpages", "Part of the cache that is whole superpages."),
     SUPERPAGES,
     {{"cache_superpages", {0}}}},
    {BYTES("pod_entries", "Memory that the guest believes in and has not touched."),
     PAGES,
     {{"pod_entries_pages", {0}}}},
    {BYTES("out", "Memory that the guest gave up (its balloon)."), PAGES, {{"out_pages", {0}}}},
    {BYTES("given", "Part of what was given up that is still where it was."),
     PAGES,
     {{"given_pages", {0}}}},
    {BYTES("growing", "Memory that is being brought from the host for a larger target."),
     PAGES,
     {{"growing_pages", {0}}}},
    {BYTES("growing_ready", "Part of that which is there."), PAGES, {{"growing_ready_pages", {0}}}},
    {GAUGE("covered", "1 if the domain cannot run out of memory any more."),
     AS_IT_IS,
     {{"covered", {0}}}},
    {GAUGE("shrinking", "1 if the domain owns more than its lowered target."),
     AS_IT_IS,
     {{"shrinking", {0}}}},
    {COUNTER("faults", "Accesses that waited for a page."), AS_IT_IS, {{"faults", {0}}}},
    {{OPENMETRICS_SUMMARY, "ballast_domain_fault_seconds", "seconds",
      "Time from reading a fault to the page being in place, since the start."},
     NANOSECONDS,
     {{"fault_p50_ns", {"quantile", "0.5"}},
      {"fault_p99_ns", {"quantile", "0.99"}},
      {"fault_max_ns", {"quantile", "1"}}}},
    {COUNTED_BYTES("populate_superpages", "Memory moved to the guest in whole superpages."),
     SUPERPAGES,
     {{"populated_2m", {0}}}},
    {COUNTED_BYTES("populate_pages", "Memory moved to the guest in single pages."),
     PAGES,
     {{"populated_4k", {0}}}},
    {COUNTED_BYTES("ahead", "Superpages moved to the guest before it touched them."),
     SUPERPAGES,
     {{"ahead_2m", {0}}}},
    {COUNTED_BYTES("recovered", "Superpages that were in single pages and are whole again."),
     SUPERPAGES,
     {{"recovered_2m", {0}}}},
    {COUNTED_BYTES("refilled", "Memory that the kernel took back unasked, and gave again."),
     PAGES,
     {{"refilled_pages", {0}}}},
    {COUNTED_BYTES("reclaim_superpages", "Zeros taken back from the guest in whole superpages."),
     SUPERPAGES,
     {{"reclaimed_2m", {0}}}},
    {COUNTED_BYTES("reclaim_pages", "Zeros taken back from the guest in single pages."),
     PAGES,
     {{"reclaimed_4k", {0}}}},
    {COUNTER("sweeps", "Searches for zeros because the cache was empty."),
     AS_IT_IS,
     {{"sweeps", {0}}}},
    {COUNTER("busy_skips", "Pages that the kernel would not move."),
     AS_IT_IS,
     {{"busy_skips", {0}}}},
    {COUNTED_BYTES("given_up", "Memory that the guest's balloon gave up."),
     PAGES,
     {{"given_up_pages", {0}}}},
    {COUNTED_BYTES("taken_back", "Memory that the guest's balloon took back."),
     PAGES,
     {{"taken_back_pages", {0}}}},
    {COUNTED_BYTES("discarded", "Memory whose contents guest or QEMU no longer needed."),
     PAGES,
     {{"discarded_pages", {0}}}},
    {COUNTED_BYTES("out_touched", "Memory touched after the guest had given it up."),
     PAGES,
     {{"out_touched", {0}}}},
    {COUNTED_BYTES("out_in_use", "Memory that was given up and found in use."),
     PAGES,
     {{"out_in_use", {0}}}},
};

static const char *const states[] = {"building", "running", "exhausted", "dying"};

static struct openmetrics_label domain_label(const json_t *state)
{
    return (struct openmetrics_label){"domain", domain_string(state, "name")};
}

static bool has_answered(const json_t *state)
{
    return json_object_get(state, "error") == NULL;
}

static void write_value(const struct openmetrics *to, const struct metric *metric,
                        const struct sample *sample, const json_t *state)
{
    static const double factors[] = {
        [AS_IT_IS] = 1,
        [PAGES] = PAGE_BYTES,
        [SUPERPAGES] = SUPERPAGE_BYTES,
        [NANOSECONDS] = 1e-9,
    };
    const json_t *value = json_object_get(state, sample->key);
    double number = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);

    openmetrics_sample(to, &metric->family, domain_label(state), sample->label,
                       number * factors[metric->scale], metric->scale == NANOSECONDS ? 9 : 0);
}

static void write_metric(const struct openmetrics *to, const struct metric *metric,
                         const json_t *list)
{
    size_t index;
    json_t *state;

    openmetrics_begin(to, &metric->family);
    json_array_foreach(list, index, state)
    {
        for (size_t i = 0; has_answered(state) && i < SAMPLES_MAX; i++) {
            if (metric->samples[i].key != NULL) {
                write_value(to, metric, &metric->samples[i], state);
            }
        }
    }
}

/* Whether each domain answered, and its state: a sample for each that there is. */
static void write_states(const struct openmetrics *to, const json_t *list)
{
    static const struct openmetrics_family up = GAUGE("up", "1 if the domain answered.");
    static const struct openmetrics_family state_family =
        GAUGE("state", "1 for the state that the domain is in.");
    const struct openmetrics_label none = {NULL, NULL};
    size_t index;
    json_t *state;

    openmetrics_begin(to, &up);
    json_array_foreach(list, index, state)
    {
        openmetrics_sample(to, &up, domain_label(state), none, has_answered(state), 0);
    }
    openmetrics_begin(to, &state_family);
    json_array_foreach(list, index, state)
    {
        for (size_t i = 0; has_answered(state) && i < sizeof(states) / sizeof(states[0]); i++) {
            openmetrics_sample(to, &state_family, domain_label(state),
                               (struct openmetrics_label){"state", states[i]},
                               strcmp(domain_string(state, "state"), states[i]) == 0, 0);
        }
    }
}

static void write_all(const struct openmetrics *to, const json_t *list)
{
    write_states(to, list);
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        write_metric(to, &metrics[i], list);
    }
    openmetrics_end(to);
}

/* Says which domains did not answer. */
static void complain(const json_t *list)
{
    size_t index;
    json_t *state;

    json_array_foreach(list, index, state)
    {
        if (!has_answered(state)) {
            cli_error("the domain '%s' cannot be asked: %s", domain_string(state, "name"),
                      domain_string(state, "error"));
        }
    }
}

/* Writes beside the file and renames: whoever reads it sees the old text or the new.
 * 0 or -errno. */
static int write_file(const char *path, const json_t *list)
{
    struct openmetrics to = {.is_0_0_4 = true};
    char beside[PATH_MAX];
    int ret = 0;
    int fd;

    if (snprintf(beside, sizeof(beside), "%s.XXXXXX", path) >= (int)sizeof(beside)) {
        return -ENAMETOOLONG;
    }
    fd = mkostemp(beside, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    to.file = fdopen(fd, "w");
    if (to.file == NULL) {
        ret = -errno;
        close(fd);
    } else {
        write_all(&to, list);
        /* node_exporter is another user. */
        if (ferror(to.file) || fflush(to.file) != 0 || fchmod(fd, 0644) < 0) {
            ret = errno != 0 ? -errno : -EIO;
        }
        if (fclose(to.file) != 0 && ret == 0) {
            ret = -errno;
        }
    }
    if (ret == 0 && rename(beside, path) < 0) {
        ret = -errno;
    }
    if (ret < 0) {
        unlink(beside);
    }
    return ret;
}

static int check_path(const char *path)
{
    size_t length = strlen(path);

    if (length > 5 && strcmp(path + length - 5, ".prom") == 0) {
        return 0;
    }
    return cli_usage_error("metrics",
                           "--textfile '%s' does not end in .prom, and node_exporter reads no "
                           "other files",
                           path);
}

static int run(int argc, char **argv)
{
    const char *path = NULL;
    const struct cli_option options[] = {{"--textfile", &path, NULL}, {NULL, NULL, NULL}};
    const struct openmetrics to = {.file = stdout};
    char base[PATH_MAX];
    json_t *list;
    int rest;
    int ret = cli_read_options(&cmd_metrics, options, argc, argv, &rest);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (rest < argc) {
        return cli_usage_error("metrics", "'%s' is too much: metrics takes no names", argv[rest]);
    }
    ret = path != NULL ? check_path(path) : 0;
    if (ret == 0) {
        ret = cli_find_base(base);
    }
    if (ret != 0) {
        return ret;
    }
    ret = survey(base, &list);
    if (ret < 0) {
        cli_error("the domains in %s cannot be listed: %s; check that it is your folder", base,
                  strerror(-ret));
        return EXIT_FAILED;
    }
    complain(list);
    if (path == NULL) {
        write_all(&to, list);
        ret = domain_finish_output();
    } else {
        ret = write_file(path, list);
        if (ret < 0) {
            cli_error("%s cannot be written: %s; what was there stays", path, strerror(-ret));
            ret = EXIT_FAILED;
        }
    }
    json_decref(list);
    return ret;
}

const struct cli_command cmd_metrics = {
    .name = "metrics",
    .summary = "print all domains' figures for Prometheus",
    .help = help,
    .run = run,
};
