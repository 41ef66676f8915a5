/* SPDX-License-Identifier: MIT */
/* Log lines; see log.h. */
#include "common/base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *program_name = "azpar";
static enum log_level highest_level = LOG_LEVEL_INFO;
static bool to_journal;

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
}

void log_line(enum log_level level, const char *format, ...) {
        char line[2048];
        va_list args;
        int n;

        if (level > highest_level)
                return;
        n = to_journal ? snprintf(line, sizeof(line), "<%d>", (int) level)
                       : snprintf(line, sizeof(line), "%s: ", program_name);
        va_start(args, format);
        (void) vsnprintf(line + n, sizeof(line) - (size_t) n - 1, format, args);
        va_end(args);
        n = (int) strlen(line);
        line[n++] = '\n';
        if (write(STDERR_FILENO, line, (size_t) n) < 0)
                return; /* nobody is left to tell */
}
