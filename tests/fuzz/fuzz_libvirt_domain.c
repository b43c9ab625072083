/* SPDX-License-Identifier: MIT */
/* libvirt's domain XML, with what its metadata says to us. */
#include "fuzz.h"

#include "base/types.h"
#include "libvirt_domain.h"

#include <errno.h>
#include <string.h>

/* A text ends within its room, and is no more than that of an element: XML has no
 * control characters but these. */
static void check_text(const char *text, size_t room)
{
    size_t length = strnlen(text, room);
    must(length < room);
    for (size_t i = 0; i < length; i++) {
        must((unsigned char)text[i] >= ' ' || strchr("\t\r\n", text[i]) != NULL);
    }
}

static void check_domain(const struct libvirt_domain *domain)
{
    check_text(domain->name, sizeof(domain->name));
    check_text(domain->emulator, sizeof(domain->emulator));
    check_text(domain->owner, sizeof(domain->owner));
    must(domain->name[0] != '\0');
    must(strlen(domain->uuid) == LIBVIRT_UUID_BYTES - 1 && libvirt_uuid_is_valid(domain->uuid));
    must(domain->memory_bytes % 1024 == 0 && domain->target_bytes % PAGE_BYTES == 0);
    must(!domain->asks || domain->target_bytes >= SUPERPAGE_BYTES);
}

/* It is one line of printable ASCII, whatever the XML's words are. */
static void check_problem(const struct libvirt_problem *problem)
{
    must(problem->text[0] != '\0');
    must(strnlen(problem->text, sizeof(problem->text)) < sizeof(problem->text));
    for (const char *at = problem->text; *at != '\0'; at++) {
        must(*at >= ' ' && *at <= '~');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct libvirt_domain domain, before;
    struct libvirt_problem problem = {""};
    memset(&before, 0x5a, sizeof(before));
    memcpy(&domain, &before, sizeof(domain));
    int ret = libvirt_domain_read((const char *)data, size, &domain, &problem);
    if (ret == 0) {
        check_domain(&domain);
    } else {
        must(ret == -EINVAL && memcmp(&domain, &before, sizeof(domain)) == 0);
        check_problem(&problem);
    }
    return 0;
}
