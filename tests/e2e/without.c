/* SPDX-License-Identifier: MIT */
/*
 * without uring|seccomp PROGRAM [ARGUMENT...]: run a program for which the kernel refuses something with
 * EPERM, as containers do: by a seccomp filter, which its children inherit.
 *
 *   uring      io_uring_setup(2)
 *   seccomp    filters of its own
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/base/attr.h"

static struct sock_filter uring[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static struct sock_filter seccomp[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static const struct {
        const char *name;
        struct sock_fprog program;
} filters[] = {
        { "uring", { .len = N_ELEMENTS(uring), .filter = uring } },
        { "seccomp", { .len = N_ELEMENTS(seccomp), .filter = seccomp } },
};

static const struct sock_fprog *find_filter(const char *name) {
        for (size_t i = 0; i < N_ELEMENTS(filters); i++)
                if (strcmp(filters[i].name, name) == 0)
                        return &filters[i].program;
        return NULL;
}

int main(int argc, char **argv) {
        const struct sock_fprog *filter = argc < 3 ? NULL : find_filter(argv[1]);

        if (!filter) {
                (void) fprintf(stderr, "usage: without uring|seccomp PROGRAM [ARGUMENT...]\n");
                return 2;
        }
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter) < 0) {
                (void) fprintf(stderr, "without %s: no filter: %s\n", argv[1], strerror(errno));
                return 77;
        }
        (void) execv(argv[2], argv + 2);
        (void) fprintf(stderr, "without %s: '%s': %s\n", argv[1], argv[2], strerror(errno));
        return 1;
}
