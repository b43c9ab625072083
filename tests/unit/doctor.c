/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor on hosts that are made up: folders with proc, sys, dev and usr, and
 * trials that went as the test says. `ballast doctor` on the real host is in
 * tests/cli/test_doctor.py.
 */
#include "unit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define FILES_MAX           8
#define ROOT_BYTES          64

/* A file below the root. */
struct made {
    const char *path;
    const char *text;
};

/* A host and one of the findings about it. */
struct invented {
    struct made files[FILES_MAX];
    struct doctor_trials trials;
    uint64_t page_bytes;          /* 0: 4096 */
    uint64_t address_space_bytes; /* 0: no limit */
    const char *id;
    enum finding_level level;
    const char *what;   /* a piece of it */
    const char *advice; /* a piece; NULL: there is none */
    const char *fix;    /* a piece; NULL: there is none */
};

typedef void look_at(const struct doctor_host *host, struct findings *findings);

static void make_file(const char *root, const char *path, const char *text, mode_t mode)
{
    char full[512];

    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    chmod(full, mode);
}

static void make_root(char root[static ROOT_BYTES])
{
    snprintf(root, ROOT_BYTES, "/tmp/ballast-doctor-XXXXXX");
    assert_non_null(mkdtemp(root));
}

static void remove_root(const char *root)
{
    char command[ROOT_BYTES + 16];

    snprintf(command, sizeof(command), "rm -rf %s", root);
    assert_int_equal(system(command), 0);
}

static struct doctor_host make_host(const char *root)
{
    return (struct doctor_host){
        .root = root,
        .user = "jane",
        .search_path = "/usr/bin",
        .agent = NULL,
        .agent_problem = "the agent was not found: somewhere; install Ballast",
        .page_bytes = 4096,
        .address_space_bytes = UINT64_MAX,
    };
}

static const struct finding *find(const struct findings *findings, const char *id)
{
    for (size_t i = 0; i < findings->count; i++) {
        if (strcmp(findings->list[i].id, id) == 0) {
            return &findings->list[i];
        }
    }
    return NULL;
}

static bool has_piece(const char *text, const char *piece)
{
    return piece == NULL ? text[0] == '\0' : strstr(text, piece) != NULL;
}

/* Commands are commands. */
static void check_shell(const char *commands)
{
    FILE *shell = popen("sh -n", "w");
    assert_non_null(shell);
    fputs(commands, shell);
    assert_int_equal(pclose(shell), 0);
}

static void check_one(const struct invented *invented, size_t number, look_at *look)
{
    static struct findings findings;
    char root[ROOT_BYTES];
    make_root(root);
    struct doctor_host host = make_host(root);
    host.trials = invented->trials;
    host.page_bytes = invented->page_bytes != 0 ? invented->page_bytes : 4096;
    host.address_space_bytes =
        invented->address_space_bytes != 0 ? invented->address_space_bytes : UINT64_MAX;
    for (size_t i = 0; i < FILES_MAX && invented->files[i].path != NULL; i++) {
        make_file(root, invented->files[i].path, invented->files[i].text, 0644);
    }
    findings.count = 0;
    look(&host, &findings);
    remove_root(root);

    const struct finding *finding = find(&findings, invented->id);
    if (finding == NULL) {
        fail_msg("host %zu: nothing about %s", number, invented->id);
        return;
    }
    if (finding->level != invented->level || strstr(finding->what, invented->what) == NULL ||
        !has_piece(finding->advice, invented->advice) || !has_piece(finding->fix, invented->fix)) {
        fail_msg("host %zu, %s: level %d, %s -> %s; %s", number, finding->id, (int)finding->level,
                 finding->what, finding->advice, finding->fix);
    }
    assert_null(strchr(finding->what, '\n'));
    assert_null(strchr(finding->advice, '\n'));
    check_shell(finding->fix);
}

#define RELEASE "/proc/sys/kernel/osrelease"
#define DEBIAN12                                                                                   \
    {                                                                                              \
        "/etc/os-release", "NAME=x\nVERSION_CODENAME=bookworm\nID=debian\n"                        \
    }
