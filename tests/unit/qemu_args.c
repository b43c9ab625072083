/* SPDX-License-Identifier: MIT */
/* QEMU's command line: the size, the name, and what cannot be served. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "qemu_args.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define WORDS_MAX           16
#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* The words after the program. */
struct line {
    const char *words[WORDS_MAX];
};

static int read_line(const char *program, const struct line *line, struct qemu_args *args,
                     struct qemu_args_problem *problem)
{
    char *argv[WORDS_MAX + 2] = {(char *)program};

    for (size_t i = 0; i < WORDS_MAX && line->words[i] != NULL; i++) {
        argv[i + 1] = (char *)line->words[i];
    }
    return qemu_args_read(argv, args, problem);
}

static void check_size(const struct line *line, uint64_t bytes)
{
    struct qemu_args_problem problem = {.text = ""};
    struct qemu_args args;
    int ret = read_line("qemu-system-x86_64", line, &args, &problem);

    if (ret != 0 || args.max_bytes != bytes) {
        fail_msg("%s %s %s ...: %d, %llu bytes, %s", line->words[0], line->words[1], line->words[2],
                 ret, (unsigned long long)args.max_bytes, problem.text);
    }
    qemu_args_free(&args);
}

static void sizes(void **state)
{
    static const struct {
        struct line line;
        uint64_t bytes;
    } cases[] = {
        {{{"-m", "1G"}}, GIB},
        {{{"--m", "1G"}}, GIB},
        {{{"-m", "1024"}}, GIB},
        {{{"-m", "size=1G,slots=2,maxmem=8G"}}, GIB},
        {{{"-m", "slots=2,size=1G,maxmem=8G"}}, GIB},
        {{{"-m", "512,slots=1,maxmem=1G"}}, 512 * MIB},
        {{{"-m", "1G", "-m", "slots=2,maxmem=4G"}}, GIB},
        {{{"-m", "1G", "-m", "512"}}, 512 * MIB},
        {{{"-m", "512,size=1G"}}, GIB},
        {{{"-m", "size=1G,size=2G"}}, 2 * GIB},
        {{{"-m", ""}}, 128 * MIB},
        {{{"-m", "0"}}, 128 * MIB},
        {{{"-m", "maxmem=4G,slots=1"}}, 128 * MIB},
        {{{NULL}}, 128 * MIB},
        {{{"disk.img", "-m", "2G"}}, 2 * GIB},
        /* Values that look like options. */
        {{{"-append", "-m 3"}}, 128 * MIB},
        {{{"-append", "-m", "-m", "2G"}}, 2 * GIB},
        {{{"-kernel", "-m", "3G"}}, 128 * MIB},
        {{{"-nographic", "-m", "2G"}}, 2 * GIB},
        {{{"-S", "-s", "-snapshot", "-m", "2G"}}, 2 * GIB},
        {{{"-mem-prealloc", "-m", "2G"}}, 2 * GIB},
        /* Options that we do not know. */
        {{{"-new-flag", "-m", "2G"}}, 2 * GIB},
        {{{"-new-option", "value", "-m", "2G"}}, 2 * GIB},
        /* QEMU complains of this one. */
        {{{"-m"}}, 128 * MIB},
        {{{"-m", "2G", "-append"}}, 2 * GIB},
        /* The size is elsewhere. */
        {{{"-readconfig", "vm.cfg"}}, 0},
        {{{"-readconfig", "vm.cfg", "-m", "1G"}}, GIB},
        {{{"-machine", "q35,memory.size=2G"}}, 0},
        {{{"-machine", "q35,memory-backend=r"}}, 0},
        {{{"-M", "memory-backend=r", "-m", "1G"}}, GIB},
        {{{"-machine", "q35,memory-backend=r", "-object", "memory-backend-ram,id=r,size=3G"}},
         3 * GIB},
        {{{"-object", "{\"qom-type\":\"memory-backend-ram\",\"id\":\"r\",\"size\":1073741824}",
           "-M", "pc,memory-backend=r"}},
         GIB},
        {{{"-m", "1G", "-object", "memory-backend-ram,id=r,size=1G", "-numa", "node,memdev=r"}},
         GIB},
        {{{"-m", "1G", "-object", "memory-backend-ram,id=a,size=512M", "-object",
           "memory-backend-ram,id=b,size=512M", "-numa", "node,memdev=a", "-numa",
           "node,memdev=b"}},
         GIB},
        {{{"-numa", "node,mem=512", "-numa", "node,mem=512", "-m", "1G"}}, GIB},
        /* With DIMMs there is more than -m says. */
        {{{"-m", "1G,slots=2,maxmem=4G", "-object", "memory-backend-ram,id=d,size=1G"}}, GIB},
        {{{"-m", "1G,slots=2,maxmem=4G", "-device", "pc-dimm,memdev=d"}}, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        check_size(&cases[i].line, cases[i].bytes);
    }
}

static void the_default_depends_on_the_machine(void **state)
{
    const struct line none = {{NULL}};
    const struct line one = {{"-m", "1G"}};
    struct qemu_args_problem problem;
    struct qemu_args args;

    (void)state;
    assert_int_equal(read_line("/usr/bin/qemu-system-ppc64", &none, &args, &problem), 0);
    assert_int_equal(args.max_bytes, 0);
    assert_int_equal(read_line("/usr/bin/qemu-system-ppc64", &one, &args, &problem), 0);
    assert_int_equal(args.max_bytes, GIB);
    assert_int_equal(read_line("/usr/bin/kvm", &none, &args, &problem), 0);
    assert_int_equal(args.max_bytes, 128 * MIB);
}

static void names(void **state)
{
    static const struct {
        struct line line;
        const char *name;
    } cases[] = {
        {{{"-name", "vm1"}}, "vm1"},
        {{{"-name", "vm1,debug-threads=on"}}, "vm1"},
        {{{"-name", "guest=vm1,process=x"}}, "vm1"},
        {{{"-name", "process=x,guest=vm1"}}, "vm1"},
        {{{"--name", "one", "-name", "two"}}, "two"},
        {{{"-name", "one", "-name", "debug-threads=on"}}, "one"},
        {{{"-name", "a,,b,process=x"}}, "a,b"},
        {{{"-append", "-name vm1"}}, NULL},
        {{{"-name", "process=x"}}, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct qemu_args_problem problem;
        struct qemu_args args;

        assert_int_equal(read_line("qemu", &cases[i].line, &args, &problem), 0);
        if (cases[i].name == NULL) {
            assert_null(args.guest_name);
        } else {
            assert_string_equal(args.guest_name, cases[i].name);
        }
        qemu_args_free(&args);
    }
}

static void what_cannot_be_served(void **state)
{
    static const struct {
        struct line line;
        int error;
        const char *text; /* a piece of the message */
    } cases[] = {
        {{{"-m", "lots"}}, -EINVAL, "-m lots"},
        {{{"-m", "size=1GiB"}}, -EINVAL, "1GiB"},
        {{{"-mem-path", "/dev/hugepages"}}, -ENOTSUP, "-mem-path"},
        {{{"--mem-path", "/tmp"}}, -ENOTSUP, "-mem-path"},
        {{{"-object", "memory-backend-file,id=r,size=1G,mem-path=/x"}}, -ENOTSUP, "backend-file"},
        {{{"-object", "size=1G,qom-type=memory-backend-memfd,id=r"}}, -ENOTSUP, "backend-memfd"},
        {{{"-object", "memory-backend-epc,id=r,size=1G"}}, -ENOTSUP, "backend-epc"},
        {{{"-object", "memory-backend-shm,id=r,size=1G"}}, -ENOTSUP, "backend-shm"},
        {{{"-object", "{\"qom-type\": \"memory-backend-memfd\", \"id\": \"r\", \"size\": 1}"}},
         -ENOTSUP,
         "backend-memfd"},
        {{{"-object", "{'qom-type': 'memory-backend-memfd', 'id': 'r'}"}},
         -ENOTSUP,
         "backend-memfd"},
        {{{"-object", "memory-backend-ram,id=r,size=1G,share=on", "-M", "memory-backend=r"}},
         -ENOTSUP,
         "share=on"},
        {{{"-object", "{\"qom-type\":\"memory-backend-ram\",\"id\":\"r\",\"share\":true}"}},
         -ENOTSUP,
         "share=on"},
        {{{"-device", "virtio-mem-pci,memdev=r"}}, -ENOTSUP, "virtio-mem-pci"},
        {{{"-device", "nvdimm,memdev=r"}}, -ENOTSUP, "nvdimm"},
        {{{"-device", "vfio-pci,host=01:00.0"}}, -ENOTSUP, "vfio-pci"},
        {{{"-device", "vhost-scsi-pci,wwpn=naa.5"}}, -ENOTSUP, "vhost-scsi-pci"},
        {{{"-device", "host=01:00.0,driver=vfio-pci"}}, -ENOTSUP, "vfio-pci"},
        {{{"-device", "{\"driver\":\"vfio-pci\",\"host\":\"01:00.0\"}"}}, -ENOTSUP, "vfio-pci"},
        {{{"-netdev", "vhost-vdpa,id=n,vhostdev=/dev/x"}}, -ENOTSUP, "vhost-vdpa"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct qemu_args_problem problem = {.text = ""};
        struct qemu_args args = {.max_bytes = 77};
        int ret = read_line("qemu", &cases[i].line, &args, &problem);

        if (ret != cases[i].error || strstr(problem.text, cases[i].text) == NULL) {
            fail_msg("case %zu: %d, %s", i, ret, problem.text);
        }
        assert_null(strchr(problem.text, '\n'));
        assert_int_equal(args.max_bytes, 77);
    }
}

static void what_looks_like_it_but_can(void **state)
{
    static const struct line cases[] = {
        {{"-append", "-mem-path /x -device vfio-pci"}},
        {{"-device", "virtio-blk-pci,drive=vfio-pci,id=vfio-pci"}},
        {{"-object", "rng-random,id=memory-backend-file,filename=/dev/urandom"}},
        {{"-object", "memory-backend-ram,id=r,size=1G,share=off", "-M", "memory-backend=r"}},
        {{"-object", "memory-backend-ram,id=share=on,size=1G", "-M", "memory-backend=share=on"}},
        {{"-netdev", "user,id=vhost-vdpa"}},
        {{"-object", "not json {"}},
        {{"-object", "{not json"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct qemu_args_problem problem = {.text = ""};
        struct qemu_args args;

        if (read_line("qemu", &cases[i], &args, &problem) != 0) {
            fail_msg("case %zu: %s", i, problem.text);
        }
        qemu_args_free(&args);
    }
}

#define PCI  "virtio-balloon-pci,"
#define CCW  "virtio-balloon-ccw,"
#define MMIO "virtio-balloon-device,"

static void balloons(void **state)
{
    static const struct {
        const char *program;
        struct line line;
        const char *device; /* how it begins; NULL: none is to be added */
    } cases[] = {
        {"qemu-system-x86_64", {{NULL}}, PCI},
        {"/usr/bin/qemu-system-x86_64", {{"-m", "1G", "disk.img"}}, PCI},
        {"qemu-system-i386", {{"-m", "1G"}}, PCI},
        {"qemu-system-x86_64", {{"-machine", "pc,accel=kvm"}}, PCI},
        {"qemu-system-x86_64", {{"-machine", "accel=kvm"}}, PCI},
        {"qemu-system-x86_64", {{"-M", "q35"}}, PCI},
        {"qemu-system-x86_64", {{"-machine", "accel=kvm,type=pc-q35-7.2"}}, PCI},
        {"qemu-system-x86_64", {{"--machine", "pc-i440fx-2.9"}}, PCI},
        {"qemu-system-x86_64", {{"-nodefaults", "-S"}}, PCI},
        {"qemu-system-x86_64", {{"-M", "microvm,x-option-roms=off"}}, MMIO},
        {"qemu-system-x86_64-microvm", {{"-m", "1G"}}, MMIO},
        /* The last one counts. */
        {"qemu-system-x86_64", {{"-M", "microvm", "-M", "pc"}}, PCI},
        {"qemu-system-x86_64", {{"-M", "pc", "-machine", "type=microvm"}}, MMIO},
        {"qemu-system-x86_64", {{"-M", "microvm", "-machine", "accel=tcg"}}, MMIO},
        /* Machines that take none, or that we do not know. */
        {"qemu-system-x86_64", {{"-M", "none"}}, NULL},
        {"qemu-system-x86_64", {{"-M", "isapc"}}, NULL},
        {"qemu-system-x86_64", {{"-M", "x-remote"}}, NULL},
        {"qemu-system-x86_64", {{"-M", "pcx"}}, NULL},
        {"qemu-system-x86_64", {{"-M", "virt"}}, NULL},
        {"qemu-system-aarch64", {{"-M", "virt"}}, PCI},
        {"qemu-system-aarch64", {{"-M", "virt-7.2,gic-version=3"}}, PCI},
        {"qemu-system-aarch64", {{"-M", "raspi3b"}}, NULL},
        {"qemu-system-aarch64", {{"-m", "1G"}}, NULL},
        {"qemu-system-arm", {{"-M", "virt"}}, PCI},
        {"qemu-system-arm", {{"-M", "vexpress-a9"}}, NULL},
        {"qemu-system-riscv64", {{"-M", "virt"}}, PCI},
        {"qemu-system-riscv64", {{NULL}}, NULL},
        {"qemu-system-riscv64", {{"-M", "sifive_u"}}, NULL},
        {"qemu-system-loongarch64", {{NULL}}, PCI},
        {"qemu-system-ppc64", {{NULL}}, PCI},
        {"qemu-system-ppc64", {{"-M", "pseries-7.2"}}, PCI},
        {"qemu-system-ppc64", {{"-M", "powernv9"}}, NULL},
        {"qemu-system-s390x", {{NULL}}, CCW},
        {"qemu-system-s390x", {{"-M", "s390-ccw-virtio-7.2"}}, CCW},
        /* A machine of this name that has no PCI. */
        {"qemu-system-m68k", {{"-M", "virt"}}, NULL},
        {"qemu-system-sparc64", {{NULL}}, NULL},
        /* Other programs. */
        {"kvm", {{NULL}}, PCI},
        {"/usr/libexec/qemu-kvm", {{"-M", "q35"}}, PCI},
        {"qemu-kvm", {{"-M", "s390-ccw-virtio"}}, CCW},
        {"./start-vm", {{"-M", "virt", "-m", "1G"}}, PCI},
        {"./start-vm", {{"-M", "isapc"}}, NULL},
        {"./start-vm", {{NULL}}, NULL},
        /* There is one. */
        {"qemu-system-x86_64", {{"-device", "virtio-balloon"}}, NULL},
        {"qemu-system-x86_64", {{"-device", "virtio-balloon-pci,deflate-on-oom=on"}}, NULL},
        {"qemu-system-x86_64", {{"-device", "id=b,driver=virtio-balloon-pci"}}, NULL},
        {"qemu-system-x86_64", {{"-device", "virtio-balloon-pci-non-transitional"}}, NULL},
        {"qemu-system-x86_64",
         {{"-device", "{\"driver\":\"virtio-balloon-pci\",\"id\":\"balloon0\"}"}},
         NULL},
        {"qemu-system-x86_64", {{"-device", "{'driver':'virtio-balloon-pci'}"}}, NULL},
        {"qemu-system-x86_64", {{"-M", "microvm", "-device", "virtio-balloon-device"}}, NULL},
        {"qemu-system-s390x", {{"-device", "virtio-balloon-ccw,devno=fe.0.0001"}}, NULL},
        {"qemu-system-x86_64", {{"-balloon", "virtio"}}, NULL},
        {"qemu-system-x86_64", {{"-balloon", "none"}}, NULL},
        /* There may be one. */
        {"qemu-system-x86_64", {{"-readconfig", "vm.cfg"}}, NULL},
        /* It only looks like one. */
        {"qemu-system-x86_64", {{"-append", "-device virtio-balloon-pci"}}, PCI},
        {"qemu-system-x86_64", {{"-device", "virtio-net-pci,id=virtio-balloon"}}, PCI},
        {"qemu-system-x86_64", {{"-kernel", "virtio-balloon-pci"}}, PCI},
        /* What is appended must not become an option's value. */
        {"qemu-system-x86_64", {{"-m", "1G", "-append"}}, NULL},
        {"qemu-system-x86_64", {{"-m", "1G", "-nographic"}}, PCI},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct qemu_args_problem problem = {.text = ""};
        struct qemu_args args = {.balloon = NULL};
        int ret = read_line(cases[i].program, &cases[i].line, &args, &problem);
        bool fits = cases[i].device == NULL
                        ? args.balloon == NULL
                        : args.balloon != NULL &&
                              strncmp(args.balloon, cases[i].device, strlen(cases[i].device)) == 0;

        if (ret != 0 || !fits) {
            fail_msg("case %zu, %s %s %s: %d %s, %s", i, cases[i].program,
                     cases[i].line.words[0] != NULL ? cases[i].line.words[0] : "",
                     cases[i].line.words[1] != NULL ? cases[i].line.words[1] : "", ret,
                     problem.text, args.balloon != NULL ? args.balloon : "none");
        }
        if (args.balloon != NULL) {
            assert_non_null(strstr(args.balloon, ",id=ballast-balloon,free-page-reporting=on"));
        }
        qemu_args_free(&args);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(the_default_depends_on_the_machine),
        cmocka_unit_test(names),
        cmocka_unit_test(what_cannot_be_served),
        cmocka_unit_test(what_looks_like_it_but_can),
        cmocka_unit_test(balloons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
