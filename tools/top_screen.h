/* SPDX-License-Identifier: MIT */
/*
 * The interactive `ballast top`: keys and the screen, by ncurses.
 */
#ifndef BALLAST_TOOLS_TOP_SCREEN_H
#define BALLAST_TOOLS_TOP_SCREEN_H

#include "top_ui.h"

/* Runs until the user ends it, a signal does, or so many surveys were shown (0: no
 * limit). `ui` is as the command line says, and stays the caller's. Returns an exit
 * status; -ENOTTY if the terminal cannot place its cursor, -ENOTSUP in a build
 * without ncurses: then nothing was shown. */
int top_screen_run(const char *base, struct top_ui *ui, int delay_ms, int iterations);

#endif
