/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The journal's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): an entry is one datagram of
 * fields.
 *
 * Not sd_journal_sendv(), for three reasons.  That one waits without limit while journald does not read
 * (stopped, or stuck at its own disk), which would hold up azpard's loop; it says that all is well when there
 * is no journald, and the entry is gone; and libsystemd would come into every worker for this alone.  The
 * protocol is documented as stable.  What is left out is the way for entries that no datagram can hold:
 * log.c's lines are at most a few kB.
 *
 * Nothing here waits, apart from journal_drain().  Any process; one thread.
 */

#include <stddef.h>
#include <stdint.h>
#include "common/base/attr.h"

#define JOURNAL_SOCKET     "/run/systemd/journal/socket"
#define JOURNAL_MAX_FIELDS 32

struct journal_field {
        const char *name; /* letters, digits and '_', in capitals, a letter first */
        const char *value;
        size_t n_bytes; /* of the value, which may hold any byte */
};

/* Prepare for journal_send(). @path: JOURNAL_SOCKET. Return: 0 or a negative errno. */
must_check_ int journal_open(const char *path);

/* Tests need several; programs leave it to their end. */
void journal_close(void);

/*
 * journal_send() - one entry of @n (at most JOURNAL_MAX_FIELDS) fields
 *
 * Return: 0: journald has it, or will read it; a negative errno: it has not and will not (-EAGAIN: its queue
 * is full; -ENOENT or -ECONNREFUSED: nobody is there; -ENOTCONN: not open).
 */
must_check_ int journal_send(const struct journal_field *fields, size_t n);

/*
 * journal_drain() - wait until journald has read all entries, at most @timeout_ns
 *
 * For a process about to exit: journald looks up by its pid which unit an entry is of, and finds nothing
 * once it is gone.
 */
void journal_drain(uint64_t timeout_ns);
