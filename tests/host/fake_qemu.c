/* SPDX-License-Identifier: MIT */
/*
 * What the agent sees of QEMU, without QEMU: a program that exports the
 * functions that the agent asks for, maps memory the way QEMU does,
 * and then does what its arguments say, one after the other:
 *
 *   block NAME TYPE MIB HOW    make a block of memory. TYPE is its owner's QOM
 *                              type, or "-" for none. HOW: private, shared, or
 *                              unaligned
 *   touch FIRST COUNT          write to pages of the first block
 *   check FIRST COUNT          they must hold what touch wrote
 *   clear FIRST COUNT          write zeros to them
 *   zeros FIRST COUNT          they must hold zeros
 *   madvise FIRST COUNT ADVICE as a number; must return 0
 *   give, take FIRST COUNT     as a balloon does it, page by page
 *   elsewhere                  madvise, mmap, mremap and munmap of other memory
 *                              must do what they always do
 *   fixed, mremap              mapping over guest RAM, or moving it, must fail
 *   munmap                     unmap the first block
 *   mlockall                   must not bring guest RAM in
 *   machine                    the machine is made: tell who asked to be told
 *   reset                      the same for a reset of the guest
 *   wakeup                     the same for its waking from suspend to RAM
 *   postcopy                   a postcopy migration to here must be refused
 *   memdev                     a device with memory of its own must be refused
 *   device                     any other must not be
 *   dimm, undimm NUMBER        a DIMM of that block is plugged, or unplugged
 *   use NUMBER COUNT           write to so many pages of that block
 *   free NUMBER                unmap that block
 *   policy NUMBER MODE NODES   mbind(2) that block
 *   vhostscsi                  but for one that writes to unpinned pages
 *   direct MAGIC WORKS         files are on a file system with that magic number:
 *                              they can be read with O_DIRECT, or not
 *   zerocopy                   sockets must not send without copying
 *   version MAJOR              QEMU's, before the first block; it is 7 else
 *   balloon MIB                that much must be what was last asked of it
 *   driver                     for ever: a guest's balloon driver, which does what
 *                              is asked of it
 *   round POSTCOPY COUNT       a round of a migration begins, after which postcopy
 *                              may follow or not: so many pages must be skipped
 *   came MIB                   a state came in, in which that was asked of it
 *   run, stop                  the guest runs, or does not
 *   pinned                     refuse to keep RAM discardable, as with VFIO
 *   ready                      print "ready", wait for a line
 *   drop                       print "drop", wait for a line with an address and
 *                              a number of bytes, and give that memory to the
 *                              kernel behind the agent's back
 *   slow                       from here on the host takes its time: print "slow"
 *                              and wait for a line before the next look at how
 *                              much memory there is, as the agent takes before it
 *                              brings any in
 *   sluggish MS                each such look takes so long
 *   hoard                      open files until there is no descriptor left
 *   nohuge                     the kernel gives this process no huge pages
 *   churn THREADS SEED MIB     start threads that use the first block in every
 *                              way there is, with at most so much in it that is
 *                              not zero (or, if that is all of it, fill it), and
 *                              that know what each page must hold
 *   torture SEED MIB FOLDER    see torture.h: with at most so much in the first block
 *                              that is not zero, and a file in that folder
 *   inspect                    run the program after it in a child
 *   forkexit                   a child that calls exit
 *   daemonize, background      go into the background as -daemonize does, in two
 *                              steps: fork at once, let the parent go later
 *   raw                        set the terminal raw and non-blocking
 *   exit STATUS, hang
 *
 * What must be and is not ends it with status 99.
 */
#include "torture.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define EXPORT    __attribute__((visibility("default")))
#define PAGE      ((size_t)4096)
#define ALIGNMENT ((size_t)2 << 20)
#define BLOCKS    4

struct object {
    const char *type;
};

struct region {
    const char *name;
    char *host;
    size_t bytes;
    struct object owner;
};

static struct region blocks[BLOCKS];
static size_t block_count;
static bool pinned;
static int background = -1; /* tells the parent that -daemonize left behind */

