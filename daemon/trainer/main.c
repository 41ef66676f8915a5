/* SPDX-License-Identifier: MIT */
/*
 * azpar-trainer: trains the network on samples drawn from the replay window and publishes its weights.
 *
 * Started by azpard, which gives it everything as descriptors: the configuration (a memfd), the shared
 * memory, the state directory (model and checkpoints), the window file and the eventfd that wakes azpard.
 * This file reads them and starts the loop (loop.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include "common/base/confine.h"
#include "common/base/journal.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/exchange/segment.h"
#include "common/exchange/window.h"
#include "daemon/trainer/learn.h"
#include "daemon/trainer/loop.h"

enum { FD_CONFIG, FD_SEGMENT, FD_STATE, FD_WINDOW, FD_WAKE, N_FDS };

struct trainer {
        struct config config;
        struct game *game;
        struct segment *segment;
        struct window *window;
        struct heart *heart;
        struct learner *learner;
};

static volatile sig_atomic_t terminated;

static void on_sigterm(int signal_number) {
        (void) signal_number;
        terminated = 1;
}

/*
 * Every step allocates and frees the same few hundred MB of activations and gradients.  Left alone, malloc
 * gives them back to the kernel each time, which then clears pages for the next step: 10 % of the time of
 * 64x5 on 6x7 with a batch of 256, and 3 % with these settings.  32 MB is the most that glibc takes as
 * M_MMAP_THRESHOLD.
 */
static void keep_freed_memory(void) {
        (void) mallopt(M_MMAP_THRESHOLD, 32 << 20);
        (void) mallopt(M_TRIM_THRESHOLD, INT32_MAX);
}

static void trainer_deinit(struct trainer *t) {
        learner_free(t->learner);
        heart_free(t->heart);
        window_free(t->window);
        segment_free(t->segment);
        game_free(t->game);
}

static void say_how_it_starts(const struct trainer *t) {
        static const char *const texts[] = {
                [LEARNER_FRESH] = "starts with random weights",
                [LEARNER_FROM_MODEL] = "starts from " LEARNER_MODEL ", without a checkpoint",
                [LEARNER_RESUMED] = "resumes from the newest checkpoint",
        };

        log_event(LOG_EVENT_TRAINER_STARTED,
                  LOG_FIELDS(LOG_NUMBER(STEP, learner_state(t->learner)->step),
                             LOG_TEXT(REASON, texts[learner_origin(t->learner)])),
                  "%s at step %" PRIu64 " on the %s", texts[learner_origin(t->learner)],
                  learner_state(t->learner)->step, learner_on_cuda(t->learner) ? "GPU" : "CPU");
        if (learner_warning(t->learner))
                log_event(LOG_EVENT_OPTIMIZER_RESET,
                          LOG_FIELDS(LOG_TEXT(REASON, learner_warning(t->learner))), "%s",
                          learner_warning(t->learner));
}

/* Before there are threads, and before the window and checkpoints, which somebody else may have written. */
static void confine_trainer(const struct trainer *t, int state_fd) {
        bool gpu = t->config.train_device != DEVICE_CPU && confine_finds_gpu();
        struct error e = ERROR_INIT;

        if (t->config.service_confine &&
            confine(gpu ? CONFINE_TRAINER_GPU : CONFINE_TRAINER, state_fd, &e) < 0)
                log_event(LOG_EVENT_NOT_CONFINED, LOG_FIELDS(LOG_TEXT(REASON, e.text)), "not confined: %s",
                          e.text);
}

/* Make everything from the descriptors. Return: 0 or a negative errno with a text. */
static int trainer_init(struct trainer *t, const int fds[N_FDS], struct error *e) {
        int r;

        r = config_read_fd(fds[FD_CONFIG], &t->config, e);
        if (r < 0)
                return r;
        confine_trainer(t, fds[FD_STATE]);
        r = game_new(&t->config, &t->game, e);
        if (r < 0)
                return r;
        r = segment_map_trainer(fds[FD_SEGMENT], &t->segment, e);
        if (r < 0)
                return r;
        if (strncmp(t->segment->header->rules, t->game->rules, sizeof(t->segment->header->rules)) != 0)
                return error_set(e, -EINVAL, "the shared memory is for another game than '%s'",
                                 t->game->rules);
        r = heart_new(t->segment->trainer, &t->heart, e); /* before libtorch, which may take its time */
        if (r < 0)
                return r;
        r = window_map(fds[FD_WINDOW], t->game, &t->window, e);
        if (r < 0)
                return r;
        r = learner_open(&t->config, t->game, fds[FD_STATE], &t->learner, e);
        if (r < 0)
                return r;
        say_how_it_starts(t);
        return 0;
}

