/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * azparctl's side of the control socket: one connection, one request, one answer.
 * The protocol is in daemon/control.h.
 */

#include <cjson/cJSON.h>
#include "common/base/error.h"

#define CLIENT_TIMEOUT_MS 10000 /* for an answer that azpard gives at once */
#define CLIENT_NO_TIMEOUT (-1)

/* Connect to azpard. Return: 0; negative errno with a text that asks whether azpard is running. */
must_check_ int client_open(const char *path, int *ret_fd, struct error *e);

/*
 * client_ask() - send one request, wait for its answer
 * @request:    a line of JSON without its newline
 * @timeout_ms: CLIENT_NO_TIMEOUT: as long as azpard lives
 * @ret_line:   the answer, without its newline; owned by the caller
 * @ret_answer: the same as an object; owned by the caller
 *
 * Return: 0; negative errno with a text, which is azpard's own where it refused.
 */
must_check_ int client_ask(int fd, const char *request, int timeout_ms, char **ret_line, cJSON **ret_answer,
                           struct error *e);

/*
 * client_send_file() - send a request with an open file, for an answer that client_wait() waits for
 *
 * Return: 0 or a negative errno with a text.
 */
must_check_ int client_send_file(int fd, const char *request, int file_fd, struct error *e);

/* Wait @timeout_ms for an answer to begin. Return: 1: it has; 0: not yet; negative errno with a text. */
must_check_ int client_wait(int fd, int timeout_ms, struct error *e);

/* The second half of client_ask(). */
must_check_ int client_answer(int fd, int timeout_ms, char **ret_line, cJSON **ret_answer, struct error *e);

/* Wait until azpard closes the connection, which it does after "stop" by ending. Return: 0 or a negative
 * errno. */
must_check_ int client_wait_end(int fd, struct error *e);

/* @text, which a peer sent, with everything but printable ASCII replaced: it goes to a terminal. */
void client_make_printable(char *text);
