/* SPDX-License-Identifier: MIT */
#include "doc_table.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 4096

/* Copies a cell without blanks at its ends and without any backquote. */
static bool copy_cell(const char *from, const char *end, char cell[DOC_TABLE_CELL_BYTES])
{
    size_t length = 0;
    for (; from < end; from++) {
        if (*from == '`' || (*from == ' ' && length == 0)) {
            continue;
        }
        if (length == DOC_TABLE_CELL_BYTES - 1) {
            return false;
        }
        cell[length++] = *from;
    }
    while (length != 0 && cell[length - 1] == ' ') {
        length--;
    }
    cell[length] = '\0';
    return true;
}

/* Cuts a line such as "| a | b |" into cells: how many, or 0 if it is no such
 * line or does not fit. */
static size_t cut(const char *line, char cells[DOC_TABLE_COLUMNS][DOC_TABLE_CELL_BYTES])
{
    size_t count = 0;
    if (line[0] != '|') {
        return 0;
    }
    for (const char *end = line; (end = strchr(++line, '|')) != NULL; line = end) {
        if (count == DOC_TABLE_COLUMNS || !copy_cell(line, end, cells[count])) {
            return 0;
        }
        count++;
    }
    return count;
}

static bool is_rule(const char *line)
{
    return strspn(line, "|-: \n") == strlen(line);
}

const char *doc_table_read(const char *path, const char *heading, struct doc_table *table)
{
    char line[LINE_BYTES];
    const char *wrong = NULL;
    bool inside = false, found = false;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return "the document cannot be opened";
    }
    *table = (struct doc_table){0};
    while (wrong == NULL && fgets(line, sizeof(line), file) != NULL) {
        char cells[DOC_TABLE_COLUMNS][DOC_TABLE_CELL_BYTES];
        size_t columns = cut(line, cells);
        if (columns == 0) {
            wrong = inside && line[0] == '|' ? "a row does not fit" : NULL;
            inside = false;
        } else if (!inside && strcmp(cells[0], heading) == 0) {
            wrong = found ? "there are two such tables" : NULL;
            inside = found = true;
            table->columns = columns;
        } else if (inside && columns != table->columns) {
            wrong = "a row has more or fewer cells than the headings";
        } else if (inside && table->rows == DOC_TABLE_ROWS) {
            wrong = "there are too many rows";
        }
        if (wrong == NULL && inside && !is_rule(line)) {
            memcpy(table->cells[table->rows++], cells, sizeof(cells));
        }
    }
    fclose(file);
    return wrong != NULL ? wrong : found ? NULL : "there is no such table";
}
