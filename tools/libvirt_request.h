/* SPDX-License-Identifier: MIT */
/*
 * What the hook tells the emulator of a domain that libvirt is about to start: a
 * JSON object in BASE/.libvirt/UUID, from the hook's "start" to its "release". It
 * holds nothing that is secret, so that the user who becomes QEMU may read it.
 */
#ifndef BALLAST_TOOLS_LIBVIRT_REQUEST_H
#define BALLAST_TOOLS_LIBVIRT_REQUEST_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include <ballast/protocol.h>

/* Room for a UUID as libvirt writes it, 32 digits in lower case and hyphens, with its end. */
#define LIBVIRT_UUID_BYTES 37

struct libvirt_request {
    char name[BALLAST_NAME_MAX_BYTES + 1]; /* the domain's name for Ballast */
    bool asks;                             /* for PoD; else what follows means nothing */
    uint64_t target_bytes;
    bool pause;
    bool reserve;
};

/* Is this text such a UUID? What is not becomes no part of a path. */
bool libvirt_uuid_is_valid(const char *text);

/* Where hooks and emulators of this user's libvirt have BASE: as runtime_base(), but
 * libvirt gives its children no XDG_RUNTIME_DIR, so /run/user/UID is tried too. */
int libvirt_base(char base[static PATH_MAX]);

/* Leaves a request, or replaces one; BASE must exist. 0 or -errno. */
int libvirt_request_write(const char *base, const char *uuid,
                          const struct libvirt_request *request);

/* Removes it; one that is not there is no error. 0 or -errno. */
int libvirt_request_remove(const char *base, const char *uuid);

/* Reads the request for this UUID, in root's BASE or in this user's own; `base` is
 * where it was. -ENOENT if the hook has left none, -EINVAL if it is none or neither
 * root's nor ours, or what the kernel said. */
int libvirt_request_find(const char *uuid, char base[static PATH_MAX],
                         struct libvirt_request *request);

#endif
