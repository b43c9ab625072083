/* SPDX-License-Identifier: MIT */
/*
 * A domain: one VM whose RAM Ballast manages. This is the engine's interface.
 *
 * With P = RAM gfns, E = POD gfns, O = gfns that the guest gave up, G = those
 * of O whose page is still in place (GIVEN), C = cached pages:
 *
 *   P + E + O     = max
 *   P + G + C     = total   (total counts only what came from and went to the host)
 *   total         = target  once built, until dying, unless shrinking
 *   total         > target  while shrinking
 *   and those of p2m.h, cache.h and recover.c
 *
 * domain_check() evaluates them all.
 *
 * The engine has no lock: its caller holds one (rank LOCK_RANK_DOMAIN) around
 * every call. Each call does a bounded amount of work, stated beside it, so
 * that the lock is never held for long; what takes longer comes in steps.
 * Pages in transit between p2m and cache are in transit only within a call.
 *
 * Results are 0 or -errno. Beside those of the table of operations:
 *   -ESHUTDOWN  the domain is dying
 *   -EINVAL     an argument is out of range; nothing was done
 *   -EIO        the engine's state no longer agrees with the host's: guest
 *               memory can no longer be vouched for and the guest must stop.
 *               The domain is in DOMAIN_BROKEN and refuses everything. (From
 *               domain_build_step and domain_set_target it may also be what
 *               the host said when asked for pages: then nothing is broken.)
 */
#ifndef BALLAST_ENGINE_DOMAIN_H
#define BALLAST_ENGINE_DOMAIN_H

#include "engine/cache.h"
#include "engine/ops.h"
#include "engine/p2m.h"

enum domain_state {
    DOMAIN_BUILDING, /* before domain_build has succeeded */
    DOMAIN_RUNNING,
    DOMAIN_EXHAUSTED, /* a populate found no page anywhere */
    DOMAIN_DYING,
    DOMAIN_BROKEN, /* see -EIO above */
};

/* Its name, as the documents have it: "building", "running", "exhausted", "dying",
 * "broken". Something for what is none, too. */
const char *domain_state_name(enum domain_state state);

/* Events since the domain was made; each counts up only. */
struct domain_counters {
    uint64_t faults;           /* populates that were asked for */
    uint64_t spurious;         /* of them, for a gfn that was in place already */
    uint64_t out_touched;      /* gfns that were touched after the guest had given them up */
    uint64_t out_in_use;       /* pages that it had given up, found in use when collected */
    uint64_t populated_2m;     /* superpages placed */
    uint64_t ahead_2m;         /* of them, before the guest touched them */
    uint64_t populated_4k;     /* single pages placed, neighbours included */
    uint64_t reclaimed_2m;     /* zero superpages found and taken back */
    uint64_t reclaimed_4k;     /* zero pages found and taken back singly */
    uint64_t discarded_pages;  /* taken back because the guest or QEMU said so */
    uint64_t given_up_pages;   /* inflation: pages that went OUT */
    uint64_t collected_pages;  /* of those, taken from the guest's RAM into the cache */
    uint64_t taken_back_pages; /* deflation: pages that came back by request */
    uint64_t sweeps;           /* emergency sweeps */
    uint64_t busy_skips;       /* pages the host would not move: EBUSY */
    uint64_t false_zeros;      /* takes undone: not zero when compared in full */
    uint64_t adopted_pages;    /* found in place though POD: see domain_populate */
    uint64_t recovered_2m;     /* superpages that are huge again: see domain_recover_begin */
};

struct domain_config {
    pages_t max_pages;    /* at least one superpage, at most 16 TiB */
    pages_t span_pages;   /* what it may grow to by domain_plug; 0: max_pages */
    pages_t target_pages; /* at least one superpage, at most max_pages */
};

/* Reclaim's memory of where it was; see reclaim.c. */
struct reclaim {
    bool superpages_dry;       /* the last sweep for superpages saw all and found none */
    pages_t singles_since_dry; /* singles reclaimed since */
    uint64_t round_births;     /* p2m.births when the reserve's round began */
    p2m_index_t round_visits;  /* entries that the round has yet to see */
};

/* See recover.c. */
struct recovery {
    p2m_index_t next; /* where the round goes on; 0: between two rounds */
    uint64_t changes; /* what had happened when the round began */
    bool held;        /* `index` is being made huge: nothing is taken from it */
    p2m_index_t index;
};

