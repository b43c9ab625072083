/* SPDX-License-Identifier: MIT */
/*
 * libvirt's qemu hook. When a domain whose emulator is Ballast's is about to start,
 * it leaves for that emulator what the domain asks for, and makes the folder that
 * the user who becomes QEMU could not make; when libvirt has done with the domain it
 * takes both away. It is run by contrib/libvirt/hook, with the domain's XML on its
 * standard input. What it answers with an error, libvirt does not start.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ballast/protocol.h>

#include "cli.h"
#include "ctl/runtime_dir.h"
#include "ctl/runtime_offer.h"
#include "ctl/runtime_path.h"
#include "libvirt_domain.h"
#include "libvirt_request.h"

#define EMULATOR_FILE "ballast-emulator"
#define XML_MAX_BYTES (16U << 20)

static const char help[] =
    "Usage: libvirt-hook DOMAIN OPERATION SUB-OPERATION EXTRA <XML\n"
    "\n"
    "Ballast's part of libvirt's hook for QEMU; libvirt runs it, see ballast-libvirt(7).\n"
    "\n"
    "Exit status: 0; 1 if the domain cannot have what it asks for; 2 if the command line\n"
    "is wrong.\n";

/* Reads standard input to its end. NULL and errno if that cannot be done. */
static char *read_input(size_t *length)
{
    char *text = NULL;
    size_t size = 0;
    size_t used = 0;
    size_t got;

    do {
        char *grown = realloc(text, size + 65536);

        if (grown == NULL || size > XML_MAX_BYTES) {
            free(grown != NULL ? grown : text);
            errno = grown != NULL ? EFBIG : ENOMEM;
            return NULL;
        }
        text = grown;
        size += 65536;
        got = fread(text + used, 1, size - used, stdin);
        used += got;
    } while (got > 0);
    *length = used;
    return text;
}

/* Is that program, however it is called, Ballast's emulator? */
static bool is_ours(const char *emulator)
{
    char real[PATH_MAX];
    const char *slash;

    if (emulator[0] != '/' || realpath(emulator, real) == NULL) {
        return false;
    }
    slash = strrchr(real, '/');
    return strcmp(slash + 1, EMULATOR_FILE) == 0;
}

/* A user or group of a DAC label: "+NUMBER", a name, or a number. */
static bool read_id(const char *text, bool is_group, unsigned long *id)
{
    char *end;

    if (text[0] != '+') {
        const struct passwd *user = is_group ? NULL : getpwnam(text);
        const struct group *group = is_group ? getgrnam(text) : NULL;

        if (user != NULL || group != NULL) {
            *id = user != NULL ? user->pw_uid : group->gr_gid;
            return true;
        }
    }
    errno = 0;
    *id = strtoul(text + (text[0] == '+'), &end, 10);
    return errno == 0 && *end == '\0' && text[0] != '\0' && text[0] != '-' && *id < (uid_t)-1;
}

/* Who QEMU is going to be. Without a word of libvirt's, who we are. */
static int read_owner(const struct libvirt_domain *domain, uid_t *uid, gid_t *gid)
{
    char user[sizeof(domain->owner)];
    char *group;
    unsigned long ids[2] = {geteuid(), getegid()};

    memcpy(user, domain->owner, sizeof(user));
    group = strchr(user, ':');
    if (group != NULL) {
        *group++ = '\0';
    }
    if (user[0] != '\0' &&
        (!read_id(user, false, &ids[0]) || (group != NULL && !read_id(group, true, &ids[1])))) {
        cli_error("the domain '%s' cannot be started: its DAC label '%s' names nobody known here; "
                  "correct its <seclabel>",
                  domain->name, domain->owner);
        return EXIT_FAILED;
    }
    *uid = (uid_t)ids[0];
    *gid = (gid_t)ids[1];
    return 0;
}

/* What Ballast calls the domain: as libvirt does, or, if its name is none for us, by
 * its UUID. */
static const char *choose_name(const struct libvirt_domain *domain)
{
    return runtime_name_is_valid(domain->name) ? domain->name : domain->uuid;
}

/* Says why BASE/NAME could not be made. */
static void explain(const char *base, const char *name, int ret)
{
    if (ret == -EADDRINUSE) {
        cli_error("the name '%s' is taken: a domain of this name is running that libvirt did not "
                  "start; end it with 'ballast destroy %s', or rename this one",
                  name, name);
    } else {
        cli_error("the domain's folder %s/%s cannot be made: %s; look at what is there, and whose "
                  "it is",
                  base, name, strerror(-ret));
    }
}

static int prepare(const char *base, const struct libvirt_domain *domain)
{
    struct libvirt_request request = {
        .asks = domain->asks,
        .target_bytes = domain->target_bytes,
        .pause = domain->pause,
        .reserve = domain->reserve,
    };
    const char *name;
    int base_fd;
    uid_t uid;
    gid_t gid;
    int ret = read_owner(domain, &uid, &gid);

    if (ret != 0) {
        return ret;
    }
    name = choose_name(domain);
    memcpy(request.name, name, strlen(name) + 1);
    ret = runtime_base_create(base, &base_fd);
    if (ret == 0) {
        close(base_fd);
        ret = domain->asks ? runtime_offer(base, request.name, uid, gid) : 0;
    }
    if (ret < 0) {
        explain(base, request.name, ret);
        return EXIT_FAILED;
    }
    ret = libvirt_request_write(base, domain->uuid, &request);
    if (ret < 0) {
        cli_error("the emulator cannot be told of '%s': %s; see that %s can be written to",
                  domain->name, strerror(-ret), base);
        runtime_withdraw(base, request.name);
        return EXIT_FAILED;
    }
    return 0;
}

/* libvirt has done with it. What cannot be removed is in nobody's way. */
static int release(const char *base, const struct libvirt_domain *domain)
{
    libvirt_request_remove(base, domain->uuid);
    runtime_withdraw(base, choose_name(domain));
    return 0;
}

int main(int argc, char **argv)
{
    char base[PATH_MAX];
    struct libvirt_domain domain;
    struct libvirt_problem problem;
    bool is_start;
    size_t length;
    char *xml;
    int ret;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (argc < 4) {
        cli_error("this is a hook of libvirt's and lacks its arguments: let libvirt run it; see "
                  "ballast-libvirt(7)");
        return BALLAST_EXIT_USAGE;
    }
    is_start = strcmp(argv[2], "start") == 0 && strcmp(argv[3], "begin") == 0;
    if (!is_start && strcmp(argv[2], "release") != 0) {
        return 0;
    }
    xml = read_input(&length);
    if (xml == NULL) {
        cli_error("the domain's XML cannot be read: %s; let libvirt run this hook",
                  strerror(errno));
        return EXIT_FAILED;
    }
    ret = libvirt_domain_read(xml, length, &domain, &problem);
    free(xml);
    if (ret < 0) {
        cli_error("%s", problem.text);
        return EXIT_FAILED;
    }
    if (!is_ours(domain.emulator)) {
        return 0;
    }
    if (libvirt_base(base) < 0) {
        cli_error("there is no place for the domain's files: neither XDG_RUNTIME_DIR nor "
                  "/run/user/%lu is there; log in so that one is made",
                  (unsigned long)geteuid());
        return EXIT_FAILED;
    }
    umask(022);
    return is_start ? prepare(base, &domain) : release(base, &domain);
}
