/* SPDX-License-Identifier: MIT */
#include "agent/progress.h"

#include "base/clock.h"

#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIRST_MS 2000
#define NEXT_MS  200

static atomic_bool shown;

/* Is somebody there to read it? Who writes from the background disturbs. */
static bool is_watched(void)
{
    return isatty(STDERR_FILENO) && tcgetpgrp(STDERR_FILENO) == getpgrp();
}

/* A terminal that is stopped (Ctrl-S) does not hold us up. */
static bool say(const char *text)
{
    struct pollfd errors = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&errors, 1, 0) == 1 && write(STDERR_FILENO, text, strlen(text)) > 0;
}

void progress_show(const char *name, uint64_t ready_bytes, uint64_t bytes)
{
    static int64_t next_ms;
    int64_t now = clock_now_ms();
    char line[160];
    if (next_ms == 0) {
        next_ms = now + FIRST_MS;
    }
    if (now < next_ms || !is_watched()) {
        return;
    }
    next_ms = now + NEXT_MS;
    snprintf(line, sizeof(line),
             "\r%s: the host has given %" PRIu64 " MiB of %" PRIu64 " MiB\033[K", name,
             ready_bytes >> 20, bytes >> 20);
    if (say(line)) {
        atomic_store(&shown, true);
    }
}

void progress_end(void)
{
    if (atomic_exchange(&shown, false)) {
        say("\r\033[K");
    }
}
