/* SPDX-License-Identifier: MIT */
/*
 * The control socket from outside; control.sh puts the pieces together.
 *
 *   latency N PROGRAM ARGUMENT...  run the program N times, 10 ms apart: median, 99th percentile and worst of
 * the time from fork to the end, in us rate SOCKET SECONDS            games and simulations per second, from
 * one second's count of azpard to another crowd KIND N SOCKET            N clients that each do something
 * once a second, until SIGTERM; whoever is displaced comes back a second later. KIND is silent, garbage (a
 * line of it), slow (one more byte of a request) or storm (one client that comes, sends garbage and goes as
 * fast as it can). Prints "ready", and at the end its own processor time in per cent of a core
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/attr.h"
#include "common/base/clock.h"

#define GAP_NS      (10 * NS_PER_MS)
#define TURNS_PER_S 100
#define ANSWER_MAX  (1u << 20)

extern char **environ;
static volatile sig_atomic_t is_over;

static _Noreturn void die(const char *what) {
        (void) fprintf(stderr, "bench-control: %s: %s\n", what, strerror(errno));
        exit(1);
}

static int dial(const char *path, int flags) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
        if (fd < 0)
                die("socket");
        if (connect(fd, (const struct sockaddr *) &a, sizeof(a)) == 0)
                return fd;
        if (errno != EAGAIN)
                die(path);
        (void) close(fd);
        return -1; /* azpard's queue is full */
}

/* ---- latency ---- */

static int compare(const void *a, const void *b) {
        const double *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

static void print_spread(double *us, int n) {
        qsort(us, (size_t) n, sizeof(*us), compare);
        (void) printf("%.0f %.0f %.0f\n", us[n / 2], us[n * 99 / 100], us[n - 1]);
}

static int latency(int n, char **argv) {
        double *us = calloc((size_t) n, sizeof(*us));
        posix_spawn_file_actions_t actions;

        if (!us || posix_spawn_file_actions_init(&actions) != 0 ||
            posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) != 0)
                die("out of memory");
        for (int i = 0; i < n; i++) {
                uint64_t begin = clock_now_ns();
                int status = -1;
                pid_t pid;

                errno = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
                if (errno != 0 || waitpid(pid, &status, 0) != pid || status != 0)
                        die(argv[0]);
                us[i] = (double) (clock_now_ns() - begin) / 1000;
                clock_sleep_ns(GAP_NS);
        }
        print_spread(us, n);
        free(us);
        return 0;
}

/* ---- rate ---- */

struct totals {
        double games, simulations;
        uint64_t ns;
};

static struct totals ask_totals(int fd) {
        static const char request[] = "{\"command\":\"status\"}\n";
        static char answer[ANSWER_MAX];
        struct totals t;
        size_t n = 0;
        ssize_t got;
        cJSON *root, *totals;

        if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
                die("send");
        do {
                got = recv(fd, answer + n, sizeof(answer) - 1 - n, 0);
                if (got <= 0)
                        die("recv");
                n += (size_t) got;
        } while (answer[n - 1] != '\n');
        answer[n] = 0;
        t.ns = clock_now_ns();
        root = cJSON_Parse(answer);
        totals = cJSON_GetObjectItem(root, "totals");
        t.games = cJSON_GetNumberValue(cJSON_GetObjectItem(totals, "games"));
        t.simulations = cJSON_GetNumberValue(cJSON_GetObjectItem(totals, "simulations"));
        cJSON_Delete(root);
        return t;
}

static int ask(int n, const char *path) {
        double *us = calloc((size_t) n, sizeof(*us));
        int fd = dial(path, 0);

        if (!us)
                die("out of memory");
        for (int i = 0; i < n; i++) {
                uint64_t begin = clock_now_ns();

                us[i] = (double) (ask_totals(fd).ns - begin) / 1000;
                clock_sleep_ns(GAP_NS);
        }
        print_spread(us, n);
        free(us);
        return close(fd);
}

/* azpard counts once a second: wait for that moment. */
static struct totals next_totals(int fd) {
        struct totals first = ask_totals(fd), t;

        do {
                clock_sleep_ns(5 * NS_PER_MS);
                t = ask_totals(fd);
        } while (t.simulations <= first.simulations);
        return t;
}

static int rate(const char *path, int seconds) {
        int fd = dial(path, 0);
        struct totals a = next_totals(fd), b;
        double s;

        clock_sleep_ns((uint64_t) seconds * NS_PER_S - NS_PER_S / 2);
        b = next_totals(fd);
        s = (double) (b.ns - a.ns) / NS_PER_S;
        (void) printf("%.2f %.1f\n", (b.games - a.games) / s, (b.simulations - a.simulations) / s);
        return close(fd);
}

/* ---- crowd ---- */

static void on_term(int number) {
        (void) number;
        is_over = 1;
}

/* One client's turn. */
static void act(const char *path, const char *text, int *fd) {
        static char answers[4096];
        ssize_t n = 0;

        if (*fd >= 0) {
                do
                        n = recv(*fd, answers, sizeof(answers), MSG_DONTWAIT);
                while (n > 0);
                if (n < 0 && errno == EAGAIN)
                        n = send(*fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN
                                    ? 0
                                    : 1;
                if (n <= 0) {
                        (void) close(*fd);
                        *fd = -1;
                }
                return;
        }
        *fd = dial(path, SOCK_NONBLOCK);
        if (*fd >= 0)
                (void) send(*fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* As fast as it goes. */
static void storm(const char *path, const char *text) {
        while (!is_over) {
                int fd = dial(path, 0);

                (void) send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
                (void) close(fd);
        }
}

static int crowd(const char *kind, int n, const char *path) {
        const char *text = strcmp(kind, "slow") == 0     ? "{"
                           : strcmp(kind, "silent") == 0 ? ""
                                                         : "garbage, garbage\n";
        int *fds = calloc((size_t) n, sizeof(*fds)), at = 0;
        uint64_t begin, next;
        struct timespec cpu;

        (void) signal(SIGTERM, on_term);
        if (!fds)
                die("out of memory");
        for (int i = 0; i < n; i++)
                fds[i] = -1;
        (void) puts("ready");
        (void) fflush(stdout);
        begin = next = clock_now_ns();
        if (strcmp(kind, "storm") == 0)
                storm(path, text);
        while (!is_over) {
                for (int i = 0; i < n / TURNS_PER_S; i++, at = (at + 1) % n)
                        act(path, text, &fds[at]);
                next += NS_PER_S / TURNS_PER_S;
                if (next > clock_now_ns())
                        clock_sleep_ns(next - clock_now_ns());
        }
        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
        (void) printf("%.2f\n", 100 * ((double) cpu.tv_sec + (double) cpu.tv_nsec / NS_PER_S) /
                                        ((double) (clock_now_ns() - begin) / NS_PER_S));
        return 0;
}

int main(int argc, char **argv) {
        if (argc > 3 && strcmp(argv[1], "latency") == 0)
                return latency(atoi(argv[2]), argv + 3);
        if (argc == 4 && strcmp(argv[1], "ask") == 0)
                return ask(atoi(argv[2]), argv[3]);
        if (argc == 4 && strcmp(argv[1], "rate") == 0)
                return rate(argv[2], atoi(argv[3]));
        if (argc == 5 && strcmp(argv[1], "crowd") == 0)
                return crowd(argv[2], atoi(argv[3]), argv[4]);
        (void) fprintf(stderr, "usage: see the head of bench-control.c\n");
        return 2;
}
