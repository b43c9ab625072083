/* SPDX-License-Identifier: MIT */
/* QEMU's command line: one word a line. */
#include "fuzz.h"

#include "qemu_args.h"

#include <errno.h>
#include <string.h>

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    char *argv[WORDS_MAX + 1];
    size_t count = 0;
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    static char program[] = "qemu-system-x86_64";
    argv[count++] = program;
    for (char *rest = text, *word; count < WORDS_MAX && (word = strsep(&rest, "\n")) != NULL;) {
        argv[count++] = word;
    }
    argv[count] = NULL;

    struct qemu_args args = {.max_bytes = 12345};
    struct qemu_args_problem problem = {""};
    int ret = qemu_args_read(argv, &args, &problem);
    if (ret == 0) {
        qemu_args_free(&args);
    } else {
        must(ret == -EINVAL || ret == -ENOTSUP);
        must(args.max_bytes == 12345);
        must(problem.text[0] != '\0' && strchr(problem.text, '\n') == NULL);
    }
    free(text);
    return 0;
}
