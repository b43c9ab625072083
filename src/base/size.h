/* SPDX-License-Identifier: MIT */
/*
 * Sizes as people and QEMU write them. All units are powers of 1024.
 */
#ifndef BALLAST_BASE_SIZE_H
#define BALLAST_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* Reads an operator's size: a number, perhaps with a fraction, and a unit:
 * K, M, G or T, perhaps followed by "iB"; upper or lower case. "256M", "1.5g",
 * "4GiB". A number without a unit is refused, because programs disagree about
 * what it means; so is "MB", which some read as 1000 * 1000.
 * -EINVAL, and *why is a static text that completes "X is no size: ...". */
int size_parse(const char *text, uint64_t *bytes, const char **why);

/* Reads a size as QEMU's options do: a decimal number, perhaps with a
 * fraction, or a whole hexadecimal one (0x...); then b, K, M, G, T, P or E in
 * upper or lower case, or nothing, which means bytes. -EINVAL; -ERANGE if it
 * does not fit. */
int size_parse_qemu(const char *text, uint64_t *bytes);

/* Reads the size of QEMU's -m: as above, but a number that ends in a digit
 * counts in MiB. The result is rounded up to 8 KiB, as QEMU does; 0 stands for
 * "the machine's default". */
int size_parse_qemu_memory(const char *text, uint64_t *bytes);

/* Enough for any size_format(). */
#define SIZE_TEXT_BYTES 32

/* Writes a size for people, in the largest unit of which it has at least one,
 * with at most two decimals: "256 MiB", "1.5 GiB", "12 bytes". */
void size_format(uint64_t bytes, char text[static SIZE_TEXT_BYTES]);

#endif