EXPORT void *memory_region_from_host(void *host, uint64_t *offset);
EXPORT const char *memory_region_name(const void *region);
EXPORT void *memory_region_owner(void *region);
EXPORT bool memory_region_is_mapped(void *region);
EXPORT void *host_memory_backend_get_memory(void *backend);
EXPORT void *memory_region_get_ram_ptr(void *region);
EXPORT void *object_get_objects_root(void);
EXPORT void *object_resolve_path_component(void *parent, const char *part);
EXPORT void *object_property_get_link(void *object, const char *name, void **error);
EXPORT const char *object_get_typename(const void *object);
EXPORT int ram_block_discard_require(bool state);

/* QEMU's Notifier: a function and a node of a list. */
struct notifier {
    void (*notify)(struct notifier *self, void *data);
    void *node[2];
};

EXPORT void qemu_add_machine_init_done_notifier(struct notifier *notifier);
EXPORT void qemu_register_reset(void (*function)(void *opaque), void *opaque);
EXPORT void *qemu_get_aio_context(void);
EXPORT void aio_bh_schedule_oneshot_full(void *context, void (*function)(void *opaque),
                                         void *opaque, const char *name);
EXPORT void qmp_balloon(int64_t bytes, void **error);
EXPORT void error_free(void *error);
__attribute__((format(printf, 5, 6))) EXPORT void error_setg_internal(void **error,
                                                                      const char *file, int line,
                                                                      const char *function,
                                                                      const char *format, ...);

struct version_triple {
    int64_t major, minor, micro;
};

struct version {
    struct version_triple *qemu;
    char *package;
};

EXPORT struct version *qmp_query_version(void **error);
EXPORT void qapi_free_VersionInfo(struct version *version);

/* QEMU's NotifierWithReturn. */
struct asking_notifier {
    int (*notify)(struct asking_notifier *self, void *data, void **error);
    void *node[2];
};

struct device_listener {
    void (*realize)(struct device_listener *self, void *device);
    void (*unrealize)(struct device_listener *self, void *device);
    bool (*hide_device)(struct device_listener *self, const void *options, bool from_json,
                        void **error);
    void *node[2];
};

EXPORT void postcopy_add_notifier(struct asking_notifier *notifier);
EXPORT void device_listener_register(struct device_listener *listener);
EXPORT const char *qdict_get_try_str(const void *dict, const char *key);
EXPORT void qemu_register_wakeup_notifier(struct notifier *notifier);
EXPORT void precopy_add_notifier(struct asking_notifier *notifier);
EXPORT bool migrate_postcopy_ram(void);
EXPORT void qemu_guest_free_page_hint(void *at, size_t bytes);
EXPORT void *qemu_add_vm_change_state_handler(void (*function)(void *opaque, bool running,
                                                               int state),
                                              void *opaque);

void *memory_region_from_host(void *host, uint64_t *offset)
{
    for (size_t i = 0; i < block_count; i++) {
        if ((char *)host >= blocks[i].host && (char *)host < blocks[i].host + blocks[i].bytes) {
            *offset = (uint64_t)((char *)host - blocks[i].host);
            return &blocks[i];
        }
    }
    return NULL;
}

const char *memory_region_name(const void *region)
{
    return ((const struct region *)region)->name;
}

void *memory_region_owner(void *region)
{
    struct region *block = region;
    return block->owner.type != NULL ? &block->owner : NULL;
}

bool memory_region_is_mapped(void *region)
{
    return region != NULL;
}

/* A back end is known by its region's name. */
void *host_memory_backend_get_memory(void *backend)
{
    return (char *)backend - offsetof(struct region, owner);
}

void *memory_region_get_ram_ptr(void *region)
{
    return ((struct region *)region)->host;
}

void *object_get_objects_root(void)
{
    return NULL;
}

void *object_resolve_path_component(void *parent, const char *part)
{
    (void)parent;
    for (size_t i = 0; i < block_count; i++) {
        if (strcmp(blocks[i].name, part) == 0) {
            return &blocks[i].owner;
        }
    }
    return NULL;
}

static struct region *dimm; /* that is plugged, or unplugged */

void *object_property_get_link(void *object, const char *name, void **error)
{
    (void)object;
    (void)name;
    (void)error;
    return &dimm->owner;
}

const char *object_get_typename(const void *object)
{
    return ((const struct object *)object)->type;
}

int ram_block_discard_require(bool state)
{
    return state && pinned ? -EBUSY : 0;
}

