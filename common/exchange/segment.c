/* SPDX-License-Identifier: MIT */
/*
 * The shared-memory segment; segment.h draws it.
 *
 * azpard runs segment_create(), segment_open(), segment_unlink() and the
 * consumer's side of the wake-up; workers and the trainer map their parts of
 * the inherited descriptor.
 *
 * The header's magic is stored last: a segment without it was never finished
 * by an azpard that died, and holds nothing.  All that the layout depends on is read
 * once into private memory with pread(), compared with the size that fstat()
 * gives, and only the private copy is used.
 */
#include "common/exchange/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "common/base/pause_point.h"

#define LANE_BYTES_MAX (UINT64_C(1) << 40)

/* Where things are */

#define HEADER_OFFSET       0
#define TRAINER_OFFSET      ((uint64_t) SEGMENT_PAGE)
#define FIRST_WORKER_OFFSET ((uint64_t) SEGMENT_PAGE * 2)

static uint64_t worker_bytes(uint64_t lane_bytes) {
        return SEGMENT_PAGE + lane_bytes;
}

static uint64_t worker_offset(uint32_t slot, uint64_t lane_bytes) {
        return FIRST_WORKER_OFFSET + slot * worker_bytes(lane_bytes);
}

static uint64_t total_bytes(uint32_t n_workers, uint64_t lane_bytes) {
        return worker_offset(n_workers, lane_bytes);
}

static bool shape_is_sound(uint32_t n_workers, uint64_t lane_bytes) {
        return n_workers > 0 && n_workers <= SEGMENT_MAX_WORKERS && lane_bytes >= SEGMENT_PAGE &&
               lane_bytes <= LANE_BYTES_MAX && (lane_bytes & (lane_bytes - 1)) == 0;
}

/* Names and identity */

/* "/azpar.<instance>", checked so that it can be no path. */
static int make_name(const char *instance, char ret[SEGMENT_NAME_MAX], struct error *e) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
        size_t n = strlen(instance);

        if (n == 0 || strspn(instance, allowed) != n)
                return error_set(e, -EINVAL, "instance '%s': letters, digits and _.- expected", instance);
        if (snprintf(ret, SEGMENT_NAME_MAX, "/azpar.%s", instance) >= SEGMENT_NAME_MAX)
                return error_set(e, -ENAMETOOLONG, "instance '%s': name is too long", instance);
        return 0;
}

/* This boot's identity, 16 bytes. */
static int read_boot_id(unsigned char ret[16], struct error *e) {
        static const char path[] = "/proc/sys/kernel/random/boot_id";
        cleanup_(fd_closep) int fd = -1;
        char text[64];
        unsigned n_digits = 0;
        ssize_t n;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof(text));
        if (n < 0)
                return error_errno(e, -errno, "could not read '%s'", path);
        memset(ret, 0, 16);
        for (ssize_t i = 0; i < n && n_digits < 32; i++) {
                const char *digits = "0123456789abcdef";
                const char *p = text[i] == '-' || text[i] == '\n' ? NULL : strchr(digits, text[i]);

                if (!p || !*p)
                        continue;
                ret[n_digits / 2] = (unsigned char) (ret[n_digits / 2] << 4 | (p - digits));
                n_digits++;
        }
        if (n_digits != 32)
                return error_set(e, -EIO, "'%s' does not hold a boot's identity", path);
        return 0;
}

/* Mapping */

static int map_part(int fd, uint64_t offset, uint64_t n_bytes, int protection, void **ret, struct error *e) {
        void *p = mmap(NULL, n_bytes, protection, MAP_SHARED, fd, (off_t) offset);

        if (p == MAP_FAILED)
                return error_errno(e, -errno, "could not map %" PRIu64 " bytes of shared memory", n_bytes);
        *ret = p;
        return 0;
}

static void set_worker(struct segment *s, uint32_t slot, void *part) {
        s->workers[slot] = part;
        s->lanes[slot] = (struct lane){
                .shared = &s->workers[slot]->lane,
                .data = (unsigned char *) part + SEGMENT_PAGE,
                .size = s->lane_bytes,
        };
}

