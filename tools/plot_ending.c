/* SPDX-License-Identifier: MIT */
/*
 * How a recording ended, in words.
 */
#include <stdio.h>

#include "plot.h"

void plot_ending(const struct trace *trace, char text[static PLOT_ENDING_BYTES])
{
    static const struct {
        int status;
        const char *words;
    } known[] = {
        {BALLAST_EXIT_DESTROYED, ", destroyed"},
        {BALLAST_EXIT_REFUSED, ", it could not be built"},
        {BALLAST_EXIT_EXHAUSTED, ", it ran out of memory"},
        {BALLAST_EXIT_BROKEN, ", an internal error"},
    };
    const char *words = "";

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (trace->exit_status == known[i].status) {
            words = known[i].words;
        }
    }
    if (trace->end == TRACE_END_GONE && trace->exit_status >= 0) {
        snprintf(text, PLOT_ENDING_BYTES, "ended with exit status %d%s", trace->exit_status, words);
    } else {
        snprintf(text, PLOT_ENDING_BYTES, "%s",
                 trace->end == TRACE_END_GONE      ? "recorded to its end"
                 : trace->end == TRACE_END_STOPPED ? "the recording was stopped"
                                                   : "");
    }
}
