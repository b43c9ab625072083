/* SPDX-License-Identifier: MIT */
#include "agent/stop.h"

#include "agent/progress.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* How long the end may wait for somebody to read the last line. */
#define SAY_MS 1000
/* And how long it may take altogether. */
#define DEADLINE_S 10

static const char *domain_directory;
static struct termios terminal;
static bool has_terminal;
static int input_flags = -1;

void stop_prepare(const char *directory)
{
    domain_directory = directory;
    has_terminal = tcgetattr(STDIN_FILENO, &terminal) == 0;
    input_flags = fcntl(STDIN_FILENO, F_GETFL);
}

static void restore_terminal(void)
{
    /* In the background, setting the terminal would stop us with SIGTTOU. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    if (has_terminal) {
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
    }
    if (input_flags >= 0) {
        fcntl(STDIN_FILENO, F_SETFL, input_flags);
    }
}

void stop_remove_files(void)
{
    if (domain_directory == NULL) {
        return;
    }
    /* The lock last: until then nobody else takes the folder for his own. */
    static const char *const files[] = {BALLAST_SOCKET_NAME, BALLAST_LOCK_NAME};
    char path[PATH_MAX + 32];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", domain_directory, files[i]);
        unlink(path);
    }
    rmdir(domain_directory);
}

/* Whoever should read it may not: the process ends all the same. A pipe or
 * terminal that can be written to takes so much at once without waiting. */
#define SAY_AT_ONCE_BYTES 512
static void say(const char *text, size_t length)
{
    struct pollfd errors = {.fd = STDERR_FILENO, .events = POLLOUT};
    while (length != 0 && poll(&errors, 1, SAY_MS) == 1) {
        size_t piece = length < SAY_AT_ONCE_BYTES ? length : SAY_AT_ONCE_BYTES;
        ssize_t wrote = write(STDERR_FILENO, text, piece);
        if (wrote <= 0) {
            break;
        }
        text += wrote;
        length -= (size_t)wrote;
    }
}

/* Has the kernel kill us if the end takes too long: a thread may be stuck that
 * holds what we need, and writing may wait where it should not. */
static void set_deadline(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec limit = {.it_value = {.tv_sec = DEADLINE_S}};
    int timer; /* not timer_create(), which may allocate */
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0) {
        syscall(SYS_timer_settime, timer, 0, &limit, NULL);
    }
}

void stop_begin(void)
{
    static atomic_flag stopping = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&stopping)) {
        pause(); /* somebody else is at it; the process ends under us */
    }
    set_deadline();
}

const char *stop_keep(const char *text)
{
    static char path[PATH_MAX + 32];
    if (domain_directory == NULL) {
        return NULL;
    }
    snprintf(path, sizeof(path), "%s/%s", domain_directory, BALLAST_REPORT_NAME);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0) {
        return NULL;
    }
    size_t length = strlen(text);
    bool whole = write(fd, text, length) == (ssize_t)length;
    close(fd);
    return whole ? path : NULL;
}

__attribute__((noreturn, format(printf, 3, 0))) static void
end(enum ballast_exit status, const char *more, const char *format, va_list arguments)
{
    restore_terminal();
    progress_end();

    static char line[1024];
    int prefix = snprintf(line, sizeof(line), "ballast: ");
    int text = vsnprintf(line + prefix, sizeof(line) - (size_t)prefix - 1, format, arguments);
    size_t length = (size_t)prefix + (size_t)(text > 0 ? text : 0);
    length = length < sizeof(line) - 1 ? length : sizeof(line) - 2;
    line[length] = '\n';
    say(line, length + 1);
    if (more != NULL) {
        say(more, strlen(more));
    }

    stop_remove_files();
    _exit(status);
}

void stop_end(enum ballast_exit status, const char *more, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    end(status, more, format, arguments);
    /* It does not return. */
    /* cppcheck-suppress va_end_missing */
}

void stop(enum ballast_exit status, const char *format, ...)
{
    va_list arguments;
    stop_begin();
    va_start(arguments, format);
    end(status, NULL, format, arguments);
    /* It does not return. */
    /* cppcheck-suppress va_end_missing */
}
