/* SPDX-License-Identifier: MIT */
/*
 * Disk I/O; see disk.h.  Processes: azpard, azpar-worker.
 *
 * One request is one submission queue entry, submitted at once: nobody here has so many of them that batching
 * would pay.  An entry that the kernel would not take stays in the queue, and is submitted with the next one
 * or by the next disk_poll(); with the queue full, or where there is no ring, the plain call is made instead.
 *
 * A process that is killed takes its requests with it: the kernel ends or cancels all of them before the
 * process is reaped, so a successor never meets a rename of its predecessor.
 */
#include "common/base/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include "common/base/clock.h"

#define RING_ENTRIES 16

struct disk {
        struct io_uring ring;
        bool has_ring;
        int event_fd;
        unsigned n_pending, n_in_ring;      /* in_ring: of the pending ones */
        struct disk_request *first, **last; /* done by plain calls, to be told by disk_poll() */
};

/* Every operation that is used below. */
static const uint8_t operations[] = { IORING_OP_OPENAT, IORING_OP_READ,     IORING_OP_WRITE,
                                      IORING_OP_FSYNC,  IORING_OP_RENAMEAT, IORING_OP_UNLINKAT };

/* All of them, or none: a ring that knows half of them is no help. */
static int check_operations(struct io_uring *ring) {
        struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
        int r = 0;

        if (!probe)
                return -ENOSYS;
        for (size_t i = 0; i < N_ELEMENTS(operations); i++)
                if (!io_uring_opcode_supported(probe, operations[i]))
                        r = -ENOSYS;
        io_uring_free_probe(probe);
        return r;
}

/*
 * From now on the ring takes these operations alone, and nothing more can be registered with it: no
 * system-call filter (confine.h) sees what it does, so it must not be of use for anything else.
 */
