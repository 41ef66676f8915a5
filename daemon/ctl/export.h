/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * azparctl export: the replay window as batch files, for the program that azpar replaces, for another azpard, and for
 * whatever else reads JSON.
 *
 * The window's file is mapped and read beside azpard, which is not asked for it and does not wait.
 */

#include <stdbool.h>
#include "common/base/error.h"

struct export_options {
        const char *window; /* path of the window's file */
        const char *folder; /* made if it is missing; must hold no batch files yet */
        bool json;          /* print an object in place of words */
};

/*
 * export_run() - write FOLDER/worker_0/batch_NNNNNN.json, oldest samples first
 *
 * Each file appears whole and durable.
 *
 * Return: 0 or a negative errno with a text; files written until then stay.
 */
must_check_ int export_run(const struct export_options *o, struct error *e);
