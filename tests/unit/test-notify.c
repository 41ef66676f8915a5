/* SPDX-License-Identifier: MIT */
/*
 * What azpard tells systemd and gets from it: a datagram socket of our own as NOTIFY_SOCKET, which is read,
 * or full, or not there; descriptors passed to a process of our own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "daemon/notify.h"

static struct sockaddr_un address;
static char text[2048]; /* of the last message */
static int text_fd;     /* that came with it; -1: none */

/* Messages are kept as systemd does it: until somebody reads them, and only so many. */
static int bind_manager(void) {
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        (void) unlink(address.sun_path);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

static void set_address(void) {
        address.sun_family = AF_UNIX;
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/test-notify-%d", (int) getpid());
        assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
}

/* Return: whether there was a message; it is in @text then. */
static bool receive(int fd) {
        struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 4)];
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;

        text_fd = -1;
        text[MAX(n, 0)] = '\0';
        if (c) {
                assert_int_equal(c->cmsg_type, SCM_RIGHTS);
                assert_int_equal(c->cmsg_len, CMSG_LEN(sizeof(int)));
                memcpy(&text_fd, CMSG_DATA(c), sizeof(int));
        }
        return n >= 0;
}

static void expect(int fd, const char *wanted) {
        assert_true(receive(fd));
        assert_string_equal(text, wanted);
}

static void expect_nothing(int fd) {
        if (receive(fd))
                fail_msg("'%s' was sent", text);
}

static void init(struct notify *n) {
        struct error e = ERROR_INIT;

        set_address();
        assert_int_equal(notify_init(n, &e), 0);
        assert_null(getenv("NOTIFY_SOCKET"));
}

static void test_nobody(void **state) {
        struct error e = ERROR_INIT;
        struct notify n;

        (void) state;
        (void) unsetenv("NOTIFY_SOCKET");
        assert_int_equal(notify_init(&n, &e), 0);
        assert_int_equal(notify_watchdog_us(&n), 0);
        assert_int_equal(notify_take_control(&n), -1);
        assert_int_equal(notify_take_segment(&n), -1);
        notify_phase(&n, 1, "starting: x");
        notify_store_segment(&n, STDIN_FILENO);
        notify_ready(&n, "x");
        for (int i = 0; i < 10; i++) {
                notify_reloading(&n);
                notify_reloaded(&n, "x");
                notify_tick(&n, true, true);
        }
        notify_stopping(&n, "x");
        notify_forget_segment(&n);
        notify_flush(&n);
        assert_int_equal(n.fd, -1); /* not even a socket */
        notify_deinit(&n);
}

/* Start, run, reload, stop: what systemd hears, message by message. */
static void test_life(void **state) {
        int fd;
        struct notify n;
        uint64_t usec, before = clock_now_ns() / 1000;

        (void) state;
        set_address();
        fd = bind_manager();
        assert_int_equal(setenv("WATCHDOG_USEC", "30000000", 1), 0);
        (void) unsetenv("WATCHDOG_PID");
        init(&n);
        assert_null(getenv("WATCHDOG_USEC"));

        notify_phase(&n, 5000000, "starting: waiting");
        expect(fd, "STATUS=starting: waiting\nEXTEND_TIMEOUT_USEC=5000000\n");
        /* a reload before READY: the end of it would be taken for READY */
        notify_reloading(&n);
        notify_reloaded(&n, "x");
        expect_nothing(fd);
        notify_status(&n, "starting: still");
        expect_nothing(fd);
        notify_tick(&n, true, true);
        expect(fd, "STATUS=starting: still\nEXTEND_TIMEOUT_USEC=30000000\nWATCHDOG=1\n");
        notify_tick(&n, true, false); /* it does not get on: its time is up some day */
        expect(fd, "WATCHDOG=1\n");

        notify_ready(&n, "generation 1");
        expect(fd, "READY=1\nSTATUS=generation 1\n");
        notify_tick(&n, true, true);
        expect(fd, "WATCHDOG=1\n"); /* no more time: that would prolong RuntimeMaxSec= */
        notify_tick(&n, false, true);
        expect_nothing(fd);
        notify_watchdog(&n);
        expect(fd, "WATCHDOG=1\n");

        notify_reloading(&n);
        assert_true(receive(fd));
        assert_int_equal(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64 "\n", &usec), 1);
        assert_in_range(usec, before, clock_now_ns() / 1000);
        assert_non_null(strstr(text, "\nSTATUS=reloading"));
        notify_reloaded(&n, "generation 2");
        expect(fd, "READY=1\nSTATUS=generation 2\n");

        notify_stopping(&n, "stopping: x");
        expect(fd, "STOPPING=1\nSTATUS=stopping: x\nEXTEND_TIMEOUT_USEC=30000000\n");
        notify_tick(&n, true, true);
        expect(fd, "EXTEND_TIMEOUT_USEC=30000000\nWATCHDOG=1\n");
        notify_tick(&n, false, false);
        expect_nothing(fd);
        notify_deinit(&n);
        (void) close(fd);
}

