/* SPDX-License-Identifier: MIT */
/*
 * P1 with real processes: either end of a lane is killed with SIGKILL at random instructions, and what was
 * committed arrives exactly once.
 *
 * The moments come from a seed (AZPAR_TEST_SEED, else the clock), which is printed; where the killed process
 * really stood is up to the machine, so each test also counts what it hit and goes on until that is enough.
 */
#include "tests/unit/fixture-sample.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/exchange/lane.h"
#include "common/exchange/window.h"

#define N_KILLS     200u /* at least */
#define N_INSIDE    20u  /* of them at least, where it hurts most */
#define N_KILLS_MAX 20000u

#define LANE_BYTES (1u << 16)
#define RECORD_MAX 12000u

/* What both processes see; each word has one writer. */
struct shared {
        struct lane_shared lane;
        _Alignas(64) _Atomic uint64_t n_committed; /* by this incarnation, stored right after the commit */
        _Atomic uint32_t inside;                   /* 1: within the call that must not be torn */
        _Alignas(64) unsigned char data[LANE_BYTES];
};

static uint64_t seed;

static int group_setup(void **state) {
        const char *text = getenv("AZPAR_TEST_SEED");

        (void) state;
        seed = text ? strtoull(text, NULL, 10) : clock_now_ns();
        print_message("AZPAR_TEST_SEED=%" PRIu64 "\n", seed);
        return 0;
}

static struct shared *shared_new(void) {
        struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        assert_true(s != MAP_FAILED);
        return s;
}

static struct lane lane_of(struct shared *s) {
        return (struct lane){ .shared = &s->lane, .data = s->data, .size = LANE_BYTES };
}

static pid_t start(void (*child)(struct shared *s, uint64_t incarnation), struct shared *s,
                   uint64_t incarnation) {
        pid_t parent = getpid(), pid = fork();

        assert_true(pid >= 0);
        if (pid > 0)
                return pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
                child(s, incarnation);
        _exit(1); /* children only end by SIGKILL */
}

