/* SPDX-License-Identifier: MIT */
/*
 * Asking running domains what they are doing.
 */
#ifndef BALLAST_TOOLS_DOMAIN_H
#define BALLAST_TOOLS_DOMAIN_H

#include <jansson.h>
#include <stdbool.h>

#include "base/size.h"
#include "ctl/client.h"
#include "ctl/map.h"
#include "ctl/message.h"

/* How long a domain may take to answer a question. */
#define DOMAIN_ANSWER_MS 2000

/* Looks for a running domain, and removes what a dead one left. Returns 0, or
 * EXIT_FAILED after it printed why there is none. */
int domain_find(const char *base, const char *name);

/* Connects to a domain. The errors of ctl_client_connect(), and *error as for
 * domain_query(). */
int domain_connect(const char *base, const char *name, int timeout_ms, struct ctl_client **client,
                   struct ctl_error *error);

/* ctl_client_call(), but *error is as for domain_query(). */
int domain_call(struct ctl_client *client, const char *command, json_t *arguments, int timeout_ms,
                json_t **result, struct ctl_error *error);

/* The text for what ctl_client_connect() or ctl_client_call() failed with, unless
 * that is the domain's own answer: "WHY; WHAT TO DO". */
void domain_explain(int ret, int timeout_ms, struct ctl_error *error);

/* As domain_query(), on a connection. */
int domain_query_on(struct ctl_client *client, json_t **state, struct ctl_error *error);

/* Asks a domain for its state: 0 and a new reference to what query-domain
 * returned, with all the keys that docs/protocol.md lists, of the right types.
 * Otherwise the errors of ctl_client_connect() and ctl_client_call(); -EREMOTEIO
 * also for a missing key. *error is filled in each case, with a text for
 * people: "WHY; WHAT TO DO". */
int domain_query(const char *base, const char *name, json_t **state, struct ctl_error *error);

/* Asks for its map (ctl/map.h), which the caller frees. The errors of
 * ctl_map_query(), and *error in each case, as for domain_query(). */
int domain_map_on(struct ctl_client *client, struct ctl_map *map, struct ctl_error *error);

/* An integer of a state that domain_query() returned. */
json_int_t domain_integer(const json_t *state, const char *key);

/* A number of pages of it (or of an event's data), as a size for people. */
void domain_format_pages(const json_t *state, const char *key, char text[static SIZE_TEXT_BYTES]);

/* A string of it. */
const char *domain_string(const json_t *state, const char *key);

/* Prints JSON for machines, with a newline. */
void domain_print_json(const json_t *json);

/* Flushes standard output: 0, or EXIT_FAILED after it printed why (a full
 * disk, say). To be returned by whoever printed results. */
int domain_finish_output(void);

#endif
