/* SPDX-License-Identifier: MIT */
/*
 * Reading a batch file; see batch_pass.h.  Process: azpard.
 *
 * The buffer holds the longest sample and a piece more.  When the reader wants more text, what is left is
 * moved to its front and the next piece is asked for behind it.
 */
#include "daemon/batch_pass.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "common/base/crc32c.h"

#define PIECE_BYTES  (UINT32_C(1) << 18)
#define BUFFER_BYTES (BATCH_FILE_SAMPLE_MAX + PIECE_BYTES)

struct batch_pass {
        const struct game *game;
        struct disk *disk;
        struct disk_request request;
        void (*ready)(void *userdata);
        void *userdata;

        struct batch_file_reader reader;
        int fd;
        uint64_t n_read; /* bytes of the file that have been in the buffer */
        uint64_t crc;    /* of them */
        size_t at, n;    /* of the buffer: what the reader has not used is [at, n) */
        bool waits, is_last;
        int error; /* negative errno of the last read */
        char buffer[BUFFER_BYTES];
};

static void done(struct disk_request *request, int result) {
        struct batch_pass *p =
                (struct batch_pass *) (void *) ((char *) request - offsetof(struct batch_pass, request));

        p->waits = false;
        if (result == 0)
                p->is_last = true;
        else if (result > 0) {
                p->crc = crc64(p->crc, p->buffer + p->n, (size_t) result);
                p->n += (size_t) result;
                p->n_read += (uint64_t) result;
        } else if (result != -EINTR && result != -EAGAIN)
                p->error = result;
        p->ready(p->userdata);
}

int batch_pass_new(const struct game *g, struct disk *disk, void (*ready)(void *userdata), void *userdata,
                   struct batch_pass **ret) {
        struct batch_pass *p = malloc(sizeof(*p)); /* the buffer is backed by memory once it is used */

        if (!p)
                return -ENOMEM;
        memset(p, 0, offsetof(struct batch_pass, buffer));
        p->game = g;
        p->disk = disk;
        p->request.done = done;
        p->ready = ready;
        p->userdata = userdata;
        p->fd = -1;
        *ret = p;
        return 0;
}

void batch_pass_free(struct batch_pass *p) {
        free(p);
}

void batch_pass_begin(struct batch_pass *p, int fd) {
        assert(!p->waits);
        batch_file_reader_init(&p->reader, p->game);
        p->fd = fd;
        p->n_read = p->crc = 0;
        p->at = p->n = 0;
        p->is_last = false;
        p->error = 0;
}

static void ask_for_more(struct batch_pass *p) {
        memmove(p->buffer, p->buffer + p->at, p->n - p->at);
        p->n -= p->at;
        p->at = 0;
        p->waits = true;
        disk_read(p->disk, &p->request, p->fd, p->buffer + p->n, MIN(PIECE_BYTES, BUFFER_BYTES - p->n),
                  p->n_read);
}

int batch_pass_next(struct batch_pass *p, struct batch_file_item *ret, struct error *e) {
        size_t n_used = 0;
        int r;

        if (p->waits)
                return BATCH_PASS_E_WAIT;
        if (p->error)
                return error_errno(e, p->error, "could not read it at byte %ju", (uintmax_t) p->n_read);
        r = batch_file_read(&p->reader, p->buffer + p->at, p->n - p->at, p->is_last, &n_used, ret, e);
        if (r < 0)
                return r;
        p->at += n_used;
        if (r == BATCH_FILE_E_END)
                return BATCH_PASS_E_END;
        if (r != BATCH_FILE_E_MORE)
                return 0;
        ask_for_more(p);
        return BATCH_PASS_E_WAIT;
}

uint64_t batch_pass_offset(const struct batch_pass *p) {
        return p->n_read - (p->n - p->at);
}

uint64_t batch_pass_name(const struct batch_pass *p) {
        /* 53 bits, so that it goes through everybody's JSON unharmed; and 0 is no incarnation */
        uint64_t name = p->crc >> 11;

        return name ? name : 1;
}
