/* SPDX-License-Identifier: MIT */
/*
 * power-cut --programs DIR --folder DIR --copies N [--seed S] [--stale]
 *
 * What a power cut leaves, N times: under full load the state directory is copied at a random moment, as the
 * disk could have it then, and azpard started on the copy, without the shared memory.
 *
 *   window      each page is as it is at that moment or as it was at any time since the last sync: pages
 * reach the disk in any order.  Two copies, one of them older but not older than the last sync, give both; in
 * half of the copies sectors of 512 bytes instead of pages are mixed, so that pages are torn temporary files
 * that were not synced end anywhere, in zeros, or are not there at all the rest    was synced before it got
 * its name, and is as it is
 *
 * Every sample below window.durable of a status before that moment is whole in the copy, unless younger ones
 * had pushed it out; what is there of younger ones is whole, too; none is there twice; half-written files do
 * no harm; and all goes on from there.
 *
 * --stale: pages may be older than the last sync, as on a disk that lies, or if azpard took a sync for done
 * before it was.  That has to be found out, or the test proves nothing.
 *
 * Exit status as kill-test's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/rng.h"
#include "tests/kill/audit.h"
#include "tests/kill/fleet.h"

#define N_WORKERS        3u
#define POLL_NS          (200 * UINT64_C(1000))
#define PATIENCE_NS      (90 * NS_PER_S)
#define STOP_PATIENCE_NS (180 * NS_PER_S) /* a last checkpoint may wait for a busy disk */
#define PACE_US          300 /* so that a window's worth of samples takes longer than several syncs */
#define PAGE             4096
#define SECTOR           512
#define AT_WORK          2000 /* samples that come in between two copies, at least */
#define WORKS_AGAIN      300  /* samples that come in on a copy */
#define STALE            500  /* samples of a sync that a page may have missed with --stale */
#define COPY_MAX         (UINT64_C(1) << 30)

static const char settings[] =
        "[game]\nname = connect4\n"
        "[network]\nfilters = 8\nblocks = 1\n"
        "[selfplay]\nworkers = 3\nmax_workers = 3\n"
        "[replay]\nwindow = 50000\nmin_samples = 100\nratio = 4\nslack = 100000\n"
        "sync_interval = 0.1\n"
        "[train]\ndevice = cpu\nbatch = 32\npublish_interval = 3\ncheckpoint_interval = 4\n"
        "keep = 2\n"
        "[service]\nlane_bytes = 65536\nrestart_limit = 1000\nstop_timeout = 150\n"
        "spill_after = 0.005\nspill_max = 33554432\n";

/* An azpard and who watches it. */
struct side {
        struct fleet fleet;
        struct audit *audit;
        struct numbered_shared *shared;
};

struct test {
        struct side main, copy;
        struct game *game;
        struct rng rng;
        const char *programs, *folder;
        uint64_t seed;
        bool stale;
        unsigned n_wanted, n_copies, n_mixed, n_temporary, n_with_files;
        uint64_t n_durable, n_behind; /* samples that had to be there; younger ones that the cut took */
        uint64_t n_holes, n_twice, n_torn, n_lost, n_complaints;
};

static _Noreturn void give_up(struct test *t, const char *what, const struct error *e) {
        (void) fprintf(stderr, "power-cut: %s%s%s; seed %" PRIu64 "\n", what, e ? ": " : "", e ? e->text : "",
                       t->seed);
        fleet_print_log(&t->main.fleet);
        fleet_print_log(&t->copy.fleet);
        if (t->main.fleet.pid > 0)
                (void) kill(t->main.fleet.pid, SIGKILL);
        if (t->copy.fleet.pid > 0)
                (void) kill(t->copy.fleet.pid, SIGKILL);
        exit(2);
}

/* ---- running ---- */

static void poll_side(struct test *t, struct side *s) {
        int status;

        if (s->audit)
                audit_poll(s->audit);
        if (fleet_has_ended(&s->fleet, &status))
                give_up(t, s == &t->copy ? "azpard ended on the copy" : "azpard ended", NULL);
}

