/* SPDX-License-Identifier: MIT */
/*
 * What a maintainer needs to find out why a domain's state is wrong: what was
 * noticed, the equation that does not hold, versions, counts, the last errors of
 * the host and the last operations. It says nothing of what guest memory holds.
 *
 * Allocates nothing and takes no lock: the thread that holds the domain's may be
 * the one that is stuck.
 */
#ifndef BALLAST_AGENT_POSTMORTEM_H
#define BALLAST_AGENT_POSTMORTEM_H

#include "guest/history.h"
#include "host/linux_host.h"

struct postmortem {
    const char *noticed; /* the operation in which it was */
    gfn_t at;
    const char *equation; /* that does not hold; NULL if it was not looked at, or all hold */
    bool checked;         /* all were looked at */
    const char *programs; /* names and versions; NULL: unknown */
    const struct domain *domain;
    const struct history *history;
    const struct linux_host *host; /* NULL: none */
};

/* Writes it, as text of many lines, cut off at size - 1 bytes. */
void postmortem_write(const struct postmortem *postmortem, char *to, size_t size);

#endif
