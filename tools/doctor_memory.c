/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor: the host's memory, and what becomes of it under a domain.
 */
#include "doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/types.h"
#include "host/memory.h"

#define THP "/sys/kernel/mm/transparent_hugepage/"

/* Debian's kernels do not boot in less (docs/performance.md). */
#define LITTLE_BYTES (UINT64_C(128) << 20)

/* Where systemd sets it again at each boot. */
static void fix_sysfs(struct finding *finding, const char *file, const char *value)
{
    finding_fix(finding, "echo 'w %s - - - - %s' >/etc/tmpfiles.d/ballast-%s.conf", file, value,
                finding->id);
    finding_fix(finding, "systemd-tmpfiles --create /etc/tmpfiles.d/ballast-%s.conf", finding->id);
}

/* Reads which of a list of choices is taken: "always [madvise] never". */
static bool read_choice(const struct doctor_host *host, const char *file, char choice[static 32])
{
    char text[128];
    const char *begin;

    if (doctor_read(host, file, text, sizeof(text)) != 0) {
        return false;
    }
    begin = strchr(text, '[');
    if (begin == NULL || strchr(begin, ']') == NULL) {
        return false;
    }
    snprintf(choice, 32, "%.*s", (int)strcspn(begin + 1, "]"), begin + 1);
    return true;
}

static void look_at_huge_pages(const struct doctor_host *host, struct findings *findings)
{
    char enabled[32], size[32] = "", defrag[32];
    struct finding *finding;

    if (!read_choice(host, THP "enabled", enabled)) {
        finding = findings_add(findings, FINDING_NOTE, "huge-pages",
                               "this kernel has no transparent huge pages: every page is moved "
                               "and faulted singly");
        finding_advise(finding, "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE");
        return;
    }
    read_choice(host, THP "hugepages-2048kB/enabled", size);
    if (strcmp(enabled, "never") == 0 || strcmp(size, "never") == 0) {
        bool is_size = strcmp(enabled, "never") != 0;

        finding = findings_add(findings, FINDING_NOTE, "huge-pages",
                               "transparent huge pages are off%s: every page is moved and faulted "
                               "singly",
                               is_size ? " for 2 MiB" : "");
        finding_advise(finding, "set them to %s: then those have them who ask, as Ballast does",
                       is_size ? "inherit" : "madvise");
        fix_sysfs(finding, is_size ? THP "hugepages-2048kB/enabled" : THP "enabled",
                  is_size ? "inherit" : "madvise");
    } else {
        findings_add(findings, FINDING_OK, "huge-pages", "transparent huge pages: %s", enabled);
    }
    if (!read_choice(host, THP "defrag", defrag)) {
        return;
    }
    if (strcmp(defrag, "never") == 0 || strcmp(defrag, "defer") == 0) {
        finding = findings_add(findings, FINDING_NOTE, "defrag",
                               "the kernel does not compact memory for huge pages when one is "
                               "asked for (defrag is %s): on a host that ran for long a domain "
                               "may get single pages",
                               defrag);
        finding_advise(finding, "set defrag to madvise, the kernel's default");
        fix_sysfs(finding, THP "defrag", "madvise");
    } else {
        findings_add(findings, FINDING_OK, "defrag", "memory is compacted for huge pages: %s",
                     defrag);
    }
}

static void look_at_ksm(const struct doctor_host *host, struct findings *findings)
{
    char run[16];

    if (doctor_read(host, "/sys/kernel/mm/ksm/run", run, sizeof(run)) != 0 ||
        strcmp(run, "1") != 0) {
        findings_add(findings, FINDING_OK, "ksm", "KSM is not running");
        return;
    }
    finding_advise(findings_add(findings, FINDING_NOTE, "ksm",
                                "KSM is running, and the memory of domains is not merged: a domain "
                                "costs its target"),
                   "leave it on if other VMs gain by it; do not count on it for domains");
}

