/* SPDX-License-Identifier: MIT */
/* See observer_stop.h. */
#include "observer_stop.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Reads a small file of /proc. False if it is not there (any more). */
static bool read_small(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    size_t length;

    if (file == NULL) {
        return false;
    }
    length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
    return length > 0;
}

/* Can this thread not run? One that is gone cannot. */
static bool thread_is_still(pid_t pid, const char *tid)
{
    char path[320];
    char text[512];
    const char *after_name;

    snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)pid, tid);
    if (!read_small(path, text, sizeof(text))) {
        return true;
    }
    /* The name may contain anything, ')' too; the state follows the last one. */
    after_name = strrchr(text, ')');
    if (after_name == NULL || after_name[1] == '\0') {
        return false;
    }
    switch (after_name[2]) {
    case 'T':
    case 't':
    case 'Z':
    case 'X':
        return true;
    case 'D':
        /* In the kernel, on behalf of a system call that touched a missing
         * page: signals do not wake it, only the fault's server does. */
        snprintf(path, sizeof(path), "/proc/%d/task/%s/wchan", (int)pid, tid);
        return read_small(path, text, sizeof(text)) && strcmp(text, "handle_userfault") == 0;
    default:
        return false;
    }
}

/* 1 if no thread can run, 0 if one may, -ESRCH if the process is gone. */
static int all_still(pid_t pid)
{
    char path[64];
    struct dirent *entry;
    bool still = true;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    if (dir == NULL) {
        return -ESRCH;
    }
    while (still && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            still = thread_is_still(pid, entry->d_name);
        }
    }
    closedir(dir);
    return still;
}

int process_stop(pid_t pid, int timeout_ms)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    if (kill(pid, SIGSTOP) < 0) {
        return -errno;
    }
    for (int waited = 0; waited <= timeout_ms; waited++) {
        /* Twice: the first walk may have passed a thread that made another. */
        int r = all_still(pid);

        if (r > 0) {
            r = all_still(pid);
        }
        if (r != 0) {
            return r < 0 ? r : 0;
        }
        nanosleep(&pause, NULL);
    }
    return -ETIMEDOUT;
}

void process_continue(pid_t pid)
{
    kill(pid, SIGCONT);
}
