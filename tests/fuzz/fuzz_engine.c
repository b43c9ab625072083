/* SPDX-License-Identifier: MIT */
/*
 * Streams of engine operations on the fake host, with failures: four bytes an
 * operation. After each the engine's equations hold, the host agrees with the
 * ledgers, and what the guest wrote last is what it would read.
 *
 * Guest RAM ends with a superpage that is cut short, behind which nothing can be
 * plugged; in a stream that plugs or unplugs it is of whole superpages, with room for more.
 */
#include "fuzz.h"

#include "fake_domain.h"

#include <errno.h>
#include <string.h>

#define SP          SUPERPAGE_PAGES
#define SHORT_PAGES (6 * SP + 40) /* guest RAM that stays as it is */
#define WHOLE_PAGES (4 * SP)      /* that comes and goes: at first */
#define SUPERPAGES  8             /* and at most */
#define OPERATIONS  256
#define PLUGS       240 /* a first byte from here on: plug or unplug */

static struct fake_domain fake;
static pages_t span;             /* what max may grow to */
static bool plugged[SUPERPAGES]; /* which superpages there must be */
static uint32_t wrote[SUPERPAGES * SP];

static bool exists(gfn_t at, pages_t pages)
{
    bool all = at.n + pages <= span;
    for (pages_t i = at.n / SP; all && i * SP < at.n + pages; i++) {
        all = plugged[i];
    }
    return all;
}

static void plugs(gfn_t at, pages_t pages, bool there)
{
    for (pages_t i = 0; i < pages; i += SP) {
        plugged[p2m_index(gfn_add(at, i))] = there;
    }
}

static bool is_fatal(int err)
{
    return err == -EIO || err == -ESRCH;
}

/* What the guest reads at a gfn is what it wrote there, unless it gave the page
 * up, after which it may find it as it was or zeroed. */
static void check_contents(gfn_t at)
{
    uint32_t token = 0;
    bool present = fake_guest_read(&fake.host, at, &token);
    enum p2m_state state = p2m_get(&fake.domain.p2m, at);
    if (state == P2M_OUT || state == P2M_GIVEN) {
        return;
    }
    must(present ? token == wrote[at.n] : wrote[at.n] == 0);
}

/* What is asked of gfns that are not all there is refused. */
static int checked(int err, gfn_t at, pages_t pages)
{
    must(fake.domain.state == DOMAIN_DYING ? err == -ESHUTDOWN
                                           : exists(at, pages) == (err != -EINVAL));
    return err;
}

static int give_up(gfn_t at, pages_t pages)
{
    int err = checked(domain_decrease_reservation(&fake.domain, at, pages), at, pages);
    if (err == 0) {
        memset(wrote + at.n, 0, pages * sizeof(wrote[0]));
    }
    return err;
}

/* So many superpages go to the lowest hole that is large enough. */
static int plug(unsigned superpages)
{
    unsigned run = 0, end = 0;
    for (; end < span / SP && run < superpages; end++) {
        run = plugged[end] ? 0 : run + 1;
    }
    gfn_t at = gfn(UINT64_MAX);
    int err = domain_plug(&fake.domain, superpages * SP, &at);
    if (fake.domain.state == DOMAIN_DYING) {
        must(err == -ESHUTDOWN);
    } else if (run < superpages) {
        must(err == -ENOSPC);
    } else {
        must(err == 0 && at.n == (end - superpages) * SP);
        plugs(at, superpages * SP, true);
    }
    return err;
}

/* They go wherever they are, given up before as a rule. */
static int unplug(gfn_t at, unsigned superpages, bool given_up)
{
    pages_t pages = superpages * SP, max = fake.domain.p2m.max_pages, in_place = 0;
    int err = given_up ? give_up(at, pages) : 0;
    if (err == 0 && given_up) {
        err = domain_collect(&fake.domain, at, pages);
    }
    if (err != 0) {
        return err;
    }
    for (pages_t i = 0; i < pages && at.n + i < span; i++) {
        in_place += fake_guest_has(&fake.host, gfn_add(at, i));
    }
    pages_t total = fake.domain.total_pages, target = fake.domain.target_pages;
    err = domain_unplug(&fake.domain, at, pages);
    must(fake.domain.total_pages == total);
    must(fake.domain.target_pages == min_u64(target, fake.domain.p2m.max_pages));
    if (fake.domain.state == DOMAIN_DYING) {
        must(err == -ESHUTDOWN);
    } else if (!exists(at, pages) || max - pages < SP) {
        must(err == -EINVAL);
    } else {
        must(err == (in_place != 0 ? -EBUSY : 0));
    }
    if (err == 0) {
        plugs(at, pages, false);
        memset(wrote + at.n, 0, pages * sizeof(wrote[0]));
        for (pages_t i = 0; i < pages; i += SP) {
            fake_guest_unmap(&fake.host, gfn_add(at, i));
        }
    }
    return err;
}

/* One of the two halves of a recovery: other operations come in between. */
static int recover(void)
{
    if (fake.domain.recovery.held) {
        fake_guest_merge(&fake.host, p2m_first_gfn(fake.domain.recovery.index));
        domain_recover_end(&fake.domain, true);
        return 0;
    }
    gfn_t at;
    return domain_recover_begin(&fake.domain, &at);
}