/* A handle with nothing mapped; takes @fd over, also on failure. */
static int handle_new(int fd, uint32_t n_workers, uint64_t lane_bytes, struct segment **ret,
                      struct error *e) {
        cleanup_(fd_closep) int owned_fd = fd;
        struct segment *s = calloc(1, sizeof(*s));

        if (!s)
                return error_errno(e, -ENOMEM, "could not map the shared memory");
        s->fd = TAKE_FD(owned_fd);
        s->n_workers = n_workers;
        s->lane_bytes = lane_bytes;
        *ret = s;
        return 0;
}

/* azpard's view: one mapping of all; takes @fd over, also on failure. */
static int map_all(int fd, uint32_t n_workers, uint64_t lane_bytes, struct segment **ret, struct error *e) {
        cleanup_(segment_freep) struct segment *s = NULL;
        void *p = NULL;
        int r;

        r = handle_new(fd, n_workers, lane_bytes, &s, e);
        if (r < 0)
                return r;
        r = map_part(s->fd, HEADER_OFFSET, total_bytes(n_workers, lane_bytes), PROT_READ | PROT_WRITE, &p, e);
        if (r < 0)
                return r;
        s->writable = true;
        s->header = p;
        s->trainer = (struct segment_trainer *) (void *) ((unsigned char *) p + TRAINER_OFFSET);
        for (uint32_t i = 0; i < n_workers; i++)
                set_worker(s, i, (unsigned char *) p + worker_offset(i, lane_bytes));
        *ret = TAKE_PTR(s);
        return 0;
}

void segment_free(struct segment *s) {
        if (!s)
                return;
        if (s->writable)
                (void) munmap(s->header, total_bytes(s->n_workers, s->lane_bytes));
        else {
                if (s->header)
                        (void) munmap(s->header, SEGMENT_PAGE);
                if (s->trainer)
                        (void) munmap(s->trainer, SEGMENT_PAGE);
                for (uint32_t i = 0; i < s->n_workers; i++)
                        if (s->workers[i])
                                (void) munmap(s->workers[i], worker_bytes(s->lane_bytes));
        }
        fd_closep(&s->fd);
        free(s);
}

/* Creation */

static int allocate_blocks(int fd, const char *name, uint64_t n_bytes, struct error *e) {
        struct statvfs fs;
        int r;

        do
                r = -posix_fallocate(fd, 0, (off_t) n_bytes);
        while (r == -EINTR);
        if (r == -ENOSPC && fstatvfs(fd, &fs) == 0)
                return error_set(e, -ENOSPC,
                                 "/dev/shm is too small for '%s': %" PRIu64 " bytes needed, %" PRIu64
                                 " free; make it larger, or lower service.lane_bytes or selfplay.max_workers",
                                 name, n_bytes, (uint64_t) fs.f_bavail * fs.f_frsize);
        if (r < 0)
                return error_errno(e, r, "could not allocate %" PRIu64 " bytes of shared memory for '%s'",
                                   n_bytes, name);
        return 0;
}

/* Everything but the magic, which says that all else is there. */
static int fill_header(struct segment *s, const char *rules, const char *state_path, struct error *e) {
        struct segment_header *h = s->header;
        int r;

        if (strlen(rules) >= sizeof(h->rules))
                return error_set(e, -ENAMETOOLONG, "rules '%s' are too long", rules);
        if (strlen(state_path) >= sizeof(h->state_path))
                return error_set(e, -ENAMETOOLONG, "state directory '%s': path is too long", state_path);
        r = read_boot_id(h->boot_id, e);
        if (r < 0)
                return r;
        h->version = SEGMENT_VERSION;
        h->n_workers = s->n_workers;
        h->lane_bytes = s->lane_bytes;
        h->total_bytes = total_bytes(s->n_workers, s->lane_bytes);
        strcpy(h->rules, rules);
        strcpy(h->state_path, state_path);
        /* relaxed: there are no children yet */
        atomic_store_explicit(&h->n_desired, s->n_workers, memory_order_relaxed);
        return 0;
}

