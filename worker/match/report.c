/* SPDX-License-Identifier: MIT */
/* The report of a match; see report.h.  Process: azpar-match. */
#include "worker/match/report.h"

#include <errno.h>
#include <inttypes.h>
#include <cjson/cJSON.h>

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

static double report_average_plies(const struct report *r, uint64_t n_games) {
        return n_games == 0 ? 0 : (double) r->result->n_plies / (double) n_games;
}

static int report_flush(FILE *out) {
        return fflush(out) == 0 && !ferror(out) ? 0 : -EIO;
}

static void print_player(FILE *out, const char *place, const struct player *p) {
        struct player_info i = player_info(p);

        (void) fprintf(out, "%s %s", place, i.spec);
        if (i.is_model)
                (void) fprintf(out, ", generation %" PRIu64 ", step %" PRIu64, i.generation, i.step);
        if (i.simulations > 0)
                (void) fprintf(out, ", %" PRIu32 " simulations a move", i.simulations);
        (void) fputc('\n', out);
}

static void print_tally(FILE *out, const char *title, const struct match_tally *t) {
        (void) fprintf(out, "%-22s %8" PRIu64 " %8" PRIu64 " %8" PRIu64 "   %.3f\n", title, t->wins, t->draws,
                       t->losses, match_score(t));
}

int report_text(const struct report *r, FILE *out) {
        const struct match_options *o = r->options;
        struct match_tally total = match_total(r->result);
        uint64_t n_games = match_n_games(&total);
        double low, high;

        match_interval(&total, &low, &high);
        (void) fprintf(out, "%s, %" PRIu64 " games, openings of %u random plies, seed %" PRIu64 "\n",
                       o->game->rules, n_games, o->opening_plies, o->seed);
        print_player(out, "first: ", o->players[0]);
        print_player(out, "second:", o->players[1]);
        (void) fprintf(out, "\n%-22s %8s %8s %8s   score\n", "first player's", "wins", "draws", "losses");
        print_tally(out, "  with the first move", &r->result->by_color[0]);
        print_tally(out, "  with the second move", &r->result->by_color[1]);
        print_tally(out, "  in all", &total);
        (void) fprintf(out, "\nscore %.3f, 95 %% interval %.3f to %.3f; %.1f plies a game; %.1f s\n",
                       match_score(&total), low, high, report_average_plies(r, n_games), r->seconds);
        return report_flush(out);
}

static bool add_player(cJSON *to, const char *key, const struct player *p) {
        struct player_info i = player_info(p);
        cJSON *o = cJSON_AddObjectToObject(to, key);

        return o && cJSON_AddStringToObject(o, "player", i.spec) &&
               (i.simulations == 0 || cJSON_AddNumberToObject(o, "simulations", i.simulations)) &&
               (!i.is_model || (cJSON_AddNumberToObject(o, "generation", (double) i.generation) &&
                                cJSON_AddNumberToObject(o, "step", (double) i.step)));
}

static bool add_tally(cJSON *to, const struct match_tally *t) {
        return to && cJSON_AddNumberToObject(to, "wins", (double) t->wins) &&
               cJSON_AddNumberToObject(to, "draws", (double) t->draws) &&
               cJSON_AddNumberToObject(to, "losses", (double) t->losses);
}

static cJSON *report_object(const struct report *r) {
        const struct match_options *o = r->options;
        struct match_tally total = match_total(r->result);
        uint64_t n_games = match_n_games(&total);
        cleanup_(cJSON_Deletep) cJSON *object = cJSON_CreateObject();
        double interval[2];
        bool ok;

        match_interval(&total, &interval[0], &interval[1]);
        ok = object && cJSON_AddStringToObject(object, "rules", o->game->rules) &&
             add_player(object, "first", o->players[0]) && add_player(object, "second", o->players[1]) &&
             cJSON_AddNumberToObject(object, "games", (double) n_games) && add_tally(object, &total) &&
             cJSON_AddNumberToObject(object, "score", match_score(&total)) &&
             cJSON_AddItemToObject(object, "interval", cJSON_CreateDoubleArray(interval, 2)) &&
             add_tally(cJSON_AddObjectToObject(object, "first_to_move"), &r->result->by_color[0]) &&
             add_tally(cJSON_AddObjectToObject(object, "second_to_move"), &r->result->by_color[1]) &&
             cJSON_AddNumberToObject(object, "average_plies", report_average_plies(r, n_games)) &&
             cJSON_AddNumberToObject(object, "opening_plies", o->opening_plies) &&
             cJSON_AddNumberToObject(object, "seed", (double) o->seed) &&
             cJSON_AddNumberToObject(object, "seconds", r->seconds);
        return ok ? TAKE_PTR(object) : NULL;
}

int report_json(const struct report *r, FILE *out) {
        cleanup_(cJSON_Deletep) cJSON *object = report_object(r);
        cleanup_(freep) char *text = object ? cJSON_PrintUnformatted(object) : NULL;

        if (!text)
                return -ENOMEM;
        (void) fprintf(out, "%s\n", text);
        return report_flush(out);
}
