/* SPDX-License-Identifier: MIT */
/*
 * The list of spilled files; see spill_list.h.  Process: azpard.
 *
 * Entries are sorted by folder, then number, so each folder is a run of them with a cursor; the next file is
 * the oldest of the files at the cursors.  There are at most some hundred folders.
 *
 * A folder is read twice, since its worker may be adding files meanwhile: readdir() may give one that was
 * added and not the one that was added before it.  But what is there when it begins, it gives.  So the first
 * reading only finds the highest number, and the second one takes the files up to that, of which all were
 * there when it began.
 */
#include "daemon/spill_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/clock.h"

#define STEPS_PER_CLOCK 32 /* entries between two looks at the clock */

struct entries {
        struct spill_entry *all;
        size_t n, n_allocated;
};

/* Files of one folder: entries [at, end). */
struct run {
        size_t at, end;
        bool blocked;
};

struct spill_list {
        int state_fd;
        DIR *top, *folder; /* of the look that is under way; NULL: none */
        uint64_t folder_number;
        bool is_second;       /* reading of folder */
        uint64_t limit;       /* files of it with numbers from this one on are left for the next look */
        struct entries found; /* by it */
        size_t n_before;      /* in the folder that is open */
        uint64_t n_ignored;
        int failed; /* negative errno of the last folder that could not be read */
        struct error failed_text;
        struct entries list;
        struct run *runs;
        size_t n_runs;
        struct spill_waiting waiting;
};

int spill_list_new(int state_fd, struct spill_list **ret) {
        struct spill_list *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        l->state_fd = state_fd;
        *ret = l;
        return 0;
}

static void end_look(struct spill_list *l) {
        if (l->folder)
                (void) closedir(l->folder);
        if (l->top)
                (void) closedir(l->top);
        l->folder = l->top = NULL;
        free(l->found.all);
        l->found = (struct entries){ 0 };
}

void spill_list_free(struct spill_list *l) {
        if (!l)
                return;
        end_look(l);
        free(l->list.all);
        free(l->runs);
        free(l);
}

/* ---- looking ---- */

/* Return: NULL with errno. */
static DIR *open_folder(int dir_fd, const char *path) {
        cleanup_(fd_closep) int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        if (dir)
                (void) TAKE_FD(fd);
        return dir;
}

static int add_entry(struct entries *l, const struct spill_entry *entry) {
        if (l->n == l->n_allocated) {
                size_t n = l->n ? 2 * l->n : 256;
                struct spill_entry *all = reallocarray(l->all, n, sizeof(*all));

                if (!all)
                        return -ENOMEM;
                l->all = all;
                l->n_allocated = n;
        }
        l->all[l->n++] = *entry;
        return 0;
}

/* Names that belong here beside folders and batch files. */
static bool is_known(const char *name) {
        size_t n = strlen(name), n_suffix = strlen(SPILL_FOLDER_TEMPORARY);

        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "rejected") == 0 ||
               (n > n_suffix && strcmp(name + n - n_suffix, SPILL_FOLDER_TEMPORARY) == 0);
}