/* What is often done is said once a second. */
static void test_steps(void **state) {
        int fd;
        struct notify n;
        unsigned n_said = 0;
        uint64_t begin = clock_now_ns(), seconds;

        (void) state;
        set_address();
        fd = bind_manager();
        init(&n);
        for (unsigned i = 0; i < 100000; i++) {
                notify_step(&n, "starting: counting", i, 200000);
                n_said += receive(fd);
        }
        seconds = (clock_now_ns() - begin) / NS_PER_S;
        assert_in_range(n_said, 1, 1 + seconds);
        n.stepped_ns = 0;
        notify_step(&n, "starting: counting", 50000, 200000);
        expect(fd, "STATUS=starting: counting, 25 %\nEXTEND_TIMEOUT_USEC=30000000\n");
        n.stepped_ns = 0;
        notify_step(&n, "starting: counting", 0, 0);
        expect(fd, "STATUS=starting: counting, 0 %\nEXTEND_TIMEOUT_USEC=30000000\n");
        notify_deinit(&n);
        (void) close(fd);
}

/* Text that came from a file must not become a field of its own. */
static void test_foreign_status(void **state) {
        char huge[2 * NOTIFY_STATUS_MAX];
        int fd;
        struct notify n;

        (void) state;
        set_address();
        fd = bind_manager();
        init(&n);
        notify_ready(&n, "bad\nMAINPID=1\x1b[2J \xc3\xa9");
        expect(fd, "READY=1\nSTATUS=bad?MAINPID=1?[2J ??\n");
        memset(huge, 'x', sizeof(huge) - 1);
        huge[sizeof(huge) - 1] = '\0';
        notify_stopping(&n, huge);
        assert_true(receive(fd));
        assert_int_equal(strspn(text + strlen("STOPPING=1\nSTATUS="), "x"), NOTIFY_STATUS_MAX - 1);
        assert_non_null(strstr(text, "x\nEXTEND_TIMEOUT_USEC="));
        notify_deinit(&n);
        (void) close(fd);
}

/* Fill the receiver's queue. Return: the number of messages in it. */
static unsigned fill(struct notify *n) {
        unsigned n_sent = 0;

        do {
                assert_in_range(n_sent, 0, 100000);
                notify_watchdog(n);
                n_sent++;
        } while (n->error == 0);
        assert_int_equal(n->error, -EAGAIN);
        return n_sent - 1;
}