static struct notifier *machine_done;
static void (*reset_function)(void *opaque);
static void *reset_opaque;
static _Atomic int64_t balloon_bytes;

void qemu_add_machine_init_done_notifier(struct notifier *notifier)
{
    machine_done = notifier;
}

void qemu_register_reset(void (*function)(void *opaque), void *opaque)
{
    reset_function = function;
    reset_opaque = opaque;
}

void *qemu_get_aio_context(void)
{
    return NULL;
}

/* QEMU's main thread would do it later; there is no other work that it could disturb. */
void aio_bh_schedule_oneshot_full(void *context, void (*function)(void *opaque), void *opaque,
                                  const char *name)
{
    (void)context;
    (void)name;
    function(opaque);
}

void qmp_balloon(int64_t bytes, void **error)
{
    (void)error;
    balloon_bytes = bytes;
}

void error_free(void *error)
{
    (void)error;
}

static int64_t major = 7;
static struct asking_notifier *postcopy_notifier;
static struct device_listener *device_listener;
static const char *memdev, *driver; /* of the device that is being added */
static struct notifier *wakeup_notifier;

void error_setg_internal(void **error, const char *file, int line, const char *function,
                         const char *format, ...)
{
    va_list arguments;
    (void)file;
    (void)line;
    (void)function;
    *error = malloc(512);
    va_start(arguments, format);
    vsnprintf(*error, 512, format, arguments);
    va_end(arguments);
}

struct version *qmp_query_version(void **error)
{
    (void)error;
    struct version *version = calloc(1, sizeof(*version));
    version->qemu = calloc(1, sizeof(*version->qemu));
    version->qemu->major = major;
    return version;
}

void qapi_free_VersionInfo(struct version *version)
{
    free(version->qemu);
    free(version);
}

void postcopy_add_notifier(struct asking_notifier *notifier)
{
    postcopy_notifier = notifier;
}

void device_listener_register(struct device_listener *listener)
{
    device_listener = listener;
}

const char *qdict_get_try_str(const void *dict, const char *key)
{
    (void)dict;
    return strcmp(key, "memdev") == 0 ? memdev : strcmp(key, "driver") == 0 ? driver : NULL;
}

void qemu_register_wakeup_notifier(struct notifier *notifier)
{
    wakeup_notifier = notifier;
}

static void (*run_state_function)(void *opaque, bool running, int state);
static void *run_state_opaque;

void *qemu_add_vm_change_state_handler(void (*function)(void *opaque, bool running, int state),
                                       void *opaque)
{
    run_state_function = function;
    run_state_opaque = opaque;
    return &run_state_function;
}

__attribute__((noreturn)) static void wrong(const char *what)
{
    fprintf(stderr, "fake_qemu: %s: %s\n", what, strerror(errno));
    exit(99);
}

static void must(bool condition, const char *what)
{
    if (!condition) {
        wrong(what);
    }
}

/* A round of a migration, with postcopy to follow or not, and what need not be
 * sent in it. */
static struct asking_notifier *precopy_notifier;
static bool postcopy_may_follow;
static size_t skipped_pages;

void precopy_add_notifier(struct asking_notifier *notifier)
{
    precopy_notifier = notifier;
}

bool migrate_postcopy_ram(void)
{
    return postcopy_may_follow;
}

void qemu_guest_free_page_hint(void *at, size_t bytes)
{
    must((char *)at >= blocks[0].host && (char *)at + bytes <= blocks[0].host + blocks[0].bytes &&
             bytes != 0 && bytes % PAGE == 0,
         "what is skipped is guest RAM");
    skipped_pages += bytes / PAGE;
}

static void migrate_round(bool postcopy)
{
    postcopy_may_follow = postcopy;
    skipped_pages = 0;
    for (int reason = 0; reason < 5; reason++) {
        size_t before = skipped_pages;
        struct {
            int reason;
            void **error;
        } data = {.reason = reason};
        precopy_notifier->notify(precopy_notifier, &data, NULL);
        /* Only when QEMU has just found out what there is to send. */
        must(skipped_pages == before || reason == 2, "when pages are skipped");
    }
}

