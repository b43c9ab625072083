/* SPDX-License-Identifier: MIT */
/* How maps are laid out, merged into cells, and labelled. */
#include "unit.h"

#include "map_view.h"

#include <string.h>

static void layouts(void **unused)
{
    (void)unused;
    static const struct {
        size_t superpages, columns, most_rows, scale;
        struct map_layout expected;
    } table[] = {
        {2048, 70, 32, 0, {1, 64, 32}},
        {2049, 70, 32, 0, {2, 64, 17}},
        {1, 70, 32, 0, {1, 64, 1}},
        {65, 64, 32, 0, {1, 64, 2}},
        {65, 63, 32, 0, {1, 32, 3}},
        {100, 1, 32, 0, {4, 1, 25}},
        {500, 500, 32, 0, {1, 128, 4}},
        {500, 70, 32, 8, {8, 64, 1}},
        {500, 70, 32, 3, {3, 64, 3}},
        {5000, 16, 2, 1, {1, 16, 313}},
        {0, 70, 32, 0, {1, 64, 0}},
        {8388608, 70, 32, 0, {4096, 64, 32}},
        {8388607, 20, 32, 0, {16384, 16, 32}},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct map_layout found =
            map_lay_out(table[i].superpages, table[i].columns, table[i].most_rows, table[i].scale);
        assert_int_equal(found.scale, table[i].expected.scale);
        assert_int_equal(found.per_row, table[i].expected.per_row);
        assert_int_equal(found.rows, table[i].expected.rows);
    }
}

/* One cell that stands for all these letters. */
static void expect_cell(const char *letters, char glyph, bool rest_up)
{
    struct ctl_map map = {strlen(letters), (char *)letters};
    struct map_layout layout = {.scale = 16, .per_row = 8, .rows = 1};
    struct ctl_map_cell cell;
    assert_true(map_cell_at(&map, &layout, 0, 0, &cell));
    assert_int_equal(map_glyph(&cell), glyph);
    assert_int_equal(cell.rest_up, rest_up);
    assert_false(map_cell_at(&map, &layout, 0, 1, &cell));
}

static void several_as_one(void **unused)
{
    (void)unused;
    expect_cell("P", '.', false);
    expect_cell("PPPP", '.', false);
    expect_cell("HHHH", 'H', false);
    expect_cell("RRRR", 'R', false);
    expect_cell("HHHR", 'R', false);
    expect_cell("OOOO", 'o', false);
    expect_cell("GGGG", 'g', false);
    expect_cell("OGOG", 'o', false);
    expect_cell("HHPP", '4', false);
    expect_cell("HPPPPPPPPP", '1', false);
    expect_cell("HHHHHHHHHHHHHHHP", '8', false);
    expect_cell("PPPO", '0', false);
    expect_cell("POOO", '0', true);
    expect_cell("HHHO", '6', true);
    expect_cell("eeee", '4', false);
    expect_cell("uuuu", '4', true);
    expect_cell("u", '4', true);
    expect_cell("Pq", '0', false);
    expect_cell("qqq", '0', true);
}

static void cells_in_rows(void **unused)
{
    (void)unused;
    struct ctl_map map = {7, (char *)"PHRObqG"};
    struct map_layout layout = map_lay_out(map.count, 4, 10, 1);
    char seen[16];
    size_t length = 0;
    for (size_t row = 0; row < layout.rows; row++) {
        struct ctl_map_cell cell;
        for (size_t column = 0; map_cell_at(&map, &layout, row, column, &cell); column++) {
            seen[length++] = map_glyph(&cell);
        }
        seen[length++] = '|';
    }
    seen[length] = '\0';
    assert_string_equal(seen, ".HRo|10g|");
}

static void labels(void **unused)
{
    (void)unused;
    static const struct {
        struct map_layout layout;
        size_t row;
        const char *label;
    } table[] = {
        {{1, 64, 32}, 0, "0"},
        {{1, 64, 32}, 1, "128 MiB"},
        {{1, 64, 32}, 8, "1 GiB"},
        {{1, 64, 32}, 9, "1152 MiB"},
        {{4096, 64, 32}, 1, "512 GiB"},
        {{4096, 64, 32}, 2, "1 TiB"},
        {{4096, 64, 32}, 31, "15872 GiB"},
        {{3, 64, 32}, 1, "384 MiB"},
        {{1, 1, 9}, 3, "6 MiB"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char text[MAP_LABEL_BYTES];
        map_label(&table[i].layout, table[i].row, text);
        assert_string_equal(text, table[i].label);
    }
}

/* Each kind looks different, whatever the terminal; and without colours by its letter. */
static void kinds_look_different(void **unused)
{
    (void)unused;
    for (int a = 0; a < CTL_MAP_KINDS; a++) {
        struct ctl_map_cell one = map_kind_example((enum ctl_map_kind)a);
        assert_int_equal(one.kind, a);
        for (int b = 0; b < a; b++) {
            struct ctl_map_cell other = map_kind_example((enum ctl_map_kind)b);
            struct map_paint p = map_paint(&one, 256), q = map_paint(&other, 256);
            assert_int_not_equal(map_glyph(&one), map_glyph(&other));
            assert_int_not_equal(map_colour(&one), map_colour(&other));
            assert_int_not_equal(p.ground, q.ground);
            assert_string_not_equal(map_kind_name((enum ctl_map_kind)a),
                                    map_kind_name((enum ctl_map_kind)b));
        }
        assert_int_equal(map_paint(&one, 0).ground, -1);
        assert_true(map_paint(&one, 8).ground < 8 && map_paint(&one, 8).text < 8);
    }
}

static void counts(void **unused)
{
    (void)unused;
    struct ctl_map map = {9, (char *)"PPHROGabq"};
    size_t found[CTL_MAP_KINDS];
    map_count(&map, found);
    assert_int_equal(found[CTL_MAP_POD], 2);
    assert_int_equal(found[CTL_MAP_HUGE], 1);
    assert_int_equal(found[CTL_MAP_RAM], 1);
    assert_int_equal(found[CTL_MAP_OUT], 1);
    assert_int_equal(found[CTL_MAP_GIVEN], 1);
    assert_int_equal(found[CTL_MAP_SPLIT], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts),
        cmocka_unit_test(several_as_one),
        cmocka_unit_test(cells_in_rows),
        cmocka_unit_test(labels),
        cmocka_unit_test(kinds_look_different),
        cmocka_unit_test(counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
