/* SPDX-License-Identifier: MIT */
/*
 * The agent in a process that looks like QEMU to it (fake_qemu.c), started the
 * way docs/protocol.md says: what a user, a client and an observer see of it.
 *
 * Usage: test_host_agent AGENT FAKE_QEMU INSPECT
 */
#include "cgroup.h"
#include "fixture.h"

#include "ctl/client.h"
#include "ctl/map.h"
#include "ctl/runtime_dir.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* Nothing here takes so long; whoever waits longer waits for ever. */
#define PATIENCE_MS 60000

#define RAM_MIB    "64"
#define RAM_PAGES  (32 * SUPERPAGE_PAGES)
#define TARGET_MIB 16
#define TARGET     (8 * SUPERPAGE_PAGES)
#define RAM        "block", "pc.ram", "memory-backend-ram", RAM_MIB, "private"

static const char *agent_path, *fake_qemu, *inspect_path;
static char base[64];
static pid_t running; /* the last process started, until it was waited for */

/* How one process is started. Zero: the usual. */
struct plan {
    uint64_t target_mib, max_mib, maxmem_mib;
    const char *config;  /* instead of the usual BALLAST_AGENT */
    const char *program; /* instead of fake_qemu */
    const char *named;   /* what the launcher says the program is */
    const char *preload; /* the user's own */
    const char *group;   /* memory cgroup */
    int terminal;        /* standard input and output, if not 0 */
};

struct process {
    pid_t pid;
    int input, output, errors; /* our ends */
    char socket_path[PATH_MAX], folder[PATH_MAX];
    char config[4096]; /* what BALLAST_AGENT was */
};

/* The child's part of start(). */
__attribute__((noreturn)) static void become(const struct plan *plan, const struct runtime_dir *dir,
                                             const char *config, const int fds[3],
                                             const char *const *arguments)
{
    const char *argv[64] = {plan->program != NULL ? plan->program : fake_qemu};
    size_t count = 1;
    while (*arguments != NULL && count < 63) {
        argv[count++] = *arguments++;
    }
    char preload[PATH_MAX * 2];
    snprintf(preload, sizeof(preload), "%s%s%s", agent_path, plan->preload != NULL ? " " : "",
             plan->preload != NULL ? plan->preload : "");
    if (plan->terminal != 0) {
        setsid(); /* or the terminal may stop us */
    }
    for (int fd = 0; fd < 3; fd++) {
        dup2(fds[fd], fd);
    }
    fcntl(dir->lock_fd, F_SETFD, 0);
    if (plan->group != NULL && !cgroup_enter(plan->group)) {
        _exit(98);
    }
    setenv("LD_PRELOAD", preload, 1);
    setenv("BALLAST_AGENT", config, 1);
    /* For builds with a sanitizer, whose library must bear the preloaded one. */
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);
    execv(argv[0], (char **)argv);
    _exit(97);
}

static struct process start_argv(const struct plan *plan, const char *const *arguments)
{
    struct process process = {0};
    struct runtime_dir dir;
    int input[2], output[2], errors[2];
    assert_int_equal(runtime_dir_create(base, "vm", &dir), 0);
    memcpy(process.socket_path, dir.socket_path, sizeof(dir.socket_path));
    memcpy(process.folder, dir.path, sizeof(dir.path));
    char named[PATH_MAX + 32] = "", preload[PATH_MAX + 32] = "";
    if (plan->named != NULL) {
        snprintf(named, sizeof(named), ", \"program\": \"%s\"", plan->named);
    }
    if (plan->preload != NULL) {
        snprintf(preload, sizeof(preload), ", \"preload\": \"%s\"", plan->preload);
    }
    snprintf(process.config, sizeof(process.config),
             "{\"name\": \"vm\", \"directory\": \"%.1024s\", \"lock_fd\": %d, \"target_bytes\": "
             "%" PRIu64 ", \"max_bytes\": %" PRIu64 ", \"maxmem_bytes\": %" PRIu64
             "%.1024s%.1024s}",
             dir.path, dir.lock_fd,
             (plan->target_mib != 0 ? plan->target_mib : (uint64_t)TARGET_MIB) * MIB,
             plan->max_mib * MIB, plan->maxmem_mib * MIB, named, preload);
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    assert_int_equal(pipe2(errors, O_CLOEXEC), 0);
    int fds[3] = {input[0], output[1], errors[1]};
    if (plan->terminal != 0) {
        fds[0] = fds[1] = plan->terminal;
    }
    fflush(NULL);
    process.pid = fork();
    if (process.pid == 0) {
        become(plan, &dir, plan->config != NULL ? plan->config : process.config, fds, arguments);
    }
    assert_true(process.pid > 0);
    running = process.pid;
    runtime_dir_close(&dir);
    close(input[0]);
    close(output[1]);
    close(errors[1]);
    process.input = input[1];
    process.output = output[0];
    process.errors = errors[0];
    return process;
}

#define start(plan, ...) start_argv(plan, (const char *const[]){__VA_ARGS__, NULL})

