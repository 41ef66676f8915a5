/* SPDX-License-Identifier: MIT */
/*
 * Log lines: on a plain stderr, on the journal's, and as entries sent to a socket that stands for journald's.
 * What is sent is compared byte by byte with what libsystemd sends for the same fields.
 */
#include "common/base/log.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>
#include "common/base/clock.h"
#include "common/base/journal.h"

#define LIMIT_S 60 /* whoever waits for ever is killed by SIGALRM */

static char folder[64], socket_path[96];
static int journald = -1;                   /* the socket that stands for journald's */
static int stderr_reader = -1, real_stderr; /* our stderr's other end; what it was */

/* ---- stderr ---- */

static void take_stderr(int writer, int reader) {
        assert_true(dup2(writer, STDERR_FILENO) == STDERR_FILENO);
        assert_int_equal(close(writer), 0);
        stderr_reader = reader;
}

static void give_stderr_back(void) {
        (void) dup2(real_stderr, STDERR_FILENO);
        fd_closep(&stderr_reader);
        stderr_reader = -1;
}

static void set_journal_stream(void) {
        char stream[64];
        struct stat st;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        (void) snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
}

/* stderr is a stream socket, as systemd connects it. */
static void connect_stderr(void) {
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        take_stderr(pair[0], pair[1]);
        set_journal_stream();
}

