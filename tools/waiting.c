/* SPDX-License-Identifier: MIT */
#include "waiting.h"

#include <stddef.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

void waiting_catch_signals(sigset_t *mask)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction action = {.sa_handler = on_signal};
    sigset_t ours;

    sigemptyset(&ours);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaddset(&ours, signals[i]);
        sigaction(signals[i], &action, NULL);
    }
    if (mask != NULL) {
        sigprocmask(SIG_BLOCK, &ours, mask);
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
            sigdelset(mask, signals[i]);
        }
    }
}

bool waiting_interrupted(void)
{
    return interrupted != 0;
}
