/* SPDX-License-Identifier: MIT */
/* Runs a program and keeps what it says. */
#ifndef BALLAST_TOOLS_CAPTURE_H
#define BALLAST_TOOLS_CAPTURE_H

#include <stddef.h>

/* Runs the program at argv[0], ended by NULL, with the variables in `environment`
 * ("NAME=VALUE", ended by NULL) beside ours and nothing to read, and puts what it
 * writes to standard output and error, as it comes, into `text`: size - 1 bytes at
 * most, the rest is dropped. Returns its exit status; -ETIMEDOUT if it had to be
 * killed after limit_ms; -ECHILD if a signal ended it; or what the kernel said. */
int capture(char *const argv[], char *const environment[], int limit_ms, char *text, size_t size);

#endif
