/* SPDX-License-Identifier: MIT */
/*
 * A map of the p2m as a picture in a file.
 */
#ifndef BALLAST_TOOLS_MAP_PICTURE_H
#define BALLAST_TOOLS_MAP_PICTURE_H

#include "chart.h"
#include "map_view.h"

struct map_picture {
    const char *title;
    const char *subtitle;
    const char *scale_text; /* what one cell is */
    const struct ctl_map *map;
    struct map_layout layout;
};

/* Draws it. What chart_write() returns, also where this is built without cairo. */
int map_picture_write(const struct map_picture *picture, const char *path,
                      enum chart_format format);

#endif
