/* SPDX-License-Identifier: MIT */
/*
 * azpar-match: plays a match between two players and reports the score.
 *
 * A program of its own, which neither azpard nor a state directory is needed
 * for: whoever wants to know how strong a network is runs it beside them.
 * Single-threaded.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/games/game.h"
#include "worker/match/match.h"
#include "worker/match/report.h"

#define MAX_SETTINGS    64
#define DEFAULT_GAMES   100
#define DEFAULT_OPENING 2
#define MAX_SIMULATIONS 65535
#define MAX_SEED        UINT64_C(9007199254740991) /* as selfplay.seed: exact in JSON */
#define EXIT_USAGE      2

/* X(name, argument or NULL, help): parser and --help come from here. */
#define OPTIONS(X)                                                                                           \
        X(first, "PLAYER", "random, plain or model:FILE (required)")                                         \
        X(second, "PLAYER", "the same, for the opponent (required)")                                         \
        X(games, "N", "games to play, an even number (100)")                                                 \
        X(simulations, "N", "simulations a move (search.simulations)")                                       \
        X(openings, "K", "random plies at the start of each pair of games (2)")                              \
        X(seed, "N", "seed of all random numbers (a new one, which is printed)")                             \
        X(json, NULL, "print one JSON object")                                                               \
        X(config, "FILE", "azpar.conf that names the game")                                                  \
        X(config_fd, "FD", "the same as an inherited descriptor, without --config and --set")                \
        X(set, "SECTION.KEY=VALUE", "set a key of azpar.conf, after the file; may be repeated")              \
        X(help, NULL, "print this and exit")                                                                 \
        X(version, NULL, "print the version and exit")

enum option_number {
        OPTION_FIRST_ = 255, /* above all characters, so that none is an option */
#define X(name, argument, help) OPTION_##name,
        OPTIONS(X)
#undef X
};

struct arguments {
        const char *players[2];
        const char *config_path;
        const char *settings[MAX_SETTINGS];
        size_t n_settings;
        int config_fd; /* -1: none */
        uint64_t games, openings;
        uint64_t simulations; /* 0: as configured */
        uint64_t seed;
        bool json, help, version;
};

static const struct option *options_long(void) {
        static char names[][16] = {
#define X(name, argument, help) #name,
                OPTIONS(X)
#undef X
        };
        static const char *const argument_names[] = {
#define X(name, argument, help) argument,
                OPTIONS(X)
#undef X
        };
        static struct option options[N_ELEMENTS(names) + 1];

        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                for (char *c = names[i]; *c; c++)
                        if (*c == '_')
                                *c = '-';
                options[i] = (struct option){
                        .name = names[i],
                        .has_arg = argument_names[i] ? required_argument : no_argument,
                        .val = OPTION_FIRST_ + 1 + (int) i,
                };
        }
        return options;
}

static void print_help(void) {
        static const char *const help_texts[][2] = {
#define X(name, argument, help) { argument, help },
                OPTIONS(X)
#undef X
        };
        const struct option *o = options_long();

        printf("Usage: azpar-match --first PLAYER --second PLAYER [OPTION]...\n"
               "Play a match and print the first player's score.\n\n");
        for (size_t i = 0; i < N_ELEMENTS(help_texts); i++) {
                const char *argument = help_texts[i][0] ? help_texts[i][0] : "";
                int n = printf("  --%s%s%s", o[i].name, *argument ? " " : "", argument);

                printf("%*s%s\n", MAX(2, 28 - n), "", help_texts[i][1]);
        }
        printf("\nThe players: random plays uniformly random moves; plain searches with random rollouts "
               "instead of a\n"
               "network; model:FILE searches with the network in FILE (model.safetensors of a state "
               "directory).\n"
               "Each opening is played twice with the colours swapped.\n");
}

/* A decimal number between @min and @max. */
static int parse_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                        struct error *e) {
        char *end;
        uint64_t value;

        errno = 0;
        value = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || errno != 0 || value < min || value > max)
                return error_set(e, -EINVAL, "--%s: '%s' is not a number between %" PRIu64 " and %" PRIu64,
                                 option, text, min, max);
        *ret = value;
        return 0;
}

static int take_option(struct arguments *a, int number, struct error *e) {
        uint64_t fd;
        int r = 0;

        switch (number) {
        case OPTION_first:
        case OPTION_second:
                r = player_check(optarg, e);
                a->players[number == OPTION_second] = optarg;
                break;
        case OPTION_games:
                r = parse_number("games", optarg, 2, MATCH_MAX_GAMES, &a->games, e);
                break;
        case OPTION_simulations:
                r = parse_number("simulations", optarg, 1, MAX_SIMULATIONS, &a->simulations, e);
                break;
        case OPTION_openings:
                r = parse_number("openings", optarg, 0, GAME_MAX_PLIES, &a->openings, e);
                break;
        case OPTION_seed:
                r = parse_number("seed", optarg, 0, MAX_SEED, &a->seed, e);
                break;
        case OPTION_json:
                a->json = true;
                break;
        case OPTION_config:
                a->config_path = optarg;
                break;
        case OPTION_config_fd:
                r = parse_number("config-fd", optarg, 0, INT32_MAX, &fd, e);
                a->config_fd = r < 0 ? -1 : (int) fd;
                break;
        case OPTION_set:
                if (a->n_settings == MAX_SETTINGS)
                        return error_set(e, -EINVAL, "--set: more than %d times", MAX_SETTINGS);
                a->settings[a->n_settings++] = optarg;
                break;
        case OPTION_help:
                a->help = true;
                break;
        case OPTION_version:
                a->version = true;
                break;
        }
        return r;
}

