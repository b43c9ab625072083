/* SPDX-License-Identifier: MIT */
/*
 * ballast doctor: the agent, and the QEMUs that it might be loaded into. Each QEMU is
 * asked for its version with the agent in it, which says whether it could serve
 * (src/agent/probe.h): so the dynamic linker, and not a guess, answers.
 */
#include "doctor.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ballast/protocol.h>

#include "capture.h"
#include "host_check.h"

/* The oldest QEMU whose interfaces the agent knows. */
#define QEMU_MAJOR 7
#define QEMU_MINOR 2

/* `qemu-system-x86_64 --version` takes a tenth of this on a slow machine. */
#define VERSION_LIMIT_MS 10000

#define QEMUS_MAX 40

/* Beside those in $PATH: Debian, Red Hat, self-built. */
static const char *const usual_folders[] = {"/usr/local/bin", "/usr/bin", "/usr/libexec",
                                            "/usr/local/libexec", "/opt/qemu/bin"};

struct qemus {
    char *paths[QEMUS_MAX]; /* resolved */
    size_t count;
    bool any_serves;
};

static bool is_program(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* Takes over `path`. */
static void keep(struct qemus *qemus, char *path)
{
    bool known = path == NULL || qemus->count == QEMUS_MAX;

    for (size_t i = 0; !known && i < qemus->count; i++) {
        known = strcmp(path, qemus->paths[i]) == 0;
    }
    if (known) {
        free(path);
    } else {
        qemus->paths[qemus->count++] = path;
    }
}

static void find_in_folder(const char *folder, const char *pattern, struct qemus *qemus)
{
    char path[PATH_MAX];
    glob_t found;

    if (snprintf(path, sizeof(path), "%s/%s", folder, pattern) >= (int)sizeof(path) ||
        glob(path, 0, NULL, &found) != 0) {
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (is_program(found.gl_pathv[i])) {
            keep(qemus, realpath(found.gl_pathv[i], NULL));
        }
    }
    globfree(&found);
}

static void find_qemus(const struct doctor_host *host, struct qemus *qemus)
{
    char folders[4096];
    char *rest = folders;
    char *folder;

    snprintf(folders, sizeof(folders), "%s", host->search_path);
    for (size_t i = 0; i < sizeof(usual_folders) / sizeof(usual_folders[0]); i++) {
        size_t used = strlen(folders);

        snprintf(folders + used, sizeof(folders) - used, ":%s", usual_folders[i]);
    }
    while ((folder = strsep(&rest, ":")) != NULL) {
        char path[PATH_MAX];

        /* Relative ones would mean something else wherever doctor is called. */
        if (folder[0] == '/' &&
            snprintf(path, sizeof(path), "%s%s", host->root, folder) < (int)sizeof(path)) {
            find_in_folder(path, "qemu-system-*", qemus);
            find_in_folder(path, "qemu-kvm", qemus);
        }
    }
}

/* The last line that begins with `prefix`: what follows there, or NULL. A program
 * that a script becomes speaks after the script. */
static const char *find_line(const char *text, const char *prefix)
{
    const char *found = NULL;

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, prefix, strlen(prefix)) == 0) {
            found = line + strlen(prefix);
        }
    }
    return found;
}

/* Runs it. 0 and its output, or -errno. */
static int ask(const struct doctor_host *host, char *path, char *text, size_t size)
{
    char preload[PATH_MAX + 16];
    char probe[] = BALLAST_PROBE_ENV "=1";
    char version[] = "--version";
    char *const argv[] = {path, version, NULL};
    char *const environment[] = {probe, host->agent != NULL ? preload : NULL, NULL};
    int ret;

    snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", host->agent != NULL ? host->agent : "");
    ret = capture(argv, environment, VERSION_LIMIT_MS, text, size);
    return ret > 0 ? -ENOEXEC : ret;
}

static struct finding *add_unusable(struct findings *findings, const char *path,
                                    const char *version, const char *why)
{
    return findings_add(findings, FINDING_NOTE, "qemu", "%s%s%.*s%s cannot be served: %s", path,
                        version != NULL ? ", " : "",
                        version != NULL ? (int)strcspn(version, " (,\n") : 0,
                        version != NULL ? version : "", version != NULL ? "," : "", why);
}

