/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's errors mean to us: the one place where that is decided.
 */
#ifndef BALLAST_HOST_VERDICT_H
#define BALLAST_HOST_VERDICT_H

/* UFFDIO_MOVE's -errno, as an error of engine_ops.place and take. */
int verdict_of_move(int err);

/* -errno of bringing new memory in (mmap, MADV_POPULATE_WRITE), as an error of
 * engine_ops.allocate. */
int verdict_of_allocate(int err);

/* MADV_COLLAPSE's -errno, as a result of linux_host_merge. */
int verdict_of_merge(int err);

#endif
