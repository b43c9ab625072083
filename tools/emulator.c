/* SPDX-License-Identifier: MIT */
/*
 * The emulator that libvirt's <emulator> names, installed as qemu-system-x86_64 and
 * so on: it becomes the QEMU of that name, with the agent in it if the domain asks
 * for PoD. What the domain asks for, libvirt's command line does not say; our hook
 * has left it (libvirt_request.h).
 *
 * Whoever starts it without naming a domain by a UUID, as libvirt does when it asks
 * QEMU for its capabilities, gets QEMU and nothing else.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/size.h"
#include "cli.h"
#include "host/uffd.h"
#include "launch.h"
#include "libvirt_request.h"
#include "qemu_args.h"
#include "qemu_machine.h"
#include "qemu_options.h"

#define OWN_NAME "ballast-emulator"
#define DEVICE   "/dev/userfaultfd"

static const char help[] =
    "Usage: ballast-emulator --help\n"
    "       .../ballast/qemu-system-x86_64 QEMU'S ARGUMENTS...\n"
    "\n"
    "QEMU for libvirt's <emulator>: under the name of a QEMU it becomes that QEMU, with\n"
    "populate-on-demand memory if libvirt's domain asks for it. See ballast-libvirt(7).\n";

/* Is this file ourselves? */
static bool is_self(const char *path)
{
    struct stat self;
    struct stat other;

    return stat("/proc/self/exe", &self) == 0 && stat(path, &other) == 0 &&
           self.st_dev == other.st_dev && self.st_ino == other.st_ino;
}

/* Finds the QEMU that is called as we are: in $PATH, or where distributions have it.
 * 0 or an exit status. */
static int find_qemu(const char *name, char program[static PATH_MAX])
{
    static const char elsewhere[] = "/usr/local/bin:/usr/bin:/usr/libexec";
    const char *lists[] = {getenv("PATH"), elsewhere};

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (const char *at = lists[i]; at != NULL;
             at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
            int length = (int)strcspn(at, ":");
            struct stat status;

            if (length > 0 && at[0] == '/' &&
                snprintf(program, PATH_MAX, "%.*s/%s", length, at, name) < PATH_MAX &&
                stat(program, &status) == 0 && S_ISREG(status.st_mode) &&
                access(program, X_OK) == 0 && !is_self(program)) {
                return 0;
            }
        }
    }
    cli_error("%s cannot be started: it is neither in PATH nor in %s; install QEMU", name,
              elsewhere);
    return BALLAST_EXIT_REFUSED;
}

static int read_uuid(const char *name, const char *value, void *context)
{
    if (strcmp(name, "uuid") == 0) {
        *(const char **)context = value;
    }
    return 0;
}

/* The domain's UUID, or NULL if there is none. */
static const char *find_uuid(char *const argv[])
{
    const char *uuid = NULL;
    bool is_cut_short = false;

    qemu_each_option(argv, read_uuid, &uuid, &is_cut_short);
    return uuid;
}

/* Becomes plain QEMU. Returns only if that fails. */
static int become_plain(const char *program, char **argv)
{
    execv(program, argv);
    cli_error("%s cannot be executed: %s; check that it is a program for this machine", program,
              strerror(errno));
    return BALLAST_EXIT_REFUSED;
}

/* What QEMU's command line says against it. 0 or an exit status. */
static int check_arguments(struct launch *plan)
{
    struct qemu_args_problem problem;
    struct qemu_args args;
    int ret = qemu_args_read(plan->argv, &args, &problem);

    if (ret < 0) {
        cli_error("%s", ret == -ENOMEM ? "QEMU cannot be started: out of memory; free some and try "
                                         "again"
                                       : problem.text);
        return BALLAST_EXIT_REFUSED;
    }
    plan->max_bytes = args.max_bytes;
    plan->maxmem_bytes = args.maxmem_bytes;
    qemu_args_free(&args);
    if (plan->max_bytes != 0 && plan->target_bytes > plan->max_bytes) {
        char target[SIZE_TEXT_BYTES];
        char max[SIZE_TEXT_BYTES];

        size_format(plan->target_bytes, target);
        size_format(plan->max_bytes, max);
        cli_error("the target does not fit: <currentMemory> is %s, and the guest sees %s at boot; "
                  "lower it",
                  target, max);
        return BALLAST_EXIT_REFUSED;
    }
    return 0;
}

/* May this user serve page faults? libvirt's ways to forbid it have ways of their own to
 * permit it; all else is for launch_check_host(). 0 or an exit status. */
static int check_permission(void)
{
    int uffd = -1;
    int ret = uffd_open(&uffd);

    if (ret == 0) {
        close(uffd);
    }
    if (ret != -EPERM && ret != -EACCES) {
        return 0;
    }
    if (access(DEVICE, F_OK) < 0) {
        cli_error("userfaultfd is not permitted: libvirt gives QEMU a /dev without " DEVICE
                  "; add it to cgroup_device_acl in /etc/libvirt/qemu.conf and restart libvirt");
    } else {
        cli_error("userfaultfd is not permitted: QEMU's user, %lu, may not open " DEVICE
                  "; let the group kvm have it, and that user be a member ('ballast doctor')",
                  (unsigned long)geteuid());
    }
    return BALLAST_EXIT_REFUSED;
}

/* Becomes QEMU with the agent in it. Returns only if that fails. */
static int become_domain(char **argv, const char *base, const struct libvirt_request *request)
{
    static struct launch plan = {.target_word = "<currentMemory>", .balloon_sets_target = true};
    int ret;

    plan.argv = argv;
    plan.target_bytes = request->target_bytes;
    plan.pause = request->pause;
    plan.no_reserve = !request->reserve;
    memcpy(plan.name, request->name, sizeof(plan.name));
    ret = check_arguments(&plan);
    if (ret == 0) {
        ret = check_permission();
    }
    if (ret == 0) {
        ret = launch_check_host(&plan);
    }
    return ret != 0 ? ret : launch(&plan, base);
}

int main(int argc, char **argv)
{
    static char program[PATH_MAX];
    char base[PATH_MAX];
    struct libvirt_request request;
    const char *name = argc > 0 ? qemu_base_name(argv[0]) : OWN_NAME;
    const char *uuid;
    int ret;

    if (strcmp(name, OWN_NAME) == 0) {
        if (argc == 2 && strcmp(argv[1], "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        cli_error("no QEMU was named: call this program by the name of one, as the links beside it "
                  "do; see ballast-libvirt(7)");
        return BALLAST_EXIT_USAGE;
    }
    ret = find_qemu(name, program);
    if (ret != 0) {
        return ret;
    }
    argv[0] = program;
    uuid = find_uuid(argv);
    if (uuid == NULL) {
        return become_plain(program, argv);
    }
    ret = libvirt_request_find(uuid, base, &request);
    if (ret < 0) {
        cli_error(
            "it is not known what the domain %s asks for: %s; see that libvirt runs Ballast's "
            "hook (restart libvirtd after it was installed), or let the domain use another "
            "<emulator>",
            uuid, ret == -ENOENT ? "libvirt's hook for QEMU has left no word" : strerror(-ret));
        return BALLAST_EXIT_REFUSED;
    }
    return request.asks ? become_domain(argv, base, &request) : become_plain(program, argv);
}