static int create_named(const char *name, uint32_t n_workers, uint64_t lane_bytes, const char *rules,
                        const char *state_path, int fd, struct segment **ret, struct error *e) {
        cleanup_(fd_closep) int owned_fd = fd;
        cleanup_(segment_freep) struct segment *s = NULL;
        int r;

        PAUSE_POINT(SEGMENT_EMPTY);
        r = allocate_blocks(owned_fd, name, total_bytes(n_workers, lane_bytes), e);
        if (r < 0)
                return r;
        r = map_all(TAKE_FD(owned_fd), n_workers, lane_bytes, &s, e);
        if (r < 0)
                return r;
        r = fill_header(s, rules, state_path, e);
        if (r < 0)
                return r;
        /* a SIGKILL may come between any two stores: the compiler must not move the rest behind this one */
        atomic_signal_fence(memory_order_seq_cst);
        PAUSE_POINT(SEGMENT_BEFORE_MAGIC);
        *(volatile uint64_t *) &s->header->magic = SEGMENT_MAGIC;
        *ret = TAKE_PTR(s);
        return 0;
}

int segment_create(const char *instance, uint32_t n_workers, uint64_t lane_bytes, const char *rules,
                   const char *state_path, struct segment **ret, struct error *e) {
        char name[SEGMENT_NAME_MAX];
        int fd, r;

        r = make_name(instance, name, e);
        if (r < 0)
                return r;
        if (!shape_is_sound(n_workers, lane_bytes))
                return error_set(e, -EINVAL,
                                 "%" PRIu32 " workers with lanes of %" PRIu64
                                 " bytes: at most %d workers, and a power "
                                 "of two of at least %d bytes expected",
                                 n_workers, lane_bytes, SEGMENT_MAX_WORKERS, SEGMENT_PAGE);
        fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0)
                return error_errno(e, -errno, "could not create shared memory '%s'", name);
        r = create_named(name, n_workers, lane_bytes, rules, state_path, fd, ret, e);
        if (r < 0)
                (void) shm_unlink(name);
        return r;
}

int segment_unlink(const char *instance) {
        char name[SEGMENT_NAME_MAX];
        int r = make_name(instance, name, NULL);

        if (r < 0)
                return r;
        return shm_unlink(name) < 0 ? -errno : 0;
}

/* Opening */

/*
 * Copy the header of @fd and check that it describes exactly this memory, made in this boot.
 * Return: 0, -ESTALE, -EBADMSG as segment_open().
 */
static int read_header(int fd, struct segment_header *ret, struct error *e) {
        unsigned char boot_id[16];
        struct stat st;
        ssize_t n;
        int r;

        memset(ret, 0, sizeof(*ret));
        if (fstat(fd, &st) < 0)
                return error_errno(e, -errno, "could not stat it");
        n = pread(fd, ret, sizeof(*ret), 0);
        if (n < 0)
                return error_errno(e, -errno, "could not read it");
        if (ret->magic == 0)
                return error_set(e, -ESTALE, "its creation was never finished");
        if (n < (ssize_t) sizeof(*ret) || ret->magic != SEGMENT_MAGIC)
                return error_set(e, -EBADMSG, "not a segment of azpar%s",
                                 st.st_nlink > 0 ? "; remove it from /dev/shm if nothing uses it" : "");
        if (ret->version != SEGMENT_VERSION)
                return error_set(e, -ESTALE, "layout version %" PRIu32 ", this azpar has %u", ret->version,
                                 SEGMENT_VERSION);
        r = read_boot_id(boot_id, e);
        if (r < 0)
                return r;
        if (memcmp(boot_id, ret->boot_id, sizeof(boot_id)) != 0)
                return error_set(e, -ESTALE, "made in another boot");
        if (!shape_is_sound(ret->n_workers, ret->lane_bytes) ||
            ret->total_bytes != total_bytes(ret->n_workers, ret->lane_bytes) ||
            ret->total_bytes != (uint64_t) st.st_size)
                return error_set(e, -EBADMSG,
                                 "%jd bytes long, but its header speaks of %" PRIu32 " lanes of %" PRIu64
                                 " bytes, %" PRIu64 " in all",
                                 (intmax_t) st.st_size, ret->n_workers, ret->lane_bytes, ret->total_bytes);
        if (!memchr(ret->rules, 0, sizeof(ret->rules)) ||
            !memchr(ret->state_path, 0, sizeof(ret->state_path)))
                return error_set(e, -EBADMSG, "a text in its header has no end");
        return 0;
}

