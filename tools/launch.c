/* SPDX-License-Identifier: MIT */
/*
 * Becoming QEMU. See launch.h.
 */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "ctl/runtime_dir.h"
#include "host_check.h"

int launch_check_host(struct launch *plan)
{
    struct host_problem problem;

    if (host_find_program(plan->argv[0], plan->program, plan->real_program, &problem) < 0 ||
        host_check_program(plan->program, &problem) < 0 || host_check_kernel(&problem) < 0 ||
        host_find_agent(plan->agent, &problem) < 0) {
        cli_error("%s", problem.text);
        return BALLAST_EXIT_REFUSED;
    }
    return 0;
}

/* Makes the folder and takes the lock. 0 or an exit status. */
static int make_folder(const char *base, const char *name, struct runtime_dir *dir)
{
    int ret = runtime_dir_create(base, name, dir);

    if (ret == 0) {
        return 0;
    }
    if (ret == -EADDRINUSE) {
        cli_error("the name '%s' is taken: a domain of this name is running; choose another with "
                  "--name, or end that one with 'ballast destroy %s'",
                  name, name);
    } else if (ret == -EPERM) {
        cli_error("the folder %s cannot be used: it, or %s in it, belongs to somebody else or can "
                  "be written by others; make it yours with mode 0700, or set "
                  "BALLAST_RUNTIME_DIR",
                  base, name);
    } else if (ret == -ENAMETOOLONG) {
        cli_error("the domain's socket cannot be made: %s/%s/" BALLAST_SOCKET_NAME
                  " is too long for a socket; choose a shorter name or BALLAST_RUNTIME_DIR",
                  base, name);
    } else {
        cli_error("the folder %s/%s cannot be made: %s; check what is there, or set "
                  "BALLAST_RUNTIME_DIR",
                  base, name, strerror(-ret));
    }
    return BALLAST_EXIT_REFUSED;
}

/* LD_PRELOAD as it is, or NULL if there is nothing in it. */
static const char *former_preload(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload != NULL && preload[0] != '\0' ? preload : NULL;
}

/* The agent's configuration, for free(); NULL if it cannot be made: out of
 * memory, or a path that is no UTF-8. */
static char *make_configuration(const struct launch *plan, const struct runtime_dir *dir)
{
    const char *preload = former_preload();
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:I, s:s, s:s, s:b, s:s, s:b}", "name", plan->name, "directory",
        dir->path, "lock_fd", dir->lock_fd, "target_bytes", (json_int_t)plan->target_bytes,
        "max_bytes", (json_int_t)plan->max_bytes, "maxmem_bytes", (json_int_t)plan->maxmem_bytes,
        "on_exhaustion", plan->pause ? "pause" : "crash", "program", plan->real_program, "reserve",
        (int)!plan->no_reserve, "target_word", plan->target_word, "balloon_sets_target",
        (int)plan->balloon_sets_target);
    char *text = NULL;

    if (json != NULL &&
        (preload == NULL || json_object_set_new(json, "preload", json_string(preload)) == 0)) {
        text = json_dumps(json, JSON_COMPACT);
    }
    json_decref(json);
    return text;
}

/* Sets the environment that hands the agent over. 0 or -errno. */
static int set_environment(const struct launch *plan, const struct runtime_dir *dir)
{
    const char *preload = former_preload();
    char *configuration = make_configuration(plan, dir);
    char *list = NULL;
    int ret = configuration != NULL ? 0 : -EILSEQ;

    if (ret == 0 && asprintf(&list, "%s%s%s", plan->agent, preload != NULL ? ":" : "",
                             preload != NULL ? preload : "") < 0) {
        list = NULL;
        ret = -ENOMEM;
    }
    if (ret == 0 &&
        (setenv(BALLAST_AGENT_ENV, configuration, 1) < 0 || setenv("LD_PRELOAD", list, 1) < 0)) {
        ret = -errno;
    }
    free(list);
    free(configuration);
    return ret;
}

/* Becomes QEMU; returns only if that fails, with an exit status. */
static int become_qemu(const struct launch *plan, struct runtime_dir *dir)
{
    int ret = set_environment(plan, dir);

    if (ret == 0 && fcntl(dir->lock_fd, F_SETFD, 0) < 0) {
        ret = -errno;
    }
    if (ret < 0) {
        runtime_dir_remove(dir);
        cli_error("the agent's environment cannot be made: %s; check that all paths and "
                  "LD_PRELOAD are UTF-8",
                  strerror(-ret));
        return BALLAST_EXIT_REFUSED;
    }
    execv(plan->program, plan->argv);
    ret = -errno;
    runtime_dir_remove(dir);
    cli_error("the program '%s' cannot be executed: %s; check that it is a program for this "
              "machine",
              plan->program, strerror(-ret));
    return BALLAST_EXIT_REFUSED;
}

int launch(const struct launch *plan, const char *base)
{
    static struct runtime_dir dir;
    int ret = make_folder(base, plan->name, &dir);

    return ret != 0 ? ret : become_qemu(plan, &dir);
}
