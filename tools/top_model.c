/* SPDX-License-Identifier: MIT */
/*
 * What `ballast top` knows. See top_model.h.
 */
#include "top_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const key_names[TOP_KEYS] = {
    [TOP_BY_NAME] = "name",           [TOP_BY_MAX] = "max",           [TOP_BY_TARGET] = "target",
    [TOP_BY_POPULATED] = "populated", [TOP_BY_CACHE] = "cache",       [TOP_BY_ENTRIES] = "entries",
    [TOP_BY_FAULTS] = "faults",       [TOP_BY_RECLAIMS] = "reclaims", [TOP_BY_P99] = "p99",
};

void top_model_free(struct top_model *model)
{
    free(model->domains);
    free(model->shown);
    *model = (struct top_model){.count = 0};
}

static double number(const json_t *answer, const char *key)
{
    return (double)json_integer_value(json_object_get(answer, key));
}

static struct top_figures read_figures(const json_t *answer)
{
    const char *state = json_string_value(json_object_get(answer, "state"));
    struct top_figures figures = {
        .pid = json_integer_value(json_object_get(answer, "pid")),
        .max = number(answer, "max_pages"),
        .target = number(answer, "target_pages"),
        .populated = number(answer, "populated_pages"),
        .cache = number(answer, "cache_pages"),
        .pod_entries = number(answer, "pod_entries_pages"),
        .out = number(answer, "out_pages"),
        .faults = number(answer, "faults"),
        .reclaims = number(answer, "reclaimed_2m") + number(answer, "reclaimed_4k"),
        .p99_ns = number(answer, "fault_p99_ns"),
        .covered = json_is_true(json_object_get(answer, "covered")),
        .shrinking = json_is_true(json_object_get(answer, "shrinking")),
    };

    snprintf(figures.state, sizeof(figures.state), "%s", state != NULL ? state : "?");
    return figures;
}

static void remember(struct top_domain *domain)
{
    domain->history[domain->history_count++ % TOP_HISTORY] = (struct top_moment){
        .populated = domain->last.populated,
        .cache = domain->last.cache,
        .max = domain->last.max,
        .target = domain->last.target,
        .faults_per_s = domain->faults_per_s,
    };
}

/* Another process under the same name has nothing to do with the one before. */
static void take_answer(struct top_domain *domain, const json_t *answer, double now_s)
{
    struct top_figures figures = read_figures(answer);
    double elapsed = now_s - domain->answer_s;
    bool same = domain->is_known && domain->last.pid == figures.pid &&
                figures.faults >= domain->last.faults && figures.reclaims >= domain->last.reclaims;

    if (domain->is_known && !same) {
        domain->history_count = 0;
    }
    domain->faults_per_s =
        same && elapsed > 0 ? (figures.faults - domain->last.faults) / elapsed : NAN;
    domain->reclaims_per_s =
        same && elapsed > 0 ? (figures.reclaims - domain->last.reclaims) / elapsed : NAN;
    domain->last = figures;
    domain->answer_s = now_s;
    domain->is_known = true;
    domain->is_silent = false;
    domain->silent_s = 0;
    remember(domain);
}

static void take_silence(struct top_domain *domain, const char *error, double now_s)
{
    double since = domain->is_known ? domain->answer_s : domain->first_s;

    domain->is_silent = true;
    domain->silent_s = now_s - since;
    domain->faults_per_s = NAN;
    domain->reclaims_per_s = NAN;
    snprintf(domain->error, sizeof(domain->error), "%s", error);
}

const struct top_domain *top_model_find(const struct top_model *model, const char *name)
{
    for (size_t i = 0; i < model->count; i++) {
        if (strcmp(model->domains[i].name, name) == 0) {
            return &model->domains[i];
        }
    }
    return NULL;
}

/* Finds the domain with that name or adds it. NULL if out of memory. */
static struct top_domain *find_or_add(struct top_model *model, const char *name, double now_s)
{
    /* The model is ours to change. */
    struct top_domain *found = (struct top_domain *)top_model_find(model, name);

    if (found != NULL) {
        return found;
    }
    if (model->count == model->capacity) {
        size_t capacity = model->capacity * 2 + 8;
        void *domains = realloc(model->domains, capacity * sizeof(*model->domains));
        void *shown;

        if (domains == NULL) {
            return NULL;
        }
        model->domains = domains;
        shown = realloc(model->shown, capacity * sizeof(*model->shown));
        if (shown == NULL) {
            return NULL;
        }
        model->shown = shown;
        model->capacity = capacity;
    }
    found = &model->domains[model->count++];
    memset(found, 0, sizeof(*found));
    snprintf(found->name, sizeof(found->name), "%s", name);
    found->first_s = now_s;
    return found;
}

