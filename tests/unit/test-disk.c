/* SPDX-License-Identifier: MIT */
/*
 * Disk I/O: every operation and its errors by io_uring and by plain calls, callbacks out of disk_poll()
 * alone, and a kernel that does not take what is submitted.
 *
 * disk.c is included, so that its submissions can be made to fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <liburing.h>

static unsigned n_refusals; /* submissions that fail from now on */

static int test_submit(struct io_uring *ring) {
        if (n_refusals == 0)
                return io_uring_submit(ring);
        n_refusals--;
        return -EAGAIN;
}

#define io_uring_submit test_submit
#include "common/base/disk.c"

#define N_MANY (4 * RING_ENTRIES + 3)

struct fixture {
        char directory[64];
        int dir_fd;
        struct disk *disk;
};

/* A request that remembers what came of it. */
struct call {
        struct disk_request request;
        struct fixture *f;
        int result;
        unsigned n_done, order;
        unsigned again; /* reads to be begun by the callback, one after the other */
        int fd;
        char byte;
};

static unsigned n_told;

static void told(struct disk_request *r, int result) {
        struct call *c = (struct call *) (void *) r;

        c->result = result;
        c->n_done++;
        c->order = n_told++;
        if (c->again > 0) {
                c->again--;
                disk_read(c->f->disk, &c->request, c->fd, &c->byte, 1, 0);
        }
}

static struct call new_call(struct fixture *f) {
        return (struct call){ .request.done = told, .f = f, .fd = -1 };
}

static void open_disk(struct fixture *f, bool with_event, bool allow_uring) {
        int refused = 1;

        assert_int_equal(disk_new(with_event, allow_uring, &f->disk, &refused), 0);
        assert_int_equal(disk_uses_uring(f->disk), allow_uring && refused == 0);
        assert_int_equal(disk_event_fd(f->disk) >= 0, with_event);
        if (!allow_uring)
                assert_int_equal(refused, 0);
}

static int set_up_with(void **state, bool allow_uring) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void) strcpy(f->directory, "/tmp/test-disk-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        f->dir_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dir_fd >= 0);
        open_disk(f, true, allow_uring);
        *state = f;
        return 0;
}

static int set_up_uring(void **state) {
        return set_up_with(state, true);
}

static int set_up_plain(void **state) {
        return set_up_with(state, false);
}

static int tear_down(void **state) {
        static const char *const names[] = { "file", "other", "third" };
        struct fixture *f = *state;

        n_refusals = 0;
        disk_free(f->disk);
        for (size_t i = 0; i < N_ELEMENTS(names); i++)
                (void) unlinkat(f->dir_fd, names[i], 0);
        assert_int_equal(rmdir(f->directory), 0);
        (void) close(f->dir_fd);
        free(f);
        return 0;
}

static bool is_readable(int fd, int timeout_ms) {
        cleanup_(fd_closep) int epoll = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = { .events = EPOLLIN };

        int n;

        assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
        do
                n = epoll_wait(epoll, &event, 1, timeout_ms);
        while (n < 0 && errno == EINTR); /* io_uring does that */
        return n == 1;
}

/* As an event loop does it. Return: the request's result. */
static int result_of(struct fixture *f, struct call *c) {
        assert_int_equal(c->n_done, 0); /* never from within the request itself */
        assert_int_equal(disk_n_pending(f->disk), 1);
        while (c->n_done == 0) {
                assert_true(is_readable(disk_event_fd(f->disk), 30000));
                disk_poll(f->disk);
        }
        assert_int_equal(c->n_done, 1);
        assert_int_equal(disk_n_pending(f->disk), 0);
        return c->result;
}

static int do_open(struct fixture *f, const char *path, int flags) {
        struct call c = new_call(f);

        disk_open(f->disk, &c.request, f->dir_fd, path, flags, 0640);
        return result_of(f, &c);
}

static int do_read(struct fixture *f, int fd, void *bytes, size_t n, uint64_t offset) {
        struct call c = new_call(f);

        disk_read(f->disk, &c.request, fd, bytes, n, offset);
        return result_of(f, &c);
}

static int do_write(struct fixture *f, int fd, const void *bytes, size_t n, uint64_t offset) {
        struct call c = new_call(f);

        disk_write(f->disk, &c.request, fd, bytes, n, offset);
        return result_of(f, &c);
}

static int do_sync(struct fixture *f, int fd, bool only_data) {
        struct call c = new_call(f);

        disk_sync(f->disk, &c.request, fd, only_data);
        return result_of(f, &c);
}

static int do_rename(struct fixture *f, const char *from, const char *to, unsigned flags) {
        struct call c = new_call(f);

        disk_rename(f->disk, &c.request, f->dir_fd, from, f->dir_fd, to, flags);
        return result_of(f, &c);
}

