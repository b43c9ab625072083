/* SPDX-License-Identifier: MIT */
#include "canvas.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int canvas_resize(struct canvas *canvas, int rows, int columns)
{
    size_t count = (size_t)rows * (size_t)columns;
    struct canvas_cell *cells = malloc((count + 1) * sizeof(*cells));

    if (cells == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        cells[i] = (struct canvas_cell){' ', CANVAS_PLAIN};
    }
    free(canvas->cells);
    *canvas = (struct canvas){rows, columns, cells};
    return 0;
}

void canvas_free(struct canvas *canvas)
{
    free(canvas->cells);
    *canvas = (struct canvas){.cells = NULL};
}

int canvas_put(struct canvas *canvas, int row, int column, char letter, enum canvas_style style)
{
    if (row >= 0 && row < canvas->rows && column >= 0 && column < canvas->columns) {
        canvas->cells[row * canvas->columns + column] = (struct canvas_cell){
            .letter = (char)(letter >= ' ' && letter <= '~' ? letter : '?'),
            .style = (uint8_t)style,
        };
    }
    return column + 1;
}

int canvas_text(struct canvas *canvas, int row, int column, int width, enum canvas_style style,
                const char *text)
{
    for (; *text != '\0' && width != 0; text++, width--) {
        column = canvas_put(canvas, row, column, *text, style);
    }
    return column;
}

int canvas_print(struct canvas *canvas, int row, int column, enum canvas_style style,
                 const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return canvas_text(canvas, row, column, -1, style, text);
}

void canvas_style_row(struct canvas *canvas, int row, enum canvas_style style)
{
    for (int column = 0; row >= 0 && row < canvas->rows && column < canvas->columns; column++) {
        canvas->cells[row * canvas->columns + column].style = (uint8_t)style;
    }
}

void canvas_row_text(const struct canvas *canvas, int row, char *text)
{
    int length = 0;

    for (int column = 0; column < canvas->columns; column++) {
        text[column] = canvas->cells[row * canvas->columns + column].letter;
        if (text[column] != ' ') {
            length = column + 1;
        }
    }
    text[length] = '\0';
}