/* The next name in the folder that is open. Return: 0; a negative errno. */
static int look_at_file(struct spill_list *l, const struct dirent *d) {
        struct spill_entry entry = { .folder = l->folder_number };
        struct stat st;

        if (!spill_folder_parse_name(d->d_name, &entry.number)) {
                l->n_ignored += l->is_second && !is_known(d->d_name);
                return 0;
        }
        if (!l->is_second)
                l->limit = MAX(l->limit, entry.number + 1);
        if (!l->is_second || entry.number >= l->limit)
                return 0;
        if (fstatat(dirfd(l->folder), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        entry.n_bytes = (uint64_t) st.st_size;
        entry.unix_us = (uint64_t) st.st_mtim.tv_sec * 1000000 + (uint64_t) st.st_mtim.tv_nsec / 1000;
        return add_entry(&l->found, &entry);
}

/* The folder's end, or that of our way in it: then none of its files, since none may come before another. */
static void leave_folder(struct spill_list *l, int r) {
        char name[SPILL_FOLDER_NAME_MAX];

        if (l->folder)
                (void) closedir(l->folder);
        l->folder = NULL;
        if (r == 0)
                return;
        spill_folder_worker(l->folder_number, name);
        l->failed = error_errno(&l->failed_text, r, "could not look into '" SPILL_FOLDER "/%s'", name);
        l->found.n = l->n_before;
}

/* The folder that is open has been read. */
static void end_reading(struct spill_list *l) {
        if (l->is_second) {
                leave_folder(l, 0);
                return;
        }
        rewinddir(l->folder);
        l->is_second = true;
}

/* One name. Return: 1: go on; 0: all has been seen; negative errno. */
static int look_at_one(struct spill_list *l) {
        const struct dirent *d;
        int r;

        errno = 0;
        if (l->folder) {
                d = readdir(l->folder);
                r = d ? look_at_file(l, d) : -errno;
                if (!d && r == 0)
                        end_reading(l);
                else if (r < 0)
                        leave_folder(l, r);
                return r == -ENOMEM ? r : 1;
        }
        d = readdir(l->top);
        if (!d)
                return -errno;
        if (!spill_folder_parse_worker(d->d_name, &l->folder_number)) {
                l->n_ignored += !is_known(d->d_name);
                return 1;
        }
        l->is_second = false;
        l->limit = 0;
        l->n_before = l->found.n;
        l->folder = open_folder(dirfd(l->top), d->d_name);
        if (!l->folder && errno != ENOTDIR && errno != ELOOP && errno != ENOENT)
                leave_folder(l, -errno);
        return 1;
}

static int by_folder_and_number(const void *a, const void *b) {
        const struct spill_entry *x = a, *y = b;

        if (x->folder != y->folder)
                return x->folder < y->folder ? -1 : 1;
        return x->number < y->number ? -1 : x->number > y->number;
}

/* What was found becomes the list. */
static int take_found(struct spill_list *l) {
        size_t n_runs = 0;
        struct run *runs;

        if (l->found.n > 1)
                qsort(l->found.all, l->found.n, sizeof(*l->found.all), by_folder_and_number);
        for (size_t i = 0; i < l->found.n; i++)
                n_runs += i == 0 || l->found.all[i].folder != l->found.all[i - 1].folder;
        runs = calloc(MAX(n_runs, 1), sizeof(*runs));
        if (!runs)
                return -ENOMEM;
        free(l->runs);
        free(l->list.all);
        l->runs = runs;
        l->n_runs = 0;
        l->list = l->found;
        l->found = (struct entries){ 0 };
        l->waiting = (struct spill_waiting){ .n_files = l->list.n, .n_ignored = l->n_ignored };
        for (size_t i = 0; i < l->list.n; i++) {
                if (i == 0 || l->list.all[i].folder != l->list.all[i - 1].folder)
                        runs[l->n_runs++].at = i;
                runs[l->n_runs - 1].end = i + 1;
                l->waiting.n_bytes += l->list.all[i].n_bytes;
        }
        return 0;
}

static int give_up(struct spill_list *l, int negative_errno, struct error *e) {
        end_look(l);
        return error_errno(e, negative_errno, "could not look into '" SPILL_FOLDER "'");
}

int spill_list_look(struct spill_list *l, uint64_t budget_ns, struct error *e) {
        uint64_t begin_ns = clock_now_ns();
        int r = 1;

        if (!l->top) {
                l->n_ignored = 0;
                l->failed = 0;
                l->top = open_folder(l->state_fd, SPILL_FOLDER);
                if (!l->top && errno != ENOENT)
                        return give_up(l, -errno, e);
        }
        for (unsigned n = 0; l->top && r > 0; n++) {
                if (n % STEPS_PER_CLOCK == STEPS_PER_CLOCK - 1 && clock_now_ns() - begin_ns >= budget_ns)
                        return SPILL_LIST_E_MORE;
                r = look_at_one(l);
                if (r < 0)
                        return give_up(l, r, e);
        }
        r = take_found(l);
        if (r < 0)
                return give_up(l, r, e);
        end_look(l);
        if (l->failed < 0 && e)
                *e = l->failed_text;
        return l->failed; /* or SPILL_LIST_E_DONE */
}

/* ---- the list ---- */

static struct run *next_run(const struct spill_list *l) {
        struct run *best = NULL;

        for (size_t i = 0; i < l->n_runs; i++) {
                struct run *run = &l->runs[i];

                if (run->at == run->end || run->blocked)
                        continue;
                if (!best || l->list.all[run->at].unix_us < l->list.all[best->at].unix_us)
                        best = run;
        }
        return best;
}

bool spill_list_next(const struct spill_list *l, struct spill_entry *ret) {
        const struct run *run = next_run(l);

        if (run)
                *ret = l->list.all[run->at];
        return run;
}

void spill_list_done(struct spill_list *l) {
        struct run *run = next_run(l);

        if (!run)
                return;
        l->waiting.n_files--;
        l->waiting.n_bytes -= l->list.all[run->at++].n_bytes;
}

void spill_list_block(struct spill_list *l) {
        struct run *run = next_run(l);

        if (run)
                run->blocked = true;
}

struct spill_waiting spill_list_waiting(const struct spill_list *l) {
        struct spill_waiting w = l->waiting;

        for (size_t i = 0; i < l->n_runs; i++) {
                const struct run *run = &l->runs[i];

                if (run->at < run->end &&
                    (w.oldest_unix_us == 0 || l->list.all[run->at].unix_us < w.oldest_unix_us))
                        w.oldest_unix_us = l->list.all[run->at].unix_us;
        }
        return w;
}

const char *spill_entry_path(const struct spill_entry *entry, char ret[SPILL_ENTRY_PATH_MAX]) {
        char folder[SPILL_FOLDER_NAME_MAX], name[SPILL_FOLDER_NAME_MAX];

        spill_folder_worker(entry->folder, folder);
        spill_folder_name(entry->number, name);
        (void) snprintf(ret, SPILL_ENTRY_PATH_MAX, SPILL_FOLDER "/%s/%s", folder, name);
        return ret;
}
