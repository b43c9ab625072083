/* SPDX-License-Identifier: MIT */
#include "agent/agent.h"

#include "agent/config.h"
#include "agent/control.h"
#include "agent/monitor.h"
#include "agent/probe.h"
#include "agent/progress.h"
#include "agent/qemu.h"
#include "agent/stop.h"
#include "agent/the_guest.h"
#include "ctl/lock_holder.h"
#include "guest/plug.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MIB(bytes) ((bytes) >> 20)

/* Written by the constructor and, before there is a guest, on the one thread
 * that sets up QEMU's machine; constant afterwards. */
static struct config config;
static bool active;
static atomic_bool built; /* the domain, if only with the first block of RAM */
static pid_t owner_pid;   /* of the process that built the domain, not of its forks */

bool agent_active(void)
{
    return active;
}

bool agent_expects_ram(uint64_t bytes)
{
    return active && !qemu_machine_is_made() && bytes >= SUPERPAGE_BYTES &&
           bytes <= max_u64(config.max_bytes, config.maxmem_bytes);
}

/* Nothing of ours is left for the programs that QEMU may start. */
static void clean_environment(void)
{
    unsetenv(BALLAST_AGENT_ENV);
    if (config.preload[0] != '\0') {
        setenv("LD_PRELOAD", config.preload, 1);
    } else {
        unsetenv("LD_PRELOAD");
    }
    fcntl(config.lock_fd, F_SETFD, FD_CLOEXEC);
}

__attribute__((constructor)) static void agent_begin(void)
{
    const char *text = getenv(BALLAST_AGENT_ENV);
    const char *why = NULL;
    if (probe_answer() || text == NULL) {
        return;
    }
    int err = config_parse(text, &config, &why);
    enum qemu_presence presence = qemu_detect(err == 0 ? config.program : "");
    if (presence == QEMU_ABSENT) {
        return; /* a wrapper, perhaps: QEMU is yet to come */
    }
    if (err != 0) {
        stop(BALLAST_EXIT_REFUSED, "%s is not as it must be: %s; start QEMU with 'ballast run'",
             BALLAST_AGENT_ENV, why);
    }
    clean_environment();
    stop_prepare(config.directory);
    if (presence == QEMU_UNUSABLE) {
        stop(
            BALLAST_EXIT_REFUSED,
            "this QEMU cannot be a domain: it does not export the functions by which Ballast finds "
            "guest RAM (a build without modules?), and its debug symbols are not installed; use "
            "the "
            "distribution's QEMU, 7.2 or newer, or install the package with its debug symbols");
    }
    active = true;
}

/* A process that never made guest RAM ended its life before it began (-version,
 * say), or it is the parent that -daemonize leaves behind: then its child holds
 * the domain's lock, through the same open file as we until now. */
static bool is_held_by_others(void)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/%s", config.directory, BALLAST_LOCK_NAME);
    close(config.lock_fd);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    /* Left open if it is ours: whoever removes the files holds the lock. */
    return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0;
}

/* At QEMU's own exit. Faults are still served: its other threads run on. */
__attribute__((destructor)) static void agent_end(void)
{
    if (!active || (owner_pid != 0 && owner_pid != getpid())) {
        return;
    }
    if (owner_pid == 0 && is_held_by_others()) {
        return;
    }
    control_stop();
    stop_remove_files();
}

/* Whether the mapping at an address is private, which only /proc says. */
static bool is_private(haddr_t at)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512], permissions[8];
    bool found = false, is = false;
    while (maps != NULL && !found && fgets(line, sizeof(line), maps) != NULL) {
        uintptr_t begin, end;
        found = sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &begin, &end, permissions) == 3 &&
                begin <= at.a && at.a < end;
        is = found && permissions[3] == 'p';
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return is;
}

/* What the operator calls the target. */
static const char *target_word(void)
{
    return config.target_word[0] != '\0' ? config.target_word : "--target";
}

