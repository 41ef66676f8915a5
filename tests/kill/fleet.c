/* SPDX-License-Identifier: MIT */
/* The fleet; see fleet.h. */
#include "tests/kill/fleet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "daemon/ctl/client.h"

static int write_text(const char *path, const char *text, struct error *e) {
        FILE *f = fopen(path, "we");

        if (!f || fputs(text, f) < 0 || fclose(f) < 0)
                return error_errno(e, -errno, "could not write '%s'", path);
        return 0;
}

int fleet_init(struct fleet *f, const char *programs, const char *folder, const char *settings,
               struct error *e) {
        char path[FLEET_PATH_MAX + 16];

        memset(f, 0, sizeof(*f));
        (void) snprintf(f->programs, sizeof(f->programs), "%s", programs);
        (void) snprintf(f->folder, sizeof(f->folder), "%s", folder);
        if (snprintf(f->state, sizeof(f->state), "%s/state", folder) >= (int) sizeof(f->state))
                return error_set(e, -ENAMETOOLONG, "folder '%s'", folder);
        (void) snprintf(f->instance, sizeof(f->instance), "kill-%d-%s", (int) getpid(),
                        strrchr(folder, '/') + 1);
        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
                return error_errno(e, -errno, "could not make '%s'", folder);
        (void) snprintf(path, sizeof(path), "%s/azpar.conf", folder);
        return write_text(path, settings, e);
}

static _Noreturn void run_azpard(const struct fleet *f, pid_t parent) {
        char program[FLEET_PATH_MAX + 16], config[FLEET_PATH_MAX + 16], log[FLEET_PATH_MAX + 16];
        int fd;

        (void) snprintf(program, sizeof(program), "%s/azpard", f->programs);
        (void) snprintf(config, sizeof(config), "%s/azpar.conf", f->folder);
        (void) snprintf(log, sizeof(log), "%s/log", f->folder);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(127);
        fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
                _exit(127);
        if (f->pause_file[0])
                (void) setenv("AZPAR_PAUSE_FILE", f->pause_file, 1);
        (void) setenv("AZPAR_KILL_FILE", f->kill_file, 1);
        (void) execl(program, "azpard", "--config", config, "--state", f->state, "--instance", f->instance,
                     (char *) NULL);
        _exit(127);
}

int fleet_start(struct fleet *f, struct error *e) {
        pid_t parent = getpid(), pid = fork();

        if (pid < 0)
                return error_errno(e, -errno, "fork");
        if (pid == 0)
                run_azpard(f, parent);
        f->pid = pid;
        f->n_started++;
        return 0;
}

bool fleet_has_ended(struct fleet *f, int *ret_status) {
        if (!f->pid || waitpid(f->pid, ret_status, WNOHANG) != f->pid)
                return false;
        f->pid = 0;
        return true;
}

/* The first bytes of a file in /proc/@pid. Return: how many, without the final 0. */
static size_t read_proc(pid_t pid, const char *name, char *ret, size_t size) {
        cleanup_(fd_closep) int fd = -1;
        char path[64];
        ssize_t n;

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, ret, size - 1);
        ret[MAX(n, 0)] = '\0';
        return (size_t) MAX(n, 0);
}

unsigned fleet_children(const struct fleet *f, struct fleet_child ret[FLEET_CHILDREN_MAX]) {
        char list[512], name[64], path[64], *rest = list;
        unsigned n = 0;
        long pid;

        if (!f->pid)
                return 0;
        (void) snprintf(path, sizeof(path), "task/%d/children", (int) f->pid);
        (void) read_proc(f->pid, path, list, sizeof(list));
        while (n < FLEET_CHILDREN_MAX && (pid = strtol(rest, &rest, 10)) > 0) {
                if (fleet_process_state((pid_t) pid) == 'Z')
                        continue;
                (void) read_proc((pid_t) pid, "cmdline", name, sizeof(name));
                ret[n++] = (struct fleet_child){ (pid_t) pid, strcmp(name, "azpar-trainer") == 0 };
        }
        return n;
}