#define DEBIAN13                                                                                   \
    {                                                                                              \
        "/etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n"                                  \
    }
#define UBUNTU                                                                                     \
    {                                                                                              \
        "/etc/os-release", "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"                   \
    }

static void kernels(void **state)
{
    static const struct invented hosts[] = {
        {.files = {{RELEASE, "6.12.37\n"}}, .id = "kernel", .level = FINDING_OK, .what = "6.12.37"},
        {.files = {{RELEASE, "6.12.41+deb13-amd64\n"}},
         .id = "kernel",
         .level = FINDING_OK,
         .what = "6.12.41+deb13-amd64"},
        {.files = {{RELEASE, "7.0.0-rc1\n"}}, .id = "kernel", .level = FINDING_OK, .what = "7.0"},
        {.files = {{RELEASE, "6.16.0\n"}}, .id = "kernel", .level = FINDING_OK, .what = "6.16.0"},
        {.files = {{RELEASE, "6.1.0-37-amd64\n"}, DEBIAN12},
         .id = "kernel",
         .level = FINDING_PROBLEM,
         .what = "6.1.0-37-amd64 is too old",
         .advice = "6.12.37",
         .fix = "--target-release bookworm-backports"},
        {.files = {{RELEASE, "6.7.12\n"}, UBUNTU},
         .id = "kernel",
         .level = FINDING_PROBLEM,
         .what = "needs 6.8",
         .advice = "newer"},
        {.files = {{RELEASE, "6.8.0-60-generic\n"}, UBUNTU},
         .id = "kernel",
         .level = FINDING_NOTE,
         .what = "race",
         .advice = "6.12.37"},
        {.files = {{RELEASE, "6.12.36\n"}, DEBIAN13},
         .id = "kernel",
         .level = FINDING_NOTE,
         .what = "race",
         .advice = "without swap",
         .fix = "apt-get install \"linux-image-"},
        {.files = {{RELEASE, "6.15.9\n"}},
         .id = "kernel",
         .level = FINDING_NOTE,
         .what = "race",
         .advice = "6.16"},
        {.files = {{RELEASE, "6.14.9\n"}},
         .id = "kernel",
         .level = FINDING_NOTE,
         .what = "race",
         .advice = "6.16"},
        {.id = "kernel", .level = FINDING_NOTE, .what = "does not tell", .advice = "/proc"},
        {.files = {{RELEASE, "6.12.40\n"}},
         .page_bytes = 65536,
         .id = "page-size",
         .level = FINDING_PROBLEM,
         .what = "65536",
         .advice = "4 KiB"},
        {.id = "uffdio-move", .level = FINDING_OK, .what = "was moved"},
        {.trials = {.move = -EOPNOTSUPP},
         .id = "uffdio-move",
         .level = FINDING_PROBLEM,
         .what = "no page could be moved",
         .advice = "CONFIG_USERFAULTFD"},
        {.trials = {.move = -EPERM},
         .id = "uffdio-move",
         .level = FINDING_PROBLEM,
         .what = "not permitted",
         .advice = "seccomp"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
        check_one(&hosts[i], i, doctor_look_at_kernel);
    }
}

#define ROOT_STATUS                                                                                \
    {                                                                                              \
        "/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n"                               \
    }
#define USER_STATUS                                                                                \
    {                                                                                              \
        "/proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n"                               \
    }
#define SYSCTL "/proc/sys/vm/unprivileged_userfaultfd"
#define GROUPS                                                                                     \
    {                                                                                              \
        "/etc/group", "root:x:0:\nkvm:x:106:\n"                                                    \
    }
#define DEVICE                                                                                     \
    {                                                                                              \
        "/dev/userfaultfd", ""                                                                     \
    }

static void permissions(void **state)
{
    static const struct invented hosts[] = {
        {.files = {ROOT_STATUS},
         .id = "userfaultfd",
         .level = FINDING_OK,
         .what = "by CAP_SYS_PTRACE"},
        {.files = {USER_STATUS, {SYSCTL, "1\n"}},
         .id = "userfaultfd",
         .level = FINDING_OK,
         .what = "vm.unprivileged_userfaultfd"},
        {.files = {USER_STATUS, {SYSCTL, "0\n"}},
         .id = "userfaultfd",
         .level = FINDING_OK,
         .what = "/dev/userfaultfd"},
        {.files = {USER_STATUS, DEVICE, GROUPS},
         .trials = {.userfaultfd = -EPERM},
         .id = "userfaultfd",
         .level = FINDING_PROBLEM,
         .what = "jane may not",
         .advice = "group kvm",
         .fix = "usermod --append --groups kvm 'jane'  # counts from the next login on\n"
                "echo 'KERNEL==\"userfaultfd\""},
        /* No such group yet. */
        {.files = {USER_STATUS, DEVICE, {"/etc/group", "root:x:0:\nnokvm:x:7:\n"}},
         .trials = {.userfaultfd = -EPERM},
         .id = "userfaultfd",
         .level = FINDING_PROBLEM,
         .what = "jane",
         .advice = "group kvm",
         .fix = "groupadd --system kvm\nusermod"},
        /* The rule is there. */
        {.files = {USER_STATUS, DEVICE, GROUPS, {"/usr/lib/udev/rules.d/60-ballast.rules", "x"}},
         .trials = {.userfaultfd = -EPERM},
         .id = "userfaultfd",
         .level = FINDING_PROBLEM,
         .what = "jane",
         .advice = "group kvm",
         .fix = "next login on\nudevadm control"},
        {.files = {USER_STATUS, GROUPS},
         .trials = {.userfaultfd = -EPERM},
         .id = "userfaultfd",
         .level = FINDING_PROBLEM,
         .what = "jane",
         .advice = "unprivileged_userfaultfd=1",
         .fix = ">/etc/sysctl.d/60-ballast.conf\nsysctl --load=/etc/sysctl.d/60-ballast.conf"},
        {.files = {ROOT_STATUS, DEVICE},
         .trials = {.userfaultfd = -EPERM},
         .id = "userfaultfd",
         .level = FINDING_PROBLEM,
         .what = "jane",
         .advice = "seccomp"},
        {.trials = {.userfaultfd = -ENOSYS},
         .id = "userfaultfd",
         .level = FINDING_PROBLEM,
         .what = "does not work",
         .advice = "CONFIG_USERFAULTFD"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
        check_one(&hosts[i], i, doctor_look_at_permission);
    }
}

#define MEMINFO                                                                                    \
    {                                                                                              \
        "/proc/meminfo", "MemTotal:       8388608 kB\nMemFree:        1 kB\n"                      \
                         "MemAvailable:   4194304 kB\nCommitLimit:    4194304 kB\n"                \
                         "Committed_AS:   1048576 kB\n"                                            \
    }
#define THP    "/sys/kernel/mm/transparent_hugepage/"
#define CGROUP "/proc/self/cgroup"
#define V2     "/sys/fs/cgroup"
#define V1     "/sys/fs/cgroup/memory"

static void memory(void **state)
{
    static const struct invented hosts[] = {
        {.files = {MEMINFO}, .id = "memory", .level = FINDING_OK, .what = "4 GiB of 8 GiB"},
        {.files = {{"/proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 102400 kB\n"}},
         .id = "memory",
         .level = FINDING_NOTE,
         .what = "100 MiB",
         .advice = "free memory"},
        {.files = {{"/proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 1024 kB\n"}},
         .id = "memory",
         .level = FINDING_PROBLEM,
         .what = "1 MiB",
         .advice = "free memory"},
        {.id = "memory", .level = FINDING_NOTE, .what = "does not tell", .advice = "/proc"},
        {.files = {MEMINFO, {"/proc/sys/vm/overcommit_memory", "0\n"}},
         .id = "overcommit",
         .level = FINDING_OK,
         .what = "costs nothing"},
        {.files = {MEMINFO, {"/proc/sys/vm/overcommit_memory", "2\n"}},
         .id = "overcommit",
         .level = FINDING_NOTE,
         .what = "3 GiB are left",
         .advice = "overcommit_memory to 0",
         .fix = "/etc/sysctl.d/"},
        {.files = {{"/proc/meminfo", "MemTotal: 8 kB\nMemAvailable: 8 kB\nCommitLimit: 8 kB\n"
                                     "Committed_AS: 9 kB\n"},
                   {"/proc/sys/vm/overcommit_memory", "2\n"}},
         .id = "overcommit",
         .level = FINDING_PROBLEM,
         .what = "0 bytes are left",
         .advice = "overcommit_memory to 0",
         .fix = "sysctl --load="},
        {.address_space_bytes = UINT64_C(1) << 30,
         .id = "address-space",
         .level = FINDING_NOTE,
         .what = "1 GiB",
         .advice = "ulimit -v unlimited"},
        {.files = {{THP "enabled", "always [madvise] never\n"}},
         .id = "huge-pages",
         .level = FINDING_OK,
         .what = "madvise"},
        {.files = {{THP "enabled", "always madvise [never]\n"}},
         .id = "huge-pages",
         .level = FINDING_NOTE,
         .what = "are off",
         .advice = "madvise",
         .fix = "echo 'w " THP "enabled - - - - madvise' >/etc/tmpfiles.d/ballast-huge-pages.conf\n"
                "systemd-tmpfiles --create"},
        {.files = {{THP "enabled", "[always] madvise never\n"},
                   {THP "hugepages-2048kB/enabled", "always inherit madvise [never]\n"}},
         .id = "huge-pages",
         .level = FINDING_NOTE,
         .what = "off for 2 MiB",
         .advice = "inherit",
         .fix = THP "hugepages-2048kB/enabled - - - - inherit"},
        {.id = "huge-pages",
         .level = FINDING_NOTE,
         .what = "no transparent huge pages",
         .advice = "CONFIG_TRANSPARENT_HUGEPAGE"},
        {.files = {{THP "enabled", "[always] madvise never\n"},
                   {THP "defrag", "always defer defer+madvise madvise [never]\n"}},
         .id = "defrag",
         .level = FINDING_NOTE,
         .what = "defrag is never",
         .advice = "madvise",
         .fix = "/etc/tmpfiles.d/ballast-defrag.conf"},
        {.files = {{THP "enabled", "[always] madvise never\n"},
                   {THP "defrag", "always [defer] defer+madvise madvise never\n"}},
         .id = "defrag",
         .level = FINDING_NOTE,
         .what = "defrag is defer",
         .advice = "madvise",
         .fix = THP "defrag"},
        {.files = {{THP "enabled", "[always] madvise never\n"},
                   {THP "defrag", "always defer [defer+madvise] madvise never\n"}},
         .id = "defrag",
         .level = FINDING_OK,
         .what = "defer+madvise"},
        {.files = {{"/sys/kernel/mm/ksm/run", "1\n"}},
         .id = "ksm",
         .level = FINDING_NOTE,
         .what = "is running",
         .advice = "do not count on it"},
        {.files = {{"/sys/kernel/mm/ksm/run", "2\n"}},
         .id = "ksm",
         .level = FINDING_OK,
         .what = "not running"},
        {.id = "ksm", .level = FINDING_OK, .what = "not running"},
        {.files = {{"/proc/swaps", "Filename\tType\tSize\n/dev/sda2 partition 9\n"}},
         .id = "swap",
         .level = FINDING_NOTE,
         .what = "(/dev/sda2)",
         .advice = "MemorySwapMax=0"},
        {.files = {{"/proc/swaps", "Filename\tType\tSize\n"}},
         .id = "swap",
         .level = FINDING_OK,
         .what = "no swap"},
        {.files = {{THP "khugepaged/max_ptes_none", "255\n"}, {THP "shrink_underused", "1\n"}},
         .id = "zero-pages",
         .level = FINDING_NOTE,
         .what = "max_ptes_none is 255",
         .advice = "shrink_underused to 0",
         .fix = THP "shrink_underused - - - - 0"},
        {.files = {{THP "khugepaged/max_ptes_none", "0\n"}},
         .id = "zero-pages",
         .level = FINDING_OK,
         .what = "does not search"},
        {.files = {{THP "khugepaged/max_ptes_none", "0\n"}, {THP "shrink_underused", "0\n"}},
         .id = "zero-pages",
         .level = FINDING_OK,
         .what = "does not search"},
        {.files = {{THP "khugepaged/max_ptes_none", "511\n"}, {THP "shrink_underused", "1\n"}},
         .id = "zero-pages",
         .level = FINDING_OK,
         .what = "does not search"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
        check_one(&hosts[i], i, doctor_look_at_memory);
    }
}

static void cgroups(void **state)
{
    static const struct invented hosts[] = {
        {.files = {MEMINFO,
                   {CGROUP, "0::/a/b\n"},
                   {V2 "/a/b/memory.max", "max\n"},
                   {V2 "/a/b/memory.current", "4096\n"}},
         .id = "cgroup",
         .level = FINDING_OK,
         .what = "no cgroup limits"},
        {.files = {MEMINFO,
                   {CGROUP, "0::/a/b\n"},
                   {V2 "/a/b/memory.max", "1073741824\n"},
                   {V2 "/a/b/memory.current", "536870912\n"}},
         .id = "cgroup",
         .level = FINDING_NOTE,
         .what = V2 "/a/b limits memory to 1 GiB, 512 MiB of it left",
         .advice = "MemoryMax="},
        /* The one above is narrower; what is in page cache can be had. */
        {.files = {MEMINFO,
                   {CGROUP, "0::/a/b\n"},
                   {V2 "/a/b/memory.max", "2147483648\n"},
                   {V2 "/a/b/memory.current", "0\n"},
                   {V2 "/a/memory.max", "1073741824\n"},
                   {V2 "/a/memory.current", "805306368\n"},
                   {V2 "/a/memory.stat", "anon 5\ninactive_file 268435456\n"}},
         .id = "cgroup",
         .level = FINDING_NOTE,
         .what = V2 "/a limits memory to 1 GiB, 512 MiB of",
         .advice = "systemd-run"},
        {.files = {MEMINFO,
                   {CGROUP, "0::/\n"},
                   {V2 "/memory.max", "6442450944\n"},
                   {V2 "/memory.current", "4096\n"}},
         .id = "cgroup",
         .level = FINDING_OK,
         .what = "more than the host has free"},
        {.files = {MEMINFO,
                   {CGROUP, "0::/a\n"},
                   {V2 "/a/memory.max", "4096\n"},
                   {V2 "/a/memory.current", "4096\n"}},
         .id = "cgroup",
         .level = FINDING_PROBLEM,
         .what = "0 bytes of it left",
         .advice = "memory.max"},
        {.files = {MEMINFO,
                   {CGROUP, "0::/a/b\n"},
                   {V2 "/a/b/memory.high", "max\n"},
                   {V2 "/a/memory.high", "1073741824\n"}},
         .id = "cgroup-high",
         .level = FINDING_NOTE,
         .what = "more than 1 GiB",
         .advice = "MemoryHigh="},
        /* Version 1. */
        {.files = {MEMINFO,
                   {CGROUP, "5:cpu:/x\n4:hugetlb,memory:/job/1\n"},
                   {V1 "/job/memory.limit_in_bytes", "1073741824\n"},
                   {V1 "/job/memory.usage_in_bytes", "0\n"},
                   {V1 "/job/1/memory.limit_in_bytes", "9223372036854771712\n"},
                   {V1 "/job/1/memory.usage_in_bytes", "0\n"}},
         .id = "cgroup",
         .level = FINDING_NOTE,
         .what = V1 "/job limits memory to 1 GiB, 1 GiB of",
         .advice = "systemd-run"},
        {.files = {MEMINFO,
                   {CGROUP, "4:memory:/job\n"},
                   {V1 "/job/memory.limit_in_bytes", "9223372036854771712\n"},
                   {V1 "/job/memory.usage_in_bytes", "0\n"}},
         .id = "cgroup",
         .level = FINDING_OK,
         .what = "no cgroup limits"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
        check_one(&hosts[i], i, doctor_look_at_memory);
    }
}

static void kvm(void **state)
{
    static const struct invented hosts[] = {
        {.id = "kvm", .level = FINDING_OK, .what = "could be created"},
        {.trials = {.kvm = -ENOENT},
         .id = "kvm",
         .level = FINDING_NOTE,
         .what = "no KVM",
         .advice = "firmware"},
        {.files = {{"/proc/cpuinfo", "flags\t\t: fpu vmx sse\n"}},
         .trials = {.kvm = -ENOENT},
         .id = "kvm",
         .level = FINDING_NOTE,
         .what = "no KVM",
         .advice = "kvm_intel",
         .fix = "modprobe kvm_intel\necho kvm_intel >/etc/modules-load.d/"},
        {.files = {{"/proc/cpuinfo", "flags\t\t: fpu svm sse\n"}},
         .trials = {.kvm = -ENODEV},
         .id = "kvm",
         .level = FINDING_NOTE,
         .what = "no KVM",
         .advice = "kvm_amd",
         .fix = "modprobe kvm_amd"},
        {.files = {GROUPS},
         .trials = {.kvm = -EACCES},
         .id = "kvm",
         .level = FINDING_NOTE,
         .what = "jane may not open",
         .advice = "group kvm",
         .fix = "usermod --append --groups kvm 'jane'"},
        {.trials = {.kvm = -EBUSY},
         .id = "kvm",
         .level = FINDING_NOTE,
         .what = "no VM can",
         .advice = "another hypervisor"},
        {.trials = {.kvm = -EINTR},
         .id = "kvm",
         .level = FINDING_NOTE,
         .what = "no VM can",
         .advice = "dmesg"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
        check_one(&hosts[i], i, doctor_look_at_kvm);
    }
}

/* A program that answers like QEMU with the agent in it. */
#define QEMU(version, agent_says)                                                                  \
    "#!/bin/sh\necho 'ballast-agent: lacks everything' >&2\n"                                      \
    "[ \"$BALLAST_AGENT_PROBE\" = 1 ] && [ \"$1\" = --version ] || exit 1\n"                       \
    "echo '" agent_says "' >&2\necho 'QEMU emulator version " version " (Debian x)'\n"

static void qemus(void **state)
{
    static const struct {
        const char *path, *text;
        mode_t mode;
        const char *what; /* a piece of the finding; NULL: it is not found at all */
        enum finding_level level;
    } cases[] = {
        {"/usr/bin/qemu-system-x86_64", QEMU("7.2.5", "ballast-agent: serves"), 0755,
         "x86_64, 7.2.5, can be served", FINDING_OK},
        {"/usr/libexec/qemu-kvm", QEMU("10.0", "ballast-agent: serves"), 0755,
         "kvm, 10.0, can be served", FINDING_OK},
        {"/opt/qemu/bin/qemu-system-arm", QEMU("7.1.9", "ballast-agent: serves"), 0755,
         "arm, 7.1.9, cannot be served: it is too old", FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", QEMU("9.0.0", "ballast-agent: lacks error_free b"), 0755,
         "it does not export error_free and others", FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", QEMU("9.0.0", "ballast-agent: lacks error_free"), 0755,
         "it does not export error_free", FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", "#!/bin/sh\necho hello\n", 0755, "not tell QEMU's version",
         FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", "#!/bin/sh\nexit 3\n", 0755, "does not start", FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", "#!/bin/sh\nkill -9 $$\n", 0755, "does not start",
         FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", "#!/no/such/shell\n", 0755, "does not start", FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", "#!/bin/sh\necho 'QEMU emulator version 9.0.0'\n", 0755,
         "there is no agent to load", FINDING_NOTE},
        {"/usr/bin/qemu-system-i386", QEMU("9.0.0", "ballast-agent: serves"), 0644, NULL,
         FINDING_OK},
        {"/usr/bin/qemu-img", QEMU("9.0.0", "ballast-agent: serves"), 0755, NULL, FINDING_OK},
        {"/elsewhere/qemu-system-i386", QEMU("9.0.0", "ballast-agent: serves"), 0755, NULL,
         FINDING_OK},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        static struct findings findings;
        char root[ROOT_BYTES];
        make_root(root);
        struct doctor_host host = make_host(root);
        make_file(root, cases[i].path, cases[i].text, cases[i].mode);
        findings.count = 0;
        doctor_look_at_qemu(&host, &findings);
        remove_root(root);
        const struct finding *finding = find(&findings, "qemu");
        bool fits = cases[i].what == NULL
                        ? finding == NULL
                        : finding != NULL && strstr(finding->what, cases[i].what) != NULL &&
                              finding->level == cases[i].level;
        if (!fits) {
            fail_msg("case %zu: %s", i, finding != NULL ? finding->what : "nothing");
        }
        assert_int_equal(find(&findings, "agent")->level, FINDING_PROBLEM);
    }
}

static void no_qemu(void **state)
{
    static struct findings findings;
    char root[ROOT_BYTES];
    make_root(root);
    struct doctor_host host = make_host(root);

    (void)state;
    host.agent = "/usr/lib/ballast/ballast-agent.so";
    make_file(root, "/etc/debian_version", "13.0\n", 0644);
    findings.count = 0;
    doctor_look_at_qemu(&host, &findings);
    assert_int_equal(find(&findings, "agent")->level, FINDING_OK);
    const struct finding *finding = find(&findings, "no-qemu");
    assert_non_null(finding);
    assert_int_equal(finding->level, FINDING_PROBLEM);
    assert_non_null(strstr(finding->what, "no QEMU was found"));
    assert_string_equal(finding->fix, "apt-get install qemu-system-x86\n");
    /* One that cannot be served is no help: the made-up agent is not loaded into it. */
    make_file(root, "/usr/bin/qemu-system-x86_64", "#!/bin/sh\necho QEMU emulator version 9.0.0\n",
              0755);
    findings.count = 0;
    doctor_look_at_qemu(&host, &findings);
    remove_root(root);
    assert_non_null(strstr(find(&findings, "qemu")->what, "does not load the agent"));
    assert_non_null(strstr(find(&findings, "no-qemu")->what, "none of the QEMUs"));
}

/* Two names of one file are one QEMU. */
static void the_same_qemu_twice(void **state)
{
    static struct findings findings;
    char root[ROOT_BYTES], from[256];
    make_root(root);
    struct doctor_host host = make_host(root);

    (void)state;
    make_file(root, "/usr/bin/qemu-system-x86_64", QEMU("9.0.0", "ballast-agent: serves"), 0755);
    snprintf(from, sizeof(from), "%s/usr/bin/qemu-kvm", root);
    assert_int_equal(symlink("qemu-system-x86_64", from), 0);
    findings.count = 0;
    doctor_look_at_qemu(&host, &findings);
    remove_root(root);
    assert_int_equal(findings.count, 2); /* it, and the agent */
}

static void how_it_is_told(void **state)
{
    static struct findings findings;
    char text[4096] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");

    (void)state;
    findings_add(&findings, FINDING_OK, "a", "all %s", "well");
    findings_print_fixes(&findings, file);
    fflush(file);
    assert_non_null(strstr(text, "nothing that a command"));
    struct finding *finding = findings_add(&findings, FINDING_PROBLEM, "b", "bad \"b\"");
    finding_advise(finding, "do %d things", 2);
    finding_fix(finding, "first %d", 1);
    finding_fix(finding, "second");
    findings_add(&findings, FINDING_NOTE, "c", "so so");

    rewind(file);
    findings_print(&findings, file);
    fputc('\0', file);
    fflush(file);
    assert_non_null(strstr(text, "ok       a               all well\n"));
    assert_non_null(strstr(text, "problem  b               bad \"b\"\n"));
    assert_non_null(strstr(text, "-> do 2 things\n"));
    assert_non_null(strstr(text, "cannot run domains yet: 1 problem, 1 note."));
    assert_non_null(strstr(text, "--fix"));

    rewind(file);
    findings_print_fixes(&findings, file);
    fputc('\0', file);
    fclose(file);
    assert_non_null(strstr(text, "\n# problem: bad \"b\"\nfirst 1\nsecond\n"));

    json_t *json = findings_to_json(&findings);
    assert_true(json_is_false(json_object_get(json, "fit")));
    json_t *item = json_array_get(json_object_get(json, "findings"), 1);
    assert_string_equal(json_string_value(json_object_get(item, "level")), "problem");
    assert_int_equal(json_array_size(json_object_get(item, "fix")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(item, "fix"), 1)),
                        "second");
    json_decref(json);

    /* What does not fit is left out whole, and never written beyond the end. */
    for (int i = 0; i < 200; i++) {
        finding_fix(finding, "command number %d", i);
    }
    assert_int_equal(finding->fix[strlen(finding->fix) - 1], '\n');
    for (int i = 0; i < 2 * FINDINGS_MAX; i++) {
        findings_add(&findings, FINDING_OK, "many", "%d", i);
    }
    assert_int_equal(findings.count, FINDINGS_MAX);
    assert_string_equal(findings.list[FINDINGS_MAX - 1].what, "127");
}

#define QEMU_CONF "/etc/libvirt/qemu.conf"

static void libvirt(void **state)
{
    static const struct invented hosts[] = {
        {.files = {{"/etc/libvirt/hooks/qemu.d/ballast", "#!/bin/sh\n"}},
         .id = "libvirt-hook",
         .level = FINDING_OK,
         .what = "finds"},
        {.files = {{QEMU_CONF, ""}},
         .id = "libvirt-hook",
         .level = FINDING_NOTE,
         .what = "no hook",
         .advice = "qemu.d/ballast"},
        {.files = {{"/etc/libvirt/libvirtd.conf", ""}},
         .id = "libvirt-device",
         .level = FINDING_NOTE,
         .what = "without /dev/userfaultfd",
         .advice = "set cgroup_device_acl",
         .fix = "\"/dev/userfaultfd\" ]' >>/etc/libvirt/qemu.conf\nsystemctl try-restart"},
        {.files = {{QEMU_CONF,
                    "#cgroup_device_acl = [\n#  \"/dev/userfaultfd\"\n#]\nuser = \"x\"\n"}},
         .id = "libvirt-device",
         .level = FINDING_NOTE,
         .what = "without /dev/userfaultfd",
         .advice = "set cgroup_device_acl",
         .fix = ">>/etc/libvirt/qemu.conf"},
        {.files = {{QEMU_CONF, "user = \"x\"\n  cgroup_device_acl = [\n \"/dev/null\"\n]\n"
                               "x = \"/dev/userfaultfd\"\n"}},
         .id = "libvirt-device",
         .level = FINDING_NOTE,
         .what = "without /dev/userfaultfd",
         .advice = "add \"/dev/userfaultfd\" to cgroup_device_acl"},
        {.files = {{QEMU_CONF, "cgroup_device_acl = [\n \"/dev/null\",\n \"/dev/userfaultfd\"\n]"}},
         .id = "libvirt-device",
         .level = FINDING_OK,
         .what = "lets QEMU have"},
    };
    static struct findings findings;
    struct doctor_host host = make_host("/nonexistent");

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
        check_one(&hosts[i], i, doctor_look_at_libvirt);
    }
    doctor_look_at_libvirt(&host, &findings);
    assert_int_equal(findings.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels),
        cmocka_unit_test(permissions),
        cmocka_unit_test(libvirt),
        cmocka_unit_test(memory),
        cmocka_unit_test(cgroups),
        cmocka_unit_test(kvm),
        cmocka_unit_test(qemus),
        cmocka_unit_test(no_qemu),
        cmocka_unit_test(the_same_qemu_twice),
        cmocka_unit_test(how_it_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
