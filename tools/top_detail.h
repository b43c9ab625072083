/* SPDX-License-Identifier: MIT */
/*
 * The page of `ballast top` about one domain: figures with bars, its history, its map.
 * Pure.
 */
#ifndef BALLAST_TOOLS_TOP_DETAIL_H
#define BALLAST_TOOLS_TOP_DETAIL_H

#include "canvas.h"
#include "ctl/map.h"
#include "top_model.h"

/* Draws into the first `rows` rows. `domain` is NULL if there is none of that name any
 * more; `map` if none has come, or an empty one with `map_error`. */
void top_draw_detail(struct canvas *canvas, int rows, const char *name,
                     const struct top_domain *domain, const struct ctl_map *map,
                     const char *map_error);

#endif
