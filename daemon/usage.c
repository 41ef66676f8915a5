/* SPDX-License-Identifier: MIT */
/* Usage of memory and disk; see usage.h.  Process: azpard. */
#include "daemon/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/clock.h"

#define INTERVAL_NS (10 * NS_PER_S)

int usage_parse_memory(const char *text, struct usage_memory *ret) {
        const char *pss = strstr(text, "\nPss:"), *dirty = strstr(text, "\nPrivate_Dirty:");
        uint64_t pss_kib, dirty_kib;

        if (!pss || !dirty || sscanf(pss, " Pss: %" SCNu64 " kB", &pss_kib) != 1 ||
            sscanf(dirty, " Private_Dirty: %" SCNu64 " kB", &dirty_kib) != 1)
                return -EPROTO;
        *ret = (struct usage_memory){ .pss_bytes = pss_kib * 1024, .private_dirty_bytes = dirty_kib * 1024 };
        return 0;
}

/*
 * A child's memory grows while it starts: look at once, after a second, two, four, and then every ten. While
 * all pause it goes on doubling: nothing changes then, and each look is one more time that azpard wakes.
 */
static bool is_due(const struct usage *u, const struct child *c, uint64_t now_ns) {
        uint64_t looked_ns = u->memory_ns[c->number], age_ns = looked_ns - c->started_ns;

        if (c->phase != CHILD_RUNNING)
                return false;
        return looked_ns < c->started_ns ||
               now_ns - looked_ns >= (u->paused ? age_ns : MIN(age_ns, INTERVAL_NS));
}

static void begin_look(struct usage *u, const struct child *c) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int) c->pid);
        u->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (u->fd < 0) {
                u->memory[c->number] = (struct usage_memory){ 0 };
                return;
        }
        u->child = c;
        u->pid = c->pid;
        disk_read(u->reader, &u->request, u->fd, u->text, USAGE_TEXT_MAX, 0);
}

/* One after another: nobody is in a hurry for them. */
static void look_at_next(struct usage *u, uint64_t now_ns) {
        for (unsigned i = 0; !u->child && i < N_ELEMENTS(u->memory); i++) {
                const struct child *c = children_get(u->children, u->next_child++ % N_ELEMENTS(u->memory));

                if (c->phase != CHILD_RUNNING)
                        u->memory[c->number] = (struct usage_memory){ 0 };
                if (!is_due(u, c, now_ns))
                        continue;
                u->memory_ns[c->number] = now_ns;
                begin_look(u, c);
        }
}

static void looked(struct disk_request *request, int result) {
        struct usage *u = (struct usage *) (void *) ((char *) request - offsetof(struct usage, request));
        const struct child *c = u->child;

        fd_closep(&u->fd);
        u->child = NULL;
        u->text[MAX(result, 0)] = 0;
        /* it may have died meanwhile, and another have taken its place */
        if (c->pid != u->pid || usage_parse_memory(u->text, &u->memory[c->number]) < 0)
                u->memory[c->number] = (struct usage_memory){ 0 };
        look_at_next(u, clock_now_ns());
}

void usage_init(struct usage *u, const struct children *s, struct disk *reader) {
        *u = (struct usage){ .children = s, .reader = reader, .request.done = looked, .fd = -1 };
}

void usage_deinit(struct usage *u) {
        if (u->child)
                fd_closep(&u->fd);
}

void usage_tick(struct usage *u, const struct statedir *state, int window_fd, bool paused, uint64_t now_ns) {
        struct stat st;

        u->paused = paused;
        look_at_next(u, now_ns);
        if (u->disk_ns && now_ns - u->disk_ns < INTERVAL_NS)
                return;
        u->disk_ns = now_ns;
        if (statedir_use(state, &u->disk) < 0)
                u->disk = (struct statedir_use){ 0 };
        u->window_bytes = fstat(window_fd, &st) < 0 ? 0 : (uint64_t) st.st_blocks * 512;
}
