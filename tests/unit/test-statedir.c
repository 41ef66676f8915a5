/* SPDX-License-Identifier: MIT */
/* State directory: made when missing, locked once, its children's lock held by whoever inherited it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "daemon/statedir.h"

static char base[64];

static int set_up(void **state) {
        (void) state;
        (void) strcpy(base, "/tmp/test-statedir-XXXXXX");
        return mkdtemp(base) ? 0 : -1;
}

static int tear_down(void **state) {
        char command[128];

        (void) state;
        (void) snprintf(command, sizeof(command), "rm -rf '%s'", base);
        return system(command);
}

static const char *below(const char *name, char buf[128]) {
        (void) snprintf(buf, 128, "%s/%s", base, name);
        return buf;
}

static void test_made_when_missing(void **state) {
        struct statedir s = STATEDIR_INIT;
        struct error e = ERROR_INIT;
        char path[128], expected[128];
        struct stat st;

        (void) state;
        assert_int_equal(statedir_open(&s, below("a/b//c/", path), &e), 0);
        assert_string_equal(s.path, below("a/b/c", expected));
        assert_int_equal(stat(expected, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0750);
        statedir_deinit(&s);
        assert_int_equal(statedir_open(&s, path, &e), 0); /* and taken as it is when not */
        statedir_deinit(&s);
}

static void test_unusable(void **state) {
        struct statedir s = STATEDIR_INIT;
        struct error e = ERROR_INIT;
        char path[128];
        int fd;

        (void) state;
        fd = open(below("file", path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        (void) close(fd);
        assert_int_equal(statedir_open(&s, path, &e), -ENOTDIR);
        assert_non_null(strstr(e.text, path));
        assert_int_equal(statedir_open(&s, below("file/below", path), &e), -ENOTDIR);
        if (geteuid() == 0)
                return; /* root may write everywhere */
        assert_int_equal(mkdir(below("readonly", path), 0550), 0);
        assert_int_equal(statedir_open(&s, path, &e), -EACCES);
        assert_non_null(strstr(e.text, "not writable"));
}

static void test_second_azpard(void **state) {
        struct statedir first = STATEDIR_INIT, second = STATEDIR_INIT;
        struct error e = ERROR_INIT;
        char expected[256];

        (void) state;
        assert_int_equal(statedir_open(&first, base, &e), 0);
        assert_int_equal(statedir_open(&second, base, &e), 0);
        assert_int_equal(statedir_lock(&first, &e), 0);
        assert_int_equal(statedir_lock(&second, &e), -EBUSY);
        (void) snprintf(expected, sizeof(expected), "state directory '%s' is in use by azpard (pid %d)", base,
                        (int) getpid());
        assert_string_equal(e.text, expected);
        statedir_deinit(&first);
        assert_int_equal(statedir_lock(&second, &e), 0);
        statedir_deinit(&second);
}

/* 'S', 'Z', ... as in /proc. */
static char process_state(pid_t pid) {
        char path[64], line[256] = "";
        const char *end;
        FILE *f;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        f = fopen(path, "re");
        assert_non_null(f);
        assert_non_null(fgets(line, sizeof(line), f));
        (void) fclose(f);
        end = strrchr(line, ')');
        assert_non_null(end);
        return end[2];
}

static _Noreturn void lock_and_leave(int fd) {
        struct statedir s = STATEDIR_INIT;
        pid_t child;

        if (statedir_open(&s, base, NULL) < 0 || statedir_lock(&s, NULL) < 0)
                _exit(1);
        child = fork();
        while (child == 0)
                (void) pause(); /* it has not come to anything yet */
        if (write(fd, &child, sizeof(child)) != sizeof(child))
                _exit(1);
        (void) kill(getpid(), SIGKILL);
        _exit(1);
}

/* The lock's owner was killed just after a fork, and its child still has the descriptor. */
static void test_owner_died_after_a_fork(void **state) {
        struct statedir second = STATEDIR_INIT;
        int fds[2], status;
        pid_t owner, child, successor;
        char c;

        (void) state;
        assert_int_equal(pipe(fds), 0);
        owner = fork();
        assert_true(owner >= 0);
        if (owner == 0)
                lock_and_leave(fds[1]);
        assert_int_equal(read(fds[0], &child, sizeof(child)), sizeof(child));
        assert_int_equal(waitpid(owner, &status, 0), owner);
        assert_true(WIFSIGNALED(status));
        successor = fork();
        assert_true(successor >= 0);
        if (successor == 0)
                _exit(statedir_open(&second, base, NULL) == 0 && statedir_lock(&second, NULL) == 0 ? 0 : 1);
        while ((c = process_state(successor)) != 'S' && c != 'Z') /* it waits, or has given up */
                (void) sched_yield();
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(successor, &status, 0), successor);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        (void) close(fds[0]);
        (void) close(fds[1]);
}

static void test_children_of_a_killed_one(void **state) {
        struct statedir first = STATEDIR_INIT, second = STATEDIR_INIT;
        struct error e = ERROR_INIT;
        int status;
        pid_t pid;

        (void) state;
        assert_int_equal(statedir_open(&first, base, &e), 0);
        assert_int_equal(statedir_lock_children(&first, 0, &e), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                for (;;)
                        (void) pause(); /* a child that has the descriptor */
        }
        statedir_deinit(&first);
        assert_int_equal(statedir_open(&second, base, &e), 0);
        assert_int_equal(statedir_lock_children(&second, 0, &e), -EBUSY);
        assert_non_null(strstr(e.text, "still live"));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(statedir_lock_children(&second, 10 * NS_PER_S, &e), 0);
        statedir_deinit(&second);
}

static void test_use(void **state) {
        struct statedir s = STATEDIR_INIT;
        struct statedir_use before, after;
        struct error e = ERROR_INIT;
        static char block[1 << 16];
        char path[128];
        int fd;

        (void) state;
        assert_int_equal(statedir_open(&s, base, &e), 0);
        assert_int_equal(statedir_use(&s, &before), 0);
        assert_true(before.free_bytes > 0);
        assert_int_equal(mkdir(below("sub", path), 0700), 0);
        fd = open(below("sub/file", path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
        assert_int_equal(fsync(fd), 0); /* its blocks are allocated now */
        (void) close(fd);
        assert_int_equal(statedir_use(&s, &after), 0);
        assert_true(after.state_bytes >= before.state_bytes + sizeof(block));
        statedir_deinit(&s);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_made_when_missing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_unusable, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_second_azpard, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_owner_died_after_a_fork, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_children_of_a_killed_one, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_use, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
