/* SPDX-License-Identifier: MIT */
/*
 * ballast stat: all there is to know about one domain.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "base/types.h"
#include "cli.h"
#include "domain.h"

static const char help[] =
    "Usage: ballast stat [--json] NAME\n"
    "\n"
    "Shows a domain's memory and what its agent has done so far.\n"
    "\n"
    "  populated    memory that the guest has in use\n"
    "  cache        memory of the domain that the guest has not in use\n"
    "  PoD entries  memory that the guest believes in and has not touched; if it is\n"
    "               more than the cache, the domain is not covered: it can run out\n"
    "  given up     memory that the guest gave up (its balloon)\n"
    "  shrinking    the target was lowered, and the guest has not given back enough\n"
    "\n"
    "Options:\n"
    "  --json  print one object with the keys that ballast-protocol(7) lists for\n"
    "          query-domain\n"
    "\n"
    "Examples:\n"
    "  ballast stat vm1\n"
    "  ballast stat --json vm1 | jq .cache_pages\n";

static void print_pages(const char *label, const json_t *state, const char *key,
                        const char *whole_key, const char *whole_name)
{
    uint64_t pages = (uint64_t)domain_integer(state, key);
    json_int_t whole = domain_integer(state, whole_key);
    char text[SIZE_TEXT_BYTES];

    size_format(pages_to_bytes(pages), text);
    printf("  %-12s %s", label, text);
    if (whole > 0) {
        printf(" (%.1f%% of %s)", 100.0 * (double)pages / (double)whole, whole_name);
    }
    putchar('\n');
}

/* What is on its way to the host, and what is there already but not collected. */
static void print_pending(const json_t *state)
{
    json_int_t surplus =
        domain_integer(state, "total_pages") - domain_integer(state, "target_pages");
    char text[SIZE_TEXT_BYTES];

    if (domain_integer(state, "given_pages") > 0) {
        domain_format_pages(state, "given_pages", text);
        printf("  %-12s %s of that are still where they were\n", "", text);
    }
    if (domain_integer(state, "growing_pages") > 0) {
        char ready[SIZE_TEXT_BYTES];

        domain_format_pages(state, "growing_ready_pages", ready);
        domain_format_pages(state, "growing_pages", text);
        printf("  %-12s the host has given %s of %s that are to come\n", "growing", ready, text);
    }
    if (json_is_true(json_object_get(state, "shrinking"))) {
        size_format(surplus > 0 ? pages_to_bytes((uint64_t)surplus) : 0, text);
        printf("  %-12s %s more than the target go to the host as the guest gives them up\n",
               "shrinking", text);
    }
}

static void print_covered(const json_t *state)
{
    json_int_t missing =
        domain_integer(state, "pod_entries_pages") - domain_integer(state, "cache_pages");
    char text[SIZE_TEXT_BYTES];

    if (json_is_true(json_object_get(state, "covered"))) {
        puts("  covered      yes: it cannot run out");
        return;
    }
    size_format(missing > 0 ? pages_to_bytes((uint64_t)missing) : 0, text);
    printf("  covered      no: entries exceed the cache by %s\n", text);
}

static void print_moves(const char *label, const json_t *state, const char *key_2m,
                        const char *key_4k)
{
    printf("  %-12s %" JSON_INTEGER_FORMAT " superpages, %" JSON_INTEGER_FORMAT " pages\n", label,
           domain_integer(state, key_2m), domain_integer(state, key_4k));
}

static void print_balloon(const json_t *state)
{
    char up[SIZE_TEXT_BYTES];
    char back[SIZE_TEXT_BYTES];
    char discarded[SIZE_TEXT_BYTES];
    json_int_t touched = domain_integer(state, "out_touched");

    domain_format_pages(state, "given_up_pages", up);
    domain_format_pages(state, "taken_back_pages", back);
    domain_format_pages(state, "discarded_pages", discarded);
    printf("  %-12s %s given up, %s taken back", "balloon", up, back);
    if (touched > 0) {
        printf("; %" JSON_INTEGER_FORMAT
               " pages touched after they were given up, %" JSON_INTEGER_FORMAT " found in use",
               touched, domain_integer(state, "out_in_use"));
    }
    printf("\n  %-12s %s that guest and QEMU no longer needed\n", "discarded", discarded);
}