char fleet_process_state(pid_t pid) {
        char line[256], *end;

        if (read_proc(pid, "stat", line, sizeof(line)) == 0)
                return 'X';
        end = strrchr(line, ')');
        return end && end[1] == ' ' ? end[2] : 'X';
}

int64_t fleet_bytes_in_lanes(const struct fleet *f) {
        cleanup_(segment_freep) struct segment *s = NULL;
        int64_t n = 0;

        if (segment_open(f->instance, f->state, &s, NULL) < 0)
                return -ENOENT;
        for (uint32_t i = 0; i < s->n_workers; i++)
                n += (int64_t) lane_used(&s->lanes[i]);
        return n;
}

static bool ends_with(const char *text, const char *end) {
        size_t n = strlen(text), k = strlen(end);

        return n >= k && strcmp(text + n - k, end) == 0;
}

int fleet_count_files(const struct fleet *f, const char *folder, const char *end) {
        char path[FLEET_PATH_MAX + 64];
        struct dirent *d;
        DIR *dir;
        int n = 0;

        (void) snprintf(path, sizeof(path), "%s/%s", f->state, folder);
        dir = opendir(path);
        if (!dir)
                return -1;
        while ((d = readdir(dir)))
                n += d->d_name[0] != '.' && ends_with(d->d_name, end);
        (void) closedir(dir);
        return n;
}

static FILE *open_log(const struct fleet *f) {
        char path[FLEET_PATH_MAX + 16];

        (void) snprintf(path, sizeof(path), "%s/log", f->folder);
        return fopen(path, "re");
}

unsigned fleet_count_complaints(const struct fleet *f, const char *except) {
        static const char *const bad[] = { "bad record", "indices lie", "bytes lost", "damaged",    "refused",
                                           "could not",  "not finite",  "parked",     "silent for", "wrong",
                                           "event loop", "did not",     "assert" };
        FILE *log = open_log(f);
        char line[1024];
        unsigned n = 0;

        while (log && fgets(line, sizeof(line), log))
                for (size_t i = 0; i < N_ELEMENTS(bad); i++)
                        /* a trainer that is killed while azpard stops saves nothing, and azpard says so */
                        if (strcasestr(line, bad[i]) && !strstr(line, except) &&
                            !strstr(line, "could not save at the end (signal 9")) {
                                if (n++ < 10)
                                        (void) fprintf(stderr, "log: %s", line);
                                break;
                        }
        if (log)
                (void) fclose(log);
        return n;
}

void fleet_print_log(const struct fleet *f) {
        FILE *log = open_log(f);
        char line[1024];

        if (!log)
                return;
        if (fseek(log, -1000, SEEK_END) == 0)
                (void) fgets(line, sizeof(line), log);
        while (fgets(line, sizeof(line), log))
                (void) fprintf(stderr, "log: %s", line);
        (void) fclose(log);
}

void *fleet_share(const struct fleet *f, const char *name, size_t n_bytes, char *ret_path) {
        cleanup_(fd_closep) int fd = -1;
        void *p;

        if (snprintf(ret_path, FLEET_PATH_MAX, "%s/%s", f->folder, name) >= FLEET_PATH_MAX)
                return NULL;
        fd = open(ret_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, (off_t) n_bytes) < 0)
                return NULL;
        p = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return p == MAP_FAILED ? NULL : p;
}

int64_t fleet_durable(const struct fleet *f) {
        cleanup_(fd_closep) int fd = -1;
        cleanup_(freep) char *line = NULL;
        cJSON *answer = NULL, *durable;
        char path[FLEET_PATH_MAX + 16];
        int64_t n = -1;

        (void) snprintf(path, sizeof(path), "%s/control.sock", f->state);
        if (client_open(path, &fd, NULL) < 0 ||
            client_ask(fd, "{\"command\":\"status\"}", CLIENT_TIMEOUT_MS, &line, &answer, NULL) < 0)
                return -1;
        durable = cJSON_GetObjectItem(cJSON_GetObjectItem(answer, "window"), "durable");
        if (cJSON_IsNumber(durable))
                n = (int64_t) durable->valuedouble;
        cJSON_Delete(answer);
        return n;
}
