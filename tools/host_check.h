/* SPDX-License-Identifier: MIT */
/*
 * Can this host run a domain, and this program become one? Looked at before
 * anything is made, so that the answer is one clear line.
 */
#ifndef BALLAST_TOOLS_HOST_CHECK_H
#define BALLAST_TOOLS_HOST_CHECK_H

#include <limits.h>
#include <stdbool.h>

/* The oldest Linux that can move pages. */
#define HOST_KERNEL_MAJOR 6
#define HOST_KERNEL_MINOR 8

/* What is wrong, why, and what to do: one line without a newline. */
struct host_problem {
    char text[PATH_MAX + 512];
};

/* Is a kernel of this release (as uname -r says it) that version or newer? One whose
 * number cannot be read is given the benefit of the doubt. */
bool host_kernel_is_at_least(const char *release, int major, int minor, int patch);

/* Is the kernel new enough, and may we serve faults that the kernel itself
 * takes on guest RAM (KVM, disk reads)? -ENOTSUP or -EPERM, and *problem. */
int host_check_kernel(struct host_problem *problem);

/* Finds a program as execvp() does, and what /proc/PID/exe will call it. Both
 * are absolute or relative as $PATH and the word are; `real` is absolute.
 * -ENOENT, -EACCES, -ENAMETOOLONG, and *problem. */
int host_find_program(const char *word, char path[static PATH_MAX], char real[static PATH_MAX],
                      struct host_problem *problem);

/* Will the dynamic linker load the agent into this program? Not if it is
 * static, or gains rights when it is executed. Programs of other formats
 * (scripts) pass: their interpreter hands the agent on. -ENOTSUP, or what the
 * kernel said, and *problem. */
int host_check_program(const char *path, struct host_problem *problem);

/* Finds the agent's shared object: $BALLAST_AGENT_SO, or beside us in the build
 * tree, or in the installation that we are in, or under the configured prefix.
 * -ENOENT, -EINVAL (a path that LD_PRELOAD cannot hold) and *problem. */
int host_find_agent(char path[static PATH_MAX], struct host_problem *problem);

#endif
