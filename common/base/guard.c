/* SPDX-License-Identifier: MIT */
/*
 * Guarded access to mapped files; see guard.h.
 *
 * The handler of SIGBUS jumps back into guard_run() when the fault is the current
 * thread's and lies in memory that it guards.  A load or store that faults raises the signal
 * in the thread that does it, at that instruction, so no other code is interrupted.
 * Before the jump the handler restores the signal mask that the fault found, so
 * that sigsetjmp() need not save it at each call, which is a system call.
 *
 * Rejected: systemd's way (basic/sigbus.c: an empty page is put where the fault was, and somebody asks
 * later) goes on writing into nothing, so that a game would count as appended which is not in the file;
 * MADV_POPULATE_WRITE before each access reports errors as a system call does, but costs one, and the kernel
 * may take the page away again before the access.
 */
#include "common/base/guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <ucontext.h>

struct guard {
        struct guard *outer;
        uintptr_t from, to;
        sigjmp_buf back;
};

/* Volatile: the handler reads it at any moment of @f. Programs are linked statically, so this allocates
 * nothing. */
static _Thread_local struct guard *volatile innermost;

static struct sigaction previous;

static void on_sigbus(int sig, siginfo_t *si, void *ucontext) {
        uintptr_t at = (uintptr_t) si->si_addr;

        /* Not one that was sent by kill(), nor BUS_ADRALN, which is our own bug. */
        if (si->si_code == BUS_ADRERR || si->si_code == BUS_OBJERR || si->si_code == BUS_MCEERR_AR) {
                for (struct guard *g = innermost; g; g = g->outer) {
                        if (at < g->from || at >= g->to)
                                continue;
                        innermost = g->outer;
                        (void) pthread_sigmask(SIG_SETMASK, &((const ucontext_t *) ucontext)->uc_sigmask,
                                               NULL);
                        siglongjmp(g->back, 1);
                }
        }
        /* The access that faulted is made once more when we return, and what was sent is sent again. */
        (void) sigaction(SIGBUS, &previous, NULL);
        if (si->si_code <= 0)
                (void) raise(sig);
}

void guard_install(void) {
        struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO }, old;

        (void) sigemptyset(&sa.sa_mask);
        (void) sigaction(SIGBUS, &sa, &old); /* cannot fail */
        if (old.sa_sigaction != on_sigbus)
                previous = old;
}

int guard_run(const void *memory, size_t n_bytes, int (*f)(void *context), void *context) {
        static pthread_once_t installed = PTHREAD_ONCE_INIT;
        struct guard g = { .outer = innermost, .from = (uintptr_t) memory };
        int r;

        (void) pthread_once(&installed, guard_install);
        g.to = g.from + n_bytes;
        if (sigsetjmp(g.back, 0))
                return -EIO; /* the handler has taken us off the list */
        innermost = &g;
        atomic_signal_fence(memory_order_seq_cst); /* no access of @f before or after it is guarded */
        r = f(context);
        atomic_signal_fence(memory_order_seq_cst);
        innermost = g.outer;
        return r;
}
