/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM in shared memory, as vhost-user needs it, and a back end: another process
 * that maps the same file. What the file owns is asked of the kernel (st_blocks).
 */
#ifndef BALLAST_TESTS_HOST_SHARED_H
#define BALLAST_TESTS_HOST_SHARED_H

#include "fixture.h"

#include <linux/userfaultfd.h>

/* A memfd, mapped MAP_SHARED and registered with a userfaultfd: all holes. Its pages
 * are of page_bytes; tests fill and compare the first 4 KiB of one. */
struct shared {
    int fd, uffd;
    haddr_t at;
    uint64_t page_bytes;
};

#define SHARED_PAGES 4

/* UFFDIO_REGISTER_MODE_* */
#define MISSING UFFDIO_REGISTER_MODE_MISSING
#define WP      UFFDIO_REGISTER_MODE_WP
#define MINOR   UFFDIO_REGISTER_MODE_MINOR

/* `file` becomes its own: an empty one of a tmpfs, or with `huge` of a hugetlbfs of
 * 2 MiB pages; -1 for a new memfd of that kind. 0 or -errno. */
int shared_open(struct shared *shared, int file, bool huge, uint64_t modes);

void shared_close(struct shared *shared);

void *shared_page(const struct shared *shared, unsigned page);

/* Pages that the file owns, by the kernel's books. */
uint64_t shared_total(const struct shared *shared);

/* UFFDIO_COPY of a page that begins with `content` (4 KiB), or NULL for zeros, into a
 * hole. 0 or -errno. */
int shared_populate(const struct shared *shared, unsigned page, const void *content);

/* Makes a page a hole again. 0 or -errno. */
int shared_punch(const struct shared *shared, unsigned page);

/* Memory of 4 KiB pages or, if the host has some set aside, of 2 MiB ones, all holes;
 * else, or if the kernel has not such events, skips the test. */
void open_memory(struct shared *ram, bool huge, uint64_t modes);

/* Whether the file holds that, or zeros, whatever is mapped where. */
bool file_holds(const struct shared *ram, unsigned page, uint64_t seed);
bool file_holds_zeros(const struct shared *ram, unsigned page);

/* Waits for a fault, up to 30 s, and tells its flags (UFFD_PAGEFAULT_FLAG_*). */
uint64_t fault_wait(int uffd);

/* Whether one has been told, or waits. */
bool fault_pending(int uffd);

/* A process that has its own mapping of the file. */
struct backend {
    pid_t pid;
    int socket;
    int uffd;   /* of its own on its mapping, if it cooperates, else -1 */
    haddr_t at; /* its mapping, in its address space */
};

/* `cooperates`: it registers its mapping for missing pages and hands us the
 * userfaultfd, as VHOST_USER_POSTCOPY_ADVISE and _LISTEN ask of a back end. */
void backend_start(struct backend *backend, const struct shared *shared, bool cooperates);

/* Has it fill a page, and waits until it has. */
void backend_write(const struct backend *backend, unsigned page, uint64_t seed);

/* The same in two halves. */
void backend_begin(const struct backend *backend, unsigned page, uint64_t seed);
void backend_finish(const struct backend *backend);

void backend_stop(struct backend *backend);

/* An experiment that is made with pages of both sizes is two tests. */
bool is_huge(void **state);
extern bool with_huge_pages;
#define OF_HUGE_PAGES(experiment)                                                                  \
    {                                                                                              \
        .name = #experiment "_of_huge_pages", .test_func = experiment,                             \
        .initial_state = &with_huge_pages                                                          \
    }
#define WITH_BOTH(experiment) cmocka_unit_test(experiment), OF_HUGE_PAGES(experiment)

#endif
