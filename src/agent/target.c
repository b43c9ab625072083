/* SPDX-License-Identifier: MIT */
#include "agent/target.h"

#include "agent/qemu.h"
#include "agent/the_guest.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#define MIB(bytes) ((bytes) >> 20)

/* Says what kept a target from being set. Returns err. */
static int explain(int err, const struct guest_problem *problem, struct ctl_error *error)
{
    struct guest_report r;
    guest_describe(&the_guest, &r);
    switch (err) {
    case -EINVAL:
        ctl_error_set(error, CTL_INVALID_ARGUMENT,
                      "the target must be at least 2 MiB and at most max, %" PRIu64 " MiB",
                      MIB(pages_to_bytes(r.max_pages)));
        break;
    case -ENOMEM:
        if (problem->limit == MEMORY_LIMIT_OTHER) {
            ctl_error_set(error, CTL_HOST_MEMORY,
                          "the kernel refuses the memory, though it seems to be there; look at the "
                          "limits on the process and at vm.overcommit_memory");
            break;
        }
        if (problem->limit == MEMORY_LIMIT_DESCRIPTORS) {
            ctl_error_set(error, CTL_HOST_MEMORY,
                          "QEMU has no file descriptor left to see with how much memory the host "
                          "has, and nothing is taken unseen; raise its limit (prlimit --nofile)");
            break;
        }
        ctl_error_set(error, CTL_HOST_MEMORY,
                      "the host can give %" PRIu64
                      " MiB more at most (%s); free memory or ask for less",
                      MIB(problem->available_bytes),
                      problem->limit == MEMORY_LIMIT_CGROUP ? "its memory cgroup is the limit"
                                                            : "MemAvailable, less some headroom");
        break;
    case -ESHUTDOWN:
        ctl_error_set(error, CTL_WRONG_STATE, "the domain is dying; start it again to have one");
        break;
    case -EBUSY:
        ctl_error_set(error, CTL_BUSY, "%s; try again",
                      r.state == DOMAIN_BUILDING ? "the domain is still being built"
                                                 : "another change of the target is under way");
        break;
    case -EIO:
        if (r.state == DOMAIN_BROKEN) {
            ctl_error_set(error, CTL_WRONG_STATE,
                          "the domain ends because of an internal error; see what QEMU's standard "
                          "error says");
            break;
        }
        __attribute__((fallthrough));
    default:
        ctl_error_set(error, CTL_BUSY, "the host cannot move memory just now (%s); try again",
                      strerror(-err));
        break;
    }
    return err;
}

/* Asks the balloon for the target that stands. Two threads may have set one each: who
 * asks last has looked last. */
static void ask_balloon(void)
{
    static pthread_mutex_t asking = PTHREAD_MUTEX_INITIALIZER;
    struct guest_report r;
    pthread_mutex_lock(&asking);
    guest_describe(&the_guest, &r);
    qemu_ask_balloon(pages_to_bytes(r.target_pages));
    pthread_mutex_unlock(&asking);
}

/* What a step of a change of the target came to. */
static int after_step(int err, bool more, const struct guest_problem *problem,
                      struct ctl_error *error)
{
    if (err != 0) {
        return explain(err, problem, error);
    }
    if (!more) {
        ask_balloon();
    }
    return 0;
}

int target_set(uint64_t bytes, bool *more, struct ctl_error *error)
{
    struct guest_problem problem = {0};
    int err = guest_set_target(&the_guest, bytes, more, &problem);
    return after_step(err, *more, &problem, error);
}

int target_step(bool *more, struct ctl_error *error)
{
    struct guest_problem problem = {0};
    int err = guest_set_target_step(&the_guest, more, &problem);
    return after_step(err, *more, &problem, error);
}
