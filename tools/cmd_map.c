/* SPDX-License-Identifier: MIT */
/*
 * ballast map: the p2m as a picture, in the terminal or in a file.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/size.h"
#include "base/types.h"
#include "cli.h"
#include "domain.h"
#include "map_picture.h"
#include "map_view.h"
#include "terminal.h"

static const char help[] =
    "Usage: ballast map [--json | -o PICTURE] [--cell SIZE] [--width COLUMNS] NAME\n"
    "\n"
    "Draws a domain's memory as the host sees it: one cell a superpage of 2 MiB, in\n"
    "the order of their addresses. Of a large guest one cell may stand for several;\n"
    "the line above the map says how much a cell is. At the left is how far from the\n"
    "start of guest RAM a row begins.\n"
    "\n"
    "  .     PoD: the guest has not touched it, and nothing backs it yet\n"
    "  H     RAM, in one huge page (as far as the agent knows)\n"
    "  R     RAM throughout, in single pages; or several superpages, not all huge\n"
    "  0-8   split: how many eighths of it are RAM\n"
    "  o     given up by the guest (its balloon)\n"
    "  g     given up, with its pages not collected yet\n"
    "\n"
    "Colours are used on a terminal, unless NO_COLOR is set.\n"
    "\n"
    "Options:\n"
    "  -o PICTURE       write a picture instead; its name ends in .svg or .png\n"
    "  --json           print the map as runs of superpages in the same state\n"
    "  --cell SIZE      what one cell stands for: a multiple of 2M\n"
    "  --width COLUMNS  how wide the text may be (default: the terminal, or 80)\n"
    "\n"
    "Examples:\n"
    "  ballast map vm1\n"
    "  watch -n 1 ballast map vm1\n"
    "  ballast map vm1 -o vm1.svg\n"
    "  ballast map --json vm1 | jq '.counts.huge'\n";

#define LABEL_COLUMNS     10
#define WIDTH_MIN         20
#define WIDTH_MAX         1000
#define TEXT_MOST_ROWS    32
#define PICTURE_PER_ROW   64
#define PICTURE_MOST_ROWS 64

/* What the command line asks for. */
struct options {
    const char *name;
    const char *picture; /* NULL: text */
    bool as_json;
    size_t scale; /* superpages a cell; 0: as it fits */
    int width;
};

/* What a cell is: "one cell is 2 MiB, a superpage". */
static void describe_scale(size_t scale, char *text, size_t size)
{
    char bytes[SIZE_TEXT_BYTES];

    size_format(scale * SUPERPAGE_BYTES, bytes);
    if (scale == 1) {
        snprintf(text, size, "one cell is %s, a superpage", bytes);
    } else {
        snprintf(text, size, "one cell is %s, %zu superpages", bytes, scale);
    }
}

/* "running; max 4 GiB, target 1 GiB, populated 700 MiB, cache 324 MiB" */
static void describe_domain(const json_t *state, char *text, size_t size)
{
    static const char *const keys[] = {"max_pages", "target_pages", "populated_pages",
                                       "cache_pages"};
    char sizes[4][SIZE_TEXT_BYTES];

    for (size_t i = 0; i < 4; i++) {
        domain_format_pages(state, keys[i], sizes[i]);
    }
    snprintf(text, size, "%s; max %s, target %s, populated %s, cache %s",
             domain_string(state, "state"), sizes[0], sizes[1], sizes[2], sizes[3]);
}

static bool is_same_paint(struct map_paint a, struct map_paint b)
{
    return a.text == b.text && a.ground == b.ground;
}

/* One of the two colours: ";34" or ";38;5;25", from 30 on for text and 40 for the ground. */
static void print_colour(short colour, int first, int how_many)
{
    if (colour >= 0 && how_many >= 256) {
        printf(";%d;5;%d", first + 8, colour);
    } else if (colour >= 0) {
        printf(";%d", first + colour);
    }
}

/* Has the terminal print in these colours from here on. */
static void paint(struct map_paint colours, int how_many)
{
    fputs("\033[0", stdout);
    print_colour(colours.text, 30, how_many);
    print_colour(colours.ground, 40, how_many);
    putchar('m');
}

static const struct map_paint plain = {-1, -1};

static void print_rows(const struct ctl_map *map, const struct map_layout *layout, int colours)
{
    for (size_t row = 0; row < layout->rows; row++) {
        struct map_paint now = plain;
        char label[MAP_LABEL_BYTES];
        struct ctl_map_cell cell;

        map_label(layout, row, label);
        printf("%*s ", LABEL_COLUMNS - 1, label);
        for (size_t column = 0; map_cell_at(map, layout, row, column, &cell); column++) {
            struct map_paint wanted = map_paint(&cell, colours);

            if (!is_same_paint(wanted, now)) {
                paint(wanted, colours);
                now = wanted;
            }
            putchar(map_glyph(&cell));
        }
        if (!is_same_paint(now, plain)) {
            paint(plain, colours);
        }
        putchar('\n');
    }
}

