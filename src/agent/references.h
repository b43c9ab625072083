/* SPDX-License-Identifier: MIT */
/*
 * References to guest RAM that UFFDIO_MOVE does not see: docs/references.md.
 *
 * A page that a device or the kernel is about to write to is pinned, and then not
 * moved. Some parts of the kernel hold on to a page without pinning it. A page of
 * zeros could be taken from under such a write, kept, and what is written then be
 * lost. There is no asking for such references, so what makes them is refused.
 */
#ifndef BALLAST_AGENT_REFERENCES_H
#define BALLAST_AGENT_REFERENCES_H

#include <stdbool.h>

/* Whether reads with O_DIRECT from that file hold pages unpinned: it is on NFS or
 * CephFS, as the kernel has them. If so, says on standard error, once, what to do
 * instead. Any thread. */
bool references_unseen(int fd);

/* Whether a device of QEMU's with this driver does. Its name may be NULL. */
bool references_unseen_by(const char *driver);

#endif