/* As util/mmap-alloc.c and system/physmem.c do it. */
static void make_block(const char *name, const char *type, size_t mib, const char *how)
{
    size_t bytes = mib << 20;
    char *wide = mmap64(NULL, bytes + 2 * ALIGNMENT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(wide != MAP_FAILED && block_count < BLOCKS, "reserving a block");
    char *at = wide + (ALIGNMENT - (uintptr_t)wide % ALIGNMENT) % ALIGNMENT;
    if (strcmp(how, "unaligned") == 0) {
        at += PAGE;
    }
    int flags = MAP_ANONYMOUS | (strcmp(how, "shared") == 0 ? MAP_SHARED : MAP_PRIVATE);
    must(mmap64(at, bytes, PROT_READ | PROT_WRITE, MAP_FIXED | flags, -1, 0) == at,
         "mapping a block");
    munmap(wide, (size_t)(at - wide));
    munmap(at + bytes + PAGE, (size_t)(wide + bytes + 2 * ALIGNMENT - at - bytes) - PAGE);
    madvise(at, bytes, MADV_MERGEABLE);
    blocks[block_count++] = (struct region){
        .name = name,
        .host = at,
        .bytes = bytes,
        .owner = {strcmp(type, "-") == 0 ? NULL : type},
    };
    madvise(at, bytes, MADV_HUGEPAGE);
    madvise(at, bytes, MADV_DONTFORK);
}

static uint64_t *page_at(size_t page)
{
    return (uint64_t *)(blocks[0].host + page * PAGE);
}

/* Writes, or with `check` looks for, a value in each word of some pages. */
static void pages(size_t first, size_t count, bool zero, bool check)
{
    for (size_t page = first; page < first + count; page++) {
        for (size_t i = 0; i < PAGE / sizeof(uint64_t); i++) {
            uint64_t value = zero ? 0 : page << 16 | i | 1;
            if (!check) {
                page_at(page)[i] = value;
            } else if (page_at(page)[i] != value) {
                fprintf(stderr, "fake_qemu: page %zu, word %zu: 0x%llx\n", page, i,
                        (unsigned long long)page_at(page)[i]);
                exit(99);
            }
        }
    }
}

static void use_other_memory(void)
{
    size_t bytes = 4 * PAGE;
    char *at = mmap64(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(at != MAP_FAILED, "mmap64");
    memset(at, 1, bytes);
    must(madvise(at, PAGE, MADV_DONTNEED) == 0 && at[0] == 0 && at[PAGE] == 1, "MADV_DONTNEED");
    must(madvise(at, PAGE, 12345) == -1 && errno == EINVAL, "madvise's errno");
    at = mremap(at, bytes, 2 * bytes, MREMAP_MAYMOVE);
    must(at != MAP_FAILED && at[0] == 0 && at[PAGE] == 1, "mremap");
    at[2 * bytes - 1] = 1;
    char *fixed =
        mmap64(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    must(fixed == at && at[0] == 0, "MAP_FIXED");
    char *moved = mremap(at + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at);
    must(moved == at && at[0] == 1, "MREMAP_FIXED");
    must(munmap(at, PAGE) == 0 && munmap(at + 2 * PAGE, 2 * bytes - 2 * PAGE) == 0, "munmap");
    must(munmap(at + 1, PAGE) == -1 && errno == EINVAL, "munmap's errno");
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    at = mmap64(NULL, PAGE, PROT_READ, MAP_PRIVATE, self, 0);
    must(at != MAP_FAILED && memcmp(at, "\177ELF", 4) == 0, "mapping a file");
    munmap(at, PAGE);
    close(self);
}

static void in_child(char **program)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (program == NULL) {
            exit(0); /* with destructors and all */
        }
        execv(program[0], program);
        _exit(127);
    }
    int status = 0;
    must(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child");
}

/* As os-posix.c does it: the parent lives until the child says so. */
static void daemonize(void)
{
    int ends[2];
    must(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child > 0) {
        char byte = 1;
        close(ends[1]);
        exit(read(ends[0], &byte, 1) == 1 ? byte : 1);
    }
    must(child == 0 && setsid() > 0, "fork");
    close(ends[0]);
    background = ends[1];
}

static void in_background(void)
{
    must(write(background, "", 1) == 1, "telling the parent");
    close(background);
    background = -1;
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++) {
        dup2(null, fd);
    }
    close(null);
}

static void set_raw(void)
{
    struct termios terminal;
    must(tcgetattr(0, &terminal) == 0, "tcgetattr");
    terminal.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
    terminal.c_oflag &= ~(tcflag_t)OPOST;
    must(tcsetattr(0, TCSANOW, &terminal) == 0, "tcsetattr");
    must(fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK) == 0, "O_NONBLOCK");
}

