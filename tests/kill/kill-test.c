/* SPDX-License-Identifier: MIT */
/*
 * kill-test --programs DIR --folder DIR --kills N [--seed S] [--real-trainer]
 *
 * Kills workers, the trainer and azpard with SIGKILL, N times: at random moments under full load, and at
 * every pause point.  azpard is started again at once.  All the while the audit follows the window.  At the
 * end everything is drained and stopped, and nothing that was committed may be missing, there twice, or torn,
 * and no lane stuck.
 *
 * Exit status: 0; 1: something was lost, twice, torn or stuck; 2: the test itself could not go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "tests/kill/audit.h"
#include "tests/kill/fleet.h"

#define N_WORKERS        3u
#define POLL_NS          (200 * UINT64_C(1000))
#define FLOWS            300u             /* samples that say that all is at work again */
#define RATE             60000u           /* samples a second; the window holds those of some seconds */
#define PATIENCE_NS      (90 * NS_PER_S)  /* after which something is stuck; a full machine is slow */
#define STOP_PATIENCE_NS (180 * NS_PER_S) /* a last checkpoint may wait for a busy disk */
#define POINT_NS         (3 * NS_PER_S)   /* that it may take to come to a pause point */
#define ROUND            20u              /* kills between two looks at whether each lane moves */
#define SHARE_OF_POINTS  55u              /* percent of the kills */
#define SHARE_OF_SPILLS  15u   /* percent of the kills before which azpard stands still for a while */
#define ALL_POINTS       1000u /* kills after which every point must have been reached */

enum way { WORKER, AZPARD, RARE, CHILD, START, FINISH, SPILL, REFILL, REJECT, TRAINER };

static const struct {
        const char *name;
        enum way way;
} points[PAUSE_N_POINTS_] = {
#define POINT(name, way, text) [PAUSE_##name] = { #name, way },
#include "common/base/pause_points.inc"
#undef POINT
};

static const char settings[] =
        "[game]\nname = connect4\n"
        "[network]\nfilters = 8\nblocks = 1\n"
        "[selfplay]\nworkers = 3\nmax_workers = 3\n"
        "[replay]\nwindow = 300000\nmin_samples = 100\nratio = 4\nslack = 100000\n"
        "sync_interval = 0.1\n"
        "[train]\ndevice = cpu\nbatch = 32\npublish_interval = 20\ncheckpoint_interval = 50\n"
        "keep = 2\n"
        "[service]\nlane_bytes = 65536\nrestart_limit = 1000\nstop_timeout = 150\n"
        "spill_after = 0.005\nspill_max = 33554432\n";

struct test {
        struct fleet fleet;
        struct game *game;
        struct audit *audit;
        struct pause_table *pause;
        struct numbered_shared *shared;
        struct rng rng;
        uint64_t seed;
        unsigned n_wanted;
        bool real_trainer;

        unsigned n_kills, n_azpard, n_worker, n_trainer, n_at_points;
        unsigned hits[PAUSE_N_POINTS_];
        enum pause_point order[PAUSE_N_POINTS_];
        unsigned n_order, next_in_order;
        bool finishing;       /* azpard was asked to stop: it may exit with 0 */
        unsigned n_bad_files; /* put into the spill folder, to be set aside */
        unsigned n_stuck, n_odd_exits;
        const char *stuck_at;
};

static _Noreturn void give_up(struct test *t, const char *what, const struct error *e) {
        (void) fprintf(stderr, "kill-test: %s%s%s; seed %" PRIu64 "\n", what, e ? ": " : "", e ? e->text : "",
                       t->seed);
        fleet_print_log(&t->fleet);
        if (t->fleet.pid > 0)
                (void) kill(t->fleet.pid, SIGKILL);
        exit(2);
}

/* ---- keeping azpard and the audit going ---- */

static void start_azpard(struct test *t) {
        struct error e = ERROR_INIT;

        t->finishing = false;
        if (fleet_start(&t->fleet, &e) < 0)
                give_up(t, "could not start azpard", &e);
}

static void pump(struct test *t) {
        int status;

        if (t->audit)
                audit_poll(t->audit);
        if (!fleet_has_ended(&t->fleet, &status))
                return;
        if (WIFEXITED(status) && !(t->finishing && WEXITSTATUS(status) == 0)) {
                (void) fprintf(stderr, "azpard ended by itself, exit status %d\n", WEXITSTATUS(status));
                fleet_print_log(&t->fleet);
                if (t->n_odd_exits++ > 5)
                        give_up(t, "azpard ends by itself again and again", NULL);
        } else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL &&
                   !(t->finishing && WTERMSIG(status) == SIGTERM)) /* it had only just started */
                give_up(t, strsignal(WTERMSIG(status)), NULL);
        start_azpard(t);
}