static double us(const json_t *state, const char *key)
{
    return (double)domain_integer(state, key) / 1000.0;
}

static void print_state(const json_t *state)
{
    char text[SIZE_TEXT_BYTES];

    printf("%s: %s, pid %" JSON_INTEGER_FORMAT "\n", domain_string(state, "name"),
           domain_string(state, "state"), domain_integer(state, "pid"));
    puts("memory");
    size_format(pages_to_bytes((uint64_t)domain_integer(state, "max_pages")), text);
    printf("  %-12s %s\n", "max", text);
    print_pages("target", state, "target_pages", "max_pages", "max");
    print_pages("total", state, "total_pages", "target_pages", "target");
    print_pages("populated", state, "populated_pages", "total_pages", "total");
    print_pages("cache", state, "cache_pages", "total_pages", "total");
    print_pages("PoD entries", state, "pod_entries_pages", "max_pages", "max");
    print_pages("given up", state, "out_pages", "max_pages", "max");
    print_pending(state);
    print_covered(state);
    puts("so far");
    printf("  %-12s %" JSON_INTEGER_FORMAT "; half of them within %.1f us, 99%% within %.1f us, "
           "the slowest %.1f us\n",
           "faults", domain_integer(state, "faults"), us(state, "fault_p50_ns"),
           us(state, "fault_p99_ns"), us(state, "fault_max_ns"));
    print_moves("to the guest", state, "populated_2m", "populated_4k");
    printf("  %-12s %" JSON_INTEGER_FORMAT " of these superpages, before the guest touched them\n",
           "ahead", domain_integer(state, "ahead_2m"));
    printf("  %-12s %" JSON_INTEGER_FORMAT
           " superpages that were in single pages are whole again\n",
           "recovered", domain_integer(state, "recovered_2m"));
    printf("  %-12s %" JSON_INTEGER_FORMAT
           " pages that the kernel took back unasked, and gave again\n",
           "refilled", domain_integer(state, "refilled_pages"));
    print_moves("reclaimed", state, "reclaimed_2m", "reclaimed_4k");
    print_balloon(state);
    printf("  %-12s %" JSON_INTEGER_FORMAT " because the cache was empty\n", "sweeps",
           domain_integer(state, "sweeps"));
    printf("  %-12s %" JSON_INTEGER_FORMAT " pages that the kernel would not move\n", "skipped",
           domain_integer(state, "busy_skips"));
}

static int stat_domain(const char *base, const char *name, bool as_json)
{
    struct ctl_error error;
    json_t *state;
    int ret = domain_find(base, name);

    if (ret != 0) {
        return ret;
    }
    if (domain_query(base, name, &state, &error) < 0) {
        cli_error("the domain '%s' cannot be asked: %s", name, error.desc);
        return EXIT_FAILED;
    }
    if (as_json) {
        domain_print_json(state);
    } else {
        print_state(state);
    }
    json_decref(state);
    return domain_finish_output();
}

static int run(int argc, char **argv)
{
    bool as_json = false;
    const struct cli_option options[] = {{"--json", NULL, &as_json}, {NULL, NULL, NULL}};
    char base[PATH_MAX];
    int rest;
    int ret = cli_read_options(&cmd_stat, options, argc, argv, &rest);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (argc - rest != 1) {
        return cli_usage_error("stat", "stat takes one name, and got %d", argc - rest);
    }
    ret = cli_check_name("stat", argv[rest]);
    if (ret == 0) {
        ret = cli_find_base(base);
    }
    if (ret != 0) {
        return ret;
    }
    return stat_domain(base, argv[rest], as_json);
}

const struct cli_command cmd_stat = {
    .name = "stat",
    .summary = "show one domain's memory",
    .help = help,
    .run = run,
};