static int do_unlink(struct fixture *f, const char *path) {
        struct call c = new_call(f);

        disk_unlink(f->disk, &c.request, f->dir_fd, path);
        return result_of(f, &c);
}

static bool exists(const struct fixture *f, const char *name) {
        return faccessat(f->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_operations(void **state) {
        struct fixture *f = *state;
        char bytes[16] = "";
        struct stat st;
        int fd;

        fd = do_open(f, "file", O_RDWR | O_CREAT | O_EXCL);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 0137, 0); /* 0640 at most */
        assert_int_equal(do_write(f, fd, "0123456789", 10, 0), 10);
        assert_int_equal(do_write(f, fd, "ab", 2, 4), 2);
        assert_int_equal(do_sync(f, fd, false), 0);
        assert_int_equal(do_sync(f, fd, true), 0);
        assert_int_equal(do_sync(f, f->dir_fd, false), 0);
        assert_int_equal(do_read(f, fd, bytes, 5, 3), 5);
        assert_memory_equal(bytes, "3ab67", 5);
        assert_int_equal(do_read(f, fd, bytes, sizeof(bytes), 8), 2); /* the end is near */
        assert_memory_equal(bytes, "89b67", 5);
        assert_int_equal(do_read(f, fd, bytes, sizeof(bytes), 10), 0);
        assert_int_equal(do_read(f, fd, bytes, sizeof(bytes), 1000), 0);
        (void) close(fd);
        assert_int_equal(do_rename(f, "file", "other", 0), 0);
        assert_false(exists(f, "file"));
        assert_true(exists(f, "other"));
        assert_int_equal(do_unlink(f, "other"), 0);
        assert_false(exists(f, "other"));
}

static void test_errors(void **state) {
        struct fixture *f = *state;
        char byte = 0;
        int fd, ends[2];

        assert_int_equal(do_open(f, "file", O_RDONLY), -ENOENT);
        assert_int_equal(do_unlink(f, "file"), -ENOENT);
        assert_int_equal(do_rename(f, "file", "other", 0), -ENOENT);
        fd = do_open(f, "file", O_WRONLY | O_CREAT);
        assert_true(fd >= 0);
        assert_int_equal(do_open(f, "file", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
        assert_int_equal(do_read(f, fd, &byte, 1, 0), -EBADF); /* opened for writing alone */
        assert_int_equal(do_write(f, f->dir_fd, &byte, 1, 0), -EBADF);
        assert_int_equal(do_sync(f, -1, false), -EBADF);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(do_sync(f, ends[0], true), -EINVAL);
        assert_int_equal(do_unlink(f, "."), -EISDIR);
        assert_int_equal(symlinkat("file", f->dir_fd, "other"), 0);
        assert_int_equal(do_open(f, "other", O_RDONLY | O_NOFOLLOW), -ELOOP);
        assert_int_equal(do_rename(f, "file", "other", RENAME_NOREPLACE), -EEXIST);
        assert_true(exists(f, "file") && exists(f, "other"));
        assert_int_equal(do_rename(f, "file", "third", RENAME_NOREPLACE), 0);
        assert_int_equal(do_rename(f, "third", "file", 1u << 20), -EINVAL); /* no such flag */
        assert_true(exists(f, "third"));
        (void) close(fd);
        (void) close(ends[0]);
        (void) close(ends[1]);
}

/* More requests than the ring has entries: each is told once, and only by disk_poll(). */
static void test_many(void **state) {
        struct fixture *f = *state;
        struct call calls[N_MANY];
        int fd = do_open(f, "file", O_RDWR | O_CREAT);

        assert_int_equal(do_write(f, fd, "x", 1, 0), 1);
        for (unsigned i = 0; i < N_MANY; i++) {
                calls[i] = new_call(f);
                disk_read(f->disk, &calls[i].request, fd, &calls[i].byte, 1, 0);
        }
        for (unsigned i = 0; i < N_MANY; i++)
                assert_int_equal(calls[i].n_done, 0);
        assert_int_equal(disk_n_pending(f->disk), N_MANY);
        assert_true(is_readable(disk_event_fd(f->disk), 30000));
        disk_drain(f->disk);
        assert_int_equal(disk_n_pending(f->disk), 0);
        for (unsigned i = 0; i < N_MANY; i++) {
                assert_int_equal(calls[i].n_done, 1);
                assert_int_equal(calls[i].result, 1);
                assert_int_equal(calls[i].byte, 'x');
        }
        disk_poll(f->disk);            /* nothing is left */
        if (!disk_uses_uring(f->disk)) /* the kernel may be late with the event of what was told */
                assert_false(is_readable(disk_event_fd(f->disk), 0));
        for (unsigned i = 0; i < N_MANY; i++)
                assert_int_equal(calls[i].n_done, 1);
        (void) close(fd);
}

/* Callbacks that begin requests, which disk_drain() waits for as well. */
static void test_from_callbacks(void **state) {
        struct fixture *f = *state;
        struct call calls[5];
        int fd = do_open(f, "file", O_RDWR | O_CREAT);

        assert_int_equal(do_write(f, fd, "x", 1, 0), 1);
        for (unsigned i = 0; i < N_ELEMENTS(calls); i++) {
                calls[i] = new_call(f);
                calls[i].fd = fd;
                calls[i].again = 20 + i;
                disk_sync(f->disk, &calls[i].request, fd, true);
        }
        disk_drain(f->disk);
        assert_int_equal(disk_n_pending(f->disk), 0);
        for (unsigned i = 0; i < N_ELEMENTS(calls); i++) {
                assert_int_equal(calls[i].n_done, 21 + i);
                assert_int_equal(calls[i].result, 1);
                assert_int_equal(calls[i].byte, 'x');
        }
        (void) close(fd);
}

/* By an event loop alone: the descriptor is readable for as long as there is something to tell. */
static void test_event(void **state) {
        struct fixture *f = *state;
        struct call c = new_call(f);

        c.fd = do_open(f, "file", O_RDWR | O_CREAT);
        assert_int_equal(do_write(f, c.fd, "x", 1, 0), 1);
        if (!disk_uses_uring(f->disk)) /* the kernel may be late with the event of what was told */
                assert_false(is_readable(disk_event_fd(f->disk), 0));
        c.again = 10;
        disk_sync(f->disk, &c.request, c.fd, true);
        while (c.n_done < 11) {
                assert_true(is_readable(disk_event_fd(f->disk), 30000));
                disk_poll(f->disk);
        }
        assert_int_equal(disk_n_pending(f->disk), 0);
        (void) close(c.fd);
}

static void test_without_event(void **state) {
        struct fixture *f = *state;
        bool uses_uring = disk_uses_uring(f->disk);
        struct call c = new_call(f);

        disk_free(TAKE_PTR(f->disk));
        open_disk(f, false, uses_uring);
        disk_unlink(f->disk, &c.request, f->dir_fd, "file");
        assert_int_equal(c.n_done, 0);
        disk_drain(f->disk);
        assert_int_equal(c.n_done, 1);
        assert_int_equal(c.result, -ENOENT);
        disk_drain(f->disk); /* of nothing */
}

/* What is on its way ends, and is not told; its memory is free to go. */
static void test_freed(void **state) {
        struct fixture *f = *state;
        bool uses_uring = disk_uses_uring(f->disk);
        int fd = do_open(f, "file", O_RDWR | O_CREAT);
        struct call *calls = calloc(N_MANY, sizeof(*calls));
        char *bytes = calloc(N_MANY, 4096);
        struct stat st;

        assert_true(calls && bytes);
        for (unsigned i = 0; i < N_MANY; i++) {
                calls[i] = new_call(f);
                disk_write(f->disk, &calls[i].request, fd, bytes + i * 4096u, 4096, i * UINT64_C(4096));
        }
        n_refusals = 0;
        disk_free(TAKE_PTR(f->disk));
        for (unsigned i = 0; i < N_MANY; i++)
                assert_int_equal(calls[i].n_done, 0);
        free(bytes);
        free(calls);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, N_MANY * 4096);
        (void) close(fd);
        open_disk(f, true, uses_uring);
        disk_free(NULL);
}

/* ---- a kernel that takes nothing for a while ---- */

static void skip_without_uring(const struct fixture *f) {
        if (disk_uses_uring(f->disk))
                return;
        print_message("no io_uring here\n");
        skip();
}

static void test_refused_submissions(void **state) {
        struct fixture *f = *state;
        struct call c = new_call(f);

        skip_without_uring(f);
        n_refusals = 3;
        disk_unlink(f->disk, &c.request, f->dir_fd, "file");
        disk_poll(f->disk); /* not taken this time either */
        assert_int_equal(c.n_done, 0);
        assert_int_equal(disk_n_pending(f->disk), 1);
        disk_drain(f->disk);
        assert_int_equal(n_refusals, 0);
        assert_int_equal(c.n_done, 1);
        assert_int_equal(c.result, -ENOENT);
}

/* With the ring full of what the kernel did not take, plain calls are made; also from a callback out of the
 * ring. */
static void test_full_ring(void **state) {
        struct fixture *f = *state;
        struct call calls[RING_ENTRIES + 2], c = new_call(f);

        skip_without_uring(f);
        c.fd = do_open(f, "file", O_RDWR | O_CREAT);
        assert_int_equal(do_write(f, c.fd, "x", 1, 0), 1);
        c.again = 1;
        disk_sync(f->disk, &c.request, c.fd, true);
        while (io_uring_cq_ready(&f->disk->ring) ==
               0) /* the descriptor may be late from the request before it */
                assert_true(is_readable(disk_event_fd(f->disk), 30000));
        n_refusals = UINT_MAX;
        for (unsigned i = 0; i < RING_ENTRIES; i++) {
                calls[i] = new_call(f);
                disk_read(f->disk, &calls[i].request, c.fd, &calls[i].byte, 1, 0);
        }
        assert_int_equal(io_uring_sq_space_left(&f->disk->ring), 0);
        disk_poll(f->disk); /* its callback finds the ring full */
        assert_int_equal(io_uring_sq_space_left(&f->disk->ring), 0);
        disk_poll(f->disk);
        assert_int_equal(c.n_done, 2);
        assert_int_equal(c.byte, 'x');
        for (unsigned i = RING_ENTRIES; i < N_ELEMENTS(calls); i++) {
                calls[i] = new_call(f);
                disk_read(f->disk, &calls[i].request, c.fd, &calls[i].byte, 1, 0);
                assert_int_equal(calls[i].n_done, 0);
        }
        disk_poll(f->disk);
        for (unsigned i = 0; i < N_ELEMENTS(calls); i++)
                assert_int_equal(calls[i].n_done, i >= RING_ENTRIES);
        n_refusals = 5;
        disk_drain(f->disk);
        for (unsigned i = 0; i < N_ELEMENTS(calls); i++) {
                assert_int_equal(calls[i].n_done, 1);
                assert_int_equal(calls[i].byte, 'x');
        }
        (void) close(c.fd);
}

/* What the kernel never took need not be waited for. */
static void test_free_of_refused(void **state) {
        struct fixture *f = *state;
        struct call c = new_call(f);

        skip_without_uring(f);
        n_refusals = UINT_MAX;
        disk_unlink(f->disk, &c.request, f->dir_fd, "file");
        disk_free(TAKE_PTR(f->disk));
        assert_int_equal(c.n_done, 0);
        n_refusals = 0;
        open_disk(f, true, true);
}

/* What a request of the kind @operation gets. */
static int try_operation(struct io_uring *ring, uint8_t operation, int fd) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        struct io_uring_cqe *cqe;
        int result;

        assert_non_null(sqe);
        io_uring_prep_rw(operation, sqe, fd, NULL, 0, 0);
        (void) io_uring_submit(ring); /* with -EINVAL for what the ring does not take */
        assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
        result = cqe->res;
        io_uring_cqe_seen(ring, cqe);
        return result;
}

/* A ring that takes six operations has no use for who has taken its process over. */
static void test_other_operations(void **state) {
        static const uint8_t others[] = { IORING_OP_NOP,    IORING_OP_CONNECT, IORING_OP_SENDMSG,
                                          IORING_OP_ACCEPT, IORING_OP_READV,   IORING_OP_CLOSE };
        struct fixture *f = *state;
        cleanup_(fd_closep) int fd = -1;
        struct io_uring free_ring;

        skip_without_uring(f);
        fd = do_open(f, "file", O_RDWR | O_CREAT);
        for (size_t i = 0; i < N_ELEMENTS(others); i++)
                assert_int_equal(try_operation(&f->disk->ring, others[i], fd), -EACCES);
        assert_int_equal(try_operation(&f->disk->ring, IORING_OP_FSYNC, fd), 0);
        assert_int_equal(io_uring_register_personality(&f->disk->ring), -EACCES);

        /* without the restriction it would */
        assert_int_equal(io_uring_queue_init(2, &free_ring, 0), 0);
        assert_int_equal(try_operation(&free_ring, IORING_OP_NOP, fd), 0);
        io_uring_queue_exit(&free_ring);
}

/* clang-format off */
#define BOTH(test)                                                               \
        { #test " by io_uring", test, set_up_uring, tear_down, NULL },           \
        { #test " by plain calls", test, set_up_plain, tear_down, NULL }
/* clang-format on */

int main(void) {
        static const struct CMUnitTest tests[] = {
                BOTH(test_operations),
                BOTH(test_errors),
                BOTH(test_many),
                BOTH(test_from_callbacks),
                BOTH(test_event),
                BOTH(test_without_event),
                BOTH(test_freed),
                cmocka_unit_test_setup_teardown(test_refused_submissions, set_up_uring, tear_down),
                cmocka_unit_test_setup_teardown(test_full_ring, set_up_uring, tear_down),
                cmocka_unit_test_setup_teardown(test_free_of_refused, set_up_uring, tear_down),
                cmocka_unit_test_setup_teardown(test_other_operations, set_up_uring, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
