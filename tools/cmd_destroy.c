/* SPDX-License-Identifier: MIT */
/*
 * ballast destroy: ends a domain, by asking its agent or, if that does not
 * work, by killing its process.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli.h"
#include "ctl/client.h"
#include "ctl/runtime_dir.h"
#include "domain.h"
#include "progress.h"
#include "waiting.h"

#define DEFAULT_TIMEOUT_S 5
#define MAX_TIMEOUT_S     3600
/* How long a killed process may take: the kernel frees all its memory first. */
#define KILL_MS  30000
#define FIND_MS  1000
#define RETRY_MS 50

static const char help[] =
    "Usage: ballast destroy [--timeout SECONDS] NAME\n"
    "\n"
    "Ends a domain at once, as if its power failed; its memory goes back to the\n"
    "host. QEMU ends with status 82. If the domain does not end in time, its\n"
    "process is killed.\n"
    "\n"
    "Options:\n"
    "  --timeout SECONDS  how long to wait before killing (5)\n"
    "\n"
    "Examples:\n"
    "  ballast destroy vm1\n"
    "  ballast destroy --timeout 0.5 vm1\n";

/* A domain that is being destroyed. */
struct victim {
    const char *base;
    const char *name;
    char socket_path[PATH_MAX];
    int64_t started;
    int64_t deadline; /* of being nice */
    pid_t pid;
    int pidfd; /* -1: not found */
};

static int left_ms(int64_t deadline)
{
    int64_t left = deadline - clock_now_ms();

    return left > 0 ? (int)left : 0;
}

/* The same, but no longer than until progress is due. */
static int tick_ms(int64_t deadline)
{
    int left = left_ms(deadline);

    return left < PROGRESS_MS ? left : PROGRESS_MS;
}

/* Says how long it is being waited for, on a terminal. */
static void show_progress(const struct victim *victim, const char *doing)
{
    progress_show("%s: %s; %" PRId64 " s", victim->name, doing,
                  (clock_now_ms() - victim->started) / 1000);
}

/* Waits a little between two attempts; false when the time is over. */
static bool wait_to_retry(int64_t deadline)
{
    struct timespec wait = {.tv_nsec = RETRY_MS * 1000000L};

    if (left_ms(deadline) == 0) {
        return false;
    }
    nanosleep(&wait, NULL);
    return true;
}

/* Asks once. 0, or the errors of ctl_client_connect() and ctl_client_call(). */
static int ask_once(struct victim *victim, struct ctl_error *error)
{
    struct ctl_client *client;
    json_t *result = NULL;
    pid_t pid;
    int ret = ctl_client_connect(victim->socket_path, left_ms(victim->deadline), &client);

    if (ret < 0) {
        return ret;
    }
    /* Who listens there, so that we know whom to wait for. If it is not to be
     * found, waiting for the lock will do. */
    if (victim->pidfd < 0 && ctl_client_peer(client, &pid) == 0) {
        runtime_open_process(victim->base, victim->name, pid, &victim->pid, &victim->pidfd);
    }
    ret = ctl_client_begin(client, "destroy", NULL, left_ms(victim->deadline));
    if (ret == 0) {
        do {
            ret = ctl_client_finish(client, tick_ms(victim->deadline), &result, error);
            show_progress(victim, "its memory goes back to the host");
        } while (ret == -ETIMEDOUT && left_ms(victim->deadline) > 0);
    }
    json_decref(result);
    ctl_client_close(client);
    return ret;
}

/* Asks until the time is over. A domain that has just been started does not
 * listen yet, and one with too many clients is busy: both may pass. */
static int ask(struct victim *victim, struct ctl_error *error)
{
    int ret;

    do {
        show_progress(victim, "asking it to end");
        ret = ask_once(victim, error);
    } while ((ret == -ENOENT || ret == -ECONNREFUSED ||
              (ret == -EREMOTEIO && strcmp(error->class_name, CTL_BUSY) == 0)) &&
             wait_to_retry(victim->deadline));
    progress_end();
    return ret;
}

/* Is the domain gone? Its process may still have children with the lock. */
static bool is_gone(const struct victim *victim)
{
    enum runtime_state state;

    return runtime_look(victim->base, victim->name, &state) == 0 && state != RUNTIME_LIVE;
}

static bool wait_until_gone(struct victim *victim, int64_t deadline, const char *doing)
{
    struct pollfd pollfd = {.fd = victim->pidfd, .events = POLLIN};
    bool gone;

    while (victim->pidfd >= 0 && poll(&pollfd, 1, tick_ms(deadline)) <= 0 &&
           left_ms(deadline) > 0) {
        show_progress(victim, doing);
    }
    while (!(gone = is_gone(victim)) && wait_to_retry(deadline)) {
        show_progress(victim, doing);
    }
    progress_end();
    return gone;
}

/* Finds the process without its help. */
static int find_process(struct victim *victim)
{
    pid_t pid = 0;

    /* A process that hangs still has its socket. */
    ctl_client_find_listener(victim->socket_path, FIND_MS, &pid);
    return runtime_open_process(victim->base, victim->name, pid, &victim->pid, &victim->pidfd);
}

