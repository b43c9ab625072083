/* SPDX-License-Identifier: MIT */
/*
 * Streams of engine operations on the fake host, with failures: four bytes an
 * operation. After each the engine's equations hold, the host agrees with the
 * ledgers, and what the guest wrote last is what it would read.
 */
#include "fuzz.h"

#include "fake_domain.h"

#include <errno.h>
#include <string.h>

#define SP         SUPERPAGE_PAGES
#define MAX_PAGES  (6 * SP + 40)
#define OPERATIONS 256
#define STEP_PAGES 700

static struct fake_domain fake;
static uint32_t wrote[MAX_PAGES];

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
    pages_t target = (pages_t)size * MAX_PAGES / 255;
    int err = domain_set_target(&fake.domain, target);
    must(err != 0 || fake.domain.target_pages == target);
    return err;
}

static int operate(const uint8_t *op)
{
    gfn_t at = gfn(((uint64_t)op[1] << 8 | op[2]) % MAX_PAGES);
    pages_t pages = (pages_t)op[3] * 5 + 1;
    pages = pages < MAX_PAGES - at.n ? pages : MAX_PAGES - at.n;
    bool more;
    pages_t left;
    int err = 0;
    switch (op[0] % 12) {
    case 0:
    case 1:
    case 2: { /* the guest writes */
        enum p2m_state before = p2m_get(&fake.domain.p2m, at);
        if (before == P2M_GIVEN) {
            return 0; /* fuzz_engine knows nothing of pages that are used while given up */
        }
        if (before != P2M_RAM) {
            err = domain_populate(&fake.domain, at);
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
        err = domain_discard(&fake.domain, at, pages);
        if (err == 0) {
            memset(wrote + at.n, 0, pages * sizeof(wrote[0]));
        }
        break;
    case 5:
        err = domain_decrease_reservation(&fake.domain, at, pages);
        if (err == 0) {
            memset(wrote + at.n, 0, pages * sizeof(wrote[0]));
        }
        break;
    case 6:
        err = domain_increase_reservation(&fake.domain, at, pages);
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
    default:
        if (op[1] == 255 && op[2] == 255) {
            domain_begin_dying(&fake.domain);
        }
        err = domain_drain_step(&fake.domain, pages, &left);
        must((err == -EINVAL) == (fake.domain.state != DOMAIN_DYING));
        break;
    }
    must(!is_fatal(err)); /* no failure that is scheduled here may be */
    must(fake.domain.state != DOMAIN_BROKEN);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5 || size > 4 * OPERATIONS) {
        return -1;
    }
    pages_t target = SP + (pages_t)data[0] * (MAX_PAGES - SP) / 255;
    memset(wrote, 0, sizeof(wrote));
    fake_domain_start(&fake, MAX_PAGES, target);
    for (size_t at = 1; at + 4 <= size; at += 4) {
        operate(data + at);
        const char *wrong = fake_domain_check(&fake, false);
        if (wrong != NULL) {
            fprintf(stderr, "operation %zu: %s\n", at / 4, wrong);
            abort();
        }
        check_contents(gfn(((uint64_t)data[at + 1] << 8 | data[at + 2]) % MAX_PAGES));
    }
    for (pages_t i = 0; i < MAX_PAGES; i++) {
        if (fake_guest_tokens(&fake.host, p2m_index(gfn(i)))[i % SP] != wrote[i]) {
            check_contents(gfn(i)); /* it may be one that was given up */
        }
    }
    must(fake_domain_check(&fake, true) == NULL);
    fake_domain_free(&fake);
    return 0;
}
