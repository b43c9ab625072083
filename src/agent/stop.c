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
#include <termios.h>
#include <unistd.h>

/* How long the end may wait for somebody to read the last line. */
#define SAY_MS 1000

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

/* Whoever should read it may not: the process ends all the same. */
static void say(const char *line, size_t length)
{
    struct pollfd errors = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&errors, 1, SAY_MS) == 1) {
        ssize_t ignored = write(STDERR_FILENO, line, length);
        (void)ignored;
    }
}

void stop(enum ballast_exit status, const char *format, ...)
{
    static atomic_flag stopping = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&stopping)) {
        pause(); /* somebody else is at it; the process ends under us */
    }
    restore_terminal();
    progress_end();

    static char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int prefix = snprintf(line, sizeof(line), "ballast: ");
    int text = vsnprintf(line + prefix, sizeof(line) - (size_t)prefix - 1, format, arguments);
    va_end(arguments);
    size_t length = (size_t)prefix + (size_t)(text > 0 ? text : 0);
    length = length < sizeof(line) - 1 ? length : sizeof(line) - 2;
    line[length] = '\n';
    say(line, length + 1);

    stop_remove_files();
    _exit(status);
}
