/* SPDX-License-Identifier: MIT */
/*
 * What libballast promises, tried on the real kernel by a program that knows nothing but
 * the installed header and library: test_library.py builds it. The kernel's own accounts
 * are asked each time what is resident.
 */
#include <ballast/ballast.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB    UINT64_C(1048576)
#define PAGE   UINT64_C(4096)
#define MAX    (128 * MIB)
#define TARGET (32 * MIB)
/* The kernel counts RssAnon by batches on each CPU, and we have a heap and stacks. */
#define RSS_SLACK (8 * MIB)

#define MUST(truth)                                                                                \
    do {                                                                                           \
        if (!(truth)) {                                                                            \
            printf("line %d: %s\n", __LINE__, #truth);                                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* ---- what the kernel says ---- */

/* The number after a key in a file of /proc/self, in KiB there. */
static uint64_t status_bytes(const char *key)
{
    char line[256];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            kib = strtoul(line + strlen(key), NULL, 10);
        }
    }
    MUST(file != NULL);
    fclose(file);
    return (uint64_t)kib * 1024;
}

/* What is resident, or swapped, in a range. (Not by smaps: the kernel may have made one
 * mapping of guest RAM and the cache.) */
static uint64_t resident_bytes(const void *at, uint64_t bytes)
{
    static uint64_t entries[512];
    uint64_t sum = 0;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    MUST(pagemap >= 0);
    for (uint64_t done = 0; done < bytes; done += sizeof(entries) / 8 * PAGE) {
        off_t offset = (off_t)(((uintptr_t)at + done) / PAGE * 8);
        MUST(pread(pagemap, entries, sizeof(entries), offset) == (ssize_t)sizeof(entries));
        for (size_t i = 0; i < 512; i++) {
            sum += entries[i] >> 62 != 0 ? PAGE : 0;
        }
    }
    close(pagemap);
    return sum;
}

static unsigned count_entries(const char *folder)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    MUST(dir != NULL);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

/* ---- a domain ---- */

struct vm {
    unsigned char *ram;
    struct ballast_domain *domain;
    atomic_uint events[8]; /* by enum ballast_event */
};

static void on_event(void *opaque, enum ballast_event event)
{
    struct vm *vm = opaque;
    atomic_fetch_add(&vm->events[event], 1);
}

/* Address space that is aligned, and the rest never used. */
static unsigned char *map_ram(uint64_t bytes, int flags)
{
    unsigned char *wide =
        mmap(NULL, bytes + BALLAST_SUPERPAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(wide != MAP_FAILED);
    uintptr_t at = ((uintptr_t)wide + BALLAST_SUPERPAGE_BYTES - 1) / BALLAST_SUPERPAGE_BYTES *
                   BALLAST_SUPERPAGE_BYTES;
    unsigned char *ram = mmap((void *)at, bytes, PROT_READ | PROT_WRITE,
                              flags | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    MUST(ram != MAP_FAILED);
    return ram;
}

static struct ballast_config config_of(struct vm *vm)
{
    struct ballast_config config = {
        .ram = vm->ram,
        .ram_bytes = MAX,
        .target_bytes = TARGET,
        .notify = on_event,
        .opaque = vm,
    };
    return config;
}

static void begin(struct vm *vm)
{
    memset(vm, 0, sizeof(*vm));
    vm->ram = map_ram(MAX, MAP_PRIVATE);
    struct ballast_config config = config_of(vm);
    int err = ballast_create(&config, sizeof(config), &vm->domain);
    if (err == -EPERM || err == -EOPNOTSUPP) {
        printf("skipped: no userfaultfd that can move pages: %s\n", strerror(-err));
        exit(77);
    }
    MUST(err == 0);
}

static void end(struct vm *vm)
{
    ballast_destroy(vm->domain);
    munmap(vm->ram, MAX);
}

/* The counts, each time held against each other and against the kernel's. */
static struct ballast_stats look(const struct vm *vm)
{
    struct ballast_stats s;
    for (int tries = 0;; tries++) {
        /* The library's own threads may move pages between two looks of ours. */
        MUST(ballast_get_stats(vm->domain, &s, sizeof(s)) == 0);
        uint64_t resident =
            resident_bytes(vm->ram, MAX) + resident_bytes(s.cache, s.cache_span_bytes);
        if (resident == s.total_bytes) {
            break;
        }
        if (tries == 100) {
            printf("resident %" PRIu64 ", total %" PRIu64 "\n", resident, s.total_bytes);
        }
        MUST(tries < 100);
        usleep(20000);
    }
    MUST(s.max_bytes == MAX);
    MUST(s.populated_bytes + s.pod_bytes + s.ballooned_bytes == s.max_bytes);
    MUST(s.populated_bytes + s.cached_bytes == s.total_bytes);
    MUST(s.shrinking ? s.total_bytes > s.target_bytes : s.total_bytes == s.target_bytes);
    return s;
}

/* A word of the guest's, one a page. */
static void write_words(struct vm *vm, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at += PAGE) {
        *(volatile uint64_t *)(vm->ram + at + 8) = at + 1;
    }
}

static bool has_words(const struct vm *vm, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at += PAGE) {
        if (*(volatile uint64_t *)(vm->ram + at + 8) != at + 1) {
            return false;
        }
    }
    return true;
}

static bool is_zero(const struct vm *vm, uint64_t from, uint64_t to)
{
    static const unsigned char zeros[4096];
    for (uint64_t at = from; at < to; at += PAGE) {
        if (memcmp(vm->ram + at, zeros, PAGE) != 0) {
            return false;
        }
    }
    return true;
}

static void until_event(struct vm *vm, enum ballast_event event, unsigned count)
{
    for (int i = 0; i < 3000 && atomic_load(&vm->events[event]) < count; i++) {
        usleep(10000);
    }
    MUST(atomic_load(&vm->events[event]) >= count);
}

/* ---- what is tried ---- */

static void refusals(void)
{
    struct vm vm = {.ram = map_ram(MAX, MAP_PRIVATE)};
    struct ballast_domain *mark = (struct ballast_domain *)&vm, *domain = mark;
    struct ballast_config good = config_of(&vm), bad;
    struct {
        struct ballast_config config;
        uint64_t later;
    } larger = {good, 1};
    unsigned fds = count_entries("/proc/self/fd");

#define REFUSED(change, expected)                                                                  \
    bad = good;                                                                                    \
    change;                                                                                        \
    MUST(ballast_create(&bad, sizeof(bad), &domain) == (expected) && domain == mark)
    REFUSED(bad.ram = vm.ram + PAGE, -EINVAL);
    REFUSED(bad.ram = NULL, -EINVAL);
    REFUSED(bad.ram_bytes = MAX - 1, -EINVAL);
    REFUSED(bad.ram_bytes = UINT64_C(17) << 40, -EINVAL);
    REFUSED(bad.target_bytes = 0, -EINVAL);
    REFUSED(bad.target_bytes = MAX + PAGE, -EINVAL);
    REFUSED(bad.target_bytes = TARGET + 1, -EINVAL);
    MUST(ballast_create(&good, 8, &domain) == -EINVAL && domain == mark);
    MUST(ballast_create(&larger.config, sizeof(larger), &domain) == -E2BIG && domain == mark);

    unsigned char *shared = map_ram(MAX, MAP_SHARED);
    REFUSED(bad.ram = shared, -EINVAL);
    munmap(shared, MAX);
    vm.ram[5 * MIB] = 1;
    REFUSED((void)0, -EEXIST);
    MUST(count_entries("/proc/self/fd") == fds);
    munmap(vm.ram, MAX);
    ballast_destroy(NULL);
}

/* A guest that scrubs all of its memory keeps what it wrote before. */
static void scrub(void)
{
    struct vm vm;
    uint64_t before = status_bytes("RssAnon:");
    begin(&vm);
    uint64_t gained = status_bytes("RssAnon:") - before;
    MUST(gained + RSS_SLACK > TARGET && gained < TARGET + RSS_SLACK);
    struct ballast_stats s = look(&vm);
    MUST(!s.exhausted && s.target_bytes == TARGET && s.cached_bytes == TARGET);
    MUST(s.pod_bytes == MAX && s.faults == 0 && !s.covered);

    write_words(&vm, 0, 16 * MIB);
    s = look(&vm);
    MUST(s.populated_bytes >= 16 * MIB && s.faults != 0);
    memset(vm.ram + 16 * MIB, 0, MAX - 16 * MIB);
    s = look(&vm);
    MUST(s.total_bytes == TARGET && s.reclaimed_2m + s.reclaimed_4k != 0);
    MUST(has_words(&vm, 0, 16 * MIB) && is_zero(&vm, 16 * MIB, MAX));
    look(&vm);
    MUST(ballast_get_stats(vm.domain, &s, sizeof(s) - 1) == -EINVAL);
    end(&vm);
    gained = status_bytes("RssAnon:") - before;
    MUST((int64_t)gained < (int64_t)RSS_SLACK);
}

static void balloon(void)
{
    struct vm vm;
    begin(&vm);
    write_words(&vm, 0, 20 * MIB);
    /* All that it was not given: it can no longer run out. */
    MUST(ballast_inflate(vm.domain, vm.ram + TARGET, MAX - TARGET) == 0);
    struct ballast_stats s = look(&vm);
    MUST(s.covered && s.ballooned_bytes == MAX - TARGET);
    until_event(&vm, BALLAST_EVENT_COVERED, 1);
    /* What was in use is lost, and its pages are the domain's. */
    MUST(ballast_inflate(vm.domain, vm.ram, 4 * MIB) == 0);
    s = look(&vm);
    MUST(s.ballooned_bytes == MAX - TARGET + 4 * MIB && s.total_bytes == TARGET);
    MUST(ballast_deflate(vm.domain, vm.ram, 4 * MIB) == 0);
    MUST(look(&vm).ballooned_bytes == MAX - TARGET && is_zero(&vm, 0, 4 * MIB));
    /* A page that is used without a word. */
    vm.ram[MAX - PAGE + 3] = 7;
    look(&vm);
    MUST(ballast_discard(vm.domain, vm.ram + 4 * MIB + PAGE, 2 * MIB) == 0);
    look(&vm);
    MUST(has_words(&vm, 4 * MIB, 4 * MIB + PAGE) && has_words(&vm, 6 * MIB + PAGE, 20 * MIB));
    MUST(is_zero(&vm, 4 * MIB + PAGE, 6 * MIB + PAGE) && vm.ram[MAX - PAGE + 3] == 7);

    MUST(ballast_inflate(vm.domain, vm.ram + 1, PAGE) == -EINVAL);
    MUST(ballast_inflate(vm.domain, vm.ram, PAGE + 1) == -EINVAL);
    MUST(ballast_inflate(vm.domain, vm.ram - PAGE, PAGE) == -EINVAL);
    MUST(ballast_deflate(vm.domain, vm.ram + MAX, PAGE) == -EINVAL);
    MUST(ballast_discard(vm.domain, vm.ram + PAGE, MAX) == -EINVAL);
    MUST(ballast_discard(vm.domain, vm.ram + PAGE, UINT64_MAX - PAGE + 1) == -EINVAL);
    MUST(ballast_discard(vm.domain, vm.ram + MAX, 0) == 0);

    MUST(ballast_reset(vm.domain) == 0);
    s = look(&vm);
    MUST(s.ballooned_bytes == 0 && s.populated_bytes == 0 && s.total_bytes == TARGET);
    MUST(is_zero(&vm, 0, 20 * MIB));
    end(&vm);
}

static void targets(void)
{
    struct vm vm;
    begin(&vm);
    MUST(ballast_set_target(vm.domain, 64 * MIB) == 0);
    MUST(look(&vm).total_bytes == 64 * MIB);
    write_words(&vm, 0, 60 * MIB);
    MUST(ballast_set_target(vm.domain, 48 * MIB) == 0);
    struct ballast_stats s = look(&vm);
    MUST(s.target_bytes == 48 * MIB);
    /* The rest comes from the balloon: 80 MiB are what the guest has too much. */
    unsigned reached = atomic_load(&vm.events[BALLAST_EVENT_TARGET_REACHED]);
    MUST(ballast_inflate(vm.domain, vm.ram + 40 * MIB, 80 * MIB) == 0);
    until_event(&vm, BALLAST_EVENT_TARGET_REACHED, reached + (s.shrinking ? 1 : 0));
    s = look(&vm);
    MUST(!s.shrinking && s.total_bytes == 48 * MIB && has_words(&vm, 0, 40 * MIB));

    MUST(ballast_set_target(vm.domain, MAX + PAGE) == -EINVAL);
    MUST(ballast_set_target(vm.domain, 0) == -EINVAL);
    MUST(ballast_set_target(vm.domain, 40 * MIB + 1) == -EINVAL);
    MUST(look(&vm).target_bytes == 48 * MIB);
    end(&vm);
}

static void *write_too_much(void *vm)
{
    write_words(vm, 0, 48 * MIB);
    return NULL;
}

static void exhaustion(void)
{
    struct vm vm;
    pthread_t thread;
    begin(&vm);
    MUST(pthread_create(&thread, NULL, write_too_much, &vm) == 0);
    until_event(&vm, BALLAST_EVENT_EXHAUSTED, 1);
    until_event(&vm, BALLAST_EVENT_LOW, 1);
    MUST(look(&vm).exhausted);
    MUST(ballast_set_target(vm.domain, 64 * MIB) == 0);
    pthread_join(thread, NULL);
    until_event(&vm, BALLAST_EVENT_RESUMED, 1);
    MUST(!look(&vm).exhausted && has_words(&vm, 0, 48 * MIB));
    end(&vm);

    /* Who waits for a page when the domain ends goes on. */
    begin(&vm);
    MUST(pthread_create(&thread, NULL, write_too_much, &vm) == 0);
    until_event(&vm, BALLAST_EVENT_EXHAUSTED, 1);
    ballast_destroy(vm.domain);
    pthread_join(thread, NULL);
    MUST(has_words(&vm, 0, 48 * MIB));
    munmap(vm.ram, MAX);
}

static void *touch_one(void *at)
{
    *(volatile unsigned char *)at = 1;
    return NULL;
}

/* Cached pages vanish behind the library's back: it says so, and can be ended. */
static void broken(void)
{
    struct vm vm;
    pthread_t thread;
    begin(&vm);
    write_words(&vm, 0, 4 * MIB);
    struct ballast_stats s = look(&vm);
    MUST(madvise((void *)s.cache, s.cache_span_bytes, MADV_DONTNEED) == 0);
    MUST(pthread_create(&thread, NULL, touch_one, vm.ram + 100 * MIB) == 0);
    until_event(&vm, BALLAST_EVENT_BROKEN, 1);
    MUST(resident_bytes(vm.ram, MAX) == 0);
    MUST(ballast_get_stats(vm.domain, &s, sizeof(s)) == -EIO);
    MUST(ballast_inflate(vm.domain, vm.ram, PAGE) == -EIO);
    MUST(ballast_set_target(vm.domain, 16 * MIB) == -EIO);
    MUST(ballast_reset(vm.domain) == -EIO);
    ballast_destroy(vm.domain);
    pthread_join(thread, NULL);
    MUST(atomic_load(&vm.events[BALLAST_EVENT_BROKEN]) == 1);
    munmap(vm.ram, MAX);
}

/* Nothing is left of domains that have ended; guest RAM is as it was. */
static void lives(void)
{
    struct vm vm, other;
    unsigned fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (int i = 0; i < 10; i++) {
        begin(&vm);
        begin(&other);
        write_words(&vm, 0, 8 * MIB);
        memset(other.ram, 0, MAX);
        look(&other);
        ballast_destroy(other.domain);
        look(&vm);
        ballast_destroy(vm.domain);
        MUST(has_words(&vm, 0, 8 * MIB) && is_zero(&vm, 8 * MIB, 16 * MIB));
        munmap(vm.ram, MAX);
        munmap(other.ram, MAX);
    }
    MUST(count_entries("/proc/self/fd") == fds && count_entries("/proc/self/task") == threads);
}

int main(void)
{
    refusals();
    scrub();
    balloon();
    targets();
    exhaustion();
    broken();
    lives();
    return 0;
}
