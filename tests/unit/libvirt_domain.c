/* SPDX-License-Identifier: MIT */
/* libvirt's domain XML: what a domain asks for, and what is refused. */
#include "libvirt_domain.h"

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MIB    (UINT64_C(1) << 20)
#define UUID   "2a19e4a4-f674-43c7-a7c0-c0ffb147a4b4"
#define BEGIN  "<domain type='kvm' id='1'><name>web</name><uuid>" UUID "</uuid>"
#define MEMORY "<memory unit='KiB'>1048576</memory>"
#define HALF   "<currentMemory unit='KiB'>524288</currentMemory>"
#define END    "</domain>"
#define POD(attributes)                                                                            \
    "<metadata><other xmlns='urn:x'/><b:pod xmlns:b='" LIBVIRT_NAMESPACE "' " attributes           \
    "/></metadata>"

static struct libvirt_domain read_good(const char *xml)
{
    struct libvirt_domain domain;
    struct libvirt_problem problem = {.text = ""};

    if (libvirt_domain_read(xml, strlen(xml), &domain, &problem) != 0) {
        fail_msg("%s: %s", xml, problem.text);
    }
    return domain;
}

static void refused(const char *xml, const char *why)
{
    struct libvirt_domain domain, before;
    struct libvirt_problem problem = {.text = ""};
    int ret;

    memset(&domain, 0x5a, sizeof(domain));
    before = domain;
    ret = libvirt_domain_read(xml, strlen(xml), &domain, &problem);
    if (ret != -EINVAL || strstr(problem.text, why) == NULL) {
        fail_msg("%s: %d, '%s' instead of '%s'", xml, ret, problem.text, why);
    }
    assert_memory_equal(&domain, &before, sizeof(domain));
}

static void whole(void **state)
{
    struct libvirt_domain domain = read_good(
        "<!-- as libvirt 9.0 gives it --><domain type='qemu' id='1'>"
        "<name>a &amp; b</name><uuid>" UUID "</uuid>" MEMORY HALF
        "<devices><emulator>/usr/lib/x/ballast/qemu-system-x86_64</emulator>"
        "<disk><source><name>not the domain's</name></source></disk></devices>"
        "<seclabel type='dynamic' model='apparmor'><label>libvirt-" UUID "</label></seclabel>"
        "<seclabel type='dynamic' model='dac'><label>+64055:+109</label>"
        "<imagelabel>+1:+1</imagelabel></seclabel>" END);

    (void)state;
    assert_string_equal(domain.name, "a & b");
    assert_string_equal(domain.uuid, UUID);
    assert_string_equal(domain.emulator, "/usr/lib/x/ballast/qemu-system-x86_64");
    assert_string_equal(domain.owner, "+64055:+109");
    assert_int_equal(domain.memory_bytes, 1024 * MIB);
    assert_int_equal(domain.target_bytes, 512 * MIB);
    assert_true(domain.asks);
    assert_false(domain.pause);
    assert_true(domain.reserve);
}

static void asks(void **state)
{
    static const struct {
        const char *xml;
        bool asks;
    } cases[] = {
        {BEGIN MEMORY END, false},
        {BEGIN MEMORY "<currentMemory>1048576</currentMemory>" END, false},
        {BEGIN MEMORY "<currentMemory>1048575</currentMemory>" END, true},
        {BEGIN HALF MEMORY END, true},
        {BEGIN POD("") MEMORY END, false},
        {BEGIN POD("enabled='yes'") MEMORY END, true},
        {BEGIN POD("enabled='no'") MEMORY HALF END, false},
        {BEGIN POD("reserve='no'") MEMORY HALF END, true},
        /* Those of others, and elements that only look like what is meant. */
        {BEGIN "<metadata><pod xmlns='urn:x' enabled='yes'/></metadata>" MEMORY END, false},
        {BEGIN "<metadata><pod enabled='yes'/></metadata>" MEMORY END, false},
        {BEGIN MEMORY "<devices><memory>" HALF "</memory></devices>" END, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (read_good(cases[i].xml).asks != cases[i].asks) {
            fail_msg("%s", cases[i].xml);
        }
    }
    assert_int_equal(
        read_good(BEGIN MEMORY "<currentMemory>1048575</currentMemory>" END).target_bytes,
        1024 * MIB - 4096);
    assert_true(read_good(BEGIN POD("on-exhaustion='pause'") MEMORY END).pause);
    assert_false(read_good(BEGIN POD("on-exhaustion='crash'") MEMORY END).pause);
    assert_false(read_good(BEGIN POD("reserve='no'") MEMORY END).reserve);
}

static void nonsense(void **state)
{
    char longer[PATH_MAX + 100];

    (void)state;
    refused("", "not a domain's XML");
    refused("{}", "not a domain's XML");
    refused(BEGIN MEMORY, "not a domain's XML");
    refused(BEGIN END, "lacks a name");
    refused("<domain><name>web</name>" MEMORY END, "lacks a name");
    refused("<domain><name/><uuid>" UUID "</uuid>" MEMORY END, "lacks a name");
    refused("<domain><name>web</name><uuid>../../../../etc/passwd..............</uuid>" MEMORY END,
            "lacks a name");
    refused("<network><name>web</name><uuid>" UUID "</uuid>" MEMORY "</network>", "lacks a name");
    refused("<!DOCTYPE d [<!ENTITY a 'b'>]>" BEGIN MEMORY END, "document type");
    refused(BEGIN "<memory unit='GiB'>1</memory>" END, "its unit is 'GiB'");
    refused(BEGIN "<memory>-1</memory>" END, "'-1' is no size");
    refused(BEGIN "<memory>1 </memory>" END, "is no size");
    refused(BEGIN "<memory>99999999999999999999</memory>" END, "is no size");
    refused(BEGIN MEMORY "<currentMemory>1024</currentMemory>" END, "too small");
    refused(BEGIN POD("enabled='on'") MEMORY END, "enabled is 'on', and must be yes or no");
    refused(BEGIN POD("enabled='&#10;&#155;x'") MEMORY END, "enabled is '???x', and");
    refused(BEGIN POD("on-exhaustion='wait'") MEMORY END, "must be pause or crash");
    refused(BEGIN POD("target='1G'") MEMORY END, "'target' is not known");
    memset(longer, 'x', sizeof(longer));
    snprintf(longer, sizeof(longer), "<domain><name>%0*d</name></domain>", 300, 1);
    refused(longer, "longer than 255 bytes");
    snprintf(longer, sizeof(longer),
             "<domain><devices><emulator>/%0*d</emulator></devices></domain>", PATH_MAX - 1, 1);
    refused(longer, "longer than 4095 bytes");
}

/* Whatever is cut off or broken is refused, and nothing worse. */
static void every_part(void **state)
{
    static const char xml[] = BEGIN POD("enabled='yes' reserve='no'") MEMORY HALF END;
    char copy[sizeof(xml)];

    (void)state;
    for (size_t length = 0; length < sizeof(xml) - 1; length++) {
        struct libvirt_domain domain;
        struct libvirt_problem problem;

        assert_int_equal(libvirt_domain_read(xml, length, &domain, &problem), -EINVAL);
        memcpy(copy, xml, sizeof(xml));
        copy[length] = '\0';
        assert_int_equal(libvirt_domain_read(copy, sizeof(xml) - 1, &domain, &problem), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(asks),
        cmocka_unit_test(nonsense),
        cmocka_unit_test(every_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
