/* SPDX-License-Identifier: MIT */
/*
 * What the terminal that we print on can do.
 */
#ifndef BALLAST_TOOLS_TERMINAL_H
#define BALLAST_TOOLS_TERMINAL_H

/* Columns of the terminal at a descriptor; 80 if it is none or does not say. */
int terminal_columns(int fd);

/* How many colours may be used there: 0, 8 or 256. 0 if it is no terminal or a dumb
 * one, or if NO_COLOR is set and not empty (https://no-color.org). */
int terminal_colours(int fd);

#endif