struct domain {
    enum domain_state state;
    bool shrinking; /* the target was lowered and total has not come down to it */
    pages_t target_pages;
    pages_t total_pages;
    struct p2m p2m;
    struct cache cache;
    struct reclaim reclaim;
    struct recovery recovery;
    struct domain_counters counters;
    const struct engine_ops *ops;
    void *host; /* passed to every operation */
};

/* Bytes of zeroed memory that domain_init needs for such a domain; see
 * p2m_metadata_bytes and cache_metadata_bytes for how little of it is used. */
size_t domain_metadata_bytes(pages_t span_pages);

/* Pages of address space that the cache of such a domain spans: the cfns that
 * operations are given lie below this. */
pages_t domain_cache_span_pages(pages_t span_pages);

/*
 * Makes a domain: all gfns POD, the cache empty. `metadata` is zeroed, 8-byte
 * aligned, domain_metadata_bytes(span) long; it, `ops` and `host` stay the
 * caller's and must outlive the domain. -EINVAL if the configuration is out of
 * range.
 */
int domain_init(struct domain *domain, const struct domain_config *config,
                const struct engine_ops *ops, void *host, void *metadata);

/*
 * Brings at most `step_pages` (a multiple of 512, or what is missing) of the
 * target from the host into the cache. To be called until *missing_pages, the
 * pages still to come, is 0: then the domain runs. On -ENOMEM, or any other
 * error, what came before stays, and of this step what the host would not take
 * back just now; domain_begin_dying and domain_drain_step give it back.
 */
int domain_build_step(struct domain *domain, pages_t step_pages, pages_t *missing_pages);

/*
 * The guest touched `at`: puts a page there, and wakes whoever waits.
 *
 *   0        the page is in place
 *   -EAGAIN  the host cannot just now; nothing is lost, call again
 *   -ENOSPC  exhausted: there is no page, cached or zero. Nothing has
 *            changed but the state; call again when there may be one.
 *
 * A gfn that is OUT becomes GIVEN.
 *
 * A page may turn out to be in place though the p2m says POD: something other
 * than us put it there. It is adopted: the p2m says RAM, and a cached page
 * goes to the host in its stead, so that the total stays.
 *
 * Work: at most one pass over the populated memory (see reclaim.c) and the
 * placing of a few superpages (see placing.h).
 */
int domain_populate(struct domain *domain, gfn_t at);

/*
 * The guest or its VMM no longer needs the contents of [at, at + pages): RAM
 * becomes POD, its pages go into the cache. A page that something else refers
 * to, or that the host cannot move just now, stays and is filled with zeros;
 * so is one that is GIVEN.
 * Work: proportional to `pages`.
 */
int domain_discard(struct domain *domain, gfn_t at, pages_t pages);

/*
 * The guest's balloon inflates: [at, at + pages) is given up. POD becomes OUT;
 * RAM is zeroed and becomes GIVEN, and is collected with its superpage. GIVEN,
 * given up once more, is zeroed again. While shrinking, a superpage's worth goes
 * on to the host as soon as it has come together, and the last of it at once;
 * what is less, with domain_settle_step. Work: proportional to `pages`, and the
 * taking of one superpage for each that is thereby given up whole, or of which
 * the host is to get pages.
 */
int domain_decrease_reservation(struct domain *domain, gfn_t at, pages_t pages);

/* It deflates: OUT becomes POD, GIVEN becomes RAM. Also what a reset of the
 * guest means for all it had given up. Work: proportional to `pages`. */
int domain_increase_reservation(struct domain *domain, gfn_t at, pages_t pages);

/*
 * The guest is given more memory, `pages` of it, a multiple of 512: from *at on, all POD.
 * max grows by that, and the target stays. -ENOSPC if there is no room for it in one
 * piece; -EINVAL if max is no multiple of 2 MiB. Work: a pass over the entries.
 */
int domain_plug(struct domain *domain, pages_t pages, gfn_t *at);

/*
 * Superpages are taken from the guest. -EBUSY if any of their pages is in place:
 * domain_decrease_reservation and domain_collect come first. The target becomes max, if
 * it was more than what is left. -EINVAL if less than a superpage would be left. Work:
 * proportional to `pages`.
 */