/* Somebody does not read: nothing waits, and no change of state, no descriptor is forgotten. */
static void test_full(void **state) {
        int fd, file = memfd_create("test", MFD_CLOEXEC);
        struct notify n;
        unsigned n_filled;
        struct stat a, b;

        (void) state;
        assert_true(file >= 0);
        set_address();
        fd = bind_manager();
        init(&n);
        n_filled = fill(&n);
        notify_phase(&n, 1, "starting: x");
        notify_forget_segment(&n);
        notify_store_segment(&n, file);
        notify_ready(&n, "generation 1");
        notify_reloading(&n);
        notify_reloaded(&n, "generation 2");
        notify_tick(&n, true, true);
        notify_status(&n, "generation 3");
        for (unsigned i = 0; i < n_filled; i++)
                assert_true(receive(fd));
        expect_nothing(fd);

        notify_tick(&n, true, true);
        expect(fd, "FDSTOREREMOVE=1\nFDNAME=segment");
        expect(fd, "FDSTORE=1\nFDNAME=segment"); /* not the other way round */
        assert_int_equal(fstat(file, &a), 0);
        assert_int_equal(fstat(text_fd, &b), 0);
        assert_true(a.st_dev == b.st_dev && a.st_ino == b.st_ino);
        (void) close(text_fd);
        expect(fd, "READY=1");
        assert_true(receive(fd));
        assert_int_equal(strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
        assert_null(strstr(text, "READY=1"));
        expect(fd, "READY=1\nSTATUS=generation 3\n");
        notify_tick(&n, true, true);
        expect_nothing(fd); /* all is said, and no watchdog was asked for */
        notify_deinit(&n);
        (void) close(fd);
        (void) close(file);
}

/* However many reloads nobody hears of: the first READY and the last state are said. */
static void test_full_for_long(void **state) {
        unsigned n_filled, n_messages = 0;
        struct notify n;
        int fd;

        (void) state;
        set_address();
        fd = bind_manager();
        init(&n);
        n_filled = fill(&n);
        notify_ready(&n, "x");
        for (int i = 0; i < 1000; i++) {
                notify_reloading(&n);
                notify_reloaded(&n, "x");
        }
        notify_stopping(&n, "stopping: x");
        for (unsigned i = 0; i < n_filled; i++)
                assert_true(receive(fd));
        notify_flush(&n);
        expect(fd, "READY=1");
        while (receive(fd) && strncmp(text, "STOPPING=1\n", 11) != 0) {
                if (strncmp(text, n_messages++ % 2 ? "READY=1" : "RELOADING=1\n", 7) != 0)
                        fail_msg("'%s' in this place", text);
        }
        assert_in_range(n_messages, 0, NOTIFY_QUEUE_MAX);
        assert_int_equal(n_messages % 2, 0); /* each reload has an end */
        assert_int_equal(strncmp(text, "STOPPING=1\nSTATUS=stopping: x\n", 30), 0);
        expect_nothing(fd);
        notify_deinit(&n);
        (void) close(fd);
}

/* systemd's socket is not there for a while: what counts is said later; and the flush at the end has an end.
 */
static void test_absent(void **state) {
        struct notify n;
        uint64_t begin;
        int fd;

        (void) state;
        set_address();
        (void) unlink(address.sun_path);
        init(&n);
        notify_ready(&n, "x");
        assert_int_equal(n.error, -ENOENT);
        fd = bind_manager();
        (void) close(fd);
        notify_tick(&n, true, true);
        assert_int_equal(n.error, -ECONNREFUSED);
        begin = clock_now_ns();
        notify_flush(&n);
        assert_true(clock_now_ns() - begin >= NS_PER_S); /* it did wait */
        fd = bind_manager(); /* another one with the same name, as after a re-execution */
        notify_flush(&n);
        expect(fd, "READY=1\nSTATUS=x\n");
        notify_deinit(&n);
        (void) close(fd);
}

static void test_addresses(void **state) {
        static const char *const bad[] = { "", "vsock:2:1234", "relative", "@", "/" };
        struct sockaddr_un abstract = { .sun_family = AF_UNIX };
        char name[80], huge[200];
        struct error e = ERROR_INIT;
        struct notify n;
        socklen_t size;
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        (void) state;
        assert_true(fd >= 0);
        (void) snprintf(name, sizeof(name), "@test-notify-%d", (int) getpid());
        memcpy(abstract.sun_path + 1, name + 1, strlen(name) - 1);
        size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(name));
        assert_int_equal(bind(fd, (struct sockaddr *) &abstract, size), 0);
        (void) setenv("NOTIFY_SOCKET", name, 1);
        assert_int_equal(notify_init(&n, &e), 0);
        notify_ready(&n, "x");
        expect(fd, "READY=1\nSTATUS=x\n");
        notify_deinit(&n);
        (void) close(fd);

        memset(huge, 'x', sizeof(huge) - 1);
        huge[sizeof(huge) - 1] = '\0';
        huge[0] = '/';
        for (size_t i = 0; i <= N_ELEMENTS(bad); i++) {
                (void) setenv("NOTIFY_SOCKET", i < N_ELEMENTS(bad) ? bad[i] : huge, 1);
                assert_int_equal(notify_init(&n, &e), 0);
                assert_null(n.address);
                notify_ready(&n, "x");
                notify_deinit(&n);
        }
}

