/* SPDX-License-Identifier: MIT */
/*
 * Work for the guest, for benchmarks.
 *
 *   work memory|fork|file MIB PASSES   says how long each pass took, on the
 *                                      guest's own clock:
 *                                      ballast-guest: work KIND PASS MICROSECONDS us
 *   work touch MIB CHILDREN            the same for children that each write once
 *                                      to each page of MIB MiB of their own
 *   work hungry MIB SECONDS            nothing but to use memory, in all ways
 *
 *   memory   MIB of memory: each page read and written in order, then as many
 *            words at random
 *   fork     children that write to a sixteenth of MIB MiB, which they share with
 *            their parent until then, and end
 *   file     a file of MIB MiB is written to a file system in memory, read
 *            three times, and removed
 *   hungry   up to MIB MiB is allocated in pieces of 4 KiB to 16 MiB, filled, and
 *            freed in another order; now and then with children, and files
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB         ((size_t)1 << 20)
#define PAGE        ((size_t)4096)
#define CHILDREN    32
#define FILE_NAME   "/t/work"
#define PIECES      4096
#define LARGEST_LOG 13 /* 4 KiB << 12 = 16 MiB */

static uint64_t random_state = 88172645463325252;
static volatile uint64_t sink;

static uint64_t draw(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state >> 11;
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void give_up(const char *what)
{
    printf("ballast-guest: work failed: %s\n", what);
    fflush(stdout);
    _exit(1);
}

static char *map(size_t bytes)
{
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        give_up("mmap");
    }
    return at;
}

static void memory_pass(char *memory, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64) {
        *(uint64_t *)(memory + at) += at;
    }
    for (size_t i = 0; i < bytes / PAGE * 8; i++) {
        *(uint64_t *)(memory + draw() % (bytes / 8) * 8) += i;
    }
}

static void child_writes(char *memory, size_t bytes)
{
    pid_t child = fork();
    if (child == 0) {
        for (size_t at = 0; at < bytes / 16; at += PAGE) {
            memory[at]++;
        }
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child) {
        give_up("fork");
    }
}

static void fork_pass(char *memory, size_t bytes)
{
    for (int i = 0; i < CHILDREN; i++) {
        child_writes(memory, bytes);
    }
}

static void say(const char *kind, uint64_t pass, uint64_t since_us)
{
    printf("ballast-guest: work %s %llu %llu us\n", kind, (unsigned long long)pass,
           (unsigned long long)(now_us() - since_us));
    fflush(stdout);
}

/* All at once. */
static void touch(size_t bytes, uint64_t children)
{
    uint64_t before_us = now_us();
    for (uint64_t i = 0; i < children; i++) {
        pid_t child = fork();
        if (child == 0) {
            char *memory = map(bytes);
            for (size_t at = 0; at < bytes; at += PAGE) {
                memory[at] = 1;
            }
            _exit(0);
        }
        if (child < 0) {
            give_up("fork");
        }
    }
    while (wait(NULL) > 0) {
    }
    say("touch", 0, before_us);
}

static void file_pass(char *memory, size_t bytes)
{
    int fd = open(FILE_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) {
        give_up("open");
    }
    for (size_t at = 0; at < bytes; at += 64 * PAGE) {
        memory[0] = (char)at;
        if (write(fd, memory, 64 * PAGE) != (ssize_t)(64 * PAGE)) {
            give_up("write");
        }
    }
    for (int times = 0; times < 3; times++) {
        lseek(fd, 0, SEEK_SET);
        while (read(fd, memory, 64 * PAGE) > 0) {
            sink += (uint64_t)memory[0];
        }
    }
    close(fd);
    unlink(FILE_NAME);
}

static struct piece {
    char *at;
    size_t bytes;
} pieces[PIECES];

static void let_go(struct piece *piece, size_t *used)
{
    if (piece->at != NULL) {
        munmap(piece->at, piece->bytes);
        *used -= piece->bytes;
    }
    piece->at = NULL;
}

static void hungry(size_t most, uint64_t seconds)
{
    uint64_t until_us = now_us() + seconds * 1000000;
    size_t used = 0, next = 0;
    for (uint64_t round = 1; now_us() < until_us; round++) {
        struct piece *piece = &pieces[draw() % PIECES];
        let_go(piece, &used);
        piece->bytes = PAGE << draw() % LARGEST_LOG;
        while (used + piece->bytes > most) {
            let_go(&pieces[next++ % PIECES], &used);
        }
        piece->at = map(piece->bytes);
        memset(piece->at, (int)(draw() | 1), piece->bytes);
        used += piece->bytes;
        if (round % 256 == 0) {
            child_writes(piece->at, piece->bytes);
        }
        if (round % 1024 == 0) {
            char *buffer = map(64 * PAGE);
            file_pass(buffer, most / 16 / (64 * PAGE) * (64 * PAGE));
            munmap(buffer, 64 * PAGE);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*pass)(char *memory, size_t bytes);
    } kinds[] = {{"memory", memory_pass}, {"fork", fork_pass}, {"file", file_pass}};
    if (argc != 4) {
        give_up("usage: work memory|fork|file|touch|hungry MIB COUNT");
    }
    size_t bytes = strtoull(argv[2], NULL, 10) * MIB;
    uint64_t count = strtoull(argv[3], NULL, 10);
    if (strcmp(argv[1], "hungry") == 0) {
        hungry(bytes, count);
        return 0;
    }
    if (strcmp(argv[1], "touch") == 0) {
        touch(bytes, count);
        return 0;
    }
    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        if (strcmp(argv[1], kinds[kind].name) != 0) {
            continue;
        }
        char *memory = map(kinds[kind].pass == file_pass ? 64 * PAGE : bytes);
        for (uint64_t pass = 0; pass < count; pass++) {
            uint64_t before_us = now_us();
            kinds[kind].pass(memory, bytes);
            say(argv[1], pass, before_us);
        }
        return 0;
    }
    give_up("no such kind of work");
    return 1;
}
