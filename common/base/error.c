/* SPDX-License-Identifier: MIT */
/* Errors with a text; see error.h. */
#include "common/base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *e, int negative_errno, const char *format, ...) {
        va_list args;

        assert(negative_errno < 0);
        if (!e)
                return negative_errno;
        va_start(args, format);
        (void) vsnprintf(e->text, sizeof(e->text), format, args);
        va_end(args);
        return negative_errno;
}

int error_errno(struct error *e, int negative_errno, const char *format, ...) {
        va_list args;
        size_t n;

        assert(negative_errno < 0);
        if (!e)
                return negative_errno;
        va_start(args, format);
        (void) vsnprintf(e->text, sizeof(e->text), format, args);
        va_end(args);
        n = strlen(e->text);
        (void) snprintf(e->text + n, sizeof(e->text) - n, ": %s", strerror(-negative_errno));
        return negative_errno;
}

bool error_passes(int negative_errno) {
        switch (-negative_errno) {
        case ENOSPC:
        case EDQUOT:
        case EIO:
        case EROFS:
        case EUCLEAN: /* a file system that asks to be repaired */
        case ESTALE:  /* of a network file system whose server went away */
        case EMFILE:
        case ENFILE:
        case ENOMEM:
                return true;
        default:
                return false;
        }
}

void error_prefix(struct error *e, const char *format, ...) {
        char text[2 * ERROR_TEXT_MAX];
        va_list args;
        size_t n;

        if (!e)
                return;
        va_start(args, format);
        (void) vsnprintf(text, ERROR_TEXT_MAX, format, args);
        va_end(args);
        n = strlen(text);
        (void) snprintf(text + n, sizeof(text) - n, ": %s", e->text);
        (void) memcpy(e->text, text, sizeof(e->text) - 1);
        e->text[sizeof(e->text) - 1] = '\0';
}
