/* SPDX-License-Identifier: MIT */
/* Pause points; see pause_point.h.  Linked only into programs that are built with them. */
#include "common/base/pause_point.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

struct pause_table *pause_table;

/* A test that asks for points must not run without them. */
static void __attribute__((constructor)) map_table(void) {
        const char *path = getenv("AZPAR_PAUSE_FILE");
        void *p = MAP_FAILED;
        int fd;

        if (!path)
                return;
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0)
                p = mmap(NULL, sizeof(struct pause_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                _exit(EX_CONFIG);
        (void) close(fd);
        pause_table = p;
}

void pause_point_reached(void) {
        /* relaxed, all but the last: who wins the countdown is alone with the table until the test sees that
         * it fired */
        if (atomic_fetch_sub_explicit(&pause_table->n_left, 1, memory_order_relaxed) != 1)
                return;
        atomic_store_explicit(&pause_table->point, PAUSE_NONE, memory_order_relaxed);
        atomic_store_explicit(&pause_table->fired_pid, (uint32_t) getpid(), memory_order_relaxed);
        /* release: pairs with the test's acquire */
        atomic_store_explicit(&pause_table->fired_generation,
                              atomic_load_explicit(&pause_table->generation, memory_order_relaxed),
                              memory_order_release);
        (void) kill(getpid(), (int) atomic_load_explicit(&pause_table->signal, memory_order_relaxed));
}
