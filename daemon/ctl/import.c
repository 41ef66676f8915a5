/* SPDX-License-Identifier: MIT */
/* azparctl import; see import.h. */
#include "daemon/ctl/import.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/exchange/spill_folder.h"
#include "daemon/ctl/client.h"
#include "daemon/ctl/human.h"
#include "daemon/ctl/progress.h"

#define POLL_MS 200 /* between two looks at how far azpard is */

struct source {
        uint64_t worker, number;
        uint64_t n_bytes;
        bool is_direct; /* lies in the folder itself */
};

struct sources {
        struct source *all;
        size_t n, n_allocated;
        uint64_t n_bytes, n_others;
};

struct importer {
        const struct import_options *o;
        struct sources sources;
        struct progress progress;
        int folder_fd;
        uint64_t done_bytes;
        double samples, duplicates, rounded;
        size_t n_imported;
        cJSON *refused; /* with json: array of what azpard would not have */
        size_t n_refused;
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

/* ---- which files ---- */

static int add_source(struct sources *s, const struct source *source) {
        if (s->n == s->n_allocated) {
                size_t n = s->n ? 2 * s->n : 256;
                struct source *all = reallocarray(s->all, n, sizeof(*all));

                if (!all)
                        return -ENOMEM;
                s->all = all;
                s->n_allocated = n;
        }
        s->all[s->n++] = *source;
        s->n_bytes += source->n_bytes;
        return 0;
}

static int list_files(struct sources *s, int dir_fd, uint64_t worker, bool is_direct) {
        cleanup_(closedirp) DIR *dir = file_list(dir_fd);
        const struct dirent *d;

        if (!dir)
                return -errno;
        for (errno = 0; (d = readdir(dir)); errno = 0) {
                struct source source = { .worker = worker, .is_direct = is_direct };
                struct stat st;
                uint64_t ignored;
                int r;

                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
                    (is_direct && spill_folder_parse_worker(d->d_name, &ignored)))
                        continue;
                if (!spill_folder_parse_name(d->d_name, &source.number)) {
                        s->n_others++;
                        continue;
                }
                if (fstatat(dir_fd, d->d_name, &st, 0) < 0)
                        return -errno;
                source.n_bytes = (uint64_t) st.st_size;
                r = add_source(s, &source);
                if (r < 0)
                        return r;
        }
        return -errno;
}

