/* SPDX-License-Identifier: MIT */
/*
 * What `ballast doctor` looks at. Nothing here changes the host. What can be read
 * is read below a root folder, and what must be tried is tried beforehand
 * (doctor_try), so that tests can invent hosts.
 */
#ifndef BALLAST_TOOLS_DOCTOR_H
#define BALLAST_TOOLS_DOCTOR_H

#include <stdint.h>

#include "findings.h"

/* What was tried for real: 0 or -errno each. */
struct doctor_trials {
    int userfaultfd; /* to open one that serves the kernel's own faults */
    int move;        /* to move a page with UFFDIO_MOVE */
    int kvm;         /* to create a VM with KVM */
};

struct doctor_host {
    const char *root;        /* "": this host; else a folder with proc, sys, dev, etc, usr */
    const char *user;        /* whose permissions these are */
    const char *search_path; /* $PATH, for QEMUs */
    const char *agent;       /* the agent's path, or NULL, and then */
    const char *agent_problem;
    uint64_t page_bytes;
    uint64_t address_space_bytes; /* RLIMIT_AS; UINT64_MAX: none */
    struct doctor_trials trials;
};

/* Tries, in child processes that cannot take the caller with them. */
void doctor_try(struct doctor_trials *trials);

/* Each looks at one side of the host and appends what it finds. */
void doctor_look_at_kernel(const struct doctor_host *host, struct findings *findings);
void doctor_look_at_permission(const struct doctor_host *host, struct findings *findings);
void doctor_look_at_memory(const struct doctor_host *host, struct findings *findings);
void doctor_look_at_kvm(const struct doctor_host *host, struct findings *findings);
/* Finds nothing where there is no libvirt. */
void doctor_look_at_libvirt(const struct doctor_host *host, struct findings *findings);

/* Runs each QEMU that it finds: --version, with the agent in it. */
void doctor_look_at_qemu(const struct doctor_host *host, struct findings *findings);

/* Reads a file below the root, all or its first size - 1 bytes, without the last
 * newline. -errno. */
int doctor_read(const struct doctor_host *host, const char *file, char *text, size_t size);

/* Is there such a file below the root? */
bool doctor_has(const struct doctor_host *host, const char *file);

/* Adds the commands that make the user a member of the group kvm, and the group,
 * should there be none. */
void doctor_fix_membership(const struct doctor_host *host, struct finding *finding);

#endif