static void run_until(struct test *t, struct side *s, bool (*condition)(struct side *s, uint64_t), uint64_t n,
                      const char *what) {
        uint64_t end = clock_now_ns() + PATIENCE_NS;

        while (!condition(s, n)) {
                if (clock_now_ns() >= end)
                        give_up(t, what, NULL);
                poll_side(t, s);
                clock_sleep_ns(POLL_NS);
        }
}

static bool has_samples(struct side *s, uint64_t n) {
        return audit_counts(s->audit)->samples >= n;
}

static int count_spill_files(const struct side *s) {
        char folder[32];
        int n = 0;

        for (unsigned i = 0; i < NUMBERED_SLOTS; i++) {
                (void) snprintf(folder, sizeof(folder), "spill/worker_%u", i);
                n += MAX(fleet_count_files(&s->fleet, folder, ".json"), 0);
        }
        return n;
}

static bool has_spilled(struct side *s, uint64_t n) {
        return audit_counts(s->audit)->spilled > n || count_spill_files(s) == 0;
}

static bool answers(struct side *s, uint64_t n) {
        (void) n;
        return fleet_durable(&s->fleet) >= 0;
}

static bool is_durable(struct side *s, uint64_t n) {
        return fleet_durable(&s->fleet) > (int64_t) n;
}

static bool has_no_files(struct side *s, uint64_t n) {
        (void) n;
        return count_spill_files(s) == 0;
}

static bool is_drained(struct side *s, uint64_t n) {
        return audit_is_idle(s->audit, N_WORKERS) && fleet_bytes_in_lanes(&s->fleet) == 0 &&
               has_no_files(s, n) && audit_counts(s->audit)->missing == 0;
}

static bool is_stopped(struct side *s, uint64_t pid) {
        (void) s;
        return strchr("TXZ", fleet_process_state((pid_t) pid)) != NULL;
}

static void open_audit(struct test *t, struct side *s) {
        struct error e = ERROR_INIT;
        char path[FLEET_PATH_MAX + 16];
        int fd;

        (void) snprintf(path, sizeof(path), "%s/window", s->fleet.state);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || audit_new(t->game, fd, s->shared, &s->audit, &e) < 0)
                give_up(t, "could not map the window", &e);
}

static void start_side(struct test *t, struct side *s, const char *name, uint32_t hold) {
        struct error e = ERROR_INIT;
        char folder[FLEET_PATH_MAX];

        (void) snprintf(folder, sizeof(folder), "%s/%s", t->folder, name);
        if (fleet_init(&s->fleet, t->programs, folder, settings, &e) < 0)
                give_up(t, "could not begin", &e);
        s->shared = fleet_share(&s->fleet, "shared", sizeof(*s->shared), s->fleet.kill_file);
        if (!s->shared)
                give_up(t, "could not begin", NULL);
        atomic_store(&s->shared->pace_us, PACE_US);
        atomic_store(&s->shared->hold, hold);
        if (fleet_start(&s->fleet, &e) < 0)
                give_up(t, "could not start azpard", &e);
        run_until(t, s, answers, 0, "azpard does not answer");
        open_audit(t, s);
}

static void stop_side(struct test *t, struct side *s) {
        uint64_t end;
        int status = 0;

        atomic_store(&s->shared->hold, 1);
        run_until(t, s, is_drained, 0, "lanes and spill files stay");
        end = clock_now_ns() + STOP_PATIENCE_NS;
        (void) kill(s->fleet.pid, SIGTERM);
        while (!fleet_has_ended(&s->fleet, &status) && clock_now_ns() < end)
                clock_sleep_ns(POLL_NS);
        if (s->fleet.pid || status != 0)
                give_up(t, "azpard did not stop as asked", NULL);
        audit_poll(s->audit);
}

/* ---- copying ---- */

static void read_file(struct test *t, const char *path, struct file_map *ret) {
        struct error e = ERROR_INIT;

        if (file_read(AT_FDCWD, path, COPY_MAX, ret, &e) < 0)
                give_up(t, "could not copy", &e);
}

static void write_file(struct test *t, const char *path, const void *bytes, size_t n) {
        cleanup_(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0 || file_write_all(fd, bytes, n) < 0)
                give_up(t, path, NULL);
}

static bool is_temporary(const char *path) {
        const char *dot = strstr(path, ".tmp");

        return dot && (dot[4] == '\0' || dot[4] == '-' || dot[4] == '/');
}

