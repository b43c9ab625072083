/* SPDX-License-Identifier: MIT */
/* See observer_stop.h. */
#include "observer_stop.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNNERS_MAX 64
/* Ticks are 10 ms. */
#define SPINNING_TICKS 3

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

/* Says of a process that would not stop what its threads do. */
static void describe_threads(pid_t pid)
{
    char path[320];
    char text[512];
    char where[64];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)pid, entry->d_name);
        if (entry->d_name[0] == '.' || !read_small(path, text, sizeof(text))) {
            continue;
        }
        snprintf(path, sizeof(path), "/proc/%d/task/%s/wchan", (int)pid, entry->d_name);
        where[0] = '\0';
        read_small(path, where, sizeof(where));
        fprintf(stderr, "observer: would not stop: %.64s... in %s\n", text, where);
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* Threads that ran on after the signal, and how much they had run when that was first seen. */
struct runners {
    unsigned long tids[RUNNERS_MAX];
    unsigned long ticks[RUNNERS_MAX];
    size_t count;
};

/*
 * Whether a thread that runs has been in the kernel ever since the signal, which stops it before
 * it is back in its program: then it asks for a missing page over and over, because it has a
 * signal pending, and moves none. All else that moves pages there takes a millisecond at most.
 */
static bool spins(struct runners *runners, const char *tid, const char *stat_after_name)
{
    unsigned long id = strtoul(tid, NULL, 10);
    unsigned long user;
    unsigned long system;
    size_t i = 0;

    /* After the name: state, ten other fields, then ticks of processor time. */
    if (sscanf(stat_after_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &system) != 2) {
        return false;
    }
    while (i < runners->count && runners->tids[i] != id) {
        i++;
    }
    if (i == runners->count && i < RUNNERS_MAX) {
        runners->tids[i] = id;
        runners->ticks[i] = user + system;
        runners->count++;
    }
    return i < runners->count && user + system >= runners->ticks[i] + SPINNING_TICKS;
}

/* Can this thread not run, or not move pages? One that is gone cannot. */
static bool thread_is_still(pid_t pid, const char *tid, struct runners *runners)
{
    char path[320];
    char text[512];
    char where[64];
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
        if (read_small(path, where, sizeof(where)) && strcmp(where, "handle_userfault") == 0) {
            return true;
        }
        return spins(runners, tid, after_name);
    default:
        return spins(runners, tid, after_name);
    }
}

/* 1 if no thread can run, 0 if one may, -ESRCH if the process is gone. */
static int all_still(pid_t pid, struct runners *runners)
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
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            still = thread_is_still(pid, entry->d_name, runners) && still;
        }
    }
    closedir(dir);
    return still;
}

int process_stop(pid_t pid, int timeout_ms)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct runners runners = {.count = 0};

    if (kill(pid, SIGSTOP) < 0) {
        return -errno;
    }
    for (int waited = 0; waited <= timeout_ms; waited++) {
        /* Twice: the first walk may have passed a thread that made another. */
        int r = all_still(pid, &runners);

        if (r > 0) {
            r = all_still(pid, &runners);
        }
        if (r != 0) {
            return r < 0 ? r : 0;
        }
        nanosleep(&pause, NULL);
    }
    describe_threads(pid);
    return -ETIMEDOUT;
}

void process_continue(pid_t pid)
{
    kill(pid, SIGCONT);
}
