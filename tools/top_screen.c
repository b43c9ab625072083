/* SPDX-License-Identifier: MIT */
/*
 * The screen of `ballast top`. See top_screen.h. What it shows is top_ui.c's; here is
 * only how that comes to a terminal, and keys and answers from outside.
 */
#include "top_screen.h"

#include "base/clock.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "map_view.h"
#include "terminal.h"
#include "top_poll.h"
#include "waiting.h"

/* After Esc, how long a terminal may take to send the rest of a key. */
#define ESCAPE_MS 25

struct screen {
    struct top_ui *ui;
    struct top_poll *poll;
    struct canvas canvas;
    bool has_colours;
    int failure; /* of the last attempt to list the domains, or 0 */
};

/* How styles look without colours, and their colours on the terminal's own ground. */
static const struct {
    attr_t attributes;
    short colour;
} looks[CANVAS_MAP_WHOLE] = {
    [CANVAS_PLAIN] = {A_NORMAL, -1},
    [CANVAS_TITLE] = {A_BOLD, -1},
    [CANVAS_HEADING] = {A_UNDERLINE, -1},
    [CANVAS_SELECTED] = {A_REVERSE, -1},
    [CANVAS_FAINT] = {A_DIM, -1},
    [CANVAS_GOOD] = {A_NORMAL, COLOR_GREEN},
    [CANVAS_WARNING] = {A_BOLD, COLOR_RED},
    [CANVAS_POPULATED] = {A_NORMAL, COLOR_BLUE},
    [CANVAS_CACHE] = {A_NORMAL, COLOR_YELLOW},
    [CANVAS_REST] = {A_DIM, -1},
};

static struct map_paint paint_of(int style, int colours)
{
    struct ctl_map_cell cell = {.kind = CTL_MAP_SPLIT};

    if (style < CANVAS_MAP_WHOLE) {
        return (struct map_paint){looks[style].colour, -1};
    }
    if (style < CANVAS_MAP_SPLIT) {
        cell = map_kind_example((enum ctl_map_kind)(style - CANVAS_MAP_WHOLE));
    } else {
        cell.ram_eighths = (unsigned)(style - CANVAS_MAP_SPLIT);
    }
    return map_paint(&cell, colours);
}

static void start_colours(struct screen *screen)
{
    screen->has_colours = terminal_colours(STDOUT_FILENO) > 0 && has_colors() &&
                          start_color() == OK && use_default_colors() == OK && COLORS >= 8 &&
                          COLOR_PAIRS > CANVAS_STYLES;
    for (int style = 0; screen->has_colours && style < CANVAS_STYLES; style++) {
        struct map_paint paint = paint_of(style, COLORS);

        init_pair((short)(style + 1), paint.text, paint.ground);
    }
}

static attr_t attributes_of(const struct screen *screen, int style)
{
    attr_t attributes = style < CANVAS_MAP_WHOLE ? looks[style].attributes : A_NORMAL;

    return screen->has_colours ? attributes | (attr_t)COLOR_PAIR(style + 1) : attributes;
}

static void draw(struct screen *screen)
{
    struct canvas *canvas = &screen->canvas;
    char clock[16];
    time_t now = time(NULL);
    struct tm local;

    if (canvas_resize(canvas, LINES, COLS) < 0) {
        return; /* what is shown stays */
    }
    localtime_r(&now, &local);
    strftime(clock, sizeof(clock), "%H:%M:%S", &local);
    top_ui_draw(screen->ui, canvas, clock);
    if (screen->failure < 0) {
        canvas_print(canvas, canvas->rows - 1, 0, CANVAS_WARNING,
                     "the domains cannot be listed: %s", strerror(-screen->failure));
    }
    for (int row = 0; row < canvas->rows; row++) {
        for (int column = 0; column < canvas->columns; column++) {
            const struct canvas_cell *cell = &canvas->cells[row * canvas->columns + column];

            mvaddch(row, column,
                    (chtype)(unsigned char)cell->letter | attributes_of(screen, cell->style));
        }
    }
    refresh();
}

