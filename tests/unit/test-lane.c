/* SPDX-License-Identifier: MIT */
/*
 * Lane: what it promises to a sound peer (one thread, then two on one mapping, which is what ThreadSanitizer
 * understands), and what it answers to a lying one.  The data lie in a block of exactly their size, so that
 * AddressSanitizer sees a step beside it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "common/base/rng.h"
#include "common/exchange/lane.h"
#include "tests/unit/weak-lane.h"

#if defined(__SANITIZE_THREAD__)
#define N_THREAD_RECORDS 20000u
#define N_FUZZ_ROUNDS    20000u
#elif defined(__SANITIZE_ADDRESS__)
#define N_THREAD_RECORDS 50000u
#define N_FUZZ_ROUNDS    50000u
#else
#define N_THREAD_RECORDS 300000u
#define N_FUZZ_ROUNDS    300000u
#endif

struct fixture {
        struct lane_shared shared;
        struct lane producer, consumer; /* one handle a side, as in two processes */
};

/* A lane of @size bytes whose counters stand at @start. */
static struct fixture *fixture_new(uint64_t size, uint64_t start) {
        struct fixture *f = aligned_alloc(LANE_LINE, sizeof(*f));
        unsigned char *data = aligned_alloc(8, size);

        assert_non_null(f);
        assert_non_null(data);
        memset(data, 0xee, size);
        atomic_init(&f->shared.tail, start);
        atomic_init(&f->shared.head, start);
        f->producer = f->consumer = (struct lane){ .shared = &f->shared, .data = data, .size = size };
        return f;
}

static void fixture_free(struct fixture *f) {
        free(f->producer.data);
        free(f);
}
DEFINE_CLEANUP(struct fixture *, fixture_free)

static void set_indices(struct fixture *f, uint64_t head, uint64_t tail) {
        atomic_store(&f->shared.head, head);
        atomic_store(&f->shared.tail, tail);
}

/* Payload number @i: its bytes follow from it. */
static void fill(unsigned char *buf, uint32_t n, uint64_t i) {
        for (uint32_t k = 0; k < n; k++)
                buf[k] = (unsigned char) (i * 131 + k * 7 + 1);
}

static void check_read(struct fixture *f, uint32_t n, uint64_t i) {
        cleanup_(freep) unsigned char *buf = malloc(n + 1);
        cleanup_(freep) unsigned char *want = malloc(n + 1);
        uint32_t length;
        uint64_t next;

        fill(want, n, i);
        assert_int_equal(lane_read(&f->consumer, buf, n, &length, &next), 0);
        assert_int_equal(length, n);
        assert_memory_equal(buf, want, n);
        assert_int_equal(next, atomic_load(&f->shared.head) + lane_record_bytes(n));
        lane_release(&f->consumer, next);
}

static int write_number(struct fixture *f, uint32_t n, uint64_t i) {
        cleanup_(freep) unsigned char *buf = malloc(n + 1);

        fill(buf, n, i);
        return lane_write(&f->producer, buf, n);
}

static int read_result(struct fixture *f) {
        unsigned char buf[256];
        uint32_t length;
        uint64_t next;

        return lane_read(&f->consumer, buf, sizeof(buf), &length, &next);
}

/* The picture in lane.h, byte for byte. */
static void test_record_is_as_drawn(void **state) {
        static const unsigned char drawn[24] = { 9,   0,   0,   0,   0x83, 0x92, 0x06, 0xe3,
                                                 '1', '2', '3', '4', '5',  '6',  '7',  '8',
                                                 '9', 0,   0,   0,   0,    0,    0,    0 };
        cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 0);

        (void) state;
        assert_int_equal(lane_write(&f->producer, "123456789", 9), 0);
        assert_memory_equal(f->producer.data, drawn, sizeof(drawn));
        assert_int_equal(atomic_load(&f->shared.tail), sizeof(drawn));
        assert_int_equal(f->producer.data[sizeof(drawn)], 0xee);
}

