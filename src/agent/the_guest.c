/* SPDX-License-Identifier: MIT */
#include "agent/the_guest.h"

#include "agent/postmortem.h"
#include "agent/stop.h"
#include "guest/state.h"

#include <errno.h>
#include <inttypes.h>

struct guest the_guest = GUEST_INITIALIZER;
struct the_guest_policy the_guest_policy;

__attribute__((noreturn)) static void stop_exhausted(gfn_t at)
{
    const struct domain *domain = &the_guest.domain;
    stop(BALLAST_EXIT_EXHAUSTED,
         "out of memory: the guest touched gfn 0x%" PRIx64 ", all %" PRIu64
         " pages of the target (%" PRIu64
         " MiB) are in use and none holds only zeros, with %" PRIu64
         " PoD entries left; start it with a larger --target, let its balloon driver start "
         "earlier, or choose --on-exhaustion pause",
         at.n, domain->total_pages, pages_to_bytes(domain->total_pages) >> 20,
         p2m_pod_pages(&domain->p2m));
}

void the_guest_unserved(void *unused, gfn_t at, int err)
{
    (void)unused;
    if (err == -ENOSPC) {
        if (the_guest_policy.pause) {
            return;
        }
        stop_exhausted(at);
    }
    stop(BALLAST_EXIT_BROKEN,
         "the host could not place a page at gfn 0x%" PRIx64
         " for ten seconds: it has no memory left for page tables, or something holds on to "
         "the domain's free pages; free memory on the host",
         at.n);
}

void the_guest_broken(void *unused, const char *operation, gfn_t at)
{
    (void)unused;
    static char report[32 * 1024];
    stop_begin();
    guest_freeze(&the_guest);
    struct postmortem postmortem = {
        .noticed = operation,
        .at = at,
        .programs = the_guest_policy.programs,
        .domain = &the_guest.domain,
        .history = &the_guest.history,
        .host = &the_guest.host,
    };
    /* First without the equations, should their evaluation go wrong too. */
    postmortem_write(&postmortem, report, sizeof(report));
    stop_keep(report);
    postmortem.equation = domain_check(&the_guest.domain);
    postmortem.checked = true;
    postmortem_write(&postmortem, report, sizeof(report));
    const char *path = stop_keep(report);
    stop_end(BALLAST_EXIT_BROKEN, report,
             "internal error in %s at gfn 0x%" PRIx64
             " (%s): the guest was stopped, for its memory can no longer be vouched for; please "
             "report it, with %s%s",
             operation, at.n,
             postmortem.equation != NULL ? postmortem.equation : "all equations hold",
             path != NULL ? path : "what follows", path != NULL ? ", which is what follows" : "");
}
