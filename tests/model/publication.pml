/* SPDX-License-Identifier: MIT */
/*
 * Model: how weights get from the trainer into the workers, with processes that are killed anywhere.  Checked
 * by spin; tests/model/check says with which macros.
 *
 * Who is here and what he stands for
 *
 *   trainer   daemon/trainer/learn.c read_model(), learner_publish(); loop.c raise_generation(), publish();
 *             common/base/file.c file_replace(); and its successors
 *   azpard    daemon/publication.c, daemon/main.c open_segment(); and its successors
 *   worker    worker/main.c has_new_model(), take_up_model(); two slots, and their successors
 *   fate      SIGKILL of any of them before any step, up to KILLS of them; CUTS power cuts; FAILURES times
 *             opening the file fails for a reason that passes by itself (EMFILE)
 *
 * A file is an inode of two halves; a half holds the number of the publication that wrote it, which stands
 * for its weights and, by generation_of[], for the generation in its metadata.  Whoever has opened a file
 * reads the inode that had the name then.  A reader opens it and reads one half in one step and the other one
 * in the next: what is torn if anything can be shows there.
 *
 * Memory order.  What passes between processes goes through system calls (open, rename) and one word each:
 * published_generation and header.generation.  Neither is read together with other shared memory except
 * generation_ns, which only measures.  A system call is done before the store that follows it, so
 * sequentially consistent words lose nothing; ANNOUNCE_BEFORE_RENAME is what a store too early would look
 *like.  
 * What is left out, and why nothing is missed by it
 *
 *   - The eventfd.  azpard looks at published_generation once a second as well (on_tick()), so that a wake-up
 *     lost costs a second.  Here it looks whenever it has changed.
 *   - Training.  A publication may come at any time; a new trainer publishes at once, as loop.c does.
 *   - Temporary file: nobody looks at it, so that it is written in one step.
 *   - Files that others put there, and damage: model_open() checks every value;
 *     tests/unit/test-safetensors.c.
 *   - The samples' way: `window` is the highest generation that samples in the window name, and may grow to
 *     what any worker uses at any time.  A power cut may take any part of it back.
 *   - Counters are bounded: N publications, and the one that each new trainer makes.
 *
 * azpard's children die with it, each at some moment after it (PDEATHSIG); its successor waits for that
 * (children.lock).
 *
 * What must hold
 *
 *   P2   nobody reads torn weights: read_rest(); nothing is announced before its file is whole:
 *        announce_to_azpard(), announce(), also after a power cut.
 *   P5   a generation names the same weights for ever, as far as anybody can know of it: rename(), worker; a
 *        worker's never goes back while it lives, nor what azpard announces. What is announced is taken up:
 *        when all has come to rest, header and workers have the file's generation and weights: fate, and as
 *        LTL `taken_up`.
 *
 * There are no cycles, which is checked too, so that fairness has nothing to decide; see lane.pml.
 *
 * Macros that break it, one each: see the table in README.md.
 */

/* publications, without those at a trainer's start */
#ifndef N
#define N 2
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef CUTS
#define CUTS 0
#endif
#ifndef FAILURES
#define FAILURES 0
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef G
#define G 2
#endif

#define MAX     (N + KILLS + CUTS + 1)

/* of a child */
#define NONE  0
#define RUN   1
#define DYING 2

/* ---- what outlives processes ---- */

/* files, by inode: who wrote each half, as the number of the publication; 0: nothing yet */
byte half_a[MAX], half_b[MAX];
bool synced[MAX];
byte model;         /* inode that has the name model.safetensors, 0: none */
byte model_on_disk; /* the same, if the power goes now */
byte checkpoint;    /* generation in the newest checkpoint */
byte window;        /* highest generation that samples in the window name */

/* ---- the segment ---- */

byte published; /* trainer.published_generation */
byte announced; /* header.generation */

/* ---- processes ---- */

bool azpard_is_up = true;
bool orphans; /* azpard is dead, and its children will be */
byte trainer_is = NONE;
byte worker_is[2];
byte in_use[2]; /* generation */
byte kills, cuts, failures;

