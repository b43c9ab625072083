/* SPDX-License-Identifier: MIT */
/*
 * Threads in a process whose signals are somebody else's business: QEMU's, another
 * VMM's, or those of a tool's own main thread.
 */
#ifndef BALLAST_BASE_THREAD_H
#define BALLAST_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/*
 * Starts a thread to which no signal is ever delivered. `stack_bytes` is the size of its
 * stack, 0 for the system's own. *thread is for pthread_join; if `thread` is NULL, the
 * thread is detached. 0, or -errno with *thread untouched. Any thread may call it.
 */
int thread_start(pthread_t *thread, size_t stack_bytes, void *(*function)(void *), void *argument);

#endif
