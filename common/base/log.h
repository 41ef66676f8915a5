/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Log lines, on stderr or in the journal.
 *
 * On stderr: "azpard: text", or "<6>text" when stderr is the journal's (JOURNAL_STREAM, sd-daemon(3)), which knows
 * the program's name by itself.  One line is one write(2), so lines of several processes do not mix.
 *
 * A program that called log_to_journal() sends its lines with fields (log_fields.inc) and, where the line is one
 * of the events in log_events.inc, with the event's message id.  Only then, too, does the log never wait for
 * its reader: what journald does not take goes to stderr; what that does not take either is counted,
 * and told as an event of its own when there is a way again.
 *
 * Of one thread: a program with several logs from one of them.
 */

#include <stdint.h>
#include "common/base/attr.h"

enum log_level {
        LOG_LEVEL_ERROR = 3,
        LOG_LEVEL_WARNING = 4,
        LOG_LEVEL_NOTICE = 5,
        LOG_LEVEL_INFO = 6,
        LOG_LEVEL_DEBUG = 7,
};

enum log_event {
#define X(name, level, id, meaning) LOG_EVENT_##name,
#include "common/base/log_events.inc"
#undef X
        LOG_N_EVENTS_,
};

enum log_field_name {
        LOG_FIELD_END,  /* of a list */
        LOG_FIELD_NONE, /* to be skipped */
#define X(name, journal_name, meaning) LOG_FIELD_##name,
#include "common/base/log_fields.inc"
#undef X
        LOG_N_FIELDS_,
};

struct log_field {
        enum log_field_name name;
        uint64_t number;
        const char *text; /* NULL: the number */
};

/*
 * The fields of a line: LOG_FIELDS(LOG_NUMBER(WORKER, 3), LOG_TEXT(REASON, e.text)), or LOG_NO_FIELDS.
 * LOG_NUMBER_IF: only if the condition holds.
 */
#define LOG_FIELDS(...) ((const struct log_field[]){ __VA_ARGS__, { .name = LOG_FIELD_END } })
#define LOG_NO_FIELDS   ((const struct log_field *) NULL)
#define LOG_NUMBER(field, n)                                                                                 \
        { .name = LOG_FIELD_##field, .number = (uint64_t) (n) }
#define LOG_TEXT(field, t)                                                                                   \
        { .name = LOG_FIELD_##field, .text = (t) }
#define LOG_NUMBER_IF(condition, field, n)                                                                   \
        { .name = (condition) ? LOG_FIELD_##field : LOG_FIELD_NONE, .number = (uint64_t) (n) }

/* Environment variable in which azpard tells its children the instance. */
#define LOG_INSTANCE_VARIABLE "AZPAR_INSTANCE"

/* Name the program and set the highest level that is printed. Call once, first in main(). */
void log_open(const char *program, enum log_level max_level);

/*
 * log_to_journal() - send lines with fields from now on, if stderr is the journal's
 * @socket_path: JOURNAL_SOCKET (journal.h)
 *
 * For programs of the service; the instance is taken from the environment.  At its end the process waits
 * shortly until journald has read its last lines, or they would belong to no unit.
 */
void log_to_journal(const char *socket_path);

/*
 * Fields that all following lines have unless they bring their own; @f ends as LOG_FIELDS() does. Texts are
 * copied, up to 63 bytes.
 */
void log_set_fields(const struct log_field *f);

/* A line of no particular kind. */
void log_line(enum log_level level, const char *format, ...) printf_(2, 3);

/* A line of the kind @event, at that one's level. */
void log_event(enum log_event event, const struct log_field *fields, const char *format, ...) printf_(3, 4);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
