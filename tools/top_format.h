/* SPDX-License-Identifier: MIT */
/* Numbers in few characters, for tables that are looked at and not read by programs. Pure. */
#ifndef BALLAST_TOOLS_TOP_FORMAT_H
#define BALLAST_TOOLS_TOP_FORMAT_H

#define TOP_FORMAT_BYTES 16

/* A number of pages as a size: "0", "512K", "1.50G". At most 6 characters up to 16 TiB. */
void top_format_pages(double pages, char text[static TOP_FORMAT_BYTES]);

/* A number a second: "0", "0.3", "12", "1.20k"; "-" for NAN. */
void top_format_rate(double rate, char text[static TOP_FORMAT_BYTES]);

/* A time in ns: "950ns", "12.5us", "130us", "2.00ms"; "-" for 0. */
void top_format_ns(double ns, char text[static TOP_FORMAT_BYTES]);

#endif
