/* SPDX-License-Identifier: MIT */
/*
 * What systemd does for azpard, for the end-to-end tests: real descriptors over real sockets.
 *
 *   manager serve FOLDER [SOCKET]         be systemd until killed: take messages on FOLDER/notify, write each
 * to FOLDER/messages with "|" for its line breaks, keep the descriptors that are to be stored; listen on
 * SOCKET, the control socket manager run FOLDER COMMAND...         become COMMAND with all that passed, as
 * systemd starts a service manager list FOLDER                   what is passed: a line "NAME INODE BYTES
 * LINKS" each manager put FOLDER NAME FILE [ro]     have FILE stored (read-only) manager forget FOLDER NAME
 * have what is stored under that name closed
 *
 * AZPAR_PASS_ALSO="NAME=FILE ..." in the environment of "run": passed on top; FILE may be "pipe" or
 * "datagram".
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/base/attr.h"

#define FDS_MAX   32
#define NAME_MAX_ 64
#define FIRST_FD  3
#define PARKED_FD 100

struct passed {
        int fd;
        char name[NAME_MAX_];
};

static struct passed all[FDS_MAX];
static unsigned n_all;

static _Noreturn void die(const char *what) {
        (void) fprintf(stderr, "manager: %s: %s\n", what, strerror(errno));
        exit(1);
}

static struct sockaddr_un address_of(const char *folder, const char *name) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };

        if (snprintf(a.sun_path, sizeof(a.sun_path), "%s%s%s", folder, name ? "/" : "", name ? name : "") >=
            (int) sizeof(a.sun_path)) {
                errno = ENAMETOOLONG;
                die(folder);
        }
        return a;
}

static int bind_to(int type, const char *folder, const char *name) {
        struct sockaddr_un a = address_of(folder, name);
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        if (fd < 0 || (unlink(a.sun_path) < 0 && errno != ENOENT) ||
            bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                die(a.sun_path);
        if (type == SOCK_STREAM && listen(fd, 16) < 0)
                die("listen");
        return fd;
}

/* ---- messages with descriptors ---- */

static void send_with(int socket_fd, const struct sockaddr_un *to, const char *text, int fd) {
        struct iovec iov = { .iov_base = (char *) (uintptr_t) text, .iov_len = strlen(text) };
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct msghdr m = { .msg_name = (void *) (uintptr_t) to,
                            .msg_namelen = to ? sizeof(*to) : 0,
                            .msg_iov = &iov,
                            .msg_iovlen = 1 };

        if (fd >= 0) {
                m.msg_control = control;
                m.msg_controllen = sizeof(control);
                CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
                CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
                CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(int));
        }
        if (sendmsg(socket_fd, &m, MSG_NOSIGNAL) < 0)
                die("sendmsg");
}

/* Return: the length of the message, 0 at the end. */
static size_t receive_with(int socket_fd, char *text, size_t size, int *ret_fd) {
        struct iovec iov = { .iov_base = text, .iov_len = size - 1 };
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        ssize_t n = recvmsg(socket_fd, &m, MSG_CMSG_CLOEXEC);
        struct cmsghdr *c;

        if (n < 0)
                die("recvmsg");
        text[n] = '\0';
        c = CMSG_FIRSTHDR(&m);
        *ret_fd = -1;
        if (c)
                memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
        return (size_t) n;
}

/* ---- serve ---- */

static bool has_line(const char *text, const char *line) {
        size_t n = strlen(line);

        for (const char *p = text; (p = strstr(p, line)); p += n)
                if ((p == text || p[-1] == '\n') && (p[n] == '\n' || p[n] == '\0'))
                        return true;
        return false;
}

static bool is_same(int a, int b) {
        struct stat x, y;

        return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void name_of(const char *text, char ret[NAME_MAX_]) {
        const char *p = strstr(text, "FDNAME=");

        (void) snprintf(ret, NAME_MAX_, "%.*s", p ? (int) strcspn(p + 7, "\n") : 6, p ? p + 7 : "stored");
}

static void store(int fd, const char *name) {
        for (unsigned i = 0; i < n_all; i++) {
                if (is_same(all[i].fd, fd)) {
                        (void) close(fd);
                        return;
                }
        }
        if (n_all == FDS_MAX) {
                (void) close(fd);
                return;
        }
        all[n_all].fd = fd;
        (void) snprintf(all[n_all++].name, NAME_MAX_, "%s", name);
}

static void forget(const char *name) {
        unsigned n = 0;

        for (unsigned i = 0; i < n_all; i++) {
                if (strcmp(all[i].name, name) == 0 && strcmp(name, "control") != 0)
                        (void) close(all[i].fd);
                else
                        all[n++] = all[i];
        }
        n_all = n;
}

static void take_message(int notify, FILE *log) {
        char text[4096], name[NAME_MAX_];
        int fd;

        if (receive_with(notify, text, sizeof(text), &fd) == 0)
                return;
        name_of(text, name);
        if (fd >= 0 && has_line(text, "FDSTORE=1"))
                store(fd, name);
        else if (fd >= 0)
                (void) close(fd);
        if (has_line(text, "FDSTOREREMOVE=1"))
                forget(name);
        for (char *p = text; *p; p++)
                if (*p == '\n')
                        *p = '|';
        if (fprintf(log, "%s\n", text) < 0 || fflush(log) != 0)
                die("messages");
}

/* A client of "run" or "list" gets everything, a name with each descriptor. */
static void give(int listening) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        char line[NAME_MAX_ + 1], answer;

        if (fd < 0)
                return;
        for (unsigned i = 0; i < n_all; i++) {
                (void) snprintf(line, sizeof(line), "%s", all[i].name);
                send_with(fd, NULL, line, all[i].fd);
                if (read(fd, &answer, 1) != 1) /* one message at a time: a stream has no borders */
                        break;
        }
        (void) close(fd);
}

