/* SPDX-License-Identifier: MIT */
/*
 * ballast plot: draws a trace. plot_picture.c and plot_page.c do it; this is its
 * user's side.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "plot.h"

static const char help[] =
    "Usage: ballast plot TRACE -o PICTURE\n"
    "\n"
    "Draws a trace of 'ballast record': what the guest believes to have, what it\n"
    "costs the host, the work that this took, what happened, and the map of the\n"
    "guest's memory, over time.\n"
    "\n"
    "Options:\n"
    "  -o PICTURE  the file to write; its name says what it becomes:\n"
    "                .html  a page for a browser, to look around in; it needs no\n"
    "                       network and no other file\n"
    "                .svg   a picture\n"
    "                .png   a picture\n"
    "\n"
    "Examples:\n"
    "  ballast record vm1 -o boot.trace\n"
    "  ballast plot boot.trace -o boot.html\n"
    "  ballast plot boot.trace -o boot.svg\n";

/* More samples than this cannot be told apart in a picture. */
#define SAMPLES_MAX 4000

enum format {
    FORMAT_PAGE,
    FORMAT_SVG,
    FORMAT_PNG,
};

static int draw(const struct trace *trace, const char *path, enum format format)
{
    switch (format) {
    case FORMAT_PAGE:
        return plot_page(trace, path);
    case FORMAT_SVG:
        return plot_picture(trace, path, CHART_SVG);
    case FORMAT_PNG:
        break;
    }
    return plot_picture(trace, path, CHART_PNG);
}

static int plot(const char *trace_path, const char *picture, enum format format)
{
    struct trace_error error;
    struct trace trace;
    int ret = trace_read(trace_path, &trace, &error);

    if (ret < 0) {
        cli_error("the trace '%s' cannot be read: %s", trace_path, error.text);
        return EXIT_FAILED;
    }
    trace_thin(&trace, SAMPLES_MAX);
    ret = draw(&trace, picture, format);
    trace_free(&trace);
    if (ret == -ENOTSUP) {
        cli_error("this ballast can only make pages (-o NAME.html): it was built without cairo; "
                  "for pictures build it where libcairo2-dev is installed");
        return EXIT_FAILED;
    }
    if (ret < 0) {
        cli_error("the picture '%s' could not be written: %s; choose another file with -o", picture,
                  strerror(-ret));
        return EXIT_FAILED;
    }
    return 0;
}

/* Which format a file's name asks for. False if none. */
static bool find_format(const char *path, enum format *format)
{
    static const struct {
        const char *end;
        enum format format;
    } ends[] = {{".html", FORMAT_PAGE}, {".svg", FORMAT_SVG}, {".png", FORMAT_PNG}};
    size_t length = strlen(path);

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        size_t end_length = strlen(ends[i].end);

        if (length > end_length && strcmp(path + length - end_length, ends[i].end) == 0) {
            *format = ends[i].format;
            return true;
        }
    }
    return false;
}

static int run(int argc, char **argv)
{
    const char *picture = NULL;
    const char *trace = NULL;
    const struct cli_option options[] = {{"-o", &picture, NULL}, {NULL, NULL, NULL}};
    enum format format;
    int ret = cli_read_options_and_word(&cmd_plot, options, argc, argv, "trace", &trace);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    if (picture == NULL) {
        return cli_usage_error("plot", "say where the picture goes with -o");
    }
    if (!find_format(picture, &format)) {
        return cli_usage_error("plot", "'%s' ends in none of .html, .svg and .png", picture);
    }
    return plot(trace, picture, format);
}

const struct cli_command cmd_plot = {
    .name = "plot",
    .summary = "draw what was recorded",
    .help = help,
    .run = run,
};
