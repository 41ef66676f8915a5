/* SPDX-License-Identifier: MIT */
#pragma once

/* azpard's answers for people, ASCII, at most 110 columns as long as numbers are sane. */

#include <cjson/cJSON.h>
#include <stdio.h>

/* Print @status, which is foreign: a field that is missing or of another type is shown as "-". */
void show_status(const cJSON *status, FILE *out);

/* The same for @answer, of a reload: a line for each key that has changed, or one that says that none has. */
void show_reload(const cJSON *answer, FILE *out);