/* Reads until the end, or with `line` to the end of a line. */
static void read_text(int fd, char *text, size_t size, bool line)
{
    size_t length = 0;
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    for (;;) {
        if (poll(&poll_fd, 1, PATIENCE_MS) != 1) {
            fail_msg("nothing came for a minute, after: %.*s", (int)length, text);
        }
        ssize_t got = read(fd, text + length, line ? 1 : size - 1 - length);
        if (got <= 0 || length + (size_t)got >= size - 1) {
            break;
        }
        length += (size_t)got;
        if (line && text[length - 1] == '\n') {
            break;
        }
    }
    text[length] = '\0';
}

static void wait_ready(const struct process *process)
{
    char line[64];
    read_text(process->output, line, sizeof(line), true);
    if (strcmp(line, "ready\n") != 0) {
        char errors[1024];
        read_text(process->errors, errors, sizeof(errors), false);
        fail_msg("not ready: %s%s", line, errors);
    }
}

static void go_on(const struct process *process)
{
    assert_int_equal(write(process->input, "\n", 1), 1);
}

/* Waits for its end, and leaves the rest to finish(). */
static void wait_end(const struct process *process)
{
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOWAIT), 0);
}

/* The exit status, or 128 + the signal, and what it wrote to standard error. */
static int finish(struct process *process, char *errors, size_t size)
{
    char text[2048];
    read_text(process->errors, text, sizeof(text), false);
    int status = 0;
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    running = 0;
    close(process->input);
    close(process->output);
    close(process->errors);
    if (errors != NULL) {
        snprintf(errors, size, "%s", text);
    } else if (text[0] != '\0') {
        fail_msg("it said: %s", text);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* It ended with that status and one line that says why, and left no files. */
static void ends_with(struct process *process, int status, const char *why)
{
    char errors[2048];
    int found = finish(process, errors, sizeof(errors));
    if (found != status || strncmp(errors, "ballast: ", 9) != 0 || strstr(errors, why) == NULL ||
        strchr(errors, '\n') != errors + strlen(errors) - 1) {
        fail_msg("status %d with: %s\n instead of %d with one line: %s", found, errors, status,
                 why);
    }
    assert_false(exists(process->folder));
}

static struct ctl_client *connect_to(const struct process *process)
{
    struct ctl_client *client = NULL;
    assert_int_equal(ctl_client_connect(process->socket_path, PATIENCE_MS, &client), 0);
    return client;
}

static json_t *query(const struct process *process)
{
    json_t *reply = NULL;
    struct ctl_error error;
    struct ctl_client *client = connect_to(process);
    assert_int_equal(ctl_client_call(client, "query-domain", NULL, PATIENCE_MS, &reply, &error), 0);
    ctl_client_close(client);
    return reply;
}

static uint64_t count_of(const json_t *reply, const char *key)
{
    assert_true(json_is_integer(json_object_get(reply, key)));
    return (uint64_t)json_integer_value(json_object_get(reply, key));
}

static pages_t resident(pid_t pid, const json_t *reply, const char *start, const char *bytes)
{
    struct residency_reader reader;
    struct residency found;
    assert_int_equal(residency_open(pid, &reader), 0);
    assert_int_equal(residency_scan(&reader,
                                    (struct range){count_of(reply, start), count_of(reply, bytes)},
                                    &found),
                     0);
    residency_close(&reader);
    return found.pages;
}

/* The domain's books, which balance, and the kernel's, which agree. Of the
 * gfns that the guest gave up, `given` still have their page in place. */
static void check_books_with(const struct process *process, pages_t populated, pages_t out,
                             pages_t given)
{
    json_t *reply = query(process);
    pid_t pid = (pid_t)count_of(reply, "pid");
    assert_string_equal(json_string_value(json_object_get(reply, "name")), "vm");
    assert_string_equal(json_string_value(json_object_get(reply, "state")), "running");
    assert_int_equal(count_of(reply, "max_pages"), RAM_PAGES);
    assert_int_equal(count_of(reply, "target_pages"), TARGET);
    assert_int_equal(count_of(reply, "total_pages"), TARGET);
    assert_int_equal(count_of(reply, "populated_pages"), populated);
    assert_int_equal(count_of(reply, "cache_pages"), TARGET - populated);
    assert_int_equal(count_of(reply, "pod_entries_pages"), RAM_PAGES - populated - out);
    assert_int_equal(count_of(reply, "out_pages"), out);
    assert_int_equal(count_of(reply, "given_pages"), given);
    assert_int_equal(count_of(reply, "ram_bytes"), pages_to_bytes(RAM_PAGES));
    assert_int_equal(resident(pid, reply, "ram_start", "ram_bytes"), populated + given);
    assert_int_equal(resident(pid, reply, "cache_start", "cache_bytes"),
                     TARGET - populated - given);
    json_decref(reply);
}

static void check_books(const struct process *process, pages_t populated)
{
    check_books_with(process, populated, 0, 0);
}

/* The whole map, but for whether the kernel has huge pages. */
static void check_map(const struct process *process, const char *expected)
{
    char text[RAM_PAGES / SUPERPAGE_PAGES + 1];
    struct ctl_client *client = connect_to(process);
    struct ctl_error error;
    struct ctl_map map;
    assert_int_equal(ctl_map_query(client, PATIENCE_MS, &map, &error), 0);
    ctl_client_close(client);
    assert_int_equal(map.count, RAM_PAGES / SUPERPAGE_PAGES);
    for (size_t i = 0; i < map.count; i++) {
        if (map.letters[i] == 'H') {
            map.letters[i] = 'R';
        }
    }
    ctl_map_pack(map.letters, map.count, text);
    assert_string_equal(text, expected);
    ctl_map_free(&map);
}

/* After a test that failed: the next one starts afresh. */
static int clean_up(void **unused)
{
    (void)unused;
    if (running != 0) {
        kill(running, SIGKILL);
        waitpid(running, NULL, 0);
        running = 0;
    }
    runtime_clean(base, "vm");
    return 0;
}

static void exports(void **unused)
{
    (void)unused;
    static const char *const expected =
        "__open64_"
        "2\nfcntl64\nmadvise\nmbind\nmlockall\nmmap64\nmremap\nmunmap\nopen64\nsetsockopt\n";
    char command[PATH_MAX + 128], text[1024];
    snprintf(command, sizeof(command),
             "nm -D --defined-only '%s' 2>&1 | awk '{ print $3 }' | LC_ALL=C sort", agent_path);
    FILE *nm = popen(command, "re");
    assert_non_null(nm);
    size_t length = fread(text, 1, sizeof(text) - 1, nm);
    text[length] = '\0';
    pclose(nm);
    if (length == 0) {
        skip_because("nm is not there");
    }
    assert_string_equal(text, expected);
}

/* What a wrapper script's shell sees: all is left for the program to come. */
static void other_programs(void **unused)
{
    (void)unused;
    char text[8192], expected[16384], lock[PATH_MAX + 16];
    struct process process =
        start((&(struct plan){.program = inspect_path, .named = "/usr/bin/qemu"}), "x");
    read_text(process.output, text, sizeof(text), false);
    assert_int_equal(finish(&process, NULL, 0), 0);
    int fd = -1;
    sscanf(strstr(process.config, "lock_fd") + 10, "%d", &fd);
    snprintf(lock, sizeof(lock), "%.4000s/lock", process.folder);
    snprintf(expected, sizeof(expected), "LD_PRELOAD=%s\nBALLAST_AGENT=%s\nfd %d %s\nend\n",
             agent_path, process.config, fd, lock);
    assert_string_equal(text, expected);
    assert_true(exists(lock)); /* nothing was removed either */
    assert_int_equal(runtime_clean(base, "vm"), 0);
}

/* The launcher's program, or one called like QEMU, which cannot be served. */
static void unusable_programs(void **unused)
{
    (void)unused;
    static const char *const why = "does not export";
    struct process process =
        start((&(struct plan){.program = inspect_path, .named = inspect_path}), "x");
    ends_with(&process, BALLAST_EXIT_REFUSED, why);

    char copy[PATH_MAX + 32];
    snprintf(copy, sizeof(copy), "%.4000s", inspect_path);
    snprintf(strrchr(copy, '/'), 32, "/qemu-system-test-%d", (int)getpid());
    if (link(inspect_path, copy) == 0) {
        process = start((&(struct plan){.program = copy}), "x");
        wait_end(&process);
        unlink(copy);
        ends_with(&process, BALLAST_EXIT_REFUSED, why);
    }
}

static void serves_guest_ram(void **unused)
{
    (void)unused;
    char lock[PATH_MAX + 16];
    /* Memory of another kind comes first: it is not guest RAM, by its owner. */
    struct process process =
        start(&(struct plan){0}, "block", "pc.bios", "-", "4", "private", RAM, "ready", "hang");
    wait_ready(&process);
    check_books(&process, 0);
    snprintf(lock, sizeof(lock), "%.4000s/lock", process.folder);
    assert_true(exists(lock) && exists(process.socket_path));
    kill(process.pid, SIGKILL);
    assert_int_equal(finish(&process, NULL, 0), 128 + SIGKILL);
    assert_int_equal(runtime_clean(base, "vm"), 0);

    process = start(&(struct plan){0}, RAM, "ready", "touch", "4096", "512", "touch", "100", "1",
                    "touch", "1024", "512", "touch", "2048", "512", "ready", "check", "4096", "512",
                    "check", "100", "1", "zeros", "101", "411", "check", "1024", "512", "check",
                    "2048", "512", "exit", "7");
    wait_ready(&process);
    check_books(&process, 0);
    go_on(&process);
    wait_ready(&process);
    check_books(&process, 4 * SUPERPAGE_PAGES);
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 7);
    assert_false(exists(process.folder)); /* removed at exit */
}

#define DONTNEED       "4"
#define FREE           "8"
#define DOFORK         "11"
#define MERGEABLE      "12"
#define DONTDUMP       "16"
#define DODUMP         "17"
#define POPULATE_READ  "22"
#define POPULATE_WRITE "23"
#define DONTNEED_LOCK  "24"

/* Free page reporting and migration drop pages: they stay the domain's. */
static void discards(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, RAM, "touch", "0", "1536", "ready", "madvise", "0", "512",
              DONTNEED, "ready", "madvise", "600", "2", DONTNEED, "madvise", "700", "10", FREE,
              "madvise", "800", "5", DONTNEED_LOCK, "ready", "zeros", "600", "2", "zeros", "700",
              "10", "zeros", "800", "5", "check", "599", "1", "check", "602", "98", "check", "710",
              "90", "check", "805", "731", "zeros", "0", "512", "ready");
    wait_ready(&process);
    check_books(&process, 3 * SUPERPAGE_PAGES);
    go_on(&process);
    wait_ready(&process);
    check_books(&process, 2 * SUPERPAGE_PAGES);
    go_on(&process);
    wait_ready(&process);
    check_books(&process, 2 * SUPERPAGE_PAGES - 17);
    check_map(&process, "PiRP29");
    go_on(&process);
    wait_ready(&process);
    json_t *reply = query(&process);
    assert_int_equal(count_of(reply, "total_pages"), TARGET);
    json_decref(reply);
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
}

