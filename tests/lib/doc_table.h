/* SPDX-License-Identifier: MIT */
/*
 * Tables of our documents, for tests that try what those promise: a document is
 * Markdown, a table has a row of headings, one of dashes, and rows; cells are
 * taken without the blanks and the backquotes around and in them.
 */
#ifndef BALLAST_TESTS_DOC_TABLE_H
#define BALLAST_TESTS_DOC_TABLE_H

#include <stddef.h>

#define DOC_TABLE_ROWS       64
#define DOC_TABLE_COLUMNS    12
#define DOC_TABLE_CELL_BYTES 96

struct doc_table {
    size_t rows, columns;
    /* cells[0] are the headings, which `rows` counts. */
    char cells[DOC_TABLE_ROWS][DOC_TABLE_COLUMNS][DOC_TABLE_CELL_BYTES];
};

/* Reads the table whose first heading is `heading`. NULL, or what is wrong: no
 * such file or table, two of them, rows of unequal length, too much of it. */
const char *doc_table_read(const char *path, const char *heading, struct doc_table *table);

#endif
