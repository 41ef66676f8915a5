/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * azparctl import: hand batch files to azpard, which takes their samples into its replay window.
 *
 * azpard gets each file as an open descriptor, so it need not be able to find or read it; the answer comes when the
 * samples are durable, and only then is the file removed.
 */

#include <stdbool.h>
#include "common/base/error.h"

struct import_options {
        const char *socket_path;
        const char *folder; /* with worker_N/batch_NNNNNN.json, or with batch_NNNNNN.json, in it */
        bool keep;          /* leave the files */
        bool json;          /* print an object in place of words */
};

/*
 * import_run() - import all files of a folder, in the order of workers and numbers
 *
 * A file that azpard refuses is named on stderr, stays where it is, and the rest goes on.
 *
 * Return: 0; a negative errno with a text: nothing could be done, or some files were not imported.
 */
must_check_ int import_run(const struct import_options *o, struct error *e);
