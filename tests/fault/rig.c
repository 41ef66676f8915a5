/* SPDX-License-Identifier: MIT */
/* The rig of the fault tests; see rig.h. */
#include "tests/fault/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/exchange/segment.h"
#include "daemon/ctl/client.h"

#define POLL_NS (NS_PER_MS / 4)

extern char **environ;

static _Noreturn void give_up(const char *what) {
        (void) fprintf(stderr, "fault: %s: %s\n", what, strerror(errno));
        exit(2);
}

/* Run a program and wait; it must succeed. */
static void run(const char *const *argv) {
        pid_t pid;
        int status;

        if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *) (uintptr_t) argv, environ) != 0 ||
            waitpid(pid, &status, 0) < 0 || status != 0)
                give_up(argv[0]);
}

/* ---- making and keeping ---- */

static void map_control(struct rig *r) {
        char path[600];
        int fd;

        (void) snprintf(path, sizeof(path), "%s/control", r->folder);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(*r->control)) < 0)
                give_up(path);
        r->control = mmap(NULL, sizeof(*r->control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        r->kept = calloc(1, sizeof(*r->kept));
        if (r->control == MAP_FAILED || !r->kept)
                give_up("control");
        (void) close(fd);
        (void) setenv(FAULT_ENVIRONMENT, path, 1);
        atomic_store(&r->control->speed, 1);
}

void rig_init(struct rig *r, const char *folder) {
        struct error e = ERROR_INIT;
        char config[600];

        *r = (struct rig){ .folder = folder, .patience_s = 60, .scenario = "" };
        (void) snprintf(r->state, sizeof(r->state), "%s/disk/state", folder);
        (void) snprintf(r->template, sizeof(r->template), "%s/disk/template", folder);
        (void) snprintf(r->log, sizeof(r->log), "%s/log", folder);
        (void) snprintf(r->instance, sizeof(r->instance), "fault-%d", (int) getpid());
        (void) snprintf(config, sizeof(config), "%s/azpar.conf", folder);
        if (config_read(config, NULL, 0, &r->config, &e) < 0 || game_new(&r->config, &r->game, &e) < 0) {
                (void) fprintf(stderr, "fault: %s\n", e.text);
                exit(2);
        }
        network_init(&r->network, r->game, (uint32_t) r->config.network_filters,
                     (uint32_t) r->config.network_blocks);
        map_control(r);
}

void rig_deinit(struct rig *r) {
        rig_kill(r);
        rig_empty(r);
        (void) munmap(r->control, sizeof(*r->control));
        free(r->kept);
        game_free(r->game);
}

static void print_log_end(const struct rig *r) {
        const char *const argv[] = { "tail", "-n", "12", r->log, NULL };

        (void) printf("--- the end of azpard's log\n");
        (void) fflush(stdout);
        run(argv);
}

void rig_complain(struct rig *r, const char *format, ...) {
        const struct fault_control *c = r->control;
        va_list args;

        r->n_complaints++;
        if (r->quiet)
                return;
        (void) printf("FAIL %s: call %ju (%s, %s, way %u): ", r->scenario, (uintmax_t) c->at,
                      c->n_failed ? c->failed_name : "none failed",
                      c->failed_errno ? strerrorname_np(c->failed_errno) : "short or trick", c->way);
        va_start(args, format);
        (void) vprintf(format, args);
        va_end(args);
        (void) printf("\n");
        if (access(r->log, F_OK) == 0)
                print_log_end(r);
}

static void segment_path(const struct rig *r, char ret[600]) {
        (void) snprintf(ret, 600, "/dev/shm/azpar.%s", r->instance);
}

void rig_empty(struct rig *r) {
        const char *const argv[] = { "rm", "-rf", r->state, NULL };
        uint32_t speed = r->control->speed;
        char segment[600];

        run(argv);
        segment_path(r, segment);
        (void) unlink(segment);
        memset(r->control, 0, sizeof(*r->control));
        r->control->speed = speed;
        r->n_imports = r->n_imported = 0;
}

void rig_keep(struct rig *r) {
        const char *const remove[] = { "rm", "-rf", r->template, NULL };
        const char *const copy[] = { "cp", "-a", r->state, r->template, NULL };
        char segment[600], kept[600];
        const char *const copy_segment[] = { "cp", "-a", segment, kept, NULL };

        run(remove);
        run(copy);
        segment_path(r, segment);
        (void) snprintf(kept, sizeof(kept), "%s/disk/segment", r->folder);
        (void) unlink(kept);
        if (access(segment, F_OK) == 0)
                run(copy_segment);
        memcpy(r->kept, r->control, sizeof(*r->kept));
}

void rig_bring_back(struct rig *r) {
        const char *const copy[] = { "cp", "-a", r->template, r->state, NULL };
        char segment[600], kept[600];
        const char *const copy_segment[] = { "cp", "-a", kept, segment, NULL };

        rig_empty(r);
        run(copy);
        segment_path(r, segment);
        (void) snprintf(kept, sizeof(kept), "%s/disk/segment", r->folder);
        if (access(kept, F_OK) == 0)
                run(copy_segment);
        memcpy(r->control, r->kept, sizeof(*r->kept));
}

/* ---- faults ---- */

void rig_arm(struct rig *r, uint32_t classes, uint64_t at, uint32_t way) {
        struct fault_control *c = r->control;

        atomic_store(&c->classes, 0);
        atomic_store(&c->n_calls, 0);
        atomic_store(&c->n_failed, 0);
        atomic_store(&c->at, at);
        atomic_store(&c->way, way);
        atomic_store(&c->classes, classes);
        r->armed = true;
}

bool rig_disarm(struct rig *r) {
        struct fault_control *c = r->control;

        atomic_store(&c->classes, 0);
        if (r->armed) {
                r->failed = atomic_load(&c->n_failed) > 0;
                r->n_ways = r->failed ? atomic_load(&c->n_ways) : 0;
                r->n_calls = atomic_load(&c->n_calls);
        }
        r->armed = false;
        return r->failed;
}

/* ---- azpard ---- */

void rig_start(struct rig *r) {
        char program[600], preload[1200], config[600];
        char *argv[] = { program,     (char *) (uintptr_t) "--config",
                         config,      (char *) (uintptr_t) "--state",
                         r->state,    (char *) (uintptr_t) "--instance",
                         r->instance, NULL };
        int log;

        (void) snprintf(program, sizeof(program), "%s/azpard", r->folder);
        (void) snprintf(preload, sizeof(preload), "%s/inject.so", r->folder);
        (void) snprintf(config, sizeof(config), "%s/azpar.conf", r->folder);
        (void) fflush(NULL);
        log = open(r->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        r->pid = fork();
        if (log < 0 || r->pid < 0)
                give_up("fork");
        if (r->pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) dup2(log, STDERR_FILENO);
                (void) setenv("LD_PRELOAD", preload, 1);
                (void) execv(program, argv);
                _exit(126);
        }
        (void) close(log);
}

bool rig_has_ended(struct rig *r) {
        if (r->pid > 0 && waitpid(r->pid, &r->status, WNOHANG) == r->pid)
                r->pid = 0;
        return r->pid == 0;
}

int rig_wait(struct rig *r, const char *what, bool (*is)(struct rig *r)) {
        uint64_t deadline = clock_now_ns() + r->patience_s * NS_PER_S;

        while (!is(r)) {
                if (rig_has_ended(r))
                        return -ECHILD;
                if (clock_now_ns() > deadline) {
                        rig_complain(r, "waited %u s in vain until %s", r->patience_s, what);
                        return -ETIMEDOUT;
                }
                clock_sleep_ns(POLL_NS);
        }
        return 0;
}

void rig_wait_end(struct rig *r) {
        uint64_t deadline = clock_now_ns() + r->patience_s * NS_PER_S;

        while (!rig_has_ended(r)) {
                if (clock_now_ns() > deadline) {
                        rig_complain(r, "it hangs: not ended after %u s", r->patience_s);
                        rig_kill(r);
                        return;
                }
                clock_sleep_ns(POLL_NS);
        }
}

void rig_stop(struct rig *r) {
        if (rig_has_ended(r)) {
                rig_complain(r, "it has ended by itself with wait status %#x", (unsigned) r->status);
                return;
        }
        rig_signal(r, SIGTERM);
        rig_wait_end(r);
        if (r->status != 0)
                rig_complain(r, "stopping ended with wait status %#x", (unsigned) r->status);
}

void rig_signal(struct rig *r, int number) {
        if (!rig_has_ended(r))
                (void) kill(r->pid, number);
}

void rig_kill(struct rig *r) {
        if (r->pid > 0) {
                (void) kill(r->pid, SIGKILL);
                (void) waitpid(r->pid, &r->status, 0);
        }
        r->pid = 0;
}

void rig_check_refusal(struct rig *r) {
        cleanup_(file_map_close) struct file_map log = FILE_MAP_NULL;
        const char *text;

        if (WIFSIGNALED(r->status)) {
                rig_complain(r, "it died of signal %d", WTERMSIG(r->status));
                return;
        }
        if (WEXITSTATUS(r->status) != EXIT_FAILURE && WEXITSTATUS(r->status) != 78 &&
            WEXITSTATUS(r->status) != 64) {
                rig_complain(r, "its exit status is %d", WEXITSTATUS(r->status));
                return;
        }
        if (strcmp(r->control->failed_name, "write of a log line") == 0)
                return; /* that was the line */
        if (file_map_open(AT_FDCWD, r->log, &log, NULL) < 0)
                give_up(r->log);
        text = (const char *) log.bytes;
        if (log.n_bytes < 20 || strncmp(text, "azpard: ", 8) != 0 || text[log.n_bytes - 1] != '\n' ||
            memmem(text, log.n_bytes, "Assertion", 9))
                rig_complain(r, "it ended with status %d and did not say why", WEXITSTATUS(r->status));
}

/* ---- the control socket ---- */

int rig_connect(struct rig *r) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        struct timeval patience = { .tv_sec = r->patience_s };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                give_up("socket");
        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%.80s/control.sock", r->state);
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (connect(fd, (const struct sockaddr *) &a, sizeof(a)) == 0)
                return fd;
        (void) close(fd);
        return -ECONNREFUSED;
}

