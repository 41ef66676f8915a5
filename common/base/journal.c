/* SPDX-License-Identifier: MIT */
/* The journal's native protocol; see journal.h. */
#include "common/base/journal.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "common/base/clock.h"

#define DRAIN_POLL_NS (NS_PER_MS / 2)

/* Pieces of a field: name, '\n', length, value, '\n'; or name, '=', value, '\n'. */
#define MAX_PIECES 5

static int journal_fd = -1;
static struct sockaddr_un journal_address;

int journal_open(const char *path) {
        int fd;

        if (strlen(path) >= sizeof(journal_address.sun_path))
                return -ENAMETOOLONG;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        journal_close();
        journal_fd = fd;
        journal_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
        (void) strcpy(journal_address.sun_path, path);
        return 0;
}

void journal_close(void) {
        if (journal_fd >= 0)
                (void) close(journal_fd);
        journal_fd = -1;
}

static void put(struct iovec **at, const void *bytes, size_t n) {
        /* sendmsg() only reads; struct iovec has no const */
        *(*at)++ = (struct iovec){ .iov_base = (void *) (uintptr_t) bytes, .iov_len = n };
}

/* A value with a line break goes with its length in front, any other as NAME=VALUE. */
static void put_field(struct iovec **at, const struct journal_field *f, uint64_t *le_length) {
        put(at, f->name, strlen(f->name));
        if (memchr(f->value, '\n', f->n_bytes)) {
                *le_length = htole64(f->n_bytes);
                put(at, "\n", 1);
                put(at, le_length, sizeof(*le_length));
        } else
                put(at, "=", 1);
        put(at, f->value, f->n_bytes);
        put(at, "\n", 1);
}

int journal_send(const struct journal_field *fields, size_t n) {
        struct iovec pieces[JOURNAL_MAX_FIELDS * MAX_PIECES], *end = pieces;
        uint64_t le_lengths[JOURNAL_MAX_FIELDS];
        struct msghdr message = { .msg_name = &journal_address,
                                  .msg_namelen = sizeof(journal_address),
                                  .msg_iov = pieces };
        ssize_t sent;

        assert(n <= JOURNAL_MAX_FIELDS);
        if (journal_fd < 0)
                return -ENOTCONN;
        for (size_t i = 0; i < n; i++)
                put_field(&end, &fields[i], &le_lengths[i]);
        message.msg_iovlen = (size_t) (end - pieces);
        do
                sent = sendmsg(journal_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 ? -errno : 0;
}

void journal_drain(uint64_t timeout_ns) {
        uint64_t begin_ns = clock_now_ns();
        int n_unread = 0;

        /* what the receiver has read is no longer counted as ours */
        while (journal_fd >= 0 && ioctl(journal_fd, SIOCOUTQ, &n_unread) == 0 && n_unread > 0 &&
               clock_now_ns() - begin_ns < timeout_ns)
                clock_sleep_ns(DRAIN_POLL_NS);
}
