/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor: the kernel, and what of it this user may use.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/types.h"
#include "host_check.h"

#define CAP_SYS_PTRACE_BIT 19

#define UDEV_RULE "KERNEL==\"userfaultfd\", SUBSYSTEM==\"misc\", GROUP=\"kvm\", MODE=\"0660\""
#define UDEV_FILE "60-ballast.rules"

int doctor_read(const struct doctor_host *host, const char *file, char *text, size_t size)
{
    char path[PATH_MAX];
    size_t used = 0;
    ssize_t got = 0;
    int fd;

    if (snprintf(path, sizeof(path), "%s%s", host->root, file) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    while (used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0) {
        used += (size_t)got;
    }
    close(fd);
    if (got < 0) {
        return -EIO;
    }
    used -= used > 0 && text[used - 1] == '\n';
    text[used] = '\0';
    return 0;
}

bool doctor_has(const struct doctor_host *host, const char *file)
{
    char path[PATH_MAX];

    return snprintf(path, sizeof(path), "%s%s", host->root, file) < (int)sizeof(path) &&
           access(path, F_OK) == 0;
}

void doctor_fix_membership(const struct doctor_host *host, struct finding *finding)
{
    char groups[16384];

    if (doctor_read(host, "/etc/group", groups, sizeof(groups)) == 0 &&
        strncmp(groups, "kvm:", 4) != 0 && strstr(groups, "\nkvm:") == NULL) {
        finding_fix(finding, "groupadd --system kvm");
    }
    finding_fix(finding, "usermod --append --groups kvm '%s'  # counts from the next login on",
                host->user);
}

/* Debian's way to a newer kernel; nothing for others. */
static void fix_kernel(const struct doctor_host *host, struct finding *finding)
{
    char release[4096];
    bool known = doctor_read(host, "/etc/os-release", release, sizeof(release)) == 0;

    if (!known ||
        (strncmp(release, "ID=debian", 9) != 0 && strstr(release, "\nID=debian") == NULL)) {
        return;
    }
    if (strstr(release, "VERSION_CODENAME=bookworm") != NULL) {
        finding_fix(finding, "echo 'deb http://deb.debian.org/debian bookworm-backports main' "
                             ">/etc/apt/sources.list.d/bookworm-backports.list");
        finding_fix(finding, "apt-get update");
        finding_fix(finding, "apt-get install --target-release bookworm-backports "
                             "\"linux-image-$(dpkg --print-architecture)\"");
    } else {
        finding_fix(finding, "apt-get update");
        finding_fix(finding, "apt-get install \"linux-image-$(dpkg --print-architecture)\"");
    }
    finding_fix(finding, "systemctl reboot");
}

/* Has it the fix of the race between UFFDIO_MOVE and the swap cache? It came with
 * 6.12.37, and later series have it from 6.16 on; of those between we do not know. */
static bool has_swap_fix(const char *release)
{
    return host_kernel_is_at_least(release, 6, 12, 37) &&
           (!host_kernel_is_at_least(release, 6, 13, 0) ||
            host_kernel_is_at_least(release, 6, 16, 0));
}

static void look_at_version(const struct doctor_host *host, struct findings *findings)
{
    char release[128];
    struct finding *finding;

    if (doctor_read(host, "/proc/sys/kernel/osrelease", release, sizeof(release)) != 0) {
        finding =
            findings_add(findings, FINDING_NOTE, "kernel", "the kernel does not tell its version");
        finding_advise(finding, "see that /proc is mounted");
    } else if (!host_kernel_is_at_least(release, HOST_KERNEL_MAJOR, HOST_KERNEL_MINOR, 0)) {
        finding = findings_add(findings, FINDING_PROBLEM, "kernel",
                               "Linux %s is too old: moving pages needs %d.%d", release,
                               HOST_KERNEL_MAJOR, HOST_KERNEL_MINOR);
        finding_advise(finding, "boot a newer kernel, 6.12.37 or newer if there is a choice");
        fix_kernel(host, finding);
    } else if (!has_swap_fix(release)) {
        finding = findings_add(findings, FINDING_NOTE, "kernel",
                               "Linux %s moves pages, but has a race between that and swapping, "
                               "unless your distribution has fixed it",
                               release);
        finding_advise(finding, "use 6.12.37 or a newer 6.12, or 6.16 or newer; until then do "
                                "without swap");
        fix_kernel(host, finding);
    } else {
        findings_add(findings, FINDING_OK, "kernel", "Linux %s", release);
    }
}

static void look_at_move(const struct doctor_host *host, struct findings *findings)
{
    int ret = host->trials.move;
    struct finding *finding;

    if (ret == 0) {
        findings_add(findings, FINDING_OK, "uffdio-move", "a page was moved with UFFDIO_MOVE");
        return;
    }
    finding = findings_add(findings, FINDING_PROBLEM, "uffdio-move",
                           "no page could be moved with UFFDIO_MOVE: %s", strerror(-ret));
    if (ret == -ENOSYS || ret == -EOPNOTSUPP) {
        finding_advise(finding,
                       "boot Linux %d.%d or newer with CONFIG_USERFAULTFD, on a processor "
                       "for which it can move pages (x86-64, arm64)",
                       HOST_KERNEL_MAJOR, HOST_KERNEL_MINOR);
    } else {
        finding_advise(finding, "see whether a container or a filter on system calls (seccomp) "
                                "is in the way");
    }
}

void doctor_look_at_kernel(const struct doctor_host *host, struct findings *findings)
{
    look_at_version(host, findings);
    if (host->page_bytes != PAGE_BYTES) {
        finding_advise(findings_add(findings, FINDING_PROBLEM, "page-size",
                                    "this kernel's pages have %llu bytes, and Ballast's 4096",
                                    (unsigned long long)host->page_bytes),
                       "boot a kernel with pages of 4 KiB");
    }
    look_at_move(host, findings);
}

static bool has_capability(const struct doctor_host *host)
{
    char status[8192];
    const char *line;

    if (doctor_read(host, "/proc/self/status", status, sizeof(status)) != 0) {
        return false;
    }
    line = strstr(status, "\nCapEff:");
    return line != NULL && (strtoull(line + 8, NULL, 16) >> CAP_SYS_PTRACE_BIT & 1) != 0;
}

static bool is_open_to_all(const struct doctor_host *host)
{
    char text[16];

    return doctor_read(host, "/proc/sys/vm/unprivileged_userfaultfd", text, sizeof(text)) == 0 &&
           strcmp(text, "1") == 0;
}

/* The device for members of the group kvm, as contrib/udev has it. */
static void fix_device(const struct doctor_host *host, struct finding *finding)
{
    static const char *const folders[] = {"/etc/udev/rules.d/" UDEV_FILE,
                                          "/usr/lib/udev/rules.d/" UDEV_FILE,
                                          "/usr/local/lib/udev/rules.d/" UDEV_FILE};
    bool has_rule = false;

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        has_rule |= doctor_has(host, folders[i]);
    }
    doctor_fix_membership(host, finding);
    if (!has_rule) {
        finding_fix(finding, "echo '" UDEV_RULE "' >/etc/udev/rules.d/" UDEV_FILE);
    }
    finding_fix(finding, "udevadm control --reload");
    finding_fix(finding, "udevadm trigger --name-match=userfaultfd");
}