/* Every length at every place of a small lane, so at every way to wrap around; also past 2^64. */
static void test_every_offset_and_length(void **state) {
        const uint64_t size = 128;

        (void) state;
        for (uint64_t start = UINT64_MAX - 7 - 2 * size; start != 2 * size; start += 8) {
                for (uint32_t n = 0; n <= size - LANE_HEADER_BYTES; n++) {
                        cleanup_(fixture_freep) struct fixture *f = fixture_new(size, start);

                        assert_int_equal(write_number(f, n, start + n), 0);
                        assert_int_equal(lane_used(&f->consumer), lane_record_bytes(n));
                        check_read(f, n, start + n);
                        assert_int_equal(lane_used(&f->consumer), 0);
                        assert_int_equal(read_result(f), LANE_E_EMPTY);
                }
        }
}

static void test_full_empty_and_exact_fit(void **state) {
        cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 40);

        (void) state;
        assert_int_equal(read_result(f), LANE_E_EMPTY);
        assert_int_equal(write_number(f, 57, 0), -EMSGSIZE);
        assert_int_equal(lane_write(&f->producer, "", UINT32_MAX), -EMSGSIZE);
        assert_int_equal(write_number(f, 56, 1), 0); /* all of it */
        assert_int_equal(lane_used(&f->producer), 64);
        assert_int_equal(write_number(f, 0, 2), LANE_E_FULL);
        check_read(f, 56, 1);

        assert_int_equal(write_number(f, 24, 3), 0);
        assert_int_equal(write_number(f, 25, 4), LANE_E_FULL); /* 40 bytes into 32 */
        assert_int_equal(write_number(f, 24, 5), 0);
        assert_int_equal(write_number(f, 0, 6), LANE_E_FULL);
        check_read(f, 24, 3); /* the refused ones left no trace */
        check_read(f, 24, 5);
        assert_int_equal(read_result(f), LANE_E_EMPTY);
}

/* Reading without releasing gives the same record again: azpard killed in between loses nothing. */
static void test_read_again_until_released(void **state) {
        cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 0);

        (void) state;
        assert_int_equal(write_number(f, 5, 1), 0);
        assert_int_equal(read_result(f), 0);
        assert_int_equal(read_result(f), 0);
        check_read(f, 5, 1);
        assert_int_equal(read_result(f), LANE_E_EMPTY);
}

/* A producer that died before its commit: nothing is seen, and its successor writes over it. */
static void test_uncommitted_is_never_seen(void **state) {
        cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 0);

        (void) state;
        assert_int_equal(write_number(f, 5, 1), 0);
        assert_int_equal(write_number(f, 20, 2), 0);
        atomic_store(&f->shared.tail, 16); /* as if killed just before the second store to tail */
        check_read(f, 5, 1);
        assert_int_equal(read_result(f), LANE_E_EMPTY);
        assert_int_equal(write_number(f, 30, 3), 0);
        check_read(f, 30, 3);
}

static void test_wrong_checksum_skips_one_record(void **state) {
        unsigned char buf[64];
        uint32_t length;
        uint64_t next;

        (void) state;
        for (unsigned bit = 0; bit < 8 * 24; bit++) {
                cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 0);
                int r;

                assert_int_equal(write_number(f, 16, 1), 0);
                assert_int_equal(write_number(f, 10, 2), 0);
                f->producer.data[bit / 8] ^= (unsigned char) (1u << bit % 8);
                r = lane_read(&f->consumer, buf, sizeof(buf), &length, &next);
                if (bit < 32) { /* the length: either framing or checksum tells */
                        assert_true(r == LANE_E_BROKEN || r == LANE_E_BAD_DATA);
                        continue;
                }
                assert_int_equal(r, LANE_E_BAD_DATA);
                lane_release(&f->consumer, next);
                check_read(f, 10, 2);
        }
}

/* Broken stays broken, whatever the producer does to look sound again, until the reset. */
static void check_broken_until_reset(struct fixture *f) {
        assert_int_equal(read_result(f), LANE_E_BROKEN);
        set_indices(f, 0, 0);
        assert_int_equal(read_result(f), LANE_E_BROKEN);
        (void) lane_reset(&f->consumer);
        assert_int_equal(read_result(f), LANE_E_EMPTY);
        assert_int_equal(write_number(f, 11, 7), 0);
        check_read(f, 11, 7);
}