static int read_answer(int fd, char *answer, size_t size) {
        size_t n = 0;

        while (n == 0 || answer[n - 1] != '\n') {
                ssize_t n_more = n < size - 1 ? recv(fd, answer + n, size - 1 - n, 0) : 0;

                if (n_more <= 0)
                        return n_more < 0 ? -errno : -ECONNRESET;
                n += (size_t) n_more;
        }
        answer[n] = '\0';
        return (int) n;
}

int rig_exchange(int fd, const char *request, char *answer, size_t size) {
        if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0 || send(fd, "\n", 1, MSG_NOSIGNAL) < 0)
                return -errno;
        return read_answer(fd, answer, size);
}

bool rig_ask(struct rig *r, const char *request, char *answer, size_t size) {
        cleanup_(fd_closep) int fd = rig_connect(r);
        int n = fd < 0 ? fd : rig_exchange(fd, request, answer, size);

        if (n == -EAGAIN)
                rig_complain(r, "no answer to %s", request);
        return n > 0 && strstr(answer, "\"ok\":true");
}

bool rig_import(struct rig *r, const char *path, char *answer, size_t size) {
        cleanup_(fd_closep) int fd = rig_connect(r), file_fd = open(path, O_RDONLY | O_CLOEXEC);
        struct error e = ERROR_INIT;

        if (file_fd < 0)
                give_up(path);
        if (fd < 0 || client_send_file(fd, "{\"command\":\"import\"}", file_fd, &e) < 0)
                return false;
        return read_answer(fd, answer, size) > 0 && strstr(answer, "\"ok\":true");
}

void rig_must(struct rig *r, const char *request) {
        static char answer[1 << 16];

        answer[0] = '\0';
        if (!rig_ask(r, request, answer, sizeof(answer)))
                rig_complain(r, "%s got '%.200s'", request, answer);
}

/* ---- conditions ---- */

uint64_t rig_generation(struct rig *r) {
        struct segment_header header = { 0 };
        cleanup_(fd_closep) int fd = -1;
        char path[600];

        segment_path(r, path);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, &header, sizeof(header), 0) != sizeof(header))
                return 0;
        return atomic_load(&header.generation);
}

bool rig_is_settled(struct rig *r) {
        const struct fault_control *c = r->control;
        uint64_t committed;

        for (unsigned i = 0; i < FAULT_SLOTS; i++)
                if (c->games[i] < c->games_wanted[i])
                        return false;
        if (c->publications < c->publications_wanted)
                return false;
        committed = rig_n_committed(r);
        return committed > 0 && rig_n_samples(r) >= committed + r->n_imported;
}

bool rig_is_serving(struct rig *r) {
        static char answer[1 << 16];

        return rig_is_settled(r) && rig_generation(r) > 0 &&
               rig_ask(r, "{\"command\":\"status\"}", answer, sizeof(answer));
}
