/* SPDX-License-Identifier: MIT */
/*
 * Names and paths of domains. See runtime_path.h.
 */
#include "ctl/runtime_path.h"

#include <ballast/protocol.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool runtime_name_is_valid(const char *name)
{
    if (!is_alnum(name[0]) || strlen(name) > BALLAST_NAME_MAX_BYTES) {
        return false;
    }
    for (; *name != '\0'; name++) {
        if (!is_alnum(*name) && strchr("._-", *name) == NULL) {
            return false;
        }
    }
    return true;
}

int runtime_format_path(char *path, size_t size, const char *format, ...)
{
    char text[PATH_MAX];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof(text) || (size_t)length >= size) {
        return -ENAMETOOLONG;
    }
    memcpy(path, text, (size_t)length + 1);
    return 0;
}

int runtime_base(char *base, size_t size)
{
    const char *chosen = getenv("BALLAST_RUNTIME_DIR");
    const char *user;

    if (chosen != NULL && chosen[0] != '\0') {
        return chosen[0] == '/' ? runtime_format_path(base, size, "%s", chosen) : -EINVAL;
    }
    if (geteuid() == 0) {
        return runtime_format_path(base, size, "/run/ballast");
    }
    user = getenv("XDG_RUNTIME_DIR");
    if (user == NULL || user[0] == '\0') {
        return -ENOENT;
    }
    return user[0] == '/' ? runtime_format_path(base, size, "%s/ballast", user) : -EINVAL;
}

int runtime_socket_path(const char *base, const char *name, char *path, size_t size)
{
    struct sockaddr_un address;

    if (!runtime_name_is_valid(name)) {
        return -EINVAL;
    }
    return runtime_format_path(path,
                               size < sizeof(address.sun_path) ? size : sizeof(address.sun_path),
                               "%s/%s/%s", base, name, BALLAST_SOCKET_NAME);
}
