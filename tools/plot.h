/* SPDX-License-Identifier: MIT */
/*
 * What `ballast plot` makes of a trace. Both write a file, and leave nothing at
 * `path` if they fail: -ENOMEM, or what the kernel said of the file.
 */
#ifndef BALLAST_TOOLS_PLOT_H
#define BALLAST_TOOLS_PLOT_H

#include "chart.h"
#include "trace.h"

/* A still picture. -ENOTSUP in a build without cairo. */
int plot_picture(const struct trace *trace, const char *path, enum chart_format format);

/* An HTML page that needs nothing but itself. */
int plot_page(const struct trace *trace, const char *path);

/* The same, written to an open file, which stays open. */
int plot_page_stream(const struct trace *trace, FILE *file);

/* How the recording ended, in words: "" if that is not known. */
#define PLOT_ENDING_BYTES 96
void plot_ending(const struct trace *trace, char text[static PLOT_ENDING_BYTES]);

#endif
