/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor: KVM. Without it guests run under TCG, slowly, and Ballast serves
 * them all the same: so nothing here is a problem.
 */
#include "doctor.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* Does the processor, or the hypervisor that makes it up, offer virtualization?
 * NULL, or the name of KVM's module for it. */
static const char *find_module(const struct doctor_host *host)
{
    char text[16384];

    if (doctor_read(host, "/proc/cpuinfo", text, sizeof(text)) != 0) {
        return NULL;
    }
    if (strstr(text, " vmx") != NULL) {
        return "kvm_intel";
    }
    return strstr(text, " svm") != NULL ? "kvm_amd" : NULL;
}

static void explain_absence(const struct doctor_host *host, struct finding *finding)
{
    const char *module = find_module(host);

    if (module == NULL) {
        finding_advise(finding, "switch virtualization on in the firmware (VT-x, SVM), or nested "
                                "virtualization in the hypervisor around this machine");
        return;
    }
    finding_advise(finding, "load its module, %s: the processor can virtualize", module);
    finding_fix(finding, "modprobe %s", module);
    finding_fix(finding, "echo %s >/etc/modules-load.d/ballast-kvm.conf", module);
}

void doctor_look_at_kvm(const struct doctor_host *host, struct findings *findings)
{
    int ret = host->trials.kvm;
    struct finding *finding;

    if (ret == 0) {
        findings_add(findings, FINDING_OK, "kvm", "a VM could be created with KVM");
    } else if (ret == -ENOENT || ret == -ENODEV || ret == -ENXIO) {
        finding = findings_add(findings, FINDING_NOTE, "kvm",
                               "there is no KVM: guests run under TCG, many times slower");
        explain_absence(host, finding);
    } else if (ret == -EACCES || ret == -EPERM) {
        finding = findings_add(findings, FINDING_NOTE, "kvm",
                               "%s may not open /dev/kvm: guests run under TCG, many times slower",
                               host->user);
        finding_advise(finding, "become a member of the group kvm, whom Debian gives /dev/kvm");
        doctor_fix_membership(host, finding);
    } else {
        finding =
            findings_add(findings, FINDING_NOTE, "kvm",
                         "/dev/kvm is there, and no VM can be created with it: %s", strerror(-ret));
        finding_advise(finding, "%s",
                       ret == -EBUSY ? "another hypervisor has the processor (VirtualBox, VMware): "
                                       "stop it, or run guests under TCG"
                                     : "see what the kernel's log says of kvm (dmesg)");
    }
}