static int enable_ring(struct io_uring *ring) {
        struct io_uring_restriction allowed[N_ELEMENTS(operations)];
        int r;

        memset(allowed, 0, sizeof(allowed));
        for (size_t i = 0; i < N_ELEMENTS(operations); i++) {
                allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
                allowed[i].sqe_op = operations[i];
        }
        /* liburing has functions for both, which the shared library of Debian 12 (2.3) forgot to export */
        r = io_uring_register((unsigned) ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
                              (unsigned) N_ELEMENTS(allowed));
        return r < 0 ? r : io_uring_register((unsigned) ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int open_ring(struct disk *d) {
        int r;

        r = io_uring_queue_init(RING_ENTRIES, &d->ring, IORING_SETUP_R_DISABLED);
        if (r < 0)
                return r;
        r = check_operations(&d->ring);
        if (r == 0 && d->event_fd >= 0)
                r = io_uring_register_eventfd(&d->ring, d->event_fd);
        if (r == 0)
                r = enable_ring(&d->ring);
        if (r < 0) {
                io_uring_queue_exit(&d->ring);
                return r;
        }
        d->has_ring = true;
        return 0;
}

int disk_new(bool with_event, bool allow_uring, struct disk **ret, int *ret_refused) {
        cleanup_(disk_freep) struct disk *d = calloc(1, sizeof(*d));

        if (!d)
                return -ENOMEM;
        d->event_fd = -1;
        d->last = &d->first;
        if (with_event) {
                d->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                if (d->event_fd < 0)
                        return -errno;
        }
        *ret_refused = allow_uring ? open_ring(d) : 0;
        *ret = TAKE_PTR(d);
        return 0;
}

/* Has the kernel taken an entry that it has not answered yet?  Nobody answers one that it did not take. */
static bool is_kernel_busy(const struct disk *d) {
        return d->has_ring && d->n_in_ring > io_uring_sq_ready(&d->ring);
}

/* The kernel must not write to memory that the callers are about to free. */
static void wait_for_ring(struct disk *d) {
        struct io_uring_cqe *cqe;

        while (is_kernel_busy(d)) {
                int r = io_uring_wait_cqe(&d->ring, &cqe);

                if (r == -EINTR)
                        continue;
                if (r < 0)
                        return;
                io_uring_cqe_seen(&d->ring, cqe);
                d->n_in_ring--;
        }
}

void disk_free(struct disk *d) {
        if (!d)
                return;
        if (d->has_ring) {
                wait_for_ring(d);
                io_uring_queue_exit(&d->ring);
        }
        fd_closep(&d->event_fd);
        free(d);
}

int disk_event_fd(const struct disk *d) {
        return d->event_fd;
}

bool disk_uses_uring(const struct disk *d) {
        return d->has_ring;
}

unsigned disk_n_pending(const struct disk *d) {
        return d->n_pending;
}

static void tell(struct disk *d, struct disk_request *r, int result) {
        d->n_pending--;
        r->done(r, result);
}

void disk_poll(struct disk *d) {
        struct disk_request *plain;
        struct io_uring_cqe *cqe;
        eventfd_t n;

        if (d->event_fd >= 0)
                (void) eventfd_read(d->event_fd, &n);
        if (d->has_ring && io_uring_sq_ready(&d->ring) > 0)
                (void) io_uring_submit(&d->ring);
        while (d->has_ring && io_uring_peek_cqe(&d->ring, &cqe) == 0) {
                struct disk_request *r = io_uring_cqe_get_data(cqe);
                int result = cqe->res;

                io_uring_cqe_seen(&d->ring, cqe);
                d->n_in_ring--;
                tell(d, r, result);
        }
        /* Only those that are there now: their callbacks may add more, which then come next time. */
        plain = d->first;
        d->first = NULL;
        d->last = &d->first;
        while (plain) {
                struct disk_request *next = plain->next;

                tell(d, plain, plain->result);
                plain = next;
        }
}

void disk_drain(struct disk *d) {
        struct io_uring_cqe *cqe;

        for (disk_poll(d); d->n_pending > 0; disk_poll(d)) {
                int r = d->n_in_ring > 0 ? -EAGAIN : 0; /* the kernel did not take what is left yet */

                if (is_kernel_busy(d))
                        r = io_uring_wait_cqe(&d->ring, &cqe);
                if (r < 0 && r != -EINTR)
                        clock_sleep_ns(NS_PER_MS); /* out of memory, say: try again */
        }
}

/* ---- requests ---- */

/* An entry to be filled in and given to submit(); NULL: make the plain call, and give its result to finish().
 */
static struct io_uring_sqe *begin(struct disk *d, struct disk_request *r) {
        struct io_uring_sqe *sqe = d->has_ring ? io_uring_get_sqe(&d->ring) : NULL;

        d->n_pending++;
        d->n_in_ring += sqe != NULL;
        r->next = NULL;
        return sqe;
}

static void submit(struct disk *d, struct disk_request *r, struct io_uring_sqe *sqe) {
        io_uring_sqe_set_data(sqe, r);
        (void) io_uring_submit(&d->ring); /* what it does not take now, disk_poll() submits */
}

static void finish(struct disk *d, struct disk_request *r, long result) {
        r->result = result < 0 ? -errno : (int) result;
        *d->last = r;
        d->last = &r->next;
        if (d->event_fd >= 0)
                (void) eventfd_write(d->event_fd, 1);
}

void disk_open(struct disk *d, struct disk_request *r, int dir_fd, const char *path, int flags, mode_t mode) {
        struct io_uring_sqe *sqe = begin(d, r);

        if (!sqe) {
                finish(d, r, openat(dir_fd, path, flags | O_CLOEXEC, mode));
                return;
        }
        io_uring_prep_openat(sqe, dir_fd, path, flags | O_CLOEXEC, mode);
        submit(d, r, sqe);
}

void disk_read(struct disk *d, struct disk_request *r, int fd, void *bytes, size_t n, uint64_t offset) {
        struct io_uring_sqe *sqe = begin(d, r);

        if (!sqe) {
                finish(d, r, pread(fd, bytes, n, (off_t) offset));
                return;
        }
        io_uring_prep_read(sqe, fd, bytes, (unsigned) n, offset);
        submit(d, r, sqe);
}

void disk_write(struct disk *d, struct disk_request *r, int fd, const void *bytes, size_t n,
                uint64_t offset) {
        struct io_uring_sqe *sqe = begin(d, r);

        if (!sqe) {
                finish(d, r, pwrite(fd, bytes, n, (off_t) offset));
                return;
        }
        io_uring_prep_write(sqe, fd, bytes, (unsigned) n, offset);
        submit(d, r, sqe);
}

void disk_sync(struct disk *d, struct disk_request *r, int fd, bool only_data) {
        struct io_uring_sqe *sqe = begin(d, r);

        if (!sqe) {
                finish(d, r, only_data ? fdatasync(fd) : fsync(fd));
                return;
        }
        io_uring_prep_fsync(sqe, fd, only_data ? IORING_FSYNC_DATASYNC : 0);
        submit(d, r, sqe);
}

void disk_rename(struct disk *d, struct disk_request *r, int old_dir_fd, const char *old_path, int new_dir_fd,
                 const char *new_path, unsigned flags) {
        struct io_uring_sqe *sqe = begin(d, r);

        if (!sqe) {
                finish(d, r, renameat2(old_dir_fd, old_path, new_dir_fd, new_path, flags));
                return;
        }
        io_uring_prep_renameat(sqe, old_dir_fd, old_path, new_dir_fd, new_path, flags);
        submit(d, r, sqe);
}

void disk_unlink(struct disk *d, struct disk_request *r, int dir_fd, const char *path) {
        struct io_uring_sqe *sqe = begin(d, r);

        if (!sqe) {
                finish(d, r, unlinkat(dir_fd, path, 0));
                return;
        }
        io_uring_prep_unlinkat(sqe, dir_fd, path, 0);
        submit(d, r, sqe);
}
