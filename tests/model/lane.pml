/* SPDX-License-Identifier: MIT */
/*
 * Model: the way of games from one worker into the window, through its lane or through spill files, with
 * processes that are killed anywhere.  Checked by spin; tests/model/check says with which macros.
 *
 * Who is here and what he stands for
 *
 *   worker         worker/commit.c commit_record(); common/exchange/lane.c lane_write(), segment.c
 *                  segment_wake_consumer(); the process in one slot, and its successors
 *   store_buffer   the memory between the worker's core and all others
 *   disk           worker/spill.c: what it has under way while the worker goes on
 *   azpard         daemon/daemon.c on_drain(), child_ended(), before_sleep(); daemon/intake.c; lane_read(),
 *                  lane_release(); refill.c, file_intake.c; window.c recover(), window_newest(),
 *                  window_append(); and its successors
 *   fate           SIGKILL of worker or azpard before any step, up to KILLS of them, and CUTS power cuts
 *
 * A transition of the model is one access to what others can see.  What a process does in its own memory in
 * between cannot be seen by anybody, so it is part of the step before it.
 *
 * Memory order.  The stores of a record enter the store buffer together and leave it one by one in any order;
 * that includes every order in which compiler and machine may make them visible before the release store to
 * tail.  The store to tail leaves only when the buffer is empty otherwise: that, and no more, is what
 * "release" promises.  A killed worker's buffer is lost: since any part of it may have left it before, that
 * is every way in which a kill may fall between the stores.  segment_wake_consumer()'s fence waits for the
 * buffer.  azpard's loads happen in the order in which they stand, which is what the acquire of tail and the
 * release of head promise (RELAXED_HEAD takes the latter away).
 *
 * What is left out, and why nothing is missed by it
 *
 *   - Other slots.  Lanes, spill folders and watermarks are per slot, and azpard is one thread: other slots
 *     only put their samples between ours, which no step here looks at.
 *   - Bytes.  A record is three words of a ring of eight, so two fit, the second lap begins elsewhere than
 *     the first, and one record lies around the end.  A word says which game it is of and which word it is;
 *     header with length and checksum is word 0.  Then a torn record is one whose words do not belong
 *     together, which the real checksum finds with probability 1 - 2^-32 and the model for certain.
 *   - Foreign bytes.  A mad worker is for the fuzzers and tests/e2e/70-garbage-lane.sh; here all keep to the
 *     protocol.
 *   - The window's size.  What it has pushed out is not asked for again: what a watermark is needed for was
 *     appended last before a crash, and a window is larger than what comes in during one sync.
 *   - Time.  "The lane was full for spill_after" is: at any moment at which it is full.  azpard's looking at
 *     the lanes once a second is left out, so that a wake-up that is lost shows as waiting for ever.
 *   - Text and temporary file of a spill: nobody looks at them before the rename.  A file has one game here.
 *     One of several games is like several of one game each that become visible and are removed together:
 *     games are appended one by one in both, and the watermark tells where to go on.
 *   - Files of others (imports): they are known by their content, not by this protocol.
 *   - A disk that is full or fails: what fails is tried again, which is a later step of the same kind.
 *   - Counters are bounded since the number of games is: N games, those lost with a killed worker included.
 *
 * A game has two samples, a and b, so that a power cut may part them.  Identity is (incarnation, sequence, a
 * or b), in one number that compares alike.  The games' own numbers, 1 to N, are known to the checker alone.
 *
 * Power cuts.  What was synced stays.  Of what was appended since, the file system has written any pages, and
 * recover() makes a beginning of it: what lies behind the first sample that is missing beyond
 * header.synced goes too.  HOLES is a recover() that drops only what is missing: the spilled samples in the hole are taken for
 * duplicates then, since a younger one is in the window, and their file is removed.  A rename or unlink that is not followed by a sync of
 * the folder may have happened or not.  What was committed in the lane and not synced is excused (P3).
 *
 * What must hold
 *
 *   P1   every sample is appended once: assertion in append(); what is committed is in the window when all
 *        has come to rest: assertion in fate, and as LTL `delivered`.  The games of each way arrive in their
 *        order: append().
 *   P2   no torn record or file: assertions in take_record(), take_oldest_file().  Nobody waits for the dead:
 *        when nothing can happen any more, azpard is up, a worker runs, all games are made and the lane is
 *        empty: fate.
 *
 * All waiting is a blocked transition here, not a loop, and everything else uses something up (games,
 * kills).  So there are no cycles, which is checked too (`cycles`), and fairness has nothing to decide: every
 * run comes to rest.
 *
 * Macros that break it, one each: see the table in README.md.
 */

