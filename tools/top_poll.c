/* SPDX-License-Identifier: MIT */
/*
 * Asking for the screen of `ballast top`. See top_poll.h.
 *
 * The lock guards all members but `base` and `fd`. A thread holds it to hand in what
 * it heard, and never while it asks; it finds its domain by name, for the array moves.
 */
#include "top_poll.h"

#include "base/clock.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ctl/runtime_dir.h"
#include "domain.h"

/* Enough to talk to a domain; there may be hundreds of threads. */
#define STACK_BYTES (256 * 1024)

struct asked_domain {
    char name[BALLAST_NAME_MAX_BYTES + 1];
    bool is_busy;   /* a thread asks it */
    bool is_live;   /* it was there when the domains were listed last */
    json_t *answer; /* not taken yet, or NULL */
    double asked_s; /* when that was asked for */
};

struct top_poll {
    const char *base;
    int fd; /* an eventfd */
    pthread_mutex_t lock;
    struct asked_domain *domains;
    size_t count;
    bool has_list; /* the domains were listed once */
    bool has_map;  /* map and map_error are of map_name, and not taken yet */
    char map_name[BALLAST_NAME_MAX_BYTES + 1];
    struct ctl_map map;
    char map_error[256];
};

/* What a thread does. */
struct errand {
    struct top_poll *poll;
    char name[BALLAST_NAME_MAX_BYTES + 1];
    bool wants_map;
    double asked_s;
};

double top_poll_now_s(void)
{
    return (double)clock_now_ns() / 1e9;
}

int top_poll_open(const char *base, struct top_poll **poll)
{
    struct top_poll *made = calloc(1, sizeof(*made));

    if (made == NULL) {
        return -ENOMEM;
    }
    made->base = base;
    made->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->fd < 0) {
        int ret = -errno;

        free(made);
        return ret;
    }
    pthread_mutex_init(&made->lock, NULL);
    *poll = made;
    return 0;
}

int top_poll_fd(const struct top_poll *poll)
{
    return poll->fd;
}

static void tell(const struct top_poll *poll)
{
    uint64_t one = 1;

    if (write(poll->fd, &one, sizeof(one)) < 0) {
        return; /* it is full: whoever reads it knows already */
    }
}

static struct asked_domain *find(struct top_poll *poll, const char *name)
{
    for (size_t i = 0; i < poll->count; i++) {
        if (strcmp(poll->domains[i].name, name) == 0) {
            return &poll->domains[i];
        }
    }
    return NULL;
}

/* Takes an answer over; NULL: there is none. */
static void hand_in_answer(const struct errand *errand, json_t *answer)
{
    struct top_poll *poll = errand->poll;
    struct asked_domain *domain;

    pthread_mutex_lock(&poll->lock);
    domain = find(poll, errand->name);
    if (domain != NULL && answer != NULL) {
        json_decref(domain->answer);
        domain->answer = answer;
        domain->asked_s = errand->asked_s;
        answer = NULL;
    }
    pthread_mutex_unlock(&poll->lock);
    json_decref(answer);
    tell(poll);
}

static void hand_in_map(const struct errand *errand, const struct ctl_map *map, const char *why)
{
    struct top_poll *poll = errand->poll;

    pthread_mutex_lock(&poll->lock);
    ctl_map_free(&poll->map);
    poll->has_map = true;
    poll->map = *map;
    memcpy(poll->map_name, errand->name, sizeof(poll->map_name));
    snprintf(poll->map_error, sizeof(poll->map_error), "%.255s", why);
    pthread_mutex_unlock(&poll->lock);
    tell(poll);
}

/* The domain did not answer; NULL if that is because it has ended. */
static json_t *describe_silence(const struct errand *errand, const struct ctl_error *error)
{
    enum runtime_state state;

    if (runtime_look(errand->poll->base, errand->name, &state) == 0 && state != RUNTIME_LIVE) {
        return NULL;
    }
    return json_pack("{s:s, s:s}", "name", errand->name, "error", error->desc);
}

static void *run_errand(void *context)
{
    struct errand *errand = context;
    struct top_poll *poll = errand->poll;
    struct asked_domain *domain;
    struct ctl_map map = {.letters = NULL};
    struct ctl_client *client = NULL;
    struct ctl_error error = {.desc = ""};
    json_t *answer = NULL;
    int ret = domain_connect(poll->base, errand->name, DOMAIN_ANSWER_MS, &client, &error);

    if (ret == 0) {
        ret = domain_query_on(client, &answer, &error);
    }
    hand_in_answer(errand, ret == 0 ? answer : describe_silence(errand, &error));
    if (errand->wants_map) {
        if (ret == 0) {
            ret = domain_map_on(client, &map, &error);
        }
        hand_in_map(errand, &map, ret == 0 ? "" : error.desc);
    }
    ctl_client_close(client);
    pthread_mutex_lock(&poll->lock);
    domain = find(poll, errand->name);
    if (domain != NULL) {
        domain->is_busy = false;
    }
    pthread_mutex_unlock(&poll->lock);
    free(errand);
    return NULL;
}

