/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target on all files of the folders that it is given, so that what
 * a fuzzer once found is tested for ever, with any compiler. */
#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>

#define INPUT_MAX_BYTES ((size_t)1 << 20)

static void replay(const char *path)
{
    static uint8_t input[INPUT_MAX_BYTES];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t size = fread(input, 1, sizeof(input), file);
    fclose(file);
    /* Of its own, and no longer than it is, so that reading on is noticed. */
    uint8_t *copy = malloc(size + (size == 0));
    must(copy != NULL);
    memcpy(copy, input, size);
    fprintf(stderr, "%s\n", path); /* the last one, should it crash */
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (folder == NULL) {
            perror(argv[i]);
            return 1;
        }
        for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            if (entry->d_name[0] != '.') {
                char path[PATH_MAX];
                snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
                replay(path);
                count++;
            }
        }
        closedir(folder);
    }
    printf("%u inputs\n", count);
    return count != 0 ? 0 : 1;
}