/* Kills the process and waits for its end. 0, or EXIT_FAILED and a message. */
static int kill_domain(struct victim *victim)
{
    int ret = victim->pidfd < 0 ? find_process(victim) : 0;

    if (ret < 0) {
        if (is_gone(victim)) {
            return 0;
        }
        cli_error("the domain '%s' cannot be killed: its process was not found (%s); look for the "
                  "holder of %s/%s/" BALLAST_LOCK_NAME " with fuser(1)",
                  victim->name, strerror(-ret), victim->base, victim->name);
        return EXIT_FAILED;
    }
    if (pidfd_send_signal(victim->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
        cli_error("the domain '%s' cannot be killed: signalling process %ld: %s; be the user who "
                  "started it, or root",
                  victim->name, (long)victim->pid, strerror(errno));
        return EXIT_FAILED;
    }
    if (!wait_until_gone(victim, clock_now_ms() + KILL_MS,
                         "killed, and the kernel frees its memory")) {
        cli_error(
            "the domain '%s' is not gone: its process %ld was killed, and is still there after "
            "%d s; look at what it waits for (/proc/PID/wchan, the kernel's log)",
            victim->name, (long)victim->pid, KILL_MS / 1000);
        return EXIT_FAILED;
    }
    return 0;
}

static void print_killed(const struct victim *victim, int ret, const struct ctl_error *error)
{
    if (ret == 0) {
        printf("%s: did not end in time after it was asked; killed (process %ld)\n", victim->name,
               (long)victim->pid);
    } else {
        printf("%s: could not be asked (%s); killed (process %ld)\n", victim->name,
               ret == -EREMOTEIO ? error->desc : strerror(-ret), (long)victim->pid);
    }
}

static int destroy_live(struct victim *victim)
{
    struct ctl_error error = {.desc = ""};
    int asked = ask(victim, &error);
    int ret;

    if ((asked == 0 || asked == -ECONNRESET) &&
        wait_until_gone(victim, victim->deadline, "its process ends")) {
        printf("%s: destroyed\n", victim->name);
        return 0;
    }
    if (asked == -EACCES) {
        cli_error("the domain '%s' cannot be destroyed: permission denied; be the user who "
                  "started it, or root",
                  victim->name);
        return EXIT_FAILED;
    }
    if (is_gone(victim)) {
        printf("%s: ended by itself\n", victim->name);
        return 0;
    }
    ret = kill_domain(victim);
    if (ret == 0) {
        print_killed(victim, asked, &error);
    }
    return ret;
}

static int remove_leftovers(const char *base, const char *name)
{
    int ret = runtime_forget_report(base, name);

    if (ret == 0) {
        ret = runtime_clean(base, name);
    }
    /* Busy: somebody has started a new domain of this name already. Not permitted, to root:
     * the folder is of the user to whom libvirt's hook gave it, and the hook takes it away. */
    if (ret < 0 && ret != -EBUSY && (ret != -EPERM || geteuid() != 0)) {
        cli_error("the leftovers in %s/%s cannot be removed: %s; look what is there", base, name,
                  strerror(-ret));
        return EXIT_FAILED;
    }
    return 0;
}

static int destroy(const char *base, const char *name, int timeout_ms)
{
    struct victim victim = {
        .base = base,
        .name = name,
        .started = clock_now_ms(),
        .deadline = clock_now_ms() + timeout_ms,
        .pidfd = -1,
    };
    enum runtime_state state = RUNTIME_NONE;
    int ret = runtime_socket_path(base, name, victim.socket_path, sizeof(victim.socket_path));

    if (ret == 0) {
        ret = runtime_look(base, name, &state);
    }
    if (ret < 0) {
        cli_error("the domain '%s' cannot be looked at: %s; check that %s is your folder", name,
                  strerror(-ret), base);
        return EXIT_FAILED;
    }
    if (state == RUNTIME_NONE) {
        return cli_unknown_domain(base, name);
    }
    if (state == RUNTIME_LIVE) {
        ret = destroy_live(&victim);
        if (victim.pidfd >= 0) {
            close(victim.pidfd);
        }
    }
    if (ret == 0) {
        ret = remove_leftovers(base, name);
    }
    if (ret == 0 && state == RUNTIME_DEAD) {
        printf("%s: was dead already; removed what it left\n", name);
    }
    return ret != 0 ? ret : domain_finish_output();
}

static int run(int argc, char **argv)
{
    const char *timeout = NULL;
    const struct cli_option options[] = {{"--timeout", &timeout, NULL}, {NULL, NULL, NULL}};
    int timeout_ms = DEFAULT_TIMEOUT_S * 1000;
    char base[PATH_MAX];
    int rest;
    int ret = cli_read_options(&cmd_destroy, options, argc, argv, &rest);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (argc - rest != 1) {
        return cli_usage_error("destroy", "destroy takes one name, and got %d", argc - rest);
    }
    if (timeout != NULL) {
        ret = cli_read_seconds("destroy", "--timeout", timeout, MAX_TIMEOUT_S, &timeout_ms);
    }
    if (ret == 0) {
        ret = cli_check_name("destroy", argv[rest]);
    }
    if (ret == 0) {
        ret = cli_find_base(base);
    }
    return ret != 0 ? ret : destroy(base, argv[rest], timeout_ms);
}

const struct cli_command cmd_destroy = {
    .name = "destroy",
    .summary = "end a domain at once",
    .help = help,
    .run = run,
};
