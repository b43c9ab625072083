/* SPDX-License-Identifier: MIT */
/*
 * A small virtual machine monitor with populate-on-demand memory, by libballast and the
 * raw KVM API: one CPU, a serial console that only prints, no disk, no network. It
 * boots a Linux bzImage that believes in MAX, in TARGET of the host's memory, until the
 * guest halts, resets or dies.
 *
 *   cc vmm.c -o vmm $(pkg-config --cflags --libs libballast)
 *
 * What libballast has to do with it is in three places: make_domain(), on_event() and
 * what follows in run(). All else would be the same without. For x86-64.
 */
#include <ballast/ballast.h>

#include <asm/bootparam.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define MIB UINT64_C(1048576)
#define GIB (1024 * MIB)

/* The guest's physical memory: RAM from 0 to at most LOW_END, and the rest from
 * HIGH_BEGIN on. In between are its interrupt controllers, and what KVM needs. */
#define LOW_END    (3 * GIB)
#define HIGH_BEGIN (4 * GIB)
#define KVM_PAGES  UINT64_C(0xfffbc000)
/* Where the boot protocol's parts are put (Documentation/arch/x86/boot.rst). */
#define BOOT_PARAMS  0x10000
#define COMMAND_LINE 0x20000
#define KERNEL       0x100000

/* How a run ends. */
enum { GOOD = 0, FAILED = 1, EXHAUSTED = 3, DIED = 4 };

static struct options {
    const char *kernel, *initrd, *command_line;
    uint64_t max_bytes, target_bytes, grow_bytes; /* 0: it does not grow */
} options;

static struct ballast_domain *domain;
static char *ram;
static int kvm_fd, vm_fd, cpu_fd;
static struct kvm_run *cpu;

/* An ioctl that must not fail. */
static int must(int fd, unsigned long request, void *argument, const char *what)
{
    int result = ioctl(fd, request, argument);
    if (result < 0) {
        err(FAILED, "%s failed, is this KVM complete", what);
    }
    return result;
}

/* ---- memory ---- */

/* Set by on_event, seen by the CPU's thread. */
static atomic_bool exhausted, broken;
static pthread_t cpu_thread;

/*
 * On a thread of libballast's, with its lock held: it may not wait, nor call libballast.
 * The CPU waits in KVM_RUN for the page that cannot be had: the signal brings it out.
 */
static void on_event(void *opaque, enum ballast_event event)
{
    (void)opaque;
    if (event == BALLAST_EVENT_EXHAUSTED || event == BALLAST_EVENT_BROKEN) {
        if (cpu == NULL) { /* no vCPU, but main(): nothing would bring it out */
            warnx("what is loaded does not fit into TARGET: raise it");
            _exit(FAILED);
        }
        atomic_store(event == BALLAST_EVENT_BROKEN ? &broken : &exhausted, true);
        pthread_kill(cpu_thread, SIGUSR1);
    }
}

/* Guest RAM as libballast wants it: private, anonymous, aligned to 2 MiB, untouched. */
static char *map_ram(uint64_t bytes)
{
    const uintptr_t align = BALLAST_SUPERPAGE_BYTES;
    char *wide = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (wide == MAP_FAILED) {
        err(FAILED, "there is no address space, ask for less");
    }
    return (char *)(((uintptr_t)wide + align - 1) / align * align);
}

static void make_domain(void)
{
    struct ballast_config config = {
        .ram = map_ram(options.max_bytes),
        .ram_bytes = options.max_bytes,
        .target_bytes = options.target_bytes,
        .notify = on_event,
    };
    cpu_thread = pthread_self();
    int error = ballast_create(&config, sizeof(config), &domain);
    if (error != 0) {
        errx(FAILED, "the domain cannot be made: %s; libballast(3) says what that means",
             strerror(-error));
    }
    ram = config.ram;
}

/* One block of guest RAM for libballast, at two places of the guest's address space. */
static void add_slot(uint32_t slot, uint64_t guest_address, uint64_t offset, uint64_t bytes)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = guest_address,
        .memory_size = bytes,
        .userspace_addr = (uintptr_t)ram + offset,
    };
    if (bytes != 0) {
        must(vm_fd, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
    }
}

static uint64_t low_bytes(void)
{
    return options.max_bytes < LOW_END ? options.max_bytes : LOW_END;
}

/* ---- the serial port, a 16550 that only sends ---- */