static void test_lying_indices(void **state) {
        static const struct {
                uint64_t head, tail;
        } lies[] = {
                { 0, 72 },             /* more than the lane holds */
                { 64, 0 },             /* tail behind head */
                { 0, UINT64_MAX - 7 }, /* far behind */
                { 0, UINT64_C(1) << 63 },
                { 0, 12 }, /* not aligned */
                { 4, 16 },
                { 3, 3 },
                { UINT64_MAX, 0 },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(lies); i++) {
                cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 0);

                set_indices(f, lies[i].head, lies[i].tail);
                assert_true(lane_used(&f->consumer) <= 64);
                assert_int_equal(write_number(f, 1, 0), LANE_E_BROKEN);
                check_broken_until_reset(f);
        }
}

static void set_length(struct fixture *f, uint32_t length) {
        memcpy(f->producer.data, &length, sizeof(length));
}

static void test_lying_length(void **state) {
        static const uint32_t lies[] = { 17,        24, 56, 57, 64, 255, 256, 257, 1u << 31, UINT32_MAX - 7,
                                         UINT32_MAX };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(lies); i++) {
                cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 0);

                assert_int_equal(write_number(f, 16, 1), 0);
                set_length(f, lies[i]);
                check_broken_until_reset(f);
        }
}

/* A record may be sound and yet larger than what the consumer has room for. */
static void test_longer_than_the_buffer(void **state) {
        cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 0);
        cleanup_(freep) unsigned char *buf = malloc(15);
        uint32_t length;
        uint64_t next;

        (void) state;
        assert_int_equal(write_number(f, 16, 1), 0);
        assert_int_equal(lane_read(&f->consumer, buf, 15, &length, &next), LANE_E_BROKEN);
}

static void test_reset_drops_what_is_there(void **state) {
        cleanup_(fixture_freep) struct fixture *f = fixture_new(64, 8);

        (void) state;
        assert_int_equal(lane_reset(&f->consumer), 0);
        assert_int_equal(write_number(f, 16, 1), 0);
        assert_int_equal(write_number(f, 8, 2), 0);
        assert_int_equal(lane_reset(&f->consumer), 40);
        assert_int_equal(read_result(f), LANE_E_EMPTY);
        assert_int_equal(atomic_load(&f->shared.head), 48);
}

/* Anything in the data, indices near each other or anywhere: a result of the list, and no step outside. */
static void test_garbage(void **state) {
        cleanup_(fixture_freep) struct fixture *f = fixture_new(256, 0);
        unsigned char buf[100];
        unsigned n_results[LANE_E_BROKEN + 1] = { 0 };
        struct rng rng;

        (void) state;
        rng_seed(&rng, 1, 0);
        for (unsigned round = 0; round < N_FUZZ_ROUNDS; round++) {
                uint64_t head = rng_u64(&rng) & ~UINT64_C(7), next = 0;
                uint64_t tail = head + 8 * rng_below(&rng, 40);
                uint32_t length = 0, lie = rng_below(&rng, 120);
                int r;

                for (unsigned i = 0; i < 256; i++)
                        f->producer.data[i] = (unsigned char) rng_u64(&rng);
                if (round % 2) /* a length that could be one */
                        memcpy(f->producer.data + head % 256, &lie, sizeof(lie));
                set_indices(f, head + (rng_below(&rng, 8) == 0), tail + (rng_below(&rng, 8) == 0));
                f->consumer.broken = false;
                r = lane_read(&f->consumer, buf, sizeof(buf), &length, &next);
                assert_in_range(r, 0, LANE_E_BROKEN);
                n_results[r]++;
                if (r == 0 || r == LANE_E_BAD_DATA) {
                        assert_true(length <= sizeof(buf));
                        assert_true(next - head <= tail - head);
                }
                r = lane_write(&f->producer, buf, rng_below(&rng, sizeof(buf)));
                assert_in_range(r, 0, LANE_E_BROKEN);
        }
        /* the fuzz got everywhere but to a right checksum, which 32 bits of luck would take */
        assert_true(n_results[LANE_E_EMPTY] > 0 && n_results[LANE_E_BAD_DATA] > 0 &&
                    n_results[LANE_E_BROKEN] > 0);
}