static void look_at_swap(const struct doctor_host *host, struct findings *findings)
{
    char text[4096];
    const char *second;
    struct finding *finding;

    if (doctor_read(host, "/proc/swaps", text, sizeof(text)) != 0) {
        text[0] = '\0';
    }
    second = strchr(text, '\n');
    if (second == NULL) {
        findings_add(findings, FINDING_OK, "swap", "there is no swap: what a domain has is in RAM");
        return;
    }
    finding = findings_add(findings, FINDING_NOTE, "swap",
                           "there is swap (%.*s): when RAM runs short, pages of domains go there "
                           "and come back slowly, and those that hold zeros the kernel may give "
                           "to others until they are written to",
                           (int)strcspn(second + 1, " \t\n"), second + 1);
    finding_advise(finding, "keep the sum of all targets well below RAM; for one service forbid it "
                            "with systemd's MemorySwapMax=0, for one domain with QEMU's "
                            "-overcommit mem-lock=on");
}

/* Linux 6.12 and newer, when memory runs short, with swap or without: of a huge page
 * with more pages of zeros than max_ptes_none those are given to others, which leaves
 * nothing of a cache. With the default, 511, it does not look. Older ones have no
 * shrink_underused. */
static void look_at_zero_pages(const struct doctor_host *host, struct findings *findings)
{
    char most[16], shrinks[16];
    struct finding *finding;

    if (doctor_read(host, THP "shrink_underused", shrinks, sizeof(shrinks)) != 0 ||
        strcmp(shrinks, "0") == 0 ||
        doctor_read(host, THP "khugepaged/max_ptes_none", most, sizeof(most)) != 0 ||
        strtoul(most, NULL, 10) >= SUPERPAGE_PAGES - 1) {
        findings_add(findings, FINDING_OK, "zero-pages",
                     "the kernel does not search huge pages for zeros");
        return;
    }
    finding = findings_add(findings, FINDING_NOTE, "zero-pages",
                           "khugepaged's max_ptes_none is %s: when memory runs short, the kernel "
                           "searches huge pages for zeros and gives those to others, and with "
                           "them the cache of every domain",
                           most);
    finding_advise(finding, "set shrink_underused to 0; for one domain QEMU's -overcommit "
                            "mem-lock=on helps");
    fix_sysfs(finding, THP "shrink_underused", "0");
}

static void look_at_cgroup_high(const struct memory_room *room, struct findings *findings)
{
    char high[SIZE_TEXT_BYTES];

    if (room->cgroup_high_bytes >= room->total_bytes) {
        return;
    }
    size_format(room->cgroup_high_bytes, high);
    finding_advise(findings_add(findings, FINDING_NOTE, "cgroup-high",
                                "a cgroup slows down who has more than %s in it (memory.high), and "
                                "a domain that is built there crawls from then on",
                                high),
                   "start domains elsewhere, or raise MemoryHigh= of the unit above the sum of "
                   "the targets");
}

static void look_at_cgroup(const struct memory_room *room, struct findings *findings)
{
    char left[SIZE_TEXT_BYTES], limit[SIZE_TEXT_BYTES];
    struct finding *finding;

    if (room->cgroup_left_bytes == UINT64_MAX) {
        findings_add(findings, FINDING_OK, "cgroup", "no cgroup limits the memory of this process");
        return;
    }
    size_format(room->cgroup_left_bytes, left);
    size_format(room->cgroup_limit_bytes, limit);
    if (room->cgroup_left_bytes >= room->available_bytes) {
        findings_add(findings, FINDING_OK, "cgroup",
                     "%s limits memory to %s, %s of it left: more than the host has free",
                     room->cgroup, limit, left);
        return;
    }
    finding = findings_add(
        findings, room->cgroup_left_bytes < SUPERPAGE_BYTES ? FINDING_PROBLEM : FINDING_NOTE,
        "cgroup", "%s limits memory to %s, %s of it left, for all processes in it", room->cgroup,
        limit, left);
    finding_advise(finding, "start domains elsewhere (systemd-run --scope), or raise the limit: "
                            "MemoryMax= of the unit, or memory.max");
}

