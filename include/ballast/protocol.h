/* SPDX-License-Identifier: MIT */
/*
 * What the outside of a Ballast domain looks like: the files it keeps, the
 * versions it speaks and the exit statuses it uses. The messages themselves
 * are described in docs/protocol.md.
 */
#ifndef BALLAST_PROTOCOL_H
#define BALLAST_PROTOCOL_H

/* Version of the control protocol, sent in the greeting. The major number
 * changes when an existing client could misunderstand the server; the minor
 * number when something was added. */
#define BALLAST_PROTOCOL_MAJOR 1
#define BALLAST_PROTOCOL_MINOR 2

/* A request or reply, its newline included, is never longer than this. */
#define BALLAST_PROTOCOL_LINE_MAX_BYTES 65536

/* Files in a domain's folder, which is BASE/NAME (see ctl/runtime_dir.h). */
#define BALLAST_SOCKET_NAME "control.sock"
/* Held with flock(2) by the domain's process for as long as it lives. */
#define BALLAST_LOCK_NAME "lock"
/* What a domain leaves that stopped with BALLAST_EXIT_BROKEN, for its maintainers.
 * It stays until `ballast destroy` removes it or another takes its place. */
#define BALLAST_REPORT_NAME "report.txt"

/* Longest domain name, without the terminating NUL. A name matches
 * [A-Za-z0-9][A-Za-z0-9._-]*. */
#define BALLAST_NAME_MAX_BYTES 64

/* The agent's configuration, one JSON object (docs/protocol.md, "Starting an
 * agent"). The agent removes it from the environment when it starts. */
#define BALLAST_AGENT_ENV "BALLAST_AGENT"

/* Set by `ballast doctor`: the agent says whether it could serve the program that it
 * was loaded into, and does nothing else (src/agent/probe.h). */
#define BALLAST_PROBE_ENV "BALLAST_AGENT_PROBE"

/* Exit statuses of a QEMU that runs under Ballast, beside QEMU's own. They
 * are even because QEMU's isa-debug-exit device gives odd ones to guests. */
enum ballast_exit {
    BALLAST_EXIT_USAGE = 2,      /* ballast: bad command line; nothing was started */
    BALLAST_EXIT_DESTROYED = 82, /* `ballast destroy` ended the domain */
    BALLAST_EXIT_REFUSED = 84,   /* the domain could not be built; the guest never ran */
    BALLAST_EXIT_EXHAUSTED = 86, /* the domain ran out of memory */
    BALLAST_EXIT_BROKEN = 88,    /* the agent found its own state wrong and stopped the guest */
};

#endif
