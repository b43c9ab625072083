/* SPDX-License-Identifier: MIT */
/*
 * What `ballast doctor` found, and how it is told: a list of findings, each with
 * what to do and perhaps the commands that do it.
 */
#ifndef BALLAST_TOOLS_FINDINGS_H
#define BALLAST_TOOLS_FINDINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum finding_level {
    FINDING_OK,
    FINDING_NOTE,    /* domains run, but something could be better or surprise */
    FINDING_PROBLEM, /* no domain can run */
};

struct finding {
    enum finding_level level;
    const char *id;   /* static; for programs: it never changes its meaning */
    char what[512];   /* what there is */
    char advice[512]; /* what to do; "" if nothing */
    char fix[1024];   /* commands for root, a line each; "" if there are none */
};

/* More is not kept: a host has some twenty things to look at, and no more QEMUs. */
#define FINDINGS_MAX 64

struct findings {
    struct finding list[FINDINGS_MAX];
    size_t count;
};

/* Appends a finding and returns it, for the two below; of those beyond
 * FINDINGS_MAX only the last is kept. */
__attribute__((format(printf, 4, 5))) struct finding *findings_add(struct findings *findings,
                                                                   enum finding_level level,
                                                                   const char *id,
                                                                   const char *format, ...);

/* Says what to do about it. Longer texts are cut. */
__attribute__((format(printf, 2, 3))) void finding_advise(struct finding *finding,
                                                          const char *format, ...);

/* Adds a command. One that does not fit any more is left out. */
__attribute__((format(printf, 2, 3))) void finding_fix(struct finding *finding, const char *format,
                                                       ...);

/* How many there are of a level. */
size_t findings_count(const struct findings *findings, enum finding_level level);

/* Prints them for people. */
void findings_print(const struct findings *findings, FILE *file);

/* Prints the commands as a script for root, each after a comment that says why. */
void findings_print_fixes(const struct findings *findings, FILE *file);

/* {"fit": BOOL, "findings": [{"id", "level", "what", "advice", "fix": [...]}...]};
 * a new reference, or NULL if out of memory or if a path in it is no UTF-8. */
json_t *findings_to_json(const struct findings *findings);

#endif