/* One that was never synced: anything may be missing at its end, or stand there as zeros. */
static void copy_temporary(struct test *t, const char *to, struct file_map *m) {
        size_t n = m->n_bytes ? rng_below(&t->rng, (uint32_t) m->n_bytes + 1) : 0;

        t->n_temporary++;
        if (rng_below(&t->rng, 4) == 0)
                return;
        if (rng_below(&t->rng, 2))
                memset((void *) (uintptr_t) (m->bytes + n), 0, m->n_bytes - n);
        write_file(t, to, m->bytes, rng_below(&t->rng, 2) ? n : m->n_bytes);
}

static void copy_folder(struct test *t, const char *from, const char *to) {
        char source[2 * FLEET_PATH_MAX], target[2 * FLEET_PATH_MAX];
        DIR *dir = opendir(from);
        struct dirent *d;

        if (!dir || (mkdir(to, 0700) < 0 && errno != EEXIST))
                give_up(t, "could not copy a folder", NULL);
        while ((d = readdir(dir))) {
                cleanup_(file_map_close) struct file_map m = FILE_MAP_NULL;
                struct stat st;

                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
                    strcmp(d->d_name, "window") == 0 ||
                    snprintf(source, sizeof(source), "%s/%s", from, d->d_name) >= (int) sizeof(source) ||
                    snprintf(target, sizeof(target), "%s/%s", to, d->d_name) >= (int) sizeof(target) ||
                    stat(source, &st) < 0)
                        continue;
                if (S_ISDIR(st.st_mode))
                        copy_folder(t, source, target);
                else if (S_ISREG(st.st_mode)) {
                        read_file(t, source, &m);
                        if (is_temporary(target))
                                copy_temporary(t, target, &m);
                        else
                                write_file(t, target, m.bytes, m.n_bytes);
                }
        }
        (void) closedir(dir);
}

/* Pages or sectors of @now become those of @before, by the dice. */
static void mix(struct test *t, struct file_map *now, const struct file_map *before) {
        const struct window_header *a = (const void *) before->bytes, *b = (const void *) now->bytes;
        size_t n = rng_below(&t->rng, 2) ? PAGE : SECTOR;
        uint32_t share = 1 + rng_below(&t->rng, 99);
        /* an incarnation is given after its page is synced: an older page is no longer on the disk then */
        size_t begin = a->next_incarnation == b->next_incarnation ? 0 : WINDOW_HEADER_BYTES;

        t->n_mixed++;
        for (size_t at = begin; at + n <= now->n_bytes; at += n)
                if (rng_below(&t->rng, 100) < share)
                        memcpy((void *) (uintptr_t) (now->bytes + at), before->bytes + at, n);
}

static void stop_all(struct test *t, unsigned n, const struct fleet_child *all, int signal_number) {
        (void) kill(t->main.fleet.pid, signal_number);
        for (unsigned i = 0; i < n; i++)
                (void) kill(all[i].pid, signal_number);
        if (signal_number == SIGCONT)
                return;
        run_until(t, &t->copy, is_stopped, (uint64_t) t->main.fleet.pid, "azpard does not stand still");
        for (unsigned i = 0; i < n; i++)
                run_until(t, &t->copy, is_stopped, (uint64_t) all[i].pid, "a child does not stand still");
}

static void run_for(struct test *t, uint64_t ns) {
        uint64_t end = clock_now_ns() + ns;

        while (clock_now_ns() < end) {
                poll_side(t, &t->main);
                clock_sleep_ns(POLL_NS);
        }
}

/* azpard stands still for a while, and then has files to take in; return somewhere in that. */
static void make_them_spill(struct test *t) {
        (void) kill(t->main.fleet.pid, SIGSTOP);
        run_for(t, (50 + rng_below(&t->rng, 200)) * NS_PER_MS);
        (void) kill(t->main.fleet.pid, SIGCONT);
        if (rng_below(&t->rng, 3) == 0)
                run_for(t, rng_below(&t->rng, 1000) * NS_PER_MS);
        else
                run_until(t, &t->main, has_spilled, audit_counts(t->main.audit)->spilled,
                          "files are taken in");
}

