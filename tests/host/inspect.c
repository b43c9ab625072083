/* SPDX-License-Identifier: MIT */
/* Prints what a program finds that somebody else started: the two variables
 * that concern the agent, and its open descriptors above standard error. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
    static const char *const names[] = {"LD_PRELOAD", "BALLAST_AGENT"};
    for (int i = 0; i < 2; i++) {
        const char *value = getenv(names[i]);
        printf("%s=%s\n", names[i], value != NULL ? value : "(none)");
    }
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        return 1;
    }
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd = atoi(entry->d_name);
        char path[64], target[512];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (fd > 2 && fd != dirfd(directory) && length > 0) {
            target[length] = '\0';
            printf("fd %d %s\n", fd, target);
        }
    }
    closedir(directory);
    puts("end");
    return 0;
}
