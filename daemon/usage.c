/* SPDX-License-Identifier: MIT */
/* Usage of memory and disk; see usage.h.  Process: azpard. */
#include "daemon/usage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define INTERVAL_TICKS 10 /* seconds in which every child has its turn */

int usage_read_memory(pid_t pid, struct usage_memory *ret) {
        struct usage_memory m = { 0 };
        char path[64], line[256];
        uint64_t kib;
        FILE *f;

        (void) snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int) pid);
        f = fopen(path, "re");
        if (!f)
                return -errno;
        while (fgets(line, sizeof(line), f)) {
                if (sscanf(line, "Pss: %" SCNu64, &kib) == 1)
                        m.pss_bytes = kib * 1024;
                else if (sscanf(line, "Private_Dirty: %" SCNu64, &kib) == 1)
                        m.private_dirty_bytes = kib * 1024;
        }
        (void) fclose(f);
        *ret = m;
        return 0;
}

void usage_tick(struct usage *u, const struct children *s, const struct statedir *state, int window_fd,
                uint64_t now_ns) {
        unsigned n = (children_n_running(s) + INTERVAL_TICKS - 1) / INTERVAL_TICKS;
        struct stat st;

        for (unsigned looked = 0; n > 0 && looked < N_ELEMENTS(u->memory); looked++) {
                unsigned number = u->next_child++ % N_ELEMENTS(u->memory);
                const struct child *c = children_get(s, number);

                if (c->phase == CHILD_RUNNING)
                        n--;
                if (c->phase != CHILD_RUNNING || usage_read_memory(c->pid, &u->memory[number]) < 0)
                        u->memory[number] = (struct usage_memory){ 0 };
        }
        if (u->disk_ns && now_ns - u->disk_ns < INTERVAL_TICKS * NS_PER_S)
                return;
        u->disk_ns = now_ns;
        if (statedir_use(state, &u->disk) < 0)
                u->disk = (struct statedir_use){ 0 };
        u->window_bytes = fstat(window_fd, &st) < 0 ? 0 : (uint64_t) st.st_blocks * 512;
}