/* The kinds that are there, and how many superpages of each. */
static void print_legend(const struct ctl_map *map, int colours)
{
    size_t counts[CTL_MAP_KINDS];

    map_count(map, counts);
    for (int kind = 0; kind < CTL_MAP_KINDS; kind++) {
        struct ctl_map_cell cell = map_kind_example((enum ctl_map_kind)kind);
        struct map_paint wanted = map_paint(&cell, colours);

        if (counts[kind] == 0) {
            continue;
        }
        printf("%*s", LABEL_COLUMNS, "");
        if (!is_same_paint(wanted, plain)) {
            paint(wanted, colours);
        }
        printf(kind == CTL_MAP_SPLIT ? "0-8" : " %c ", map_glyph(&cell));
        if (!is_same_paint(wanted, plain)) {
            paint(plain, colours);
        }
        printf(" %zu %s: %s\n", counts[kind], counts[kind] == 1 ? "superpage" : "superpages",
               map_kind_text((enum ctl_map_kind)kind));
    }
}

static int print_map(const struct options *options, const json_t *state, const struct ctl_map *map)
{
    struct map_layout layout = map_lay_out(map->count, (size_t)(options->width - LABEL_COLUMNS),
                                           TEXT_MOST_ROWS, options->scale);
    int colours = terminal_colours(STDOUT_FILENO);
    char text[256];

    describe_domain(state, text, sizeof(text));
    printf("%s: %s\n", options->name, text);
    describe_scale(layout.scale, text, sizeof(text));
    printf("%s\n", text);
    print_rows(map, &layout, colours);
    print_legend(map, colours);
    return domain_finish_output();
}

static int write_picture(const struct options *options, const json_t *state,
                         const struct ctl_map *map)
{
    char title[BALLAST_NAME_MAX_BYTES + 64];
    char subtitle[256];
    char scale[96];
    const struct map_picture picture = {
        .title = title,
        .subtitle = subtitle,
        .scale_text = scale,
        .map = map,
        .layout = map_lay_out(map->count, PICTURE_PER_ROW, PICTURE_MOST_ROWS, options->scale),
    };
    int ret;

    snprintf(title, sizeof(title), "Memory map of domain \"%s\"", options->name);
    describe_domain(state, subtitle, sizeof(subtitle));
    describe_scale(picture.layout.scale, scale, sizeof(scale));
    ret = map_picture_write(&picture, options->picture,
                            cli_ends_in(options->picture, ".svg") ? CHART_SVG : CHART_PNG);
    if (ret == -ENOTSUP) {
        cli_error("this ballast cannot draw: it was built without cairo; build it where "
                  "libcairo2-dev is installed");
        return EXIT_FAILED;
    }
    if (ret < 0) {
        cli_error("the picture '%s' could not be written: %s; choose another file with -o",
                  options->picture, strerror(-ret));
        return EXIT_FAILED;
    }
    return 0;
}

/* One run of superpages with the same letter. */
static json_t *run_to_json(const struct ctl_map *map, size_t from, size_t count)
{
    struct ctl_map_cell cell = {.kind = CTL_MAP_POD};
    json_t *run;

    ctl_map_read_letter(map->letters[from], &cell);
    run = json_pack("{s:I, s:I, s:s}", "from", (json_int_t)from, "count", (json_int_t)count,
                    "state", map_kind_name(cell.kind));
    if (run != NULL && cell.kind == CTL_MAP_SPLIT) {
        json_object_set_new(run, "ram_eighths", json_integer(cell.ram_eighths));
        json_object_set_new(run, "rest", json_string(cell.rest_up ? "given_up" : "pod"));
    }
    return run;
}

static json_t *map_to_json(const char *name, const struct ctl_map *map)
{
    json_t *runs = json_array();
    json_t *by_kind = json_object();
    size_t counts[CTL_MAP_KINDS];

    for (size_t from = 0; from < map->count;) {
        size_t end = from + 1;

        while (end < map->count && map->letters[end] == map->letters[from]) {
            end++;
        }
        json_array_append_new(runs, run_to_json(map, from, end - from));
        from = end;
    }
    map_count(map, counts);
    for (int kind = 0; kind < CTL_MAP_KINDS; kind++) {
        json_object_set_new(by_kind, map_kind_name((enum ctl_map_kind)kind),
                            json_integer((json_int_t)counts[kind]));
    }
    return json_pack("{s:s, s:I, s:I, s:o, s:o}", "name", name, "superpage_bytes",
                     (json_int_t)SUPERPAGE_BYTES, "superpages", (json_int_t)map->count, "counts",
                     by_kind, "runs", runs);
}

