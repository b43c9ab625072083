/* SPDX-License-Identifier: MIT */
/*
 * ballast run: becomes QEMU, with the agent in it. Signals, terminal and exit
 * status need no passing on, because the process stays the same.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ballast/protocol.h>

#include "base/size.h"
#include "base/types.h"
#include "cli.h"
#include "ctl/runtime_dir.h"
#include "launch.h"
#include "qemu_args.h"

static const char help[] =
    "Usage: ballast run [OPTIONS] --target SIZE [--] QEMU ARGUMENTS...\n"
    "\n"
    "Runs QEMU as a domain: the guest believes in all the memory that -m says, and\n"
    "costs the host the target and not a page more, from before its first\n"
    "instruction to its end.\n"
    "\n"
    "Options:\n"
    "  --target SIZE  memory that the domain gets: a number and K, M, G or T, at\n"
    "                 least 2M, at most what -m says\n"
    "  --name NAME    what 'ballast ls' and the others call it; without this, what\n"
    "                 QEMU's -name says, or vm-PID\n"
    "  --on-exhaustion crash|pause\n"
    "                 when the guest needs more than the target: end QEMU with\n"
    "                 status 86, or let the guest wait for 'ballast set' (crash)\n"
    "  --no-reserve   do not work ahead to keep free superpages in the cache\n"
    "  --no-balloon   do not add a virtio-balloon to QEMU's arguments; without this\n"
    "                 one is added, unless they have one or the machine takes none\n"
    "  --balloon-sets-target\n"
    "                 QMP's balloon sets the target, too, and query-balloon says what\n"
    "                 the domain owns: for managers that know balloons and not us\n"
    "\n"
    "Examples:\n"
    "  ballast run --target 256M -- qemu-system-x86_64 -m 4G -nographic disk.img\n"
    "  ballast run --name web --target 1.5G qemu-system-x86_64 -m 8G web.img\n"
    "\n"
    "Exit status: QEMU's own, or\n"
    "   2  the command line is wrong; nothing was started\n"
    "  82  'ballast destroy' ended the domain\n"
    "  84  the domain could not be built; the guest never ran\n"
    "  86  the domain ran out of memory\n"
    "  88  the agent found its own state wrong and stopped the guest\n";

static int check_sizes(const struct launch *plan)
{
    char target[SIZE_TEXT_BYTES];
    char max[SIZE_TEXT_BYTES];

    size_format(plan->target_bytes, target);
    size_format(plan->max_bytes, max);
    if (plan->max_bytes > MAX_DOMAIN_BYTES) {
        return cli_usage_error("run",
                               "QEMU's -m is too large: it says %s, and a domain has at "
                               "most 16 TiB",
                               max);
    }
    if (plan->max_bytes != 0 && plan->target_bytes > plan->max_bytes) {
        return cli_usage_error("run",
                               "--target %s is above the guest's memory, %s: lower the target or "
                               "raise QEMU's -m",
                               target, max);
    }
    return 0;
}

/* Chooses the name: ours, QEMU's, or one from the process id. */
static int choose_name(struct launch *plan, const char *given, const char *guest_name)
{
    if (given == NULL && guest_name != NULL && !runtime_name_is_valid(guest_name)) {
        return cli_usage_error("run",
                               "QEMU's -name '%s' cannot be the domain's name too: only letters, "
                               "digits, '.', '_' and '-' can be in it, %d at most; give one with "
                               "--name",
                               guest_name, BALLAST_NAME_MAX_BYTES);
    }
    if (given == NULL && guest_name == NULL) {
        snprintf(plan->name, sizeof(plan->name), "vm-%ld", (long)getpid());
        return 0;
    }
    if (given == NULL) {
        given = guest_name;
    }
    if (cli_check_name("run", given) != 0) {
        return BALLAST_EXIT_USAGE;
    }
    memcpy(plan->name, given, strlen(given) + 1);
    return 0;
}

static int read_policy(struct launch *plan, const char *text)
{
    plan->pause = strcmp(text, "pause") == 0;
    if (!plan->pause && strcmp(text, "crash") != 0) {
        return cli_usage_error("run", "--on-exhaustion '%s' is not known: say crash or pause",
                               text);
    }
    return 0;
}

/* Appends a device to QEMU's command line. Devices get their slots in the order
 * of the arguments, so that the guest finds its own where they were. 0 or
 * -ENOMEM. */
static int append_device(struct launch *plan, const char *device)
{
    size_t count = 0;
    char **argv;

    while (plan->argv[count] != NULL) {
        count++;
    }
    argv = calloc(count + 3, sizeof(*argv));
    if (argv == NULL) {
        return -ENOMEM;
    }
    memcpy(argv, plan->argv, count * sizeof(*argv));
    argv[count] = (char *)"-device";
    argv[count + 1] = (char *)device;
    /* It is ours until the process becomes QEMU. */
    plan->argv = argv;
    return 0;
}

/* Reads QEMU's command line into the plan. 0 or an exit status. */
static int read_qemu(struct launch *plan, const char *given_name, bool no_balloon)
{
    struct qemu_args_problem problem;
    struct qemu_args args;
    int ret = qemu_args_read(plan->argv, &args, &problem);

    if (ret == -EINVAL) {
        return cli_usage_error("run", "%s", problem.text);
    }
    if (ret < 0) {
        cli_error("%s", ret == -ENOTSUP ? problem.text : strerror(-ret));
        return BALLAST_EXIT_REFUSED;
    }
    plan->max_bytes = args.max_bytes;
    plan->maxmem_bytes = args.maxmem_bytes;
    ret = choose_name(plan, given_name, args.guest_name);
    qemu_args_free(&args);
    if (ret == 0) {
        ret = check_sizes(plan);
    }
    if (ret == 0 && args.balloon != NULL && !no_balloon && append_device(plan, args.balloon) < 0) {
        cli_error("QEMU cannot be started: out of memory; free some and try again");
        ret = BALLAST_EXIT_REFUSED;
    }
    return ret;
}

static int run(int argc, char **argv)
{
    const char *target = NULL;
    const char *name = NULL;
    const char *policy = "crash";
    static struct launch plan = {.target_word = "--target"};
    bool no_balloon = false;
    const struct cli_option options[] = {
        {"--target", &target, NULL},
        {"--name", &name, NULL},
        {"--on-exhaustion", &policy, NULL},
        {"--no-reserve", NULL, &plan.no_reserve},
        {"--no-balloon", NULL, &no_balloon},
        {"--balloon-sets-target", NULL, &plan.balloon_sets_target},
        {NULL, NULL, NULL},
    };
    char base[PATH_MAX];
    int rest;
    int ret = cli_read_options(&cmd_run, options, argc, argv, &rest);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (target == NULL) {
        return cli_usage_error("run", "--target is missing: say how much memory the domain gets");
    }
    if (rest == argc) {
        return cli_usage_error("run", "QEMU's command line is missing: write it after the options");
    }
    plan.argv = argv + rest;
    ret = cli_read_target("run", "--target", target, &plan.target_bytes);
    if (ret == 0) {
        ret = read_policy(&plan, policy);
    }
    if (ret == 0) {
        ret = read_qemu(&plan, name, no_balloon);
    }
    if (ret == 0) {
        ret = launch_check_host(&plan);
    }
    if (ret == 0 && cli_find_base(base) != 0) {
        ret = BALLAST_EXIT_REFUSED;
    }
    return ret != 0 ? ret : launch(&plan, base);
}

const struct cli_command cmd_run = {
    .name = "run",
    .summary = "run QEMU with less memory than the guest believes in",
    .help = help,
    .run = run,
};
