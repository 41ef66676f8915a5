/* SPDX-License-Identifier: MIT */
/*
 * The shared-memory segment: who maps what, what is refused and why, and that no wake-up is ever lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/rng.h"
#include "common/exchange/segment.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define N_WAKE_UPS 20000u
#else
#define N_WAKE_UPS 30000u
#endif

#define N_WORKERS  3u
#define LANE_BYTES 8192u
#define RULES      "gomoku:15x15:5:freestyle:draw0"
#define STATE      "/var/lib/azpar/test"

static char instance[32], name[40];

static int setup(void **state) {
        (void) state;
        (void) snprintf(instance, sizeof(instance), "test-%d", (int) getpid());
        (void) snprintf(name, sizeof(name), "/azpar.%s", instance);
        (void) shm_unlink(name);
        return 0;
}

static int teardown(void **state) {
        (void) state;
        (void) shm_unlink(name);
        return 0;
}

static struct segment *create(void) {
        struct error e = ERROR_INIT;
        struct segment *s;

        if (segment_create(instance, N_WORKERS, LANE_BYTES, RULES, STATE, &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static struct segment *map_worker(const struct segment *s, uint32_t slot) {
        struct error e = ERROR_INIT;
        struct segment *w;

        if (segment_map_worker(dup(s->fd), slot, &w, &e) < 0)
                fail_msg("%s", e.text);
        return w;
}

/* @r is -@errno_wanted, and the text names the object and says @text. */
static void check_error(int r, int errno_wanted, const struct error *e, const char *text) {
        assert_int_equal(r, -errno_wanted);
        if (!strstr(e->text, text))
                fail_msg("'%s' does not speak of '%s'", e->text, text);
}

static bool name_exists(void) {
        cleanup_(fd_closep) int fd = shm_open(name, O_RDONLY, 0);

        return fd >= 0;
}