/* ---- ghosts ---- */

byte made;                /* publications begun */
byte generation_of[MAX];  /* by number of publication: what its file says */
byte content_of[MAX + 1]; /* by generation: the publication that had it; 0: none that anybody could know of */
byte used[2];             /* publication whose weights the worker has */

#define is_whole(f) (f && half_a[f] && half_a[f] == half_b[f])
#define file_generation (model -> generation_of[half_a[model]] : 0)
#define max(a, b) (a > b -> a : b)

/* ---- azpar-trainer ---- */

/* file.c write_durably(), with nobody looking */
inline write_file() {
#ifdef WRITE_IN_PLACE
        d_step {
                file = (model -> model : made);
                half_a[file] = 0;
                half_b[file] = 0;
                model = file
        }
        half_a[file] = made;
        half_b[file] = made
#else
        d_step {
                file = made;
                half_a[file] = made;
                half_b[file] = made
        }
#endif
}

/* file_replace(): from here on whoever opens it gets the new one */
inline rename() {
        d_step {
                model = file;
                assert(!content_of[generation]);
                content_of[generation] = made
        }
}

/* loop.c publish(): the release store */
inline announce_to_azpard() {
        d_step {
                assert(is_whole(model) && generation_of[half_a[model]] >= generation);
                published = generation
        }
}

active proctype trainer() {
        byte generation, file;
        bool is_done;

end:
        do
        :: trainer_is != NONE ->
                {
                        /* learner_open(): checkpoint_newest(), read_model(); raise_generation() */
                        d_step {
                                generation = checkpoint;
#ifndef REUSE_GENERATION
                                generation = max(generation, file_generation);
#endif
#ifndef NO_RAISE
                                generation = max(generation, window)
#endif
                        }
end_of_work:
                        do
                        :: made < N || !is_done ->
                                d_step {
                                        is_done = true;
                                        made++;
                                        generation++;
                                        generation_of[made] = generation
                                }
#ifdef ANNOUNCE_BEFORE_RENAME
                                published = generation;
#endif
                                write_file();
#ifndef RENAME_BEFORE_SYNC
                                synced[file] = true;
#endif
                                rename();
#ifdef RENAME_BEFORE_SYNC
                                model_on_disk = file;
                                synced[file] = true;
#else
                                model_on_disk = file;
#endif
#ifndef ANNOUNCE_BEFORE_RENAME
                                announce_to_azpard()
#endif
#if CUTS
                        :: made && checkpoint < generation ->
                                checkpoint = generation
#endif
                        od
                } unless {
                        trainer_is == DYING
                };
                d_step {
                        generation = 0;
                        file = 0;
                        is_done = false;
                        trainer_is = NONE
                }
        od
}

/* ---- reading the file: azpard's check_file(), a worker's evaluate_load() ---- */

inline open_file() {
        d_step {
                file = model;
                half = half_a[file]
        }
}

inline read_rest() {
        assert(half && half == half_b[file]);
        file = 0
}

/* ---- azpar-worker ---- */

active [WORKERS] proctype worker() {
        byte tried, file, half;
        bool again;
        byte me = _pid - 1;

end:
        do
        :: worker_is[me] != NONE ->
                {
end_of_work:
                        do
                        :: announced != tried || again ->
                                /* has_new_model() */
                                d_step {
                                        tried = announced;
                                        again = false
                                }
                                if
                                :: open_file();
                                        d_step {
                                                read_rest();
#ifdef TRUST_HEADER
                                                generation_of[0] = tried;
#else
                                                generation_of[0] = generation_of[half];
#endif
                                                assert(generation_of[0] >= in_use[me]);
                                                assert(content_of[generation_of[0]] == half);
                                                in_use[me] = generation_of[0];
                                                used[me] = half;
                                                half = 0;
                                                generation_of[0] = 0
                                        }
                                :: d_step {
                                        failures;
                                        failures--;
#ifndef NO_RETRY
                                        again = true
#endif
                                   }
                                fi
#if CUTS
                        :: window < in_use[me] ->
                                window = in_use[me]
#endif
                        od
                } unless {
                        worker_is[me] == DYING
                };
                d_step {
                        tried = 0;
                        file = 0;
                        half = 0;
                        again = false;
                        in_use[me] = 0;
                        used[me] = 0;
                        worker_is[me] = NONE
                }
        od
}

