/* SPDX-License-Identifier: MIT */
#include "agent/probe.h"

#include "agent/qemu.h"

#include <ballast/protocol.h>

#include <stdio.h>
#include <stdlib.h>

static void say_missing(const char *name)
{
    fprintf(stderr, " %s", name);
}

bool probe_answer(void)
{
    if (getenv(BALLAST_PROBE_ENV) == NULL) {
        return false;
    }
    if (qemu_has_all(NULL)) {
        fputs("ballast-agent: serves\n", stderr);
    } else {
        fputs("ballast-agent: lacks", stderr);
        qemu_has_all(say_missing);
        fputc('\n', stderr);
    }
    return true;
}
