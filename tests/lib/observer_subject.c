/* SPDX-License-Identifier: MIT */
/*
 * Something for the observer to be tested on: a process with two ranges that
 * own TARGET pages between them, and threads that move pages back and forth
 * with UFFDIO_MOVE as fast as they can.
 *
 * Prints "PID RAM+BYTES CACHE+BYTES TARGET" and then reads letters from its
 * standard input until that ends: '+' takes one page too many from the host,
 * '-' gives one of its pages back, and both stay so. Each is answered by a line
 * when it is done.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE    4096u
#define PAGES   2048u /* of each range */
#define TARGET  1536u /* resident, of both together, before anything goes wrong */
#define MOVERS  2u
#define SKIP    77
#define SPARE   (PAGES - 1) /* a page of the RAM range that no mover touches */
#define OWN_END (PAGES - 2) /* and one of the cache that stays where it is */

/* Since Linux 6.8; the headers of Debian 12 are older. */
struct move_argument {
    uint64_t dst;
    uint64_t src;
    uint64_t len;
    uint64_t mode;
    int64_t move;
};

#define MOVE_IOCTL     _IOWR(UFFDIO, 0x05, struct move_argument)
#define FEATURE_MOVE   (UINT64_C(1) << 16)
#define USER_MODE_ONLY 1

static unsigned char *ram;
static unsigned char *cache;
static int uffd;

static unsigned char *map_range(void)
{
    /* A guard page after it, or the kernel makes one mapping of both ranges. */
    void *range = mmap(NULL, (PAGES + 1) * PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (range == MAP_FAILED || mprotect(range, PAGES * PAGE, PROT_READ | PROT_WRITE) < 0) {
        perror("mmap");
        exit(2);
    }
    madvise(range, PAGES * PAGE, MADV_NOHUGEPAGE);
    return range;
}

static void register_range(void *range)
{
    struct uffdio_register argument = {
        .range = {.start = (uintptr_t)range, .len = PAGES * PAGE},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    if (ioctl(uffd, UFFDIO_REGISTER, &argument) < 0) {
        perror("UFFDIO_REGISTER");
        exit(2);
    }
}

static void move_page(unsigned char *to, unsigned char *from)
{
    struct move_argument argument = {.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = PAGE};
    int r;

    do {
        argument.move = 0;
        r = ioctl(uffd, MOVE_IOCTL, &argument);
    } while (r < 0 && (errno == EAGAIN || errno == EBUSY));
    if (r < 0) {
        perror("UFFDIO_MOVE");
        exit(2);
    }
}

/* Moves its share of the pages to the RAM range and back, for ever. */
_Noreturn static void *mover(void *share)
{
    unsigned first = *(unsigned *)share;

    for (;;) {
        for (unsigned i = first; i < TARGET - 1; i += MOVERS) {
            move_page(ram + i * PAGE, cache + i * PAGE);
        }
        for (unsigned i = first; i < TARGET - 1; i += MOVERS) {
            move_page(cache + i * PAGE, ram + i * PAGE);
        }
    }
}

static void open_userfaultfd(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_MOVE};

    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | USER_MODE_ONLY);
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0) {
        fprintf(stderr, "this kernel gives us no userfaultfd with UFFDIO_MOVE: %s\n",
                strerror(errno));
        exit(SKIP);
    }
}

/* Puts a zeroed page of the host's at a place that had none. */
static void take_page_from_host(unsigned char *place)
{
    static unsigned char zeros[PAGE];
    struct uffdio_copy argument = {.dst = (uintptr_t)place, .src = (uintptr_t)zeros, .len = PAGE};

    if (ioctl(uffd, UFFDIO_COPY, &argument) < 0) {
        perror("UFFDIO_COPY");
        exit(2);
    }
}

int main(void)
{
    static unsigned shares[MOVERS] = {0, 1};
    pthread_t threads[MOVERS];
    int letter;

    open_userfaultfd();
    ram = map_range();
    cache = map_range();
    for (unsigned i = 0; i < TARGET - 1; i++) {
        cache[i * PAGE] = 1;
    }
    cache[OWN_END * PAGE] = 1;
    register_range(ram);
    register_range(cache);
    for (unsigned i = 0; i < MOVERS; i++) {
        pthread_create(&threads[i], NULL, mover, &shares[i]);
    }
    printf("%d %" PRIxPTR "+%x %" PRIxPTR "+%x %u\n", (int)getpid(), (uintptr_t)ram, PAGES * PAGE,
           (uintptr_t)cache, PAGES * PAGE, TARGET);
    fflush(stdout);
    while ((letter = getchar()) != EOF) {
        if (letter == '+') {
            take_page_from_host(ram + SPARE * PAGE);
        } else if (letter == '-') {
            madvise(cache + OWN_END * PAGE, PAGE, MADV_DONTNEED);
        } else {
            continue;
        }
        puts("done");
        fflush(stdout);
    }
    /* The end comes while pages move, as a domain's does. */
    _exit(0);
}
