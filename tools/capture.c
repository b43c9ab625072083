/* SPDX-License-Identifier: MIT */
/*
 * Running a program for what it says. See capture.h.
 */
#include "capture.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "waiting.h"

/* In the child. */
__attribute__((noreturn)) static void become(char *const argv[], char *const environment[],
                                             int output)
{
    int null = open("/dev/null", O_RDONLY);

    /* A group of its own, to be killed with what it starts. */
    setpgid(0, 0);
    for (size_t i = 0; environment[i] != NULL; i++) {
        putenv(environment[i]);
    }
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
        dup2(output, STDERR_FILENO) >= 0) {
        execv(argv[0], argv);
    }
    _exit(127);
}

/* Reads until all writers are gone. 0, or -ETIMEDOUT. */
static int read_all(int fd, int limit_ms, char *text, size_t size)
{
    int64_t deadline_ms = clock_now_ms() + limit_ms;
    size_t used = 0;

    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_now_ms();
        char dropped[512];
        bool full = used == size - 1;
        ssize_t got;

        if (left_ms <= 0 || poll(&poll_fd, 1, (int)left_ms) == 0) {
            text[used] = '\0';
            return -ETIMEDOUT;
        }
        got = full ? read(fd, dropped, sizeof(dropped)) : read(fd, text + used, size - 1 - used);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            text[used] = '\0';
            return 0;
        }
        used += full ? 0 : (size_t)got;
    }
}

int capture(char *const argv[], char *const environment[], int limit_ms, char *text, size_t size)
{
    int ends[2];
    int status = 0;
    int ret;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    child = fork();
    if (child == 0) {
        become(argv, environment, ends[1]);
    }
    ret = child < 0 ? -errno : 0;
    close(ends[1]);
    if (ret == 0) {
        ret = read_all(ends[0], limit_ms, text, size);
        if (ret < 0 && kill(-child, SIGKILL) < 0) {
            kill(child, SIGKILL);
        }
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    }
    close(ends[0]);
    if (ret == 0) {
        ret = WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
    }
    return ret;
}