/*
 * Anybody may make files in /dev/shm, and a stored descriptor is what somebody stored: only what this user
 * made is ours.
 */
static int check_file(int fd, const char *what, struct segment_header *ret, struct error *e) {
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return error_errno(e, -errno, "could not stat %s", what);
        if (!S_ISREG(st.st_mode))
                return error_set(e, -EBADMSG, "%s is no file", what);
        if (st.st_uid != geteuid())
                return error_set(e, -EBADMSG, "%s belongs to user %u, not to this one (%u)", what, st.st_uid,
                                 geteuid());
        r = read_header(fd, ret, e);
        if (r < 0)
                error_prefix(e, "%s", what);
        return r;
}

int segment_open(const char *instance, const char *state_path, struct segment **ret, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        char name[SEGMENT_NAME_MAX], what[SEGMENT_NAME_MAX + 32];
        struct segment_header h;
        int r;

        r = make_name(instance, name, e);
        if (r < 0)
                return r;
        fd = shm_open(name, O_RDWR, 0);
        if (fd < 0)
                return error_errno(e, -errno, "could not open shared memory '%s'", name);
        (void) snprintf(what, sizeof(what), "shared memory '%s'", name);
        r = check_file(fd, what, &h, e);
        if (r < 0)
                return r;
        if (strcmp(h.state_path, state_path) != 0)
                return error_set(e, -EADDRINUSE,
                                 "shared memory '%s' belongs to the state directory '%s'; choose another "
                                 "instance name",
                                 name, h.state_path);
        return map_all(TAKE_FD(fd), h.n_workers, h.lane_bytes, ret, e);
}

int segment_open_fd(int fd, struct segment **ret, struct error *e) {
        static const char what[] = "stored shared memory";
        cleanup_(fd_closep) int owned_fd = fd;
        struct segment_header h;
        int r;

        r = check_file(owned_fd, what, &h, e);
        if (r < 0)
                return r;
        if ((fcntl(owned_fd, F_GETFL) & O_ACCMODE) != O_RDWR)
                return error_set(e, -EBADMSG, "%s is not open for reading and writing", what);
        return map_all(TAKE_FD(owned_fd), h.n_workers, h.lane_bytes, ret, e);
}

