/* SPDX-License-Identifier: MIT */
#include "top_ui.h"

#include <stdio.h>
#include <string.h>

#include "top_detail.h"
#include "top_format.h"
#include "top_table.h"

void top_ui_free(struct top_ui *ui)
{
    top_model_free(&ui->model);
    ctl_map_free(&ui->map);
}

static void select_at(struct top_ui *ui, size_t at)
{
    const struct top_model *model = &ui->model;

    if (model->shown_count == 0) {
        ui->selected[0] = '\0';
        ui->selected_at = 0;
        return;
    }
    ui->selected_at = at < model->shown_count ? at : model->shown_count - 1;
    memcpy(ui->selected, model->domains[model->shown[ui->selected_at]].name, sizeof(ui->selected));
}

void top_ui_settle(struct top_ui *ui)
{
    const struct top_model *model = &ui->model;

    for (size_t i = 0; i < model->shown_count; i++) {
        if (strcmp(model->domains[model->shown[i]].name, ui->selected) == 0) {
            ui->selected_at = i;
            return;
        }
    }
    /* A page about a domain says that it is gone, and stays. */
    if (ui->page == TOP_PAGE_LIST) {
        select_at(ui, ui->selected_at);
    }
}

const char *top_ui_wants_map(const struct top_ui *ui)
{
    return ui->page == TOP_PAGE_DETAIL ? ui->selected : NULL;
}

void top_ui_take_map(struct top_ui *ui, const char *name, struct ctl_map *map, const char *error)
{
    ctl_map_free(&ui->map);
    if (map != NULL) {
        ui->map = *map;
    }
    snprintf(ui->map_name, sizeof(ui->map_name), "%s", name);
    snprintf(ui->map_error, sizeof(ui->map_error), "%s", error != NULL ? error : "");
}

static void rearrange(struct top_ui *ui)
{
    top_model_arrange(&ui->model);
    top_ui_settle(ui);
}

static void edit_filter(struct top_ui *ui, int key)
{
    char *filter = ui->model.filter;
    size_t length = strlen(filter);

    if (key == TOP_INPUT_ENTER) {
        ui->editing = false;
    } else if (key == TOP_INPUT_ESCAPE) {
        ui->editing = false;
        filter[0] = '\0';
    } else if (key == TOP_INPUT_BACKSPACE) {
        filter[length > 0 ? length - 1 : 0] = '\0';
    } else if (key >= ' ' && key <= '~' && length + 1 < sizeof(ui->model.filter)) {
        filter[length] = (char)key;
        filter[length + 1] = '\0';
    }
    rearrange(ui);
}

static void move(struct top_ui *ui, long by)
{
    long at = (long)ui->selected_at + by;

    select_at(ui, at > 0 ? (size_t)at : 0);
}

static void list_key(struct top_ui *ui, int key)
{
    struct top_model *model = &ui->model;
    long page = ui->rows > 1 ? (long)ui->rows - 1 : 1;

    switch (key) {
    case TOP_INPUT_UP:
    case 'k':
        move(ui, -1);
        break;
    case TOP_INPUT_DOWN:
    case 'j':
        move(ui, 1);
        break;
    case TOP_INPUT_PAGE_UP:
        move(ui, -page);
        break;
    case TOP_INPUT_PAGE_DOWN:
        move(ui, page);
        break;
    case TOP_INPUT_HOME:
        select_at(ui, 0);
        break;
    case TOP_INPUT_END:
        select_at(ui, model->shown_count);
        break;
    case TOP_INPUT_ENTER:
    case TOP_INPUT_RIGHT:
        ui->page = ui->selected[0] != '\0' ? TOP_PAGE_DETAIL : TOP_PAGE_LIST;
        break;
    case TOP_INPUT_ESCAPE:
        model->filter[0] = '\0';
        rearrange(ui);
        break;
    case '/':
        ui->editing = true;
        break;
    case 's':
    case 'S':
        model->key = (enum top_key)(((int)model->key + (key == 's' ? 1 : TOP_KEYS - 1)) % TOP_KEYS);
        rearrange(ui);
        break;
    case 'r':
        model->reverse = !model->reverse;
        rearrange(ui);
        break;
    case 'q':
        ui->quit = true;
        break;
    default:
        break;
    }
}

