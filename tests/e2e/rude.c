/* SPDX-License-Identifier: MIT */
/*
 * rude SOCKET TASK [N]: clients of the control socket that do not behave, for the end-to-end tests.
 *
 *   say        send standard input whatever comes back, then print all that came back
 *   crowd N    open N connections, ask on all of them, and print how many were displaced
 *   hold N     open N connections, print "here", say nothing, stay
 *   storm N    come, send garbage and go, N times, as fast as it goes
 *   deaf N     ask N times for the status, never read, print "here", stay
 *   half       send half a request, print "here", stay
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char status[] = "{\"command\":\"status\"}\n";

static int dial(const char *path) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
        if (fd < 0 || connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0) {
                perror(path);
                exit(1);
        }
        return fd;
}

/* Two processes, since who only sends is not answered for ever. */
static int say(const char *path) {
        int fd = dial(path);
        char buf[65536];
        ssize_t n;

        if (fork() == 0) {
                while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
                        if (send(fd, buf, (size_t) n, MSG_NOSIGNAL) < 0)
                                break;
                _exit(shutdown(fd, SHUT_WR));
        }
        while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
                (void) fwrite(buf, 1, (size_t) n, stdout);
        return 0;
}

/* Who is displaced has an answer that says so, and then the end. Once the last one is served, all have come
 * in. */
static int crowd(const char *path, int n) {
        int *fds = calloc((size_t) n, sizeof(*fds)), n_displaced = 0;

        if (!fds)
                return 1;
        for (int i = 0; i < n; i++)
                fds[i] = dial(path);
        for (int i = n; i-- > 0;) {
                char answer[512] = "";

                (void) send(fds[i], status, sizeof(status) - 1, MSG_NOSIGNAL);
                if (recv(fds[i], answer, sizeof(answer) - 1, 0) <= 0)
                        return 1;
                n_displaced += strstr(answer, "EBUSY") != NULL;
        }
        free(fds);
        (void) printf("%d\n", n_displaced);
        return 0;
}

static int stay(void) {
        (void) puts("here");
        (void) fflush(stdout);
        return pause();
}

static int hold(const char *path, int n) {
        for (int i = 0; i < n; i++)
                (void) dial(path);
        return stay();
}

static int storm(const char *path, int n) {
        static const char garbage[] = "garbage\n{\"command\":";

        for (int i = 0; i < n; i++) {
                int fd = dial(path);

                (void) send(fd, garbage, sizeof(garbage) - 1, MSG_NOSIGNAL);
                (void) close(fd);
        }
        return 0;
}

static int deaf(const char *path, int n) {
        int fd = dial(path);

        for (int i = 0; i < n; i++)
                if (send(fd, status, sizeof(status) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
                        return 1;
        return stay();
}

static int half(const char *path) {
        return send(dial(path), status, 5, MSG_NOSIGNAL) == 5 ? stay() : 1;
}

int main(int argc, char **argv) {
        const char *task = argc > 2 ? argv[2] : "";
        int n = argc > 3 ? atoi(argv[3]) : 0;

        if (strcmp(task, "say") == 0)
                return say(argv[1]);
        if (strcmp(task, "crowd") == 0)
                return crowd(argv[1], n);
        if (strcmp(task, "hold") == 0)
                return hold(argv[1], n);
        if (strcmp(task, "storm") == 0)
                return storm(argv[1], n);
        if (strcmp(task, "deaf") == 0)
                return deaf(argv[1], n);
        if (strcmp(task, "half") == 0)
                return half(argv[1]);
        return 2;
}
