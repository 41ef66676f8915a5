/* SPDX-License-Identifier: MIT */
/*
 * Guard: real SIGBUS, from files that are cut short under their mapping: caught inside the guarded memory, in
 * the thread that meets it; anything else still kills.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "common/base/guard.h"

#define N_PAGES   2
#define N_THREADS 4
#define N_FAULTS  200

/* A mapped file of N_PAGES whose second page is gone. */
struct mapping {
        size_t page;
        volatile unsigned char *bytes;
        size_t at; /* where touch() stores */
        int depth;
        struct mapping *other;
};

static void map(struct mapping *m) {
        int fd = memfd_create("test-guard", MFD_CLOEXEC);

        guard_install(); /* cmocka has handlers of its own for each test */
        *m = (struct mapping){ .page = (size_t) sysconf(_SC_PAGESIZE) };
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t) (N_PAGES * m->page)), 0);
        m->bytes = mmap(NULL, N_PAGES * m->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_ptr_not_equal(m->bytes, MAP_FAILED);
        m->bytes[m->page] = 1;
        assert_int_equal(ftruncate(fd, (off_t) m->page), 0);
        (void) close(fd);
}

static void unmap(struct mapping *m) {
        (void) munmap((void *) (uintptr_t) m->bytes, N_PAGES * m->page);
}

static int touch(void *context) {
        struct mapping *m = context;

        m->bytes[m->at] = 7;
        return 42;
}

static int guarded_touch(struct mapping *m, size_t at) {
        m->at = at;
        return guard_run((const void *) (uintptr_t) m->bytes, N_PAGES * m->page, touch, m);
}

static int load(void *context) {
        struct mapping *m = context;

        return m->bytes[m->at];
}

static void test_store_and_load(void **state) {
        struct mapping m;

        (void) state;
        map(&m);
        assert_int_equal(guarded_touch(&m, 0), 42);
        assert_int_equal(m.bytes[0], 7);
        for (unsigned i = 0; i < N_FAULTS; i++) /* again and again: nothing stays blocked or listed */
                assert_int_equal(guarded_touch(&m, m.page + i), -EIO);
        assert_int_equal(guard_run((const void *) (uintptr_t) m.bytes, N_PAGES * m.page, load, &m), -EIO);
        assert_int_equal(guarded_touch(&m, m.page - 1), 42);
        m.at = 0;
        assert_int_equal(guard_run((const void *) (uintptr_t) m.bytes, N_PAGES * m.page, load, &m), 7);
        unmap(&m);
}

/* Nested in two mappings: the one that fails is left, and only that. */

static int touch_inside(void *context) {
        struct mapping *m = context;
        int r = guarded_touch(m->other, m->other->at);

        m->depth = 1;
        m->bytes[m->at] = 9;
        return r;
}

static int touch_outside(void *context) {
        struct mapping *m = context;

        m->bytes[m->page] = 9; /* gone: of the outer mapping, while the inner one is guarded */
        return 0;
}

static int nest(void *context) {
        struct mapping *m = context;
        int r = guard_run((const void *) (uintptr_t) m->other->bytes, N_PAGES * m->page, touch_outside, m);

        m->depth = 1;
        return r;
}

static void test_nested(void **state) {
        struct mapping outer, inner;

        (void) state;
        map(&outer);
        map(&inner);
        outer.other = &inner;
        inner.at = inner.page; /* the inner one fails, the outer one goes on */
        assert_int_equal(
                guard_run((const void *) (uintptr_t) outer.bytes, N_PAGES * outer.page, touch_inside, &outer),
                -EIO);
        assert_int_equal(outer.depth, 1);
        assert_int_equal(outer.bytes[0], 9);

        outer.depth = 0; /* the outer one fails inside the inner guard: both are left */
        assert_int_equal(
                guard_run((const void *) (uintptr_t) outer.bytes, N_PAGES * outer.page, nest, &outer), -EIO);
        assert_int_equal(outer.depth, 0);
        assert_int_equal(guarded_touch(&outer, outer.page), -EIO); /* and the list is in order */
        assert_int_equal(guarded_touch(&inner, 0), 42);
        unmap(&outer);
        unmap(&inner);
}

