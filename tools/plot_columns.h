/* SPDX-License-Identifier: MIT */
/*
 * A trace's figures as arrays for chart.h: seconds since the first sample, bytes,
 * and numbers a second.
 */
#ifndef BALLAST_TOOLS_PLOT_COLUMNS_H
#define BALLAST_TOOLS_PLOT_COLUMNS_H

#include "trace.h"

struct columns {
    size_t count;
    size_t rate_count;
    double *t;
    double *max;
    double *target;
    double *populated;
    double *cache;
    double *pod_entries;
    double *out;
    double *host_anon;
    double *p50_ns;
    double *p99_ns;
    double *rate_t; /* the middles of the stretches that rates are taken over */
    double *faults;
    double *reclaims;
};

/* -ENOMEM, or 0 and columns for columns_free(). */
int columns_make(const struct trace *trace, struct columns *columns);
void columns_free(struct columns *columns);

#endif
