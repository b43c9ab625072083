/* SPDX-License-Identifier: MIT */
/* The pages of ballast top at all sizes, and what keys do on them. */
#include "unit.h"

#include "top_table.h"
#include "top_ui.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *answer(const char *name, int populated)
{
    return json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "name", name, "pid",
                     7, "state", "running", "max_pages", 262144, "target_pages", 131072,
                     "populated_pages", populated, "cache_pages", 131072 - populated,
                     "pod_entries_pages", 262144 - populated, "faults", 10, "fault_p99_ns", 130000,
                     "covered", 0);
}

/* Domains with these names, each with a blank after it. */
static void survey(struct top_ui *ui, const char *names)
{
    json_t *list = json_array();
    char name[16];
    int length;
    while (sscanf(names, "%15s%n", name, &length) == 1) {
        json_array_append_new(list, answer(name, 65536));
        names += length;
    }
    assert_int_equal(top_model_take_survey(&ui->model, list, 1), 0);
    json_decref(list);
    ui->has_survey = true;
    top_ui_settle(ui);
}

/* A row of what is drawn at a size. */
static const char *row_of(struct top_ui *ui, int rows, int columns, int row)
{
    static char text[512];
    struct canvas canvas = {.cells = NULL};
    assert_int_equal(canvas_resize(&canvas, rows, columns), 0);
    top_ui_draw(ui, &canvas, "12:00:00");
    canvas_row_text(&canvas, row, text);
    canvas_free(&canvas);
    return text;
}

static void press(struct top_ui *ui, const char *keys)
{
    for (; *keys != '\0'; keys++) {
        top_ui_key(ui, *keys);
    }
}

static void a_list(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    assert_string_equal(row_of(&ui, 24, 80, 3), "asking the domains ...");
    survey(&ui, "");
    assert_string_equal(row_of(&ui, 24, 80, 3), "no domain is running; 'ballast run' starts one");
    survey(&ui, "vm1 vm2");
    assert_string_equal(row_of(&ui, 24, 80, 0), "ballast top  12:00:00  2 domains  by name");
    assert_string_equal(row_of(&ui, 24, 80, 1),
                        "in all  max 2G  target 1G  populated 512M  cache 512M");
    static const char row[] =
        "vm1  running       1G   512M   256M   256M    768M  no       -  130us ###==.....";
    assert_string_equal(row_of(&ui, 24, 80, 3), row);
    assert_string_equal(row_of(&ui, 24, 80, 5), "");
    assert_non_null(strstr(row_of(&ui, 24, 80, 23), "q quit"));
    assert_string_equal(row_of(&ui, 2, 80, 1), row); /* the headings, and one domain */
    top_ui_free(&ui);
}

/* More important columns stay, and nothing is wider than the terminal. */
static void widths(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    survey(&ui, "a-long-name vm2");
    struct top_table before = {{0}};
    for (int columns = 1; columns < 300; columns++) {
        struct top_table table = top_lay_out(&ui.model, columns, false);
        assert_true(top_table_width(&table) <= columns || table.width[TOP_POPULATED] == 0);
        for (int i = 0; i < TOP_COLUMNS; i++) {
            /* What once fits goes on to fit, but for the name, which takes what is left. */
            assert_true(before.width[i] == 0 || table.width[i] != 0);
        }
        before = table;
    }
    for (int i = 0; i < TOP_COLUMNS; i++) {
        assert_true(before.width[i] > 0);
    }
    assert_int_equal(before.width[TOP_NAME], 11);
    struct top_table all = top_lay_out(&ui.model, 0, true);
    assert_true(all.width[TOP_BAR] == 0 && all.width[TOP_RECLAIMS] > 0);
    top_ui_free(&ui);
}

