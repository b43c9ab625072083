/* SPDX-License-Identifier: MIT */
/*
 * Asking all domains. See survey.h.
 *
 * Workers take the domains one after the other; each has a place of its own for
 * the answer, so nothing but the next index is shared.
 */
#include "survey.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ctl/runtime_dir.h"
#include "domain.h"

/* So many domains may hang before others wait for them. */
#define WORKERS_MAX 32

struct work {
    const char *base;
    const struct runtime_entry *entries;
    size_t count;
    atomic_size_t next;
    json_t **answers; /* NULL: the domain is gone, or out of memory */
};

static json_t *state_or_error(const char *base, const char *name)
{
    enum runtime_state state;
    struct ctl_error error;
    json_t *answer;

    if (domain_query(base, name, &answer, &error) == 0) {
        return answer;
    }
    if (runtime_look(base, name, &state) == 0 && state != RUNTIME_LIVE) {
        return NULL; /* it ended while we asked */
    }
    return json_pack("{s:s, s:s}", "name", name, "error", error.desc);
}

static void *work(void *context)
{
    struct work *work = context;
    size_t at;

    while ((at = atomic_fetch_add(&work->next, 1)) < work->count) {
        const struct runtime_entry *entry = &work->entries[at];

        if (entry->state == RUNTIME_DEAD) {
            /* If it cannot be removed (foreign files, not ours), so be it. */
            runtime_clean(work->base, entry->name);
        } else {
            work->answers[at] = state_or_error(work->base, entry->name);
        }
    }
    return NULL;
}

/* Works with as many threads as there are domains; this one is always among them. */
static void work_together(struct work *work_to_do)
{
    pthread_t threads[WORKERS_MAX - 1];
    size_t count = 0;

    while (count < WORKERS_MAX - 1 && count + 1 < work_to_do->count &&
           pthread_create(&threads[count], NULL, work, work_to_do) == 0) {
        count++;
    }
    work(work_to_do);
    for (size_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
}

int survey(const char *base, json_t **list)
{
    struct runtime_entry *entries;
    struct work to_do = {.base = base};
    int ret = runtime_list(base, &entries, &to_do.count);

    if (ret < 0) {
        return ret;
    }
    to_do.entries = entries;
    to_do.answers = calloc(to_do.count + 1, sizeof(json_t *));
    *list = json_array();
    if (to_do.answers == NULL || *list == NULL) {
        ret = -ENOMEM;
    } else {
        work_together(&to_do);
        for (size_t i = 0; i < to_do.count; i++) {
            if (to_do.answers[i] != NULL && json_array_append_new(*list, to_do.answers[i]) != 0) {
                ret = -ENOMEM;
            }
        }
    }
    if (ret < 0) {
        json_decref(*list);
    }
    free(to_do.answers);
    free(entries);
    return ret;
}
