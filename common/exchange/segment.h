/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The shared-memory segment "/azpar.<instance>": control words, counters and lanes.
 *
 *   offset 0             struct segment_header    written by azpard
 *   page 1               struct segment_trainer   written by the trainer
 *   page 2 + i * stride  struct segment_worker    written by worker i (lane.head: by azpard)
 *                        lane data                written by worker i
 *
 * Every process maps only what is its own: a worker the header read-only and
 * its own slot, the trainer the header read-only and its page, azpard all.
 * A wild pointer in a worker so meets neither the header nor another lane.
 *
 * All sizes are multiples of the page (4096), allocated at start, so that a full /dev/shm
 * is an error there and not SIGBUS later.  Counters only grow and belong to an
 * incarnation: they start at 0 when a new process takes the slot; azpard adds up.
 * Counters and heartbeats are relaxed: each is read for itself, and nothing is
 * concluded from one about another.
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/lane.h"

#define SEGMENT_MAGIC       UINT64_C(0x31676573727a61) /* "azrseg1" */
#define SEGMENT_VERSION     1u
#define SEGMENT_PAGE        4096
#define SEGMENT_MAX_WORKERS 256
#define SEGMENT_NAME_MAX    64
#define SEGMENT_REASON_MAX  256
#define SEGMENT_PATH_MAX    1024

struct segment_header {
        /* set by segment_create(), constant afterwards */
        uint64_t magic;
        uint32_t version;
        uint32_t n_workers;  /* slots */
        uint64_t lane_bytes; /* data bytes of each lane, a power of two */
        uint64_t total_bytes;
        unsigned char boot_id[16];         /* /proc/sys/kernel/random/boot_id */
        char rules[48];                    /* struct game's rules text */
        char state_path[SEGMENT_PATH_MAX]; /* resolved state directory; another instance's is refused */
        uint64_t origin; /* window_origin(), for spill files; set by azpard before it has children */

        /* control words, written by azpard alone */
        /* of model.safetensors, 0: none yet; release, pairs with acquire in workers */
        _Alignas(LANE_LINE) _Atomic uint64_t generation;
        _Atomic uint64_t generation_ns; /* clock_now_ns() when it was set; stored before generation */
        _Atomic uint32_t pause;         /* 1: workers and trainer stand still between two batches or steps */
        _Atomic uint32_t throttle;      /* 1: workers stand still, the trainer is behind */
        _Atomic uint32_t n_desired;     /* workers in slots from this one on commit nothing more and exit 0 */
        _Atomic uint32_t stop;          /* 1: workers exit at once; the trainer saves and exits */
        _Atomic uint64_t checkpoint_request; /* the trainer saves when its checkpoint_done differs */

        /*
         * azpard sets it before it sleeps and clears it when it wakes; who publishes a record meanwhile
         * writes to the eventfd
         */
        _Alignas(LANE_LINE) _Atomic uint32_t consumer_sleeps;
};

enum trainer_state {
        TRAINER_STARTING,
        TRAINER_FILLING, /* waits for min_samples */
        TRAINER_TRAINING,
        TRAINER_LIMITED, /* waits for the rate limiter */
        TRAINER_SAVING,
        TRAINER_PAUSED,
        TRAINER_N_STATES_,
};

/* Doubles are stored as their bits. */
struct segment_trainer {
        _Alignas(LANE_LINE) _Atomic uint64_t heartbeat_ns;
        _Atomic uint32_t state; /* enum trainer_state */
        _Atomic uint32_t on_cuda;
        _Atomic uint64_t step;
        _Atomic uint64_t samples_trained;
        _Atomic uint64_t samples_inserted; /* as the limiter counts them: since its base */
        _Atomic uint64_t samples_allowed;  /* that may be trained now */
        /* stored with release after the rename; azpard then checks the file and announces it */
        _Atomic uint64_t published_generation;
        _Atomic uint64_t published_step;
        _Atomic uint64_t publish_ns; /* how long the last publication took */
        _Atomic uint64_t checkpoint_done;
        _Atomic uint64_t checkpoint_step;
        _Atomic uint64_t loss_policy, loss_value, loss_total;       /* of the last step */
        _Atomic uint64_t smooth_policy, smooth_value, smooth_total; /* exponential mean of about 100 steps */
        _Atomic uint64_t learning_rate;
        /* why the last publication or checkpoint failed (it is tried again); 0: it did not */
        _Atomic uint32_t save_errno;
        _Atomic uint64_t gone; /* samples drawn that had left the window or were damaged */
};

enum worker_state {
        WORKER_STARTING, /* no usable weights yet */
        WORKER_PLAYING,
        WORKER_WAITING, /* its lane is full */
        WORKER_PAUSED,
        WORKER_THROTTLED,
        WORKER_N_STATES_,
};

struct segment_worker {
        struct lane_shared lane;

