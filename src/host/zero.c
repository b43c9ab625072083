/* SPDX-License-Identifier: MIT */
#include "host/zero.h"

#include <isa-l.h>
#include <string.h>

#define PAGE_WORDS   (PAGE_BYTES / sizeof(uint64_t))
#define GLANCE_WORDS 8
/* What isa-l's vector code looks at in one step. */
#define STEP_WORDS 16

/* Whether words are zero. Each is read once, for others may be writing: a race
 * by design, which a sanitizer need not report. */
__attribute__((no_sanitize("thread"))) static bool words_are_zero(const uint64_t *words,
                                                                  size_t count)
{
    uint64_t any = 0;
    for (size_t i = 0; i < count; i++) {
        any |= __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    }
    return any == 0;
}

bool zero_glance(haddr_t page)
{
    const uint64_t *words = (const uint64_t *)page.a;
    return words_are_zero(words, GLANCE_WORDS) &&
           words_are_zero(words + PAGE_WORDS - GLANCE_WORDS, GLANCE_WORDS);
}

void zero_glance_soon(haddr_t page)
{
    const uint64_t *words = (const uint64_t *)page.a;
    __builtin_prefetch(words);
    __builtin_prefetch(words + PAGE_WORDS - GLANCE_WORDS);
}

/*
 * The AVX2 code of isa-l 2.31 (Debian 13) reads on behind the end if, in its
 * last step, each of the 32 bytes that it folds the step into is not zero: the
 * mark for "found something" and the one for "that was the last" then add up to
 * nothing. So the last step is looked at first; where it is zero, isa-l ends.
 */
bool zero_compare(haddr_t at, pages_t pages)
{
    uint64_t bytes = pages_to_bytes(pages);
    const uint64_t *end = (const uint64_t *)haddr_add(at, bytes).a;
    return words_are_zero(end - STEP_WORDS, STEP_WORDS) &&
           isal_zero_detect((void *)at.a, bytes) == 0;
}

/* Not by isa-l: what is behind the end of its last step may change meanwhile. */
void zero_fill(haddr_t page)
{
    const uint64_t *words = (const uint64_t *)page.a;
    for (size_t at = 0; at < PAGE_WORDS; at += STEP_WORDS) {
        if (!words_are_zero(words + at, STEP_WORDS)) {
            memset((void *)page.a, 0, PAGE_BYTES);
            return;
        }
    }
}
