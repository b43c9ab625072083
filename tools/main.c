/* SPDX-License-Identifier: MIT */
/*
 * ballast: starts domains and talks to their agents. This file finds the
 * subcommand; each has a file of its own, cmd_*.c.
 */
#include <stdio.h>
#include <string.h>

#include <ballast/protocol.h>

#include "cli.h"

static const struct cli_command *const commands[] = {
    &cmd_run,    &cmd_ls,   &cmd_stat, &cmd_set, &cmd_events,  &cmd_destroy,
    &cmd_record, &cmd_plot, &cmd_map,  &cmd_top, &cmd_metrics, &cmd_doctor};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
    puts("Usage: ballast COMMAND ...\n"
         "\n"
         "Runs unmodified QEMU guests with populate-on-demand memory: the guest believes\n"
         "in all the memory that -m says and costs the host no more than a target.\n"
         "\n"
         "Commands:");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        printf("  %-9s %s\n", commands[i]->name, commands[i]->summary);
    }
    puts("\n"
         "Options:\n"
         "  --help     show this; 'ballast COMMAND --help' tells more\n"
         "  --version  show the version\n"
         "\n"
         "Examples:\n"
         "  ballast run --target 256M -- qemu-system-x86_64 -name vm1 -m 4G disk.img\n"
         "  ballast ls\n"
         "  ballast stat vm1\n"
         "  ballast map vm1\n"
         "  ballast set vm1 1G\n"
         "  ballast destroy vm1\n"
         "\n"
         "Domains keep their files in /run/ballast (root), $XDG_RUNTIME_DIR/ballast\n"
         "(others), or $BALLAST_RUNTIME_DIR.");
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    if (word == NULL) {
        fputs("ballast: no command given; see 'ballast --help'\n", stderr);
        return BALLAST_EXIT_USAGE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(word, "--version") == 0) {
        puts("ballast " BALLAST_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(word, commands[i]->name) == 0) {
            return commands[i]->run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "ballast: unknown command '%s'; see 'ballast --help'\n", word);
    return BALLAST_EXIT_USAGE;
}
