/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <signal.h>

int thread_start(pthread_t *thread, size_t stack_bytes, void *(*function)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t started;
    int err = pthread_attr_init(&attributes);
    if (err != 0) {
        return -err;
    }
    if (stack_bytes != 0) {
        err = pthread_attr_setstacksize(&attributes, stack_bytes);
    }
    if (err == 0 && thread == NULL) {
        err = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    }
    if (err == 0) {
        /* A new thread has its creator's mask. */
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        err = pthread_create(&started, &attributes, function, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    if (err == 0 && thread != NULL) {
        *thread = started;
    }
    return -err;
}