static int print_json(const struct options *options, const struct ctl_map *map)
{
    json_t *json = map_to_json(options->name, map);

    if (json == NULL) {
        cli_error("the map cannot be printed: out of memory; free some and try again");
        return EXIT_FAILED;
    }
    domain_print_json(json);
    json_decref(json);
    return domain_finish_output();
}

/* Asks for state and map on one connection. 0, or an exit status after it said why not. */
static int ask(const char *base, const char *name, json_t **state, struct ctl_map *map)
{
    struct ctl_client *client = NULL;
    struct ctl_error error;
    int ret = domain_find(base, name);

    if (ret != 0) {
        return ret;
    }
    ret = domain_connect(base, name, DOMAIN_ANSWER_MS, &client, &error);
    if (ret == 0) {
        ret = domain_query_on(client, state, &error);
        if (ret == 0) {
            ret = domain_map_on(client, map, &error);
            if (ret < 0) {
                json_decref(*state);
            }
        }
        ctl_client_close(client);
    }
    if (ret < 0) {
        cli_error("the domain '%s' cannot be asked: %s", name, error.desc);
        return EXIT_FAILED;
    }
    return 0;
}

static int show(const char *base, const struct options *options)
{
    struct ctl_map map = {.count = 0};
    json_t *state = NULL;
    int ret = ask(base, options->name, &state, &map);

    if (ret != 0) {
        return ret;
    }
    if (options->as_json) {
        ret = print_json(options, &map);
    } else if (map.count == 0) {
        cli_error("the domain '%s' has no memory to show yet: it is being built; try again",
                  options->name);
        ret = EXIT_FAILED;
    } else if (options->picture != NULL) {
        ret = write_picture(options, state, &map);
    } else {
        ret = print_map(options, state, &map);
    }
    ctl_map_free(&map);
    json_decref(state);
    return ret;
}

/* Reads what --cell and --width say. 0, or an exit status after it said what is wrong. */
static int read_values(const char *cell, const char *width, struct options *options)
{
    int ret = 0;

    options->width = terminal_columns(STDOUT_FILENO);
    if (options->width < WIDTH_MIN) {
        options->width = WIDTH_MIN;
    }
    if (cell != NULL) {
        uint64_t bytes;
        const char *why;

        if (size_parse(cell, &bytes, &why) < 0) {
            return cli_usage_error("map", "--cell '%s' is no size: %s", cell, why);
        }
        if (bytes == 0 || bytes % SUPERPAGE_BYTES != 0 || bytes > MAX_DOMAIN_BYTES) {
            return cli_usage_error("map", "--cell '%s' is no multiple of 2 MiB, up to 16 TiB",
                                   cell);
        }
        options->scale = (size_t)(bytes / SUPERPAGE_BYTES);
    }
    if (width != NULL) {
        ret = cli_read_integer("map", "--width", width, WIDTH_MIN, WIDTH_MAX, &options->width);
    }
    return ret;
}

static int run(int argc, char **argv)
{
    struct options options = {.name = NULL};
    const char *cell = NULL;
    const char *width = NULL;
    const struct cli_option known[] = {{"--json", NULL, &options.as_json},
                                       {"-o", &options.picture, NULL},
                                       {"--cell", &cell, NULL},
                                       {"--width", &width, NULL},
                                       {NULL, NULL, NULL}};
    char base[PATH_MAX];
    int ret = cli_read_options_and_word(&cmd_map, known, argc, argv, "name", &options.name);

    if (ret != 0) {
        return ret < 0 ? 0 : ret;
    }
    ret = read_values(cell, width, &options);
    if (ret == 0) {
        ret = cli_check_name("map", options.name);
    }
    if (ret != 0) {
        return ret;
    }
    if (options.picture != NULL && options.as_json) {
        return cli_usage_error("map", "-o and --json exclude each other");
    }
    if (options.picture != NULL && !cli_ends_in(options.picture, ".svg") &&
        !cli_ends_in(options.picture, ".png")) {
        return cli_usage_error("map", "'%s' ends in neither .svg nor .png", options.picture);
    }
    ret = cli_find_base(base);
    return ret != 0 ? ret : show(base, &options);
}

const struct cli_command cmd_map = {
    .name = "map",
    .summary = "draw one domain's memory, superpage by superpage",
    .help = help,
    .run = run,
};
