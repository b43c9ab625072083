/* SPDX-License-Identifier: MIT */
/*
 * Becoming QEMU with the agent in it: what `ballast run` and the emulator for
 * libvirt have in common. The process stays the same, so signals, terminal and
 * exit status need no passing on. docs/protocol.md, "Starting an agent", has what
 * is handed over.
 */
#ifndef BALLAST_TOOLS_LAUNCH_H
#define BALLAST_TOOLS_LAUNCH_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include <ballast/protocol.h>

/* What is going to be run. */
struct launch {
    uint64_t target_bytes;
    uint64_t max_bytes;    /* 0: unknown */
    uint64_t maxmem_bytes; /* what DIMMs may make of it; 0: none, or unknown */
    char name[BALLAST_NAME_MAX_BYTES + 1];
    char program[PATH_MAX];      /* to execute */
    char real_program[PATH_MAX]; /* what /proc/PID/exe will say */
    char agent[PATH_MAX];
    const char *target_word;  /* what the operator calls the target, for the agent's errors */
    bool pause;               /* when exhausted */
    bool no_reserve;          /* do not work ahead */
    bool balloon_sets_target; /* QMP's balloon sets the target, too */
    char **argv;              /* QEMU's, its program first; ended by NULL */
};

/* Finds program, real_program and agent for argv[0], and sees whether this host can
 * run a domain and that program become one. 0, or BALLAST_EXIT_REFUSED after it
 * printed why not. */
int launch_check_host(struct launch *launch);

/* Makes the domain's folder in `base`, hands the agent over and executes QEMU.
 * Returns only if that fails: BALLAST_EXIT_REFUSED after it printed why, with
 * nothing left behind. */
int launch(const struct launch *launch, const char *base);

#endif