static int list_workers(struct sources *s, int dir_fd) {
        cleanup_(closedirp) DIR *dir = file_list(dir_fd);
        const struct dirent *d;

        if (!dir)
                return -errno;
        for (errno = 0; (d = readdir(dir)); errno = 0) {
                cleanup_(fd_closep) int fd = -1;
                uint64_t worker;
                int r;

                if (!spill_folder_parse_worker(d->d_name, &worker))
                        continue;
                fd = openat(dir_fd, d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = fd < 0 ? -errno : list_files(s, fd, worker, false);
                if (r < 0)
                        return r;
        }
        return -errno;
}

static int by_worker_and_number(const void *a, const void *b) {
        const struct source *x = a, *y = b;

        if (x->is_direct != y->is_direct)
                return x->is_direct ? -1 : 1;
        if (x->worker != y->worker)
                return x->worker < y->worker ? -1 : 1;
        return x->number < y->number ? -1 : x->number > y->number;
}

static int list(struct importer *m, struct error *e) {
        int r;

        m->folder_fd = open(m->o->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (m->folder_fd < 0)
                return error_errno(e, -errno, "could not open '%s'", m->o->folder);
        r = list_files(&m->sources, m->folder_fd, 0, true);
        if (r == 0)
                r = list_workers(&m->sources, m->folder_fd);
        if (r < 0)
                return error_errno(e, r, "could not look into '%s'", m->o->folder);
        if (m->sources.n == 0)
                return error_set(e, -ENOENT,
                                 "'%s' holds no worker_N/batch_NNNNNN.json and no batch_NNNNNN.json",
                                 m->o->folder);
        qsort(m->sources.all, m->sources.n, sizeof(*m->sources.all), by_worker_and_number);
        return 0;
}

/* ---- one file ---- */

static void path_of(const struct source *s, char ret[2 * SPILL_FOLDER_NAME_MAX + 2]) {
        char folder[SPILL_FOLDER_NAME_MAX], name[SPILL_FOLDER_NAME_MAX];

        spill_folder_worker(s->worker, folder);
        spill_folder_name(s->number, name);
        (void) snprintf(ret, 2 * SPILL_FOLDER_NAME_MAX + 2, "%s%s%s", s->is_direct ? "" : folder,
                        s->is_direct ? "" : "/", name);
}

/* How far azpard is in the file at hand; 0 where that cannot be known. */
static uint64_t ask_how_far(const char *socket_path) {
        cleanup_(cJSON_Deletep) cJSON *status = NULL;
        cleanup_(freep) char *line = NULL;
        cleanup_(fd_closep) int fd = -1;
        const cJSON *done;

        if (client_open(socket_path, &fd, NULL) < 0 ||
            client_ask(fd, "{\"command\":\"status\"}", CLIENT_TIMEOUT_MS, &line, &status, NULL) < 0)
                return 0;
        done = cJSON_GetObjectItemCaseSensitive(
                cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(status, "spill"),
                                                 "reading"),
                "done_bytes");
        return cJSON_IsNumber(done) && done->valuedouble > 0 ? (uint64_t) done->valuedouble : 0;
}

static double number(const cJSON *answer, const char *name) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(answer, name);

        return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* Return: 0; a negative errno with a text; -EREMOTEIO: azpard does not want this file. */
static int hand_over(struct importer *m, int file_fd, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        cleanup_(freep) char *line = NULL;
        cleanup_(fd_closep) int fd = -1;
        int r;

        r = client_open(m->o->socket_path, &fd, e);
        if (r == 0)
                r = client_send_file(fd, "{\"command\":\"import\"}", file_fd, e);
        if (r < 0)
                return r;
        do {
                progress_show(&m->progress, m->done_bytes);
                r = client_wait(fd, POLL_MS, e);
                if (r == 0 && m->progress.shows)
                        progress_show(&m->progress, m->done_bytes + ask_how_far(m->o->socket_path));
        } while (r == 0);
        if (r > 0)
                r = client_answer(fd, CLIENT_TIMEOUT_MS, &line, &answer, e);
        if (r < 0)
                return r;
        m->samples += number(answer, "samples");
        m->duplicates += number(answer, "duplicates");
        m->rounded += number(answer, "rounded");
        return 0;
}

static int note_refused(struct importer *m, const char *path, const struct error *why) {
        cleanup_(cJSON_Deletep) cJSON *entry = NULL;

        progress_clear(&m->progress);
        log_error("'%s/%s': %s", m->o->folder, path, why->text);
        m->n_refused++;
        if (!m->o->json)
                return 0;
        entry = cJSON_CreateObject();
        if (!entry || !cJSON_AddStringToObject(entry, "file", path) ||
            !cJSON_AddStringToObject(entry, "error", why->text) || !cJSON_AddItemToArray(m->refused, entry))
                return -ENOMEM;
        (void) TAKE_PTR(entry);
        return 0;
}

/* Return: 0, also when azpard would not have it; a negative errno with a text: there is no use in going on.
 */
static int import_file(struct importer *m, const struct source *s, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        char path[2 * SPILL_FOLDER_NAME_MAX + 2];
        struct error why = ERROR_INIT;
        int r;

        path_of(s, path);
        fd = openat(m->folder_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        r = fd < 0 ? error_errno(&why, -errno, "could not open it") : hand_over(m, fd, &why);
        if (r < 0 && fd >= 0 && r != -EREMOTEIO) {
                *e = why;
                return r;
        }
        if (r == 0) {
                m->n_imported++;
                if (!m->o->keep && unlinkat(m->folder_fd, path, 0) < 0)
                        r = error_errno(&why, -errno,
                                        "its samples were imported, but it could not be removed");
        }
        m->done_bytes += s->n_bytes;
        return r < 0 ? note_refused(m, path, &why) : 0;
}

/* ---- all of them ---- */

static void report(const struct importer *m) {
        if (m->o->json) {
                cleanup_(freep) char *refused = cJSON_PrintUnformatted(m->refused);

                (void) printf("{\"files\":%zu,\"samples\":%.0f,\"duplicates\":%.0f,\"rounded\":%.0f,"
                              "\"others\":%" PRIu64 ",\"refused\":%s}\n",
                              m->n_imported, m->samples, m->duplicates, m->rounded, m->sources.n_others,
                              refused ?: "null");
                return;
        }
        (void) printf("imported %.0f samples from %zu files", m->samples, m->n_imported);
        if (m->duplicates > 0)
                (void) printf("; %.0f more were in the window already", m->duplicates);
        if (m->rounded > 0)
                (void) printf("; the policies of %.0f are no ratios of visits and were rounded", m->rounded);
        if (m->sources.n_others > 0)
                (void) printf("; %" PRIu64 " other files were left alone", m->sources.n_others);
        (void) putchar('\n');
}

static int import_all(struct importer *m, struct error *e) {
        int r;

        r = list(m, e);
        if (r < 0)
                return r;
        progress_begin(&m->progress, m->sources.n_bytes, "B");
        for (size_t i = 0; i < m->sources.n && r == 0; i++)
                r = import_file(m, &m->sources.all[i], e);
        progress_clear(&m->progress);
        report(m);
        if (r == 0 && m->n_refused > 0)
                r = error_set(e, -EREMOTEIO, "%zu of %zu files were not imported, or not removed",
                              m->n_refused, m->sources.n);
        return r;
}

int import_run(const struct import_options *o, struct error *e) {
        struct importer m = { .o = o, .folder_fd = -1, .refused = cJSON_CreateArray() };
        int r;

        r = m.refused ? import_all(&m, e) : error_set(e, -ENOMEM, "out of memory");
        fd_closep(&m.folder_fd);
        free(m.sources.all);
        cJSON_Delete(m.refused);
        return r;
}