/* Let everything run for @ns. */
static void run_for(struct test *t, uint64_t ns) {
        uint64_t end = clock_now_ns() + ns;

        do {
                pump(t);
                clock_sleep_ns(MIN(POLL_NS, ns));
        } while (clock_now_ns() < end);
}

/* Until @condition holds. Return: whether it came true within @ns. */
static bool run_until(struct test *t, bool (*condition)(struct test *t, const void *), const void *context,
                      uint64_t ns) {
        uint64_t end = clock_now_ns() + ns;

        for (;;) {
                pump(t);
                if (condition(t, context))
                        return true;
                if (clock_now_ns() >= end)
                        return false;
                clock_sleep_ns(POLL_NS);
        }
}

static void must_become(struct test *t, bool (*condition)(struct test *t, const void *), const void *context,
                        const char *what) {
        if (run_until(t, condition, context, PATIENCE_NS))
                return;
        t->n_stuck++;
        t->stuck_at = what;
        (void) fprintf(stderr, "stuck: waited %" PRIu64 " s in vain until %s\n", PATIENCE_NS / NS_PER_S,
                       what);
        fleet_print_log(&t->fleet);
}

/* @context: how many samples. */
static bool has_samples(struct test *t, const void *context) {
        return audit_counts(t->audit)->samples >= *(const uint64_t *) context;
}

/* @context: how many samples of each slot there were. */
static bool each_lane_moved(struct test *t, const void *context) {
        const uint64_t *before = context;

        for (unsigned i = 0; i < N_WORKERS; i++)
                if (audit_counts(t->audit)->slots[i] <= before[i])
                        return false;
        return true;
}

static void check_lanes(struct test *t) {
        struct audit_counts before = *audit_counts(t->audit);

        must_become(t, each_lane_moved, before.slots, "each lane moves");
}

/* ---- killing ---- */

static bool kill_one(struct test *t, pid_t pid, unsigned *counter) {
        char state = fleet_process_state(pid);

        if (state == 'X' || state == 'Z' || kill(pid, SIGKILL) < 0)
                return false;
        t->n_kills++;
        (*counter)++;
        return true;
}

static void kill_azpard(struct test *t) {
        if (t->fleet.pid)
                (void) kill_one(t, t->fleet.pid, &t->n_azpard);
}

/* Kill a child of that kind; if there is none, none. Return: whether. */
static bool kill_child(struct test *t, bool trainer) {
        struct fleet_child all[FLEET_CHILDREN_MAX];
        unsigned n = fleet_children(&t->fleet, all), first = n ? rng_below(&t->rng, n) : 0;

        for (unsigned i = 0; i < n; i++) {
                const struct fleet_child *c = &all[(first + i) % n];

                if (c->is_trainer == trainer)
                        return kill_one(t, c->pid, trainer ? &t->n_trainer : &t->n_worker);
        }
        return false;
}

/* All at once, azpard first or last. */
static void kill_all(struct test *t) {
        struct fleet_child all[FLEET_CHILDREN_MAX];
        unsigned n = fleet_children(&t->fleet, all);
        bool azpard_first = rng_below(&t->rng, 2);

        if (azpard_first)
                kill_azpard(t);
        for (unsigned i = 0; i < n; i++)
                (void) kill_one(t, all[i].pid, all[i].is_trainer ? &t->n_trainer : &t->n_worker);
        if (!azpard_first)
                kill_azpard(t);
}

