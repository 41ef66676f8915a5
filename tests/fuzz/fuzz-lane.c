/* SPDX-License-Identifier: MIT */
/*
 * Lanes from outside: the input is a program of what workers and kills do to two lanes while azpard's intake
 * reads them.  Honest games, games with a byte changed under a right checksum, garbage under a right one,
 * garbage in the ring, indices that lie, workers that die, azpard that dies between append and release.
 *
 * Afterwards the window holds whole samples only, each identity once, a lane's in ascending order; and where
 * nobody lied, exactly the samples that the worker committed.
 *
 * The window's module is included and not linked, so that a run can begin with an empty one without making
 * its file again; the intake's for fewer slots, over which it has loops.
 */
#include "common/exchange/window.c"
#include "common/exchange/window_file.c"

#include "common/exchange/segment.h"
#undef SEGMENT_MAX_WORKERS
#define SEGMENT_MAX_WORKERS 2
#include "daemon/intake.c"

#include "tests/fuzz/fuzz.h"

#define N_SLOTS     SEGMENT_MAX_WORKERS
#define LANE_BYTES  4096
#define N_WINDOW    600
#define ENOUGH      400 /* samples: what the lanes hold besides still fits the window */
#define MAX_LIVES   32  /* of workers, in one run */
#define MAX_STEPS   16
#define FOR_EVER_NS UINT64_C(60000000000)

/* One worker process. */
struct life {
        uint64_t incarnation;
        uint64_t n_committed; /* samples */
        unsigned slot;
        bool liar;
};

static struct game *game;
static struct window *window;
static struct segment *segment;
static struct intake *intake;
static uint64_t intake_since; /* the window's tail when it was made */
static struct life lives[MAX_LIVES];
static size_t n_lives;
static struct life *alive[N_SLOTS];

static void remove_segment(void) {
        char instance[32];

        (void) snprintf(instance, sizeof(instance), "fuzz-%d", (int) getpid());
        (void) segment_unlink(instance);
}

static void set_up(void) {
        struct config c;
        char instance[32];

        log_open("fuzz-lane", (enum log_level) 0);
        config_defaults(&c);
        c.game_name = GAME_TICTACTOE;
        EXPECT(game_new(&c, &game, NULL) == 0);
        EXPECT(window_open(fuzz_folder(), "window", game, N_WINDOW, &window, NULL) == 0);
        (void) snprintf(instance, sizeof(instance), "fuzz-%d", (int) getpid());
        (void) segment_unlink(instance); /* of a run that crashed under the same number */
        EXPECT(segment_create(instance, N_SLOTS, LANE_BYTES, game->rules, fuzz_folder_path, &segment, NULL) ==
               0);
        EXPECT(atexit(remove_segment) == 0);
}

static void new_life(unsigned slot) {
        struct life *l = &lives[n_lives++];

        *l = (struct life){ .slot = slot };
        EXPECT(window_new_incarnation(window, &l->incarnation) == 0);
        intake_expect(intake, slot, l->incarnation);
        alive[slot] = l;
}

static void new_intake(void) {
        EXPECT(intake_new(game, window, &intake) == 0);
        intake_since = window_tail(window);
}

FUZZ_UNSEEN static void begin(void) {
        memset(window->slots, 0, window->tail * window->slot_bytes);
        window->tail = window->durable = 0;
        window->next_incarnation = 1;
        atomic_store(&window->published, 0);
        atomic_store(&window->header->tail, 0);
        atomic_store(&window->header->next_incarnation, 1);
        n_lives = 0;
        new_intake();
        for (unsigned i = 0; i < N_SLOTS; i++) {
                atomic_store(&segment->workers[i]->lane.tail, 0);
                atomic_store(&segment->workers[i]->lane.head, 0);
                segment->lanes[i].broken = false;
                memset(segment->lanes[i].data, 0, LANE_BYTES);
                new_life(i);
        }
}

/* What azpard is to have counted: all that it appended. */
static void check_counts(void) {
        EXPECT(intake_counts(intake).samples == window_tail(window) - intake_since);
}

/* A whole honest game of 1 to 9 samples. Return: its length. */
FUZZ_UNSEEN static size_t make_game(const struct life *l, uint64_t seed, size_t n, unsigned char *ret,
                                    size_t size) {
        static struct sample samples[9];
        size_t length = 0;

        for (size_t i = 0; i < n; i++) {
                struct sample *s = &samples[i];

                *s = (struct sample){ .id = { l->slot, l->incarnation, l->n_committed + i },
                                      .generation = seed,
                                      .root_value = (float) (seed % 3) - 1.0f,
                                      .weight = 1.0f,
                                      .outcome = (int8_t) (seed % 2),
                                      .ply = (uint16_t) i,
                                      .n_visits = (uint16_t) (9 - i) };
                for (unsigned k = 0; k < s->n_visits; k++)
                        s->visits[k] = (struct sample_visit){ (uint16_t) (i + k), (uint16_t) (1 + seed) };
                s->planes[i / 8] = (unsigned char) (1u << i % 8);
        }
        EXPECT(sample_encode_record(game, samples, n, ret, size, &length) == 0);
        return length;
}

static void write_game(struct fuzz_input *in, struct life *l, bool honest) {
        unsigned char record[2048];
        size_t n = 1 + fuzz_uint(in, 1) % 9;
        size_t length = make_game(l, fuzz_uint(in, 1), n, record, sizeof(record));
        int r;

        if (!honest) {
                l->liar = true;
                record[fuzz_uint(in, 2) % length] = (unsigned char) fuzz_uint(in, 1);
        }
        r = lane_write(&segment->lanes[l->slot], record, (uint32_t) length);
        EXPECT(r == 0 || r == LANE_E_FULL || (r == LANE_E_BROKEN && l->liar));
        if (r == 0)
                l->n_committed += n;
}

