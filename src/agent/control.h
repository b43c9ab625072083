/* SPDX-License-Identifier: MIT */
/* The commands that a domain answers on its control socket (docs/protocol.md). */
#ifndef BALLAST_AGENT_CONTROL_H
#define BALLAST_AGENT_CONTROL_H

#include "agent/config.h"

/* Starts to listen. Errors are those of ctl_server_start. `config` must stay. */
int control_start(const struct config *config);

/* Stops to listen, if it ever did. */
void control_stop(void);

/* There are new events to tell (guest_next_event). Neither waits nor
 * allocates nor locks: it may be called anywhere. */
void control_notify(void);

#endif
