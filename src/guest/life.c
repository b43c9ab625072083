/* SPDX-License-Identifier: MIT */
/* How a guest's life begins and ends. */
#include "guest/state.h"

#include "base/thread.h"
#include "host/sys.h"
#include "host/uffd.h"

#include <sys/eventfd.h>

/* Our threads read guest memory and move pages; they need little stack. */
#define THREAD_STACK_BYTES (256 * 1024)

/* The books' memory: as much address space as the worst case needs, of which
 * only what is used is ever backed. */
static int map_metadata(struct guest *guest, pages_t span_pages)
{
    haddr_t at = {0};
    uint64_t bytes = domain_metadata_bytes(span_pages);
    int err = sys_mmap(haddr(NULL), bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &at);
    if (err == 0) {
        /* A huge page would back much that is never used; and a fork must not
         * make the fault path wait for a copy. */
        sys_madvise(at, bytes, MADV_NOHUGEPAGE);
        sys_madvise(at, bytes, MADV_DONTFORK);
        guest->metadata = (void *)at.a;
        guest->metadata_bytes = bytes;
    }
    return err;
}

/* Starts a thread of ours. */
static int start_thread(struct guest *guest, const char *name, void *(*function)(void *))
{
    pthread_t *thread = &guest->threads[guest->thread_count];
    int err = thread_start(thread, THREAD_STACK_BYTES, function, guest);
    if (err == 0) {
        pthread_setname_np(*thread, name);
        guest->thread_count++;
    }
    return err;
}

static int start_threads(struct guest *guest)
{
    int err = start_thread(guest, "ballast-fault", faults_thread);
    err = err != 0 ? err : start_thread(guest, "ballast-upkeep", upkeep_thread);
    return err != 0 ? err : start_thread(guest, "ballast-watch", watch_thread);
}

static int fail(const struct guest *guest, struct guest_problem *problem,
                enum guest_failure failure, int err)
{
    *problem = (struct guest_problem){
        .failure = failure,
        .available_bytes = guest->host.spare.bytes,
        .limit = guest->host.spare.limit,
    };
    return err;
}

int guest_build(struct guest *guest, haddr_t ram, uint64_t ram_bytes, uint64_t target_bytes,
                const struct guest_options *options, struct guest_problem *problem)
{
    guest->options = *options;
    guest->ordered_pages = bytes_to_pages(target_bytes);
    bool may_grow = options->span_bytes > ram_bytes;
    struct domain_config config = {
        .max_pages = bytes_to_pages(ram_bytes),
        .span_pages = bytes_to_pages(may_grow ? options->span_bytes : ram_bytes),
        .target_pages = bytes_to_pages(may_grow ? min_u64(target_bytes, ram_bytes) : target_bytes),
    };
    int err = map_metadata(guest, config.span_pages);
    if (err == 0) {
        lock_acquire(&guest->lock);
        err = domain_init(&guest->domain, &config, &linux_host_ops, &guest->host, guest->metadata);
        lock_release(&guest->lock);
    }
    if (err != 0) {
        return fail(guest, problem, GUEST_FAILED_METADATA, err);
    }
    guest->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    guest->end_fd = guest->kick_fd >= 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (guest->end_fd < 0) {
        return fail(guest, problem, GUEST_FAILED_THREAD, -errno);
    }
    uint64_t cache_bytes = pages_to_bytes(domain_cache_span_pages(config.span_pages));
    int uffd;
    err = uffd_open(&uffd);
    if (err != 0) {
        return fail(guest, problem, GUEST_FAILED_UFFD, err);
    }
    close(uffd);
    err = linux_host_open(&guest->host, ram, ram_bytes, cache_bytes);
    if (err != 0) {
        return fail(guest, problem, GUEST_FAILED_REGISTER, err);
    }
    /* A target may be set as soon as there is a domain, before it has threads. */
    atomic_store(&guest->exists, true);
    err = guest_fill_cache(guest);
    if (err != 0) {
        return fail(guest, problem, GUEST_FAILED_MEMORY, err);
    }
    lock_acquire(&guest->lock);
    guest_note_built(guest);
    lock_release(&guest->lock);
    err = start_threads(guest);
    return err != 0 ? fail(guest, problem, GUEST_FAILED_THREAD, err) : 0;
}

/* Has our threads end as soon as they can. */
static void stop_threads(struct guest *guest)
{
    uint64_t one = 1;
    atomic_store(&guest->ending, true);
    if (atomic_load(&guest->broken)) {
        /* One of them may wait for a page that does not come. */
        linux_host_unregister(&guest->host);
    }
    lock_acquire(&guest->lock);
    domain_begin_dying(&guest->domain);
    pthread_cond_signal(&guest->upkeep);
    lock_release(&guest->lock);
    ssize_t ignored = write(guest->end_fd, &one, sizeof(one));
    (void)ignored;
    for (unsigned i = 0; i < guest->thread_count; i++) {
        pthread_join(guest->threads[i], NULL);
    }
}

void guest_end(struct guest *guest)
{
    if (guest_exists(guest)) {
        stop_threads(guest);
        atomic_store(&guest->exists, false);
        linux_host_close(&guest->host);
    }
    if (guest->end_fd >= 0) {
        close(guest->end_fd);
    }
    if (guest->kick_fd >= 0) {
        close(guest->kick_fd);
    }
    if (guest->metadata != NULL) {
        sys_munmap(haddr(guest->metadata), guest->metadata_bytes);
    }
    *guest = (struct guest)GUEST_INITIALIZER;
}
