/* SPDX-License-Identifier: MIT */
/*
 * The status for people.  A whole one is compared with what it should look
 * like; then each field in turn is missing or of another type, and nothing but
 * its place may change.
 */
#include "daemon/ctl/show.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/attr.h"

static const char whole[] =
        "{\"ok\":true,\"protocol\":1,\"version\":\"0.1.0\",\"instance\":\"default\",\"pid\":4711,\"state\":"
        "\"training\","
        "\"reason\":null,\"uptime_s\":192.5,\"state_directory\":\"/var/lib/azpar/"
        "default\",\"rules\":\"connect4\","
        "\"generation\":12,\"generation_age_s\":4.1,\"step\":3400,\"steps_per_s\":12.34,\"samples_trained\":"
        "870400,"
        "\"learning_rate\":0.001,\"loss\":{\"policy\":1.2345678,\"value\":0.5,\"total\":1.7345678,"
        "\"smooth_policy\":1.3,\"smooth_value\":0.6,\"smooth_total\":1.9},"
        "\"window\":{\"samples\":12300,\"capacity\":100000,\"inserted\":217600,\"damaged\":0},"
        "\"limiter\":{\"target_ratio\":4,\"ratio\":3.98,\"inserted\":217600,\"trained\":870400,\"allowed\":"
        "1200,"
        "\"throttle\":true},\"rates\":{\"samples_per_s\":123.4,\"games_per_s\":5.5,\"simulations_per_s\":"
        "12345,"
        "\"evaluations_per_s\":11000},\"totals\":{\"games\":9000,\"samples\":217600,\"simulations\":2.1e7,"
        "\"evaluations\":2e7},\"lag\":{\"workers_behind\":1,\"last_ms\":3.2,\"max_ms\":48},"
        "\"publish\":{\"count\":34,\"last_ms\":12,\"age_s\":4.2},\"checkpoint\":{\"step\":3000,\"age_s\":32},"
        "\"workers_desired\":2,\"workers\":[{\"slot\":0,\"pid\":4713,\"state\":\"running\",\"precision\":"
        "\"bf16\","
        "\"incarnation\":1,\"generation\":12,\"lag_ms\":3.2,\"max_lag_ms\":48,\"restarts\":0,\"last_exit\":"
        "null,"
        "\"heartbeat_age_s\":0.1,\"games\":4500,\"samples\":108800,\"games_per_s\":2.75,\"samples_per_s\":61."
        "7,"
        "\"simulations_per_s\":6172,\"evaluations_per_s\":5500,\"lane_used\":4096,\"lane_bytes\":1048576,"
        "\"lane_waits\":0,\"bad_records\":0,\"refused\":0,\"refused_reason\":null,\"pss_bytes\":24000000,"
        "\"private_dirty_bytes\":8000000},{\"slot\":1,\"pid\":4714,\"state\":\"parked\",\"generation\":11,"
        "\"lag_ms\":5,\"restarts\":6,\"last_exit\":\"killed by signal "
        "9\",\"games_per_s\":0,\"simulations_per_s\":0,"
        "\"evaluations_per_s\":0,\"lane_used\":524288,\"lane_bytes\":1048576,\"bad_records\":3,"
        "\"refused_reason\":\"header is 12 bytes\",\"pss_bytes\":0}],"
        "\"trainer\":{\"pid\":4712,\"state\":\"training\",\"device\":\"cpu\",\"restarts\":0,\"last_exit\":"
        "null,"
        "\"heartbeat_age_s\":0.2,\"pss_bytes\":124000000,\"private_dirty_bytes\":58000000},"
        "\"intake\":{\"records\":9000,\"samples\":217600,\"bad_records\":0,\"duplicates\":0,\"reset_bytes\":"
        "0,"
        "\"lanes_reset\":0},\"spill\":{\"files\":3,\"bytes\":300000,\"oldest_age_s\":12,\"in_samples_per_s\":"
        "61.7,"
        "\"out_samples_per_s\":0,\"spilled_samples\":800,\"taken_samples\":0,\"taken_files\":0,\"rejected\":"
        "1},\"disk\":{\"state_bytes\":52000000,\"window_bytes\":40000000,\"free_bytes\":34e9}"
        "}";

static const char expected[] =
        "azpard 0.1.0, instance default, pid 4711, running for 3 min 12 s\n"
        "state      training\n"
        "game       connect4\n"
        "directory  /var/lib/azpar/default\n"
        "model      generation 12, 4.10 s old; workers behind: 1, lag 3.20 ms (greatest 48 ms)\n"
        "training   step 3400, 12.3 steps/s, 870k samples, learning rate 0.001\n"
        "loss       policy 1.235, value 0.5, total 1.735; smoothed 1.3, 0.6, 1.9\n"
        "limiter    3.98 trained per sample inserted, target 4; 1.20k may be trained now; workers wait for "
        "the trainer\n"
        "published  34 times, the last in 12 ms, 4.20 s ago\n"
        "checkpoint step 3000, 32 s old\n"
        "window     12.3k of 100k samples (12%), 218k inserted, 0 damaged\n"
        "per second 123 samples, 5.50 games, 12.3k simulations, 11k evaluations\n"
        "so far     218k samples, 9k games, 21M simulations, 20M evaluations\n"
        "intake     9k records; bad 0, duplicates 0, lanes reset 0 (0 B)\n"
        "spill      3 files wait (300 kB, the oldest 12 s old); samples in 61.7/s, out 0/s; 0 taken in\n"
        "           1 files set aside in spill/rejected\n"
        "disk       52 MB, of it the window 40 MB; 34 GB free\n"
        "trainer    pid 4712, training on cpu, restarts 0, last exit -, heard of 200 ms ago, memory 124 MB\n"
        "workers    2, wanted 2\n"
        "slot     pid state       games/s   sims/s  evals/s  model      lag  lane restarts   memory\n"
        "   0    4713 running        2.75    6.17k    5.50k     12  3.20 ms    0%        0    24 MB\n"
        "   1    4714 parked            0        0        0     11     5 ms   50%        6      0 B\n"
        "     refused a model: header is 12 bytes\n"
        "     wrote bad records: 3\n"
        "     last exit: killed by signal 9\n";