__attribute__((noreturn)) static void refuse_build(const struct guest_problem *problem, int err)
{
    switch (problem->failure) {
    case GUEST_FAILED_UFFD:
        if (err == -EPERM) {
            stop(BALLAST_EXIT_REFUSED, "userfaultfd is not permitted: serving the kernel's own "
                                       "accesses to guest RAM needs a "
                                       "right; open /dev/userfaultfd to this user, or set "
                                       "vm.unprivileged_userfaultfd=1, or give CAP_SYS_PTRACE");
        }
        if (err == -ENOSYS || err == -EOPNOTSUPP) {
            stop(BALLAST_EXIT_REFUSED,
                 "this kernel cannot move pages: it has no userfaultfd that does; use Linux 6.8 or "
                 "newer (6.12.37 or newer is advised)");
        }
        break;
    case GUEST_FAILED_MEMORY:
        if (err == -ENOMEM && problem->limit == MEMORY_LIMIT_OTHER) {
            stop(BALLAST_EXIT_REFUSED,
                 "the host cannot give the target: the kernel refuses %" PRIu64
                 " MiB, though they seem to be there; look at the limits on this process "
                 "(ulimit -v) and at vm.overcommit_memory, or lower %s",
                 MIB(config.target_bytes), target_word());
        }
        if (err == -ENOMEM) {
            stop(BALLAST_EXIT_REFUSED,
                 "the host cannot give the target: %" PRIu64 " MiB wanted, %" PRIu64
                 " MiB available %s; free memory or lower %s",
                 MIB(config.target_bytes), MIB(problem->available_bytes),
                 problem->limit == MEMORY_LIMIT_CGROUP ? "under the memory cgroup's limit"
                                                       : "on this host",
                 target_word());
        }
        break;
    case GUEST_FAILED_METADATA:
        if (err == -EINVAL) {
            stop(BALLAST_EXIT_REFUSED,
                 "the target does not fit: %" PRIu64
                 " MiB is not between 2 MiB and guest RAM; change %s, or raise -m",
                 MIB(config.target_bytes), target_word());
        }
        break;
    case GUEST_FAILED_REGISTER:
    case GUEST_FAILED_THREAD:
        break;
    }
    static const char *const steps[] = {
        [GUEST_FAILED_UFFD] = "open userfaultfd",
        [GUEST_FAILED_REGISTER] = "register guest RAM and cache with userfaultfd",
        [GUEST_FAILED_METADATA] = "map memory for its books",
        [GUEST_FAILED_MEMORY] = "move the target into the cache",
        [GUEST_FAILED_THREAD] = "start its threads",
    };
    stop(BALLAST_EXIT_REFUSED,
         "the domain cannot be built: to %s failed: %s; look at the limits on this process "
         "(ulimit -a), and at 'ballast doctor'",
         steps[problem->failure], strerror(-err));
}

/* Guest RAM of a kind that pages cannot be moved into. */
static void refuse_unservable(haddr_t at, uint64_t bytes, const struct qemu_block *block)
{
    if (strcmp(block->owner_type, "memory-backend-ram") != 0) {
        stop(
            BALLAST_EXIT_REFUSED,
            "guest RAM '%s' cannot be served: it is a %s, and only private anonymous memory can be "
            "moved; use plain -m, or memory-backend-ram without share=on",
            block->name, block->owner_type);
    }
    if (!is_private(at)) {
        stop(BALLAST_EXIT_REFUSED,
             "guest RAM '%s' cannot be served: it is shared memory, and only private memory can be "
             "moved; leave out share=on",
             block->name);
    }
    if (at.a % SUPERPAGE_BYTES != 0) {
        stop(BALLAST_EXIT_REFUSED,
             "guest RAM '%s' cannot be served: it is not aligned to 2 MiB in QEMU's memory; leave "
             "out "
             "its align option",
             block->name);
    }
    if (!atomic_load(&built) && config.max_bytes != 0 && bytes > config.max_bytes) {
        stop(BALLAST_EXIT_REFUSED,
             "guest RAM '%s' is not what it should be: it has %" PRIu64 " MiB, and -m says %" PRIu64
             " MiB; make them agree",
             block->name, MIB(bytes), MIB(config.max_bytes));
    }
}