/* All that was written to stderr since. */
static const char *written(void) {
        static char text[8192];
        ssize_t n;

        assert_int_equal(fcntl(stderr_reader, F_SETFL, O_NONBLOCK), 0);
        n = read(stderr_reader, text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = '\0';
        return text;
}

/* ---- what stands for journald ---- */

struct entry {
        char bytes[16384];
        size_t n_bytes;
};

static bool receive(struct entry *e) {
        ssize_t n = recv(journald, e->bytes, sizeof(e->bytes), MSG_DONTWAIT);

        e->n_bytes = n > 0 ? (size_t) n : 0;
        return n > 0;
}

/* The next field from *@at on, into @name and *@ret_value. Return: false at the end. */
static bool next_field(const struct entry *e, size_t *at, char name[64], const char **ret_value,
                       size_t *ret_n_bytes) {
        size_t n = strcspn(e->bytes + *at, "=\n");
        uint64_t le_length;

        if (*at >= e->n_bytes)
                return false;
        assert_true(n > 0 && n < 64 && *at + n < e->n_bytes);
        (void) snprintf(name, 64, "%.*s", (int) n, e->bytes + *at);
        *at += n + 1;
        if (e->bytes[*at - 1] == '=') {
                *ret_n_bytes = strcspn(e->bytes + *at, "\n");
        } else {
                memcpy(&le_length, e->bytes + *at, sizeof(le_length));
                *ret_n_bytes = le64toh(le_length);
                *at += sizeof(le_length);
        }
        *ret_value = e->bytes + *at;
        assert_true(*at + *ret_n_bytes < e->n_bytes);
        *at += *ret_n_bytes;
        assert_int_equal(e->bytes[(*at)++], '\n');
        return true;
}

/* The value of a field that is there once; NULL: it is not there. */
static const char *field(const struct entry *e, const char *wanted) {
        static char values[8][4096];
        static unsigned n_asked;
        char *found = NULL, name[64];
        size_t at = 0, n_bytes;
        const char *value;

        while (next_field(e, &at, name, &value, &n_bytes)) {
                if (strcmp(name, wanted) != 0)
                        continue;
                assert_null(found);
                found = values[n_asked++ % N_ELEMENTS(values)];
                (void) snprintf(found, sizeof(values[0]), "%.*s", (int) n_bytes, value);
        }
        return found;
}

static unsigned count_fields(const struct entry *e) {
        size_t at = 0, n_bytes;
        const char *value;
        unsigned n = 0;
        char name[64];

        while (next_field(e, &at, name, &value, &n_bytes))
                n++;
        return n;
}

static void open_journald(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        journald = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(journald >= 0);
        (void) strcpy(address.sun_path, socket_path);
        assert_int_equal(bind(journald, (struct sockaddr *) &address, sizeof(address)), 0);
}

static void close_journald(void) {
        fd_closep(&journald);
        journald = -1;
        (void) unlink(socket_path);
}

/* A program of the service, whose log goes to our socket. */
static int begin_service(void **state) {
        (void) state;
        (void) alarm(LIMIT_S);
        connect_stderr();
        open_journald();
        assert_int_equal(setenv(LOG_INSTANCE_VARIABLE, "inst", 1), 0);
        log_open("test-log", LOG_LEVEL_INFO);
        log_to_journal(socket_path);
        return 0;
}

static int end_service(void **state) {
        (void) state;
        give_stderr_back();
        close_journald();
        journal_close();
        (void) unsetenv("JOURNAL_STREAM");
        (void) unsetenv(LOG_INSTANCE_VARIABLE);
        log_open("test-log", LOG_LEVEL_INFO);
        return 0;
}

/* ---- stderr, with and without systemd ---- */

static int begin_plain(void **state) {
        int pair[2];

        (void) state;
        (void) alarm(LIMIT_S);
        assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
        take_stderr(pair[1], pair[0]);
        (void) unsetenv("JOURNAL_STREAM");
        return 0;
}

static void test_plain(void **state) {
        (void) state;
        log_open("prog", LOG_LEVEL_INFO);
        log_to_journal(socket_path); /* there is no journal: changes nothing */
        log_notice("%d games", 3);
        assert_string_equal(written(), "prog: 3 games\n");
        log_event(LOG_EVENT_PAUSED, LOG_FIELDS(LOG_NUMBER(WORKER, 1)), "paused %s", "now");
        assert_string_equal(written(), "prog: paused now\n");
        log_debug("too much");
        assert_string_equal(written(), "");
        log_open("prog", LOG_LEVEL_ERROR);
        log_warning("not that bad");
        log_event(LOG_EVENT_DEGRADED, LOG_NO_FIELDS, "a warning, too");
        assert_string_equal(written(), "");
        log_event(LOG_EVENT_FAILED, LOG_NO_FIELDS, "an error");
        assert_string_equal(written(), "prog: an error\n");
}

/* Neither a name nor a text from elsewhere makes a second line, or steers a terminal. */
static void test_one_line(void **state) {
        (void) state;
        log_open("prog", LOG_LEVEL_INFO);
        log_info("file '%s'", "a\n<0>prog: b\r\033[2J\177\tc");
        assert_string_equal(written(), "prog: file 'a <0>prog: b??[2J?\tc'\n");
        log_info("usage: one\ntwo\n");
        assert_string_equal(written(), "prog: usage: one two\n");
        log_info("gr\xc3\xbc\xc3\x9f"
                 "e");
        assert_string_equal(written(), "prog: gr\xc3\xbc\xc3\x9f"
                                       "e\n");
        log_info("%s", "");
        assert_string_equal(written(), "prog: \n");
}

/* JOURNAL_STREAM of somebody else, whose stderr was redirected to ours. */
static void test_redirected(void **state) {
        (void) state;
        assert_int_equal(setenv("JOURNAL_STREAM", "1:2", 1), 0);
        log_open("prog", LOG_LEVEL_INFO);
        log_info("text");
        assert_string_equal(written(), "prog: text\n");
        assert_int_equal(setenv("JOURNAL_STREAM", "nonsense", 1), 0);
        log_open("prog", LOG_LEVEL_INFO);
        log_info("text");
        assert_string_equal(written(), "prog: text\n");
}

/* A program that is not of the service, such as azparctl: lines with levels, on stderr. */
static void test_levels(void **state) {
        struct entry e;

        (void) state;
        log_open("azparctl", LOG_LEVEL_INFO);
        log_error("text");
        assert_string_equal(written(), "<3>text\n");
        log_event(LOG_EVENT_DEGRADED, LOG_NO_FIELDS, "two\nlines");
        assert_string_equal(written(), "<4>two lines\n");
        assert_false(receive(&e));
}

/* ---- entries ---- */

static void test_entry(void **state) {
        struct entry e;

        (void) state;
        log_event(LOG_EVENT_CHILD_CRASHED,
                  LOG_FIELDS(LOG_TEXT(CHILD, "worker 3"), LOG_NUMBER(WORKER, 3), LOG_TEXT(REASON, "a=b")),
                  "%s: %s", "worker 3", "signal 9");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "PRIORITY"), "4");
        assert_string_equal(field(&e, "SYSLOG_IDENTIFIER"), "test-log");
        assert_string_equal(field(&e, "MESSAGE"), "worker 3: signal 9");
        assert_int_equal(strlen(field(&e, "MESSAGE_ID")), 32);
        assert_string_equal(field(&e, "AZPAR_INSTANCE"), "inst");
        assert_string_equal(field(&e, "AZPAR_CHILD"), "worker 3");
        assert_string_equal(field(&e, "AZPAR_WORKER"), "3");
        assert_string_equal(field(&e, "AZPAR_REASON"), "a=b");
        assert_int_equal(count_fields(&e), 8);
        assert_false(receive(&e));
        assert_string_equal(written(), ""); /* not twice */

        log_info("of no kind");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "PRIORITY"), "6");
        assert_string_equal(field(&e, "MESSAGE"), "of no kind");
        assert_null(field(&e, "MESSAGE_ID"));
        assert_int_equal(count_fields(&e), 4);

        log_debug("too much");
        assert_false(receive(&e));
}

