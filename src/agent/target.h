/* SPDX-License-Identifier: MIT */
/*
 * Setting the guest's target, for the control socket and for QEMU's monitor: the
 * guest's balloon is asked to follow, and what keeps a target from being set is said
 * in words. From any thread.
 */
#ifndef BALLAST_AGENT_TARGET_H
#define BALLAST_AGENT_TARGET_H

#include "ctl/message.h"

#include <stdbool.h>
#include <stdint.h>

/* As guest_set_target and guest_set_target_step, for the_guest. *error says what
 * went wrong. */
int target_set(uint64_t bytes, bool *more, struct ctl_error *error);
int target_step(bool *more, struct ctl_error *error);

#endif