/* A key as top_ui.h has it. */
static int translate(int key)
{
    switch (key) {
    case KEY_UP:
        return TOP_INPUT_UP;
    case KEY_DOWN:
        return TOP_INPUT_DOWN;
    case KEY_LEFT:
        return TOP_INPUT_LEFT;
    case KEY_RIGHT:
        return TOP_INPUT_RIGHT;
    case KEY_PPAGE:
        return TOP_INPUT_PAGE_UP;
    case KEY_NPAGE:
        return TOP_INPUT_PAGE_DOWN;
    case KEY_HOME:
        return TOP_INPUT_HOME;
    case KEY_END:
        return TOP_INPUT_END;
    case KEY_ENTER:
    case '\r':
    case '\n':
        return TOP_INPUT_ENTER;
    case KEY_BACKSPACE:
    case 127:
    case '\b':
        return TOP_INPUT_BACKSPACE;
    case 27:
        return TOP_INPUT_ESCAPE;
    default:
        return key < 256 ? key : 0;
    }
}

/* Takes all keys that were pressed. */
static void take_keys(struct screen *screen)
{
    int key;

    while ((key = getch()) != ERR) {
        if (key != KEY_RESIZE) {
            top_ui_key(screen->ui, translate(key));
        }
    }
}

/* Until `next_ms`, a key, an answer or a signal. False if the terminal is gone. */
static bool wait_for_something(const struct screen *screen, int64_t next_ms, const sigset_t *mask)
{
    struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {top_poll_fd(screen->poll), POLLIN, 0}};
    int64_t left_ms = next_ms - clock_now_ms();
    struct timespec left = {.tv_sec = left_ms > 0 ? left_ms / 1000 : 0,
                            .tv_nsec = left_ms > 0 ? left_ms % 1000 * 1000000 : 0};

    return ppoll(fds, 2, &left, mask) <= 0 ||
           (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
}

static void run(struct screen *screen, int delay_ms, int iterations, const sigset_t *mask)
{
    int64_t next_ms = clock_now_ms();
    const char *map_before = NULL;
    int asked = 0;
    bool is_there = true;

    while (is_there && !screen->ui->quit && !waiting_interrupted()) {
        const char *map_of = top_ui_wants_map(screen->ui);
        bool is_time = clock_now_ms() >= next_ms;

        if (is_time && iterations > 0 && asked == iterations) {
            break;
        }
        /* Who opens a domain's page does not want to wait for its map. */
        if (is_time || (map_of != NULL && map_before == NULL)) {
            screen->failure = top_poll_ask(screen->poll, map_of);
            asked += is_time;
            next_ms = is_time ? clock_now_ms() + delay_ms : next_ms;
        }
        map_before = map_of;
        draw(screen);
        is_there = wait_for_something(screen, next_ms, mask);
        take_keys(screen);
        top_poll_take(screen->poll, screen->ui);
    }
}

/* Can this terminal place its cursor? If so, ncurses has it from then on. */
static bool take_terminal(SCREEN **terminal)
{
    const char *place;

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || getenv("TERM") == NULL) {
        return false;
    }
    *terminal = newterm(NULL, stdout, stdin);
    if (*terminal == NULL) {
        return false;
    }
    place = tigetstr("cup");
    if (place == NULL || place == (const char *)-1) {
        endwin();
        delscreen(*terminal);
        return false;
    }
    return true;
}

int top_screen_run(const char *base, struct top_ui *ui, int delay_ms, int iterations)
{
    struct screen screen = {.ui = ui};
    SCREEN *terminal;
    sigset_t mask;
    int ret = top_poll_open(base, &screen.poll);

    if (ret < 0) {
        cli_error("the domains cannot be asked: %s; try again", strerror(-ret));
        return EXIT_FAILED;
    }
    /* Before ncurses installs its own, which end the process. */
    waiting_catch_signals(&mask);
    if (!take_terminal(&terminal)) {
        return -ENOTTY;
    }
    set_escdelay(ESCAPE_MS);
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    curs_set(0);
    start_colours(&screen);
    run(&screen, delay_ms, iterations, &mask);
    endwin();
    delscreen(terminal);
    canvas_free(&screen.canvas);
    return 0;
}
