/* SPDX-License-Identifier: MIT */
/* One line that says how far a command is, while it waits. Shown only if
 * standard error is a terminal; gone when the command has something to say. For
 * one thread. */
#ifndef BALLAST_TOOLS_PROGRESS_H
#define BALLAST_TOOLS_PROGRESS_H

/* How often a command that waits should say how far it is, in milliseconds. */
#define PROGRESS_MS 500

/* Writes the line, over the one before. What does not fit the terminal's width
 * is left out. */
__attribute__((format(printf, 1, 2))) void progress_show(const char *format, ...);

/* Takes the line away, if there is one. Call it before anything else is printed;
 * cli_error() does. */
void progress_end(void);

#endif