static void must_not_map_over(void)
{
    errno = 0;
    must(mmap64(blocks[0].host + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                0) == MAP_FAILED &&
             errno == ENOTSUP,
         "MAP_FIXED over guest RAM");
}

static void must_not_mremap(void)
{
    errno = 0;
    must(mremap(blocks[0].host, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOTSUP,
         "mremap of guest RAM");
    char *other = mmap64(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = 0;
    must(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, blocks[0].host) == MAP_FAILED &&
             errno == ENOTSUP,
         "mremap onto guest RAM");
}

/* The error is where QEMU of the version expects it, and speaks of the matter. */
static void must_refuse_postcopy(void)
{
    void *in_data = NULL, *in_argument = NULL;
    struct {
        int reason;
        void **error;
    } data = {.reason = 1, .error = major < 9 ? &in_data : NULL};
    void **argument = major < 9 ? NULL : &in_argument;
    must(postcopy_notifier->notify(postcopy_notifier, &data, argument) == 0, "postcopy advise");
    must(in_data == NULL && in_argument == NULL, "no error");
    data.reason = 0;
    must(postcopy_notifier->notify(postcopy_notifier, &data, argument) < 0, "postcopy");
    char *error = major < 9 ? in_data : in_argument;
    must(error != NULL && strstr(error, "postcopy") != NULL, "postcopy's error");
    free(error);
}

static void add_device(const char *its_driver, const char *its_memdev)
{
    void *error = NULL;
    bool refused = its_memdev != NULL || strncmp(its_driver, "vhost-scsi", 10) == 0;
    driver = its_driver;
    memdev = its_memdev;
    must(!device_listener->hide_device(device_listener, NULL, false, &error), "a hidden device");
    must((error != NULL) == refused, "whether a device is refused");
    must(error == NULL || strstr(error, "memory") != NULL, "a device's error");
    free(error);
}

static void plug_dimm(size_t number, bool plugged)
{
    static struct object device = {"pc-dimm"};
    void *error = NULL;
    must(number < block_count, "a DIMM's block");
    dimm = &blocks[number];
    driver = "pc-dimm";
    memdev = dimm->name;
    if (plugged) {
        must(!device_listener->hide_device(device_listener, NULL, false, &error), "a hidden DIMM");
        must(error == NULL, "a DIMM");
    }
    (plugged ? device_listener->realize : device_listener->unrealize)(device_listener, &device);
}

/* As libnuma's is called, which the agent stands before. */
static void set_policy(size_t number, int mode, unsigned long nodes)
{
    long (*bind)(void *, unsigned long, int, const unsigned long *, unsigned long, unsigned) =
        (long (*)(void *, unsigned long, int, const unsigned long *, unsigned long, unsigned))dlsym(
            RTLD_DEFAULT, "mbind");
    must(bind != NULL && number < block_count, "mbind");
    must(bind(blocks[number].host, blocks[number].bytes, mode, &nodes, 64, 0) == 0, "a policy");
}

/* The agent's own calls of open come here first. */
EXPORT int open(const char *path, int flags, ...);
static atomic_bool slow;
static atomic_uint sluggish_ms;

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    bool looks = strcmp(path, "/proc/meminfo") == 0;
    if (looks) {
        usleep(atomic_load(&sluggish_ms) * 1000);
    }
    if (looks && atomic_exchange(&slow, false)) {
        char line[16];
        must(write(1, "slow\n", 5) == 5 && read(0, line, sizeof(line)) > 0, "slow");
    }
    return openat(AT_FDCWD, path, flags, mode);
}

/* What the agent is told of files when it asks. */
EXPORT int fstatfs(int fd, struct statfs *about);
static long magic;

int fstatfs(int fd, struct statfs *about)
{
    (void)fd;
    *about = (struct statfs){.f_type = magic};
    return 0;
}