/* games; at most 4 */
#ifndef N
#define N 4
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CUTS
#define CUTS 0
#endif

#define N_MAX 5 /* from 1 */
#define RING  8 /* words */
#define WORDS 3 /* of a record */

/* of the worker */
#define NONE  0 /* and its lane is drained */
#define GONE  1 /* dead, azpard has not looked yet */
#define RUN   2
#define DYING 3
#define CUT   4 /* by a power cut, which leaves no lane to drain */

/* ways into the window */
#define LANE  0
#define SPILL 1

/* of the store buffer */
#define WORD_A 1
#define WORD_B 2
#define WORD_C 4
#define TAIL   8

#define WHOLE 3 /* both samples */

/* ---- what outlives processes ---- */

/* the segment */
byte cell[RING];
byte head, tail; /* of words ever; the ring is indexed modulo its size */
bool sleeps;     /* header.consumer_sleeps */
bool event;      /* the eventfd's counter is not 0 */

/* files, by game */
bool file[N_MAX];         /* it has its name: committed, not taken away yet */
bool file_is_half[N_MAX]; /* and the name was there before the content was (SPILL_IN_PLACE) */
byte in_window[N_MAX];    /* bit 0: sample a, bit 1: sample b; published by the window's tail */
byte half;                /* game whose samples lie beyond the window's tail */
byte incarnation;         /* given last; window_new_incarnation() makes it durable before it is used */

/* ---- processes ---- */

byte worker_is = NONE;
byte sequence;
byte pending;       /* the store buffer: words and tail */
byte put_at, put_n; /* of the record in it: place and game */
byte spilling;      /* game that is being written to a file */

bool azpard_is_up = true;
byte newest[2];        /* identity of the newest sample of each way: intake_slot.newest */
byte expected;         /* the only incarnation that is accepted, 0: any (intake_inherit()) */
bool is_taken[N_MAX];  /* file is in the window and not removed yet: refill.taken */
byte n_taken;
bool is_removing;      /* the window is durable, and they are being removed */

byte kills, cuts; /* still to come */

/* ---- known to the checker alone ---- */

byte made;             /* games, the last one's number */
byte ident[N_MAX];     /* of each game: 8 * incarnation + sequence */
bool committed[N_MAX]; /* published in the lane or renamed */
bool spilled[N_MAX];   /* went by file; the window knows it from the slot's number (+ 256) */
bool orphan;           /* the worker's azpard is dead */
bool unlinked;         /* and its segment is another one than the next azpard's (NO_CHILDREN_LOCK) */

#if CUTS
byte late[2 * N_MAX]; /* samples appended and not synced: 2 * game + 0 or 1, in the window's order */
byte n_late;
bool folder_synced[N_MAX]; /* the file's name is on the disk */
byte syncing;              /* file whose name is being synced */
bool removed[N_MAX];       /* unlinked, but maybe not on the disk */
byte stray;                /* game that a killed azpard left beyond the tail and nobody wiped */
bool is_shifted;           /* another game was appended since, so that the stray one gets other places */
#endif

#define room (RING - (tail - head) >= WORDS)

inline lose_private() {
        spilling = 0;
#if CUTS
        syncing = 0;
#endif
        pending = 0;
        put_at = 0;
        put_n = 0
}

/* ---- the worker's memory ---- */