static int parse_arguments(int argc, char **argv, struct arguments *ret, struct error *e) {
        struct arguments a = {
                .config_fd = -1,
                .games = DEFAULT_GAMES,
                .openings = DEFAULT_OPENING,
                .seed = clock_unix_us() & MAX_SEED,
        };
        int number, r;

        opterr = 0;
        while ((number = getopt_long(argc, argv, ":", options_long(), NULL)) != -1) {
                if (number == '?')
                        return error_set(e, -EINVAL, "unknown option '%s'", argv[optind - 1]);
                if (number == ':')
                        return error_set(e, -EINVAL, "option '%s' needs a value", argv[optind - 1]);
                r = take_option(&a, number, e);
                if (r < 0)
                        return r;
        }
        *ret = a;
        if (a.help || a.version)
                return 0;
        if (optind < argc)
                return error_set(e, -EINVAL, "'%s' is not an option", argv[optind]);
        if (!a.players[0] || !a.players[1])
                return error_set(e, -EINVAL, "--%s is missing", a.players[0] ? "second" : "first");
        if (a.games % 2 != 0)
                return error_set(e, -EINVAL,
                                 "--games: %" PRIu64 " is odd, but each opening is played with both colours",
                                 a.games);
        if (a.config_fd >= 0 && (a.config_path || a.n_settings > 0))
                return error_set(e, -EINVAL, "--config-fd goes with neither --config nor --set");
        return 0;
}

static void print_progress(void *userdata, const struct match_result *so_far) {
        const uint64_t *n_games = userdata;
        struct match_tally t = match_total(so_far);

        printf("\r%" PRIu64 "/%" PRIu64 " games: %" PRIu64 " won, %" PRIu64 " drawn, %" PRIu64 " lost",
               match_n_games(&t), *n_games, t.wins, t.draws, t.losses);
        if (match_n_games(&t) == *n_games)
                printf("\r\033[K");
        (void) fflush(stdout);
}

static int play(struct arguments *a, struct error *e) {
        cleanup_(game_freep) struct game *g = NULL;
        cleanup_(player_freep) struct player *first = NULL, *second = NULL;
        unsigned n_boards = match_n_boards(a->games);
        uint64_t begin = clock_now_ns();
        struct match_result result;
        struct config c;
        int r;

        r = a->config_fd >= 0 ? config_read_fd(a->config_fd, &c, e)
                              : config_read(a->config_path, a->settings, a->n_settings, &c, e);
        if (r < 0)
                return r;
        r = game_new(&c, &g, e);
        if (r < 0)
                return r;
        if (a->simulations == 0)
                a->simulations = c.search_simulations;
        r = player_new(a->players[0], g, &c, (uint32_t) a->simulations, n_boards, &first, e);
        if (r < 0)
                return r;
        r = player_new(a->players[1], g, &c, (uint32_t) a->simulations, n_boards, &second, e);
        if (r < 0)
                return r;

        struct match_options o = {
                .game = g,
                .players = { first, second },
                .n_games = a->games,
                .opening_plies = (unsigned) a->openings,
                .seed = a->seed,
                .progress = !a->json && isatty(STDOUT_FILENO) ? print_progress : NULL,
                .userdata = &a->games,
        };

        r = match_run(&o, &result, e);
        if (r < 0)
                return r;

        struct report report = {
                .options = &o,
                .result = &result,
                .seconds = (double) (clock_now_ns() - begin) / (double) NS_PER_S,
        };

        r = a->json ? report_json(&report, stdout) : report_text(&report, stdout);
        return r < 0 ? error_errno(e, r, "could not write the report") : 0;
}

int main(int argc, char **argv) {
        struct arguments a;
        struct error e = ERROR_INIT;

        log_open("azpar-match", LOG_LEVEL_INFO);
        if (parse_arguments(argc, argv, &a, &e) < 0) {
                log_error("%s (--help shows the options)", e.text);
                return EXIT_USAGE;
        }
        if (a.help) {
                print_help();
                return EXIT_SUCCESS;
        }
        if (a.version) {
                printf("azpar-match %s\n", AZPAR_VERSION);
                return EXIT_SUCCESS;
        }
        if (play(&a, &e) < 0) {
                log_error("%s", e.text);
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
