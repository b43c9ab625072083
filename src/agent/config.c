/* SPDX-License-Identifier: MIT */
#include "agent/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Copies a string, if there is one and it fits. */
static bool copy(const json_t *value, char *to, size_t capacity)
{
    const char *text = json_string_value(value);
    if (text == NULL || strlen(text) >= capacity) {
        return false;
    }
    memcpy(to, text, strlen(text) + 1);
    return true;
}

static bool read_bytes(const json_t *value, uint64_t *bytes)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *bytes = (uint64_t)json_integer_value(value);
    return true;
}

static const char *fill(const json_t *root, struct config *config)
{
    const json_t *fd = json_object_get(root, "lock_fd");
    if (!copy(json_object_get(root, "name"), config->name, sizeof(config->name)) ||
        config->name[0] == '\0') {
        return "no name";
    }
    if (!copy(json_object_get(root, "directory"), config->directory, sizeof(config->directory)) ||
        config->directory[0] != '/') {
        return "no absolute directory";
    }
    if (!json_is_integer(fd) || json_integer_value(fd) < 0 || json_integer_value(fd) > INT_MAX) {
        return "no lock_fd";
    }
    config->lock_fd = (int)json_integer_value(fd);
    if (!read_bytes(json_object_get(root, "target_bytes"), &config->target_bytes) ||
        config->target_bytes < SUPERPAGE_BYTES || config->target_bytes % PAGE_BYTES != 0) {
        return "target_bytes must be a multiple of 4096 and at least 2 MiB";
    }
    if (!read_bytes(json_object_get(root, "max_bytes"), &config->max_bytes)) {
        return "no max_bytes";
    }
    const json_t *maxmem = json_object_get(root, "maxmem_bytes");
    if (maxmem != NULL && !read_bytes(maxmem, &config->maxmem_bytes)) {
        return "maxmem_bytes is no number of bytes";
    }
    const json_t *on_exhaustion = json_object_get(root, "on_exhaustion");
    const json_t *reserve = json_object_get(root, "reserve");
    if (on_exhaustion != NULL) {
        const char *policy = json_string_value(on_exhaustion);
        config->pause = policy != NULL && strcmp(policy, "pause") == 0;
        if (policy == NULL || (!config->pause && strcmp(policy, "crash") != 0)) {
            return "on_exhaustion must be \"crash\" or \"pause\"";
        }
    }
    config->reserve = true;
    if (reserve != NULL) {
        if (!json_is_boolean(reserve)) {
            return "reserve must be true or false";
        }
        config->reserve = json_is_true(reserve);
    }
    const json_t *balloon = json_object_get(root, "balloon_sets_target");
    if (balloon != NULL && !json_is_boolean(balloon)) {
        return "balloon_sets_target must be true or false";
    }
    config->balloon_sets_target = json_is_true(balloon);
    const json_t *word = json_object_get(root, "target_word");
    if (word != NULL && !copy(word, config->target_word, sizeof(config->target_word))) {
        return "target_word is no string, or too long";
    }
    const json_t *program = json_object_get(root, "program");
    const json_t *preload = json_object_get(root, "preload");
    if ((program && !copy(program, config->program, sizeof(config->program))) ||
        (preload && !copy(preload, config->preload, sizeof(config->preload)))) {
        return "program or preload is no string, or too long";
    }
    return NULL;
}

int config_parse(const char *text, struct config *config, const char **why)
{
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    struct config read = {0};
    const char *wrong = json_is_object(root) ? fill(root, &read) : "it is no JSON object";
    json_decref(root);
    if (wrong != NULL) {
        *why = wrong;
        return -EINVAL;
    }
    *config = read;
    return 0;
}
