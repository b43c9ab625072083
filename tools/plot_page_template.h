/* SPDX-License-Identifier: MIT */
/* The page of tools/page/ as make_page.py puts it together: what stands before
 * and what after the data. */
#ifndef BALLAST_TOOLS_PLOT_PAGE_TEMPLATE_H
#define BALLAST_TOOLS_PLOT_PAGE_TEMPLATE_H

#include <stddef.h>

extern const unsigned char plot_page_before[];
extern const size_t plot_page_before_bytes;
extern const unsigned char plot_page_after[];
extern const size_t plot_page_after_bytes;

#endif