static void write_garbage(struct fuzz_input *in, struct life *l) {
        const uint8_t *bytes;
        size_t n = fuzz_take(in, fuzz_uint(in, 1), &bytes);

        l->liar = true;
        (void) !lane_write(&segment->lanes[l->slot], bytes, (uint32_t) n);
}

/* Bytes anywhere in the ring, and a tail that calls some of it committed. */
static void scribble(struct fuzz_input *in, struct life *l) {
        struct lane *lane = &segment->lanes[l->slot];
        uint64_t at = fuzz_uint(in, 2), step = fuzz_uint(in, 2);
        const uint8_t *bytes;
        size_t n = fuzz_take(in, fuzz_uint(in, 1), &bytes);

        l->liar = true;
        for (size_t i = 0; i < n; i++)
                lane->data[(at + i) % LANE_BYTES] = bytes[i];
        atomic_fetch_add(&lane->shared->tail, step);
}

static void set_index(struct fuzz_input *in, struct life *l) {
        struct lane_shared *shared = segment->lanes[l->slot].shared;
        bool head = fuzz_uint(in, 1) & 1;

        l->liar = true;
        atomic_store(head ? &shared->head : &shared->tail, fuzz_uint(in, 8));
}

static void die(struct life *l) {
        EXPECT(intake_finish_slot(intake, segment, l->slot) == 0);
        EXPECT(lane_used(&segment->lanes[l->slot]) == 0);
        EXPECT(!intake_is_broken(intake, l->slot));
        new_life(l->slot);
}

/* azpard is killed; with @late, after it has appended everything and before it has released any of it. */
static void restart_azpard(bool late) {
        uint64_t heads[N_SLOTS], n_samples = 0;

        if (late) {
                for (unsigned i = 0; i < N_SLOTS; i++)
                        heads[i] = atomic_load(&segment->lanes[i].shared->head);
                EXPECT(intake_turn(intake, segment, FOR_EVER_NS) == INTAKE_E_DONE);
                for (unsigned i = 0; i < N_SLOTS; i++)
                        atomic_store(&segment->lanes[i].shared->head, heads[i]);
        }
        check_counts();
        intake_free(intake);
        for (unsigned i = 0; i < N_SLOTS; i++)
                segment->lanes[i].broken = false; /* the new process has a handle of its own */
        new_intake();
        EXPECT(intake_inherit(intake, segment, &n_samples) == 0);
        EXPECT(n_samples == window_tail(window) - intake_since && intake_n_broken(intake) == 0);
        for (unsigned i = 0; i < N_SLOTS; i++)
                new_life(i);
}

static void take_step(struct fuzz_input *in) {
        uint64_t op = fuzz_uint(in, 1);
        struct life *l = alive[op >> 7];

        switch (op % 8) {
        case 0:
                write_game(in, l, true);
                break;
        case 1:
                write_game(in, l, false);
                break;
        case 2:
                write_garbage(in, l);
                break;
        case 3:
                scribble(in, l);
                break;
        case 4:
                set_index(in, l);
                break;
        case 5:
                EXPECT(intake_turn(intake, segment, FOR_EVER_NS) == INTAKE_E_DONE);
                break;
        case 6:
                die(l);
                break;
        case 7:
                restart_azpard(op & 8);
                break;
        }
}

/* An honest one's samples are all there.  More in its name can only come from a liar that had its lane later.
 */
FUZZ_UNSEEN static void check_life(const struct life *l, uint64_t n_found) {
        bool lied_for = false;

        if (l->liar)
                return;
        for (const struct life *other = l; other < lives + n_lives; other++)
                lied_for = lied_for || (other->liar && other->slot == l->slot);
        EXPECT(n_found == l->n_committed || (lied_for && n_found > l->n_committed));
}

/* Each sample is whole and the next one of its slot; each life's are all there if it did not lie. */
FUZZ_UNSEEN static void check_window(void) {
        uint64_t n_found[MAX_LIVES] = { 0 };
        struct sample_id newest[N_SLOTS] = { 0 };
        static struct sample s;

        EXPECT(window_first(window) == 0);
        for (uint64_t i = 0; i < window_tail(window); i++) {
                struct sample_id *before;

                EXPECT(window_read(window, i, &s) == 0);
                EXPECT(s.id.slot < N_SLOTS && s.id.incarnation > 0);
                before = &newest[s.id.slot];
                EXPECT(s.id.incarnation > before->incarnation ||
                       (s.id.incarnation == before->incarnation && s.id.sequence > before->sequence));
                *before = s.id;
                for (size_t k = 0; k < n_lives; k++)
                        if (lives[k].slot == s.id.slot && lives[k].incarnation == s.id.incarnation)
                                n_found[k]++;
        }
        for (size_t k = 0; k < n_lives; k++)
                check_life(&lives[k], n_found[k]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        struct fuzz_input in = { bytes, n };
        int fd;

        if (!window)
                set_up();
        fd = fuzz_next_fd();
        begin();
        for (unsigned i = 0; i < MAX_STEPS && in.n > 0; i++)
                if (n_lives + 2 * N_SLOTS < MAX_LIVES && window_tail(window) < ENOUGH)
                        take_step(&in);
        for (unsigned i = 0; i < N_SLOTS; i++)
                die(alive[i]);
        check_counts();
        check_window();
        intake_free(intake);
        EXPECT(fuzz_next_fd() == fd);
        return 0;
}
