/* SPDX-License-Identifier: MIT */
/*
 * Functions and variables of this program that it does not export, by the file with its
 * symbols that distributions make beside each program: it is known by the program's build
 * id, so it fits to the byte or is not found. It is /usr/lib/debug/.build-id/XX/REST.debug,
 * of the package that ends in -dbgsym or -debuginfo.
 */
#ifndef BALLAST_AGENT_SYMBOLS_H
#define BALLAST_AGENT_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/* Where distributions put such files. */
#define SYMBOLS_FOLDER "/usr/lib/debug"

struct symbols {
    const unsigned char *file; /* mapped; NULL: there is none */
    size_t file_bytes;
    uintptr_t base;      /* where the program is loaded */
    size_t table, count; /* its symbols, in the file: where, and how many */
    size_t names, names_bytes;
};

/* Opens the file of this program below a folder. 0; -ENOENT: there is none, or the
 * program has no build id; -ENOEXEC: the file is damaged, or has no symbols; or what the
 * kernel said. */
int symbols_open(const char *folder, struct symbols *symbols);

/* Where a global function or variable of that name is, or NULL. Reads the whole table. */
void *symbols_find(const struct symbols *symbols, const char *name);

void symbols_close(struct symbols *symbols);

#endif
