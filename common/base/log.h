/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Log lines on stderr: "azpard: text", or "<6>text" when stderr is the journal
 * (JOURNAL_STREAM, sd-daemon(3)), which knows the program's name by itself.
 * One line is one write(2), so lines of several processes do not mix.
 */

#include "common/base/attr.h"

enum log_level {
        LOG_LEVEL_ERROR = 3,
        LOG_LEVEL_WARNING = 4,
        LOG_LEVEL_NOTICE = 5,
        LOG_LEVEL_INFO = 6,
        LOG_LEVEL_DEBUG = 7,
};

/* Name the program and set the highest level that is printed. Call once, first in main(). */
void log_open(const char *program, enum log_level max_level);

void log_line(enum log_level level, const char *format, ...) printf_(2, 3);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
