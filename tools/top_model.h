/* SPDX-License-Identifier: MIT */
/*
 * What `ballast top` knows of the domains: their last figures, rates, history, and
 * which are shown in which order. Pure: it is given answers and times.
 *
 *   shown[0..shown_count) = indices of the domains that match the filter, sorted
 *   a rate is the difference of two answers of one process, by the time between them
 */
#ifndef BALLAST_TOOLS_TOP_MODEL_H
#define BALLAST_TOOLS_TOP_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ballast/protocol.h>

#define TOP_HISTORY    512 /* answers that are kept of each domain */
#define TOP_TEXT_BYTES 64  /* of a filter or a state */

/* What one answer says; sizes in pages. */
struct top_figures {
    json_int_t pid;
    double max, target, populated, cache, pod_entries, out;
    double faults, reclaims;
    double p99_ns;
    bool covered, shrinking;
    char state[16];
};

/* One moment of a domain's past. */
struct top_moment {
    double populated, cache, max, target; /* pages */
    double faults_per_s;                  /* NAN: not known */
};

struct top_domain {
    char name[BALLAST_NAME_MAX_BYTES + 1];
    bool is_known;   /* it has answered once: `last` holds */
    bool is_silent;  /* it did not answer when it was asked last: `error` says why */
    char error[256]; /* "WHY; WHAT TO DO" */
    double silent_s; /* for how long, as far as we know */
    double answer_s; /* when `last` was asked for */
    double first_s;  /* when the domain was first heard of */
    struct top_figures last;
    double faults_per_s, reclaims_per_s; /* NAN until there are two answers */
    struct top_moment history[TOP_HISTORY];
    size_t history_count; /* ever; the newest is at (history_count - 1) % TOP_HISTORY */
    bool is_there;        /* it was among the last news */
};

enum top_key {
    TOP_BY_NAME,
    TOP_BY_MAX,
    TOP_BY_TARGET,
    TOP_BY_POPULATED,
    TOP_BY_CACHE,
    TOP_BY_ENTRIES,
    TOP_BY_FAULTS,
    TOP_BY_RECLAIMS,
    TOP_BY_P99,
};
#define TOP_KEYS 9

struct top_model {
    struct top_domain *domains;
    size_t count, capacity;
    size_t *shown;
    size_t shown_count;
    size_t silent_count;
    enum top_key key;
    bool reverse;
    char filter[TOP_TEXT_BYTES]; /* part of the name or of the state; "": all */
};

/* A zeroed model is empty, and sorts by name. */
void top_model_free(struct top_model *model);

/* What is new of a domain that is there; all borrowed. */
struct top_news {
    const char *name;
    /* What query-domain returned, or an object whose `error` says why it did not answer;
     * NULL if there is nothing new. */
    const json_t *answer;
    double asked_s; /* when it was asked, in seconds on any clock that does not go back */
};

/* Takes news of all domains that there are: adds domains, drops those that are not
 * among them, and arranges. -ENOMEM: some news are missing. */
int top_model_update(struct top_model *model, const struct top_news *news, size_t count);

/* The same for what survey() said at that time. */
int top_model_take_survey(struct top_model *model, const json_t *survey, double asked_s);

/* Filters and sorts, after `key`, `reverse` or `filter` were changed. */
void top_model_arrange(struct top_model *model);

/* The domain with that name, or NULL. */
const struct top_domain *top_model_find(const struct top_model *model, const char *name);

/* The moment that is so many answers back, 0 being the last; NULL if there is none. */
const struct top_moment *top_moment_back(const struct top_domain *domain, size_t back);

/* What a key is called on the command line, and the key of that name (false: none). */
const char *top_key_name(enum top_key key);
bool top_key_find(const char *name, enum top_key *key);

/* The state to show: a running domain that has more than its target is "shrinking",
 * one that does not answer "silent", one that has not answered yet "asking". */
const char *top_state(const struct top_domain *domain);

#endif