static int change_target(uint8_t size)
{
    pages_t target = (pages_t)size * span / 255;
    int err = domain_set_target(&fake.domain, target);
    must(err != 0 || fake.domain.target_pages == target);
    return err;
}

static int operate(const uint8_t *op)
{
    gfn_t at = gfn(((uint64_t)op[1] << 8 | op[2]) % span);
    pages_t pages = (pages_t)op[3] * 5 + 1;
    pages = pages < span - at.n ? pages : span - at.n;
    bool more;
    pages_t left;
    int err = 0;
    switch (op[0] < PLUGS ? op[0] % 12 : 12 + op[0] % 2) {
    case 0:
    case 1:
    case 2: { /* the guest writes */
        enum p2m_state before = p2m_get(&fake.domain.p2m, at);
        if (before == P2M_GIVEN) {
            return 0; /* fuzz_engine knows nothing of pages that are used while given up */
        }
        if (before != P2M_RAM) {
            err = checked(domain_populate(&fake.domain, at), at, 1);
        }
        if (err == 0 && fake_guest_write(&fake.host, at, op[3])) {
            wrote[at.n] = op[3];
        }
        break;
    }
    case 3: /* it zeroes a run */
        for (pages_t i = 0; i < pages; i++) {
            if (fake_guest_write(&fake.host, gfn_add(at, i), 0)) {
                wrote[at.n + i] = 0;
            }
        }
        break;
    case 4:
        err = checked(domain_discard(&fake.domain, at, pages), at, pages);
        if (err == 0) {
            memset(wrote + at.n, 0, pages * sizeof(wrote[0]));
        }
        break;
    case 5:
        err = give_up(at, pages);
        break;
    case 6:
        err = checked(domain_increase_reservation(&fake.domain, at, pages), at, pages);
        break;
    case 7:
        err = change_target(op[3]);
        break;
    case 8:
        err = domain_settle_step(&fake.domain, pages, &more);
        break;
    case 9: /* what the agent does beside the faults */
        if (op[3] % 4 < 2) {
            err = domain_reserve_step(&fake.domain, &more);
        } else if (op[3] % 4 == 2) {
            err = domain_reclaim_eagerly(&fake.domain);
        } else {
            err = recover();
        }
        break;
    case 10: /* the host fails once, soon */
        if (fake.host.failure_count < FAKE_FAILURES) {
            static const int errors[] = {-EAGAIN, -EBUSY, -ENOMEM};
            enum fake_op which = op[1] % 3 == 0   ? FAKE_ALLOCATE
                                 : op[1] % 3 == 1 ? FAKE_PLACE
                                                  : FAKE_TAKE;
            int error = which == FAKE_ALLOCATE ? errors[op[2] % 2 * 2] : errors[op[2] % 2];
            fake_host_fail(
                &fake.host,
                (struct fake_failure){
                    .op = which, .err = error, .skip = op[3] % 4, .times = 1, .after = op[3] / 4});
        }
        break;
    case 11:
        if (op[1] == 255 && op[2] == 255) {
            domain_begin_dying(&fake.domain);
        }
        err = domain_drain_step(&fake.domain, pages, &left);
        must((err == -EINVAL) == (fake.domain.state != DOMAIN_DYING));
        break;
    case 12:
        err = plug(1 + op[1] % 3);
        break;
    default:
        err = unplug(gfn(op[1] % SUPERPAGES * SP), 1 + op[2] % 3, op[3] % 8 != 0);
        break;
    }
    must(!is_fatal(err)); /* no failure that is scheduled here may be */
    must(fake.domain.state != DOMAIN_BROKEN);
    return err;
}

static bool has_plugs(const uint8_t *data, size_t size)
{
    bool any = false;
    for (size_t at = 1; at + 4 <= size; at += 4) {
        any |= data[at] >= PLUGS;
    }
    return any;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5 || size > 4 * OPERATIONS) {
        return -1;
    }
    bool room = has_plugs(data, size);
    pages_t max = room ? WHOLE_PAGES : SHORT_PAGES;
    pages_t target = SP + (pages_t)data[0] * (max - SP) / 255;
    span = room ? SUPERPAGES * SP : max;
    memset(wrote, 0, sizeof(wrote));
    memset(plugged, 0, sizeof(plugged));
    plugs(gfn(0), max, true);
    fake_domain_start_with_room(&fake, max, span, target);
    for (size_t at = 1; at + 4 <= size; at += 4) {
        operate(data + at);
        const char *wrong = fake_domain_check(&fake, false);
        if (wrong != NULL) {
            fprintf(stderr, "operation %zu: %s\n", at / 4, wrong);
            abort();
        }
        check_contents(gfn(((uint64_t)data[at + 1] << 8 | data[at + 2]) % span));
    }
    for (pages_t i = 0; i < span; i++) {
        if (fake_guest_tokens(&fake.host, p2m_index(gfn(i)))[i % SP] != wrote[i]) {
            check_contents(gfn(i)); /* it may be one that was given up */
        }
    }
    must(fake_domain_check(&fake, true) == NULL);
    fake_domain_free(&fake);
    return 0;
}