/* What guest RAM may grow to. If the launcher could not tell, we have seen the first block of
 * it, and reserve address space for four times as much. */
#define SPAN_UNKNOWN 4

static uint64_t span_of(uint64_t first_bytes)
{
    uint64_t known = max_u64(config.max_bytes, config.maxmem_bytes);
    return known != 0 ? known : SPAN_UNKNOWN * first_bytes;
}

/* What the guest has given up means nothing to anybody: it need not be read, which
 * would take pages that a guest who uses all it has cannot spare. */
static void on_round(void)
{
    guest_for_each_out(&the_guest, qemu_skip);
}

/* The guest's balloon driver, once it is up, finds what is asked of it. */
static void on_ready(void)
{
    guest_review_blocks(&the_guest, qemu_block_is_mapped);
    if (guest_complete(&the_guest) != 0) {
        const struct guest_problem problem = {.failure = GUEST_FAILED_METADATA};
        refuse_build(&problem, -EINVAL);
    }
    qemu_ask_balloon(config.target_bytes);
}

/* The guest uses a DIMM, or no longer has it: what the balloon leaves the guest is counted
 * from all that there is, so it is asked again. */
static void on_taken(void *unused)
{
    (void)unused;
    qemu_ask_balloon_again();
}

static void on_dimm(haddr_t at, bool used)
{
    guest_use(&the_guest, at, used);
    if (!used) {
        qemu_ask_balloon_again();
    }
}

static bool serves(haddr_t at)
{
    return guest_owns(&the_guest, at, 1);
}

/* Firmware of PCs lives below 1 MiB, in a copy that it made in RAM, and the CPU starts
 * in it: a reset leaves that alone. */
static void on_reset(void)
{
    if (guest_exists(&the_guest)) {
        guest_restart(&the_guest, SUPERPAGE_BYTES);
    }
}

static void on_event(void *unused, enum guest_event_kind kind)
{
    (void)unused;
    (void)kind;
    control_notify();
}

static void on_building(void *unused, uint64_t ready_bytes, uint64_t bytes)
{
    (void)unused;
    progress_show(config.name, ready_bytes, bytes);
}

/* Who we are and whom we live with, for reports. */
static char programs[PATH_MAX + 64];

static void note_programs(void)
{
    char path[PATH_MAX] = "";
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[length > 0 ? length : 0] = '\0';
    snprintf(programs, sizeof(programs), "ballast " BALLAST_VERSION ", QEMU %s (%s)",
             qemu_version(), path);
}

/* Ends QEMU if the domain cannot be built, or waits for the end if it was destroyed
 * meanwhile. */
static void see_built(int err, const struct guest_problem *problem)
{
    progress_end();
    if (err == -ESHUTDOWN) {
        for (;;) {
            pause(); /* destroyed while it was built: the process ends under us */
        }
    }
    if (err != 0) {
        refuse_build(problem, err);
    }
}

/* Guest RAM after the first block, while the machine is made. */
static void see_another(haddr_t at, uint64_t bytes, const struct qemu_block *block)
{
    struct guest_problem problem;
    int err = guest_plug(&the_guest, at, bytes, true, &problem);
    if (err == -ENOSPC) {
        stop(BALLAST_EXIT_REFUSED,
             "guest RAM '%s' cannot be served: with it there is more than -m's size and maxmem "
             "say, or more than %d blocks; give the guest less, or say maxmem",
             block->name, BLOCKS_MAX);
    }
    if (err == -EINVAL) {
        stop(BALLAST_EXIT_REFUSED,
             "guest RAM '%s' cannot be served: where there is more than one block, superpages "
             "must not be cut short; make the size of each a multiple of 2 MiB",
             block->name);
    }
    see_built(err, &problem);
}