static void test_default_fields(void **state) {
        char name[] = "worker 5";
        struct entry e;

        (void) state;
        log_set_fields(LOG_FIELDS(LOG_NUMBER(WORKER, 0), LOG_NUMBER(GENERATION, UINT64_MAX)));
        log_info("text");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "AZPAR_WORKER"), "0");
        assert_string_equal(field(&e, "AZPAR_GENERATION"), "18446744073709551615");

        /* the line's own before the default, and what is not set stays */
        log_set_fields(LOG_FIELDS(LOG_NUMBER(GENERATION, 7), LOG_TEXT(CHILD, name)));
        (void) strcpy(name, "gone");
        log_event(LOG_EVENT_PAUSED, LOG_FIELDS(LOG_NUMBER(GENERATION, 8), LOG_NUMBER_IF(false, WORKER, 9)),
                  "x");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "AZPAR_WORKER"), "0");
        assert_string_equal(field(&e, "AZPAR_GENERATION"), "8");
        assert_string_equal(field(&e, "AZPAR_CHILD"), "worker 5");
        log_event(LOG_EVENT_PAUSED, LOG_FIELDS(LOG_NUMBER_IF(true, WORKER, 9)), "x");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "AZPAR_WORKER"), "9");
        assert_string_equal(field(&e, "AZPAR_GENERATION"), "7");
}

/* Text that looks like other fields stays a value. */
static void test_line_breaks(void **state) {
        static const char evil[] = "one\nPRIORITY=0\n_UID=0\n\nMESSAGE_ID=x";
        struct entry e;

        (void) state;
        log_event(LOG_EVENT_FILE_REJECTED, LOG_FIELDS(LOG_TEXT(FILE, evil), LOG_TEXT(REASON, "=\n=")),
                  "a=%s\n\n", evil);
        assert_true(receive(&e));
        assert_string_equal(field(&e, "MESSAGE") + 2, evil);
        assert_string_equal(field(&e, "AZPAR_FILE"), evil);
        assert_string_equal(field(&e, "AZPAR_REASON"), "=\n=");
        assert_string_equal(field(&e, "PRIORITY"), "4");
        assert_null(field(&e, "_UID"));
}