/* As QEMU opens a disk with cache=none, and as it changes one that is open. */
static void read_directly(long its_magic, bool works)
{
    static int (*open_it)(const char *path, int flags, ...);
    char path[] = "/var/tmp/fake_qemu-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    must(fd >= 0, "a file");
    magic = its_magic;
    *(void **)&open_it = dlsym(RTLD_NEXT, "open64");
    int direct = open_it(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    must((direct >= 0) == works && (works || errno == EINVAL), "opening with O_DIRECT");
    must((fcntl(fd, F_SETFL, O_DIRECT) == 0) == works && (works || errno == EINVAL), "F_SETFL");
    must(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "any other flag");
    close(direct);
    close(fd);
    direct = open_it(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(direct >= 0 && unlink(path) == 0, "opening without");
    close(direct);
}

static void must_not_send_uncopied(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    socklen_t length = sizeof(on);
    must(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, length) != 0 && errno == ENOPROTOOPT,
         "SO_ZEROCOPY");
    must(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, length) == 0, "SO_KEEPALIVE");
    must(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &length) == 0 && on == 1, "its effect");
    close(fd);
}

/* One of the threads that use guest RAM. Every so many superpages one is its own. */
struct user {
    size_t number, users;
    uint64_t random;
    size_t filled, most; /* pages that are not zero */
    bool *is_filled;
};

static uint64_t draw(struct user *user, uint64_t below)
{
    user->random ^= user->random << 13;
    user->random ^= user->random >> 7;
    user->random ^= user->random << 17;
    return (user->random >> 16) % below;
}

#define SUPERPAGE (ALIGNMENT / PAGE)

/* Looks at some words of a page, which hold what they should, and changes them. */
static void use_page(struct user *user, size_t page, bool fill)
{
    static const size_t words[] = {0, 255, 511};
    for (size_t i = 0; i < 3; i++) {
        uint64_t *word = &page_at(page)[words[i]], value = page << 16 | words[i] | 1;
        if (*word != (user->is_filled[page] ? value : 0)) {
            fprintf(stderr, "fake_qemu: page %zu, word %zu: 0x%llx\n", page, words[i],
                    (unsigned long long)*word);
            _exit(99);
        }
        *word = fill ? value : 0;
    }
    user->filled += (size_t)fill - (size_t)user->is_filled[page];
    user->is_filled[page] = fill;
}

/* What it held no longer counts: it holds zeros. */
static void forget(struct user *user, size_t first, size_t count)
{
    for (size_t page = first; page < first + count; page++) {
        user->filled -= user->is_filled[page];
        user->is_filled[page] = false;
    }
}

/* As a balloon does it. */
static void balloon_pages(struct user *user, size_t first, size_t count, bool give)
{
    for (size_t page = first; page < first + count; page++) {
        must(madvise(page_at(page), PAGE, give ? MADV_DONTNEED : MADV_WILLNEED) == 0, "balloon");
    }
    if (give) {
        forget(user, first, count);
    }
}

__attribute__((noreturn)) static void *use_memory(void *argument)
{
    struct user *user = argument;
    size_t own = blocks[0].bytes / ALIGNMENT / user->users;
    for (;;) {
        size_t first = (draw(user, own) * user->users + user->number) * SUPERPAGE;
        size_t at = draw(user, SUPERPAGE), count = 1 + draw(user, SUPERPAGE - at);
        if (draw(user, 4) == 0) {
            at = 0, count = SUPERPAGE;
        }
        first += at;
        /* One that may fill all does nothing else. */
        bool greedy = user->most / own >= SUPERPAGE;
        switch (greedy ? 3 : draw(user, 8)) {
        case 0:
            balloon_pages(user, first, count, true);
            break;
        case 1:
            balloon_pages(user, first, count, false);
            break;
        case 2: /* a free page report */
            if (count > 1) {
                must(madvise(page_at(first), count * PAGE, MADV_DONTNEED) == 0, "discard");
                forget(user, first, count);
            }
            break;
        case 3: /* a guest that scrubs its memory */
            for (size_t page = first; page < first + count; page++) {
                use_page(user, page, greedy);
            }
            break;
        default:
            for (size_t i = 0; i < 16; i++) {
                size_t page = first + draw(user, count);
                use_page(user, page, user->filled < user->most && draw(user, 4) != 0);
            }
            break;
        }
    }
}