static void bars(void **unused)
{
    (void)unused;
    static const struct {
        double populated, cache, max;
        const char *bar;
    } table[] = {
        {0, 0, 100, ".........."},   {50, 25, 100, "#####===.."}, {100, 0, 100, "##########"},
        {1, 0, 1000, "#........."},  {0, 1, 1000, "=........."},  {1, 1, 1000, "#=........"},
        {40, 60, 100, "####======"}, {0, 0, 0, ".........."},     {99.9, 0.1, 100, "##########"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct canvas canvas = {.cells = NULL};
        char text[16];
        assert_int_equal(canvas_resize(&canvas, 1, 12), 0);
        top_draw_bar(&canvas, 0, 1, 10, table[i].populated, table[i].cache, table[i].max);
        canvas_put(&canvas, 0, 11, '|', CANVAS_PLAIN);
        canvas_row_text(&canvas, 0, text);
        assert_memory_equal(text + 1, table[i].bar, 10);
        assert_true(text[0] == ' ' && text[11] == '|');
        canvas_free(&canvas);
    }
}

/* No size, page or key makes it draw or select what is not there. */
static void all_sizes(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    struct ctl_map map = {.count = 600, .letters = malloc(600)};
    memset(map.letters, 'H', map.count);
    survey(&ui, "a b c d e f g");
    top_ui_take_map(&ui, "a", &map, NULL);
    static const enum top_page pages[] = {TOP_PAGE_LIST, TOP_PAGE_DETAIL, TOP_PAGE_HELP};
    for (size_t i = 0; i < 3; i++) {
        ui.page = pages[i];
        for (int rows = 1; rows < 60; rows++) {
            for (int columns = 1; columns < 140; columns += 1 + columns / 8) {
                row_of(&ui, rows, columns, rows - 1);
            }
        }
    }
    top_ui_free(&ui);
}

static void the_selection_follows_its_domain(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    survey(&ui, "a b c");
    assert_string_equal(ui.selected, "a");
    press(&ui, "jj");
    assert_string_equal(ui.selected, "c");
    press(&ui, "j");
    assert_string_equal(ui.selected, "c");
    survey(&ui, "a aa b bb c d");
    assert_string_equal(ui.selected, "c");
    assert_int_equal(ui.selected_at, 4);
    press(&ui, "r");
    assert_string_equal(ui.selected, "c");
    assert_int_equal(ui.selected_at, 1);
    /* When it is gone, whoever is in its place. */
    survey(&ui, "a aa b bb d");
    assert_string_equal(ui.selected, "bb");
    survey(&ui, "");
    assert_string_equal(ui.selected, "");
    press(&ui, "jk\n");
    top_ui_key(&ui, TOP_INPUT_ENTER);
    assert_int_equal(ui.page, TOP_PAGE_LIST);
    top_ui_free(&ui);
}

static void scrolling(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    survey(&ui, "a b c d e f g h i j");
    /* Ten rows: title, sums, headings, foot, and six domains. */
    assert_int_equal(row_of(&ui, 10, 80, 3)[0], 'a');
    assert_int_equal(row_of(&ui, 10, 80, 8)[0], 'f');
    top_ui_key(&ui, TOP_INPUT_PAGE_DOWN);
    assert_string_equal(ui.selected, "f");
    press(&ui, "j");
    assert_int_equal(row_of(&ui, 10, 80, 3)[0], 'b');
    top_ui_key(&ui, TOP_INPUT_END);
    assert_string_equal(ui.selected, "j");
    assert_int_equal(row_of(&ui, 10, 80, 8)[0], 'j');
    assert_int_equal(row_of(&ui, 24, 80, 3)[0], 'a'); /* a larger terminal shows all */
    top_ui_key(&ui, TOP_INPUT_PAGE_UP);
    top_ui_key(&ui, TOP_INPUT_HOME);
    assert_string_equal(ui.selected, "a");
    assert_int_equal(row_of(&ui, 5, 80, 2)[0], 'a');
    top_ui_free(&ui);
}

static void filtering(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    survey(&ui, "db1 db2 web1 web2");
    press(&ui, "/wexq");
    assert_false(ui.quit);
    assert_string_equal(row_of(&ui, 24, 80, 3), "no domain fits the filter");
    top_ui_key(&ui, TOP_INPUT_BACKSPACE);
    top_ui_key(&ui, TOP_INPUT_BACKSPACE);
    assert_int_equal(ui.model.shown_count, 2);
    assert_string_equal(ui.selected, "web1");
    assert_non_null(strstr(row_of(&ui, 24, 80, 23), "filter: we_"));
    top_ui_key(&ui, TOP_INPUT_ENTER);
    press(&ui, "j");
    assert_string_equal(ui.selected, "web2");
    top_ui_key(&ui, TOP_INPUT_ESCAPE);
    assert_int_equal(ui.model.shown_count, 4);
    press(&ui, "/");
    for (int i = 0; i < 200; i++) {
        top_ui_key(&ui, 'x');
        top_ui_key(&ui, 1000); /* no character */
    }
    assert_int_equal(strlen(ui.model.filter), TOP_TEXT_BYTES - 1);
    top_ui_key(&ui, TOP_INPUT_ESCAPE);
    assert_int_equal(ui.model.shown_count, 4);
    press(&ui, "q");
    assert_true(ui.quit);
    top_ui_free(&ui);
}

static void sorting(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    survey(&ui, "a b");
    for (int i = 1; i <= TOP_KEYS; i++) {
        press(&ui, "s");
        assert_int_equal(ui.model.key, i % TOP_KEYS);
    }
    press(&ui, "S");
    assert_int_equal(ui.model.key, TOP_KEYS - 1);
    press(&ui, "r");
    assert_non_null(strstr(row_of(&ui, 24, 80, 0), "by p99, reversed"));
    top_ui_free(&ui);
}

static void one_domain(void **unused)
{
    (void)unused;
    struct top_ui ui = {.page = TOP_PAGE_LIST};
    assert_null(top_ui_wants_map(&ui));
    survey(&ui, "vm1 vm2");
    top_ui_key(&ui, TOP_INPUT_ENTER);
    assert_string_equal(top_ui_wants_map(&ui), "vm1");
    assert_string_equal(row_of(&ui, 24, 80, 0),
                        "vm1: running, pid 7, not covered: entries exceed the cache by 512M");
    assert_string_equal(row_of(&ui, 24, 40, 3), "populated     256M #####");
    assert_non_null(strstr(row_of(&ui, 24, 80, 14), "asking"));
    struct ctl_map map = {.count = 70, .letters = malloc(70)};
    memset(map.letters, 'P', map.count);
    memcpy(map.letters, "HRe", 3);
    top_ui_take_map(&ui, "vm1", &map, NULL);
    assert_string_equal(row_of(&ui, 24, 80, 14),
                        "map: a cell is 2M; . PoD  H huge  R RAM  0-8 split  o, g given up");
    assert_non_null(strstr(row_of(&ui, 24, 80, 15), " 0 HR4......"));
    assert_string_equal(row_of(&ui, 24, 80, 16), "  128 MiB ......");
    assert_string_equal(row_of(&ui, 24, 80, 11) + 79, "#"); /* the history's newest column */
    top_ui_take_map(&ui, "vm1", NULL, "it is too old");
    assert_string_equal(row_of(&ui, 24, 80, 14), "map: it is too old");
    press(&ui, "j");
    assert_string_equal(top_ui_wants_map(&ui), "vm2");
    assert_non_null(strstr(row_of(&ui, 24, 80, 14), "asking")); /* that map was of another */
    survey(&ui, "vm1");
    assert_string_equal(row_of(&ui, 24, 80, 0), "vm2 is gone; q goes back to the others");
    press(&ui, "h");
    assert_int_equal(ui.page, TOP_PAGE_HELP);
    press(&ui, "qq");
    assert_int_equal(ui.page, TOP_PAGE_LIST);
    assert_false(ui.quit);
    assert_string_equal(ui.selected, "vm1");
    top_ui_free(&ui);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list),     cmocka_unit_test(widths),
        cmocka_unit_test(bars),       cmocka_unit_test(all_sizes),
        cmocka_unit_test(scrolling),  cmocka_unit_test(the_selection_follows_its_domain),
        cmocka_unit_test(filtering),  cmocka_unit_test(sorting),
        cmocka_unit_test(one_domain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
