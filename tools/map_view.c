/* SPDX-License-Identifier: MIT */
/*
 * How a map is shown. See map_view.h.
 */
#include "map_view.h"

#include <inttypes.h>
#include <stdio.h>

#define EIGHTHS     8
#define MOST_COLUMN 128

static const struct {
    const char *name;
    const char *text;
    char glyph; /* not of split ones */
    struct map_paint many, few;
    uint32_t colour;
} kinds[CTL_MAP_KINDS] = {
    [CTL_MAP_POD] = {"pod", "PoD, not backed yet", '.', {244, -1}, {-1, -1}, 0xdde6ee},
    [CTL_MAP_HUGE] = {"huge", "RAM, one huge page", 'H', {231, 25}, {7, 4}, 0x0072b2},
    [CTL_MAP_RAM] = {"ram", "RAM in single pages", 'R', {231, 31}, {0, 6}, 0x56b4e9},
    [CTL_MAP_OUT] = {"out", "given up", 'o', {250, 238}, {-1, -1}, 0x999999},
    [CTL_MAP_GIVEN] = {"given", "given up, still there", 'g', {231, 96}, {7, 5}, 0xcc79a7},
    [CTL_MAP_SPLIT] = {"split", "split: eighths that are RAM", 0, {16, 178}, {0, 3}, 0xe69f00},
};

/* Grounds of split cells with 0 to 8 eighths of RAM: the more, the brighter. */
static const short split_grounds[EIGHTHS + 1] = {52, 58, 94, 130, 136, 172, 178, 214, 220};
/* From this on the text is black. */
#define SPLIT_BRIGHT 4

/* The largest power of two that is at most `most`, which is not 0. */
static size_t power_of_two(size_t most)
{
    size_t power = 1;

    while (power <= most / 2) {
        power *= 2;
    }
    return power;
}

static size_t divide_up(size_t value, size_t by)
{
    return value / by + (value % by != 0);
}

struct map_layout map_lay_out(size_t superpages, size_t columns, size_t most_rows, size_t scale)
{
    struct map_layout layout = {
        .scale = scale > 0 ? scale : 1,
        .per_row = power_of_two(columns < MOST_COLUMN ? columns : MOST_COLUMN),
    };

    while (scale == 0 && divide_up(superpages, layout.scale) > layout.per_row * most_rows) {
        layout.scale *= 2;
    }
    layout.rows = divide_up(divide_up(superpages, layout.scale), layout.per_row);
    return layout;
}

/* Several superpages as one: what they have in common, or a split one. In eighths
 * of a superpage, of which those of split ones are rounded. */
static struct ctl_map_cell merge(const char *letters, size_t count)
{
    size_t seen[CTL_MAP_KINDS] = {0};
    size_t ram = 0;
    size_t up = 0;
    struct ctl_map_cell cell = {.kind = CTL_MAP_POD};

    for (size_t i = 0; i < count; i++) {
        ctl_map_read_letter(letters[i], &cell);
        seen[cell.kind]++;
        ram += cell.ram_eighths;
        if (cell.kind == CTL_MAP_OUT || cell.kind == CTL_MAP_GIVEN) {
            up += EIGHTHS;
        } else if (cell.rest_up) {
            up += EIGHTHS - cell.ram_eighths;
        }
    }
    if (count == 1) {
        return cell;
    }
    if (seen[CTL_MAP_HUGE] == count || seen[CTL_MAP_GIVEN] == count || seen[CTL_MAP_POD] == count) {
        return map_kind_example(cell.kind);
    }
    if (seen[CTL_MAP_HUGE] + seen[CTL_MAP_RAM] == count) {
        return map_kind_example(CTL_MAP_RAM);
    }
    if (seen[CTL_MAP_OUT] + seen[CTL_MAP_GIVEN] == count) {
        return map_kind_example(CTL_MAP_OUT);
    }
    return (struct ctl_map_cell){
        .kind = CTL_MAP_SPLIT,
        .ram_eighths = (unsigned)divide_up(ram, count),
        .rest_up = up > count * EIGHTHS - ram - up,
    };
}

