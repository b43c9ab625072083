/* SPDX-License-Identifier: MIT */
/*
 * Ending the process: the last rung of the failure ladder.
 *
 * The guest must not run another instruction, so nothing of QEMU's own exit
 * path runs. What a user would miss is done here instead: the terminal goes
 * back to how it was, one line says why, the domain's files go away.
 */
#ifndef BALLAST_AGENT_STOP_H
#define BALLAST_AGENT_STOP_H

#include <ballast/protocol.h>

/* Remembers how the terminal is now, before QEMU changes it, and whose files
 * to remove. `directory` must stay valid. Call once, early. */
void stop_prepare(const char *directory);

/* Prints "ballast: " and the text, which needs no newline, and ends the process.
 * Any thread may call it; the first to do so wins. */
__attribute__((noreturn, format(printf, 2, 3))) void stop(enum ballast_exit status,
                                                          const char *format, ...);

/* Removes the domain's files, as the holder of its lock. */
void stop_remove_files(void);

#endif
