/* SPDX-License-Identifier: MIT */
/*
 * A list of findings. See findings.h.
 */
#include "findings.h"

#include <stdarg.h>
#include <string.h>

static const char *const level_words[] = {
    [FINDING_OK] = "ok",
    [FINDING_NOTE] = "note",
    [FINDING_PROBLEM] = "problem",
};

struct finding *findings_add(struct findings *findings, enum finding_level level, const char *id,
                             const char *format, ...)
{
    struct finding *finding;
    va_list arguments;

    if (findings->count == FINDINGS_MAX) {
        findings->count--;
    }
    finding = &findings->list[findings->count++];
    *finding = (struct finding){.level = level, .id = id};
    va_start(arguments, format);
    vsnprintf(finding->what, sizeof(finding->what), format, arguments);
    va_end(arguments);
    return finding;
}

void finding_advise(struct finding *finding, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(finding->advice, sizeof(finding->advice), format, arguments);
    va_end(arguments);
}

void finding_fix(struct finding *finding, const char *format, ...)
{
    size_t used = strlen(finding->fix);
    size_t space = sizeof(finding->fix) - used;
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(finding->fix + used, space, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length + 2 > space) {
        finding->fix[used] = '\0';
        return;
    }
    memcpy(finding->fix + used + length, "\n", 2);
}

size_t findings_count(const struct findings *findings, enum finding_level level)
{
    size_t count = 0;

    for (size_t i = 0; i < findings->count; i++) {
        count += findings->list[i].level == level;
    }
    return count;
}

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static void print_summary(const struct findings *findings, FILE *file)
{
    size_t problems = findings_count(findings, FINDING_PROBLEM);
    size_t notes = findings_count(findings, FINDING_NOTE);
    bool any_fix = false;

    for (size_t i = 0; i < findings->count; i++) {
        any_fix |= findings->list[i].fix[0] != '\0';
    }
    fputc('\n', file);
    if (problems > 0) {
        fprintf(file, "This host cannot run domains yet: %zu problem%s, %zu note%s.\n", problems,
                plural(problems), notes, plural(notes));
    } else {
        fprintf(file, "This host can run domains: %zu note%s.\n", notes, plural(notes));
    }
    if (any_fix) {
        fputs("'ballast doctor --fix' prints commands for it, and runs none.\n", file);
    }
}

void findings_print(const struct findings *findings, FILE *file)
{
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->list[i];

        fprintf(file, "%-8s %-15s %s\n", level_words[finding->level], finding->id, finding->what);
        if (finding->advice[0] != '\0') {
            fprintf(file, "%25s-> %s\n", "", finding->advice);
        }
    }
    print_summary(findings, file);
}

void findings_print_fixes(const struct findings *findings, FILE *file)
{
    bool any = false;

    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->list[i];

        if (finding->fix[0] == '\0') {
            continue;
        }
        if (!any) {
            fputs("# For root. Read them first: 'ballast doctor' says why, and nothing was run.\n",
                  file);
        }
        any = true;
        fprintf(file, "\n# %s: %s\n%s", level_words[finding->level], finding->what, finding->fix);
    }
    if (!any) {
        fputs("# There is nothing that a command could make better.\n", file);
    }
}

static json_t *fix_to_json(const char *fix)
{
    json_t *lines = json_array();

    while (*fix != '\0') {
        size_t length = strcspn(fix, "\n");

        json_array_append_new(lines, json_stringn(fix, length));
        fix += length + 1;
    }
    return lines;
}

json_t *findings_to_json(const struct findings *findings)
{
    json_t *list = json_array();

    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->list[i];
        json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", finding->id, "level",
                                 level_words[finding->level], "what", finding->what, "advice",
                                 finding->advice, "fix", fix_to_json(finding->fix));

        if (item == NULL || json_array_append_new(list, item) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:b, s:o}", "fit", (int)(findings_count(findings, FINDING_PROBLEM) == 0),
                     "findings", list);
}