static void test_create(void **state) {
        cleanup_(segment_freep) struct segment *s = create();
        struct error e = ERROR_INIT;
        struct segment *other;
        struct stat st;

        (void) state;
        assert_int_equal(fstat(s->fd, &st), 0);
        assert_int_equal(st.st_size, 4096 * 2 + N_WORKERS * (4096 + LANE_BYTES));
        assert_true((uint64_t) st.st_blocks * 512 >= (uint64_t) st.st_size); /* no SIGBUS later */
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(fcntl(s->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_memory_equal(s->header, "azrseg1", 8);
        assert_int_equal(s->n_workers, N_WORKERS);
        assert_string_equal(s->header->rules, RULES);
        assert_string_equal(s->header->state_path, STATE);
        assert_int_equal(atomic_load(&s->header->n_desired), N_WORKERS);
        for (uint32_t i = 0; i < N_WORKERS; i++) {
                assert_ptr_equal(s->workers[i], (char *) s->header + 8192 + i * (4096 + LANE_BYTES));
                assert_ptr_equal(s->lanes[i].data, (char *) s->workers[i] + 4096);
                assert_int_equal(s->lanes[i].size, LANE_BYTES);
        }
        check_error(segment_create(instance, 1, LANE_BYTES, RULES, STATE, &other, &e), EEXIST, &e, instance);
        assert_true(name_exists());
        assert_int_equal(segment_unlink(instance), 0);
        assert_int_equal(segment_unlink(instance), -ENOENT);
}

/* What one azpard left, its successor finds: the very same bytes. */
static void test_open_after_a_crash(void **state) {
        struct segment *s = create();
        struct error e = ERROR_INIT;
        unsigned char buf[16];
        uint32_t length;
        uint64_t next;

        (void) state;
        atomic_store(&s->header->generation, 17);
        assert_int_equal(lane_write(&s->lanes[2], "committed", 9), 0);
        segment_free(s);
        assert_int_equal(segment_open(instance, STATE, &s, &e), 0);
        assert_int_equal(s->n_workers, N_WORKERS);
        assert_int_equal(s->lane_bytes, LANE_BYTES);
        assert_int_equal(atomic_load(&s->header->generation), 17);
        assert_int_equal(lane_read(&s->lanes[2], buf, sizeof(buf), &length, &next), 0);
        assert_int_equal(length, 9);
        assert_memory_equal(buf, "committed", 9);
        segment_free(s);
}

/* The same by a descriptor that somebody kept, with and without a name. */
static void test_open_what_was_kept(void **state) {
        struct segment *s = create();
        int fd = dup(s->fd), other = memfd_create("other", MFD_CLOEXEC), read_only, ends[2];
        char path[64];
        struct error e = ERROR_INIT;

        (void) state;
        assert_int_equal(lane_write(&s->lanes[1], "committed", 9), 0);
        assert_true(segment_has_name(fd, instance));
        assert_false(segment_has_name(other, instance));
        assert_false(segment_has_name(fd, "test-none"));
        assert_false(segment_has_name(fd, "no/name"));
        segment_free(s);
        assert_int_equal(segment_unlink(instance), 0);
        assert_false(segment_has_name(fd, instance));
        s = create(); /* another one, with the name */
        assert_false(segment_has_name(fd, instance));
        segment_free(s);

        assert_int_equal(segment_open_fd(dup(fd), &s, &e), 0);
        assert_int_equal(s->n_workers, N_WORKERS);
        assert_string_equal(s->header->state_path, STATE);
        assert_true(lane_used(&s->lanes[1]) >= 9);
        segment_free(s);

        /* what is no segment */
        check_error(segment_open_fd(dup(other), &s, &e), ESTALE, &e, "stored shared memory: its creation");
        assert_int_equal(write(other, "#!/bin/sh\n", 10), 10);
        check_error(segment_open_fd(other, &s, &e), EBADMSG, &e, "not a segment of azpar");
        assert_null(strstr(e.text, "remove")); /* it has no name by which it could be */
        assert_int_equal(fcntl(other, F_GETFD), -1);
        check_error(segment_open_fd(open("/dev/null", O_RDWR | O_CLOEXEC), &s, &e), EBADMSG, &e, "no file");
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        check_error(segment_open_fd(ends[0], &s, &e), EBADMSG, &e, "no file");
        (void) close(ends[1]);
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        read_only = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(read_only >= 0);
        check_error(segment_open_fd(read_only, &s, &e), EBADMSG, &e, "not open for reading and writing");
        assert_int_equal(segment_open_fd(-1, &s, &e), -EBADF);

        /* taken in: nobody finds anything in it any more, and its memory is free */
        assert_int_equal(segment_open_fd(dup(fd), &s, &e), 0);
        segment_empty(s);
        segment_free(s);
        check_error(segment_open_fd(fd, &s, &e), ESTALE, &e, "never finished");
}

static void test_each_maps_its_own(void **state) {
        cleanup_(segment_freep) struct segment *s = create(), *trainer = NULL;
        struct error e = ERROR_INIT;

        (void) state;
        for (uint32_t slot = 0; slot < N_WORKERS; slot++) {
                cleanup_(segment_freep) struct segment *w = map_worker(s, slot);

                assert_false(w->writable);
                assert_null(w->trainer);
                for (uint32_t i = 0; i < SEGMENT_MAX_WORKERS; i++)
                        assert_true((w->workers[i] != NULL) == (i == slot));
                atomic_store(&w->workers[slot]->games, 100 + slot);
                assert_int_equal(lane_write(&w->lanes[slot], &slot, sizeof(slot)), 0);
        }
        for (uint32_t slot = 0; slot < N_WORKERS; slot++) {
                unsigned char buf[8];
                uint32_t length;
                uint64_t next;

                assert_int_equal(atomic_load(&s->workers[slot]->games), 100 + slot);
                assert_int_equal(lane_read(&s->lanes[slot], buf, sizeof(buf), &length, &next), 0);
                assert_memory_equal(buf, &slot, sizeof(slot));
        }
        assert_int_equal(segment_map_trainer(dup(s->fd), &trainer, &e), 0);
        assert_null(trainer->workers[0]);
        atomic_store(&trainer->trainer->step, 5);
        assert_int_equal(atomic_load(&s->trainer->step), 5);
        atomic_store(&s->header->stop, 1);
        assert_int_equal(atomic_load(&trainer->header->stop), 1);
}

/* In a child: the store at @p; how it ended. */
static int signal_of_store(volatile unsigned char *p) {
        const struct rlimit no_core = { 0, 0 };
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                (void) setrlimit(RLIMIT_CORE, &no_core);
                (void) signal(SIGSEGV, SIG_DFL); /* a sanitizer would report it */
                *p = 1;
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_header_is_read_only_in_children(void **state) {
        cleanup_(segment_freep) struct segment *s = create(), *w = map_worker(s, 1);

        (void) state;
        assert_int_equal(signal_of_store((unsigned char *) w->workers[1]), 0); /* the test can tell */
        assert_int_equal(signal_of_store((unsigned char *) w->header), SIGSEGV);
}

static void test_bad_slot_and_bad_descriptor(void **state) {
        cleanup_(segment_freep) struct segment *s = create();
        struct error e = ERROR_INIT;
        struct segment *w;
        int fd = dup(s->fd);

        (void) state;
        check_error(segment_map_worker(fd, N_WORKERS, &w, &e), EINVAL, &e, "slot 3");
        assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken over all the same */
        check_error(segment_map_worker(dup(s->fd), UINT32_MAX, &w, &e), EINVAL, &e, "slot");
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        check_error(segment_map_trainer(fd, &w, &e), ESTALE, &e, "never finished");
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        assert_int_equal(segment_map_trainer(-1, &w, &e), -EBADF);
}

static void test_bad_names(void **state) {
        static const char *const bad[] = { "", "a/b", "/", "a b", "a\n", "\xc3\xa4", "a%s" };
        char long_name[SEGMENT_NAME_MAX + 1];
        struct error e = ERROR_INIT;
        struct segment *s;

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                check_error(segment_create(bad[i], 1, LANE_BYTES, RULES, STATE, &s, &e), EINVAL, &e,
                            "instance");
                check_error(segment_open(bad[i], STATE, &s, &e), EINVAL, &e, "instance");
                assert_int_equal(segment_unlink(bad[i]), -EINVAL);
        }
        memset(long_name, 'x', SEGMENT_NAME_MAX);
        long_name[SEGMENT_NAME_MAX] = 0;
        check_error(segment_create(long_name, 1, LANE_BYTES, RULES, STATE, &s, &e), ENAMETOOLONG, &e,
                    "too long");
        check_error(segment_open("test-none", STATE, &s, &e), ENOENT, &e, "test-none");
}

static void test_bad_arguments(void **state) {
        static const struct {
                uint32_t n_workers;
                uint64_t lane_bytes;
        } bad[] = { { 0, 4096 },
                    { SEGMENT_MAX_WORKERS + 1, 4096 },
                    { 1, 0 },
                    { 1, 4095 },
                    { 1, 2048 },
                    { 1, 12288 },
                    { 1, UINT64_C(1) << 41 },
                    { 256, UINT64_C(1) << 63 } };
        char long_text[2000];
        struct error e = ERROR_INIT;
        struct segment *s;

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(bad); i++)
                check_error(
                        segment_create(instance, bad[i].n_workers, bad[i].lane_bytes, RULES, STATE, &s, &e),
                        EINVAL, &e, "lanes of");
        memset(long_text, 'x', sizeof(long_text));
        long_text[sizeof(long_text) - 1] = 0;
        check_error(segment_create(instance, 1, 4096, long_text, STATE, &s, &e), ENAMETOOLONG, &e, "rules");
        check_error(segment_create(instance, 1, 4096, RULES, long_text, &s, &e), ENAMETOOLONG, &e,
                    "state directory");
        assert_false(name_exists());
}

static void test_shm_too_small(void **state) {
        struct error e = ERROR_INIT;
        struct segment *s;
        struct statvfs fs;
        uint64_t lane_bytes = 4096;
        char needed[64];

        (void) state;
        assert_int_equal(statvfs("/dev/shm", &fs), 0);
        while (lane_bytes < 2 * (uint64_t) fs.f_bfree * fs.f_frsize)
                lane_bytes *= 2;
        (void) snprintf(needed, sizeof(needed), "%" PRIu64 " bytes needed, ", 8192 + 4096 + lane_bytes);
        check_error(segment_create(instance, 1, lane_bytes, RULES, STATE, &s, &e), ENOSPC, &e, needed);
        assert_non_null(strstr(e.text, " free"));
        assert_false(name_exists());
}

/* Change @n bytes of what is there, then open it. */
static void check_refused(size_t at, const void *bytes, size_t n, int errno_wanted, const char *text) {
        struct segment *s = create();
        struct error e = ERROR_INIT;
        int fd = dup(s->fd);

        assert_int_equal(pwrite(s->fd, bytes, n, (off_t) at), n);
        segment_free(s);
        if (errno_wanted != EADDRINUSE) /* which is for the caller to see */
                check_error(segment_open_fd(dup(fd), &s, &e), errno_wanted, &e, text);
        (void) close(fd);
        check_error(segment_open(instance, STATE, &s, &e), errno_wanted, &e, text);
        assert_non_null(strstr(e.text, name));
        assert_int_equal(segment_unlink(instance), 0);
}

static void test_lying_headers_are_refused(void **state) {
        const uint64_t zero = 0, huge = UINT64_MAX, odd = LANE_BYTES + 4096, twice = 2 * LANE_BYTES;
        const uint32_t two = 2, none = 0, many = 257, all = UINT32_MAX;
        char endless[SEGMENT_PATH_MAX];

        (void) state;
#define AT(field) offsetof(struct segment_header, field)
        check_refused(AT(magic), "azrwnd1", 8, EBADMSG, "not a segment");
        check_refused(AT(magic), &zero, 8, ESTALE, "never finished");
        check_refused(AT(version), &two, 4, ESTALE, "layout version 2");
        check_refused(AT(boot_id), "0123456789abcdef", 16, ESTALE, "another boot");
        check_refused(AT(n_workers), &none, 4, EBADMSG, "header speaks of");
        check_refused(AT(n_workers), &two, 4, EBADMSG, "header speaks of");
        check_refused(AT(n_workers), &many, 4, EBADMSG, "header speaks of");
        check_refused(AT(n_workers), &all, 4, EBADMSG, "header speaks of");
        check_refused(AT(lane_bytes), &zero, 8, EBADMSG, "header speaks of");
        check_refused(AT(lane_bytes), &odd, 8, EBADMSG, "header speaks of");
        check_refused(AT(lane_bytes), &twice, 8, EBADMSG, "header speaks of");
        check_refused(AT(lane_bytes), &huge, 8, EBADMSG, "header speaks of");
        check_refused(AT(total_bytes), &huge, 8, EBADMSG, "header speaks of");
        memset(endless, 'x', sizeof(endless));
        check_refused(AT(rules), endless, 48, EBADMSG, "has no end");
        check_refused(AT(state_path), endless, sizeof(endless), EBADMSG, "has no end");
        check_refused(AT(state_path), "/srv/other", 11, EADDRINUSE, "'/srv/other'");
#undef AT
}

/* A segment of any other length: what is there is never touched beyond its end. */
static void test_other_sizes_are_refused(void **state) {
        const off_t total = 8192 + N_WORKERS * (4096 + LANE_BYTES);

        (void) state;
        for (off_t n = 0; n <= total + 4096; n += n < 256 ? 1 : 1000) {
                struct segment *s = create();
                struct error e = ERROR_INIT;
                int r;

                assert_int_equal(ftruncate(s->fd, n), 0);
                segment_free(s);
                r = segment_open(instance, STATE, &s, &e);
                assert_int_equal(r, n == 0 ? -ESTALE : -EBADMSG);
                assert_int_equal(segment_unlink(instance), 0);
        }
}

/* Every byte of the constant part changed: refused, or what is opened is as long as it should be. */
static void test_every_header_byte_changed(void **state) {
        struct segment *s = create();
        size_t n_constant = offsetof(struct segment_header, state_path) + sizeof(STATE);
        unsigned n_refused = 0;
        int fd = dup(s->fd);

        (void) state;
        segment_free(s);
        for (size_t at = 0; at < n_constant; at++) {
                unsigned char byte, changed;
                struct error e = ERROR_INIT;

                assert_int_equal(pread(fd, &byte, 1, (off_t) at), 1);
                changed = byte ^ 0x10;
                assert_int_equal(pwrite(fd, &changed, 1, (off_t) at), 1);
                if (segment_open(instance, STATE, &s, &e) == 0) {
                        assert_int_equal(s->n_workers, N_WORKERS);
                        assert_int_equal(s->lane_bytes, LANE_BYTES);
                        segment_free(s);
                } else {
                        assert_true(strlen(e.text) > 10);
                        n_refused++;
                }
                assert_int_equal(pwrite(fd, &byte, 1, (off_t) at), 1);
        }
        assert_true(n_refused >= n_constant - sizeof(((struct segment_header *) 0)->rules));
        (void) close(fd);
}

/* Another user's file under our name is not ours (only root can put it there for the test). */
static void test_other_users_segment_is_refused(void **state) {
        struct segment *s = create();
        struct error e = ERROR_INIT;
        int r;

        (void) state;
        r = fchown(s->fd, 65534, (gid_t) -1);
        segment_free(s);
        if (r < 0)
                skip();
        check_error(segment_open(instance, STATE, &s, &e), EBADMSG, &e, "belongs to user 65534");
}

/* Sleeping and waking */

static uint64_t take_wake_ups(int fd) {
        uint64_t n = 0;

        return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void test_wake_up_rules(void **state) {
        cleanup_(segment_freep) struct segment *s = create(), *w = map_worker(s, 1);
        cleanup_(fd_closep) int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

        (void) state;
        segment_wake_consumer(w, fd); /* nobody sleeps: nothing is written */
        assert_int_equal(take_wake_ups(fd), 0);
        assert_true(segment_consumer_may_sleep(s));
        segment_wake_consumer(w, fd);
        assert_int_equal(take_wake_ups(fd), 1);
        segment_consumer_woke(s);
        segment_wake_consumer(w, fd);
        assert_int_equal(take_wake_ups(fd), 0);

        assert_int_equal(lane_write(&w->lanes[1], "x", 1), 0);
        assert_false(segment_consumer_may_sleep(s));
        segment_wake_consumer(w, fd);
        assert_int_equal(take_wake_ups(fd), 0);
        s->lanes[1].broken = true; /* waits for a reset, not for a reader */
        assert_true(segment_consumer_may_sleep(s));
}

/*
 * One record at a time: the producer waits until the last one was taken, so every record races anew against
 * the consumer's going to sleep.  A lost wake-up shows as poll() running into its limit with a record lying
 * there.
 */
struct sleeper {
        struct segment *worker;
        int wake_fd;
        _Atomic uint32_t n_taken;
        _Atomic bool failed;
};

/* Run on the @n-th of the processors that this process may use: on the same one two threads hardly race. */
static void pin(unsigned n) {
        cpu_set_t allowed, one;

        if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || CPU_COUNT(&allowed) < 2)
                return;
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
                if (CPU_ISSET(cpu, &allowed) && n-- == 0)
                        CPU_SET(cpu, &one);
        (void) pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
}

static void spin(uint32_t n) {
        for (volatile uint32_t k = n; k > 0; k--)
                ;
}

static void *produce(void *data) {
        struct sleeper *t = data;
        struct rng rng;

        pin(1);
        rng_seed(&rng, 7, 0);
        for (uint32_t i = 0; i < N_WAKE_UPS; i++) {
                while (atomic_load_explicit(&t->n_taken, memory_order_relaxed) != i)
                        if (atomic_load_explicit(&t->failed, memory_order_relaxed))
                                return NULL;
                spin(rng_below(&rng, 100));
                if (lane_write(&t->worker->lanes[1], &i, sizeof(i)) != 0)
                        return NULL;
                segment_wake_consumer(t->worker, t->wake_fd);
        }
        return NULL;
}

static void test_no_wake_up_is_lost(void **state) {
        cleanup_(segment_freep) struct segment *s = create();
        cleanup_(fd_closep) int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        struct sleeper t = { .worker = s, .wake_fd = fd };
        uint32_t n_slept = 0, n_stayed = 0, delay = 0, length, value;
        struct rng rng;
        cpu_set_t before;
        pthread_t thread;
        uint64_t next;

        (void) state;
        rng_seed(&rng, 8, 0);
        assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
        assert_int_equal(pthread_create(&thread, NULL, produce, &t), 0);
        pin(0);
        for (uint32_t i = 0; i < N_WAKE_UPS && !t.failed;) {
                if (lane_read(&s->lanes[1], (unsigned char *) &value, sizeof(value), &length, &next) == 0) {
                        assert_int_equal(value, i);
                        lane_release(&s->lanes[1], next);
                        atomic_store_explicit(&t.n_taken, ++i, memory_order_relaxed);
                        continue;
                }
                spin(delay + rng_below(&rng, 20));
                if (!segment_consumer_may_sleep(s)) {
                        n_stayed++;
                        delay -= delay > 0;
                        continue;
                }
                n_slept++;
                delay += delay < 2000; /* a longer wait was for a processor, not for the producer */
                if (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 20000) != 1)
                        t.failed = true;
                segment_consumer_woke(s);
                (void) take_wake_ups(fd);
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        (void) sched_setaffinity(0, sizeof(before), &before);
        assert_false(t.failed);
        assert_true(n_slept > 0);
        print_message("%u records, %u times asleep, %u times just not\n", N_WAKE_UPS, n_slept, n_stayed);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_create, setup, teardown),
                cmocka_unit_test_setup_teardown(test_open_after_a_crash, setup, teardown),
                cmocka_unit_test_setup_teardown(test_open_what_was_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_each_maps_its_own, setup, teardown),
                cmocka_unit_test_setup_teardown(test_header_is_read_only_in_children, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_slot_and_bad_descriptor, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_names, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_arguments, setup, teardown),
                cmocka_unit_test_setup_teardown(test_shm_too_small, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lying_headers_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_sizes_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_every_header_byte_changed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_users_segment_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_wake_up_rules, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_wake_up_is_lost, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