static void see_first(haddr_t at, uint64_t bytes)
{
    if (qemu_require_discards() != 0) {
        stop(BALLAST_EXIT_REFUSED,
             "guest RAM cannot be served: a device of this guest pins all of its RAM (VFIO, SEV or "
             "RDMA), so that nothing can be moved; leave that device out");
    }
    static const struct qemu_hooks hooks = {
        .ready = on_ready,
        .reset = on_reset,
        .round = on_round,
        .serves = serves,
        .dimm = on_dimm,
    };
    const struct guest_options options = {
        .span_bytes = span_of(bytes),
        .reserve = config.reserve,
        .on_event = on_event,
        .on_building = on_building,
        .on_taken = on_taken,
        .on_unserved = the_guest_unserved,
        .on_broken = the_guest_broken,
    };
    qemu_set_hooks(&hooks);
    note_programs();
    the_guest_policy = (struct the_guest_policy){.pause = config.pause, .programs = programs};
    atomic_store(&built, true);
    owner_pid = getpid();
    lock_holder_write_pid(config.lock_fd);
    int err = control_start(&config);
    if (err != 0) {
        stop(BALLAST_EXIT_REFUSED,
             "the domain cannot be built: it cannot listen in %s: %s; set BALLAST_RUNTIME_DIR to "
             "another folder",
             config.directory, strerror(-err));
    }
    struct guest_problem problem;
    err = guest_build(&the_guest, at, bytes, config.target_bytes, &options, &problem);
    see_built(err, &problem);
    err = config.balloon_sets_target ? monitor_take_over() : 0;
    if (err != 0) {
        stop(
            BALLAST_EXIT_REFUSED,
            "the domain cannot follow QEMU's balloon command: %s; use the distribution's QEMU, 7.2 "
            "or newer",
            err == -ENOSYS ? "this QEMU does not export what that takes" : strerror(-err));
    }
}

void agent_see_block(haddr_t at, uint64_t bytes)
{
    struct qemu_block block;
    if (!active || guest_owns(&the_guest, at, bytes) || !qemu_find_block(at, &block)) {
        return;
    }
    bool starting = !qemu_machine_is_made();
    if (strncmp(block.owner_type, "memory-backend-", 15) != 0) {
        if (starting && config.max_bytes != 0 && bytes == config.max_bytes &&
            !atomic_load(&built) && block.owner_type[0] == '\0') {
            stop(BALLAST_EXIT_REFUSED,
                 "guest RAM '%s' cannot be served: it has no memory backend; choose another "
                 "-machine",
                 block.name);
        }
    } else if (!starting) {
        /* For a DIMM, perhaps: who plugs one whose memory we do not serve is told. */
        struct guest_problem problem;
        if (strcmp(block.owner_type, "memory-backend-ram") == 0 && is_private(at)) {
            guest_plug(&the_guest, at, bytes, false, &problem);
        }
    } else {
        refuse_unservable(at, bytes, &block);
        if (atomic_load(&built)) {
            see_another(at, bytes, &block);
        } else {
            see_first(at, bytes);
        }
    }
}

int agent_set_policy(haddr_t at, uint64_t bytes, const struct memory_policy *policy)
{
    if (qemu_machine_is_made()) {
        /* What is in the cache came from anywhere: for a DIMM it is too late. */
        return -EOPNOTSUPP;
    }
    int err = guest_set_policy(&the_guest, at, bytes, policy);
    if (err == -EOPNOTSUPP) {
        stop(BALLAST_EXIT_REFUSED,
             "the host's NUMA nodes cannot be chosen by block: pages move between the blocks of "
             "guest RAM; give all memory back ends the same host-nodes and policy");
    }
    if (err != 0) {
        stop(BALLAST_EXIT_REFUSED,
             "guest RAM cannot be on the NUMA nodes that host-nodes names: %s; free memory on "
             "those nodes, lower --target, or name others",
             strerror(-err));
    }
    return 0;
}