/* Owned by the caller. */
static char *shown(const cJSON *status) {
        char *text = NULL;
        size_t n;
        FILE *out = open_memstream(&text, &n);

        assert_non_null(out);
        show_status(status, out);
        assert_int_equal(fclose(out), 0);
        return text;
}

static size_t n_lines(const char *text) {
        size_t n = 0;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

static void test_whole(void **state) {
        cJSON *status = cJSON_Parse(whole);
        char *text;

        (void) state;
        assert_non_null(status);
        text = shown(status);
        assert_string_equal(text, expected);
        for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
                assert_in_range(strcspn(line, "\n"), 1, 110);
        free(text);
        cJSON_Delete(status);
}

static void test_loss_none_yet(void **state) {
        cJSON *status = cJSON_Parse(whole);
        char *text;

        (void) state;
        cJSON_ReplaceItemInObject(status, "loss", cJSON_CreateNull());
        cJSON_ReplaceItemInObject(status, "reason", cJSON_CreateString("the disk is \x1b[2Jfull"));
        text = shown(status);
        assert_non_null(strstr(text, "loss       none yet\n"));
        assert_non_null(strstr(text, "state      training: the disk is ?[2Jfull\n"));
        free(text);
        cJSON_Delete(status);
}

/* The @k-th item below @parent, counted as they stand in the text; NULL: there are not so many. */
static cJSON *nth(cJSON *parent, size_t *k) {
        cJSON *i, *below;

        cJSON_ArrayForEach(i, parent) {
                if ((*k)-- == 0)
                        return i;
                below = nth(i, k);
                if (below)
                        return below;
        }
        return NULL;
}

/* Make @i, whatever it was, a @type. */
static void turn_into(cJSON *i, int type) {
        cJSON_Delete(i->child);
        i->child = NULL;
        cJSON_free(i->valuestring);
        i->valuestring = NULL;
        i->type = type;
        i->valuedouble = -1e308;
        if (type == cJSON_String) {
                i->valuestring = cJSON_malloc(201);
                memset(i->valuestring, '\n', 200);
                i->valuestring[200] = 0;
        }
}

static void test_each_field_of_another_type(void **state) {
        static const int types[] = { cJSON_NULL,   cJSON_True,  cJSON_Number,
                                     cJSON_String, cJSON_Array, cJSON_Object };
        size_t n_fields = 0;

        (void) state;
        for (bool more = true; more; n_fields++) {
                for (size_t t = 0; t < N_ELEMENTS(types); t++) {
                        cJSON *status = cJSON_Parse(whole), *i;
                        size_t k = n_fields;
                        char *text;

                        i = nth(status, &k);
                        more = i != NULL;
                        if (i)
                                turn_into(i, types[t]);
                        text = shown(status);
                        assert_in_range(n_lines(text), n_lines(expected) - 5, n_lines(expected) + 3);
                        free(text);
                        cJSON_Delete(status);
                }
        }
        assert_in_range(n_fields, 100, 1000);
}

static void test_nothing_there(void **state) {
        static const char *const texts[] = { "{}",
                                             "[]",
                                             "null",
                                             "{\"workers\":[{}]}",
                                             "{\"workers\":[1,null,[]]}",
                                             "{\"workers\":{}}",
                                             "{\"loss\":{}}" };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                cJSON *status = cJSON_Parse(texts[i]);
                char *text = shown(status);

                assert_non_null(strstr(text, "azpard -, instance -, pid -, running for -\n"));
                assert_in_range(n_lines(text), 17, 21);
                free(text);
                cJSON_Delete(status);
        }
}

static char *shown_reload(const char *answer) {
        cJSON *parsed = cJSON_Parse(answer);
        char *text = NULL;
        size_t n;
        FILE *out = open_memstream(&text, &n);

        assert_non_null(out);
        show_reload(parsed, out);
        assert_int_equal(fclose(out), 0);
        cJSON_Delete(parsed);
        return text;
}

static void test_reload(void **state) {
        static const struct {
                const char *answer, *shown;
        } rows[] = {
                { "{\"ok\":true,\"changed\":[],\"restart\":[]}", "nothing has changed\n" },
                { "{\"changed\":[{\"key\":\"replay.ratio\",\"from\":\"4\",\"to\":\"8\",\"effect\":\"at "
                  "once\"}],"
                  "\"restart\":[{\"key\":\"network.blocks\",\"from\":\"5\",\"to\":\"6\",\"effect\":\"needs a "
                  "restart of azpard\"}]}",
                  "replay.ratio: 4 -> 8: at once\n"
                  "network.blocks: 5 -> 6: needs a restart of azpard\n" },
                { "{\"changed\":[1,{\"key\":\"\\u001b[2J\"}],\"restart\":{}}",
                  "-: - -> -: -\n?[2J: - -> -: -\n" },
                { "null", "nothing has changed\n" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                char *text = shown_reload(rows[i].answer);

                assert_string_equal(text, rows[i].shown);
                free(text);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole),
                cmocka_unit_test(test_loss_none_yet),
                cmocka_unit_test(test_each_field_of_another_type),
                cmocka_unit_test(test_nothing_there),
                cmocka_unit_test(test_reload),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