static void look_at_free_memory(const struct memory_room *room, struct findings *findings)
{
    char available[SIZE_TEXT_BYTES], total[SIZE_TEXT_BYTES];
    enum finding_level level = room->available_bytes < SUPERPAGE_BYTES ? FINDING_PROBLEM
                               : room->available_bytes < LITTLE_BYTES  ? FINDING_NOTE
                                                                       : FINDING_OK;
    struct finding *finding;

    size_format(room->available_bytes, available);
    size_format(room->total_bytes, total);
    finding = findings_add(findings, level, "memory", "%s of %s are available for targets",
                           available, total);
    if (level != FINDING_OK) {
        finding_advise(finding, "free memory: few guests boot in so little");
    }
}

/* A number of KiB of /proc/meminfo, in bytes; 0 if there is none. */
static uint64_t read_meminfo(const struct doctor_host *host, const char *key)
{
    char text[8192];
    const char *line;

    if (doctor_read(host, "/proc/meminfo", text, sizeof(text)) != 0) {
        return 0;
    }
    line = strstr(text, key);
    return line != NULL ? strtoull(line + strlen(key), NULL, 10) * 1024 : 0;
}

static void look_at_overcommit(const struct doctor_host *host, struct findings *findings)
{
    uint64_t limit = read_meminfo(host, "\nCommitLimit:");
    uint64_t committed = read_meminfo(host, "\nCommitted_AS:");
    uint64_t left = limit > committed ? limit - committed : 0;
    char mode[16], text[SIZE_TEXT_BYTES];
    struct finding *finding;

    if (doctor_read(host, "/proc/sys/vm/overcommit_memory", mode, sizeof(mode)) != 0 ||
        strcmp(mode, "2") != 0) {
        findings_add(findings, FINDING_OK, "overcommit",
                     "address space that nobody touches costs nothing");
        return;
    }
    size_format(left, text);
    /* QEMU's default guest has 128 MiB; the cache's range is as large as guest RAM. */
    finding = findings_add(findings, left < 2 * LITTLE_BYTES ? FINDING_PROBLEM : FINDING_NOTE,
                           "overcommit",
                           "vm.overcommit_memory is 2: a domain needs twice its max of what may "
                           "be committed, whatever its target is, and %s are left of that",
                           text);
    finding_advise(finding, "set vm.overcommit_memory to 0, the kernel's default, or raise "
                            "vm.overcommit_ratio");
    finding_fix(finding,
                "echo 'vm.overcommit_memory = 0' >/etc/sysctl.d/60-ballast-overcommit.conf");
    finding_fix(finding, "sysctl --load=/etc/sysctl.d/60-ballast-overcommit.conf");
}

static void look_at_address_space(const struct doctor_host *host, struct findings *findings)
{
    char text[SIZE_TEXT_BYTES];

    if (host->address_space_bytes == UINT64_MAX) {
        return;
    }
    size_format(host->address_space_bytes, text);
    finding_advise(findings_add(findings, FINDING_NOTE, "address-space",
                                "processes are limited to %s of address space (ulimit -v), and a "
                                "domain needs more than twice its max",
                                text),
                   "ulimit -v unlimited; a lasting limit is set in /etc/security/limits.conf, or "
                   "by systemd's LimitAS=");
}

void doctor_look_at_memory(const struct doctor_host *host, struct findings *findings)
{
    struct memory_room room;

    if (memory_look(host->root, &room) == 0) {
        look_at_free_memory(&room, findings);
        look_at_cgroup(&room, findings);
        look_at_cgroup_high(&room, findings);
    } else {
        finding_advise(findings_add(findings, FINDING_NOTE, "memory",
                                    "the kernel does not tell how much memory is free"),
                       "see that /proc is mounted");
    }
    look_at_overcommit(host, findings);
    look_at_address_space(host, findings);
    look_at_huge_pages(host, findings);
    look_at_ksm(host, findings);
    look_at_swap(host, findings);
    look_at_zero_pages(host, findings);
}
