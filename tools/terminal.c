/* SPDX-License-Identifier: MIT */
#include "terminal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_COLUMNS 80

int terminal_columns(int fd)
{
    struct winsize size;

    return isatty(fd) && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                              : DEFAULT_COLUMNS;
}

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);

    return value != NULL && value[0] != '\0';
}

int terminal_colours(int fd)
{
    const char *type = getenv("TERM");

    if (!isatty(fd) || is_set("NO_COLOR") || type == NULL || type[0] == '\0' ||
        strcmp(type, "dumb") == 0) {
        return 0;
    }
    return strstr(type, "256color") != NULL || is_set("COLORTERM") ? 256 : 8;
}
