/* SPDX-License-Identifier: MIT */
/*
 * Sizes as people and QEMU write them. See size.h.
 */
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Enough digits for any byte of an exbibyte; further ones are ignored. */
#define FRACTION_DIGITS 18

#define QEMU_RAM_ALIGN_BYTES UINT64_C(8192)

/* whole + fraction / scale, not yet multiplied by the unit. */
struct number {
    uint64_t whole;
    uint64_t fraction;
    uint64_t scale;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char to_lower(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return (char)(c - 'A' + 'a');
    }
    return c;
}

static int hex_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c = to_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int add_digit(uint64_t *value, unsigned base, unsigned digit)
{
    if (__builtin_mul_overflow(*value, (uint64_t)base, value) ||
        __builtin_add_overflow(*value, (uint64_t)digit, value)) {
        return -ERANGE;
    }
    return 0;
}

/* Reads digits, at least one, and what follows a point; moves *text past them. */
static int read_decimal(const char **text, struct number *number)
{
    struct number read = {.scale = 1};
    const char *at = *text;

    if (!is_digit(*at)) {
        return -EINVAL;
    }
    for (; is_digit(*at); at++) {
        int ret = add_digit(&read.whole, 10, (unsigned)(*at - '0'));

        if (ret < 0) {
            return ret;
        }
    }
    if (*at == '.') {
        int digits = 0;

        for (at++; is_digit(*at); at++, digits++) {
            if (digits < FRACTION_DIGITS) {
                read.fraction = read.fraction * 10 + (uint64_t)(*at - '0');
                read.scale *= 10;
            }
        }
    }
    *text = at;
    *number = read;
    return 0;
}

static int read_hex(const char **text, struct number *number)
{
    struct number read = {.scale = 1};
    const char *at = *text;

    if (hex_value(*at) < 0) {
        return -EINVAL;
    }
    for (; hex_value(*at) >= 0; at++) {
        int ret = add_digit(&read.whole, 16, (unsigned)hex_value(*at));

        if (ret < 0) {
            return ret;
        }
    }
    *text = at;
    *number = read;
    return 0;
}

/* The power of two that a unit's letter stands for, or -1. */
static int unit_shift(char letter, const char *letters)
{
    const char *at = letter != '\0' ? strchr(letters, to_lower(letter)) : NULL;

    return at == NULL ? -1 : 10 * (int)(at - letters);
}

/* Multiplies by 1 << shift. *exact tells whether a piece of a byte was cut off. */
static int scale(const struct number *number, int shift, uint64_t *bytes, bool *exact)
{
    unsigned __int128 fraction = (unsigned __int128)number->fraction << shift;
    unsigned __int128 whole = (unsigned __int128)number->whole << shift;
    unsigned __int128 sum = whole + fraction / number->scale;

    if (sum > UINT64_MAX) {
        return -ERANGE;
    }
    *bytes = (uint64_t)sum;
    *exact = fraction % number->scale == 0;
    return 0;
}

/* Reads an operator's unit, to the end of the text. NULL, or what is wrong. */
static const char *read_unit(const char *text, int *shift)
{
    if (*text == '\0') {
        return "it has no unit; write for example 256M or 4G";
    }
    *shift = unit_shift(*text, "bkmgt");
    if (*shift <= 0) {
        return "its unit is none of K, M, G, T";
    }
    text++;
    if (to_lower(text[0]) == 'b' && text[1] == '\0') {
        return "MB and its like mean different things to different people; write MiB or M";
    }
    if (text[0] != '\0' &&
        (to_lower(text[0]) != 'i' || to_lower(text[1]) != 'b' || text[2] != '\0')) {
        return "there is something after the unit";
    }
    return NULL;
}

static const char *parse_operator(const char *text, uint64_t *bytes)
{
    const char *why;
    struct number number = {0};
    uint64_t result = 0;
    bool exact = true;
    int shift;
    int ret = read_decimal(&text, &number);

    if (ret == 0) {
        why = read_unit(text, &shift);
        if (why != NULL) {
            return why;
        }
        ret = scale(&number, shift, &result, &exact);
    }
    if (ret == -ERANGE) {
        return "it is too large";
    }
    if (ret < 0) {
        return "it does not begin with a number; write for example 256M or 4G";
    }
    if (!exact) {
        return "it is not a whole number of bytes";
    }
    *bytes = result;
    return NULL;
}

int size_parse(const char *text, uint64_t *bytes, const char **why)
{
    const char *wrong = parse_operator(text, bytes);

    if (wrong != NULL) {
        *why = wrong;
        return -EINVAL;
    }
    return 0;
}

static int parse_qemu(const char *text, int default_shift, uint64_t *bytes)
{
    struct number number;
    bool is_decimal = true;
    bool exact;
    int shift;
    int ret;

    while (*text == ' ' || (*text >= '\t' && *text <= '\r')) {
        text++;
    }
    if (*text == '+') {
        text++;
    }
    if (text[0] == '0' && to_lower(text[1]) == 'x') {
        text += 2;
        is_decimal = false;
        ret = read_hex(&text, &number);
    } else {
        ret = read_decimal(&text, &number);
    }
    if (ret < 0) {
        return ret;
    }
    shift = default_shift;
    if (*text != '\0') {
        shift = unit_shift(*text, "bkmgtpe");
        text++;
    }
    if (shift < 0 || *text != '\0' || (shift == 0 && is_decimal && number.fraction != 0)) {
        return -EINVAL;
    }
    return scale(&number, shift, bytes, &exact);
}

int size_parse_qemu(const char *text, uint64_t *bytes)
{
    return parse_qemu(text, 0, bytes);
}

int size_parse_qemu_memory(const char *text, uint64_t *bytes)
{
    size_t length = strlen(text);
    bool ends_in_digit = length > 0 && is_digit(text[length - 1]);
    uint64_t result;
    int ret;

    /* QEMU reads the option twice, first without the unit: a fraction without
     * one is an error there. */
    if (ends_in_digit) {
        ret = parse_qemu(text, 0, &result);
        if (ret < 0) {
            return ret;
        }
    }
    ret = parse_qemu(text, ends_in_digit ? 20 : 0, &result);
    if (ret < 0) {
        return ret;
    }
    if (result > UINT64_MAX - (QEMU_RAM_ALIGN_BYTES - 1)) {
        return -ERANGE;
    }
    *bytes = (result + QEMU_RAM_ALIGN_BYTES - 1) / QEMU_RAM_ALIGN_BYTES * QEMU_RAM_ALIGN_BYTES;
    return 0;
}

void size_format(uint64_t bytes, char text[static SIZE_TEXT_BYTES])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    unsigned __int128 hundredths;
    unsigned whole;
    unsigned part;

    while (unit < 6 && bytes >> (10 * unit) >= 1024) {
        unit++;
    }
    hundredths = (((unsigned __int128)bytes * 100 << 1) >> (10 * unit)) + 1;
    whole = (unsigned)(hundredths / 200);
    part = (unsigned)(hundredths / 2 % 100);
    if (part == 0) {
        snprintf(text, SIZE_TEXT_BYTES, "%u %s", whole, units[unit]);
    } else if (part % 10 == 0) {
        snprintf(text, SIZE_TEXT_BYTES, "%u.%u %s", whole, part / 10, units[unit]);
    } else {
        snprintf(text, SIZE_TEXT_BYTES, "%u.%02u %s", whole, part, units[unit]);
    }
}
