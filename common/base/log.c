/* SPDX-License-Identifier: MIT */
/* Log lines; see log.h. */
#include "common/base/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "common/base/clock.h"
#include "common/base/journal.h"

#define LINE_MAX_BYTES 2048 /* whole, so that one write(2) to a pipe is never mixed with another one */
#define PREFIX_MAX     64
#define TEXT_MAX       (LINE_MAX_BYTES - PREFIX_MAX - 1)
#define DEFAULT_MAX    64
#define DRAIN_NS       (100 * NS_PER_MS)

enum { LOG_EVENT_NONE = -1 };

static const struct {
        enum log_level level;
        const char *id;
} events[LOG_N_EVENTS_] = {
#define X(name, event_level, event_id, meaning)                                                              \
        [LOG_EVENT_##name] = { .level = LOG_LEVEL_##event_level, .id = (event_id) },
#include "common/base/log_events.inc"
#undef X
};

static const char *const field_names[LOG_N_FIELDS_] = {
#define X(name, journal_name, meaning) [LOG_FIELD_##name] = (journal_name),
#include "common/base/log_fields.inc"
#undef X
};

static const char *program_name = "azpar";
static enum log_level highest_level = LOG_LEVEL_INFO;
static bool to_journal;  /* stderr is the journal's */
static bool with_fields; /* ... and lines are sent to it as entries */
static bool finishes;    /* at exit */
static uint64_t n_lost;  /* lines since the last one that went out */

static struct log_field defaults[LOG_N_FIELDS_]; /* .name is LOG_FIELD_END where there is none */
static char default_texts[LOG_N_FIELDS_][DEFAULT_MAX];

/* JOURNAL_STREAM=DEVICE:INODE names the socket that systemd connected; stderr may have been redirected since.
 */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
                return false;
        return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_open(const char *program, enum log_level max_level) {
        program_name = program;
        highest_level = max_level;
        to_journal = stderr_is_journal();
        with_fields = false;
}

void log_set_fields(const struct log_field *f) {
        for (; f && f->name != LOG_FIELD_END; f++) {
                if (f->name == LOG_FIELD_NONE)
                        continue;
                defaults[f->name] = *f;
                if (!f->text)
                        continue;
                (void) snprintf(default_texts[f->name], DEFAULT_MAX, "%s", f->text);
                defaults[f->name].text = default_texts[f->name];
        }
}

/* ---- one line's text ---- */

/* What does not fit ends in "...", not within a character: the journal shows what is no UTF-8 as a blob. */
static void cut(char text[TEXT_MAX]) {
        size_t n = TEXT_MAX - sizeof("...");

        while (n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80)
                n--;
        (void) strcpy(text + n, "...");
}

printf_(2, 0) static void compose(char text[TEXT_MAX], const char *format, va_list args) {
        int n = vsnprintf(text, TEXT_MAX, format, args);

        if (n < 0)
                (void) snprintf(text, TEXT_MAX, "%s", format); /* better than nothing */
        else if (n >= TEXT_MAX)
                cut(text);
        for (size_t end = strlen(text); end > 0 && (text[end - 1] == '\n' || text[end - 1] == ' '); end--)
                text[end - 1] = '\0';
}

/*
 * The line for stderr. Names and texts of others are in it, which must not make a second line, with a level
 * of its own, out of one. Return: its length, not terminated.
 */
static size_t make_line(char line[LINE_MAX_BYTES], enum log_level level, const char *text) {
        size_t n = (size_t) (to_journal ? snprintf(line, PREFIX_MAX, "<%d>", (int) level)
                                        : snprintf(line, PREFIX_MAX, "%.60s: ", program_name));

        for (; *text; text++) {
                unsigned char c = (unsigned char) *text;

                line[n++] = (char) (c == '\n' ? ' ' : (c < ' ' && c != '\t') || c == 0x7f ? '?' : c);
        }
        line[n++] = '\n';
        return n;
}

/* ---- the journal ---- */

/* Of each field the line's own, else the default. */
static void choose_fields(const struct log_field *f, const struct log_field *ret[LOG_N_FIELDS_]) {
        for (size_t i = 0; i < LOG_N_FIELDS_; i++)
                ret[i] = defaults[i].name == LOG_FIELD_END ? NULL : &defaults[i];
        for (; f && f->name != LOG_FIELD_END; f++)
                ret[f->name] = f;
        ret[LOG_FIELD_NONE] = NULL;
}

static struct journal_field text_field(const char *name, const char *value) {
        return (struct journal_field){ .name = name, .value = value, .n_bytes = strlen(value) };
}

static int send_entry(enum log_level level, int event, const struct log_field *fields, const char *text) {
        const char priority[] = { (char) ('0' + level), '\0' };
        const struct log_field *chosen[LOG_N_FIELDS_];
        struct journal_field entry[LOG_N_FIELDS_ + 4];
        char numbers[LOG_N_FIELDS_][24];
        size_t n = 0;

        static_assert(N_ELEMENTS(entry) <= JOURNAL_MAX_FIELDS, "too many fields for journal_send()");
        entry[n++] = text_field("PRIORITY", priority);
        entry[n++] = text_field("SYSLOG_IDENTIFIER", program_name);
        entry[n++] = text_field("MESSAGE", text);
        if (event != LOG_EVENT_NONE)
                entry[n++] = text_field("MESSAGE_ID", events[event].id);
        choose_fields(fields, chosen);
        for (size_t i = 0; i < LOG_N_FIELDS_; i++) {
                if (!chosen[i])
                        continue;
                (void) snprintf(numbers[i], sizeof(numbers[i]), "%" PRIu64, chosen[i]->number);
                entry[n++] = text_field(field_names[i], chosen[i]->text ? chosen[i]->text : numbers[i]);
        }
        return journal_send(entry, n);
}

/* As an entry; as a line on stderr where that fails. Return: false if neither took it. */
static bool send_to_journal(enum log_level level, int event, const struct log_field *fields,
                            const char *text) {
        char line[LINE_MAX_BYTES];
        size_t n;

        if (send_entry(level, event, fields, text) == 0)
                return true;
        n = make_line(line, level, text);
        /* it is a socket, JOURNAL_STREAM said so; MSG_DONTWAIT, since whoever else has it wants to wait */
        return send(STDERR_FILENO, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t) n;
}

/* Lines were lost: say so before the next one. Return: false if it cannot be said yet. */
static bool tell_lost(void) {
        char text[80];

        (void) snprintf(text, sizeof(text),
                        "%" PRIu64 " lines of the log were lost: the journal did not take them", n_lost);
        if (!send_to_journal(events[LOG_EVENT_LINES_LOST].level, LOG_EVENT_LINES_LOST,
                             LOG_FIELDS(LOG_NUMBER(LINES, n_lost)), text))
                return false;
        n_lost = 0;
        return true;
}

/* ---- lines ---- */

printf_(4, 0) static void put_line(enum log_level level, int event, const struct log_field *fields,
                                   const char *format, va_list args) {
        char text[TEXT_MAX], line[LINE_MAX_BYTES];

        if (level > highest_level)
                return;
        compose(text, format, args);
        if (with_fields) {
                if ((n_lost > 0 && !tell_lost()) || !send_to_journal(level, event, fields, text))
                        n_lost++;
                return;
        }
        if (write(STDERR_FILENO, line, make_line(line, level, text)) < 0)
                return; /* nobody is left to tell */
}

void log_line(enum log_level level, const char *format, ...) {
        va_list args;

        va_start(args, format);
        put_line(level, LOG_EVENT_NONE, LOG_NO_FIELDS, format, args);
        va_end(args);
}

void log_event(enum log_event event, const struct log_field *fields, const char *format, ...) {
        va_list args;

        va_start(args, format);
        put_line(events[event].level, (int) event, fields, format, args);
        va_end(args);
}

/* ---- at the end ---- */

static void finish(void) {
        if (n_lost > 0)
                (void) tell_lost();
        journal_drain(DRAIN_NS);
}

void log_to_journal(const char *socket_path) {
        const char *instance = getenv(LOG_INSTANCE_VARIABLE);

        if (instance)
                log_set_fields(LOG_FIELDS(LOG_TEXT(INSTANCE, instance)));
        /* without a descriptor left the lines go to stderr as before */
        with_fields = to_journal && journal_open(socket_path) == 0;
        if (with_fields && !finishes)
                finishes = atexit(finish) == 0;
}
