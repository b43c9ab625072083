/* SPDX-License-Identifier: MIT */
/* How a process that is not our child ended. Linux tells that from 6.15 on. */
#ifndef BALLAST_TOOLS_EXIT_STATUS_H
#define BALLAST_TOOLS_EXIT_STATUS_H

#include <sys/types.h>

/* Opens a process that lives, for exit_status_of(). A descriptor to be closed,
 * or -errno. */
int exit_status_open(pid_t pid);

/* Waits at most timeout_ms until the process has ended and its parent has taken
 * note. Its exit status, or 128 + N if signal N ended it; -1 if that is not known.
 * What exit_status_open() failed with is allowed. */
int exit_status_of(int pidfd, int timeout_ms);

#endif