/* One page at a time is a balloon: pages are given up, and collected with their
 * superpage; the guest may use them unasked, or take them back. */
static void balloon(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, RAM, "machine", "balloon", "16", "touch", "0", "512", "touch",
              "2048", "512", "ready", "give", "0", "512", "give", "2148", "3", "give", "1024",
              "512", "ready", "touch", "2148", "1", "take", "2149", "1", "take", "1024", "1",
              "ready", "check", "2148", "1", "reset", "reset", "ready");
    wait_ready(&process);
    check_books(&process, 2 * SUPERPAGE_PAGES);
    go_on(&process);
    wait_ready(&process);
    check_books_with(&process, SUPERPAGE_PAGES - 3, 2 * SUPERPAGE_PAGES + 3, 3);
    check_map(&process, "OPOPyP27");
    go_on(&process);
    wait_ready(&process);
    check_books_with(&process, SUPERPAGE_PAGES - 2, 2 * SUPERPAGE_PAGES + 1, 2);
    check_map(&process, "OPqPyP27");
    go_on(&process);
    wait_ready(&process);
    check_books(&process, 0);
    check_map(&process, "P32");
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
}

/* What was given up need not be sent, if its page is gone; unless who asks for it
 * at the other end would wait for ever. */
static void a_migration_skips_what_is_out(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, RAM, "machine", "touch", "0", "512", "touch", "2048", "512",
              "round", "0", "0", "give", "0", "512", "give", "2148", "3", "give", "1024", "500",
              "round", "0", "1012", "round", "1", "0", "take", "0", "1", "touch", "1024", "2",
              "round", "0", "1009", "reset", "reset", "round", "0", "0", "exit", "0");
    assert_int_equal(finish(&process, NULL, 0), 0);
}

