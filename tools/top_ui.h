/* SPDX-License-Identifier: MIT */
/*
 * The interactive `ballast top`, without its terminal: what keys do, and what the
 * screen shows. Pure: it is given keys, answers and a canvas.
 */
#ifndef BALLAST_TOOLS_TOP_UI_H
#define BALLAST_TOOLS_TOP_UI_H

#include "canvas.h"
#include "ctl/map.h"
#include "top_model.h"

enum top_page {
    TOP_PAGE_LIST,
    TOP_PAGE_DETAIL,
    TOP_PAGE_HELP,
};

/* Keys that are no characters; others are given as they are. */
enum top_input {
    TOP_INPUT_UP = 256,
    TOP_INPUT_DOWN,
    TOP_INPUT_LEFT,
    TOP_INPUT_RIGHT,
    TOP_INPUT_PAGE_UP,
    TOP_INPUT_PAGE_DOWN,
    TOP_INPUT_HOME,
    TOP_INPUT_END,
    TOP_INPUT_ENTER,
    TOP_INPUT_ESCAPE,
    TOP_INPUT_BACKSPACE,
};

struct top_ui {
    struct top_model model;
    enum top_page page, page_before_help;
    char selected[BALLAST_NAME_MAX_BYTES + 1]; /* "": nothing is there to select */
    size_t selected_at;                        /* its place in model.shown */
    size_t first;                              /* the place of the topmost row */
    size_t rows;                               /* domains that the last drawing had room for */
    bool editing;                              /* the filter is being typed */
    bool has_survey;                           /* an answer has come */
    bool quit;
    struct ctl_map map; /* of `map_name`; empty if there is none */
    char map_name[BALLAST_NAME_MAX_BYTES + 1];
    char map_error[256]; /* why there is none */
};

/* Frees what it owns. */
void top_ui_free(struct top_ui *ui);

/* After the model was updated: keeps the selection on its domain, or, when that is
 * gone, on its place. */
void top_ui_settle(struct top_ui *ui);

/* A key was pressed. */
void top_ui_key(struct top_ui *ui, int key);

/* The domain whose map is wanted, or NULL. */
const char *top_ui_wants_map(const struct top_ui *ui);

/* Takes a map over, or why there is none (then `map` is NULL). */
void top_ui_take_map(struct top_ui *ui, const char *name, struct ctl_map *map, const char *error);

/* Draws it all on a blank canvas. `clock` is the time of day, for the title. */
void top_ui_draw(struct top_ui *ui, struct canvas *canvas, const char *clock);

#endif