static int serve(const char *folder, const char *control_path) {
        char path[4096];
        int notify = bind_to(SOCK_DGRAM, folder, "notify"), hand = bind_to(SOCK_STREAM, folder, "hand");
        FILE *log;

        (void) signal(SIGPIPE, SIG_IGN);
        (void) snprintf(path, sizeof(path), "%s/messages", folder);
        log = fopen(path, "ae");
        if (!log)
                die(path);
        if (control_path)
                store(bind_to(SOCK_STREAM, control_path, NULL), "control");
        (void) snprintf(path, sizeof(path), "%s/serving", folder);
        if (close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) < 0)
                die(path);
        for (;;) {
                struct pollfd p[] = { { .fd = notify, .events = POLLIN }, { .fd = hand, .events = POLLIN } };

                if (poll(p, 2, -1) < 0 && errno != EINTR)
                        die("poll");
                if (p[0].revents) /* what was said before is done before */
                        take_message(notify, log);
                else if (p[1].revents)
                        give(hand);
        }
}

/* ---- its clients ---- */

static void fetch_all(const char *folder) {
        struct sockaddr_un a = address_of(folder, "hand");
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                die(a.sun_path);
        while (n_all < FDS_MAX) {
                struct passed *p = &all[n_all];

                if (receive_with(fd, p->name, sizeof(p->name), &p->fd) == 0)
                        break;
                n_all++;
                if (write(fd, "x", 1) != 1)
                        die("write");
        }
        (void) close(fd);
}

static int open_extra(const char *path) {
        int ends[2], fd;

        if (strcmp(path, "pipe") == 0)
                return pipe(ends) < 0 ? -1 : ends[0];
        if (strcmp(path, "datagram") == 0)
                return socket(AF_UNIX, SOCK_DGRAM, 0);
        fd = open(path, O_RDWR);
        return fd;
}

static void add_extra(char *list) {
        for (char *word = strtok(list, " "); word && n_all < FDS_MAX; word = strtok(NULL, " ")) {
                char *path = strchr(word, '=');

                if (!path)
                        continue;
                *path++ = '\0';
                all[n_all].fd = open_extra(path);
                if (all[n_all].fd < 0)
                        die(path);
                (void) snprintf(all[n_all++].name, NAME_MAX_, "%s", word);
        }
}

static int run(const char *folder, char **command) {
        struct sockaddr_un notify = address_of(folder, "notify");
        char names[FDS_MAX * NAME_MAX_] = "", number[16], *also = getenv("AZPAR_PASS_ALSO");

        fetch_all(folder);
        if (also)
                add_extra(also);
        for (unsigned i = 0; i < n_all; i++) /* out of the way of each other's place */
                all[i].fd = fcntl(all[i].fd, F_DUPFD_CLOEXEC, PARKED_FD);
        for (unsigned i = 0; i < n_all; i++) {
                if (dup2(all[i].fd, FIRST_FD + (int) i) < 0)
                        die("dup2");
                (void) strcat(strcat(names, i > 0 ? ":" : ""), all[i].name);
        }
        (void) close_range(FIRST_FD + n_all, ~0u, 0);
        if (n_all > 0) {
                (void) snprintf(number, sizeof(number), "%u", n_all);
                (void) setenv("LISTEN_FDS", number, 1);
                (void) setenv("LISTEN_FDNAMES", names, 1);
        }
        (void) snprintf(number, sizeof(number), "%d", (int) getpid());
        (void) setenv("LISTEN_PID", number, 1);
        if (getenv("WATCHDOG_USEC"))
                (void) setenv("WATCHDOG_PID", number, 1);
        (void) setenv("NOTIFY_SOCKET", notify.sun_path, 1);
        (void) execv(command[0], command);
        die(command[0]);
}

static int list(const char *folder) {
        struct stat st;

        fetch_all(folder);
        for (unsigned i = 0; i < n_all; i++) {
                if (fstat(all[i].fd, &st) < 0)
                        die("fstat");
                (void) printf("%s %ju %jd %ju\n", all[i].name, (uintmax_t) st.st_ino, (intmax_t) st.st_size,
                              (uintmax_t) st.st_nlink);
        }
        return 0;
}

static int say(const char *folder, const char *text, int fd) {
        struct sockaddr_un a = address_of(folder, "notify");
        int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (from < 0)
                die("socket");
        send_with(from, &a, text, fd);
        return 0;
}

static int put(const char *folder, const char *name, const char *path, bool read_only) {
        char text[NAME_MAX_ + 32];
        int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);

        if (fd < 0)
                die(path);
        (void) snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%.60s", name);
        return say(folder, text, fd);
}

int main(int argc, char **argv) {
        char text[NAME_MAX_ + 32];

        if (argc >= 3 && strcmp(argv[1], "serve") == 0)
                return serve(argv[2], argv[3]);
        if (argc >= 4 && strcmp(argv[1], "run") == 0)
                return run(argv[2], argv + 3);
        if (argc == 3 && strcmp(argv[1], "list") == 0)
                return list(argv[2]);
        if (argc >= 5 && strcmp(argv[1], "put") == 0)
                return put(argv[2], argv[3], argv[4], argc > 5);
        if (argc == 4 && strcmp(argv[1], "forget") == 0) {
                (void) snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%.60s", argv[3]);
                return say(argv[2], text, -1);
        }
        (void) fprintf(stderr, "usage: manager serve|run|list|put|forget FOLDER ...\n");
        return 2;
}