static void look_at_answer(const struct doctor_host *host, const char *path, const char *text,
                           struct qemus *qemus, struct findings *findings)
{
    const char *version = find_line(text, "QEMU emulator version ");
    const char *lacks = find_line(text, "ballast-agent: lacks ");
    int major = 0, minor = 0;

    if (version == NULL || sscanf(version, "%d.%d", &major, &minor) != 2) {
        finding_advise(add_unusable(findings, path, NULL, "it does not tell QEMU's version"),
                       "see what '%s --version' says", path);
    } else if (major < QEMU_MAJOR || (major == QEMU_MAJOR && minor < QEMU_MINOR)) {
        finding_advise(add_unusable(findings, path, version, "it is too old"),
                       "use QEMU %d.%d or newer", QEMU_MAJOR, QEMU_MINOR);
    } else if (find_line(text, "ballast-agent: serves") != NULL) {
        qemus->any_serves = true;
        findings_add(findings, FINDING_OK, "qemu", "%s, %.*s, can be served", path,
                     (int)strcspn(version, " (,\n"), version);
    } else if (lacks != NULL) {
        char why[160];

        snprintf(why, sizeof(why), "it does not export %.*s%s", (int)strcspn(lacks, " \n"), lacks,
                 lacks[strcspn(lacks, " \n")] == ' ' ? " and others" : "");
        finding_advise(add_unusable(findings, path, version, why),
                       "use a QEMU that is built with modules, as the distributions' "
                       "qemu-system-x86_64 is, or install the package with its debug symbols");
    } else if (host->agent != NULL) {
        finding_advise(add_unusable(findings, path, version,
                                    "the dynamic linker does not load the agent into it"),
                       "use a QEMU for this machine's C library, or build Ballast for that one");
    } else {
        add_unusable(findings, path, version, "there is no agent to load");
    }
}

static void look_at_program(const struct doctor_host *host, char *path, struct qemus *qemus,
                            struct findings *findings)
{
    struct host_problem problem;
    char text[32768]; /* each process of a script says what it lacks */
    int ret = host_check_program(path, &problem);

    if (ret < 0) {
        findings_add(findings, FINDING_NOTE, "qemu", "%s", problem.text);
        return;
    }
    ret = ask(host, path, text, sizeof(text));
    if (ret < 0) {
        finding_advise(add_unusable(findings, path, NULL,
                                    ret == -ETIMEDOUT ? "it does not end when asked for its version"
                                                      : "it does not start"),
                       "see what '%s --version' says", path);
        return;
    }
    look_at_answer(host, path, text, qemus, findings);
}

static void look_at_agent(const struct doctor_host *host, struct findings *findings)
{
    if (host->agent != NULL) {
        findings_add(findings, FINDING_OK, "agent", "%s", host->agent);
    } else {
        findings_add(findings, FINDING_PROBLEM, "agent", "%s", host->agent_problem);
    }
}

void doctor_look_at_qemu(const struct doctor_host *host, struct findings *findings)
{
    struct qemus qemus = {.count = 0};
    struct finding *finding;

    look_at_agent(host, findings);
    find_qemus(host, &qemus);
    for (size_t i = 0; i < qemus.count; i++) {
        look_at_program(host, qemus.paths[i], &qemus, findings);
        free(qemus.paths[i]);
    }
    if (qemus.any_serves || (host->agent == NULL && qemus.count > 0)) {
        return;
    }
    finding = findings_add(findings, FINDING_PROBLEM, "no-qemu",
                           qemus.count == 0 ? "no QEMU was found in PATH or the usual places"
                                            : "none of the QEMUs found can be served");
    finding_advise(finding, "install the distribution's QEMU, %d.%d or newer", QEMU_MAJOR,
                   QEMU_MINOR);
    if (doctor_has(host, "/etc/debian_version")) {
        finding_fix(finding, "apt-get install qemu-system-x86");
    }
}
