/* SPDX-License-Identifier: MIT */
/*
 * What a domain of libvirt's asks of Ballast, by its XML as libvirt gives it to
 * hooks. Pure: looks at nothing but the text.
 *
 * A domain asks for PoD by <memory> above <currentMemory>. Details are one element
 * of metadata, in our namespace:
 *
 *   <metadata>
 *     <pod xmlns="urn:ballast:libvirt:1" enabled="yes|no"
 *          on-exhaustion="crash|pause" reserve="yes|no"/>
 *   </metadata>
 *
 * enabled="yes" asks for it with equal sizes too, enabled="no" never.
 */
#ifndef BALLAST_TOOLS_LIBVIRT_DOMAIN_H
#define BALLAST_TOOLS_LIBVIRT_DOMAIN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvirt_request.h"

#define LIBVIRT_NAMESPACE "urn:ballast:libvirt:1"

struct libvirt_domain {
    char name[256];
    char uuid[LIBVIRT_UUID_BYTES]; /* 32 digits, lower case, and hyphens */
    char emulator[PATH_MAX];
    char owner[256];       /* who QEMU is going to be, "USER:GROUP"; "" if it does not say */
    uint64_t memory_bytes; /* what the guest reads at boot: max */
    uint64_t target_bytes; /* <currentMemory>, in whole pages */
    bool asks;             /* for PoD */
    bool pause;            /* on exhaustion */
    bool reserve;
};

/* Why it cannot be used: what is wrong, why, and what to do. */
struct libvirt_problem {
    char text[512];
};

/* Reads the XML. 0; -EINVAL and *problem if it is no domain's, or says something that
 * we do not understand; -ENOMEM and *problem. */
int libvirt_domain_read(const char *xml, size_t length, struct libvirt_domain *domain,
                        struct libvirt_problem *problem);

#endif
