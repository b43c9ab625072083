/* SPDX-License-Identifier: MIT */
/* What the launcher tells the agent. */
#include "fuzz.h"

#include "agent/config.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';

    struct config config = {.lock_fd = 12345};
    const char *why = NULL;
    int ret = config_parse(text, &config, &why);
    if (ret == 0) {
        must(config.name[0] != '\0' && config.directory[0] == '/');
        must(config.target_bytes != 0);
    } else {
        must(ret == -EINVAL && why != NULL && config.lock_fd == 12345);
    }
    free(text);
    return 0;
}
