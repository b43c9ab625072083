/* SPDX-License-Identifier: MIT */
/*
 * ballast ls: all domains, one line each.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "cli.h"
#include "ctl/runtime_dir.h"
#include "domain.h"
#include "survey.h"

static const char help[] =
    "Usage: ballast ls [--json | --names]\n"
    "\n"
    "Lists the running domains. Sizes are in MiB; USED is how much of its memory\n"
    "the guest has in use, and COVERED says whether the domain has a page for all\n"
    "that the guest may still touch, so that it cannot run out. A domain that is\n"
    "shrinking has more than its target, until its guest has given that back.\n"
    "\n"
    "Options:\n"
    "  --json   print an array of objects with the keys that ballast-protocol(7)\n"
    "           lists for query-domain; of a domain that does not answer, name and\n"
    "           error\n"
    "  --names  print only the names, one a line, and ask no domain\n"
    "\n"
    "Examples:\n"
    "  ballast ls\n"
    "  ballast ls --json | jq -r '.[] | select(.covered | not) | .name'\n";

static double mib(const json_t *state, const char *key)
{
    return (double)domain_integer(state, key) * (double)PAGE_BYTES / (double)(UINT64_C(1) << 20);
}

/* A running domain that has more than its target is shown as shrinking. */
static const char *state_word(const json_t *state)
{
    const char *word = domain_string(state, "state");
    bool is_shrinking = json_is_true(json_object_get(state, "shrinking"));

    return is_shrinking && strcmp(word, "running") == 0 ? "shrinking" : word;
}

static void print_row(const json_t *state, int name_width)
{
    json_int_t total = domain_integer(state, "total_pages");
    json_int_t populated = domain_integer(state, "populated_pages");

    printf("%-*s %8" JSON_INTEGER_FORMAT " %-9s %10.1f %10.1f %10.1f %10.1f %10.1f %4.0f%% %s\n",
           name_width, domain_string(state, "name"), domain_integer(state, "pid"),
           state_word(state), mib(state, "max_pages"), mib(state, "target_pages"),
           mib(state, "populated_pages"), mib(state, "cache_pages"),
           mib(state, "pod_entries_pages"),
           total > 0 ? 100.0 * (double)populated / (double)total : 0.0,
           json_is_true(json_object_get(state, "covered")) ? "yes" : "no");
}

static void print_table(const json_t *list)
{
    int width = 4;
    size_t index;
    json_t *item;

    json_array_foreach(list, index, item)
    {
        int length = (int)strlen(domain_string(item, "name"));

        width = length > width ? length : width;
    }
    printf("%-*s %8s %-9s %10s %10s %10s %10s %10s %5s %s\n", width, "NAME", "PID", "STATE",
           "MAX/MiB", "TARGET", "POPULATED", "CACHE", "ENTRIES", "USED", "COVERED");
    json_array_foreach(list, index, item)
    {
        if (json_object_get(item, "error") == NULL) {
            print_row(item, width);
        } else {
            printf("%-*s %8s %s\n", width, domain_string(item, "name"), "?",
                   domain_string(item, "error"));
        }
    }
}

static int list_names(const char *base)
{
    struct runtime_entry *entries;
    size_t count;
    int ret = runtime_list(base, &entries, &count);

    if (ret < 0) {
        return ret;
    }
    for (size_t i = 0; i < count; i++) {
        if (entries[i].state == RUNTIME_LIVE) {
            puts(entries[i].name);
        }
    }
    free(entries);
    return 0;
}

/* Asks all and prints what they said. */
static int list_states(const char *base, bool as_json)
{
    json_t *list;
    int ret = survey(base, &list);

    if (ret < 0) {
        return ret;
    }
    if (as_json) {
        domain_print_json(list);
    } else {
        print_table(list);
    }
    json_decref(list);
    return 0;
}

static int run(int argc, char **argv)
{
    bool as_json = false;
    bool only_names = false;
    const struct cli_option options[] = {
        {"--json", NULL, &as_json}, {"--names", NULL, &only_names}, {NULL, NULL, NULL}};
    char base[PATH_MAX];
    int rest;
    int ret = cli_read_options(&cmd_ls, options, argc, argv, &rest);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (rest < argc) {
        return cli_usage_error("ls", "'%s' is too much: ls takes no names", argv[rest]);
    }
    if (as_json && only_names) {
        return cli_usage_error("ls", "--json and --names exclude each other");
    }
    ret = cli_find_base(base);
    if (ret != 0) {
        return ret;
    }
    ret = only_names ? list_names(base) : list_states(base, as_json);
    if (ret < 0) {
        cli_error("the domains in %s cannot be listed: %s; check that it is your folder", base,
                  strerror(-ret));
        return EXIT_FAILED;
    }
    return domain_finish_output();
}

const struct cli_command cmd_ls = {
    .name = "ls",
    .summary = "list the running domains",
    .help = help,
    .run = run,
};
