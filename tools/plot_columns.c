/* SPDX-License-Identifier: MIT */
/*
 * A trace's figures as arrays. See plot_columns.h.
 */
#include "plot_columns.h"

#include <errno.h>
#include <stdlib.h>

#include "base/types.h"

/* A rate is taken over at least this share of the time, or it is all spikes. */
#define RATE_BINS 200

/* Numbers a second, over bins of whole samples. */
static void fill_rates(const struct trace *trace, struct columns *columns)
{
    const struct trace_sample *last = &trace->samples[trace->count - 1];
    const struct trace_sample *from = &trace->samples[0];
    double bin = (last->t_s - from->t_s) / RATE_BINS;

    for (size_t i = 1; i < trace->count; i++) {
        const struct trace_sample *to = &trace->samples[i];
        double elapsed = to->t_s - from->t_s;

        if (elapsed > 0 && (elapsed >= bin || to == last)) {
            columns->rate_t[columns->rate_count] =
                (from->t_s + to->t_s) / 2 - trace->samples[0].t_s;
            columns->faults[columns->rate_count] = (to->faults - from->faults) / elapsed;
            columns->reclaims[columns->rate_count] = (to->reclaims - from->reclaims) / elapsed;
            columns->rate_count++;
            from = to;
        }
    }
}

int columns_make(const struct trace *trace, struct columns *columns)
{
    struct columns made = {.count = trace->count};
    double **const arrays[] = {&made.t,       &made.max,         &made.target, &made.populated,
                               &made.cache,   &made.pod_entries, &made.out,    &made.host_anon,
                               &made.p50_ns,  &made.p99_ns,      &made.rate_t, &made.faults,
                               &made.reclaims};
    const size_t array_count = sizeof(arrays) / sizeof(arrays[0]);
    double *all = calloc(array_count * trace->count, sizeof(*all));

    if (all == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < array_count; i++) {
        *arrays[i] = all + i * trace->count;
    }
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_sample *sample = &trace->samples[i];

        made.t[i] = sample->t_s - trace->samples[0].t_s;
        made.max[i] = sample->max * PAGE_BYTES;
        made.target[i] = sample->target * PAGE_BYTES;
        made.populated[i] = sample->populated * PAGE_BYTES;
        made.cache[i] = sample->cache * PAGE_BYTES;
        made.pod_entries[i] = sample->pod_entries * PAGE_BYTES;
        made.out[i] = sample->out * PAGE_BYTES;
        made.host_anon[i] = sample->host_anon * PAGE_BYTES;
        made.p50_ns[i] = sample->p50_ns;
        made.p99_ns[i] = sample->p99_ns;
    }
    fill_rates(trace, &made);
    *columns = made;
    return 0;
}

void columns_free(struct columns *columns)
{
    free(columns->t);
    *columns = (struct columns){.count = 0};
}