static uint64_t watchdog_us(const char *usec, const char *pid) {
        struct error e = ERROR_INIT;
        struct notify n;
        uint64_t result;

        set_address();
        (void) setenv("WATCHDOG_USEC", usec, 1);
        if (pid)
                (void) setenv("WATCHDOG_PID", pid, 1);
        else
                (void) unsetenv("WATCHDOG_PID");
        assert_int_equal(notify_init(&n, &e), 0);
        assert_null(getenv("WATCHDOG_USEC"));
        assert_null(getenv("WATCHDOG_PID"));
        result = n.watchdog_us > 0 ? 1 + notify_watchdog_us(&n) : 0;
        notify_deinit(&n);
        return result;
}

/* 0: none is wanted; 1: the tick feeds it; else 1 + how often it is fed beside the tick. */
static void test_watchdog_intervals(void **state) {
        char pid[16];

        (void) state;
        (void) snprintf(pid, sizeof(pid), "%d", (int) getpid());
        assert_int_equal(watchdog_us("30000000", pid), 1);
        assert_int_equal(watchdog_us("30000000", NULL), 1);
        assert_int_equal(watchdog_us("30000000", "1"), 0); /* somebody else's */
        assert_int_equal(watchdog_us("3000000", pid), 1);
        assert_int_equal(watchdog_us("2999999", pid), 1 + 999999);
        assert_int_equal(watchdog_us("300000", pid), 1 + 100000); /* at least twice per interval */
        assert_int_equal(watchdog_us("nonsense", pid), 0);
        assert_int_equal(watchdog_us("0", pid), 0);
}

/* ---- passed descriptors: in a process of their own, since they have fixed numbers ---- */

static int listening_socket(void) {
        struct sockaddr_un any = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &any, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(fd, 5), 0);
        return fd;
}

