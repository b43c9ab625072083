/* SPDX-License-Identifier: MIT */
#include "agent/postmortem.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

struct text {
    char *to;
    size_t size, length;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->to + text->length, text->size - text->length, format, arguments);
    va_end(arguments);
    text->length = min_u64(text->length + (size_t)(length > 0 ? length : 0), text->size - 1);
}

/* No description of an error: that may be read from a file. */
static const char *error_name(int err)
{
    const char *name = err == 0 ? "ok" : strerrorname_np(-err);
    return name != NULL ? name : "?";
}

static void add_versions(struct text *text, const struct postmortem *p)
{
    struct utsname system = {0};
    uname(&system);
    add(text, "programs: %s\nkernel: %s %s %s %s\n", p->programs != NULL ? p->programs : "?",
        system.sysname, system.release, system.version, system.machine);
}

static void add_counts(struct text *text, const struct domain *d)
{
    const struct domain_counters *c = &d->counters;
    add(text,
        "state: %s%s\n"
        "pages: max %" PRIu64 ", target %" PRIu64 ", total %" PRIu64 ", P %" PRIu64 ", E %" PRIu64
        ", O %" PRIu64 ", G %" PRIu64 ", C %" PRIu64 "\n",
        domain_state_name(d->state),
        d->shrinking       ? ", shrinking"
        : d->recovery.held ? ", recovering a superpage"
                           : "",
        d->p2m.max_pages, d->target_pages, d->total_pages, d->p2m.ram_pages, p2m_pod_pages(&d->p2m),
        d->p2m.out_pages + d->p2m.given_pages, d->p2m.given_pages, d->cache.pages);
    add(text,
        "p2m: %" PRIu32 " superpages, %" PRIu32 " populated, %" PRIu64 " births, hands at %" PRId32
        " and %" PRId32 "\n"
        "cache: %" PRIu32 " slots, %" PRIu32 " of them used; %" PRIu32 " empty, %" PRIu32
        " empty with a table, %" PRIu32 " partial, %" PRIu32 " full, %" PRIu32 " huge\n",
        d->p2m.count, d->p2m.populated, d->p2m.births, (int32_t)d->p2m.sweep_hand,
        (int32_t)d->p2m.eager_hand, d->cache.count, d->cache.fresh, d->cache.lengths[CACHE_EMPTY],
        d->cache.lengths[CACHE_EMPTY_TABLE], d->cache.lengths[CACHE_PARTIAL],
        d->cache.lengths[CACHE_FULL], d->cache.lengths[CACHE_FULL_HUGE]);
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        {"faults", c->faults},
        {"spurious", c->spurious},
        {"out_touched", c->out_touched},
        {"out_in_use", c->out_in_use},
        {"populated_2m", c->populated_2m},
        {"ahead_2m", c->ahead_2m},
        {"populated_4k", c->populated_4k},
        {"reclaimed_2m", c->reclaimed_2m},
        {"reclaimed_4k", c->reclaimed_4k},
        {"discarded_pages", c->discarded_pages},
        {"given_up_pages", c->given_up_pages},
        {"collected_pages", c->collected_pages},
        {"taken_back_pages", c->taken_back_pages},
        {"sweeps", c->sweeps},
        {"busy_skips", c->busy_skips},
        {"false_zeros", c->false_zeros},
        {"adopted_pages", c->adopted_pages},
        {"recovered_2m", c->recovered_2m},
    };
    add(text, "counters:");
    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        add(text, " %s %" PRIu64, counters[i].name, counters[i].value);
    }
    add(text, "\n");
}

/* What the ledgers say of the place where it was noticed. */
static void add_place(struct text *text, const struct domain *d, gfn_t at)
{
    if (!p2m_exists(&d->p2m, at, 1)) {
        return;
    }
    const struct p2m_entry *entry = &d->p2m.entries[p2m_index(at)];
    add(text,
        "there: gfn 0x%" PRIx64 ", state %d; superpage %" PRIu32 ": ram %d, out %d, given %d"
        ", flags %d\n",
        at.n, (int)p2m_get(&d->p2m, at), p2m_index(at), entry->ram, entry->out, entry->given,
        entry->flags);
}

static void add_host(struct text *text, const struct linux_host *host)
{
    uint64_t first = host->failures_made;
    first -= min_u64(first, LINUX_FAILURES_KEPT);
    add(text, "last errors of the host, but busy pages and tries: %" PRIu64 "\n",
        host->failures_made);
    for (uint64_t i = first; i < host->failures_made; i++) {
        const struct linux_failure *f = &host->failures[i % LINUX_FAILURES_KEPT];
        add(text,
            "  %s gfn 0x%" PRIx64 ", cfn 0x%" PRIx64 ", %" PRIu64 " pages, of which %" PRIu64
            " went: %s; the kernel's last error of a move: %s\n",
            f->operation, f->guest.n, f->cache.n, f->pages, f->moved_pages, error_name(f->err),
            error_name(f->kernel_err));
    }
}

static void add_history(struct text *text, const struct history *history)
{
    uint64_t made = history->made, first = made - min_u64(made, HISTORY_KEPT);
    uint64_t now_ns = clock_coarse_ns();
    add(text, "last operations, of %" PRIu64 ":\n", history->operations);
    for (uint64_t i = first; i < made; i++) {
        const struct history_record *r = &history->records[i % HISTORY_KEPT];
        add(text,
            "  %" PRIu64 " ms before: %s gfn 0x%" PRIx64 ", %" PRIu64 " pages: %s, %" PRIu64
            " times; total %" PRIu64 ", C %" PRIu64 ", P + G %" PRIu64 "\n",
            now_ns > r->last_ns ? (now_ns - r->last_ns) / 1000000 : 0, r->operation, r->at.n,
            r->pages, error_name(r->err), r->times, r->total_pages, r->cache_pages,
            r->in_place_pages);
    }
}

void postmortem_write(const struct postmortem *p, char *to, size_t size)
{
    struct text text = {.to = to, .size = size};
    to[0] = '\0';
    add(&text, "Ballast stopped this guest because its own state was wrong.\n");
    add(&text, "noticed: in %s, at gfn 0x%" PRIx64 "\n", p->noticed, p->at.n);
    add(&text, "equations: %s\n",
        p->equation != NULL ? p->equation
        : p->checked        ? "all hold"
                            : "not looked at yet");
    add_versions(&text, p);
    add_counts(&text, p->domain);
    add_place(&text, p->domain, p->at);
    if (p->host != NULL) {
        add_host(&text, p->host);
    }
    add_history(&text, p->history);
}
