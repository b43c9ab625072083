/* SPDX-License-Identifier: MIT */
/* Lock ranks: the order that is allowed works, every other one aborts at once,
 * whether or not another thread is there to deadlock with. */
#include "base/lock.h"

#include "unit.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef NDEBUG
static const bool ranks_are_checked = false;
#else
static const bool ranks_are_checked = true;
#endif

static struct lock control = LOCK_INITIALIZER(LOCK_RANK_TARGET);
static struct lock domain = LOCK_INITIALIZER(LOCK_RANK_DOMAIN);

/* Runs it in a child process: the signal that ended that, or 0. */
static int signal_of(void (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL); /* cmocka catches it */
        alarm(10);                /* a wrong order that is let through may deadlock */
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void ascend(void)
{
    for (int i = 0; i < 2; i++) {
        lock_acquire(&control);
        lock_acquire(&domain);
        lock_release(&domain);
        lock_acquire(&domain);
        lock_release(&control); /* in whatever order they are released */
        lock_release(&domain);
    }
}

static void descend(void)
{
    lock_acquire(&domain);
    lock_acquire(&control);
}

static void take_twice(void)
{
    lock_acquire(&domain);
    lock_acquire(&domain);
}

static void take_another_of_the_same_rank(void)
{
    struct lock other;
    lock_init(&other, LOCK_RANK_DOMAIN);
    lock_acquire(&domain);
    lock_acquire(&other);
}

static void *descend_alone(void *unused)
{
    (void)unused;
    lock_acquire(&control);
    lock_release(&control);
    return NULL;
}

/* What one thread holds is no other thread's concern. */
static void ranks_of_two_threads(void)
{
    pthread_t thread;
    lock_acquire(&domain);
    if (pthread_create(&thread, NULL, descend_alone, NULL) != 0 ||
        pthread_join(thread, NULL) != 0) {
        _exit(1);
    }
    lock_release(&domain);
}

static void order(void **unused)
{
    (void)unused;
    assert_int_equal(signal_of(ascend), 0);
    assert_int_equal(signal_of(ranks_of_two_threads), 0);
    if (!ranks_are_checked) {
        print_message("skipped: a release build does not check ranks\n");
        skip();
    }
    assert_int_equal(signal_of(descend), SIGABRT);
    assert_int_equal(signal_of(take_twice), SIGABRT);
    assert_int_equal(signal_of(take_another_of_the_same_rank), SIGABRT);
}

#define THREADS 4
#define ROUNDS  20000

static unsigned counter;

static void *count(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        lock_acquire(&domain);
        counter++;
        lock_release(&domain);
    }
    return NULL;
}

static void exclusion(void **unused)
{
    (void)unused;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(counter, THREADS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(exclusion),
    };
    return cmocka_run_group_tests_name("base_lock", tests, NULL, NULL);
}
