/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A screen that is drawn again and again: the alternate screen of a terminal,
 * given back as it was on exit; one block after the other where the output is no
 * terminal.
 */

#include "common/base/error.h"

#define WATCH_INTERVAL_MIN_S 0.05
#define WATCH_INTERVAL_MAX_S 3600.0

/*
 * Gives the text of the next drawing (owned by the watch), or a negative errno with a text: shown in its
 * place on a terminal, where watching goes on, and the watch's result elsewhere.
 */
typedef int (*watch_draw_fn)(void *userdata, char **ret_text, struct error *e);

/*
 * watch_run() - draw every @interval_s seconds until SIGINT, SIGTERM, SIGHUP or an error
 *
 * Return: 0 when a signal ended it; negative errno with a text.
 */
must_check_ int watch_run(double interval_s, watch_draw_fn draw, void *userdata, struct error *e);