static void churn(size_t users, uint64_t seed, size_t mib)
{
    pthread_t thread;
    bool *is_filled = calloc(blocks[0].bytes / PAGE, sizeof(bool));
    struct user *all = calloc(users, sizeof(struct user));
    must(is_filled != NULL && all != NULL, "churn");
    for (size_t i = 0; i < users; i++) {
        all[i] = (struct user){
            .number = i,
            .users = users,
            .random = (seed + i + 1) * UINT64_C(0x9e3779b97f4a7c15),
            .most = (mib << 20) / PAGE / users,
            .is_filled = is_filled,
        };
        must(pthread_create(&thread, NULL, use_memory, &all[i]) == 0, "a thread");
    }
}

/* A balloon driver: what the guest has is what it is asked to have. It gives up
 * the end of its memory first. */
static void drive_balloon(void)
{
    size_t all = blocks[0].bytes / PAGE, has = all;
    for (;;) {
        size_t asked = balloon_bytes != 0 ? (size_t)balloon_bytes / PAGE : all;
        asked = asked < all ? asked : all;
        for (; has > asked; has--) {
            must(madvise(page_at(has - 1), PAGE, MADV_DONTNEED) == 0, "inflating");
        }
        for (; has < asked; has++) {
            must(madvise(page_at(has), PAGE, MADV_WILLNEED) == 0, "deflating");
        }
        usleep(10000);
    }
}

static size_t number(const char *text)
{
    return strtoull(text, NULL, 0);
}

/* Not through madvise(), which the agent would see. */
static void drop(void)
{
    char line[64] = "", *end = line;
    must(write(1, "drop\n", 5) == 5 && read(0, line, sizeof(line) - 1) > 0, "drop");
    unsigned long at = strtoul(line, &end, 0), bytes = strtoul(end, NULL, 0);
    must(syscall(SYS_madvise, at, bytes, MADV_DONTNEED) == 0, "drop");
}

