/* SPDX-License-Identifier: MIT */
/*
 * A screen that is drawn again and again; see watch.h.  Used by azparctl.
 *
 * The signals that end a watch are blocked and waited for between two drawings:
 * so the terminal is given back in one place, outside of any handler, and a
 * changed window size redraws at once.  Lines are cut at the terminal's width,
 * since a wrapped line would push the others out of place.
 */
#include "daemon/ctl/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include "common/base/clock.h"

#define ENTER  "\033[?1049h\033[?25l" /* alternate screen, cursor hidden */
#define LEAVE  "\033[?25h\033[?1049l"
#define HOME   "\033[H"
#define TO_EOL "\033[K"
#define BELOW  "\033[J"

static void print_screen(const char *text, FILE *out) {
        struct winsize size = { .ws_row = 24, .ws_col = 80 };

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
                size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
        (void) fputs(HOME, out);
        for (unsigned row = 0; *text && row + 1 < size.ws_row; row++) {
                size_t n = strcspn(text, "\n");

                (void) fprintf(out, "%.*s" TO_EOL "\r\n", (int) MIN(n, (size_t) size.ws_col), text);
                text += n + (text[n] != 0);
        }
        (void) fputs(BELOW, out);
}

/* Return: the signal that came, 0 when @ns are over. */
static int wait_signal(const sigset_t *signals, uint64_t ns) {
        const struct timespec t = { .tv_sec = (time_t) (ns / NS_PER_S), .tv_nsec = (long) (ns % NS_PER_S) };
        int s;

        do
                s = sigtimedwait(signals, NULL, &t);
        while (s < 0 && errno == EINTR);
        return s > 0 ? s : 0;
}

/* Return: 0 or a negative errno with a text. */
static int draw_once(bool terminal, watch_draw_fn draw, void *userdata, struct error *e) {
        cleanup_(freep) char *text = NULL;
        int r = draw(userdata, &text, e);

        if (r < 0 && !terminal)
                return r;
        if (terminal)
                print_screen(r < 0 ? e->text : text, stdout);
        else
                (void) fprintf(stdout, "%s\n", text);
        return fflush(stdout) == EOF ? error_errno(e, -errno, "could not write to the terminal") : 0;
}

int watch_run(double interval_s, watch_draw_fn draw, void *userdata, struct error *e) {
        const bool terminal = isatty(STDOUT_FILENO);
        sigset_t signals, before;
        int r, s = 0;

        (void) sigemptyset(&signals);
        (void) sigaddset(&signals, SIGINT);
        (void) sigaddset(&signals, SIGTERM);
        (void) sigaddset(&signals, SIGHUP);
        (void) sigaddset(&signals, SIGWINCH);
        if (sigprocmask(SIG_BLOCK, &signals, &before) < 0)
                return error_errno(e, -errno, "could not block signals");
        if (terminal)
                (void) fputs(ENTER, stdout);
        do {
                r = draw_once(terminal, draw, userdata, e);
                if (r == 0)
                        s = wait_signal(&signals, (uint64_t) (interval_s * (double) NS_PER_S));
        } while (r == 0 && (s == 0 || s == SIGWINCH));
        if (terminal) {
                (void) fputs(LEAVE, stdout);
                (void) fflush(stdout);
        }
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        return r;
}
