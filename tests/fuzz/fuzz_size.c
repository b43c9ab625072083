/* SPDX-License-Identifier: MIT */
/* The three ways to read a size; what size_format writes is a size again. */
#include "fuzz.h"

#include "base/size.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[64], written[SIZE_TEXT_BYTES];
    if (size >= sizeof(text)) {
        return -1;
    }
    memcpy(text, data, size);
    text[size] = '\0';

    const uint64_t untouched = 12345;
    const char *why = NULL;
    uint64_t bytes = untouched;
    int ret = size_parse(text, &bytes, &why);
    must(ret == 0 || (ret == -EINVAL && bytes == untouched && why != NULL && why[0] != '\0'));
    must(ret != 0 || strpbrk(text, "KMGTkmgt") != NULL); /* never without a unit */
    size_format(bytes, written);
    must(strlen(written) < sizeof(written));

    bytes = untouched;
    ret = size_parse_qemu(text, &bytes);
    must(ret == 0 || ((ret == -EINVAL || ret == -ERANGE) && bytes == untouched));

    bytes = untouched;
    ret = size_parse_qemu_memory(text, &bytes);
    must(ret == 0 ? bytes % 8192 == 0 : bytes == untouched);
    return 0;
}