static void refuse_permission(const struct doctor_host *host, struct findings *findings)
{
    struct finding *finding = findings_add(
        findings, FINDING_PROBLEM, "userfaultfd",
        "%s may not serve the kernel's own page faults, which KVM and disks need", host->user);

    if (has_capability(host)) {
        finding_advise(finding, "CAP_SYS_PTRACE is there and does not help: a container, a user "
                                "namespace or a filter on system calls (seccomp) withholds "
                                "userfaultfd; permit it there");
    } else if (doctor_has(host, "/dev/userfaultfd")) {
        finding_advise(finding, "let the group kvm use /dev/userfaultfd and be a member of it (or "
                                "be root)");
        fix_device(host, finding);
    } else {
        finding_advise(finding, "there is no /dev/userfaultfd to be opened: permit it to all users "
                                "with vm.unprivileged_userfaultfd=1 (or be root)");
        finding_fix(finding,
                    "echo 'vm.unprivileged_userfaultfd = 1' >/etc/sysctl.d/60-ballast.conf");
        finding_fix(finding, "sysctl --load=/etc/sysctl.d/60-ballast.conf");
    }
}

void doctor_look_at_permission(const struct doctor_host *host, struct findings *findings)
{
    int ret = host->trials.userfaultfd;

    if (ret == -EPERM || ret == -EACCES) {
        refuse_permission(host, findings);
    } else if (ret < 0) {
        finding_advise(findings_add(findings, FINDING_PROBLEM, "userfaultfd",
                                    "userfaultfd does not work: %s", strerror(-ret)),
                       "boot a kernel with CONFIG_USERFAULTFD");
    } else {
        findings_add(findings, FINDING_OK, "userfaultfd",
                     "%s may serve the kernel's own page faults: %s", host->user,
                     has_capability(host)   ? "by CAP_SYS_PTRACE"
                     : is_open_to_all(host) ? "by vm.unprivileged_userfaultfd=1, as all users may"
                                            : "through /dev/userfaultfd");
    }
}