/* What the copy must hold: samples in [first, durable) of those in [first, tail). */
struct promise {
        uint64_t first, durable, tail;
};

/* Let the power fail now, and put what is left into @to. */
static void cut_power(struct test *t, const char *to, struct promise *ret) {
        cleanup_(file_map_close) struct file_map before = FILE_MAP_NULL, now = FILE_MAP_NULL;
        struct fleet_child all[FLEET_CHILDREN_MAX];
        char path[FLEET_PATH_MAX + 16], target[FLEET_PATH_MAX + 32];
        int64_t durable[3];
        unsigned n;

        (void) snprintf(path, sizeof(path), "%s/window", t->main.fleet.state);
        (void) snprintf(target, sizeof(target), "%s/window", to);
        durable[0] = fleet_durable(&t->main.fleet);
        read_file(t, path, &before);
        run_for(t, rng_below(&t->rng, 50000) * UINT64_C(1000));
        if (t->stale)
                run_until(t, &t->main, is_durable, (uint64_t) durable[0] + STALE, "nothing becomes durable");
        n = fleet_children(&t->main.fleet, all);
        durable[1] = fleet_durable(&t->main.fleet);
        stop_all(t, n, all, SIGSTOP);
        audit_poll(t->main.audit);
        read_file(t, path, &now);
        copy_folder(t, t->main.fleet.state, to);
        ret->tail = audit_tail(t->main.audit);
        ret->first = audit_first(t->main.audit);
        t->n_with_files += count_spill_files(&t->main) > 0;
        stop_all(t, n, all, SIGCONT);
        durable[2] = fleet_durable(&t->main.fleet);
        if (durable[1] < 0)
                give_up(t, "azpard does not answer", NULL);
        ret->durable = (uint64_t) durable[1];
        /* only if no sync ended meanwhile may a page be as old as in the first copy */
        if (durable[0] == durable[2] || t->stale)
                mix(t, &now, &before);
        write_file(t, target, now.bytes, now.n_bytes);
}

/* ---- what came of it ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk) {
        (void) st;
        (void) type;
        (void) walk;
        return remove(path);
}

static void check_copy(struct test *t, const struct promise *p) {
        struct audit *a = t->copy.audit;

        if (audit_tail(a) < p->durable) {
                (void) fprintf(stderr, "the copy ends at %" PRIu64 ", and must hold %" PRIu64 "\n",
                               audit_tail(a), p->durable);
                t->n_lost += p->durable - audit_tail(a);
        }
        t->n_durable += p->durable - MIN(p->first, p->durable);
        t->n_behind += p->tail - MIN(p->durable, p->tail);
        /* what lies below p->first was pushed out, in part, by samples that the cut took */
        audit_allow_holes(a, p->durable);
        audit_skip_to(a, p->first);
        audit_poll(a);
}

static void add_counts(struct test *t, const struct audit *a) {
        const struct audit_counts *c = audit_counts(a);

        t->n_twice += c->twice;
        t->n_torn += c->torn;
        t->n_lost += c->missing;
        t->n_holes += c->holes;
}

static void try_copy(struct test *t) {
        struct promise p = { 0 };
        uint64_t oldest, began_at, n_missing;
        int n_rejected;
        struct side *c = &t->copy;
        char folder[FLEET_PATH_MAX], state[FLEET_PATH_MAX + 16];

        *c = (struct side){ 0 };
        (void) snprintf(folder, sizeof(folder), "%s/copy", t->folder);
        (void) snprintf(state, sizeof(state), "%s/state", folder);
        (void) mkdir(folder, 0700);
        (void) mkdir(state, 0700);
        if (rng_below(&t->rng, 4) > 0) {
                audit_forget_spilled(t->main.audit);
                make_them_spill(t);
        }
        cut_power(t, state, &p);
        /* the main one stands still meanwhile: nobody reads its ledger */
        start_side(t, c, "copy", 1);
        check_copy(t, &p);
        began_at = audit_tail(c->audit);
        oldest = audit_first(c->audit); /* what is taken in again pushes others out */
        run_until(t, c, has_no_files, 0, "spill files stay on the copy");
        audit_poll(c->audit);
        n_missing = audit_spilled_missing(t->main.audit, c->audit, MAX(p.first, oldest));
        n_rejected = MAX(fleet_count_files(&c->fleet, "spill/rejected", ".json"), 0);
        if (n_missing > 0 || n_rejected > 0) {
                (void) fprintf(stderr,
                               "window %" PRIu64 " .. %" PRIu64 ", durable up to %" PRIu64
                               "; in the copy up to %" PRIu64 " at first; %d files set aside, %" PRIu64
                               " samples overtaken\n",
                               p.first, p.tail, p.durable, began_at, n_rejected,
                               audit_counts(c->audit)->overtaken);
                fleet_print_log(&c->fleet);
        }
        t->n_lost += n_missing + (uint64_t) n_rejected;
        atomic_store(&c->shared->hold, 0);
        run_until(t, c, has_samples, audit_counts(c->audit)->samples + WORKS_AGAIN,
                  "nothing comes in on the copy");
        stop_side(t, c);
        add_counts(t, c->audit);
        t->n_lost += atomic_load(&c->shared->n_lost_files);
        t->n_complaints += fleet_count_complaints(&c->fleet, "damaged samples left out");
        t->n_copies++;
        audit_free(c->audit);
        (void) munmap(c->shared, sizeof(*c->shared));
        (void) nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        *c = (struct side){ 0 };
}

