/* SPDX-License-Identifier: MIT */
/*
 * azparctl export; see export.h.
 *
 * Samples that leave the window while it is read are counted, not missed: they were the oldest.
 */
#include "daemon/ctl/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/exchange/batch_file.h"
#include "common/exchange/spill_folder.h"
#include "common/exchange/window.h"
#include "daemon/ctl/progress.h"

#define FILE_SAMPLES 1000
#define SEPARATORS   4 /* "[" or ",\n" before a sample, "]\n" behind the last one */

struct exporter {
        const struct export_options *o;
        struct game *game;
        struct window *window;
        int folder_fd; /* of worker_0 */
        char *text;
        struct sample sample;
        struct progress progress;
        uint64_t n_files, n_samples, n_gone, n_bytes;
};

static int open_window(struct exporter *x, struct error *e) {
        cleanup_(fd_closep) int fd = open(x->o->window, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        char rules[GAME_RULES_MAX];
        int r;

        if (fd < 0)
                return error_errno(e, -errno, "could not open the replay window '%s'", x->o->window);
        r = window_read_rules(fd, rules, e);
        if (r == 0)
                r = game_from_rules(rules, &x->game, e);
        if (r < 0) {
                error_prefix(e, "replay window '%s'", x->o->window);
                return r;
        }
        return window_map(TAKE_FD(fd), x->game, &x->window, e);
}

static int open_folder(struct exporter *x, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        struct spill_folder_content content;
        char name[SPILL_FOLDER_NAME_MAX];
        int r;

        if (mkdir(x->o->folder, 0777) < 0 && errno != EEXIST)
                return error_errno(e, -errno, "could not make '%s'", x->o->folder);
        fd = open(x->o->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s'", x->o->folder);
        spill_folder_worker(0, name);
        if (mkdirat(fd, name, 0777) < 0 && errno != EEXIST)
                return error_errno(e, -errno, "could not make '%s/%s'", x->o->folder, name);
        x->folder_fd = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = x->folder_fd < 0 ? -errno : spill_folder_look(x->folder_fd, &content);
        if (r < 0)
                return error_errno(e, r, "could not look into '%s/%s'", x->o->folder, name);
        if (content.n_files > 0)
                return error_set(e, -EEXIST, "'%s/%s' holds batch files already; give another folder",
                                 x->o->folder, name);
        return 0;
}

/* The samples from @at on, as many as a file takes. */
static int write_file(struct exporter *x, uint64_t *at, uint64_t tail, struct error *e) {
        char name[SPILL_FOLDER_NAME_MAX];
        struct file_part part = { .bytes = x->text };
        unsigned n = 0;
        int r;

        while (*at < tail && n < FILE_SAMPLES) {
                const struct sample *s = &x->sample;
                char *to = x->text + part.n_bytes;

                if (window_read(x->window, (*at)++, &x->sample) != 0) {
                        x->n_gone++;
                        continue;
                }
                part.n_bytes += (size_t) sprintf(to, "%s", n ? ",\n" : "[");
                part.n_bytes += batch_file_write_sample(x->game, s, window_origin(x->window),
                                                        s->id.slot == SAMPLE_SLOT_IMPORTED_F32,
                                                        x->text + part.n_bytes);
                n++;
        }
        if (n == 0)
                return 0;
        part.n_bytes += (size_t) sprintf(x->text + part.n_bytes, "]\n");
        spill_folder_name(x->n_files, name);
        r = file_replace(x->folder_fd, name, &part, 1, e);
        if (r < 0) {
                error_prefix(e, "'%s'", x->o->folder);
                return r;
        }
        x->n_files++;
        x->n_samples += n;
        x->n_bytes += part.n_bytes;
        return 0;
}

static int export_all(struct exporter *x, struct error *e) {
        uint64_t first, tail;
        int r;

        r = open_window(x, e);
        if (r == 0)
                r = open_folder(x, e);
        if (r < 0)
                return r;
        x->text = malloc(FILE_SAMPLES * (batch_file_sample_max_bytes(x->game) + SEPARATORS));
        if (!x->text)
                return error_set(e, -ENOMEM, "out of memory");
        first = window_first(x->window);
        tail = window_tail(x->window);
        progress_begin(&x->progress, tail - first, "");
        for (uint64_t at = first; at < tail && r == 0;) {
                r = write_file(x, &at, tail, e);
                progress_show(&x->progress, at - first);
        }
        progress_clear(&x->progress);
        return r;
}

int export_run(const struct export_options *o, struct error *e) {
        struct exporter x = { .o = o, .folder_fd = -1 };
        int r = export_all(&x, e);

        if (r == 0 && o->json)
                (void) printf("{\"files\":%" PRIu64 ",\"samples\":%" PRIu64 ",\"bytes\":%" PRIu64
                              ",\"gone\":%" PRIu64 "}\n",
                              x.n_files, x.n_samples, x.n_bytes, x.n_gone);
        else if (r == 0) {
                (void) printf("exported %" PRIu64 " samples to %" PRIu64 " files", x.n_samples, x.n_files);
                if (x.n_gone > 0)
                        (void) printf("; %" PRIu64 " left the window meanwhile, or are damaged", x.n_gone);
                (void) putchar('\n');
        }
        free(x.text);
        fd_closep(&x.folder_fd);
        window_free(x.window);
        game_free(x.game);
        return r;
}