static void drop_those_gone(struct top_model *model)
{
    size_t kept = 0;

    for (size_t i = 0; i < model->count; i++) {
        if (model->domains[i].is_there) {
            if (kept != i) {
                model->domains[kept] = model->domains[i];
            }
            kept++;
        }
    }
    model->count = kept;
}

int top_model_update(struct top_model *model, const struct top_news *news, size_t count)
{
    int ret = 0;

    for (size_t i = 0; i < model->count; i++) {
        model->domains[i].is_there = false;
    }
    for (size_t i = 0; i < count; i++) {
        struct top_domain *domain = find_or_add(model, news[i].name, news[i].asked_s);
        const char *error = json_string_value(json_object_get(news[i].answer, "error"));

        if (domain == NULL) {
            ret = -ENOMEM;
            continue;
        }
        domain->is_there = true;
        if (error != NULL) {
            take_silence(domain, error, news[i].asked_s);
        } else if (news[i].answer != NULL) {
            take_answer(domain, news[i].answer, news[i].asked_s);
        }
    }
    drop_those_gone(model);
    top_model_arrange(model);
    return ret;
}

int top_model_take_survey(struct top_model *model, const json_t *survey, double asked_s)
{
    size_t count = json_array_size(survey);
    struct top_news *news = calloc(count + 1, sizeof(*news));
    int ret;

    if (news == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *answer = json_array_get(survey, i);

        news[i] = (struct top_news){
            .name = json_string_value(json_object_get(answer, "name")),
            .answer = answer,
            .asked_s = asked_s,
        };
    }
    ret = top_model_update(model, news, count);
    free(news);
    return ret;
}

static double value_of(const struct top_domain *domain, enum top_key key)
{
    switch (key) {
    case TOP_BY_MAX:
        return domain->last.max;
    case TOP_BY_TARGET:
        return domain->last.target;
    case TOP_BY_POPULATED:
        return domain->last.populated;
    case TOP_BY_CACHE:
        return domain->last.cache;
    case TOP_BY_ENTRIES:
        return domain->last.pod_entries;
    case TOP_BY_FAULTS:
        return isnan(domain->faults_per_s) ? -1 : domain->faults_per_s;
    case TOP_BY_RECLAIMS:
        return isnan(domain->reclaims_per_s) ? -1 : domain->reclaims_per_s;
    case TOP_BY_P99:
        return domain->last.p99_ns;
    case TOP_BY_NAME:
        break;
    }
    return 0;
}

/* The largest first, those of equal value by name. */
static int compare(const void *left, const void *right, void *context)
{
    const struct top_model *model = context;
    const struct top_domain *a = &model->domains[*(const size_t *)left];
    const struct top_domain *b = &model->domains[*(const size_t *)right];
    double difference = value_of(b, model->key) - value_of(a, model->key);
    int order = difference > 0 ? 1 : difference < 0 ? -1 : strcmp(a->name, b->name);

    return model->reverse ? -order : order;
}

void top_model_arrange(struct top_model *model)
{
    model->shown_count = 0;
    model->silent_count = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct top_domain *domain = &model->domains[i];

        model->silent_count += domain->is_silent;
        if (strcasestr(domain->name, model->filter) != NULL ||
            strcasestr(top_state(domain), model->filter) != NULL) {
            model->shown[model->shown_count++] = i;
        }
    }
    if (model->shown_count > 1) {
        qsort_r(model->shown, model->shown_count, sizeof(*model->shown), compare, model);
    }
}

const struct top_moment *top_moment_back(const struct top_domain *domain, size_t back)
{
    if (back >= domain->history_count || back >= TOP_HISTORY) {
        return NULL;
    }
    return &domain->history[(domain->history_count - 1 - back) % TOP_HISTORY];
}

const char *top_key_name(enum top_key key)
{
    return key_names[key];
}

bool top_key_find(const char *name, enum top_key *key)
{
    for (int i = 0; i < TOP_KEYS; i++) {
        if (strcmp(key_names[i], name) == 0) {
            *key = (enum top_key)i;
            return true;
        }
    }
    return false;
}

const char *top_state(const struct top_domain *domain)
{
    if (domain->is_silent) {
        return "silent";
    }
    if (!domain->is_known) {
        return "asking";
    }
    return domain->last.shrinking && strcmp(domain->last.state, "running") == 0
               ? "shrinking"
               : domain->last.state;
}
