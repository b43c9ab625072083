/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor: libvirt, if it is there. Domains of `ballast run` do not need it, so
 * nothing here is a problem.
 */
#include "doctor.h"

#include <errno.h>
#include <string.h>

#define HOOK     "/etc/libvirt/hooks/qemu.d/ballast"
#define SETTINGS "/etc/libvirt/qemu.conf"
#define DEVICE   "/dev/userfaultfd"

static void look_at_hook(const struct doctor_host *host, struct findings *findings)
{
    struct finding *finding;

    if (doctor_has(host, HOOK)) {
        findings_add(findings, FINDING_OK, "libvirt-hook", "libvirt finds Ballast's hook");
        return;
    }
    finding = findings_add(findings, FINDING_NOTE, "libvirt-hook",
                           "libvirt has no hook of Ballast's: its domains cannot have PoD");
    finding_advise(finding, "link the hook of this installation to " HOOK
                            " and restart libvirt; see ballast-libvirt(7)");
}

/* What cgroup_device_acl lists, its brackets included; NULL if it is not set. Lines of
 * comments do not count. */
static const char *find_devices(char *settings)
{
    static const char key[] = "cgroup_device_acl";

    for (char *line = settings; line != NULL;) {
        char *next = strchr(line, '\n');

        line += strspn(line, " \t");
        if (strncmp(line, key, sizeof(key) - 1) == 0) {
            char *end = strchr(line, ']');

            if (end != NULL) {
                end[1] = '\0';
            }
            return line;
        }
        line = next != NULL ? next + 1 : NULL;
    }
    return NULL;
}

static void look_at_device(const struct doctor_host *host, struct findings *findings)
{
    static char settings[256 * 1024];
    struct finding *finding;
    const char *devices;
    int ret = doctor_read(host, SETTINGS, settings, sizeof(settings));

    if (ret != 0 && ret != -ENOENT) {
        finding = findings_add(findings, FINDING_NOTE, "libvirt-device",
                               "%s may not read " SETTINGS, host->user);
        finding_advise(finding, "ask again as root whether libvirt lets QEMU have " DEVICE);
        return;
    }
    devices = ret == 0 ? find_devices(settings) : NULL;
    if (devices != NULL && strstr(devices, "\"" DEVICE "\"") != NULL) {
        findings_add(findings, FINDING_OK, "libvirt-device", "libvirt lets QEMU have " DEVICE);
        return;
    }
    finding =
        findings_add(findings, FINDING_NOTE, "libvirt-device",
                     "libvirt gives QEMU a /dev without " DEVICE ": its domains cannot have PoD");
    if (devices != NULL) {
        finding_advise(finding, "add \"" DEVICE "\" to cgroup_device_acl in " SETTINGS
                                " and restart libvirt");
        return;
    }
    finding_advise(finding, "set cgroup_device_acl in " SETTINGS " and restart libvirt");
    finding_fix(finding, "echo 'cgroup_device_acl = [ \"/dev/null\", \"/dev/full\", \"/dev/zero\", "
                         "\"/dev/random\", \"/dev/urandom\", \"/dev/ptmx\", \"/dev/kvm\", \"" DEVICE
                         "\" ]' >>" SETTINGS);
    finding_fix(finding, "systemctl try-restart libvirtd.service");
    finding_fix(finding, "systemctl try-restart virtqemud.service");
}

void doctor_look_at_libvirt(const struct doctor_host *host, struct findings *findings)
{
    if (doctor_has(host, "/etc/libvirt")) {
        look_at_hook(host, findings);
        look_at_device(host, findings);
    }
}
