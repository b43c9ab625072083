/* SPDX-License-Identifier: MIT */
/*
 * A line on the terminal that says how far a build is that takes long: until the
 * guest has its memory, QEMU itself says nothing. Only if standard error is a
 * terminal and we are in its foreground; gone before QEMU writes there.
 */
#ifndef BALLAST_AGENT_PROGRESS_H
#define BALLAST_AGENT_PROGRESS_H

#include <stdint.h>

/* The host has given that much of it. Writes nothing in the first two seconds,
 * and never waits for the terminal. On the thread that builds. */
void progress_show(const char *name, uint64_t ready_bytes, uint64_t bytes);

/* Takes the line away, if there is one. Any thread. */
void progress_end(void);

#endif
