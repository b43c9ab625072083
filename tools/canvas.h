/* SPDX-License-Identifier: MIT */
/*
 * A page of characters with styles, of the size of a terminal. Whatever is drawn
 * beyond its edges is cut off, so whoever draws need not care how small it is. Pure.
 */
#ifndef BALLAST_TOOLS_CANVAS_H
#define BALLAST_TOOLS_CANVAS_H

#include <stddef.h>
#include <stdint.h>

enum canvas_style {
    CANVAS_PLAIN,
    CANVAS_TITLE,
    CANVAS_HEADING,
    CANVAS_SELECTED,
    CANVAS_FAINT,
    CANVAS_GOOD,
    CANVAS_WARNING,
    CANVAS_POPULATED, /* of bars and graphs */
    CANVAS_CACHE,
    CANVAS_REST,
    CANVAS_MAP_WHOLE,                        /* + enum ctl_map_kind: a cell of a map */
    CANVAS_MAP_SPLIT = CANVAS_MAP_WHOLE + 5, /* + eighths of RAM, 0 to 8 */
    CANVAS_STYLES = CANVAS_MAP_SPLIT + 9,
};

struct canvas_cell {
    char letter;
    uint8_t style;
};

struct canvas {
    int rows, columns;
    struct canvas_cell *cells; /* row by row */
};

/* Makes it that large, and blank. -ENOMEM: it is as it was. A zeroed canvas is empty. */
int canvas_resize(struct canvas *canvas, int rows, int columns);
void canvas_free(struct canvas *canvas);

/* Puts a character, or a text of at most `width` characters (-1: all), somewhere. What
 * is no printable ASCII becomes '?'. Returns the column after it. */
int canvas_put(struct canvas *canvas, int row, int column, char letter, enum canvas_style style);
int canvas_text(struct canvas *canvas, int row, int column, int width, enum canvas_style style,
                const char *text);
__attribute__((format(printf, 5, 6))) int canvas_print(struct canvas *canvas, int row, int column,
                                                       enum canvas_style style, const char *format,
                                                       ...);

/* Gives a whole row a style. */
void canvas_style_row(struct canvas *canvas, int row, enum canvas_style style);

/* A row as a text without blanks at its end: `text` has columns + 1 bytes. */
void canvas_row_text(const struct canvas *canvas, int row, char *text);

#endif