/* A state that comes in brings another request to the balloon: ours is made again.
 * What somebody asks of it later stands, though the guest be stopped. */
static void the_balloon_of_a_state_that_came_in(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, RAM, "machine", "balloon", "16", "came", "40", "run", "balloon",
              "16", "came", "24", "stop", "run", "balloon", "24", "reset", "reset", "came", "50",
              "run", "balloon", "16", "exit", "0");
    assert_int_equal(finish(&process, NULL, 0), 0);
}

/* A guest that starts anew uses other pages: it must not need pages for what it
 * held before. Neither the first reset nor waking from suspend is a new start. */
static void resets(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, RAM, "touch", "0", "3072", "reset", "machine", "check", "0",
              "3072", "wakeup", "check", "0", "3072", "give", "3072", "1024", "give", "0", "1",
              "ready", "reset", "ready", "zeros", "0", "1", "touch", "8192", "3072", "check",
              "8192", "3072", "reset", "touch", "1024", "3584", "check", "1024", "3584");
    wait_ready(&process);
    check_books_with(&process, 3071, 1025, 1);
    go_on(&process);
    wait_ready(&process);
    check_books(&process, SUPERPAGE_PAGES); /* what firmware may be in stays */
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
}

/* What would undo PoD once the guest runs is refused, and it runs on. */
static void refusals_while_it_runs(void **unused)
{
    (void)unused;
    static const char *const majors[] = {"7", "8", "9", "10"};
    for (size_t i = 0; i < sizeof(majors) / sizeof(majors[0]); i++) {
        struct process process =
            start(&(struct plan){.max_mib = 64}, "version", majors[i], RAM, "postcopy", "device",
                  "machine", "block", "dimm0", "memory-backend-ram", "32", "private", "memdev",
                  "device", "postcopy", "touch", "0", "512", "check", "0", "512", "ready");
        wait_ready(&process);
        check_books(&process, SUPERPAGE_PAGES);
        go_on(&process);
        assert_int_equal(finish(&process, NULL, 0), 0);
    }
}

/* What would have the kernel write to, or read, pages that it does not pin is refused:
 * O_DIRECT on NFS and CephFS, vhost-scsi, sending without copying. */
