/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor: what this host offers and lacks. It looks and tries; it changes
 * nothing.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli.h"
#include "ctl/runtime_dir.h"
#include "doctor.h"
#include "domain.h"
#include "host_check.h"

static const char help[] =
    "Usage: ballast doctor [--json | --fix]\n"
    "\n"
    "Looks at what this host has for domains, for the user who asks: kernel,\n"
    "userfaultfd, memory and its limits, huge pages, KVM, QEMU, the agent, libvirt.\n"
    "Moving a page and creating a VM with KVM are tried for real, and each QEMU is\n"
    "run to ask its version. Nothing is changed.\n"
    "\n"
    "  ok       as it should be\n"
    "  note     domains run; something could be better, or may surprise\n"
    "  problem  no domain can run; after '->' stands what to do\n"
    "\n"
    "Options:\n"
    "  --json  print one object, with 'fit' and an array 'findings'\n"
    "  --fix   print, instead, commands for root that would make it better, made for\n"
    "          Debian; none is run\n"
    "\n"
    "Examples:\n"
    "  ballast doctor\n"
    "  ballast doctor --fix >fix.sh    # read it, then: sudo sh fix.sh\n"
    "  ballast doctor --json | jq -r '.findings[] | select(.level != \"ok\") | .what'\n"
    "\n"
    "Exit status: 0 if domains can run here, 1 if not.\n";

/* Can the domains' folders be made? */
static void look_at_runtime(const char *user, struct findings *findings)
{
    char base[PATH_MAX];
    int ret = runtime_base(base, sizeof(base));
    char *slash = ret == 0 ? strrchr(base, '/') : NULL;
    struct finding *finding;

    if (slash != NULL && access(base, F_OK) < 0) {
        *slash = '\0';
        ret = access(slash == base ? "/" : base, W_OK) < 0 ? -errno : 0;
        *slash = '/';
    }
    if (ret == 0) {
        findings_add(findings, FINDING_OK, "runtime-folder", "domains keep their files in %s",
                     base);
        return;
    }
    if (slash == NULL) {
        finding = findings_add(findings, FINDING_PROBLEM, "runtime-folder",
                               "there is no place for the domains' files: %s",
                               ret == -ENOENT ? "XDG_RUNTIME_DIR is not set" : strerror(-ret));
    } else {
        finding = findings_add(findings, FINDING_PROBLEM, "runtime-folder",
                               "the folder %s for the domains' files cannot be made: %s", base,
                               strerror(-ret));
    }
    finding_advise(finding, "log in in a way that makes XDG_RUNTIME_DIR (not su or sudo), or set "
                            "BALLAST_RUNTIME_DIR to a folder of your own");
    if (geteuid() != 0) {
        finding_fix(finding, "loginctl enable-linger '%s'", user);
    }
}

/* The user's name, or else number. */
static const char *find_user(char number[static 32])
{
    const struct passwd *entry = getpwuid(geteuid());

    snprintf(number, 32, "%lu", (unsigned long)geteuid());
    return entry != NULL ? entry->pw_name : number;
}

static void look(struct findings *findings)
{
    char agent[PATH_MAX];
    char number[32];
    struct host_problem problem;
    struct rlimit limit;
    struct doctor_host host = {
        .root = "",
        .user = find_user(number),
        .search_path = getenv("PATH") != NULL ? getenv("PATH") : "",
        .page_bytes = (uint64_t)sysconf(_SC_PAGESIZE),
        .address_space_bytes = UINT64_MAX,
    };

    if (host_find_agent(agent, &problem) == 0) {
        host.agent = agent;
    } else {
        host.agent_problem = problem.text;
    }
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        host.address_space_bytes = limit.rlim_cur;
    }
    doctor_try(&host.trials);
    doctor_look_at_kernel(&host, findings);
    doctor_look_at_permission(&host, findings);
    look_at_runtime(host.user, findings);
    doctor_look_at_memory(&host, findings);
    doctor_look_at_kvm(&host, findings);
    doctor_look_at_qemu(&host, findings);
    doctor_look_at_libvirt(&host, findings);
}

static int print(const struct findings *findings, bool as_json, bool as_fixes)
{
    if (as_json) {
        json_t *json = findings_to_json(findings);

        if (json == NULL) {
            cli_error("the findings cannot be printed as JSON: out of memory, or a path is no "
                      "UTF-8; try without --json");
            return EXIT_FAILED;
        }
        domain_print_json(json);
        json_decref(json);
    } else if (as_fixes) {
        findings_print_fixes(findings, stdout);
    } else {
        findings_print(findings, stdout);
    }
    return domain_finish_output();
}

static int run(int argc, char **argv)
{
    static struct findings findings;
    bool as_json = false;
    bool as_fixes = false;
    const struct cli_option options[] = {
        {"--json", NULL, &as_json}, {"--fix", NULL, &as_fixes}, {NULL, NULL, NULL}};
    int rest;
    int ret = cli_read_options(&cmd_doctor, options, argc, argv, &rest);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (rest < argc) {
        return cli_usage_error("doctor", "'%s' is too much: doctor takes no names", argv[rest]);
    }
    if (as_json && as_fixes) {
        return cli_usage_error("doctor", "--json and --fix exclude each other: --json has the "
                                         "commands, too");
    }
    look(&findings);
    ret = print(&findings, as_json, as_fixes);
    return ret != 0 || findings_count(&findings, FINDING_PROBLEM) == 0 ? ret : EXIT_FAILED;
}

const struct cli_command cmd_doctor = {
    .name = "doctor",
    .summary = "what this host offers and lacks",
    .help = help,
    .run = run,
};