/* Longer than a line: cut, and between two characters. */
static void test_long(void **state) {
        char text[8001], path[PATH_MAX];
        const char *message;
        struct entry e;
        size_t n;

        (void) state;
        for (size_t shift = 0; shift < 3; shift++) {
                memset(text, 'x', sizeof(text) - 1);
                text[sizeof(text) - 1] = '\0';
                for (size_t i = shift; i + 3 < sizeof(text); i += 3)
                        memcpy(text + i, "\xe2\x82\xac", 3); /* the sign of the euro */
                log_info("%s", text);
                assert_true(receive(&e));
                message = field(&e, "MESSAGE");
                n = strlen(message);
                assert_true(n > 1900 && n < 2048);
                assert_string_equal(message + n - 3, "...");
                assert_memory_equal(message, text, n - 3);
                assert_int_equal((n - 3 - shift) % 3, 0);
        }
        memset(path, 'p', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        log_event(LOG_EVENT_FILE_REJECTED, LOG_FIELDS(LOG_TEXT(FILE, path), LOG_TEXT(REASON, path)), "%s",
                  text);
        assert_true(receive(&e)); /* the longest that is likely still fits a datagram */
        assert_string_equal(field(&e, "AZPAR_FILE"), path);
}

static void test_ids(void **state) {
        static const char *const ids[] = {
#define X(name, level, id, meaning) id,
#include "common/base/log_events.inc"
#undef X
        };
        struct entry e;

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(ids); i++) {
                assert_int_equal(strlen(ids[i]), 32);
                assert_int_equal(strspn(ids[i], "0123456789abcdef"), 32);
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(ids[i], ids[k]);
                log_event((enum log_event) i, LOG_NO_FIELDS, "text");
                if (receive(&e))
                        assert_string_equal(field(&e, "MESSAGE_ID"), ids[i]);
        }
}

/* ---- a journal that does not take it ---- */

static void test_nobody(void **state) {
        struct entry e;

        (void) state;
        close_journald(); /* no socket */
        log_event(LOG_EVENT_DEGRADED, LOG_NO_FIELDS, "first");
        assert_string_equal(written(), "<4>first\n");
        open_journald();
        log_info("second"); /* journald was started anew */
        assert_string_equal(written(), "");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "MESSAGE"), "second");
        fd_closep(&journald); /* a socket that nobody has open */
        journald = -1;
        log_info("third");
        assert_string_equal(written(), "<6>third\n");
}

/* The pipe to a reader that has gone is no reason to die. */
static void test_nobody_at_all(void **state) {
        struct entry e;

        (void) state;
        close_journald();
        fd_closep(&stderr_reader);
        stderr_reader = -1;
        for (int i = 0; i < 3; i++)
                log_info("lost");
        open_journald();
        log_info("here");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "AZPAR_LINES"), "3");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "MESSAGE"), "here");
}

/* journald hangs: no line waits, and each arrives by one way or the other or is counted. */
static void test_hung(void **state) {
        enum { N = 20000 };
        unsigned n_entries = 0, n_lines = 0, n_lost;
        char c[4096];
        struct entry e;
        ssize_t n;

        (void) state;
        for (int i = 0; i < N; i++)
                log_info("line %d, with something behind it so that buffers are full sooner", i);
        while (receive(&e))
                n_entries++;
        assert_int_equal(fcntl(stderr_reader, F_SETFL, O_NONBLOCK), 0);
        while ((n = read(stderr_reader, c, sizeof(c))) > 0)
                for (ssize_t i = 0; i < n; i++)
                        n_lines += c[i] == '\n';
        assert_true(n_entries > 0 && n_lines > 0 && n_entries + n_lines < N);

        log_info("journald works again");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "PRIORITY"), "4");
        n_lost = (unsigned) strtoul(field(&e, "AZPAR_LINES"), NULL, 10);
        assert_int_equal(n_entries + n_lines + n_lost, N);
        assert_true(receive(&e));
        assert_string_equal(field(&e, "MESSAGE"), "journald works again");
        log_info("once");
        assert_true(receive(&e));
        assert_string_equal(field(&e, "MESSAGE"), "once");
}

/* ---- the end ---- */

static void *read_all(void *n_to_read) {
        struct entry e;

        for (unsigned i = 0; i < *(unsigned *) n_to_read; i++)
                if (recv(journald, e.bytes, sizeof(e.bytes), 0) <= 0)
                        break;
        return NULL;
}

static void test_drain(void **state) {
        unsigned n = 5;
        pthread_t reader;
        struct entry e;

        (void) state;
        journal_drain(60 * NS_PER_S); /* nothing to wait for */
        for (unsigned i = 0; i < n; i++)
                log_info("entry %u", i);
        journal_drain(NS_PER_MS); /* nobody reads: it gives up */
        assert_int_equal(pthread_create(&reader, NULL, read_all, &n), 0);
        journal_drain(UINT64_MAX); /* SIGALRM comes before that */
        assert_false(receive(&e));
        assert_int_equal(pthread_join(reader, NULL), 0);
}