static void what_is_not_pinned(void **unused)
{
    (void)unused;
    char errors[1024] = "";
    struct process process =
        start(&(struct plan){0}, RAM, "direct", "0xef53", "1", "direct", "0x6969", "0", "direct",
              "0x00c36400", "0", "direct", "0x58465342", "1", "zerocopy", "device", "vhostscsi",
              "touch", "0", "512", "check", "0", "512", "ready");
    wait_ready(&process);
    check_books(&process, SUPERPAGE_PAGES);
    go_on(&process);
    assert_int_equal(finish(&process, errors, sizeof(errors)), 0);
    assert_non_null(strstr(errors, "ballast: a disk on NFS"));
    assert_ptr_equal(strchr(errors, '\n'), strrchr(errors, '\n')); /* it is said once */
}

/* prealloc=on, mem-merge=on and the like bring nothing in, and no harm. */
static void advice_that_is_not_taken(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, RAM, "touch", "0", "512", "madvise", "0", "16384", POPULATE_WRITE,
              "madvise", "0", "16384", POPULATE_READ, "madvise", "0", "16384", MERGEABLE, "madvise",
              "0", "16384", DOFORK, "forkexit", "fixed", "mremap", "elsewhere", "mlockall", "check",
              "0", "512", "touch", "1024", "512", "ready");
    wait_ready(&process);
    check_books(&process, 2 * SUPERPAGE_PAGES);
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
    assert_false(exists(process.folder));
}

/* Waits until a figure is that. */
static void wait_count(const struct process *process, const char *key, uint64_t wanted)
{
    uint64_t is = 0;
    for (int tries = 0; tries < PATIENCE_MS / 10; tries++) {
        json_t *reply = query(process);
        is = count_of(reply, key);
        json_decref(reply);
        if (is == wanted) {
            return;
        }
        usleep(10000);
    }
    fail_msg("%s is %" PRIu64 ", not %" PRIu64, key, is, wanted);
}

#define DIMM_MIB   "32"
#define DIMM_PAGES (32 * MIB / PAGE_BYTES)

/* Two nodes and a target that no single one could hold; a DIMM, used, that goes again. */
static void blocks_of_ram(void **unused)
{
    (void)unused;
    static const struct plan plan = {.target_mib = 80, .max_mib = 96, .maxmem_mib = 160};
    struct process process =
        start(&plan, RAM, "block", "ram1", "memory-backend-ram", "32", "private", "use", "1", "600",
              "machine", "balloon", "80", "ready", "block", "dimm0", "memory-backend-ram", DIMM_MIB,
              "private", "ready", "dimm", "2", "ready", "use", "2", "700", "ready", "balloon", "80",
              "undimm", "2", "ready", "free", "2", "ready");
    const pages_t small = 96 * MIB / PAGE_BYTES, target = 80 * MIB / PAGE_BYTES;
    wait_ready(&process);
    wait_count(&process, "max_pages", small);
    wait_count(&process, "total_pages", target);
    go_on(&process); /* it is there, and not the guest's */
    wait_ready(&process);
    wait_count(&process, "max_pages", small + DIMM_PAGES);
    wait_count(&process, "out_pages", DIMM_PAGES);
    go_on(&process); /* it is the guest's, and not used */
    wait_ready(&process);
    wait_count(&process, "out_pages", DIMM_PAGES);
    go_on(&process);
    wait_ready(&process);
    wait_count(&process, "out_pages", 0); /* used */
    wait_count(&process, "total_pages", target);
    go_on(&process);
    wait_ready(&process);
    wait_count(&process, "out_pages", DIMM_PAGES); /* given up */
    go_on(&process);
    wait_ready(&process);
    wait_count(&process, "max_pages", small); /* gone */
    wait_count(&process, "out_pages", 0);
    wait_count(&process, "total_pages", target);
    json_t *reply = query(&process);
    assert_int_equal(json_array_size(json_object_get(reply, "ram_blocks")), 2);
    json_decref(reply);
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
    assert_false(exists(process.folder));
}

/* What /proc says of the mapping that begins there: a line of numa_maps. */
static void check_policy(pid_t pid, uint64_t start, const char *policy)
{
    char path[64], line[1024], wanted[32];
    snprintf(path, sizeof(path), "/proc/%d/numa_maps", (int)pid);
    snprintf(wanted, sizeof(wanted), "%" PRIx64 " %s", start, policy);
    FILE *maps = fopen(path, "re");
    bool found = false;
    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        found = strncmp(line, wanted, strlen(wanted)) == 0 && isspace(line[strlen(wanted)]);
    }
    rewind(maps);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        print_message("%s", line);
    }
    fclose(maps);
    assert_true(found);
}