active proctype store_buffer() {
end:
        do
        :: d_step {
                pending & WORD_A;
                cell[put_at % RING] = 4 * put_n;
                pending = pending - WORD_A
           }
        :: d_step {
                pending & WORD_B;
                cell[(put_at + 1) % RING] = 4 * put_n + 1;
                pending = pending - WORD_B
           }
        :: d_step {
                pending & WORD_C;
                cell[(put_at + 2) % RING] = 4 * put_n + 2;
                pending = pending - WORD_C
           }
#ifdef RELAXED_TAIL
        :: d_step {
                pending & TAIL;
#else
        :: d_step {
                pending == TAIL;
#endif
                if
                :: !unlinked -> tail = put_at + WORDS
                :: else
                fi;
                committed[put_n] = true;
                pending = pending - TAIL
           }
        od
}

/* ---- the worker's disk: spill.c's steps, which go on while the worker plays ---- */

active proctype disk() {
end:
        do
#ifdef SPILL_IN_PLACE
        :: d_step {
                spilling && !file[spilling];
                file[spilling] = true;
                file_is_half[spilling] = true
           }
        :: d_step {
                spilling && file[spilling];
                file_is_half[spilling] = false;
#else
        /* rename_file(): the commit */
        :: d_step {
                spilling;
                file[spilling] = true;
#endif
                spilled[spilling] = true;
                committed[spilling] = true;
#if CUTS
                syncing = spilling;
#endif
                spilling = 0
           }
#if CUTS
        /* STEP_SYNC_FOLDER */
        :: d_step {
                syncing;
                folder_synced[syncing] = true;
                syncing = 0
           }
#endif
        od
}

/* ---- azpar-worker ---- */


/* lane.c lane_write(): header and payload with any order among them, then tail with release */
inline lane_write(n) {
        d_step {
                put_at = tail;
                put_n = n;
#ifdef COMMIT_BEFORE_WRITE
                pending = TAIL
#else
                pending = WORD_A | WORD_B | WORD_C
#endif
        }
#ifdef RELAXED_TAIL
        pending = pending | TAIL;
#elif defined(COMMIT_BEFORE_WRITE)
        pending == 0;
        pending = WORD_A | WORD_B | WORD_C;
#else
        pending = pending | TAIL;
#endif
}

/* segment.c segment_wake_consumer() */
inline wake_consumer() {
#ifndef NO_FENCE
        pending == 0;
#endif
        if
        :: sleeps -> event = true
        :: else
        fi;
        d_step {
                pending == 0;
                put_at = 0;
                put_n = 0
        }
}

active proctype worker() {
        byte n;

end:
        do
        :: worker_is >= RUN ->
                {
                        do
                        :: made < N ->
                                d_step {
                                        made++;
                                        n = made;
                                        ident[n] = 8 * incarnation + sequence;
                                        sequence++
                                }
                                if
                                :: room ->
                                        lane_write(n);
                                        wake_consumer()
#ifndef NO_SPILL
                                /* spill_add(), some time after the lane is full */
                                :: !room && !spilling ->
                                        spilling = n
#endif
                                fi
                        :: else ->
                                break
                        od;
end_of_work:
                        false
                } unless {
                        worker_is > RUN
                };
                d_step {
                        n = 0;
                        lose_private();
                        worker_is = (worker_is == CUT -> NONE : GONE)
                }
        od
}

/* ---- azpard ---- */

#ifdef ONE_WATERMARK
#define way(n) LANE
#else
#define way(n) spilled[n]
#endif

/* window.c check_slots() wipes what lies beyond the tail; window_newest() */
inline find_newest() {
        d_step {
#if CUTS && !defined(NO_WIPE)
                stray = 0;
                is_shifted = false;
#endif
                newest[LANE] = 0;
                newest[SPILL] = 0;
                i = 1;
                do
                :: i <= N ->
                        if
                        :: in_window[i] & 2 -> newest[way(i)] = 2 * ident[i] + 1
                        :: in_window[i] == 1 -> newest[way(i)] = 2 * ident[i]
                        :: else
                        fi;
                        i++
                :: else ->
                        break
                od;
                i = 0
        }
}

/*
 * intake.c check_record(): what is newer than the newest; window.c window_append(): slots, then tail.  A
 * file's samples go the same way, under their own newest.
 */
inline append(n) {
        d_step {
                items = 0;
                if
                :: 2 * ident[n] > newest[way(n)] -> items = items | 1
                :: else
                fi;
                if
                :: 2 * ident[n] + 1 > newest[way(n)] -> items = items | 2
                :: else
                fi;
#ifdef NO_DEDUP
                items = WHOLE
#endif
        }
#if CUTS
        if
        :: items -> half = n
        :: else
        fi;
#endif
        d_step {
                assert(!(in_window[n] & items));
                i = n + 1;
                do
                :: i <= N && items ->
                        assert(!in_window[i] || spilled[i] != spilled[n]);
                        i++
                :: else ->
                        break
                od;
                i = 0;
                in_window[n] = in_window[n] | items;
                if
                :: items -> newest[way(n)] = 2 * ident[n] + 1
                :: else
                fi;
                half = 0;
#if CUTS
                if
                :: items && stray && n != stray && !in_window[stray] -> is_shifted = true
                :: else
                fi;
                if
                :: items & 1 -> late[n_late] = 2 * n; n_late++
                :: else
                fi;
                if
                :: items & 2 -> late[n_late] = 2 * n + 1; n_late++
                :: else
                fi;
#endif
                items = 0
        }
}

/* lane.c lane_release() */
inline release(next) {
        head = next
}

/* intake.c take_one(): lane_read(), check_identity(), append, lane_release() */
inline take_record() {
#ifdef RELAXED_HEAD
        release(head + WORDS);
        at = head - WORDS;
#else
        at = head;
#endif
        a = cell[at % RING];
        b = cell[(at + 1) % RING];
        c = cell[(at + 2) % RING];
        d_step {
                assert(a && a % 4 == 0 && b == a + 1 && c == a + 2);
                a = a / 4;
                b = 0;
                c = 0
        }
#ifdef RELEASE_BEFORE_APPEND
        release(at + WORDS);
#endif
        if
        :: !expected || ident[a] / 8 == expected -> append(a)
        :: else
        fi;
#if !defined(RELEASE_BEFORE_APPEND) && !defined(RELAXED_HEAD)
        release(at + WORDS);
#endif
        d_step {
                a = 0;
                at = 0
        }
}

/* intake_finish_slot() */
inline drain() {
        do
        :: head != tail -> take_record()
        :: else -> break
        od;
        skip
}

/* fdatasync of the window's file */
inline sync_window() {
#if CUTS
        d_step {
                do
                :: n_late > 0 -> n_late--; late[n_late] = 0
                :: else -> break
                od;
                n_late = 0
        }
#else
        skip
#endif
}

#ifdef UNLINK_BEFORE_APPEND
inline unlink(n) {
        file[n] = false
}
#endif

/* refill.c TAKE: the oldest file that was not taken yet */
inline take_oldest_file() {
        d_step {
                f = 1;
                do
                :: !file[f] || is_taken[f] -> f++
                :: else -> break
                od;
                assert(!file_is_half[f])
        }
#ifdef UNLINK_BEFORE_APPEND
        unlink(f);
#endif
        append(f);
        d_step {
                is_taken[f] = true;
                n_taken++;
                f = 0
        }
}

/* refill.c remove_next(): from the last one on */
inline remove_last_taken() {
        d_step {
                f = N;
                do
                :: !is_taken[f] -> f--
                :: else -> break
                od;
                is_taken[f] = false;
                n_taken--;
                file[f] = false;
#if CUTS
                removed[f] = true;
#endif
                f = 0
        }
}

#ifdef SPILL_UNLINK_BEFORE_SYNC
#define is_unsynced false
#else
#define is_unsynced (!is_removing)
#endif

/* daemon.c child_before_start() */
inline start_worker() {
        d_step {
#ifndef REUSE_INCARNATION
                incarnation++;
#else
                incarnation = 1;
#endif
                sequence = 0;
                expected = incarnation;
                worker_is = RUN
        }
}

#define any_file (file[1] || file[2] || file[3] || file[4])
#define is_new(n) (file[n] && !is_taken[n])
#define any_new_file (is_new(1) || is_new(2) || is_new(3) || is_new(4))

/* daemon.c before_sleep(): segment_consumer_may_sleep(), epoll, segment_consumer_woke() */
inline sleep() {
        sleeps = true;
        if
        :: head != tail
        :: else ->
end_asleep:
                (event || worker_is != RUN || any_new_file)
        fi;
        d_step {
                sleeps = false;
                event = false
        }
}

/* What dies with an azpard. */
inline forget() {
        d_step {
                a = 0;
                b = 0;
                c = 0;
                at = 0;
                items = 0;
                i = 0;
                f = 0;
                is_taken[1] = false;
                is_taken[2] = false;
                is_taken[3] = false;
                is_taken[4] = false;
                n_taken = 0;
                is_removing = false;
                expected = 0;
#if CUTS
                if
                :: half ->
                        stray = half;
                        is_shifted = false
                :: else
                fi;
#endif
                half = 0
        }
}

active proctype azpard() {
        byte a, b, c, at, items, i, f;

end:
        do
#ifdef NO_CHILDREN_LOCK
        :: azpard_is_up ->
#else
        :: azpard_is_up && worker_is < RUN ->
#endif
                {
                        /* main.c open_window(), inherit_segment(), segment_create() */
                        find_newest();
                        drain();
                        d_step {
                                head = 0;
                                tail = 0;
                                sleeps = false;
                                event = false;
                                unlinked = worker_is >= RUN;
                                if
                                :: worker_is == GONE -> worker_is = NONE; orphan = false
                                :: else
                                fi
                        }
                        do
                        :: worker_is == GONE ->
#ifndef RESTART_BEFORE_DRAIN
                                drain();
#endif
                                d_step {
                                        worker_is = NONE;
                                        orphan = false;
                                        unlinked = false
                                }
                        :: worker_is == NONE ->
                                start_worker()
                        :: head != tail ->
                                take_record()
                        :: any_new_file && !is_removing ->
                                take_oldest_file()
                        :: n_taken && is_unsynced ->
                                sync_window();
                                is_removing = true
                        :: n_taken && !is_unsynced ->
                                remove_last_taken();
                                if
                                :: !n_taken -> is_removing = false
                                :: else
                                fi
#if CUTS
                        :: n_late > 0 ->
                                sync_window()
#endif
                        :: worker_is == RUN && head == tail && !any_file ->
                                sleep()
                        od
                } unless {
                        !azpard_is_up
                };
                forget()
        :: !azpard_is_up ->
                azpard_is_up = true
        od
}

inline power_cut() {
        d_step {
                cuts--;
                azpard_is_up = false;
                worker_is = (worker_is >= RUN -> CUT : NONE);
                orphan = false;
                head = 0;
                tail = 0;
                sleeps = false;
                event = false;
                lose_private()
        }
#ifdef HOLES
        do
        :: n_late > 0 ->
                if
                :: drop_newest()
                :: keep_newest()
                fi
        :: n_late == 0 -> break
        od;
#else
        do
        :: n_late > 0 -> drop_newest()
        :: break
        od;
        do
        :: n_late > 0 -> keep_newest()
        :: n_late == 0 -> break
        od;
#endif
        assert(!is_shifted || !in_window[stray]);
        stray = 0;
        is_shifted = false;
        i = 1;
        do
        :: i <= N && file[i] && !folder_synced[i] ->
                file[i] = false;
                committed[i] = false;
                i++
        :: i <= N && removed[i] ->
                file[i] = true;
                removed[i] = false;
                i++
        :: i <= N ->
                d_step {
                        if
                        :: file[i] -> folder_synced[i] = true
                        :: else -> removed[i] = false
                        fi;
                        if
                        :: !spilled[i] && in_window[i] != WHOLE -> committed[i] = false
                        :: else
                        fi;
                        i++
                }
        :: i > N -> break
        od;
        i = 0
}

inline drop_newest() {
        d_step {
                n_late--;
                in_window[late[n_late] / 2] = in_window[late[n_late] / 2] & (late[n_late] % 2 -> 1 : 2);
                late[n_late] = 0
        }
}

inline keep_newest() {
        d_step {
                n_late--;
                late[n_late] = 0
        }
}

active proctype fate() {
        byte i;

        atomic {
                select(kills : 0 .. KILLS);
                cuts = CUTS
        }
        do
        :: d_step {
                kills && worker_is == RUN;
                kills--;
                worker_is = DYING;
                lose_private()
           }
        :: d_step {
                kills && azpard_is_up;
                kills--;
                azpard_is_up = false;
                orphan = worker_is == RUN
           }
        :: d_step {
                worker_is == RUN && orphan;
                worker_is = DYING;
                lose_private()
           }
#if CUTS
        :: atomic { cuts; power_cut() }
        :: cuts -> cuts = 0
#endif
        :: timeout -> break
        od;
        assert(azpard_is_up && worker_is == RUN && made == N && head == tail && !any_file);
        do
        :: i < N ->
                i++;
                assert(!committed[i] || in_window[i] == WHOLE)
        :: else -> break
        od
}

#define is_owed_one(n) (committed[n] && in_window[n] != WHOLE)
#define is_owed (is_owed_one(1) || is_owed_one(2) || is_owed_one(3) || is_owed_one(4))

ltl delivered { [] (is_owed -> <> [] !is_owed) }