static const struct option long_options[] = {
        { "config-fd", required_argument, NULL, FD_CONFIG },
        { "segment-fd", required_argument, NULL, FD_SEGMENT },
        { "state-fd", required_argument, NULL, FD_STATE },
        { "window-fd", required_argument, NULL, FD_WINDOW },
        { "wake-fd", required_argument, NULL, FD_WAKE },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },
        { NULL, 0, NULL, 0 },
};

static const char help[] =
        "azpar-trainer --config-fd C --segment-fd G --state-fd S --window-fd D --wake-fd W\n"
        "Trains the network for azpard(8), which starts it.\n";

/* An open descriptor's number. */
static bool parse_fd(const char *text, int *ret) {
        unsigned long n;
        char *end;

        errno = 0;
        n = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || errno || n > INT32_MAX || fcntl((int) n, F_GETFD) < 0)
                return false;
        *ret = (int) n;
        return true;
}

/* Return: -1 to go on, else an exit status. */
static int parse_arguments(int argc, char **argv, int ret_fds[N_FDS]) {
        unsigned seen = 0;
        int c;

        while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
                if (c == 'h') {
                        (void) fputs(help, stdout);
                        return EXIT_SUCCESS;
                }
                if (c == 'v') {
                        (void) puts("azpar-trainer " AZPAR_VERSION);
                        return EXIT_SUCCESS;
                }
                if (c >= N_FDS)
                        return EX_CONFIG; /* getopt has said why */
                if (!parse_fd(optarg, &ret_fds[c])) {
                        log_error("--%s: '%s' is not an open descriptor", long_options[c].name, optarg);
                        return EX_CONFIG;
                }
                seen |= 1u << c;
        }
        if (seen != (1u << N_FDS) - 1 || optind < argc) {
                log_error("wrong arguments: azpard starts this program; see --help");
                return EX_CONFIG;
        }
        return -1;
}

/* What only the user can mend: a new start would meet the same configuration or the same damaged file. */
static bool is_for_the_user(int r) {
        return r == -EINVAL || r == -EBADMSG || r == -EPROTO || r == -EOVERFLOW;
}

int main(int argc, char **argv) {
        cleanup_(trainer_deinit) struct trainer t = { 0 };
        struct sigaction terminate = { .sa_handler = on_sigterm };
        struct error e = ERROR_INIT;
        const char *why;
        int fds[N_FDS], r;

        log_open("azpar-trainer", LOG_LEVEL_INFO);
        log_to_journal(JOURNAL_SOCKET);
        r = parse_arguments(argc, argv, fds);
        if (r >= 0)
                return r;
        /* SIGINT is for azpard, which then asks its children to stop */
        if (signal(SIGINT, SIG_IGN) == SIG_ERR || sigaction(SIGTERM, &terminate, NULL) < 0) {
                log_error("could not set up signals: %s", strerror(errno));
                return EXIT_FAILURE;
        }
        keep_freed_memory();
        r = trainer_init(&t, fds, &e);
        if (r == 0) {
                const struct loop_params p = {
                        .config = &t.config,
                        .segment = t.segment,
                        .window = t.window,
                        .learner = t.learner,
                        .heart = t.heart,
                        .wake_fd = fds[FD_WAKE],
                        .terminated = &terminated,
                };

                r = loop_run(&p, &e);
        }
        if (r == 0)
                return EXIT_SUCCESS;
        why = e.text[0] ? e.text : strerror(-r);
        log_event(LOG_EVENT_TRAINER_FAILED, LOG_FIELDS(LOG_TEXT(REASON, why)), "%s", why);
        if (is_for_the_user(r))
                return EX_CONFIG;
        return error_passes(r) ? EX_TEMPFAIL : EXIT_FAILURE;
}
