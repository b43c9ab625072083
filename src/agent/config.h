/* SPDX-License-Identifier: MIT */
/* What the launcher tells the agent: docs/protocol.md, "Starting an agent". */
#ifndef BALLAST_AGENT_CONFIG_H
#define BALLAST_AGENT_CONFIG_H

#include "base/types.h"

#include <ballast/protocol.h>
#include <limits.h>

struct config {
    char name[BALLAST_NAME_MAX_BYTES + 1];
    char directory[PATH_MAX];
    char program[PATH_MAX]; /* "" if the launcher did not say */
    char preload[PATH_MAX]; /* former LD_PRELOAD; "" if there was none */
    char target_word[32];   /* what the operator calls the target; "" if not said */
    int lock_fd;
    uint64_t target_bytes;
    uint64_t max_bytes;       /* 0: unknown */
    uint64_t maxmem_bytes;    /* what DIMMs may make of it; 0: none, or unknown */
    bool pause;               /* on exhaustion: wait for a larger target instead of ending */
    bool reserve;             /* keep a reserve of cached superpages */
    bool balloon_sets_target; /* QMP's balloon sets the target, too */
};

/* Reads the JSON text. -EINVAL and a text in `why` (borrowed, for a message)
 * if it does not say all that it must, or something out of range. */
int config_parse(const char *text, struct config *config, const char **why);

#endif
