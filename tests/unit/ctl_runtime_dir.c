/* SPDX-License-Identifier: MIT */
/* The domains' folders: who owns a name, who is dead, and what is removed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/lock_holder.h"
#include "ctl/runtime_dir.h"
#include "ctl/runtime_offer.h"
#include "ctl/runtime_path.h"

struct place {
    char root[64];
    char base[80];
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));

    if (place == NULL) {
        return -1;
    }
    snprintf(place->root, sizeof(place->root), "/tmp/ballast-test-XXXXXX");
    if (mkdtemp(place->root) == NULL) {
        free(place);
        return -1;
    }
    snprintf(place->base, sizeof(place->base), "%s/run", place->root);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", place->root);
    (void)!system(command);
    free(place);
    return 0;
}

/* BASE/NAME or BASE/NAME/FILE, in a buffer that the next call uses again. */
static const char *path_of(const struct place *place, const char *name, const char *file)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s%s%s", place->base, name, file != NULL ? "/" : "",
             file != NULL ? file : "");
    return path;
}

static void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static enum runtime_state look(const struct place *place, const char *name)
{
    enum runtime_state state;

    assert_int_equal(runtime_look(place->base, name, &state), 0);
    return state;
}

static void names(void **state)
{
    char longest[BALLAST_NAME_MAX_BYTES + 2];

    (void)state;
    assert_true(runtime_name_is_valid("a"));
    assert_true(runtime_name_is_valid("9"));
    assert_true(runtime_name_is_valid("Web-1_a.b"));
    assert_false(runtime_name_is_valid(""));
    assert_false(runtime_name_is_valid("."));
    assert_false(runtime_name_is_valid(".."));
    assert_false(runtime_name_is_valid("-x"));
    assert_false(runtime_name_is_valid("_x"));
    assert_false(runtime_name_is_valid("a/b"));
    assert_false(runtime_name_is_valid("a b"));
    assert_false(runtime_name_is_valid("a\n"));
    assert_false(runtime_name_is_valid("\xc3\xa9"));
    memset(longest, 'x', sizeof(longest));
    longest[BALLAST_NAME_MAX_BYTES] = '\0';
    assert_true(runtime_name_is_valid(longest));
    longest[BALLAST_NAME_MAX_BYTES] = 'x';
    longest[BALLAST_NAME_MAX_BYTES + 1] = '\0';
    assert_false(runtime_name_is_valid(longest));
}

static void base_comes_from_the_environment(void **state)
{
    char base[PATH_MAX] = "untouched";

    (void)state;
    setenv("BALLAST_RUNTIME_DIR", "/somewhere", 1);
    assert_int_equal(runtime_base(base, sizeof(base)), 0);
    assert_string_equal(base, "/somewhere");
    assert_int_equal(runtime_base(base, 5), -ENAMETOOLONG);
    setenv("BALLAST_RUNTIME_DIR", "somewhere", 1);
    assert_int_equal(runtime_base(base, sizeof(base)), -EINVAL);
    unsetenv("BALLAST_RUNTIME_DIR");
    if (geteuid() == 0) {
        assert_int_equal(runtime_base(base, sizeof(base)), 0);
        assert_string_equal(base, "/run/ballast");
    } else {
        setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
        assert_int_equal(runtime_base(base, sizeof(base)), 0);
        assert_string_equal(base, "/run/user/1/ballast");
        unsetenv("XDG_RUNTIME_DIR");
        assert_int_equal(runtime_base(base, sizeof(base)), -ENOENT);
    }
}

