/* SPDX-License-Identifier: MIT */
/* Put before all else in the control server that is fuzzed: lines may be so short
 * that a fuzzer meets all limits that follow from it, and meets them often. */
#ifndef BALLAST_TESTS_SHORT_LINES_H
#define BALLAST_TESTS_SHORT_LINES_H

#include <ballast/protocol.h>

#undef BALLAST_PROTOCOL_LINE_MAX_BYTES
#define BALLAST_PROTOCOL_LINE_MAX_BYTES 1024

#endif
