/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reload: take up what has changed in the configuration while azpard runs, and say what could not be taken up.
 *
 * The file that was read at the start, those beside it and --set are read again (the command line still wins).
 * Where no file was there at the start, one that is there by now is taken; where there was one, it must be there.
 * The table of keys says what each value takes: azpard's own parts are told, workers and trainer are started
 * anew if a key of theirs has changed, and what is left needs a restart.
 *
 * A reload is whole or not at all: an error, also one of memory, leaves everything as it was.
 */

#include <cjson/cJSON.h>
#include "common/base/error.h"

struct daemon;

/*
 * reload_run() - read the configuration again and take it up
 * @ret_answer: the answer for a client that asked for it, owned by the caller: {"ok", "protocol", "changed",
 *              "restart"}, see azpar-protocol(7); NULL: nobody asked
 *
 * Logs every key that changed, and how it ends, also an error.
 *
 * Return: 0; -ESHUTDOWN while stopping, or another negative errno, with a text.
 */
must_check_ int reload_run(struct daemon *d, cJSON **ret_answer, struct error *e);