static void a_domain_comes_and_goes(void **state)
{
    const struct place *place = *state;
    struct runtime_dir dir;
    struct stat status;

    assert_int_equal(look(place, "vm1"), RUNTIME_NONE);
    assert_int_equal(runtime_dir_create(place->base, "vm1", &dir), 0);
    assert_string_equal(dir.path, path_of(place, "vm1", NULL));
    assert_string_equal(dir.socket_path, path_of(place, "vm1", "control.sock"));
    assert_int_equal(stat(dir.path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(fcntl(dir.lock_fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(look(place, "vm1"), RUNTIME_LIVE);
    assert_int_equal(runtime_clean(place->base, "vm1"), -EBUSY);
    assert_true(exists(path_of(place, "vm1", "lock")));
    make_file(dir.socket_path);
    assert_int_equal(runtime_dir_remove(&dir), 0);
    assert_int_equal(look(place, "vm1"), RUNTIME_NONE);
    assert_false(exists(path_of(place, "vm1", NULL)));
    assert_int_equal(runtime_clean(place->base, "vm1"), 0);
}

static void one_name_one_domain(void **state)
{
    const struct place *place = *state;
    struct runtime_dir first;
    struct runtime_dir second = {.lock_fd = -7};

    assert_int_equal(runtime_dir_create(place->base, "vm1", &first), 0);
    make_file(first.socket_path);
    assert_int_equal(runtime_dir_create(place->base, "vm1", &second), -EADDRINUSE);
    assert_int_equal(second.lock_fd, -7);
    assert_true(exists(first.socket_path));
    runtime_dir_close(&first);
    assert_int_equal(look(place, "vm1"), RUNTIME_DEAD);
    /* The dead one's socket goes; its name can be had again. */
    assert_int_equal(runtime_dir_create(place->base, "vm1", &second), 0);
    assert_false(exists(second.socket_path));
    assert_int_equal(look(place, "vm1"), RUNTIME_LIVE);
    assert_int_equal(runtime_dir_remove(&second), 0);
}

static void bad_places(void **state)
{
    const struct place *place = *state;
    char long_base[PATH_MAX];
    struct runtime_dir dir;

    assert_int_equal(runtime_dir_create(place->base, "../x", &dir), -EINVAL);
    assert_int_equal(runtime_dir_create("/no/such/place", "vm1", &dir), -ENOENT);
    memset(long_base, 'x', sizeof(long_base));
    snprintf(long_base, sizeof(long_base), "%s/%0*d", place->root, 90, 0);
    assert_int_equal(runtime_dir_create(long_base, "vm1", &dir), -ENAMETOOLONG);
    assert_false(exists(long_base));

    assert_int_equal(mkdir(place->base, 0777), 0);
    assert_int_equal(chmod(place->base, 0777), 0);
    assert_int_equal(runtime_dir_create(place->base, "vm1", &dir), -EPERM);
    assert_int_equal(chmod(place->base, 0700), 0);
    make_file(path_of(place, "vm1", NULL));
    assert_int_equal(runtime_dir_create(place->base, "vm1", &dir), -ENOTDIR);
    assert_int_equal(mkdir(path_of(place, "vm2", NULL), 0777), 0);
    assert_int_equal(chmod(path_of(place, "vm2", NULL), 0777), 0);
    assert_int_equal(runtime_dir_create(place->base, "vm2", &dir), -EPERM);
    assert_int_equal(symlink(place->root, path_of(place, "vm3", NULL)), 0);
    assert_true(runtime_dir_create(place->base, "vm3", &dir) < 0);
    assert_false(exists(path_of(place, "vm3", "lock")));
    assert_int_equal(look(place, "vm1"), RUNTIME_NONE);
    assert_int_equal(look(place, "vm3"), RUNTIME_NONE);
}

static void foreign_files_stay(void **state)
{
    const struct place *place = *state;
    struct runtime_dir dir;

    assert_int_equal(runtime_dir_create(place->base, "vm1", &dir), 0);
    make_file(dir.socket_path);
    make_file(path_of(place, "vm1", "precious"));
    runtime_dir_close(&dir);
    assert_int_equal(runtime_clean(place->base, "vm1"), -ENOTEMPTY);
    assert_true(exists(path_of(place, "vm1", "precious")));
    assert_false(exists(path_of(place, "vm1", "control.sock")));
}

static void listing(void **state)
{
    const struct place *place = *state;
    struct runtime_entry *entries = (struct runtime_entry *)state;
    struct runtime_dir live;
    struct runtime_dir dead;
    size_t count = 7;

    assert_int_equal(runtime_list(place->base, &entries, &count), 0);
    assert_int_equal(count, 0);
    free(entries);
    assert_int_equal(runtime_dir_create(place->base, "b", &live), 0);
    assert_int_equal(runtime_dir_create(place->base, "a", &dead), 0);
    runtime_dir_close(&dead);
    make_file(path_of(place, "file", NULL));
    assert_int_equal(mkdir(path_of(place, ".hidden", NULL), 0700), 0);
    assert_int_equal(symlink(place->root, path_of(place, "link", NULL)), 0);
    assert_int_equal(runtime_list(place->base, &entries, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(entries[0].name, "a");
    assert_int_equal(entries[0].state, RUNTIME_DEAD);
    assert_string_equal(entries[1].name, "b");
    assert_int_equal(entries[1].state, RUNTIME_LIVE);
    free(entries);
    runtime_dir_close(&live);
}

/* The other user of this test; nobody has this number. */
#define OTHER_UID 61234

/* Has the other user make and end a domain in the offered folder. */
static void live_as_other(const struct place *place)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        struct runtime_dir dir;
        int ret;

        if (setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0) {
            _exit(1);
        }
        ret = runtime_dir_create(place->base, "vm1", &dir);
        if (ret != 0) {
            _exit(-ret);
        }
        make_file(dir.socket_path);
        runtime_dir_close(&dir); /* as if it were killed */
        /* Another name was not offered. */
        _exit(runtime_dir_create(place->base, "vm3", &dir) == -EACCES ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void folders_for_others(void **state)
{
    const struct place *place = *state;
    enum runtime_state is;
    struct runtime_dir dir;
    struct stat status;

    assert_int_equal(runtime_offer(place->base, "../vm1", getuid(), getgid()), -EINVAL);
    assert_int_equal(runtime_withdraw(place->base, "../vm1"), -EINVAL);
    assert_int_equal(runtime_withdraw(place->base, "vm1"), 0); /* not even BASE is there */
    /* Ours: it is offered, used, refused while it is, and withdrawn with all that is in it. */
    assert_int_equal(runtime_offer(place->base, "vm1", getuid(), getgid()), 0);
    assert_int_equal(runtime_dir_create(place->base, "vm1", &dir), 0);
    assert_int_equal(runtime_offer(place->base, "vm1", getuid(), getgid()), -EADDRINUSE);
    assert_int_equal(runtime_withdraw(place->base, "vm1"), -EADDRINUSE);
    runtime_dir_close(&dir);
    assert_int_equal(runtime_offer(place->base, "vm1", getuid(), getgid()), 0);
    assert_int_equal(runtime_withdraw(place->base, "vm1"), 0);
    assert_int_equal(stat(path_of(place, "vm1", NULL), &status), -1);
    /* What is not Ballast's stays; a link is not followed. */
    assert_int_equal(runtime_offer(place->base, "vm1", getuid(), getgid()), 0);
    make_file(path_of(place, "vm1", "notes"));
    assert_int_equal(runtime_withdraw(place->base, "vm1"), -ENOTEMPTY);
    assert_int_equal(symlink("vm1", path_of(place, "vm2", NULL)), 0);
    assert_true(runtime_offer(place->base, "vm2", getuid(), getgid()) < 0);
    assert_true(runtime_withdraw(place->base, "vm2") < 0);
    assert_int_equal(unlink(path_of(place, "vm1", "notes")), 0);
    if (getuid() != 0) {
        return;
    }
    /* Another's: only he has it, root sees it, and root's clean-up leaves it alone. */
    assert_int_equal(chmod(place->root, 0755), 0);
    assert_int_equal(runtime_offer(place->base, "vm1", OTHER_UID, OTHER_UID), 0);
    assert_int_equal(stat(path_of(place, "vm1", NULL), &status), 0);
    assert_int_equal(status.st_uid, OTHER_UID);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(runtime_clean(place->base, "vm1"), -EPERM);
    live_as_other(place);
    assert_int_equal(runtime_look(place->base, "vm1", &is), 0);
    assert_int_equal(is, RUNTIME_DEAD);
    assert_int_equal(runtime_withdraw(place->base, "vm1"), 0);
    assert_int_equal(stat(path_of(place, "vm1", NULL), &status), -1);
}

static void finding_the_process(void **state)
{
    const struct place *place = *state;
    struct runtime_dir dir;
    pid_t parent = getppid();
    pid_t found = 0;
    int pidfd = -1;

    assert_int_equal(runtime_open_process(place->base, "vm1", 0, &found, &pidfd), -ESRCH);
    assert_int_equal(runtime_dir_create(place->base, "vm1", &dir), 0);
    /* By the number in the lock, whatever else is suggested. */
    int ret = runtime_open_process(place->base, "vm1", 0, &found, &pidfd);
    if (ret == -ENOSYS) {
        print_message("skipped: there is no pidfd_open, as under valgrind 3.19\n");
        runtime_dir_remove(&dir);
        skip();
    }
    assert_int_equal(ret, 0);
    assert_int_equal(found, getpid());
    close(pidfd);
    assert_int_equal(runtime_open_process(place->base, "vm1", parent, &found, &pidfd), 0);
    assert_int_equal(found, getpid());
    close(pidfd);
    /* By the suggestion, if the lock does not say, or lies. */
    assert_int_equal(ftruncate(dir.lock_fd, 0), 0);
    assert_int_equal(runtime_open_process(place->base, "vm1", getpid(), &found, &pidfd), 0);
    close(pidfd);
    pidfd = -9;
    assert_int_equal(runtime_open_process(place->base, "vm1", 0, &found, &pidfd), -ESRCH);
    assert_int_equal(pwrite(dir.lock_fd, "1x\n", 3, 0), 3);
    assert_int_equal(runtime_open_process(place->base, "vm1", 0, &found, &pidfd), -ESRCH);
    assert_int_equal(pidfd, -9);
    /* Who only looks does not find itself, though the lock of a dead domain may name it. */
    assert_int_equal(lock_holder_write_pid(dir.lock_fd), 0);
    runtime_dir_close(&dir);
    assert_int_equal(runtime_open_process(place->base, "vm1", getpid(), &found, &pidfd), -ESRCH);
    assert_int_equal(runtime_clean(place->base, "vm1"), 0);
}

/* Processes that take and give up one name, and others that clean up behind
 * them: never do two hold it at once. The holder proves it with a file that
 * must not be there when it comes. */
static void contend(const struct place *place, const char *proof, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        struct runtime_dir dir;
        int ret = runtime_dir_create(place->base, "vm1", &dir);
        int fd;

        if (ret == -EADDRINUSE) {
            continue;
        }
        if (ret < 0) {
            _exit(2);
        }
        fd = open(proof, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd < 0) {
            _exit(3);
        }
        close(fd);
        unlink(proof);
        if (i % 2 == 0) {
            if (runtime_dir_remove(&dir) < 0) {
                _exit(4);
            }
        } else {
            runtime_dir_close(&dir);
        }
    }
    _exit(0);
}

static void clean_up(const struct place *place, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int ret = runtime_clean(place->base, "vm1");

        if (ret < 0 && ret != -EBUSY) {
            _exit(5);
        }
    }
    _exit(0);
}

static void many_at_once(void **state)
{
    enum { CHILDREN = 6, ROUNDS = 300 };
    const struct place *place = *state;
    char proof[128];
    pid_t children[CHILDREN];

    snprintf(proof, sizeof(proof), "%s/proof", place->root);
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            if (i < CHILDREN - 2) {
                contend(place, proof, ROUNDS);
            }
            clean_up(place, ROUNDS);
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

/* Who cleans up, or only looks, keeps nobody from taking a name that is free. */
static void free_in_spite_of_cleaners(void **state)
{
    enum { CHILDREN = 2, ROUNDS = 300 };
    const struct place *place = *state;
    pid_t children[CHILDREN];

    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* also if the test fails */
            while (getppid() != 1) {
                runtime_clean(place->base, "vm1");
            }
            _exit(0);
        }
    }
    for (int i = 0; i < ROUNDS; i++) {
        struct runtime_dir dir;

        assert_int_equal(runtime_dir_create(place->base, "vm1", &dir), 0);
        assert_int_equal(runtime_dir_remove(&dir), 0);
    }
    for (int i = 0; i < CHILDREN; i++) {
        assert_int_equal(kill(children[i], SIGKILL), 0);
        assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(base_comes_from_the_environment),
        cmocka_unit_test_setup_teardown(a_domain_comes_and_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_name_one_domain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(foreign_files_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(listing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(folders_for_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(finding_the_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(free_in_spite_of_cleaners, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
