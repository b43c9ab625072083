/* SPDX-License-Identifier: MIT */
/*
 * Asking running domains what they are doing.
 */
#ifndef BALLAST_TOOLS_DOMAIN_H
#define BALLAST_TOOLS_DOMAIN_H

#include <jansson.h>
#include <stdbool.h>

#include "ctl/message.h"

/* How long a domain may take to answer a question. */
#define DOMAIN_ANSWER_MS 2000

/* Asks a domain for its state: 0 and a new reference to what query-domain
 * returned, with all the keys that docs/protocol.md lists, of the right types.
 * Otherwise the errors of ctl_client_connect() and ctl_client_call(); -EREMOTEIO
 * also for a missing key. *error is filled in each case, with a text for
 * people: "WHY; WHAT TO DO". */
int domain_query(const char *base, const char *name, json_t **state, struct ctl_error *error);

/* An integer of a state that domain_query() returned. */
json_int_t domain_integer(const json_t *state, const char *key);

/* A string of it. */
const char *domain_string(const json_t *state, const char *key);

/* Prints JSON for machines, with a newline. */
void domain_print_json(const json_t *json);

/* Flushes standard output: 0, or EXIT_FAILED after it printed why (a full
 * disk, say). To be returned by whoever printed results. */
int domain_finish_output(void);

#endif