/* ---- azpard ---- */

/* publication_announce(), after what check_file() found */
inline announce() {
        d_step {
                read_rest();
                assert(is_whole(model));
                assert(generation_of[half] >= announced);
                announced = generation_of[half];
                half = 0
        }
}

active proctype azpard() {
        byte seen, file, half;
        bool again;

end:
        do
        :: azpard_is_up && trainer_is == NONE && worker_is[0] == NONE && worker_is[1] == NONE ->
                {
                        d_step {
                                orphans = false;
                                published = 0;
                                announced = 0
                        }
                        /* publication_init(), open_segment() */
                        if
                        :: model ->
                                open_file();
                                announce()
                        :: else
                        fi;
end_of_work:
                        do
                        :: trainer_is == NONE -> trainer_is = RUN
                        :: worker_is[0] == NONE -> worker_is[0] = RUN
#if WORKERS == 2
                        :: worker_is[1] == NONE -> worker_is[1] = RUN
#endif
                        :: published != seen || again ->
                                /* publication_poll() */
                                d_step {
                                        seen = published;
                                        again = false
                                }
                                if
                                :: open_file();
#ifdef LOOK_TWICE
                                        seen = published;
#endif
                                        announce()
                                :: d_step {
                                        failures;
                                        failures--;
                                        again = true
                                   }
                                fi
                        od
                } unless {
                        !azpard_is_up
                };
                d_step {
                        seen = 0;
                        file = 0;
                        half = 0;
                        again = false
                }
        :: !azpard_is_up ->
                azpard_is_up = true
        od
}

/* ---- who dies ---- */

inline kill(child) {
        d_step {
                kills && child == RUN;
                kills--;
                child = DYING
        }
}

inline kill_orphan(child) {
        d_step {
                orphans && child == RUN;
                child = DYING
        }
}

inline cut_off(child) {
        if
        :: child == RUN -> child = DYING
        :: else
        fi
}

inline power_cut() {
        d_step {
                cuts--;
                azpard_is_up = false;
                orphans = false;
                cut_off(trainer_is);
                cut_off(worker_is[0]);
                cut_off(worker_is[1]);
                i = 0
        }
        if
        :: model = model_on_disk
        :: model_on_disk = model
        fi;
        if
        :: model && !synced[model] -> half_b[model] = 0
        :: true
        fi;
        do
        :: window > checkpoint -> window--
        :: break
        od;
        d_step {
                i = 1;
                do
                :: i <= MAX ->
                        if
                        :: i > window && i > file_generation -> content_of[i] = 0
                        :: else
                        fi;
                        i++
                :: else -> break
                od;
                i = 0
        }
}

active proctype fate() {
        byte i;

        atomic {
                select(kills : 0 .. KILLS);
                cuts = CUTS;
                failures = FAILURES
        }
        do
        :: kill(trainer_is)
        :: kill(worker_is[0])
        :: kill(worker_is[1])
        :: d_step {
                kills && azpard_is_up;
                kills--;
                azpard_is_up = false;
                orphans = true
           }
        :: kill_orphan(trainer_is)
        :: kill_orphan(worker_is[0])
        :: kill_orphan(worker_is[1])
#if CUTS
        :: atomic {
                cuts;
                power_cut()
           }
#endif
        :: timeout -> break
        od;
        assert(azpard_is_up && trainer_is == RUN && made >= N);
        assert(announced == file_generation);
        assert(!model || (used[0] == half_a[model] && (WORKERS == 1 || used[1] == half_a[model])))
}

#define is_published (published >= G)
#define is_taken_up  (in_use[0] >= G && (WORKERS == 1 || in_use[1] >= G))

ltl taken_up { [] (is_published -> <> [] is_taken_up) }