/* Run @check with @fds passed as systemd does it. Return: its exit status. */
static int with_passed(const int *fds, int n_fds, const char *count, const char *names,
                       int (*check)(const int *fds)) {
        int status, parked[16];
        char pid_text[16];
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                for (int i = 0; i < n_fds; i++)
                        parked[i] = fcntl(fds[i], F_DUPFD, 64);
                for (int i = 0; i < n_fds; i++)
                        (void) dup2(parked[i], 3 + i);
                (void) close_range((unsigned) (3 + n_fds), 63, 0);
                (void) snprintf(pid_text, sizeof(pid_text), "%d", (int) getpid());
                (void) setenv("LISTEN_PID", pid_text, 1);
                (void) setenv("LISTEN_FDS", count, 1);
                if (names)
                        (void) setenv("LISTEN_FDNAMES", names, 1);
                _exit(check(parked));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static bool is_open(int fd) {
        return fcntl(fd, F_GETFD) >= 0;
}

static bool is_same(int a, int b) {
        struct stat x, y;

        return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* 0: control, segment, another, a second control, a second segment. */
static int check_all(const int *fds) {
        struct error e = ERROR_INIT;
        struct notify n;
        int fd;

        if (notify_init(&n, &e) < 0)
                return 1;
        if (getenv("LISTEN_FDS") || getenv("LISTEN_PID") || getenv("LISTEN_FDNAMES"))
                return 2;
        if (is_open(5) || is_open(6) || !(fcntl(3, F_GETFD) & FD_CLOEXEC) ||
            !(fcntl(4, F_GETFD) & FD_CLOEXEC))
                return 3;
        fd = notify_take_control(&n);
        if (fd != 3 || !is_same(fd, fds[0]) || notify_take_control(&n) != -1)
                return 4;
        fd = notify_take_segment(&n);
        if (fd != 7 || !is_same(fd, fds[4])) /* systemd passes the youngest one first */
                return 5;
        fd = notify_take_segment(&n);
        if (fd != 4 || !is_same(fd, fds[1]) || notify_take_segment(&n) != -1)
                return 6;
        notify_deinit(&n);
        return is_open(3) && is_open(4) && is_open(7) ? 0 : 7; /* the caller's now */
}

/* What nobody took is closed at the end. */
static int check_closed(const int *fds) {
        struct error e = ERROR_INIT;
        struct notify n;

        (void) fds;
        if (notify_init(&n, &e) < 0)
                return 1;
        notify_deinit(&n);
        return is_open(3) || is_open(4) ? 2 : 0;
}

static int check_refused(const int *fds) {
        struct error e = ERROR_INIT;
        struct notify n;
        int r = notify_init(&n, &e);

        (void) fds;
        notify_deinit(&n);
        if (r >= 0)
                return 1;
        return strstr(e.text, "LISTEN_FDS") && !getenv("LISTEN_FDS") ? 0 : 2;
}

static int check_too_many(const int *fds) {
        struct error e = ERROR_INIT;
        struct notify n;
        unsigned n_taken = 0;

        (void) fds;
        if (notify_init(&n, &e) < 0)
                return 1;
        while (notify_take_segment(&n) >= 0)
                n_taken++;
        return n_taken == NOTIFY_SEGMENTS_MAX && !is_open(3 + NOTIFY_SEGMENTS_MAX) ? 0 : 2;
}

static void test_passed(void **state) {
        int control = listening_socket(), file = memfd_create("one", MFD_CLOEXEC),
            other = memfd_create("two", MFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC), many[9];

        (void) state;
        assert_true(file >= 0 && other >= 0 && null >= 0);
        assert_int_equal(with_passed((int[]){ control, file, null, control, other }, 5, "5",
                                     "control:segment:stored:control:segment", check_all),
                         0);
        assert_int_equal(with_passed((int[]){ control, file }, 2, "2", "control:segment", check_closed), 0);
        assert_int_equal(with_passed((int[]){ control, file }, 2, "2", NULL, check_closed), 0);
        for (int i = 0; i < 9; i++)
                many[i] = file;
        assert_int_equal(
                with_passed(many, 9, "9",
                            "segment:segment:segment:segment:segment:segment:segment:segment:segment",
                            check_too_many),
                0);
        /* a supervisor that lies */
        assert_int_equal(with_passed((int[]){ control }, 1, "3", "control:segment:x", check_refused), 0);
        assert_int_equal(with_passed((int[]){ control, file }, 2, "2", "control", check_refused), 0);
        assert_int_equal(with_passed((int[]){ control }, 1, "nonsense", "control", check_refused), 0);
        assert_int_equal(with_passed((int[]){ control }, 1, "-1", "control", check_refused), 0);
        (void) close(control);
        (void) close(file);
        (void) close(other);
        (void) close(null);
}

static int tear_down(void **state) {
        (void) state;
        (void) unlink(address.sun_path);
        (void) unsetenv("NOTIFY_SOCKET");
        return 0;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_nobody, tear_down),
                cmocka_unit_test_teardown(test_life, tear_down),
                cmocka_unit_test_teardown(test_steps, tear_down),
                cmocka_unit_test_teardown(test_foreign_status, tear_down),
                cmocka_unit_test_teardown(test_full, tear_down),
                cmocka_unit_test_teardown(test_full_for_long, tear_down),
                cmocka_unit_test_teardown(test_absent, tear_down),
                cmocka_unit_test_teardown(test_addresses, tear_down),
                cmocka_unit_test_teardown(test_watchdog_intervals, tear_down),
                cmocka_unit_test_teardown(test_passed, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
