/* SPDX-License-Identifier: MIT */
/*
 * ballast top: all domains, live. The interactive one is top_screen.c and top_ui.c; here
 * are the command line and what is printed for scripts.
 */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli.h"
#include "domain.h"
#include "survey.h"
#include "top_poll.h"
#include "top_screen.h"
#include "top_table.h"
#include "waiting.h"

static const char help[] =
    "Usage: ballast top [--delay S] [--sort KEY] [--filter TEXT] [--batch | --json]\n"
    "                   [--iterations N]\n"
    "\n"
    "Shows all running domains, live: sizes, whether they are covered, faults and\n"
    "reclaims a second, how long faults take, and a bar of what each has of its max.\n"
    "Enter shows one domain with its history and its map; h shows all keys. A domain\n"
    "that does not answer is shown as silent, and holds up no other.\n"
    "\n"
    "Options:\n"
    "  --delay S       ask every S seconds, from 0.1 to 3600 (default: 1)\n"
    "  --sort KEY      name, max, target, populated, cache, entries, faults, reclaims\n"
    "                  or p99; the largest first (default: name)\n"
    "  --filter TEXT   only domains with this text in their name or state\n"
    "  --batch         print a table each time, for scripts and dumb terminals\n"
    "  --json          print an object a line each time, with the keys that\n"
    "                  ballast-protocol(7) lists for query-domain, and rates\n"
    "  --iterations N  end after so many (default: when you end it)\n"
    "\n"
    "Examples:\n"
    "  ballast top\n"
    "  ballast top --sort faults --delay 0.5\n"
    "  ballast top --batch --iterations 2 --delay 10\n"
    "  ballast top --json | jq '.domains[].faults_per_second'\n";

#define DELAY_DEFAULT_MS 1000
#define DELAY_MIN_MS     100
#define DELAY_MAX_S      3600
#define ITERATIONS_MAX   1000000000

/* What the command line asks for, beside what is in the model. */
struct options {
    int delay_ms;
    int iterations; /* 0: no end */
    bool as_json;
};

/* Prints the table for the domains that are shown. */
static int print_table(const struct top_model *model)
{
    struct top_table table = top_lay_out(model, 0, true);
    struct canvas canvas = {.cells = NULL};
    int rows = (int)model->shown_count + 1;
    int columns = top_table_width(&table);
    char *text = malloc((size_t)columns + 1);

    if (text == NULL || canvas_resize(&canvas, rows, columns) < 0) {
        free(text);
        return -ENOMEM;
    }
    top_draw_headings(&canvas, 0, &table, model);
    for (int row = 0; row < rows; row++) {
        if (row > 0) {
            top_draw_row(&canvas, row, &table, &model->domains[model->shown[row - 1]]);
        }
        canvas_row_text(&canvas, row, text);
        puts(text);
    }
    canvas_free(&canvas);
    free(text);
    return 0;
}

static json_t *rate_to_json(double rate)
{
    return isnan(rate) ? json_null() : json_real(rate);
}

/* The answer of the survey for a domain, with its rates. */
static json_t *find_answer(const json_t *answers, const struct top_domain *domain)
{
    const json_t *answer;
    size_t index;

    json_array_foreach((json_t *)answers, index, answer)
    {
        const char *name = json_string_value(json_object_get(answer, "name"));

        if (name != NULL && strcmp(name, domain->name) == 0) {
            json_t *with_rates = json_copy((json_t *)answer);

            json_object_set_new(with_rates, "faults_per_second",
                                rate_to_json(domain->faults_per_s));
            json_object_set_new(with_rates, "reclaims_per_second",
                                rate_to_json(domain->reclaims_per_s));
            return with_rates;
        }
    }
    return NULL;
}

static int print_json(const struct top_model *model, const json_t *answers)
{
    json_t *domains = json_array();
    json_t *line;

    for (size_t i = 0; i < model->shown_count; i++) {
        json_array_append_new(domains, find_answer(answers, &model->domains[model->shown[i]]));
    }
    line = json_pack("{s:I, s:o}", "time", (json_int_t)time(NULL), "domains", domains);
    if (line == NULL || json_dumpf(line, stdout, JSON_COMPACT) < 0) {
        json_decref(line);
        return -ENOMEM;
    }
    json_decref(line);
    putchar('\n');
    return 0;
}