/* Starts a thread for a domain. If there is none to be had, it is asked the next time. */
static void send_out(struct top_poll *poll, struct asked_domain *domain, bool wants_map)
{
    struct errand *errand = calloc(1, sizeof(*errand));

    if (errand == NULL) {
        return;
    }
    errand->poll = poll;
    errand->wants_map = wants_map;
    errand->asked_s = top_poll_now_s();
    memcpy(errand->name, domain->name, sizeof(errand->name));
    /* Signals are for the thread that has the screen. */
    domain->is_busy = thread_start(NULL, STACK_BYTES, run_errand, errand) == 0;
    if (!domain->is_busy) {
        free(errand);
    }
}

/* Makes the array hold the domains that there are, and those that are still being
 * asked. -ENOMEM: it is as it was. */
static int keep_list(struct top_poll *poll, const struct runtime_entry *entries, size_t count)
{
    struct asked_domain *domains = calloc(poll->count + count + 1, sizeof(*domains));
    size_t kept = 0;

    if (domains == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < poll->count; i++) {
        poll->domains[i].is_live = false;
    }
    for (size_t i = 0; i < count; i++) {
        struct asked_domain *old = find(poll, entries[i].name);

        if (entries[i].state != RUNTIME_LIVE) {
            continue;
        }
        if (old != NULL) {
            old->is_live = true;
        } else {
            memcpy(domains[kept].name, entries[i].name, sizeof(domains[kept].name));
            domains[kept++].is_live = true;
        }
    }
    for (size_t i = 0; i < poll->count; i++) {
        if (poll->domains[i].is_live || poll->domains[i].is_busy) {
            domains[kept++] = poll->domains[i];
        } else {
            json_decref(poll->domains[i].answer);
        }
    }
    free(poll->domains);
    poll->domains = domains;
    poll->count = kept;
    return 0;
}

int top_poll_ask(struct top_poll *poll, const char *map_of)
{
    struct runtime_entry *entries;
    size_t count;
    int ret = runtime_list(poll->base, &entries, &count);

    if (ret < 0) {
        return ret;
    }
    pthread_mutex_lock(&poll->lock);
    ret = keep_list(poll, entries, count);
    for (size_t i = 0; ret == 0 && i < poll->count; i++) {
        struct asked_domain *domain = &poll->domains[i];

        if (domain->is_live && !domain->is_busy) {
            send_out(poll, domain, map_of != NULL && strcmp(map_of, domain->name) == 0);
        }
    }
    poll->has_list = ret == 0 || poll->has_list;
    pthread_mutex_unlock(&poll->lock);
    free(entries);
    tell(poll); /* that there is a list, which may be empty */
    return ret;
}

/* Under the lock. */
static void take_answers(struct top_poll *poll, struct top_ui *ui)
{
    struct top_news *news = calloc(poll->count + 1, sizeof(*news));
    size_t count = 0;

    if (news == NULL) {
        return; /* the next time, perhaps */
    }
    for (size_t i = 0; i < poll->count; i++) {
        const struct asked_domain *domain = &poll->domains[i];

        if (domain->is_live) {
            news[count++] = (struct top_news){domain->name, domain->answer, domain->asked_s};
        }
    }
    /* Without memory some are missing, and come with their next answer. */
    top_model_update(&ui->model, news, count);
    top_ui_settle(ui);
    ui->has_survey = true;
    for (size_t i = 0; i < poll->count; i++) {
        json_decref(poll->domains[i].answer);
        poll->domains[i].answer = NULL;
    }
    free(news);
}

void top_poll_take(struct top_poll *poll, struct top_ui *ui)
{
    uint64_t number;

    if (read(poll->fd, &number, sizeof(number)) < 0) {
        return; /* nothing has come */
    }
    pthread_mutex_lock(&poll->lock);
    if (poll->has_list) {
        take_answers(poll, ui);
    }
    if (poll->has_map) {
        poll->has_map = false;
        top_ui_take_map(ui, poll->map_name, poll->map_error[0] == '\0' ? &poll->map : NULL,
                        poll->map_error);
        poll->map = (struct ctl_map){.letters = NULL};
    }
    pthread_mutex_unlock(&poll->lock);
}