/* host-nodes and policy of memory back ends: kept, in the cache too, if they agree. */
static void host_nodes(void **unused)
{
    (void)unused;
    if (access("/proc/self/numa_maps", R_OK) != 0) {
        skip();
    }
    struct process process = start(&(struct plan){.max_mib = 96}, RAM, "policy", "0", "2", "1",
                                   "block", "ram1", "memory-backend-ram", "32", "private", "policy",
                                   "1", "2", "1", "machine", "use", "1", "600", "ready");
    wait_ready(&process);
    json_t *reply = query(&process);
    pid_t pid = (pid_t)count_of(reply, "pid");
    check_policy(pid, count_of(reply, "cache_start"), "bind:0");
    for (size_t i = 0; i < 2; i++) {
        const json_t *block = json_array_get(json_object_get(reply, "ram_blocks"), i);
        check_policy(pid, count_of(block, "start"), "bind:0");
    }
    json_decref(reply);
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
    process = start(&(struct plan){.max_mib = 96}, RAM, "policy", "0", "2", "1", "block", "ram1",
                    "memory-backend-ram", "32", "private", "policy", "1", "1", "1");
    ends_with(&process, BALLAST_EXIT_REFUSED, "the same host-nodes and policy");
    /* There is no node 63 here. */
    process = start(&(struct plan){0}, RAM, "policy", "0", "2", "0x4000000000000000");
    ends_with(&process, BALLAST_EXIT_REFUSED, "NUMA nodes that host-nodes names");
}

/* Whether a core dump has the mapping that begins there, by /proc. */
static bool is_dumped(pid_t pid, uint64_t start)
{
    char path[64], line[1024], wanted[32];
    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    snprintf(wanted, sizeof(wanted), "%" PRIx64 "-", start);
    FILE *maps = fopen(path, "re");
    bool inside = false, found = false;
    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        inside = inside || strncmp(line, wanted, strlen(wanted)) == 0;
        found = inside && strncmp(line, "VmFlags:", strlen("VmFlags:")) == 0;
    }
    fclose(maps);
    assert_true(found);
    return strstr(line, " dd") == NULL;
}

/* dump=off keeps guest RAM out of core dumps, and the cache is in none, ever. */
static void core_dumps(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, RAM, "touch", "0", "512", "ready", "madvise", "0", "16384",
              DONTDUMP, "touch", "512", "512", "ready", "madvise", "0", "16384", DODUMP, "ready");
    for (int step = 0; step < 3; step++) {
        wait_ready(&process);
        json_t *reply = query(&process);
        pid_t pid = (pid_t)count_of(reply, "pid");
        assert_int_equal(is_dumped(pid, count_of(reply, "ram_start")), step != 1);
        assert_false(is_dumped(pid, count_of(reply, "cache_start")));
        json_decref(reply);
        go_on(&process);
    }
    assert_int_equal(finish(&process, NULL, 0), 0);
}

/* Before there is guest RAM, and where there is no agent's business at all. */
static void other_memory(void **unused)
{
    (void)unused;
    struct process process = start(&(struct plan){0}, "elsewhere", "exit", "3");
    assert_int_equal(finish(&process, NULL, 0), 3);
    assert_false(exists(process.folder)); /* it never had guest RAM: qemu -version, say */
}

static void refusals(void **unused)
{
    (void)unused;
    static const struct {
        const char *why;
        struct plan plan;
        const char *arguments[16];
    } cases[] = {
        {"more than -m's size and maxmem",
         {.max_mib = 64},
         {RAM, "block", "ram1", "memory-backend-ram", "32", "private"}},
        {"is shared memory", {0}, {"block", "ram0", "memory-backend-ram", RAM_MIB, "shared"}},
        {"memory-backend-file", {0}, {"block", "ram0", "memory-backend-file", RAM_MIB, "private"}},
        {"memory-backend-memfd", {0}, {"block", "ram0", "memory-backend-memfd", RAM_MIB, "shared"}},
        {"has 64 MiB, and -m says 32 MiB", {.max_mib = 32}, {RAM}},
        {"not aligned", {0}, {"block", "ram0", "memory-backend-ram", RAM_MIB, "unaligned"}},
        {"pins all of its RAM", {0}, {"pinned", RAM}},
        {"has no memory backend", {.max_mib = 64}, {"block", "old.ram", "-", RAM_MIB, "private"}},
        {"66 MiB is not between 2 MiB and guest RAM", {.target_mib = 66}, {RAM, "machine"}},
        {"16 MiB is not between 2 MiB and guest RAM",
         {0},
         {"block", "tiny", "memory-backend-ram", "1", "private"}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct process process = start_argv(&cases[i].plan, cases[i].arguments);
        ends_with(&process, BALLAST_EXIT_REFUSED, cases[i].why);
    }
}

/* Without a configuration that can be trusted there is no folder to remove. */
static void bad_configurations(void **unused)
{
    (void)unused;
    static const char *const configs[] = {
        "",
        "{}",
        "{\"name\": \"vm\", \"directory\": \"/nowhere\", \"lock_fd\": 3, \"target_bytes\": "
        "1048576, "
        "\"max_bytes\": 0}",
    };
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        char errors[1024];
        struct process process = start((&(struct plan){.config = configs[i]}), RAM, "hang");
        assert_int_equal(finish(&process, errors, sizeof(errors)), BALLAST_EXIT_REFUSED);
        assert_non_null(strstr(errors, "ballast: BALLAST_AGENT is not as it must be: "));
        assert_ptr_equal(strchr(errors, '\n'), errors + strlen(errors) - 1);
        assert_int_equal(runtime_clean(base, "vm"), 0);
    }
}

