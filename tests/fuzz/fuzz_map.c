/* SPDX-License-Identifier: MIT */
/* The runs of query-map, for as many superpages as the first byte says: what is
 * read packs into a text that is no longer and reads the same. */
#include "fuzz.h"

#include "ctl/map.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[512], letters[256], packed[256], again[256];
    if (size < 1 || size >= sizeof(text)) {
        return -1;
    }
    size_t count = data[0];
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    int ret = ctl_map_unpack(text, letters, count);
    must(ret == 0 || ret == -EPROTO);
    if (ret == 0) {
        for (size_t i = 0; i < count; i++) {
            struct ctl_map_cell cell;
            must(ctl_map_read_letter(letters[i], &cell) && cell.ram_eighths <= 8);
        }
        size_t length = ctl_map_pack(letters, count, packed);
        must(length <= count && length <= strlen(text) && strlen(packed) == length);
        must(ctl_map_unpack(packed, again, count) == 0 && memcmp(letters, again, count) == 0);
    }
    return 0;
}
