/* SPDX-License-Identifier: MIT */
/*
 * A process that looks like a domain to the toolstack: it has the folder, the
 * lock and the control server, and answers with made-up figures.
 *
 * fake_domain BASE NAME MODE; prints "ready" and then waits to be ended:
 *   normal     answers, and obeys destroy
 *   stubborn   answers, and does not end when destroyed
 *   deaf       has a socket that nobody serves
 *   starting   has no socket yet
 *   strange    answers without some of the keys
 *   refusing   refuses destroy
 */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <ballast/protocol.h>

#include "ctl/runtime_dir.h"
#include "ctl/server.h"

struct fake {
    const char *name;
    const char *mode;
};

static bool is_mode(const struct fake *fake, const char *mode)
{
    return strcmp(fake->mode, mode) == 0;
}

static int query_domain(void *owner, const json_t *arguments, json_t **result,
                        struct ctl_error *error)
{
    const struct fake *fake = owner;
    int ret = ctl_arguments_check(arguments, NULL, error);

    if (ret < 0) {
        return ret;
    }
    if (is_mode(fake, "strange")) {
        *result = json_pack("{s:s, s:s}", "name", fake->name, "pid", "seven");
        return 0;
    }
    *result = json_pack(
        "{s:s, s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:i, s:i, s:i, s:i, s:i, "
        "s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}",
        "name", fake->name, "pid", (int)getpid(), "state", "running", "max_pages", 262144,
        "target_pages", 65536, "total_pages", 65536, "populated_pages", 16384, "cache_pages", 49152,
        "pod_entries_pages", 245760, "out_pages", 0, "covered", 0, "faults", 77, "populated_2m", 32,
        "populated_4k", 5, "reclaimed_2m", 3, "reclaimed_4k", 2, "sweeps", 1, "busy_skips", 4,
        "fault_p50_ns", 50000, "fault_p99_ns", 130000, "fault_max_ns", 2000000, "cache_superpages",
        90, "ram_start", (json_int_t)0x7f0000000000, "ram_bytes", (json_int_t)1 << 30,
        "cache_start", (json_int_t)0x7e0000000000, "cache_bytes", (json_int_t)1 << 30);
    return *result != NULL ? 0 : -ENOMEM;
}

static int destroy(void *owner, const json_t *arguments, json_t **result, struct ctl_error *error)
{
    (void)result;
    if (is_mode(owner, "refusing")) {
        ctl_error_set(error, CTL_WRONG_STATE, "no, thank you");
        return -EBUSY;
    }
    return ctl_arguments_check(arguments, NULL, error);
}

static void end(void *owner)
{
    if (!is_mode(owner, "stubborn")) {
        _exit(BALLAST_EXIT_DESTROYED);
    }
}

static int listen_only(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    /* runtime_dir_create() has made sure that it fits. */
    memcpy(address.sun_path, path, strlen(path));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0) {
        return -errno;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct ctl_command commands[] = {
        {"query-domain", query_domain, NULL},
        {"destroy", destroy, end},
    };
    struct runtime_dir dir;
    struct ctl_server *server;
    struct fake fake;
    int ret;

    if (argc != 4) {
        fputs("usage: fake_domain BASE NAME MODE\n", stderr);
        return BALLAST_EXIT_USAGE;
    }
    fake = (struct fake){.name = argv[2], .mode = argv[3]};
    ret = runtime_dir_create(argv[1], fake.name, &dir);
    if (ret == 0 && is_mode(&fake, "deaf")) {
        ret = listen_only(dir.socket_path);
    } else if (ret == 0 && !is_mode(&fake, "starting")) {
        const struct ctl_server_config config = {
            .path = dir.socket_path,
            .name = fake.name,
            .commands = commands,
            .command_count = 2,
            .owner = &fake,
        };

        ret = ctl_server_start(&config, &server);
    }
    if (ret < 0) {
        fprintf(stderr, "fake_domain: %s\n", strerror(-ret));
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        pause();
    }
}
