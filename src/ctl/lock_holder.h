/* SPDX-License-Identifier: MIT */
/*
 * The process behind a domain's lock file. The file holds its id, for people and for
 * finding it; that a process has the file open, and not what is in it, says that it is
 * the one: so a number that was used again hits nobody else.
 */
#ifndef BALLAST_CTL_LOCK_HOLDER_H
#define BALLAST_CTL_LOCK_HOLDER_H

#include <sys/types.h>

/* Writes our process id into a lock file that we hold. The agent does it again
 * if QEMU forks itself into the background. -errno as the kernel said. */
int lock_holder_write_pid(int lock_fd);

/* A lock file, as it was read. */
struct lock_file {
    dev_t device;
    ino_t inode;
    pid_t pid; /* that it names; 0: none */
};

/* Reads a lock file, held or not. -errno as the kernel said. */
int lock_holder_read(int lock_fd, struct lock_file *file);

/* Finds the process that has a lock file open: `candidate` if it does and is not 0,
 * else the one that the file names. Opens a pidfd for it. Our own process is no
 * exception: who does not hold the lock closes the file before it asks. -ESRCH if
 * there is none; -EACCES if we may not look at it. */
int lock_holder_open(const struct lock_file *file, pid_t candidate, pid_t *found, int *pidfd);

/* How often somebody who wants to keep a lock asks before he takes "held" for an answer. */
#define LOCK_TRIES 30

/* Takes a lock. Somebody who only looks, or cleans up, holds it for an instant: so it is
 * tried `tries` times, 10 ms apart, before "a domain holds it" is the answer, -EADDRINUSE,
 * and 30 times as often if no domain does. */
int lock_holder_take(int lock_fd, int tries);

#endif