static bool report(struct test *t) {
        (void) printf("%u copies (%u with pages of two moments, %u with spill files, %u temporary files "
                      "torn), %" PRIu64 " durable samples expected, %" PRIu64
                      " younger ones of which %" PRIu64 " left holes, %" PRIu64 " lost, %" PRIu64
                      " twice, %" PRIu64 " torn, %" PRIu64 " complaints; seed %" PRIu64 "\n",
                      t->n_copies, t->n_mixed, t->n_with_files, t->n_temporary, t->n_durable, t->n_behind,
                      t->n_holes, t->n_lost, t->n_twice, t->n_torn, t->n_complaints, t->seed);
        return t->n_lost == 0 && t->n_twice == 0 && t->n_torn == 0 && t->n_complaints == 0 &&
               t->n_durable > 0 && t->n_mixed > 0 && t->n_with_files > 0;
}

static void cut_all_day(struct test *t) {
        struct error e = ERROR_INIT;
        struct config config;
        char path[FLEET_PATH_MAX + 32];

        (void) snprintf(path, sizeof(path), "%s/azpar.conf", t->folder);
        if (mkdir(t->folder, 0700) < 0 && errno != EEXIST)
                give_up(t, t->folder, NULL);
        write_file(t, path, settings, strlen(settings));
        if (config_read(path, NULL, 0, &config, &e) < 0 || game_new(&config, &t->game, &e) < 0)
                give_up(t, "could not begin", &e);
        start_side(t, &t->main, "main", 0);
        while (t->n_copies < t->n_wanted) {
                uint64_t samples = audit_counts(t->main.audit)->samples + AT_WORK;

                run_until(t, &t->main, has_samples, samples + rng_below(&t->rng, AT_WORK),
                          "no samples come in");
                run_until(t, &t->main, is_durable, 0, "nothing becomes durable");
                try_copy(t);
        }
        stop_side(t, &t->main);
        add_counts(t, t->main.audit);
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "programs", required_argument, NULL, 'p' }, { "folder", required_argument, NULL, 'f' },
                { "copies", required_argument, NULL, 'c' },   { "seed", required_argument, NULL, 's' },
                { "stale", no_argument, NULL, 'l' },          { NULL, 0, NULL, 0 },
        };
        static struct test t = { .n_wanted = 30 };
        int c;

        t.seed = clock_unix_us();
        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (c) {
                case 'p':
                        t.programs = optarg;
                        break;
                case 'f':
                        t.folder = optarg;
                        break;
                case 'c':
                        t.n_wanted = (unsigned) strtoul(optarg, NULL, 10);
                        break;
                case 'l':
                        t.stale = true;
                        break;
                case 's':
                        t.seed = strtoull(optarg, NULL, 10);
                        break;
                default:
                        return 2;
                }
        }
        if (!t.programs || !t.folder)
                return 2;
        rng_seed(&t.rng, t.seed, 1);
        cut_all_day(&t);
        return report(&t) ? EXIT_SUCCESS : EXIT_FAILURE;
}