static void detail_key(struct top_ui *ui, int key)
{
    if (key == 'q' || key == TOP_INPUT_ESCAPE || key == TOP_INPUT_LEFT ||
        key == TOP_INPUT_BACKSPACE) {
        ui->page = TOP_PAGE_LIST;
        top_ui_settle(ui);
    } else if (key == TOP_INPUT_UP || key == 'k') {
        move(ui, -1);
    } else if (key == TOP_INPUT_DOWN || key == 'j') {
        move(ui, 1);
    }
}

void top_ui_key(struct top_ui *ui, int key)
{
    if (ui->editing) {
        edit_filter(ui, key);
    } else if (ui->page == TOP_PAGE_HELP) {
        ui->page = ui->page_before_help;
        top_ui_settle(ui);
    } else if (key == 'h' || key == '?') {
        ui->page_before_help = ui->page;
        ui->page = TOP_PAGE_HELP;
    } else if (ui->page == TOP_PAGE_DETAIL) {
        detail_key(ui, key);
    } else {
        list_key(ui, key);
    }
}

static void draw_title(const struct top_ui *ui, struct canvas *canvas, const char *clock)
{
    const struct top_model *model = &ui->model;
    int at = canvas_print(canvas, 0, 0, CANVAS_TITLE, "ballast top  %s", clock);

    at = canvas_print(canvas, 0, at + 2, CANVAS_PLAIN, "%zu %s", model->count,
                      model->count == 1 ? "domain" : "domains");
    if (model->silent_count > 0) {
        at = canvas_print(canvas, 0, at, CANVAS_WARNING, ", %zu silent", model->silent_count);
    }
    if (model->filter[0] != '\0') {
        at = canvas_print(canvas, 0, at, CANVAS_PLAIN, ", %zu shown", model->shown_count);
    }
    canvas_print(canvas, 0, at + 2, CANVAS_FAINT, "by %s%s", top_key_name(model->key),
                 model->reverse ? ", reversed" : "");
}

/* The sums over all domains, shown or not. */
static void draw_sums(const struct top_model *model, struct canvas *canvas, int row)
{
    double sums[4] = {0};
    static const char *const labels[] = {"max", "target", "populated", "cache"};
    int at = 0;

    for (size_t i = 0; i < model->count; i++) {
        const struct top_figures *last = &model->domains[i].last;

        sums[0] += last->max;
        sums[1] += last->target;
        sums[2] += last->populated;
        sums[3] += last->cache;
    }
    at = canvas_text(canvas, row, 0, -1, CANVAS_FAINT, "in all");
    for (int i = 0; i < 4; i++) {
        char text[TOP_FORMAT_BYTES];

        top_format_pages(sums[i], text);
        at = canvas_print(canvas, row, at + 2, CANVAS_PLAIN, "%s %s", labels[i], text);
    }
}

/* The last line: the filter, why the selected domain is silent, or what keys do. */
static void draw_foot(const struct top_ui *ui, struct canvas *canvas, int row)
{
    const struct top_domain *selected = top_model_find(&ui->model, ui->selected);

    if (ui->editing || ui->model.filter[0] != '\0') {
        int at = canvas_print(canvas, row, 0, CANVAS_TITLE, "filter: %s%s", ui->model.filter,
                              ui->editing ? "_" : "");

        canvas_text(canvas, row, at + 2, -1, CANVAS_FAINT,
                    ui->editing ? "Enter: keep it  Esc: none" : "Esc: show all");
    } else if (ui->page == TOP_PAGE_LIST && selected != NULL && selected->is_silent) {
        canvas_print(canvas, row, 0, CANVAS_WARNING, "%s: %s", selected->name, selected->error);
    } else {
        canvas_text(canvas, row, 0, -1, CANVAS_FAINT,
                    ui->page == TOP_PAGE_LIST
                        ? "q quit  Enter details  / filter  s sort  r reverse  h help"
                        : "q back  up, down: the next domain  h help");
    }
}