/* What was lost is told at the end at the latest. */
static void test_told_at_exit(void **state) {
        struct entry e;
        int status = 0;
        pid_t pid;

        (void) state;
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                char moved[128];

                (void) snprintf(moved, sizeof(moved), "%s.moved", socket_path);
                (void) rename(socket_path, moved);
                (void) shutdown(STDERR_FILENO, SHUT_RDWR);
                log_info("lost");
                (void) rename(moved, socket_path);
                exit(0);
        }
        assert_true(waitpid(pid, &status, 0) == pid);
        assert_int_equal(status, 0);
        assert_true(receive(&e));
        assert_string_equal(field(&e, "AZPAR_LINES"), "1");
}

/* ---- the same fields by libsystemd ---- */

/* In a mount namespace of our own, journald's socket at its fixed path. Return: false if that is not allowed.
 */
static bool become_journald(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };

        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0 || mkdir("/run/systemd", 0755) < 0 ||
            mkdir("/run/systemd/journal", 0755) < 0)
                return false;
        journald = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        return journald >= 0 && bind(journald, (struct sockaddr *) &address, sizeof(address)) == 0;
}

static struct iovec text_iovec(char *text) {
        return (struct iovec){ .iov_base = text, .iov_len = strlen(text) };
}

/* In a child, whose exit status is the result: 0 the same, 1 different, 2 not allowed. */
static int compare_with_libsystemd(void) {
        char priority[] = "PRIORITY=5", identifier[] = "SYSLOG_IDENTIFIER=test-log",
             message[] = "MESSAGE=a=b\nc=d\n\ne", id[64], instance[] = "AZPAR_INSTANCE=inst",
             reason[] = "AZPAR_REASON=\n";
        struct entry ours = { .n_bytes = 0 }, theirs = { .n_bytes = 0 };
        struct iovec fields[6];

        if (!become_journald())
                return 2;
        log_to_journal(JOURNAL_SOCKET);
        log_event(LOG_EVENT_PAUSED, LOG_FIELDS(LOG_TEXT(REASON, "\n")), "a=b\nc=d\n\ne");
        if (!receive(&ours) || !field(&ours, "MESSAGE_ID"))
                return 1;
        (void) snprintf(id, sizeof(id), "MESSAGE_ID=%s", field(&ours, "MESSAGE_ID"));
        fields[0] = text_iovec(priority);
        fields[1] = text_iovec(identifier);
        fields[2] = text_iovec(message);
        fields[3] = text_iovec(id);
        fields[4] = text_iovec(instance);
        fields[5] = text_iovec(reason);
        if (sd_journal_sendv(fields, 6) < 0 || !receive(&theirs))
                return 1;
        return ours.n_bytes != theirs.n_bytes || memcmp(ours.bytes, theirs.bytes, ours.n_bytes) != 0;
}

static void test_as_libsystemd(void **state) {
        int status = 0;
        pid_t pid;

        (void) state;
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(compare_with_libsystemd());
        assert_true(waitpid(pid, &status, 0) == pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 2) {
                (void) printf("not compared with libsystemd: it takes root to make a mount namespace\n");
                skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_plain, begin_plain, end_service),
                cmocka_unit_test_setup_teardown(test_one_line, begin_plain, end_service),
                cmocka_unit_test_setup_teardown(test_redirected, begin_plain, end_service),
                cmocka_unit_test_setup_teardown(test_levels, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_entry, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_line_breaks, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_as_libsystemd, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_long, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_ids, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_nobody, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_nobody_at_all, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_hung, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_drain, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_told_at_exit, begin_service, end_service),
                cmocka_unit_test_setup_teardown(test_default_fields, begin_service,
                                                end_service), /* they stay */
        };
        int n_failed;

        real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
        (void) strcpy(folder, "/tmp/azpar-test-log.XXXXXX");
        if (real_stderr < 0 || !mkdtemp(folder))
                return EXIT_FAILURE;
        (void) snprintf(socket_path, sizeof(socket_path), "%s/journal", folder);
        n_failed = cmocka_run_group_tests(tests, NULL, NULL);
        (void) unlink(socket_path);
        (void) rmdir(folder);
        return n_failed;
}
