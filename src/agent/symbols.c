/* SPDX-License-Identifier: MIT */
/*
 * The symbols of this program, from its debug file. See symbols.h. The file is not
 * trusted: whatever it says is held against its size before it is used.
 */
#include "agent/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_MAX_BYTES 64

/* The program as the dynamic linker sees it. */
struct program {
    uintptr_t base;
    unsigned char id[ID_MAX_BYTES];
    size_t id_bytes; /* 0: it has none */
};

/* Looks for the build id among the notes of a segment. */
static void read_notes(const unsigned char *notes, size_t bytes, struct program *program)
{
    ElfW(Nhdr) note;

    while (bytes >= sizeof(note)) {
        memcpy(&note, notes, sizeof(note));
        size_t name = ((size_t)note.n_namesz + 3) & ~(size_t)3;
        size_t description = ((size_t)note.n_descsz + 3) & ~(size_t)3;
        if (name > bytes - sizeof(note) || description > bytes - sizeof(note) - name) {
            return;
        }
        const unsigned char *at = notes + sizeof(note);
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(at, "GNU", 4) == 0 &&
            note.n_descsz >= 2 && note.n_descsz <= ID_MAX_BYTES) {
            memcpy(program->id, at + name, note.n_descsz);
            program->id_bytes = note.n_descsz;
            return;
        }
        notes += sizeof(note) + name + description;
        bytes -= sizeof(note) + name + description;
    }
}

/* The first object that the dynamic linker tells is the program. */
static int read_program(struct dl_phdr_info *info, size_t size, void *context)
{
    struct program *program = context;

    (void)size;
    program->base = info->dlpi_addr;
    for (size_t i = 0; i < info->dlpi_phnum && program->id_bytes == 0; i++) {
        if (info->dlpi_phdr[i].p_type == PT_NOTE) {
            read_notes((const unsigned char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr),
                       info->dlpi_phdr[i].p_memsz, program);
        }
    }
    return 1;
}

/* Is this part of the file within it? */
static bool is_within(const struct symbols *symbols, uint64_t at, uint64_t bytes)
{
    return at <= symbols->file_bytes && bytes <= symbols->file_bytes - at;
}

static int read_section(const struct symbols *symbols, const ElfW(Ehdr) * header, size_t index,
                        ElfW(Shdr) * section)
{
    uint64_t at = header->e_shoff + (uint64_t)index * sizeof(*section);

    if (index >= header->e_shnum || header->e_shoff > symbols->file_bytes ||
        !is_within(symbols, at, sizeof(*section))) {
        return -ENOEXEC;
    }
    memcpy(section, symbols->file + at, sizeof(*section));
    return 0;
}

/* Finds the table and its names. */
static int find_table(struct symbols *symbols)
{
    ElfW(Ehdr) header;
    ElfW(Shdr) table, names;

    if (symbols->file_bytes < sizeof(header)) {
        return -ENOEXEC;
    }
    memcpy(&header, symbols->file, sizeof(header));
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
        header.e_shentsize != sizeof(table)) {
        return -ENOEXEC;
    }
    for (size_t i = 0; read_section(symbols, &header, i, &table) == 0; i++) {
        if (table.sh_type != SHT_SYMTAB) {
            continue;
        }
        if (read_section(symbols, &header, table.sh_link, &names) < 0 ||
            !is_within(symbols, table.sh_offset, table.sh_size) || names.sh_size == 0 ||
            !is_within(symbols, names.sh_offset, names.sh_size) ||
            symbols->file[names.sh_offset + names.sh_size - 1] != '\0') {
            return -ENOEXEC;
        }
        symbols->table = table.sh_offset;
        symbols->count = table.sh_size / sizeof(ElfW(Sym));
        symbols->names = names.sh_offset;
        symbols->names_bytes = names.sh_size;
        return 0;
    }
    return -ENOEXEC;
}

static int map_file(const char *path, struct symbols *symbols)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    int ret = fstat(fd, &status) < 0 ? -errno : 0;
    void *file = MAP_FAILED;
    if (ret == 0) {
        symbols->file_bytes = (size_t)status.st_size;
        file = mmap(NULL, symbols->file_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        ret = file == MAP_FAILED ? -errno : 0;
    }
    close(fd);
    if (ret == 0) {
        symbols->file = file;
        ret = find_table(symbols);
    }
    return ret;
}

int symbols_open(const char *folder, struct symbols *symbols)
{
    struct program program = {.id_bytes = 0};
    struct symbols found = {.file = NULL};
    char path[PATH_MAX];

    dl_iterate_phdr(read_program, &program);
    if (program.id_bytes == 0) {
        return -ENOENT;
    }
    int length = snprintf(path, sizeof(path), "%s/.build-id/%02x/", folder, program.id[0]);
    for (size_t i = 1; i < program.id_bytes && length + 2 < (int)sizeof(path); i++) {
        length += snprintf(path + length, sizeof(path) - (size_t)length, "%02x", program.id[i]);
    }
    if (length + (int)sizeof(".debug") > (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    memcpy(path + length, ".debug", sizeof(".debug"));
    found.base = program.base;
    int ret = map_file(path, &found);
    if (ret < 0) {
        symbols_close(&found);
        return ret;
    }
    *symbols = found;
    return 0;
}

void *symbols_find(const struct symbols *symbols, const char *name)
{
    size_t length = strlen(name) + 1;

    for (size_t i = 0; symbols->file != NULL && i < symbols->count; i++) {
        ElfW(Sym) symbol;

        memcpy(&symbol, symbols->file + symbols->table + i * sizeof(symbol), sizeof(symbol));
        int type = symbol.st_info & 0xf;
        if ((type == STT_FUNC || type == STT_OBJECT) && symbol.st_info >> 4 == STB_GLOBAL &&
            symbol.st_shndx != SHN_UNDEF && symbol.st_name < symbols->names_bytes &&
            symbols->names_bytes - symbol.st_name >= length &&
            memcmp(symbols->file + symbols->names + symbol.st_name, name, length) == 0) {
            return (void *)(symbols->base + symbol.st_value);
        }
    }
    return NULL;
}

void symbols_close(struct symbols *symbols)
{
    if (symbols->file != NULL) {
        munmap((void *)symbols->file, symbols->file_bytes);
        symbols->file = NULL;
    }
}
