/* SPDX-License-Identifier: MIT */
/*
 * What stands in for top_screen.c in a build without ncurses.
 */
#include "top_screen.h"

#include <errno.h>

int top_screen_run(const char *base, struct top_ui *ui, int delay_ms, int iterations)
{
    (void)base;
    (void)ui;
    (void)delay_ms;
    (void)iterations;
    return -ENOTSUP;
}
