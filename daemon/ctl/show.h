/* SPDX-License-Identifier: MIT */
#pragma once

/* azpard's status for people, ASCII, at most 110 columns as long as numbers are sane. */

#include <cjson/cJSON.h>
#include <stdio.h>

/* Print @status, which is foreign: a field that is missing or of another type is shown as "-". */
void show_status(const cJSON *status, FILE *out);
