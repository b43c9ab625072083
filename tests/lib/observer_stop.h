/* SPDX-License-Identifier: MIT */
/*
 * Holds another process still, so that its memory can be counted while nothing
 * moves.
 */
#ifndef BALLAST_TESTS_OBSERVER_STOP_H
#define BALLAST_TESTS_OBSERVER_STOP_H

#include <sys/types.h>

/* Sends SIGSTOP and waits until no thread of the process can run: each is
 * stopped, or sleeps inside the kernel for a page fault that only another
 * (stopped) thread can serve. 0; -ESRCH if the process ended; -ETIMEDOUT if a
 * thread still runs after timeout_ms. SIGCONT is due in every case but ESRCH. */
int process_stop(pid_t pid, int timeout_ms);

/* Sends SIGCONT. */
void process_continue(pid_t pid);

#endif