static void kill_and_wait(pid_t pid) {
        int status;

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void spin(uint32_t n) {
        for (volatile uint32_t k = n; k > 0; k--)
                ;
}

/* The producer dies */

struct record {
        uint64_t incarnation, number; /* number: from 0 in each incarnation */
        uint32_t n, crc;              /* bytes that follow, and their checksum, beside the lane's own */
};

static uint32_t fill_record(uint64_t incarnation, uint64_t number, unsigned char *buf) {
        struct record r = { .incarnation = incarnation, .number = number };
        struct rng rng;

        rng_seed(&rng, incarnation, number);
        r.n = rng_below(&rng, RECORD_MAX - sizeof(r));
        for (uint32_t i = 0; i < r.n; i += 8) {
                uint64_t x = rng_u64(&rng);

                memcpy(buf + sizeof(r) + i, &x, MIN(8, r.n - i));
        }
        r.crc = crc32c(buf + sizeof(r), r.n);
        memcpy(buf, &r, sizeof(r));
        return (uint32_t) sizeof(r) + r.n;
}

static void produce(struct shared *s, uint64_t incarnation) {
        static unsigned char buf[RECORD_MAX];
        struct lane l = lane_of(s);

        for (uint64_t number = 0;; number++) {
                uint32_t n = fill_record(incarnation, number, buf);

                while (LANE_BYTES - lane_used(&l) < lane_record_bytes(n))
                        (void) sched_yield();
                atomic_store(&s->inside, 1);
                if (lane_write(&l, buf, n) != 0)
                        _exit(2);
                atomic_store(&s->inside, 0);
                atomic_store(&s->n_committed, number + 1);
        }
}

/* Take one record: it must be number @number of @incarnation, whole. Return: whether there was one. */
static bool take_record(struct lane *l, uint64_t incarnation, uint64_t number) {
        static unsigned char buf[RECORD_MAX];
        struct record r;
        uint32_t length;
        uint64_t next;
        int e;

        e = lane_read(l, buf, sizeof(buf), &length, &next);
        if (e == LANE_E_EMPTY)
                return false;
        assert_int_equal(e, 0);
        memcpy(&r, buf, sizeof(r));
        assert_int_equal(r.incarnation, incarnation);
        assert_int_equal(r.number, number);
        assert_int_equal(r.n, length - sizeof(r));
        assert_int_equal(r.crc, crc32c(buf + sizeof(r), r.n));
        lane_release(l, next);
        return true;
}

static void test_producer_is_killed(void **state) {
        struct shared *s = shared_new();
        struct lane l = lane_of(s);
        unsigned n_kills = 0, n_inside = 0, n_between = 0;
        uint64_t n_records = 0;
        struct rng rng;

        (void) state;
        rng_seed(&rng, seed, 0);
        while (n_kills < N_KILLS || n_inside < N_INSIDE) {
                uint64_t number = 0, incarnation = ++n_kills, n_before = rng_below(&rng, 20), n_committed;
                pid_t pid;

                assert_true(n_kills < N_KILLS_MAX);
                atomic_store(&s->n_committed, 0);
                atomic_store(&s->inside, 0);
                pid = start(produce, s, incarnation);
                while (number < n_before)
                        number += take_record(&l, incarnation, number);
                spin(rng_below(&rng, 10000));
                kill_and_wait(pid);

                /* all that the dead one committed is there, in order and whole, and nothing else */
                while (take_record(&l, incarnation, number))
                        number++;
                n_committed = atomic_load(&s->n_committed);
                assert_true(number == n_committed ||
                            number == n_committed + 1); /* killed before it could count */
                n_between += number == n_committed + 1;
                n_inside += number == n_committed && atomic_load(&s->inside);
                n_records += number;
                assert_int_equal(lane_used(&l), 0);
        }
        print_message("%u kills, %u inside lane_write(), %u between commit and count; %" PRIu64 " records\n",
                      n_kills, n_inside, n_between, n_records);
        (void) munmap(s, sizeof(*s));
}

/* The consumer dies */

#define N_SAMPLES_MAX 9u    /* in a game */
#define CAPACITY      3000u /* more than comes in between two checks */
#define WORKER_SLOT   2u
#define INCARNATION   77u

static struct game *game;
static char folder[64];

/* What azpard does with a record that it has read, for a lane of one worker. */
static void take_in(struct window *w, const unsigned char *record, uint32_t length,
                    struct sample_id *newest) {
        struct window_item items[N_SAMPLES_MAX];
        struct sample s;
        uint32_t n_samples;
        size_t offset, used, n = 0;

        if (sample_record_open(game, record, length, &n_samples, &offset, NULL) < 0 ||
            n_samples > N_SAMPLES_MAX)
                _exit(3);
        for (uint32_t i = 0; i < n_samples; i++, offset += used) {
                if (sample_decode(game, record + offset, length - offset, &s, &used, NULL) < 0)
                        _exit(3);
                if (s.id.incarnation == newest->incarnation && s.id.sequence <= newest->sequence)
                        continue; /* a predecessor appended it */
                items[n++] = (struct window_item){ record + offset, (uint32_t) used };
                *newest = s.id;
        }
        if (window_append(w, items, n) < 0)
                _exit(5);
}

static void consume(struct shared *s, uint64_t incarnation) {
        cleanup_(fd_closep) int dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        static unsigned char buf[LANE_BYTES];
        struct sample_id newest[WORKER_SLOT + 1];
        struct lane l = lane_of(s);
        struct window *w;
        struct rng rng;

        rng_seed(&rng, seed, incarnation);
        if (window_open(dir_fd, "window", game, CAPACITY, &w, NULL) < 0)
                _exit(2);
        if (window_n_damaged(w) > 0) /* SIGKILL damages nothing */
                _exit(4);
        if (window_newest(w, newest, N_ELEMENTS(newest)) < 0)
                _exit(5);
        for (;;) {
                uint32_t length;
                uint64_t next;
                int r = lane_read(&l, buf, sizeof(buf), &length, &next);

                if (r == LANE_E_EMPTY) {
                        (void) sched_yield();
                        continue;
                }
                if (r != 0)
                        _exit(3);
                take_in(w, buf, length, &newest[WORKER_SLOT]);
                atomic_store(&s->inside, 1);
                spin(rng_below(&rng, 20000)); /* the dangerous moment, made wide */
                atomic_store(&s->inside, 0);
                lane_release(&l, next);
        }
}

/* Write the game that begins with sample @sequence. Return: its samples; 0: no room. */
static uint32_t write_game(struct lane *l, uint64_t sequence) {
        static unsigned char buf[LANE_BYTES];
        struct sample samples[N_SAMPLES_MAX];
        uint32_t n = 1 + (uint32_t) (sequence * 7 % N_SAMPLES_MAX);
        size_t length;
        int r;

        for (uint32_t i = 0; i < n; i++)
                fixture_sample(game, (struct sample_id){ WORKER_SLOT, INCARNATION, sequence + i },
                               &samples[i]);
        assert_int_equal(sample_encode_record(game, samples, n, buf, sizeof(buf), &length), 0);
        r = lane_write(l, buf, (uint32_t) length);
        assert_true(r == 0 || r == LANE_E_FULL);
        return r == 0 ? n : 0;
}

/*
 * All samples come from one producer in order, so exactly once means: under each number in the window lies
 * the sample of that sequence.  While no consumer lives.  Return: how many came in so far.
 */
static uint64_t check_window(int dir_fd) {
        struct error e = ERROR_INIT;
        struct window *w;
        uint64_t tail;

        if (window_open(dir_fd, "window", game, CAPACITY, &w, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(window_n_damaged(w), 0);
        tail = window_tail(w);
        for (uint64_t i = window_first(w); i < tail; i++) {
                struct sample s, want;

                assert_int_equal(window_read(w, i, &s), 0);
                assert_int_equal(s.id.sequence, i);
                if (i + 50 < tail) /* the newest ones byte for byte, too */
                        continue;
                fixture_sample(game, (struct sample_id){ WORKER_SLOT, INCARNATION, i }, &want);
                fixture_assert_equal(game, &want, &s);
        }
        window_free(w);
        return tail;
}

static int open_folder(void) {
        int dir_fd;

        (void) snprintf(folder, sizeof(folder), "/tmp/azpar-test-kill-lane.XXXXXX");
        assert_non_null(mkdtemp(folder));
        dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(dir_fd >= 0);
        game = fixture_game(0);
        return dir_fd;
}

static void close_folder(int dir_fd) {
        assert_int_equal(unlinkat(dir_fd, "window", 0), 0);
        assert_int_equal(close(dir_fd), 0);
        assert_int_equal(rmdir(folder), 0);
        game_free(game);
}

/*
 * Exactly between append and release, without the dice; and the negative control: a successor that does not
 * ask window_newest() takes the game in twice.
 */
static void test_between_append_and_release(void **state) {
        (void) state;
        for (unsigned asks = 0; asks < 2; asks++) {
                static unsigned char buf[LANE_BYTES];
                struct sample_id newest[WORKER_SLOT + 1] = { { 0 } };
                struct shared *s = shared_new();
                struct lane l = lane_of(s);
                struct error e = ERROR_INIT;
                struct window *w;
                int dir_fd = open_folder();
                uint64_t next, n = write_game(&l, 0);
                uint32_t length;

                for (unsigned life = 0; life < 2; life++) {
                        assert_int_equal(window_open(dir_fd, "window", game, CAPACITY, &w, &e), 0);
                        memset(newest, 0, sizeof(newest));
                        if (asks)
                                assert_int_equal(window_newest(w, newest, N_ELEMENTS(newest)), 0);
                        assert_int_equal(lane_read(&l, buf, sizeof(buf), &length, &next), 0);
                        take_in(w, buf, length, &newest[WORKER_SLOT]);
                        assert_int_equal(window_tail(w), life && !asks ? 2 * n : n);
                        window_free(w); /* and no lane_release() */
                }
                close_folder(dir_fd);
                (void) munmap(s, sizeof(*s));
        }
}

static void test_consumer_is_killed(void **state) {
        struct shared *s = shared_new();
        struct lane l = lane_of(s);
        unsigned n_kills = 0, n_inside = 0;
        int dir_fd = open_folder();
        uint64_t sequence = 0, n_taken, n_checked = 0;
        struct rng rng;

        (void) state;
        rng_seed(&rng, seed, 1);
        assert_int_equal(check_window(dir_fd), 0);
        while (n_kills < N_KILLS || n_inside < N_INSIDE) {
                uint64_t until = sequence + rng_below(&rng, 600);
                pid_t pid;

                assert_true(n_kills < N_KILLS_MAX);
                atomic_store(&s->inside, 0);
                pid = start(consume, s, ++n_kills);
                while (sequence < until) {
                        uint32_t n = write_game(&l, sequence);

                        sequence += n;
                        if (n == 0)
                                (void) sched_yield();
                        assert_int_equal(waitpid(pid, NULL, WNOHANG),
                                         0); /* it has found nothing to complain of */
                }
                spin(rng_below(&rng, 10000));
                kill_and_wait(pid);
                n_inside += atomic_load(&s->inside);
                n_taken = check_window(dir_fd);
                assert_true(n_taken <= sequence && sequence - n_taken <= LANE_BYTES / 50);
                assert_true(sequence - n_checked < CAPACITY);
                n_checked = n_taken;
        }

        /* the last one takes in what is left and then stands still; then nothing may be missing or double */
        {
                pid_t pid = start(consume, s, ++n_kills);

                while (lane_used(&l) > 0) {
                        (void) sched_yield();
                        assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
                }
                kill_and_wait(pid);
        }
        assert_int_equal(check_window(dir_fd), sequence);
        print_message("%u kills, %u between append and release; %" PRIu64 " samples\n", n_kills, n_inside,
                      sequence);

        close_folder(dir_fd);
        (void) munmap(s, sizeof(*s));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_producer_is_killed),
                cmocka_unit_test(test_between_append_and_release),
                cmocka_unit_test(test_consumer_is_killed),
        };

        return cmocka_run_group_tests(tests, group_setup, NULL);
}