static ino_t model_inode(const struct test *t) {
        char path[FLEET_PATH_MAX + 32];
        struct stat st;

        (void) snprintf(path, sizeof(path), "%s/model.safetensors", t->fleet.state);
        return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* @context: the model file's inode before. */
static bool has_published(struct test *t, const void *context) {
        return model_inode(t) != *(const ino_t *) context;
}

/* The real one takes a second to start, and shall be met at work. */
static void kill_real_trainer(struct test *t) {
        ino_t before = model_inode(t);

        (void) run_until(t, has_published, &before, POINT_NS);
        run_for(t, rng_below(&t->rng, 100000) * UINT64_C(1000));
        (void) kill_child(t, true);
}

static void kill_somebody(struct test *t) {
        unsigned dice = rng_below(&t->rng, 100);

        run_for(t, rng_below(&t->rng, 30000) * UINT64_C(1000));
        if (t->real_trainer && dice < 50)
                kill_real_trainer(t);
        else if (dice < 40)
                (void) kill_child(t, false);
        else if (dice < 55)
                (void) kill_child(t, true);
        else if (dice < 88)
                kill_azpard(t);
        else
                kill_all(t);
}

/* ---- pause points ---- */

static void arm(struct test *t, enum pause_point p, int32_t k, int signal_number) {
        atomic_store(&t->pause->n_left, k);
        atomic_store(&t->pause->signal, (uint32_t) signal_number);
        atomic_fetch_add(&t->pause->generation, 1);
        atomic_store_explicit(&t->pause->point, p, memory_order_release);
}

static bool has_fired(struct test *t, const void *context) {
        (void) context;
        return atomic_load_explicit(&t->pause->fired_generation, memory_order_acquire) ==
               atomic_load(&t->pause->generation);
}

static bool has_spilled(struct test *t, const void *context) {
        char folder[32];
        int n = 0;

        (void) context;
        for (unsigned i = 0; i < N_WORKERS; i++) {
                (void) snprintf(folder, sizeof(folder), "spill/worker_%u", i);
                n += MAX(fleet_count_files(&t->fleet, folder, ".json"), 0);
        }
        return n > 0;
}

/* A spill file that is none. */
static void put_bad_file(struct test *t) {
        char folder[FLEET_PATH_MAX + 32], from[FLEET_PATH_MAX + 64], to[FLEET_PATH_MAX + 64];
        /* written long ago: one of this moment could still be growing, and would be left alone for a while */
        struct timespec times[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
        FILE *f;

        (void) snprintf(folder, sizeof(folder), "%s/spill/worker_%u", t->fleet.state, NUMBERED_SLOTS);
        (void) snprintf(from, sizeof(from), "%s/batch.tmp", folder);
        (void) snprintf(to, sizeof(to), "%s/batch_%06u.json", folder, t->n_bad_files);
        *strrchr(folder, '/') = '\0'; /* the workers make it, if there has been one yet */
        (void) mkdir(folder, 0700);
        folder[strlen(folder)] = '/';
        (void) mkdir(folder, 0700);
        f = fopen(from, "we");
        if (!f || fputs("[{\"board\":[0,1,2", f) < 0 || fclose(f) < 0 ||
            utimensat(AT_FDCWD, from, times, 0) < 0 || rename(from, to) < 0)
                give_up(t, "could not write a bad spill file", NULL);
        t->n_bad_files++;
}

/* What has to happen so that somebody comes to the point. */
static void bring_about(struct test *t, enum pause_point p, int32_t k, int signal_number) {
        pid_t azpard = t->fleet.pid;

        if (points[p].way == REFILL) {
                (void) kill(azpard, SIGSTOP);
                (void) run_until(t, has_spilled, NULL, POINT_NS);
        }
        arm(t, p, k, signal_number);
        switch (points[p].way) {
        case START:
                kill_azpard(t);
                break;
        case CHILD:
                (void) kill_child(t, false);
                break;
        case FINISH:
                t->finishing = true;
                (void) kill(azpard, SIGTERM);
                break;
        case SPILL:
                (void) kill(azpard, SIGSTOP);
                break;
        case REFILL:
                if (t->fleet.pid == azpard)
                        (void) kill(azpard, SIGCONT);
                break;
        case REJECT:
                put_bad_file(t);
                break;
        default:
                break;
        }
}

/* Whose death was that? */
static void count_fired(struct test *t, enum pause_point p) {
        t->n_kills++;
        t->n_at_points++;
        t->hits[p]++;
        if (points[p].way == TRAINER)
                t->n_trainer++;
        else if (points[p].way == WORKER || points[p].way == SPILL || p == PAUSE_CHILD_BEFORE_EXEC)
                t->n_worker++;
        else
                t->n_azpard++;
}

static void kill_at_point(struct test *t, enum pause_point p) {
        bool often = points[p].way == WORKER || points[p].way == AZPARD;
        int32_t k = 1 + (int32_t) (often ? rng_below(&t->rng, 1u << rng_below(&t->rng, 7))
                                         : rng_below(&t->rng, 2));
        int signal_number = rng_below(&t->rng, 4) ? SIGKILL : SIGSTOP;
        uint64_t samples = audit_counts(t->audit)->samples + FLOWS;
        pid_t azpard, fired;

        if (points[p].way == START || points[p].way == FINISH || points[p].way == CHILD) {
                k = 1;
                must_become(t, has_samples, &samples, "samples come in");
        }
        azpard = t->fleet.pid;
        bring_about(t, p, k, signal_number);
        (void) run_until(t, has_fired, NULL, POINT_NS);
        atomic_store(&t->pause->point, PAUSE_NONE);
        if (has_fired(t, NULL)) {
                fired = (pid_t) atomic_load(&t->pause->fired_pid);
                if (signal_number == SIGSTOP) {
                        run_for(t, rng_below(&t->rng, 20000) * UINT64_C(1000));
                        if (fleet_process_state(fired) == 'T') /* else it died with azpard */
                                (void) kill(fired, SIGKILL);
                }
                count_fired(t, p);
        }
        if (points[p].way == SPILL && t->fleet.pid == azpard)
                (void) kill(azpard, SIGCONT);
}

/* All points, in an order that is new each time. */
static enum pause_point next_point(struct test *t) {
        if (t->next_in_order == t->n_order) {
                for (unsigned i = t->n_order; i > 1; i--) {
                        unsigned k = rng_below(&t->rng, i);
                        enum pause_point p = t->order[k];

                        t->order[k] = t->order[i - 1];
                        t->order[i - 1] = p;
                }
                t->next_in_order = 0;
        }
        return t->order[t->next_in_order++];
}

static void collect_points(struct test *t) {
        for (unsigned p = 1; p < PAUSE_N_POINTS_; p++)
                if (!(t->real_trainer && points[p].way == TRAINER))
                        t->order[t->n_order++] = (enum pause_point) p;
        t->next_in_order = t->n_order;
}

/* ---- the whole ---- */

static bool window_is_there(struct test *t, const void *context) {
        char path[FLEET_PATH_MAX + 16];
        int fd;

        (void) context;
        (void) snprintf(path, sizeof(path), "%s/window", t->fleet.state);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd >= 0 && audit_new(t->game, fd, t->shared, &t->audit, NULL) == 0;
}

/* azpard stands still for a while, so that lanes are full and workers spill. */
static void make_them_spill(struct test *t) {
        pid_t azpard = t->fleet.pid;

        (void) kill(azpard, SIGSTOP);
        run_for(t, rng_below(&t->rng, 100000) * UINT64_C(1000));
        if (rng_below(&t->rng, 2))
                (void) kill(azpard, SIGCONT);
        else
                kill_azpard(t); /* they were written for its successor */
}

static void kill_all_day(struct test *t) {
        unsigned next_round = ROUND;

        while (t->n_kills < t->n_wanted && t->n_stuck == 0) {
                uint64_t samples = audit_counts(t->audit)->samples + FLOWS;

                if (rng_below(&t->rng, 100) < 70)
                        must_become(t, has_samples, &samples, "samples come in");
                if (rng_below(&t->rng, 100) < SHARE_OF_SPILLS)
                        make_them_spill(t);
                if (rng_below(&t->rng, 100) < (t->real_trainer ? SHARE_OF_POINTS / 3 : SHARE_OF_POINTS))
                        kill_at_point(t, next_point(t));
                else
                        kill_somebody(t);
                if (t->n_kills < next_round)
                        continue;
                next_round = t->n_kills + ROUND;
                check_lanes(t);
        }
}

static unsigned count_rejected(const struct test *t, const char *end) {
        return (unsigned) MAX(fleet_count_files(&t->fleet, "spill/rejected", end), 0);
}

static bool is_drained(struct test *t, const void *context) {
        return audit_is_idle(t->audit, N_WORKERS) && fleet_bytes_in_lanes(&t->fleet) == 0 &&
               !has_spilled(t, context) && count_rejected(t, ".json") == t->n_bad_files;
}

/* Let everything come in, and stop. */
static void finish(struct test *t) {
        int status = 0;
        uint64_t end;

        check_lanes(t);
        audit_set_rate(t->audit, 0);
        atomic_store(&t->shared->hold, 1);
        must_become(t, is_drained, NULL, "all lanes and spill files are empty");
        (void) kill(t->fleet.pid, SIGTERM);
        end = clock_now_ns() + STOP_PATIENCE_NS;
        while (!fleet_has_ended(&t->fleet, &status) && clock_now_ns() < end)
                clock_sleep_ns(POLL_NS);
        if (t->fleet.pid || status != 0)
                give_up(t, "azpard did not stop as asked", NULL);
        audit_poll(t->audit);
}

static bool report(struct test *t) {
        const struct audit_counts *a = audit_counts(t->audit);
        bool all_reached = true;
        unsigned n_points = 0,
                 n_complaints = fleet_count_complaints(&t->fleet, "samples from the lanes it left");
        uint64_t n_lost_files = atomic_load(&t->shared->n_lost_files);
        unsigned n_rejected = count_rejected(t, ".json"), n_reasons = count_rejected(t, ".reason");

        for (unsigned p = 1; p < PAUSE_N_POINTS_; p++)
                n_points += t->hits[p] > 0;
        (void) printf(
                "%u kills (%u azpard, %u worker, %u trainer, %u at pause points of which %u distinct of %u), "
                "%" PRIu64 " samples committed, %" PRIu64 " of them spilled, %" PRIu64
                " checkpoints and %" PRIu64 " models, %" PRIu64 " lost, %" PRIu64 " twice, %" PRIu64
                " torn, %u stuck, %" PRIu64
                " files lost, %u of %u bad files set aside, %u complaints; seed %" PRIu64 "\n",
                t->n_kills, t->n_azpard, t->n_worker, t->n_trainer, t->n_at_points, n_points, t->n_order,
                a->written_down, a->spilled, atomic_load(&t->shared->n_saved),
                atomic_load(&t->shared->n_published), a->missing, a->twice, a->torn, t->n_stuck, n_lost_files,
                n_rejected, t->n_bad_files, n_complaints, t->seed);
        if (n_points < t->n_order && t->n_kills >= ALL_POINTS) {
                (void) printf("never reached:");
                for (unsigned i = 0; i < t->n_order; i++)
                        if (t->hits[t->order[i]] == 0)
                                (void) printf(" %s", points[t->order[i]].name);
                (void) printf("\n");
                all_reached = false;
        }
        if (a->missing)
                audit_print_missing(t->audit);
        if (a->overtaken)
                (void) printf("the audit was overtaken by %" PRIu64 " samples\n", a->overtaken);
        return a->missing == 0 && a->twice == 0 && a->torn == 0 && a->overtaken == 0 && t->n_stuck == 0 &&
               n_lost_files == 0 && n_rejected == t->n_bad_files && n_reasons == n_rejected &&
               n_complaints == 0 && t->n_odd_exits == 0 && a->written_down > 0 && all_reached;
}

static void test_init(struct test *t, const char *programs, const char *folder) {
        struct error e = ERROR_INIT;
        struct config config;
        char path[FLEET_PATH_MAX];

        rng_seed(&t->rng, t->seed, 0);
        collect_points(t);
        if (fleet_init(&t->fleet, programs, folder, settings, &e) < 0)
                give_up(t, "could not begin", &e);
        t->pause = fleet_share(&t->fleet, "pause", sizeof(*t->pause), t->fleet.pause_file);
        t->shared = fleet_share(&t->fleet, "shared", sizeof(*t->shared), t->fleet.kill_file);
        (void) snprintf(path, sizeof(path), "%.490s/azpar.conf", folder);
        if (!t->pause || !t->shared || config_read(path, NULL, 0, &config, &e) < 0 ||
            game_new(&config, &t->game, &e) < 0)
                give_up(t, "could not begin", &e);
        start_azpard(t);
        if (!run_until(t, window_is_there, NULL, PATIENCE_NS))
                give_up(t, "no window", NULL);
        audit_set_rate(t->audit, RATE);
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "programs", required_argument, NULL, 'p' }, { "folder", required_argument, NULL, 'f' },
                { "kills", required_argument, NULL, 'k' },    { "seed", required_argument, NULL, 's' },
                { "real-trainer", no_argument, NULL, 't' },   { NULL, 0, NULL, 0 },
        };
        const char *programs = NULL, *folder = NULL;
        static struct test t = { .n_wanted = 100 };
        int c;

        t.seed = clock_unix_us();
        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (c) {
                case 'p':
                        programs = optarg;
                        break;
                case 'f':
                        folder = optarg;
                        break;
                case 'k':
                        t.n_wanted = (unsigned) strtoul(optarg, NULL, 10);
                        break;
                case 's':
                        t.seed = strtoull(optarg, NULL, 10);
                        break;
                case 't':
                        t.real_trainer = true;
                        break;
                default:
                        return 2;
                }
        }
        if (!programs || !folder)
                return 2;
        test_init(&t, programs, folder);
        kill_all_day(&t);
        finish(&t);
        return report(&t) ? EXIT_SUCCESS : EXIT_FAILURE;
}