static void *touch_often(void *context) {
        struct mapping *m = context;
        uintptr_t n = 0;

        for (unsigned i = 0; i < N_FAULTS; i++) {
                n += guarded_touch(m, m->page) == -EIO;
                n += guarded_touch(m, 0) == 42;
        }
        return (void *) n; /* NOLINT(performance-no-int-to-ptr) */
}

static void test_threads(void **state) {
        struct mapping m[N_THREADS];
        pthread_t threads[N_THREADS];
        void *n;

        (void) state;
        for (unsigned i = 0; i < N_THREADS; i++) {
                map(&m[i]);
                assert_int_equal(pthread_create(&threads[i], NULL, touch_often, &m[i]), 0);
        }
        for (unsigned i = 0; i < N_THREADS; i++) {
                assert_int_equal(pthread_join(threads[i], &n), 0);
                assert_int_equal((uintptr_t) n, 2 * N_FAULTS);
                unmap(&m[i]);
        }
}

/* What must still kill. */

static void unguarded(struct mapping *m) {
        m->at = m->page;
        (void) touch(m);
}

static void beside_the_guard(struct mapping *m) {
        m->at = m->page;
        (void) !guard_run((const void *) (uintptr_t) m->bytes, m->page, touch, m);
}

static void sent_by_kill(struct mapping *m) {
        (void) m;
        (void) raise(SIGBUS);
}

static int raise_inside(void *context) {
        (void) context;
        return raise(SIGBUS);
}

static void sent_into_a_guard(struct mapping *m) {
        (void) !guard_run((const void *) (uintptr_t) m->bytes, N_PAGES * m->page, raise_inside, m);
}

static void after_another_thread(struct mapping *m) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, touch_often, m) == 0)
                (void) pthread_join(thread, NULL);
        unguarded(m);
}

static void *unguarded_thread(void *context) {
        unguarded(context);
        return NULL;
}

/* The thread's fault is not that of the one that guards this memory meanwhile. */
static int wait_for_thread(void *context) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, unguarded_thread, context) == 0)
                (void) pthread_join(thread, NULL);
        return 0;
}

static void beside_another_thread(struct mapping *m) {
        (void) !guard_run((const void *) (uintptr_t) m->bytes, N_PAGES * m->page, wait_for_thread, m);
}

static int segfault(void *context) {
        struct mapping *m = context;

        (void) mprotect((void *) (uintptr_t) m->bytes, m->page, PROT_READ);
        m->bytes[0] = 1;
        return 0;
}

static void another_signal(struct mapping *m) {
        (void) !guard_run((const void *) (uintptr_t) m->bytes, N_PAGES * m->page, segfault, m);
}

static void expect_death(void (*f)(struct mapping *m), int sig) {
        const struct rlimit no_core = { 0, 0 };
        struct mapping m;
        int status = 0;
        pid_t pid;

        map(&m);
        assert_int_equal(guarded_touch(&m, m.page), -EIO); /* the handler is there */
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) setrlimit(RLIMIT_CORE, &no_core);
                (void) close(STDERR_FILENO);    /* what sanitizers have to say */
                (void) signal(SIGBUS, SIG_DFL); /* cmocka's */
                (void) signal(SIGSEGV, SIG_DFL);
                guard_install();
                f(&m);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        unmap(&m);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), sig);
}

static void test_bugs_still_kill(void **state) {
        (void) state;
        expect_death(unguarded, SIGBUS);
        expect_death(beside_the_guard, SIGBUS);
        expect_death(sent_by_kill, SIGBUS);
        expect_death(sent_into_a_guard, SIGBUS);
        expect_death(after_another_thread, SIGBUS);
        expect_death(beside_another_thread, SIGBUS);
        expect_death(another_signal, SIGSEGV);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_store_and_load),
                cmocka_unit_test(test_nested),
                cmocka_unit_test(test_threads),
                cmocka_unit_test(test_bugs_still_kill),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
