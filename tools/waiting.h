/* SPDX-License-Identifier: MIT */
/* What commands need that wait for something: an orderly end when the user has
 * waited long enough. */
#ifndef BALLAST_TOOLS_WAITING_H
#define BALLAST_TOOLS_WAITING_H

#include <signal.h>
#include <stdbool.h>

/* From here on SIGINT, SIGTERM and SIGHUP do not end the process: they make
 * waiting_interrupted() true. With `mask` not NULL they are noticed only in a
 * ppoll(2) with that mask, so that nothing else is cut short. */
void waiting_catch_signals(sigset_t *mask);

/* Has one of them come? */
bool waiting_interrupted(void);

#endif
