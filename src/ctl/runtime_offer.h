/* SPDX-License-Identifier: MIT */
/*
 * Folders for domains that another user is going to run: who may write to BASE
 * makes them and takes them away, for that user may not. Between the two, all that
 * ctl/runtime_dir.h says holds, with the folder's owner as the one who launches.
 */
#ifndef BALLAST_CTL_RUNTIME_OFFER_H
#define BALLAST_CTL_RUNTIME_OFFER_H

#include <sys/types.h>

/* Makes BASE as needed and BASE/NAME, of which only a dead domain's leftovers may be
 * there, and gives BASE/NAME to a user. -EINVAL: no name; -EADDRINUSE: a live domain
 * has the name; -EPERM: BASE is somebody else's or others may write to it; -ENOTDIR,
 * -ELOOP: something else is at its place; or what the kernel said. */
int runtime_offer(const char *base, const char *name, uid_t uid, gid_t gid);

/* Removes BASE/NAME, whoever owns it, unless a live domain holds it: -EADDRINUSE.
 * What is not ours stays, and the folder with it: -ENOTEMPTY. 0 if there is none. */
int runtime_withdraw(const char *base, const char *name);

#endif