/* Asks all domains and prints what they say. 0, or an exit status after it said why not. */
static int print_once(const char *base, struct top_model *model, bool as_json)
{
    double now_s = top_poll_now_s();
    json_t *answers;
    int ret = survey(base, &answers);

    if (ret < 0) {
        cli_error("the domains in %s cannot be listed: %s; check that it is your folder", base,
                  strerror(-ret));
        return EXIT_FAILED;
    }
    ret = top_model_take_survey(model, answers, now_s);
    if (ret == 0) {
        ret = as_json ? print_json(model, answers) : print_table(model);
    }
    json_decref(answers);
    if (ret < 0) {
        cli_error("the domains cannot be shown: out of memory; free some and try again");
        return EXIT_FAILED;
    }
    return domain_finish_output();
}

static int run_batch(const char *base, struct top_model *model, const struct options *options)
{
    int64_t next_ms = clock_now_ms();
    sigset_t mask;
    int ret = 0;

    waiting_catch_signals(&mask);
    for (int done = 0; ret == 0 && !waiting_interrupted();) {
        int64_t left_ms;

        if (done > 0 && !options->as_json) {
            putchar('\n');
        }
        ret = print_once(base, model, options->as_json);
        done++;
        if (ret != 0 || (options->iterations > 0 && done >= options->iterations)) {
            break;
        }
        next_ms += options->delay_ms;
        left_ms = next_ms - clock_now_ms();
        if (left_ms < 0) {
            left_ms = 0;
            next_ms = clock_now_ms();
        }
        ppoll(NULL, 0,
              &(struct timespec){.tv_sec = left_ms / 1000, .tv_nsec = left_ms % 1000 * 1000000},
              &mask);
    }
    return ret;
}

static int run_interactive(const char *base, struct top_ui *ui, const struct options *options)
{
    int ret = top_screen_run(base, ui, options->delay_ms, options->iterations);

    if (ret == -ENOTSUP) {
        cli_error("this ballast has no screen: it was built without ncurses; use --batch, or build "
                  "it where libncurses-dev is installed");
        return EXIT_FAILED;
    }
    /* A terminal that can only print gets what can be printed. */
    return ret == -ENOTTY ? run_batch(base, &ui->model, options) : ret;
}

/* Reads the options' values. 0, or an exit status after it said what is wrong. */
static int read_values(const char *delay, const char *iterations, const char *sort,
                       const char *filter, struct options *options, struct top_model *model)
{
    int ret = 0;

    if (delay != NULL) {
        ret = cli_read_seconds("top", "--delay", delay, DELAY_MAX_S, &options->delay_ms);
        if (ret == 0 && options->delay_ms < DELAY_MIN_MS) {
            return cli_usage_error("top", "--delay '%s' is too short: it takes 0.1 at least",
                                   delay);
        }
    }
    if (ret == 0 && iterations != NULL) {
        ret = cli_read_integer("top", "--iterations", iterations, 1, ITERATIONS_MAX,
                               &options->iterations);
    }
    if (ret != 0) {
        return ret;
    }
    if (sort != NULL && !top_key_find(sort, &model->key)) {
        return cli_usage_error("top",
                               "--sort '%s' is no key: there are name, max, target, populated, "
                               "cache, entries, faults, reclaims and p99",
                               sort);
    }
    if (filter != NULL) {
        if (strlen(filter) >= sizeof(model->filter)) {
            return cli_usage_error("top", "--filter is too long: it takes at most %zu characters",
                                   sizeof(model->filter) - 1);
        }
        snprintf(model->filter, sizeof(model->filter), "%s", filter);
    }
    return 0;
}

static int run(int argc, char **argv)
{
    struct options options = {.delay_ms = DELAY_DEFAULT_MS};
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    const char *delay = NULL;
    const char *iterations = NULL;
    const char *sort = NULL;
    const char *filter = NULL;
    bool is_batch = false;
    const struct cli_option known[] = {{"--delay", &delay, NULL},
                                       {"--iterations", &iterations, NULL},
                                       {"--sort", &sort, NULL},
                                       {"--filter", &filter, NULL},
                                       {"--batch", NULL, &is_batch},
                                       {"--json", NULL, &options.as_json},
                                       {NULL, NULL, NULL}};
    char base[PATH_MAX];
    int rest;
    int ret = cli_read_options(&cmd_top, known, argc, argv, &rest);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (rest < argc) {
        return cli_usage_error("top", "'%s' is too much: top takes no names, but --filter",
                               argv[rest]);
    }
    ret = read_values(delay, iterations, sort, filter, &options, &ui.model);
    if (ret == 0) {
        ret = cli_find_base(base);
    }
    if (ret == 0) {
        ret = is_batch || options.as_json ? run_batch(base, &ui.model, &options)
                                          : run_interactive(base, &ui, &options);
    }
    top_ui_free(&ui);
    return ret;
}

const struct cli_command cmd_top = {
    .name = "top",
    .summary = "show all domains, live",
    .help = help,
    .run = run,
};