static void short_host(void **unused)
{
    (void)unused;
    char group[1024];
    if (!cgroup_make(128 * MIB, group, sizeof(group))) {
        skip_because("no memory cgroup could be made (it takes root, or a delegated one)");
    }
    struct process process = start((&(struct plan){.target_mib = 256, .group = group}), "block",
                                   "pc.ram", "memory-backend-ram", "512", "private", "hang");
    ends_with(&process, BALLAST_EXIT_REFUSED, "the host cannot give the target: 256 MiB wanted, ");
    cgroup_remove(group);
}

static void exhaustion(void **unused)
{
    (void)unused;
    struct process process = start(&(struct plan){0}, RAM, "touch", "0", "16384", "exit", "0");
    ends_with(&process, BALLAST_EXIT_EXHAUSTED,
              "out of memory: the guest touched gfn 0x1000, all "
              "4096 pages of the target (16 MiB)");
    /* A guest that only clears its memory goes through all of it. */
    process =
        start(&(struct plan){0}, RAM, "clear", "0", "16384", "zeros", "0", "16384", "exit", "0");
    assert_int_equal(finish(&process, NULL, 0), 0);
}

static void destruction(void **unused)
{
    (void)unused;
    json_t *reply = NULL;
    struct ctl_error error;
    struct process process = start(&(struct plan){0}, RAM, "touch", "0", "600", "ready");
    wait_ready(&process);
    struct ctl_client *client = connect_to(&process);
    assert_int_equal(ctl_client_call(client, "destroy", NULL, PATIENCE_MS, &reply, &error), 0);
    assert_int_equal(json_object_size(reply), 0);
    assert_int_equal(ctl_client_wait_closed(client, PATIENCE_MS), 0);
    ctl_client_close(client);
    json_decref(reply);
    ends_with(&process, BALLAST_EXIT_DESTROYED, "domain vm was destroyed on request");
}

static void daemonized(void **unused)
{
    (void)unused;
    struct process process =
        start(&(struct plan){0}, "daemonize", RAM, "touch", "0", "512", "background", "hang");
    assert_int_equal(finish(&process, NULL, 0), 0);
    /* The parent is gone, and took nothing with it. */
    check_books(&process, SUPERPAGE_PAGES);
    enum runtime_state state = RUNTIME_DEAD;
    assert_int_equal(runtime_look(base, "vm", &state), 0);
    assert_int_equal(state, RUNTIME_LIVE);
    pid_t pid = 0;
    int pidfd = -1;
    assert_int_equal(runtime_open_process(base, "vm", 0, &pid, &pidfd), 0);
    json_t *reply = query(&process);
    assert_true(pid != process.pid && pid == (pid_t)count_of(reply, "pid"));
    json_decref(reply);
    struct ctl_client *client = connect_to(&process);
    struct ctl_error error;
    assert_int_equal(ctl_client_call(client, "destroy", NULL, PATIENCE_MS, &reply, &error), 0);
    json_decref(reply);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, PATIENCE_MS), 1);
    ctl_client_close(client);
    close(pidfd);
    assert_false(exists(process.folder));
}

/* What QEMU starts (a network script, say) finds nothing of ours. */
static void children(void **unused)
{
    (void)unused;
    char text[4096];
    struct process process =
        start(&(struct plan){0}, RAM, "touch", "0", "1", "inspect", inspect_path, "ready",
              "inspect", inspect_path, "forkexit", "ready");
    struct ctl_client *client = NULL;
    for (int round = 0; round < 2; round++) {
        static const char *const expected[] = {"LD_PRELOAD=(none)\n", "BALLAST_AGENT=(none)\n",
                                               "end\n"};
        for (int line = 0; line < 3; line++) {
            read_text(process.output, text, sizeof(text), true);
            assert_string_equal(text, expected[line]);
        }
        wait_ready(&process);
        if (client == NULL) {
            client = connect_to(&process); /* one more descriptor for the second child */
        }
        go_on(&process);
    }
    ctl_client_close(client);
    assert_int_equal(finish(&process, NULL, 0), 0);

    /* The user's own LD_PRELOAD comes back. */
    process = start((&(struct plan){.preload = "libpthread.so.0"}), RAM, "inspect", inspect_path);
    read_text(process.output, text, sizeof(text), true);
    assert_string_equal(text, "LD_PRELOAD=libpthread.so.0\n");
    read_text(process.output, text, sizeof(text), true);
    assert_string_equal(text, "BALLAST_AGENT=(none)\n");
    assert_int_equal(finish(&process, NULL, 0), 0);
}

/* A child that exits in the ordinary way takes nothing down with it. */
static void a_child_exits(void **unused)
{
    (void)unused;
    struct process process = start(&(struct plan){0}, RAM, "touch", "0", "512", "forkexit", "ready",
                                   "check", "0", "512");
    wait_ready(&process);
    check_books(&process, SUPERPAGE_PAGES);
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
    assert_false(exists(process.folder));
}