/* Does one command and returns how many arguments it took. */
static int run(char **argument)
{
    const char *command = argument[0];
    char line[16];
    if (strcmp(command, "block") == 0) {
        make_block(argument[1], argument[2], number(argument[3]), argument[4]);
        return 5;
    }
    if (strcmp(command, "touch") == 0 || strcmp(command, "clear") == 0) {
        pages(number(argument[1]), number(argument[2]), command[0] == 'c', false);
        return 3;
    }
    if (strcmp(command, "check") == 0 || strcmp(command, "zeros") == 0) {
        pages(number(argument[1]), number(argument[2]), command[0] == 'z', true);
        return 3;
    }
    if (strcmp(command, "give") == 0 || strcmp(command, "take") == 0) {
        int advice = command[0] == 'g' ? MADV_DONTNEED : MADV_WILLNEED;
        for (size_t i = 0; i < number(argument[2]); i++) {
            must(madvise(page_at(number(argument[1]) + i), PAGE, advice) == 0, "balloon");
        }
        return 3;
    }
    if (strcmp(command, "madvise") == 0) {
        must(madvise(page_at(number(argument[1])), number(argument[2]) * PAGE,
                     (int)number(argument[3])) == 0,
             "madvise");
        return 4;
    }
    if (strcmp(command, "dimm") == 0 || strcmp(command, "undimm") == 0) {
        plug_dimm(number(argument[1]), command[0] == 'd');
        return 2;
    }
    if (strcmp(command, "use") == 0) {
        volatile char *at = blocks[number(argument[1])].host;
        for (size_t i = 0; i < number(argument[2]); i++) {
            at[i * PAGE] = 1;
        }
        return 3;
    }
    if (strcmp(command, "free") == 0) {
        const struct region *block = &blocks[number(argument[1])];
        must(munmap(block->host, block->bytes + PAGE) == 0, "freeing a block");
        return 2;
    }
    if (strcmp(command, "policy") == 0) {
        set_policy(number(argument[1]), (int)number(argument[2]), number(argument[3]));
        return 4;
    }
    if (strcmp(command, "churn") == 0) {
        churn(number(argument[1]), number(argument[2]), number(argument[3]));
        return 4;
    }
    if (strcmp(command, "torture") == 0) {
        torture(blocks[0].host, blocks[0].bytes, (number(argument[2]) << 20) / PAGE,
                number(argument[1]), argument[3]);
        return 4;
    }
    if (strcmp(command, "direct") == 0) {
        read_directly((long)number(argument[1]), number(argument[2]) != 0);
        return 3;
    }
    if (strcmp(command, "sluggish") == 0) {
        sluggish_ms = (unsigned)number(argument[1]);
        return 2;
    }
    if (strcmp(command, "inspect") == 0) {
        in_child((char *[]){argument[1], NULL});
        return 2;
    }
    if (strcmp(command, "round") == 0) {
        migrate_round(number(argument[1]) != 0);
        must(skipped_pages == number(argument[2]), "what is skipped");
        return 3;
    }
    if (strcmp(command, "came") == 0) {
        balloon_bytes = (int64_t)(number(argument[1]) << 20);
        return 2;
    }
    if (strcmp(command, "balloon") == 0) {
        must(balloon_bytes == (int64_t)(number(argument[1]) << 20), "what the balloon is asked");
        return 2;
    }
    if (strcmp(command, "version") == 0) {
        major = (int64_t)number(argument[1]);
        return 2;
    }
    if (strcmp(command, "exit") == 0) {
        exit((int)number(argument[1]));
    }
    if (strcmp(command, "elsewhere") == 0) {
        use_other_memory();
    } else if (strcmp(command, "fixed") == 0) {
        must_not_map_over();
    } else if (strcmp(command, "mremap") == 0) {
        must_not_mremap();
    } else if (strcmp(command, "munmap") == 0) {
        must(munmap(blocks[0].host, blocks[0].bytes) == 0, "munmap");
    } else if (strcmp(command, "mlockall") == 0) {
        must(mlockall(MCL_CURRENT | MCL_FUTURE) == 0, "mlockall");
    } else if (strcmp(command, "machine") == 0) {
        machine_done->notify(machine_done, NULL);
    } else if (strcmp(command, "reset") == 0) {
        reset_function(reset_opaque);
    } else if (strcmp(command, "run") == 0 || strcmp(command, "stop") == 0) {
        run_state_function(run_state_opaque, command[0] == 'r', 0);
    } else if (strcmp(command, "wakeup") == 0) {
        wakeup_notifier->notify(wakeup_notifier, NULL);
        reset_function(reset_opaque);
    } else if (strcmp(command, "postcopy") == 0) {
        must_refuse_postcopy();
    } else if (strcmp(command, "memdev") == 0 || strcmp(command, "device") == 0) {
        add_device("any", command[0] == 'm' ? "dimm0" : NULL);
    } else if (strcmp(command, "vhostscsi") == 0) {
        add_device("vhost-scsi-pci", NULL);
    } else if (strcmp(command, "zerocopy") == 0) {
        must_not_send_uncopied();
    } else if (strcmp(command, "pinned") == 0) {
        pinned = true;
    } else if (strcmp(command, "nohuge") == 0) {
        must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0, "no huge pages");
    } else if (strcmp(command, "hoard") == 0) {
        while (dup(0) >= 0) {
        }
    } else if (strcmp(command, "slow") == 0) {
        slow = true;
    } else if (strcmp(command, "ready") == 0) {
        must(write(1, "ready\n", 6) == 6 && read(0, line, sizeof(line)) > 0, "ready");
    } else if (strcmp(command, "drop") == 0) {
        drop();
    } else if (strcmp(command, "forkexit") == 0) {
        in_child(NULL);
    } else if (strcmp(command, "daemonize") == 0) {
        daemonize();
    } else if (strcmp(command, "background") == 0) {
        in_background();
    } else if (strcmp(command, "raw") == 0) {
        set_raw();
    } else if (strcmp(command, "driver") == 0) {
        drive_balloon();
    } else if (strcmp(command, "hang") == 0) {
        for (;;) {
            pause();
        }
    } else {
        errno = ENOSYS;
        wrong(command);
    }
    return 1;
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "--version") == 0) {
        puts("QEMU emulator version 7.2.0 (it only looks like it)");
        return 0;
    }
    for (int i = 1; i < count;) {
        i += run(&arguments[i]);
    }
    return 0;
}