int domain_unplug(struct domain *domain, gfn_t at, pages_t pages);

/* Collects what is GIVEN of [at, at + pages), whole superpages, into the cache. What is
 * in use after all is RAM then; what is busy stays. Work: proportional to `pages`. */
int domain_collect(struct domain *domain, gfn_t at, pages_t pages);

/*
 * Changes the target. -EINVAL if it is below one superpage or above max.
 *
 * Upwards: what total lacks is allocated into the cache (have the host prepare
 * it before the lock is taken), or -ENOMEM, -EAGAIN or another error of the
 * host, and the target stays as it was. Total too, except for what came and the
 * host will not take back just now: it stays in the cache, and the domain is
 * shrinking as if the target had been lowered from there.
 *
 * Downwards: the target changes at once; what no PoD entry may need goes to the
 * host in steps (domain_settle_step), the rest as the guest gives pages up.
 */
int domain_set_target(struct domain *domain, pages_t target_pages);

/*
 * While shrinking: gives at most `step_pages` to the host. *more says whether
 * to call again at once; if not, it is up to the guest. -EAGAIN: later; what
 * went until then is gone. Work: besides the step, at most a pass over the
 * populated memory for GIVEN pages each time that the cache runs empty.
 */
int domain_settle_step(struct domain *domain, pages_t step_pages, bool *more);

/*
 * Eager reclaim, for who does without domain_reserve_step, or cannot keep up with
 * it (domain_reserve_is_low): to be called after a populate, when whoever waited
 * for that goes on already. Does nothing while the
 * cache is well filled or the domain is covered. Work: a look at a few superpages.
 */
int domain_reclaim_eagerly(struct domain *domain);

/*
 * Fills the cache's reserve of superpages, so that a populate seldom has to
 * search: a few looks a call. *more says whether to call again; if not, there
 * is nothing to do before the next populate. -EAGAIN: later.
 */
int domain_reserve_step(struct domain *domain, bool *more);

/*
 * Finds a superpage whose pages are all in place but, as far as is known, not
 * one huge page, and holds it: until domain_recover_end nothing is taken from
 * it (who asks for that gets -EAGAIN or does without), so that the host may make
 * it huge where it is, without the lock and while all else goes on. -ENOENT: none
 * among those that were looked at. One can be held at a time, or -EINVAL. Work:
 * RECOVER_LOOKS entries.
 */
int domain_recover_begin(struct domain *domain, gfn_t *at);

/* Lets it go; `merged` says whether it is huge now. */
void domain_recover_end(struct domain *domain, bool merged);

/* Whether a round of domain_recover_begin is under way, or one is worth while:
 * something has changed since the last one began, and the domain does not live
 * on what single pages it finds. */
bool domain_wants_recovery(const struct domain *domain);

/* From here on nothing is populated, and everything but the steps below is
 * refused. Idempotent. */
void domain_begin_dying(struct domain *domain);

/* Gives at most `step_pages` of a dying domain's cache back to the host;
 * *left_pages is what the cache still holds. */
int domain_drain_step(struct domain *domain, pages_t step_pages, pages_t *left_pages);

/* Whether the domain can no longer run out, as long as the guest does not use
 * what it gave up: C + G >= E. */
static inline bool domain_covered(const struct domain *domain)
{
    return domain->cache.pages + domain->p2m.given_pages >= p2m_pod_pages(&domain->p2m);
}

/* Whether the reserve has less than half of the superpages that it should. */
bool domain_reserve_is_low(const struct domain *domain);

/* Whether domain_settle_step or domain_reserve_step has something to do, as far
 * as can be told at a glance. */
bool domain_wants_upkeep(const struct domain *domain);

/* Why the domain takes no requests: 0 if it does, -ESHUTDOWN, -EIO, or -EINVAL
 * while it is being built. */
int domain_refuses(const struct domain *domain);

/* Evaluates all equations. NULL, or the one that does not hold. Work: one
 * pass over the metadata. Comes to an end, and touches nothing but the
 * metadata, whatever is in it. */
const char *domain_check(const struct domain *domain);

/* Those of this file alone, which is a matter of some additions. */
const char *domain_check_sums(const struct domain *domain);

/* One of them does not hold: the domain is in DOMAIN_BROKEN from here on. */
void domain_declare_broken(struct domain *domain);

#endif
