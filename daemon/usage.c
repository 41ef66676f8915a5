/* SPDX-License-Identifier: MIT */
/* Usage of memory and disk; see usage.h.  Process: azpard. */
#include "daemon/usage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#define INTERVAL_NS (10 * NS_PER_S)
#define LOOKS_MIN   4 /* children looked at per tick, and one more for each LOOKS_SHARE of them */
#define LOOKS_SHARE 10

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

/* A child's memory grows while it starts: look at once, after a second, two, four, and then every ten. */
static bool is_due(const struct usage *u, const struct child *c, uint64_t now_ns) {
        uint64_t looked_ns = u->memory_ns[c->number];

        if (c->phase != CHILD_RUNNING)
                return false;
        return looked_ns < c->started_ns || now_ns - looked_ns >= MIN(looked_ns - c->started_ns, INTERVAL_NS);
}

static void look_at(struct usage *u, const struct child *c, uint64_t now_ns) {
        u->memory_ns[c->number] = now_ns;
        if (usage_read_memory(c->pid, &u->memory[c->number]) < 0)
                u->memory[c->number] = (struct usage_memory){ 0 };
}

void usage_tick(struct usage *u, const struct children *s, const struct statedir *state, int window_fd,
                uint64_t now_ns) {
        unsigned left = LOOKS_MIN + children_n_running(s) / LOOKS_SHARE;
        struct stat st;

        for (unsigned i = 0; left > 0 && i < N_ELEMENTS(u->memory); i++) {
                const struct child *c = children_get(s, u->next_child++ % N_ELEMENTS(u->memory));

                if (c->phase != CHILD_RUNNING)
                        u->memory[c->number] = (struct usage_memory){ 0 };
                if (!is_due(u, c, now_ns))
                        continue;
                look_at(u, c, now_ns);
                left--;
        }
        if (u->disk_ns && now_ns - u->disk_ns < INTERVAL_NS)
                return;
        u->disk_ns = now_ns;
        if (statedir_use(state, &u->disk) < 0)
                u->disk = (struct statedir_use){ 0 };
        u->window_bytes = fstat(window_fd, &st) < 0 ? 0 : (uint64_t) st.st_blocks * 512;
}
