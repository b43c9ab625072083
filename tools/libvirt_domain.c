/* SPDX-License-Identifier: MIT */
/*
 * libvirt's domain XML. See libvirt_domain.h.
 *
 * The parser tells of elements as they come; what is wanted is recognized by the
 * path from the root. Elements deeper than DEPTH_MAX are none of those.
 */
#include "libvirt_domain.h"

#include <errno.h>
#include <expat.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

#define DEPTH_MAX  4
#define NAME_BYTES 64
#define TEXT_BYTES (PATH_MAX + 1) /* so that what is longer than a path is noticed */

struct reader {
    XML_Parser parser;
    struct libvirt_domain *domain;
    struct libvirt_problem *problem;
    char path[DEPTH_MAX][NAME_BYTES]; /* names of the elements that are open */
    unsigned depth;
    char text[TEXT_BYTES]; /* of the element that is open; cut if it is longer */
    size_t text_length;
    bool label_is_dac;
    bool has_memory, has_target;
    enum { BY_SIZES, ALWAYS, NEVER } enabled;
    int ret;
};

__attribute__((format(printf, 2, 3))) static void refuse(struct reader *reader, const char *format,
                                                         ...)
{
    va_list arguments;

    if (reader->ret != 0) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(reader->problem->text, sizeof(reader->problem->text), format, arguments);
    va_end(arguments);
    /* A word of the XML's may have lines, and what moves a terminal's cursor. */
    for (char *at = reader->problem->text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
    reader->ret = -EINVAL;
    XML_StopParser(reader->parser, XML_FALSE);
}

/* Is the open element the one of this path? The list is ended by NULL. */
static bool is_at(const struct reader *reader, const char *const *path)
{
    unsigned depth = 0;

    for (; path[depth] != NULL; depth++) {
        if (depth >= reader->depth || strcmp(reader->path[depth], path[depth]) != 0) {
            return false;
        }
    }
    return depth == reader->depth;
}

#define IS_AT(reader, ...) is_at((reader), (const char *const[]){__VA_ARGS__, NULL})

static const char *find_attribute(const char **attributes, const char *name)
{
    for (; attributes[0] != NULL; attributes += 2) {
        if (strcmp(attributes[0], name) == 0) {
            return attributes[1];
        }
    }
    return NULL;
}

/* Reads an attribute that is one of two words; absent, it leaves *value alone. */
static void read_choice(struct reader *reader, const char **attributes, const char *name,
                        const char *yes, const char *no, bool *value)
{
    const char *text = find_attribute(attributes, name);

    if (text == NULL) {
        return;
    }
    *value = strcmp(text, yes) == 0;
    if (!*value && strcmp(text, no) != 0) {
        refuse(reader,
               "the domain's metadata for Ballast cannot be used: %s is '%.64s', and must be %s or "
               "%s; correct it with 'virsh metadata --uri " LIBVIRT_NAMESPACE "'",
               name, text, yes, no);
    }
}

static void read_metadata(struct reader *reader, const char **attributes)
{
    static const char *const known[] = {"enabled", "on-exhaustion", "reserve"};
    bool enabled = false;

    for (const char **at = attributes; at[0] != NULL; at += 2) {
        bool is_known = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            is_known |= strcmp(at[0], known[i]) == 0;
        }
        if (!is_known) {
            refuse(reader,
                   "the domain's metadata for Ballast cannot be used: '%.64s' is not known; it has "
                   "enabled, on-exhaustion and reserve; correct it with 'virsh metadata "
                   "--uri " LIBVIRT_NAMESPACE "'",
                   at[0]);
        }
    }
    read_choice(reader, attributes, "enabled", "yes", "no", &enabled);
    if (find_attribute(attributes, "enabled") != NULL) {
        reader->enabled = enabled ? ALWAYS : NEVER;
    }
    read_choice(reader, attributes, "on-exhaustion", "pause", "crash", &reader->domain->pause);
    read_choice(reader, attributes, "reserve", "yes", "no", &reader->domain->reserve);
}

/* libvirt writes sizes in KiB, whatever the user wrote. */
static void check_unit(struct reader *reader, const char **attributes)
{
    const char *unit = find_attribute(attributes, "unit");

    if (unit != NULL && strcmp(unit, "KiB") != 0) {
        refuse(
            reader,
            "the domain's <%s> cannot be read: its unit is '%.64s', and libvirt gives hooks KiB; "
            "run the hook by libvirt only",
            reader->path[1], unit);
    }
}

static void on_start(void *context, const char *name, const char **attributes)
{
    struct reader *reader = context;

    if (reader->depth < DEPTH_MAX) {
        snprintf(reader->path[reader->depth], NAME_BYTES, "%s", name);
    }
    reader->depth++;
    reader->text_length = 0;
    if (IS_AT(reader, "domain", "memory") || IS_AT(reader, "domain", "currentMemory")) {
        check_unit(reader, attributes);
    } else if (IS_AT(reader, "domain", "metadata", LIBVIRT_NAMESPACE " pod")) {
        read_metadata(reader, attributes);
    } else if (IS_AT(reader, "domain", "seclabel")) {
        const char *model = find_attribute(attributes, "model");

        reader->label_is_dac = model != NULL && strcmp(model, "dac") == 0;
    }
}