/* Scrolls so that the selection is among the rows that there is room for. */
static void scroll(struct top_ui *ui)
{
    size_t most = ui->model.shown_count > ui->rows ? ui->model.shown_count - ui->rows : 0;

    if (ui->selected_at < ui->first) {
        ui->first = ui->selected_at;
    }
    if (ui->rows > 0 && ui->selected_at >= ui->first + ui->rows) {
        ui->first = ui->selected_at - ui->rows + 1;
    }
    ui->first = ui->first < most ? ui->first : most;
}

static void draw_list(struct top_ui *ui, struct canvas *canvas, const char *clock)
{
    const struct top_model *model = &ui->model;
    struct top_table table = top_lay_out(model, canvas->columns, false);
    int heading = canvas->rows >= 8 ? 2 : canvas->rows >= 4 ? 1 : 0;
    bool has_foot = canvas->rows >= 4;
    int room = canvas->rows - heading - 1 - has_foot;

    ui->rows = room > 0 ? (size_t)room : 0;
    scroll(ui);
    if (heading >= 1) {
        draw_title(ui, canvas, clock);
    }
    if (heading >= 2) {
        draw_sums(model, canvas, 1);
    }
    top_draw_headings(canvas, heading, &table, model);
    for (size_t i = 0; i < ui->rows && ui->first + i < model->shown_count; i++) {
        size_t at = ui->first + i;
        int row = heading + 1 + (int)i;

        top_draw_row(canvas, row, &table, &model->domains[model->shown[at]]);
        if (at == ui->selected_at) {
            canvas_style_row(canvas, row, CANVAS_SELECTED);
        }
    }
    if (model->shown_count == 0) {
        canvas_text(canvas, heading + 1, 0, -1, CANVAS_FAINT,
                    !ui->has_survey     ? "asking the domains ..."
                    : model->count == 0 ? "no domain is running; 'ballast run' starts one"
                                        : "no domain fits the filter");
    }
    if (has_foot) {
        draw_foot(ui, canvas, canvas->rows - 1);
    }
}

static void draw_help(struct canvas *canvas)
{
    static const char *const lines[] = {
        "ballast top: all running domains",
        "",
        "up, down, j, k, PgUp, PgDn, Home, End   choose a domain",
        "Enter, right                            its figures, history and map",
        "q, Esc, left                            back; q in the list ends",
        "s, S                                    sort by the next, previous column",
        "r                                       sort the other way round",
        "/                                       show only names or states with a text",
        "h, ?                                    this page",
        "",
        "POPUL    memory that the guest has in use",
        "CACHE    memory of the domain that the guest has not in use",
        "ENTRIES  memory that the guest believes in and has not touched",
        "COV      covered: the cache is as large as the entries; it cannot run out",
        "P99      99 of 100 faults were served within that time, since it started",
        "",
        "A silent domain did not answer; its figures are the last ones known.",
        "",
        "Any key goes back.",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        canvas_text(canvas, (int)i, 0, -1, i == 0 ? CANVAS_TITLE : CANVAS_PLAIN, lines[i]);
    }
}

void top_ui_draw(struct top_ui *ui, struct canvas *canvas, const char *clock)
{
    switch (ui->page) {
    case TOP_PAGE_LIST:
        draw_list(ui, canvas, clock);
        break;
    case TOP_PAGE_DETAIL:
        top_draw_detail(canvas, canvas->rows - 1, ui->selected,
                        top_model_find(&ui->model, ui->selected),
                        strcmp(ui->map_name, ui->selected) == 0 ? &ui->map : NULL, ui->map_error);
        draw_foot(ui, canvas, canvas->rows - 1);
        break;
    case TOP_PAGE_HELP:
        draw_help(canvas);
        break;
    }
}