        /* written by the worker alone */
        _Alignas(LANE_LINE) _Atomic uint64_t heartbeat_ns;
        _Atomic uint64_t incarnation;
        _Atomic uint32_t state;      /* enum worker_state */
        _Atomic uint32_t precision;  /* PRECISION_F32 or PRECISION_BF16 */
        _Atomic uint64_t generation; /* in use */
        /* last take-up: from header.generation_ns to the first batch on the new weights */
        _Atomic uint64_t lag_ns;
        _Atomic uint64_t max_lag_ns;
        _Atomic uint64_t refused; /* weights refused; refused_text says why the last one was */
        _Atomic uint64_t games, plies, samples;
        _Atomic uint64_t simulations, evaluations, batches;
        _Atomic uint64_t lane_waits;
        /* written before `refused` grows (release); may be torn: for people only */
        char refused_text[SEGMENT_REASON_MAX];
        /* spill files that were renamed into place, and what is in them */
        _Atomic uint64_t spilled_files, spilled_samples, spilled_bytes;
        _Atomic uint32_t spill_errno; /* why the last one could not be written (it is tried again); 0: it could */
        _Atomic uint32_t spill_full;  /* 1: at the limit service.spill_max */
};

static_assert(offsetof(struct segment_header, generation) == 1152, "shared layout changed: bump SEGMENT_VERSION");
static_assert(sizeof(struct segment_header) <= SEGMENT_PAGE, "header does not fit its page");
static_assert(sizeof(struct segment_trainer) <= SEGMENT_PAGE, "trainer block does not fit its page");
static_assert(sizeof(struct segment_worker) <= SEGMENT_PAGE, "worker block does not fit its page");

/* A process's private view; pointers to parts that it did not map are NULL. */
struct segment {
        int fd; /* to be inherited; owned */
        bool writable;
        uint32_t n_workers; /* private copies, checked once */
        uint64_t lane_bytes;
        struct segment_header *header; /* const for all but azpard: mapped read-only */
        struct segment_trainer *trainer;
        struct segment_worker *workers[SEGMENT_MAX_WORKERS];
        struct lane lanes[SEGMENT_MAX_WORKERS];
};

/*
 * segment_create() - make "/azpar.<instance>" afresh, mode 0600 (azpard)
 *
 * Fails with -EEXIST if it is there; -ENOSPC says how many bytes of /dev/shm are needed and how many are
 * free.
 */
must_check_ int segment_create(const char *instance, uint32_t n_workers, uint64_t lane_bytes,
                               const char *rules, const char *state_path, struct segment **ret,
                               struct error *e);

/*
 * segment_open() - open what a predecessor left (azpard)
 *
 * Return: 0; -ENOENT; -ESTALE: made in another boot or layout or never finished, safe to unlink; -EADDRINUSE:
 * it belongs to another state directory (text names it); -EBADMSG: not a segment, or not this user's.
 */
must_check_ int segment_open(const char *instance, const char *state_path, struct segment **ret,
                             struct error *e);

/*
 * segment_open_fd() - the same from a descriptor that was kept for us, in systemd's fd store (azpard)
 * @fd: taken over, come what may; as foreign as a file with the right name
 *
 * Return: as segment_open(), but for -ENOENT and -EADDRINUSE: whose state directory it belongs to is for the caller to
 * see (header.state_path, which has an end).
 */
must_check_ int segment_open_fd(int fd, struct segment **ret, struct error *e);

/* Whether "/azpar.<instance>" is the very file behind @fd. */
bool segment_has_name(int fd, const char *instance);

/*
 * What was in it is safe elsewhere: give its memory back, whoever else may hold it. Only segment_free() may
 * follow. To segment_open() it is then one that was never finished.
 */
void segment_empty(struct segment *s);

/* Map what a worker or the trainer needs from the inherited descriptor; @fd is taken over, come what may. */
must_check_ int segment_map_worker(int fd, uint32_t slot, struct segment **ret, struct error *e);
must_check_ int segment_map_trainer(int fd, struct segment **ret, struct error *e);

void segment_free(struct segment *s);
DEFINE_CLEANUP(struct segment *, segment_free)

/* Remove the name; mappings stay. */
int segment_unlink(const char *instance);

/* After lane_write(): wake azpard if it sleeps. @wake_fd: its eventfd, non-blocking. */
void segment_wake_consumer(struct segment *s, int wake_fd);

/*
 * Before azpard sleeps: announce it, then look once more. Return: true if every lane was empty after the
 * announcement, so that a wake-up is certain for whatever comes. Lanes found broken do not count: they wait
 * for lane_reset(), not for a reader.
 */
bool segment_consumer_may_sleep(struct segment *s);

/* After sleeping: producers need not wake azpard while it looks at the lanes anyway. */
void segment_consumer_woke(struct segment *s);

static inline uint64_t segment_double_bits(double x) {
        union {
                double d;
                uint64_t u;
        } v = { .d = x };

        return v.u;
}

static inline double segment_bits_double(uint64_t x) {
        union {
                uint64_t u;
                double d;
        } v = { .u = x };

        return v.d;
}
