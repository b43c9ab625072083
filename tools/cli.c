/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands share. See cli.h.
 */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ballast/protocol.h>

#include "base/size.h"
#include "base/types.h"
#include "ctl/runtime_dir.h"
#include "progress.h"

__attribute__((format(printf, 1, 0))) static void print_error(const char *format, va_list arguments)
{
    progress_end();
    fputs("ballast: ", stderr);
    vfprintf(stderr, format, arguments);
}

void cli_error(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_error(format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

int cli_usage_error(const char *command, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_error(format, arguments);
    va_end(arguments);
    fprintf(stderr, "; see 'ballast %s --help'\n", command);
    return BALLAST_EXIT_USAGE;
}

/* Does a word name this option? *value is what follows its "=", or NULL. */
static bool is_option(const char *word, const struct cli_option *option, const char **value)
{
    size_t length = strlen(option->name);

    if (strncmp(word, option->name, length) != 0) {
        return false;
    }
    *value = word[length] == '=' ? word + length + 1 : NULL;
    return word[length] == '\0' || word[length] == '=';
}

/* Reads the option at argv[*at] and moves *at behind it. */
static int read_option(const struct cli_command *command, const struct cli_option *options,
                       char **argv, int *at)
{
    const char *word = argv[*at];
    const char *value = NULL;
    const struct cli_option *option = options;

    while (option->name != NULL && !is_option(word, option, &value)) {
        option++;
    }
    if (option->name == NULL) {
        return cli_usage_error(command->name, "unknown option '%s'", word);
    }
    (*at)++;
    if (option->flag != NULL) {
        if (value != NULL) {
            return cli_usage_error(command->name, "option '%s' takes no value", option->name);
        }
        *option->flag = true;
        return 0;
    }
    if (value == NULL) {
        value = argv[*at];
        if (value == NULL) {
            return cli_usage_error(command->name, "option '%s' needs a value", option->name);
        }
        (*at)++;
    }
    *option->value = value;
    return 0;
}

int cli_read_options(const struct cli_command *command, const struct cli_option *options, int argc,
                     char **argv, int *rest)
{
    int at = 1;

    while (at < argc && argv[at][0] == '-' && argv[at][1] != '\0') {
        int ret;

        if (strcmp(argv[at], "--") == 0) {
            at++;
            break;
        }
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            fputs(command->help, stdout);
            return -1;
        }
        ret = read_option(command, options, argv, &at);
        if (ret != 0) {
            return ret;
        }
    }
    *rest = at;
    return 0;
}

int cli_read_options_and_word(const struct cli_command *command, const struct cli_option *options,
                              int argc, char **argv, const char *what, const char **word)
{
    int rest;
    int ret = cli_read_options(command, options, argc, argv, &rest);

    if (ret != 0) {
        return ret;
    }
    if (rest == argc) {
        return cli_usage_error(command->name, "the %s is missing", what);
    }
    *word = argv[rest];
    argc -= rest;
    argv += rest;
    ret = cli_read_options(command, options, argc, argv, &rest);
    if (ret == 0 && rest != argc) {
        return cli_usage_error(command->name, "%s takes one %s, and '%s' is left over",
                               command->name, what, argv[rest]);
    }
    return ret;
}

int cli_read_seconds(const char *command, const char *option, const char *text, int max_s, int *ms)
{
    char *end;
    double seconds;

    errno = 0;
    seconds = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(seconds >= 0 && seconds <= max_s)) {
        return cli_usage_error(command, "%s '%s' is no number of seconds from 0 to %d", option,
                               text, max_s);
    }
    *ms = (int)(seconds * 1000);
    return 0;
}

int cli_read_integer(const char *command, const char *option, const char *text, int min, int max,
                     int *value)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < min || number > max) {
        return cli_usage_error(command, "%s '%s' is no whole number from %d to %d", option, text,
                               min, max);
    }
    *value = (int)number;
    return 0;
}

bool cli_ends_in(const char *name, const char *end)
{
    size_t length = strlen(name);

    return length > strlen(end) && strcmp(name + length - strlen(end), end) == 0;
}

int cli_read_target(const char *command, const char *what, const char *text, uint64_t *bytes)
{
    char formatted[SIZE_TEXT_BYTES];
    const char *why;

    if (size_parse(text, bytes, &why) < 0) {
        return cli_usage_error(command, "%s '%s' is no size: %s", what, text, why);
    }
    size_format(*bytes, formatted);
    if (*bytes < SUPERPAGE_BYTES) {
        return cli_usage_error(command,
                               "%s %s is too small: a domain needs at least one superpage, 2 MiB",
                               what, formatted);
    }
    if (*bytes % PAGE_BYTES != 0) {
        return cli_usage_error(command,
                               "%s '%s' is no whole number of pages: make it a multiple of 4 KiB",
                               what, text);
    }
    return 0;
}

int cli_find_base(char base[static PATH_MAX])
{
    int ret = runtime_base(base, PATH_MAX);

    if (ret == 0) {
        return 0;
    }
    if (ret == -ENOENT) {
        cli_error("no place for the domains' files: XDG_RUNTIME_DIR is not set; set it, or set "
                  "BALLAST_RUNTIME_DIR to a folder of your own");
    } else if (ret == -EINVAL) {
        cli_error("no place for the domains' files: %s is no absolute path; correct it",
                  getenv("BALLAST_RUNTIME_DIR") != NULL ? "BALLAST_RUNTIME_DIR"
                                                        : "XDG_RUNTIME_DIR");
    } else {
        cli_error("no place for the domains' files: its path is too long; set "
                  "BALLAST_RUNTIME_DIR to a shorter one");
    }
    return EXIT_FAILED;
}

int cli_check_name(const char *command, const char *name)
{
    if (runtime_name_is_valid(name)) {
        return 0;
    }
    return cli_usage_error(command,
                           "'%s' is no domain name: it must begin with a letter or digit and "
                           "have at most %d letters, digits, '.', '_' and '-'",
                           name, BALLAST_NAME_MAX_BYTES);
}

int cli_unknown_domain(const char *base, const char *name)
{
    struct runtime_entry *entries = NULL;
    size_t count = 0;
    bool any = false;

    if (runtime_list(base, &entries, &count) < 0) {
        count = 0;
    }
    fprintf(stderr, "ballast: there is no domain '%s' in %s", name, base);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].state == RUNTIME_LIVE) {
            fprintf(stderr, "%s%s", any ? ", " : "; there are: ", entries[i].name);
            any = true;
        }
    }
    fputs(any ? "\n" : "; there is none at all\n", stderr);
    free(entries);
    return EXIT_FAILED;
}