/* Two threads */

struct traffic {
        struct fixture *f;
        uint32_t n_records;
        int (*write)(struct lane *l, const void *payload, uint32_t n);
};

static uint32_t length_of(uint64_t i) {
        struct rng rng;

        rng_seed(&rng, 2, i);
        return rng_below(&rng, 300);
}

static void *produce(void *data) {
        struct traffic *t = data;
        unsigned char buf[300];

        for (uint32_t i = 0; i < t->n_records; i++) {
                uint32_t n = length_of(i);

                fill(buf, n, i);
                while (t->write(&t->f->producer, buf, n) == LANE_E_FULL)
                        (void) sched_yield();
        }
        return NULL;
}

static void test_two_threads(void **state) {
        cleanup_(fixture_freep) struct fixture *f = fixture_new(1024, UINT64_MAX - 8191);
        struct traffic t = { .f = f, .n_records = N_THREAD_RECORDS, .write = lane_write };
        unsigned char buf[300], want[300];
        pthread_t thread;

        (void) state;
        assert_int_equal(pthread_create(&thread, NULL, produce, &t), 0);
        for (uint32_t i = 0; i < t.n_records;) {
                uint32_t length;
                uint64_t next;
                int r = lane_read(&f->consumer, buf, sizeof(buf), &length, &next);

                if (r == LANE_E_EMPTY) {
                        (void) sched_yield();
                        continue;
                }
                assert_int_equal(r, 0);
                assert_int_equal(length, length_of(i));
                fill(want, length, i);
                assert_memory_equal(buf, want, length);
                lane_release(&f->consumer, next);
                i++;
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(read_result(f), LANE_E_EMPTY);
}

/*
 * Negative control of the test above: the same traffic with the release stores weakened.  ThreadSanitizer
 * must report it, so it runs in a process of its own ("test-lane weak"), whose exit status 66 is TSan's.
 */
static int run_weak(void) {
        struct fixture *f = fixture_new(1024, 0);
        struct traffic t = { .f = f, .n_records = 1000, .write = weak_lane_write };
        unsigned char buf[300];
        pthread_t thread;

        if (pthread_create(&thread, NULL, produce, &t) != 0)
                return 1;
        for (uint32_t i = 0; i < t.n_records;) {
                uint32_t length;
                uint64_t next;
                int r = weak_lane_read(&f->consumer, buf, sizeof(buf), &length, &next);

                if (r == LANE_E_EMPTY) {
                        (void) sched_yield();
                        continue;
                }
                if (r == LANE_E_BROKEN)
                        return 1; /* on a machine that reorders stores; TSan has reported it by now */
                weak_lane_release(&f->consumer, next);
                i++;
        }
        (void) pthread_join(thread, NULL);
        fixture_free(f);
        return 0;
}

static void test_weakened_release_is_reported(void **state) {
#ifdef __SANITIZE_THREAD__
        char program[] = "test-lane", argument[] = "weak",
             options[] = "TSAN_OPTIONS=exitcode=66 log_path=/dev/null";
        char *arguments[] = { program, argument, NULL };
        char *environment[] = { options, NULL };
        pid_t pid;
        int status;

        (void) state;
        assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environment), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 66);
#else
        (void) state;
        skip(); /* only ThreadSanitizer can tell */
#endif
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_record_is_as_drawn),
                cmocka_unit_test(test_every_offset_and_length),
                cmocka_unit_test(test_full_empty_and_exact_fit),
                cmocka_unit_test(test_read_again_until_released),
                cmocka_unit_test(test_uncommitted_is_never_seen),
                cmocka_unit_test(test_wrong_checksum_skips_one_record),
                cmocka_unit_test(test_lying_indices),
                cmocka_unit_test(test_lying_length),
                cmocka_unit_test(test_longer_than_the_buffer),
                cmocka_unit_test(test_reset_drops_what_is_there),
                cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_two_threads),
                cmocka_unit_test(test_weakened_release_is_reported),
        };

        if (argc == 2 && strcmp(argv[1], "weak") == 0)
                return run_weak();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
