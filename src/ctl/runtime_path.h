/* SPDX-License-Identifier: MIT */
/*
 * What a domain may be called, and where its folder and its socket are
 * (docs/protocol.md). Nothing here looks at files.
 */
#ifndef BALLAST_CTL_RUNTIME_PATH_H
#define BALLAST_CTL_RUNTIME_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* Is this a domain's name: [A-Za-z0-9][A-Za-z0-9._-]*, at most
 * BALLAST_NAME_MAX_BYTES? */
bool runtime_name_is_valid(const char *name);

/* Writes BASE into `base` (size bytes), from $BALLAST_RUNTIME_DIR, or
 * /run/ballast for root, or $XDG_RUNTIME_DIR/ballast. -ENOENT if none of these
 * says, -EINVAL if the variable is not an absolute path, -ENAMETOOLONG. */
int runtime_base(char *base, size_t size);

/* Writes BASE/NAME/control.sock. -EINVAL if it is no name, -ENAMETOOLONG if
 * the path does not fit a socket address. */
int runtime_socket_path(const char *base, const char *name, char *path, size_t size);

/* snprintf() that takes a cut for an error, -ENAMETOOLONG, and writes nothing then. */
__attribute__((format(printf, 3, 4))) int runtime_format_path(char *path, size_t size,
                                                              const char *format, ...);

#endif
