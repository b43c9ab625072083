/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands of `ballast` share: how they are called, how they speak
 * to people, how they read their options.
 */
#ifndef BALLAST_TOOLS_CLI_H
#define BALLAST_TOOLS_CLI_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit status of a subcommand that failed; bad usage is BALLAST_EXIT_USAGE. */
#define EXIT_FAILED 1

/* A subcommand. `run` gets its own name as argv[0] and returns the exit status. */
struct cli_command {
    const char *name;
    const char *summary; /* one line for `ballast --help` */
    const char *help;    /* all of `ballast NAME --help` */
    int (*run)(int argc, char **argv);
};

extern const struct cli_command cmd_run;
extern const struct cli_command cmd_ls;
extern const struct cli_command cmd_stat;
extern const struct cli_command cmd_set;
extern const struct cli_command cmd_events;
extern const struct cli_command cmd_destroy;
extern const struct cli_command cmd_record;
extern const struct cli_command cmd_plot;
extern const struct cli_command cmd_doctor;
extern const struct cli_command cmd_metrics;
extern const struct cli_command cmd_map;
extern const struct cli_command cmd_top;

/* An option of a subcommand. */
struct cli_option {
    const char *name;   /* with its dashes: "--json" */
    const char **value; /* for an option with a value: where it goes */
    bool *flag;         /* for one without: what becomes true */
};

/* Prints "ballast: " and the text and a newline on standard error. */
__attribute__((format(printf, 1, 2))) void cli_error(const char *format, ...);

/* As cli_error(), and points to the subcommand's --help. Returns BALLAST_EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage_error(const char *command, const char *format,
                                                          ...);

/* Reads the options at the start of argv (argv[0] is the subcommand's name), as
 * "--name value" or "--name=value", up to "--" or the first word that is no
 * option. `options` is ended by a NULL name. *rest is the index of the first
 * word that is left. Returns 0, or an exit status after it printed why, or -1
 * after it printed the help that was asked for. */
int cli_read_options(const struct cli_command *command, const struct cli_option *options, int argc,
                     char **argv, int *rest);

/* Reads options that stand before or after the one word that the subcommand
 * takes: `what` says what it is. Returns as cli_read_options() does. */
int cli_read_options_and_word(const struct cli_command *command, const struct cli_option *options,
                              int argc, char **argv, const char *what, const char **word);

/* Reads an option's value: seconds, perhaps with a fraction, from 0 to max_s.
 * Returns 0 and *ms, or an exit status after it printed what is wrong. */
int cli_read_seconds(const char *command, const char *option, const char *text, int max_s, int *ms);

/* Reads an option's value: a whole number from min to max. Returns as
 * cli_read_seconds() does. */
int cli_read_integer(const char *command, const char *option, const char *text, int min, int max,
                     int *value);

/* Does a file's name end in this, with something before it? */
bool cli_ends_in(const char *name, const char *end);

/* Reads a target: a size of whole pages, at least one superpage. `what` is what
 * the user calls it. Returns as cli_read_seconds() does. */
int cli_read_target(const char *command, const char *what, const char *text, uint64_t *bytes);

/* Finds BASE. Returns 0, or an exit status after it printed why it cannot. */
int cli_find_base(char base[static PATH_MAX]);

/* Checks that a word is a domain's name. Returns 0, or an exit status after it
 * printed what is wrong. */
int cli_check_name(const char *command, const char *name);

/* Says that there is no such domain, and which there are. Returns EXIT_FAILED. */
int cli_unknown_domain(const char *base, const char *name);

#endif
