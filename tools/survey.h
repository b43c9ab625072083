/* SPDX-License-Identifier: MIT */
/* Asks all running domains at once, so that one that hangs costs no more than its
 * own time limit. */
#ifndef BALLAST_TOOLS_SURVEY_H
#define BALLAST_TOOLS_SURVEY_H

#include <jansson.h>

/* 0 and a new array in *list, in the order of the domains' names: of each what
 * domain_query() said, or, if that failed, an object with `name` and `error`, a
 * text for people. Removes what dead domains left. -ENOMEM, or what
 * runtime_list() said. */
int survey(const char *base, json_t **list);

#endif
