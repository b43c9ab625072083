/* SPDX-License-Identifier: MIT */
/*
 * A line that says how far a command is. See progress.h.
 */
#include "progress.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool shown;

/* Columns of the terminal that are ours: a line that fills all of them wraps on
 * some. */
static int width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0) {
        return 79;
    }
    return size.ws_col - 1;
}

void progress_show(const char *format, ...)
{
    char line[256];
    va_list arguments;

    if (!isatty(STDERR_FILENO)) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    fprintf(stderr, "\r%.*s\033[K", width(), line);
    fflush(stderr);
    shown = true;
}

void progress_end(void)
{
    if (shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        shown = false;
    }
}