static void terminal(void **unused)
{
    (void)unused;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    struct termios before, after;
    assert_int_equal(tcgetattr(slave, &before), 0);
    int flags = fcntl(slave, F_GETFL);
    assert_true(before.c_lflag & ECHO);
    struct process process =
        start((&(struct plan){.terminal = slave}), "raw", RAM, "touch", "0", "16384");
    ends_with(&process, BALLAST_EXIT_EXHAUSTED, "out of memory");
    assert_int_equal(tcgetattr(slave, &after), 0);
    assert_int_equal(after.c_lflag, before.c_lflag);
    assert_int_equal(after.c_oflag, before.c_oflag);
    assert_int_equal(after.c_iflag, before.c_iflag);
    assert_int_equal(fcntl(slave, F_GETFL), flags);
    close(slave);
    close(master);
}

static void killed(void **unused)
{
    (void)unused;
    enum runtime_state state = RUNTIME_DEAD;
    struct process process = start(&(struct plan){0}, RAM, "touch", "0", "512", "ready");
    wait_ready(&process);
    assert_int_equal(runtime_look(base, "vm", &state), 0);
    assert_int_equal(state, RUNTIME_LIVE);
    assert_int_equal(runtime_clean(base, "vm"), -EBUSY);
    kill(process.pid, SIGKILL);
    assert_int_equal(finish(&process, NULL, 0), 128 + SIGKILL);
    assert_true(exists(process.socket_path));
    assert_int_equal(runtime_look(base, "vm", &state), 0);
    assert_int_equal(state, RUNTIME_DEAD);
    assert_int_equal(runtime_clean(base, "vm"), 0);
    assert_false(exists(process.folder));
}

/* QEMU frees guest RAM when it is done with it: so is the domain. */
static void unmapped(void **unused)
{
    (void)unused;
    struct process process = start(&(struct plan){0}, RAM, "touch", "0", "512", "munmap", "ready");
    wait_ready(&process);
    json_t *reply = query(&process);
    assert_string_equal(json_string_value(json_object_get(reply, "state")), "dying");
    assert_int_equal(count_of(reply, "cache_pages"), 0);
    assert_int_equal(resident(process.pid, reply, "cache_start", "cache_bytes"), 0);
    json_decref(reply);
    go_on(&process);
    assert_int_equal(finish(&process, NULL, 0), 0);
    assert_false(exists(process.folder));
}

int main(int count, char **arguments)
{
    if (count != 4) {
        fprintf(stderr, "usage: %s AGENT FAKE_QEMU INSPECT\n", arguments[0]);
        return 2;
    }
    agent_path = realpath(arguments[1], NULL);
    fake_qemu = realpath(arguments[2], NULL);
    inspect_path = realpath(arguments[3], NULL);
    if (agent_path == NULL || fake_qemu == NULL || inspect_path == NULL) {
        perror(arguments[0]);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(exports, clean_up),
        cmocka_unit_test_teardown(other_programs, clean_up),
        cmocka_unit_test_teardown(unusable_programs, clean_up),
        cmocka_unit_test_teardown(serves_guest_ram, clean_up),
        cmocka_unit_test_teardown(discards, clean_up),
        cmocka_unit_test_teardown(balloon, clean_up),
        cmocka_unit_test_teardown(a_migration_skips_what_is_out, clean_up),
        cmocka_unit_test_teardown(the_balloon_of_a_state_that_came_in, clean_up),
        cmocka_unit_test_teardown(resets, clean_up),
        cmocka_unit_test_teardown(refusals_while_it_runs, clean_up),
        cmocka_unit_test_teardown(what_is_not_pinned, clean_up),
        cmocka_unit_test_teardown(advice_that_is_not_taken, clean_up),
        cmocka_unit_test_teardown(blocks_of_ram, clean_up),
        cmocka_unit_test_teardown(host_nodes, clean_up),
        cmocka_unit_test_teardown(core_dumps, clean_up),
        cmocka_unit_test_teardown(other_memory, clean_up),
        cmocka_unit_test_teardown(refusals, clean_up),
        cmocka_unit_test_teardown(bad_configurations, clean_up),
        cmocka_unit_test_teardown(short_host, clean_up),
        cmocka_unit_test_teardown(exhaustion, clean_up),
        cmocka_unit_test_teardown(destruction, clean_up),
        cmocka_unit_test_teardown(daemonized, clean_up),
        cmocka_unit_test_teardown(children, clean_up),
        cmocka_unit_test_teardown(a_child_exits, clean_up),
        cmocka_unit_test_teardown(terminal, clean_up),
        cmocka_unit_test_teardown(killed, clean_up),
        cmocka_unit_test_teardown(unmapped, clean_up),
    };
    if (!fixture_available()) {
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    close_range(3, ~0U, 0); /* whatever we were started with is not the agent's */
    strcpy(base, "/tmp/ballast-test-XXXXXX");
    if (mkdtemp(base) == NULL) {
        perror(base);
        return 1;
    }
    int failed = cmocka_run_group_tests_name("host_agent", tests, NULL, NULL);
    rmdir(base);
    return failed;
}