static void on_text(void *context, const char *text, int length)
{
    struct reader *reader = context;
    size_t room = TEXT_BYTES - 1 - reader->text_length;
    size_t more = (size_t)length < room ? (size_t)length : room;

    memcpy(reader->text + reader->text_length, text, more);
    reader->text_length += more;
}

static void copy_text(struct reader *reader, char *to, size_t size)
{
    if (reader->text_length >= size) {
        refuse(reader,
               "the domain's XML cannot be used: its <%s> is longer than %zu bytes; shorten it",
               reader->path[reader->depth - 1], size - 1);
        return;
    }
    memcpy(to, reader->text, reader->text_length + 1);
}

static bool read_size(struct reader *reader, uint64_t *bytes)
{
    char *end;
    unsigned long long kib;

    errno = 0;
    kib = strtoull(reader->text, &end, 10);
    if (errno != 0 || end == reader->text || *end != '\0' || reader->text[0] == '-' ||
        kib > UINT64_MAX >> 10) {
        refuse(reader, "the domain's <%s> cannot be read: '%.64s' is no size; correct it",
               reader->path[1], reader->text);
        return false;
    }
    *bytes = kib << 10;
    return true;
}

static void on_end(void *context, const char *name)
{
    struct reader *reader = context;
    struct libvirt_domain *domain = reader->domain;

    (void)name;
    reader->text[reader->text_length] = '\0';
    if (IS_AT(reader, "domain", "name")) {
        copy_text(reader, domain->name, sizeof(domain->name));
    } else if (IS_AT(reader, "domain", "uuid")) {
        copy_text(reader, domain->uuid, sizeof(domain->uuid));
    } else if (IS_AT(reader, "domain", "devices", "emulator")) {
        copy_text(reader, domain->emulator, sizeof(domain->emulator));
    } else if (IS_AT(reader, "domain", "seclabel", "label") && reader->label_is_dac) {
        copy_text(reader, domain->owner, sizeof(domain->owner));
    } else if (IS_AT(reader, "domain", "memory")) {
        reader->has_memory = read_size(reader, &domain->memory_bytes);
    } else if (IS_AT(reader, "domain", "currentMemory")) {
        reader->has_target = read_size(reader, &domain->target_bytes);
    }
    reader->text_length = 0;
    reader->depth--;
}

/* Without a document type there are no entities, and libvirt writes none. */
static void on_doctype(void *context, const char *name, const char *system, const char *public,
                       int has_internal)
{
    (void)name;
    (void)system;
    (void)public;
    (void)has_internal;
    refuse(context, "this is not a domain's XML: it has a document type; run the hook by libvirt "
                    "only");
}

/* What follows from all that was read. */
static void conclude(struct reader *reader)
{
    struct libvirt_domain *domain = reader->domain;

    if (domain->name[0] == '\0' || !libvirt_uuid_is_valid(domain->uuid) || !reader->has_memory) {
        refuse(reader,
               "this is not a domain's XML: it lacks a name, a UUID or a size of memory; run "
               "the hook by libvirt only");
        return;
    }
    if (!reader->has_target) {
        domain->target_bytes = domain->memory_bytes;
    }
    domain->target_bytes -= domain->target_bytes % PAGE_BYTES;
    domain->asks = reader->enabled == ALWAYS ||
                   (reader->enabled == BY_SIZES && domain->target_bytes < domain->memory_bytes);
    if (domain->asks && domain->target_bytes < SUPERPAGE_BYTES) {
        refuse(reader,
               "the domain's <currentMemory> is too small: a domain of Ballast's has 2 MiB at "
               "least; raise it");
    }
}

int libvirt_domain_read(const char *xml, size_t length, struct libvirt_domain *domain,
                        struct libvirt_problem *problem)
{
    struct libvirt_domain read = {.reserve = true};
    struct reader reader = {.domain = &read, .problem = problem};

    reader.parser = XML_ParserCreateNS(NULL, ' ');
    if (reader.parser == NULL || length > INT_MAX) {
        XML_ParserFree(reader.parser);
        snprintf(problem->text, sizeof(problem->text),
                 "the domain's XML cannot be read: out of memory; free some and try again");
        return -ENOMEM;
    }
    XML_SetUserData(reader.parser, &reader);
    XML_SetElementHandler(reader.parser, on_start, on_end);
    XML_SetCharacterDataHandler(reader.parser, on_text);
    XML_SetStartDoctypeDeclHandler(reader.parser, on_doctype);
    if (XML_Parse(reader.parser, xml, (int)length, XML_TRUE) != XML_STATUS_OK) {
        refuse(&reader, "this is not a domain's XML: %s; run the hook by libvirt only",
               XML_ErrorString(XML_GetErrorCode(reader.parser)));
    } else {
        conclude(&reader);
    }
    XML_ParserFree(reader.parser);
    if (reader.ret == 0) {
        *domain = read;
    }
    return reader.ret;
}