bool segment_has_name(int fd, const char *instance) {
        cleanup_(fd_closep) int named_fd = -1;
        char name[SEGMENT_NAME_MAX];
        struct stat a, b;

        if (make_name(instance, name, NULL) < 0)
                return false;
        named_fd = shm_open(name, O_RDONLY, 0);
        return named_fd >= 0 && fstat(named_fd, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev &&
               a.st_ino == b.st_ino;
}

void segment_empty(struct segment *s) {
        assert(s->writable);
        /* If it fails, closing the last descriptor frees the memory as well. */
        (void) !ftruncate(s->fd, 0);
}

/* A child's handle with the header in it, read-only. Takes @fd over, also on failure. */
static int map_child(int fd, struct segment **ret, struct error *e) {
        cleanup_(fd_closep) int owned_fd = fd;
        cleanup_(segment_freep) struct segment *s = NULL;
        struct segment_header h;
        void *p = NULL;
        int r;

        r = read_header(owned_fd, &h, e);
        if (r < 0) {
                error_prefix(e, "inherited shared memory");
                return r;
        }
        r = handle_new(TAKE_FD(owned_fd), h.n_workers, h.lane_bytes, &s, e);
        if (r < 0)
                return r;
        r = map_part(s->fd, HEADER_OFFSET, SEGMENT_PAGE, PROT_READ, &p, e);
        if (r < 0)
                return r;
        s->header = p;
        *ret = TAKE_PTR(s);
        return 0;
}

int segment_map_worker(int fd, uint32_t slot, struct segment **ret, struct error *e) {
        cleanup_(segment_freep) struct segment *s = NULL;
        void *p = NULL;
        int r;

        r = map_child(fd, &s, e);
        if (r < 0)
                return r;
        if (slot >= s->n_workers)
                return error_set(e, -EINVAL, "slot %" PRIu32 ": the shared memory has %" PRIu32, slot,
                                 s->n_workers);
        r = map_part(s->fd, worker_offset(slot, s->lane_bytes), worker_bytes(s->lane_bytes),
                     PROT_READ | PROT_WRITE, &p, e);
        if (r < 0)
                return r;
        set_worker(s, slot, p);
        *ret = TAKE_PTR(s);
        return 0;
}

int segment_map_trainer(int fd, struct segment **ret, struct error *e) {
        cleanup_(segment_freep) struct segment *s = NULL;
        void *p = NULL;
        int r;

        r = map_child(fd, &s, e);
        if (r < 0)
                return r;
        r = map_part(s->fd, TRAINER_OFFSET, SEGMENT_PAGE, PROT_READ | PROT_WRITE, &p, e);
        if (r < 0)
                return r;
        s->trainer = p;
        *ret = TAKE_PTR(s);
        return 0;
}

/*
 * Sleeping and waking
 *
 *      producer                               consumer
 *      P1  tail = ...   (lane_write)          C1  consumer_sleeps = 1
 *      P2  full fence                         C2  full fence
 *      P3  read consumer_sleeps               C3  read every tail
 *
 * Each side stores, then looks at what the other one stores: Dekker's pattern.  Without the fences both could
 * look before the other's store is visible (x86 lets a load pass an earlier store), the record would lie
 * there and azpard would sleep.  With them, of the two fences one comes first: if P2 does, C3 sees the
 * record; if C2 does, P3 sees that azpard sleeps and writes to the eventfd.
 */
static inline void full_fence(void) {
        /*
         * ThreadSanitizer does not model fences, which gcc warns of.  It need not: only atomics are ordered
         * by this one, and the bytes of records by the lane's own release and acquire.
         */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
        atomic_thread_fence(memory_order_seq_cst);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

void segment_wake_consumer(struct segment *s, int wake_fd) {
        const uint64_t one = 1;
        ssize_t n;

        PAUSE_POINT(WAKE_BEFORE_LOOK);
        full_fence();
        /* relaxed: the fence orders it; what the consumer wrote before it is not read */
        if (!atomic_load_explicit(&s->header->consumer_sleeps, memory_order_relaxed))
                return;
        PAUSE_POINT(WAKE_BEFORE_WRITE);
        do
                n = write(wake_fd, &one, sizeof(one));
        while (n < 0 && errno == EINTR);
        /* EAGAIN: 2^64 - 2 wake-ups are pending, so azpard will wake; other errors: azpard is gone, and we
         * with it */
}

bool segment_consumer_may_sleep(struct segment *s) {
        /* relaxed: the fence orders it */
        atomic_store_explicit(&s->header->consumer_sleeps, 1, memory_order_relaxed);
        full_fence();
        for (uint32_t i = 0; i < s->n_workers; i++)
                if (!s->lanes[i].broken && lane_used(&s->lanes[i]) > 0) {
                        segment_consumer_woke(s);
                        return false;
                }
        return true;
}

void segment_consumer_woke(struct segment *s) {
        /* relaxed: a producer that sees it late writes to the eventfd once too often, which is harmless */
        atomic_store_explicit(&s->header->consumer_sleeps, 0, memory_order_relaxed);
}