#define SERIAL_PORT 0x3f8
#define SERIAL_IRQ  4
enum { IER_SENT = 2, IIR_NONE = 1, IIR_SENT = 2, IIR_FIFO = 0xc0, LCR_DIVISOR = 0x80 };
enum { LSR_SENT = 0x60, MSR_CONNECTED = 0xb0 };

static struct serial {
    uint8_t ier, lcr, fifo;
    bool sent; /* and the guest has not been told */
} serial;

static bool serial_tells(void)
{
    return serial.sent && (serial.ier & IER_SENT) != 0;
}

static void serial_set_irq(void)
{
    struct kvm_irq_level level = {.irq = SERIAL_IRQ, .level = serial_tells()};
    must(vm_fd, KVM_IRQ_LINE, &level, "KVM_IRQ_LINE");
}

static void serial_write(unsigned offset, uint8_t value)
{
    if (offset == 3) {
        serial.lcr = value;
    } else if ((serial.lcr & LCR_DIVISOR) != 0) {
        return; /* the speed, which is of no interest */
    } else if (offset == 0) {
        putchar(value);
        serial.sent = true;
    } else if (offset == 1) {
        serial.sent = serial.sent || (value & IER_SENT) != 0;
        serial.ier = value & 0xf;
    } else if (offset == 2) {
        serial.fifo = (value & 1) != 0 ? IIR_FIFO : 0;
    }
    serial_set_irq();
}

static uint8_t serial_read(unsigned offset)
{
    switch (offset) {
    case 1:
        return serial.ier;
    case 2: {
        bool tells = serial_tells();
        serial.sent = serial.sent && !tells;
        serial_set_irq();
        return (uint8_t)(serial.fifo | (tells ? IIR_SENT : IIR_NONE));
    }
    case 3:
        return serial.lcr;
    case 5:
        return LSR_SENT;
    case 6:
        return MSR_CONNECTED;
    default:
        return 0;
    }
}

/* ---- loading Linux ---- */

static int open_file(const char *path, uint64_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (end < 0) {
        err(FAILED, "%s cannot be read, give another file", path);
    }
    *bytes = (uint64_t)end;
    return fd;
}

/* Reads into guest RAM: the kernel takes the faults, and libballast serves them. */
static void read_whole(int fd, void *to, uint64_t bytes, uint64_t offset, const char *path)
{
    while (bytes != 0) {
        ssize_t got = pread(fd, to, bytes, (off_t)offset);
        if (got <= 0) {
            err(FAILED, "%s cannot be read whole, give another file", path);
        }
        to = (char *)to + got;
        bytes -= (uint64_t)got;
        offset += (uint64_t)got;
    }
}

static void add_e820(struct boot_params *boot, uint64_t begin, uint64_t end)
{
    if (end > begin) {
        boot->e820_table[boot->e820_entries++] =
            (struct boot_e820_entry){.addr = begin, .size = end - begin, .type = 1};
    }
}

static void load_initrd(struct boot_params *boot)
{
    uint64_t bytes, limit = low_bytes();
    int fd = open_file(options.initrd, &bytes);
    if (limit > boot->hdr.initrd_addr_max) {
        limit = (uint64_t)boot->hdr.initrd_addr_max + 1;
    }
    if (bytes >= limit / 2) {
        errx(FAILED, "%s does not fit into guest RAM: raise MAX", options.initrd);
    }
    uint64_t at = (limit - bytes) / 4096 * 4096;
    read_whole(fd, ram + at, bytes, 0, options.initrd);
    boot->hdr.ramdisk_image = (uint32_t)at;
    boot->hdr.ramdisk_size = (uint32_t)bytes;
    close(fd);
}

static void load_kernel(void)
{
    struct boot_params *boot = (struct boot_params *)(ram + BOOT_PARAMS);
    uint64_t bytes;
    int fd = open_file(options.kernel, &bytes);
    read_whole(fd, &boot->hdr, sizeof(boot->hdr), offsetof(struct boot_params, hdr),
               options.kernel);
    if (boot->hdr.header != 0x53726448 || boot->hdr.version < 0x20c) {
        errx(FAILED, "%s is no bzImage of boot protocol 2.12 or newer", options.kernel);
    }
    uint64_t setup = ((boot->hdr.setup_sects != 0 ? boot->hdr.setup_sects : 4) + 1) * 512;
    if (bytes <= setup || KERNEL + bytes + boot->hdr.init_size + 32 * MIB > low_bytes()) {
        errx(FAILED, "%s does not fit into guest RAM: raise MAX", options.kernel);
    }
    if (strlen(options.command_line) > boot->hdr.cmdline_size) {
        errx(FAILED, "the command line is too long for %s", options.kernel);
    }
    read_whole(fd, ram + KERNEL, bytes - setup, setup, options.kernel);
    close(fd);
    boot->hdr.type_of_loader = 0xff;
    boot->hdr.cmd_line_ptr = COMMAND_LINE;
    memcpy(ram + COMMAND_LINE, options.command_line, strlen(options.command_line) + 1);
    add_e820(boot, 0, 0x9f000);
    add_e820(boot, KERNEL, low_bytes());
    add_e820(boot, HIGH_BEGIN, HIGH_BEGIN + options.max_bytes - low_bytes());
    if (options.initrd != NULL) {
        load_initrd(boot);
    }
}

