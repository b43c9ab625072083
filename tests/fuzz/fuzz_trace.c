/* SPDX-License-Identifier: MIT */
/* Trace files. */
#include "fuzz.h"

#include "trace.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("trace", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

    struct trace trace = {.count = 12345};
    struct trace_error error = {""};
    int ret = trace_read(path, &trace, &error);
    if (ret == 0) {
        must(trace.count > 0 && trace.samples != NULL);
        trace_free(&trace);
    } else {
        must(ret == -EBADMSG && error.text[0] != '\0');
        must(trace.count == 12345);
    }
    close(fd);
    return 0;
}
