/* SPDX-License-Identifier: MIT */
/*
 * Fewer samples of a trace. See trace.h.
 */
#include "trace.h"

/* Of samples [first, last), keeps those that trace_thin() promises; `kept` is
 * where they go. Returns how many they are. */
static size_t thin_bin(struct trace_sample *samples, size_t first, size_t last, size_t kept)
{
    size_t least = first;
    size_t most = first;
    size_t from = kept;

    for (size_t i = first; i < last; i++) {
        least = samples[i].populated < samples[least].populated ? i : least;
        most = samples[i].populated > samples[most].populated ? i : most;
    }
    for (size_t i = first; i < last; i++) {
        if (i == first || i == least || i == most || i == last - 1) {
            samples[kept++] = samples[i];
        }
    }
    return kept - from;
}

void trace_thin(struct trace *trace, size_t most)
{
    size_t bins = most / 4;
    size_t count = trace->count;
    size_t kept = 0;

    if (count <= most) {
        return;
    }
    for (size_t bin = 0; bin < bins; bin++) {
        kept += thin_bin(trace->samples, count * bin / bins, count * (bin + 1) / bins, kept);
    }
    trace->count = kept;
}
