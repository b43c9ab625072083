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

/*
 * The same in pieces, for whoever has more to tell. stop_begin() returns to the
 * first who calls it, or stop(); others wait there for the end. From then on the
 * process ends within some seconds, whatever happens: by SIGKILL if need be.
 * stop_keep() leaves a text in the domain's folder, in BALLAST_REPORT_NAME,
 * where it outlives the domain, and returns the file's path, or NULL if that
 * could not be. stop_end() is what remains of stop(); `more`, if not NULL, is
 * printed after the line.
 */
void stop_begin(void);
const char *stop_keep(const char *text);
__attribute__((noreturn, format(printf, 3, 4))) void
stop_end(enum ballast_exit status, const char *more, const char *format, ...);

/* Removes the domain's files, as the holder of its lock. */
void stop_remove_files(void);

#endif
