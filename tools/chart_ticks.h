/* SPDX-License-Identifier: MIT */
/*
 * Where an axis has its ticks, and what they say. Pure.
 */
#ifndef BALLAST_TOOLS_CHART_TICKS_H
#define BALLAST_TOOLS_CHART_TICKS_H

#define TICK_TEXT_BYTES 32

/* A step of 1, 2 or 5 times a power of ten (or, with base2, a power of two)
 * that divides 0..max into at most `most` parts. max > 0, most >= 1. */
double tick_step(double max, int most, int base2);

/* Writes a number of bytes as the labels of one axis do: all in the unit that
 * suits its step, such as "512 MiB" or "1.5 GiB". */
void tick_format_bytes(double bytes, double step, char text[static TICK_TEXT_BYTES]);

/* Writes a plain number: "0", "250", "1.5 k", "2 M". */
void tick_format_number(double value, char text[static TICK_TEXT_BYTES]);

/* Writes seconds with as many decimals as the step has. */
void tick_format_seconds(double seconds, double step, char text[static TICK_TEXT_BYTES]);

/* Writes a duration: "80 µs", "1.5 ms". */
void tick_format_ns(double ns, char text[static TICK_TEXT_BYTES]);

#endif
