/* SPDX-License-Identifier: MIT */
/* Trace files, and that what was read can be thinned and made a page of. */
#include "fuzz.h"

#include "plot.h"
#include "trace.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* Everything is in the order of its time. */
static void check_order(const struct trace *trace)
{
    for (size_t i = 1; i < trace->count; i++) {
        must(trace->samples[i - 1].t_s <= trace->samples[i].t_s);
    }
    for (size_t i = 1; i < trace->event_count; i++) {
        must(trace->events[i - 1].t_s <= trace->events[i].t_s);
    }
    for (size_t i = 1; i < trace->map_count; i++) {
        must(trace->maps[i - 1].t_s <= trace->maps[i].t_s);
    }
}

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
        must((trace.map_count > 0) == (trace.superpages > 0));
        check_order(&trace);
        trace_thin(&trace, 8);
        must(trace.count > 0 && trace.count <= 8);
        check_order(&trace);
        must(plot_page(&trace, "/dev/null") == 0);
        trace_free(&trace);
    } else {
        must(ret == -EBADMSG && error.text[0] != '\0');
        must(trace.count == 12345);
    }
    close(fd);
    return 0;
}
