/* SPDX-License-Identifier: MIT */
/*
 * The folders where domains keep their lock and socket: BASE/NAME/lock and
 * BASE/NAME/control.sock (docs/protocol.md says what BASE is).
 *
 * A domain lives as long as somebody holds an exclusive flock(2) on its lock
 * file; the kernel ends that when the process ends, however it ends. So a lock
 * that can be had means a dead domain. What makes this free of races:
 *
 *  - Whoever creates, reuses or removes a folder's files holds its lock.
 *  - A lock counts only if, after it was taken, the locked file is still the
 *    one at BASE/NAME/lock. Otherwise somebody removed it in between, and one
 *    starts again.
 *  - The lock file is removed last of all files, by its holder.
 *
 * Symbolic links are not followed below BASE. Only files that Ballast makes
 * are ever removed.
 */
#ifndef BALLAST_CTL_RUNTIME_DIR_H
#define BALLAST_CTL_RUNTIME_DIR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <ballast/protocol.h>

#include "ctl/runtime_path.h"

/* A domain's folder whose lock we hold. */
struct runtime_dir {
    char path[PATH_MAX];        /* BASE/NAME */
    char socket_path[PATH_MAX]; /* BASE/NAME/control.sock; fits a socket address */
    char name[BALLAST_NAME_MAX_BYTES + 1];
    int base_fd;
    int dir_fd;
    int lock_fd; /* close-on-exec; closing the last copy releases the lock */
};

enum runtime_state {
    RUNTIME_NONE, /* there is no such folder */
    RUNTIME_DEAD, /* leftovers: nobody holds the lock */
    RUNTIME_LIVE,
};

/* Makes BASE (0755 for root, 0700 else; its parent must exist) as needed and opens it.
 * -EPERM if it is neither ours nor root's, or others may write to it. */
int runtime_base_create(const char *base, int *base_fd);

/* Makes BASE, as above, and BASE/NAME
 * (0700) as needed, takes the lock, writes our process id into it and removes
 * what a dead domain of this name left. -EINVAL: no name; -ENAMETOOLONG;
 * -EADDRINUSE: a live domain has the name; -EPERM: a folder belongs to
 * somebody else or others may write to it; -ENOTDIR, -ELOOP: something else is
 * at its place; or what the kernel said. */
int runtime_dir_create(const char *base, const char *name, struct runtime_dir *dir);

/* Removes the folder and releases the lock. -ENOTEMPTY if there are files in
 * it that are not ours: those stay. *dir is closed in any case. */
int runtime_dir_remove(struct runtime_dir *dir);

/* Closes our descriptors. The lock stays held if another process inherited it. */
void runtime_dir_close(struct runtime_dir *dir);

/* Removes the leftovers of a dead domain. 0 if there is none now; -EBUSY if it
 * is alive; -ENOTEMPTY if foreign files keep the folder; or what the kernel
 * said. */
int runtime_clean(const char *base, const char *name);

/* Removes the report that a domain of this name left when its state was wrong
 * (BALLAST_REPORT_NAME), which nothing else here does: 0 if there is none now. */
int runtime_forget_report(const char *base, const char *name);

/* Looks at one domain. Takes no lock for longer than it looks. */
int runtime_look(const char *base, const char *name, enum runtime_state *state);

/* What runtime_list() found. */
struct runtime_entry {
    char name[BALLAST_NAME_MAX_BYTES + 1];
    enum runtime_state state; /* RUNTIME_DEAD or RUNTIME_LIVE */
};

/* Lists all domains in the order of their names, in an array for free(). No
 * BASE means no domains. */
int runtime_list(const char *base, struct runtime_entry **entries, size_t *count);

/* Finds the process that runs a domain, as lock_holder_open() does with its lock:
 * `pid` is a candidate that is tried first, who listens at the socket say, or 0.
 * -ESRCH if there is none; -EACCES if we may not look at it. */
int runtime_open_process(const char *base, const char *name, pid_t pid, pid_t *found, int *pidfd);

#endif
