/* SPDX-License-Identifier: MIT */
/*
 * What `ballast doctor` asks of a QEMU that it finds: whether the dynamic linker
 * loads the agent into it, and whether it exports what the agent needs. With
 * BALLAST_AGENT_PROBE in the environment the agent says so, in one line on standard
 * error, and does nothing else:
 *
 *   ballast-agent: serves
 *   ballast-agent: lacks FUNCTION FUNCTION...
 */
#ifndef BALLAST_AGENT_PROBE_H
#define BALLAST_AGENT_PROBE_H

#include <stdbool.h>

/* Answers, if that is asked. To be called before QEMU's main. */
bool probe_answer(void);

#endif