/* ---- the machine ---- */

static void make_machine(void)
{
    uint64_t identity = KVM_PAGES;
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    if ((kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) {
        err(FAILED, "/dev/kvm cannot be opened, and this needs KVM");
    }
    vm_fd = must(kvm_fd, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
    must(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity, "KVM_SET_IDENTITY_MAP_ADDR");
    must(vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)(KVM_PAGES + 4096), "KVM_SET_TSS_ADDR");
    must(vm_fd, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
    must(vm_fd, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
    add_slot(0, 0, 0, low_bytes());
    add_slot(1, HIGH_BEGIN, low_bytes(), options.max_bytes - low_bytes());
}

static void set_cpuid(void)
{
    static uint64_t space[1500]; /* for more entries than there are */
    struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)space;
    cpuid->nent = (sizeof(space) - sizeof(*cpuid)) / sizeof(cpuid->entries[0]);
    must(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == 1) {
            cpuid->entries[i].ebx &= 0xffffff;          /* APIC 0, not that of the CPU we are on */
            cpuid->entries[i].ecx |= UINT32_C(1) << 31; /* a virtual machine: use KVM's clock */
        } else if (cpuid->entries[i].function == 0xb || cpuid->entries[i].function == 0x1f) {
            cpuid->entries[i].edx = 0;
        }
    }
    must(cpu_fd, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
}

/* The state in which the kernel's 32-bit entry wants the CPU: flat, protected, no paging. */
static void set_registers(void)
{
    struct kvm_sregs special;
    struct kvm_regs regs = {.rip = KERNEL, .rsi = BOOT_PARAMS, .rflags = 2};
    const struct kvm_segment flat = {
        .limit = UINT32_MAX, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    must(cpu_fd, KVM_GET_SREGS, &special, "KVM_GET_SREGS");
    special.ds = special.es = special.fs = special.gs = special.ss = special.cs = flat;
    special.cs.selector = 0x10;
    special.cs.type = 0xb;
    special.cr0 |= 1;
    must(cpu_fd, KVM_SET_SREGS, &special, "KVM_SET_SREGS");
    must(cpu_fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

static void make_cpu(void)
{
    cpu_fd = must(vm_fd, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
    int bytes = must(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
    cpu = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cpu_fd, 0);
    if (cpu == MAP_FAILED) {
        err(FAILED, "the CPU's state cannot be mapped, is this KVM complete");
    }
    set_cpuid();
    set_registers();
}

/* ---- running ---- */

/* One access to a port. False: the guest asks for a reset. */
static bool do_port(void)
{
    uint8_t *data = (uint8_t *)cpu + cpu->io.data_offset;
    bool out = cpu->io.direction == KVM_EXIT_IO_OUT;
    for (uint32_t i = 0; i < cpu->io.count; i++, data += cpu->io.size) {
        unsigned offset = cpu->io.port - SERIAL_PORT;
        if (offset < 8 && out) {
            serial_write(offset, *data);
        } else if (offset < 8) {
            *data = serial_read(offset);
        } else if (out && cpu->io.port == 0x64 && *data == 0xfe) {
            return false; /* the keyboard controller pulls the CPU's reset line */
        } else if (!out) {
            /* The keyboard has nothing to say, the clock stands, nobody else is there. */
            bool silent = cpu->io.port == 0x64 || cpu->io.port == 0x71;
            memset(data, silent ? 0 : 0xff, cpu->io.size);
        }
    }
    return true;
}

/* A CPU that halts with its interrupts off does not come back. */
static bool is_halted(void)
{
    struct kvm_mp_state state;
    must(cpu_fd, KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE");
    return state.mp_state == KVM_MP_STATE_HALTED && cpu->if_flag == 0;
}

/* The guest needs more than its target, and waits. Has it got more now? */
static bool grow(void)
{
    int error = options.grow_bytes != 0 ? ballast_set_target(domain, options.grow_bytes) : -ENOSPC;
    warnx("the guest needs more than its target: %s",
          error != 0 ? strerror(-error) : "it has GROW now");
    options.grow_bytes = 0;
    return error == 0;
}

/* A signal came: from on_event, or from the timer, should that one have come too early to
 * interrupt KVM_RUN. Returns how the run ends, or -1: go on. */
static int on_signal(void)
{
    if (broken) {
        warnx("libballast found its state wrong: the guest must end");
        return DIED;
    }
    if (atomic_exchange(&exhausted, false) && !grow()) {
        return EXHAUSTED;
    }
    return is_halted() ? GOOD : -1;
}

static int run(void)
{
    for (;;) {
        int error = ioctl(cpu_fd, KVM_RUN, NULL) == 0 ? 0 : errno;
        int status = error == EINTR ? on_signal() : -1;
        if (status >= 0) {
            return status;
        } else if (error == EINTR || error == EAGAIN) {
            continue;
        } else if (error == 0 && cpu->exit_reason == KVM_EXIT_MMIO) {
            memset(cpu->mmio.data, 0xff, sizeof(cpu->mmio.data)); /* nobody is there */
        } else if (error != 0 || cpu->exit_reason != KVM_EXIT_IO) {
            warnx("the guest died: %s, KVM's exit reason %u", strerror(error), cpu->exit_reason);
            return DIED;
        } else if (!do_port()) {
            return GOOD;
        }
    }
}

static void tell_result(void)
{
    struct ballast_stats s;
    if (ballast_get_stats(domain, &s, sizeof(s)) == 0) {
        printf("\nvmm: max %" PRIu64 " MiB, target %" PRIu64 " MiB, total %" PRIu64 " MiB, %" PRIu64
               " in use; %" PRIu64 " faults; zeros taken back: %" PRIu64 " of 2 MiB, %" PRIu64
               " of 4 KiB\n",
               s.max_bytes / MIB, s.target_bytes / MIB, s.total_bytes / MIB,
               s.populated_bytes / MIB, s.faults, s.reclaimed_2m, s.reclaimed_4k);
    }
}

/* ---- the command line ---- */

/* Linux would look for a keyboard for seconds. */
#define DEFAULT_COMMAND_LINE "console=ttyS0 initcall_blacklist=i8042_init"

static const char usage[] =
    "Usage: vmm BZIMAGE MAX TARGET [INITRD [COMMAND-LINE [GROW]]]\n\n"
    "Boots Linux in a machine that has MAX, with TARGET of the host's memory, and with\n"
    "GROW once it needs more; each is a number and M or G, such as 512M. The serial\n"
    "console goes to standard output. COMMAND-LINE is by default\n"
    "  " DEFAULT_COMMAND_LINE "\n\n"
    "Exit status: 0 the guest halted or reset, 1 it could not be started, 3 it needed\n"
    "more than it could get, 4 it died.\n";

static uint64_t parse_size(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);
    uint64_t unit = *end == 'G' ? GIB : *end == 'M' ? MIB : 0;
    if (number == 0 || number > 1 << 20 || unit == 0 || end[1] != '\0') {
        errx(FAILED, "'%s' is no size: it takes a number and M or G, such as 512M", text);
    }
    return number * unit;
}

static void parse_options(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        exit(GOOD);
    }
    if (argc < 4 || argc > 7) {
        errx(FAILED, "it takes 3 to 6 arguments, and here are %d; see --help", argc - 1);
    }
    options.kernel = argv[1];
    options.max_bytes = parse_size(argv[2]);
    options.target_bytes = parse_size(argv[3]);
    options.initrd = argc > 4 ? argv[4] : NULL;
    options.command_line = argc > 5 ? argv[5] : DEFAULT_COMMAND_LINE;
    options.grow_bytes = argc > 6 ? parse_size(argv[6]) : 0;
}

/* For signals that have only to interrupt KVM_RUN. */
static void do_nothing(int unused)
{
    (void)unused;
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_RESTART};
    const struct itimerval second = {{.tv_sec = 1}, {.tv_sec = 1}};
    parse_options(argc, argv);
    setlinebuf(stdout);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    make_domain();
    make_machine();
    load_kernel();
    make_cpu();
    setitimer(ITIMER_REAL, &second, NULL);
    int status = run();
    tell_result();
    ballast_destroy(domain); /* whoever waits for a page goes on, and can end */
    return status;
}
