/* SPDX-License-Identifier: MIT */
/*
 * QEMU runs a monitor's commands on its main thread, with its big lock. Bringing memory
 * from the host takes up to seconds, in which the guest shall run on: so `balloon` is
 * made a command that QEMU runs in a coroutine, which yields until a thread of ours is
 * done.
 */
#include "agent/monitor.h"

#include "agent/qemu.h"
#include "agent/target.h"
#include "agent/the_guest.h"
#include "base/clock.h"
#include "base/thread.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* QEMU's QmpCommand (include/qapi/qmp/dispatch.h), as far as it concerns us; so from
 * QEMU 5.2, where coroutines came, to 10. */
typedef void command_function(void *arguments, void **result, void **error);
struct qmp_command {
    const char *name;
    command_function *function;
    int options;
};
#define IN_COROUTINE (1 << 3)

/* How often it is looked whether QEMU may have sent a BALLOON_CHANGE, and for how many
 * looks after the guest's balloon moved that may be so: QEMU holds back events that
 * follow each other within a second. */
#define LOOK_NS     UINT64_C(1000000000)
#define LOOKS_AFTER 3

static struct {
    void *commands;
    struct qmp_command *(*qmp_find_command)(const void *commands, const char *name);
    int64_t (*qdict_get_try_int)(const void *dict, const char *key, int64_t otherwise);
    size_t (*qdict_size)(const void *dict);
    void (*qdict_put_int)(void *dict, const char *key, int64_t value);
    void *(*qemu_coroutine_self)(void);
    void (*qemu_coroutine_yield)(void);
    void (*aio_co_wake)(void *coroutine);
    void (*qapi_event_send_balloon_change)(int64_t actual);
} functions;

/* What QEMU's commands do by themselves. */
static command_function *plain_balloon, *plain_query;

static bool resolve(void)
{
    const struct qemu_wanted wanted[] = {
        {"qmp_commands", &functions.commands},
        {"qmp_find_command", (void **)&functions.qmp_find_command},
        {"qdict_get_try_int", (void **)&functions.qdict_get_try_int},
        {"qdict_size", (void **)&functions.qdict_size},
        {"qdict_put_int", (void **)&functions.qdict_put_int},
        {"qemu_coroutine_self", (void **)&functions.qemu_coroutine_self},
        {"qemu_coroutine_yield", (void **)&functions.qemu_coroutine_yield},
        {"aio_co_wake", (void **)&functions.aio_co_wake},
        {"qapi_event_send_balloon_change", (void **)&functions.qapi_event_send_balloon_change},
    };
    return qemu_look_up(wanted, sizeof(wanted) / sizeof(wanted[0]), NULL);
}

static uint64_t total_bytes(void)
{
    struct guest_report r;
    guest_describe(&the_guest, &r);
    return pages_to_bytes(r.total_pages);
}

/* A `balloon` that is being executed; on the stack of its coroutine. */
struct change {
    uint64_t bytes;
    void *coroutine;
    int err;
    struct ctl_error error;
};

static void finish_change(void *opaque)
{
    struct change *change = opaque;
    functions.aio_co_wake(change->coroutine);
}

static void *change_thread(void *opaque)
{
    struct change *change = opaque;
    bool more;
    change->err = target_set(change->bytes, &more, &change->error);
    while (change->err == 0 && more) {
        change->err = target_step(&more, &change->error);
    }
    qemu_call(finish_change, change);
    return NULL;
}

static void set_balloon(void *arguments, void **result, void **error)
{
    int64_t value = functions.qdict_get_try_int(arguments, "value", -1);
    if (value < 0 || functions.qdict_size(arguments) != 1) {
        plain_balloon(arguments, result, error); /* it says what is wrong */
        return;
    }
    struct change change = {
        .bytes = (uint64_t)value - (uint64_t)value % PAGE_BYTES,
        .coroutine = functions.qemu_coroutine_self(),
    };
    if (thread_start(NULL, 0, change_thread, &change) != 0) {
        qemu_set_error(error,
                       "Ballast cannot change the target: there is no thread to be had; look "
                       "at the limits on the process");
        return;
    }
    functions.qemu_coroutine_yield();
    if (change.err != 0) {
        qemu_set_error(error, change.error.desc);
    }
}

static void query_balloon(void *arguments, void **result, void **error)
{
    plain_query(arguments, result, error);
    if (*result != NULL) {
        functions.qdict_put_int(*result, "actual", (int64_t)total_bytes());
    }
}

static void send_event(void *unused)
{
    (void)unused;
    functions.qapi_event_send_balloon_change((int64_t)total_bytes());
}

static void *tell_thread(void *unused)
{
    (void)unused;
    uint64_t moved_before = 0;
    pages_t total_before = 0;
    for (unsigned looks_left = 0;;) {
        struct guest_report r;
        guest_describe(&the_guest, &r);
        uint64_t moved = r.counters.given_up_pages + r.counters.taken_back_pages;
        if (moved != moved_before || r.total_pages != total_before) {
            looks_left = LOOKS_AFTER;
        }
        moved_before = moved;
        total_before = r.total_pages;
        if (looks_left != 0 && qemu_machine_is_made()) {
            looks_left--;
            qemu_call(send_event, NULL);
        }
        clock_sleep_ns(LOOK_NS);
    }
    return NULL;
}

/* Puts our function into a command's place. NULL if there is no such command. */
static command_function *take(const char *name, command_function *ours, int options)
{
    struct qmp_command *command = functions.qmp_find_command(functions.commands, name);
    if (command == NULL || strcmp(command->name, name) != 0) {
        return NULL;
    }
    command_function *theirs = command->function;
    command->function = ours;
    command->options |= options;
    return theirs;
}

int monitor_take_over(void)
{
    if (!resolve()) {
        return -ENOSYS;
    }
    plain_query = take("query-balloon", query_balloon, 0);
    plain_balloon = take("balloon", set_balloon, IN_COROUTINE);
    if (plain_query == NULL || plain_balloon == NULL) {
        return -ENOSYS;
    }
    return thread_start(NULL, 0, tell_thread, NULL) == 0 ? 0 : -EAGAIN;
}
