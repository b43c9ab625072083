/* SPDX-License-Identifier: MIT */
/*
 * Asks the domains for the screen of `ballast top`, each in a thread of its own: one
 * that hangs holds up neither keys nor screen nor any other domain. Its functions are
 * for one thread.
 */
#ifndef BALLAST_TOOLS_TOP_POLL_H
#define BALLAST_TOOLS_TOP_POLL_H

#include "top_ui.h"

struct top_poll;

/* Seconds on a clock that nobody sets. */
double top_poll_now_s(void);

/* Makes one. It is never freed, for its threads may outlive every caller. `base` stays
 * the caller's for as long. -errno. */
int top_poll_open(const char *base, struct top_poll **poll);

/* Looks which domains there are, and has all of them asked but those that have not yet
 * answered the last time; the one named `map_of`, if not NULL, for its map as well.
 * What dead domains left stays: who looks so often had better not get into the way of
 * one that begins. Returns what runtime_list() said, or -ENOMEM. */
int top_poll_ask(struct top_poll *poll, const char *map_of);

/* Readable when something has come. */
int top_poll_fd(const struct top_poll *poll);

/* Gives what has come since the last time to the model, and the map to its page. */
void top_poll_take(struct top_poll *poll, struct top_ui *ui);

#endif