bool map_cell_at(const struct ctl_map *map, const struct map_layout *layout, size_t row,
                 size_t column, struct ctl_map_cell *cell)
{
    size_t first = (row * layout->per_row + column) * layout->scale;

    if (column >= layout->per_row || first >= map->count) {
        return false;
    }
    *cell = merge(map->letters + first,
                  map->count - first < layout->scale ? map->count - first : layout->scale);
    return true;
}

char map_glyph(const struct ctl_map_cell *cell)
{
    if (cell->kind == CTL_MAP_SPLIT) {
        return (char)('0' + (int)cell->ram_eighths);
    }
    return kinds[cell->kind].glyph;
}

struct map_paint map_paint(const struct ctl_map_cell *cell, int colours)
{
    if (colours < 8) {
        return (struct map_paint){-1, -1};
    }
    if (colours < 256) {
        return kinds[cell->kind].few;
    }
    if (cell->kind == CTL_MAP_SPLIT) {
        return (struct map_paint){cell->ram_eighths < SPLIT_BRIGHT ? 231 : 16,
                                  split_grounds[cell->ram_eighths]};
    }
    return kinds[cell->kind].many;
}

/* A colour between two: `eighths` of the way. */
static uint32_t blend(uint32_t from, uint32_t to, unsigned eighths)
{
    uint32_t colour = 0;

    for (unsigned shift = 0; shift < 24; shift += 8) {
        uint32_t a = from >> shift & 0xff;
        uint32_t b = to >> shift & 0xff;

        colour |= (a * (EIGHTHS - eighths) + b * eighths) / EIGHTHS << shift;
    }
    return colour;
}

uint32_t map_colour(const struct ctl_map_cell *cell)
{
    uint32_t pale = 0xfdf3d8;

    if (cell->kind == CTL_MAP_SPLIT) {
        return blend(pale, kinds[CTL_MAP_SPLIT].colour, cell->ram_eighths);
    }
    return kinds[cell->kind].colour;
}

const char *map_kind_name(enum ctl_map_kind kind)
{
    return kinds[kind].name;
}

const char *map_kind_text(enum ctl_map_kind kind)
{
    return kinds[kind].text;
}

struct ctl_map_cell map_kind_example(enum ctl_map_kind kind)
{
    bool is_ram = kind == CTL_MAP_HUGE || kind == CTL_MAP_RAM;

    return (struct ctl_map_cell){
        .kind = kind,
        .ram_eighths = kind == CTL_MAP_SPLIT ? EIGHTHS / 2
                       : is_ram              ? EIGHTHS
                                             : 0,
    };
}

void map_count(const struct ctl_map *map, size_t counts[static CTL_MAP_KINDS])
{
    struct ctl_map_cell cell = {.kind = CTL_MAP_POD};

    for (size_t i = 0; i < CTL_MAP_KINDS; i++) {
        counts[i] = 0;
    }
    for (size_t i = 0; i < map->count; i++) {
        ctl_map_read_letter(map->letters[i], &cell);
        counts[cell.kind]++;
    }
}

void map_label(const struct map_layout *layout, size_t row, char text[static MAP_LABEL_BYTES])
{
    static const char *const units[] = {"MiB", "GiB", "TiB"};
    uint64_t value = (uint64_t)row * layout->per_row * layout->scale * (SUPERPAGE_BYTES >> 20);
    size_t unit = 0;

    if (value == 0) {
        snprintf(text, MAP_LABEL_BYTES, "0");
        return;
    }
    while (value % 1024 == 0 && unit < 2) {
        value /= 1024;
        unit++;
    }
    snprintf(text, MAP_LABEL_BYTES, "%" PRIu64 " %s", value, units[unit]);
}
