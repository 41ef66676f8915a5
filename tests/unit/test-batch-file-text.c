/* SPDX-License-Identifier: MIT */
/*
 * Texts of batch files by hand: every refusal with its place, every notation that is allowed, and what a
 * sample without the key azpar is completed to.
 */
#include "tests/unit/fixture-batch-file.h"

#define BOARD  "\"board\":[1,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1]"
#define POLICY "\"policy\":[0,0,0.13,0,0,0,0,0,0.87]"
#define AZPAR                                                                                                \
        "\"azpar\":{\"version\":1,\"origin\":\"0123456789abcdef\",\"slot\":3,\"incarnation\":17,"            \
        "\"sequence\":4242,"                                                                                 \
        "\"generation\":42,\"rules\":\"tictactoe:3x3:3\",\"ply\":2,\"visits\":[2,13,8,87],\"root_value\":0." \
        "125,"                                                                                               \
        "\"weight\":1,\"crc\":4092567407}"
#define SAMPLE "{" BOARD "," POLICY ",\"value\":-1," AZPAR "}"
#define PLAIN  "{" BOARD "," POLICY ",\"value\":-1}"

/* @find in a sound sample becomes @put, and the message is "sample 1 (byte N): @message", with %P the place
 * of @find. */
struct refusal {
        const char *find, *put, *message;
};

static void check_refusal(const struct game *g, const char *sample, const struct refusal *c, struct rng *r) {
        static const char first[] = "[" PLAIN ",";
        const char *found = strstr(sample, c->find), *mark = strstr(c->message, "%P");
        cleanup_(result_free) struct result whole = { 0 }, pieces = { 0 };
        cleanup_(text_free) struct text t = { 0 };
        char want[512];
        size_t place;

        assert_non_null(found);
        text_add(&t, "%s%.*s", first, (int) (found - sample), sample);
        place = t.n;
        text_add(&t, "%s%s]", c->put, found + strlen(c->find));
        (void) snprintf(want, sizeof(want), "sample 1 (byte %zu): %.*s", sizeof(first) - 1,
                        mark ? (int) (mark - c->message) : (int) strlen(c->message), c->message);
        if (mark) /* "%P+7" */
                (void) snprintf(want + strlen(want), sizeof(want) - strlen(want), "%zu%s",
                                place + strtoul(mark + 3, NULL, 10),
                                mark + 3 + strspn(mark + 3, "0123456789"));
        whole = read_whole(g, t.bytes, t.n);
        pieces = read_file(g, t.bytes, t.n, r, 1);
        assert_int_equal(whole.r, -EBADMSG);
        assert_int_equal(whole.n, 1);
        assert_string_equal(whole.e.text, want);
        assert_results_equal(g, &whole, &pieces);
}

static void refuses_with_the_place(void **state) {
        static const struct refusal cases[] = {
                { "[1,0,", "[2,0,", "board[0] at byte %P+1: 0 or 1 expected, found '2'" },
                { "[1,0,", "[1,0.5,", "board[1] at byte %P+3: 0 or 1 expected, found '0'" },
                { "[1,0,", "[1,-1,", "board[1] at byte %P+3: 0 or 1 expected, found '-'" },
                { "[1,0,", "[1,01,",
                  "board[1] at byte %P+4: no digit after a leading 0 expected, found '1'" },
                { "[1,0,", "[1,+1,", "board[1] at byte %P+3: a number expected, found '+'" },
                { "[1,0,", "[1,.5,", "board[1] at byte %P+3: a number expected, found '.'" },
                { "[1,0,", "[1,1.,", "board[1] at byte %P+5: a digit expected, found ','" },
                { "[1,0,", "[1,1e,", "board[1] at byte %P+5: a digit expected, found ','" },
                { "[1,0,", "[1,NaN,", "board[1] at byte %P+3: a number expected, found 'N'" },
                { "[1,0,", "[1,true,", "board[1] at byte %P+3: a number expected, found 't'" },
                { "[1,0,", "[1,-Infinity,", "board[1] at byte %P+4: a digit expected, found 'I'" },
                { "[1,0,", "[1,1e400,", "board[1] at byte %P+3: a number below 1.8e308 expected, found '1'" },
                { "[1,0,", "[1,,", "board[1] at byte %P+3: a number expected, found ','" },
                { "1,1,1]", "1,1,1,]",
                  "board[26] at byte %P+5: ']' after number 27 of 27 expected, found ','" },
                { "1,1,1]", "1,1]", "board[25] at byte %P+3: ',' after number 26 of 27 expected, found ']'" },
                { "1,1,1]", "1,1,]", "board[26] at byte %P+4: a number expected, found ']'" },
                { "\"board\":[", "\"board\":{", "board at byte %P+8: '[' expected, found '{'" },
                { "\"board\":[", "\"board\" [", "byte %P+8: ':' expected, found '['" },
                { "0.13", "-0.13", "policy[2] at byte %P+0: a share from 0 to 1 expected, found '-'" },
                { "0.13", "1.13", "policy[2] at byte %P+0: a share from 0 to 1 expected, found '1'" },
                { "0.87]", "0.87,0]", "policy[8] at byte %P+4: ']' after number 9 of 9 expected, found ','" },
                { "0,0.87]", "0.87]", "policy[7] at byte %P+4: ',' after number 8 of 9 expected, found ']'" },
                { "\"value\":-1", "\"value\":-0.5", "value at byte %P+8: -1, 0 or 1 expected, found '-'" },
                { "\"value\":-1", "\"value\":2", "value at byte %P+8: -1, 0 or 1 expected, found '2'" },
                { "\"value\":-1", "\"value\":null", "value at byte %P+8: a number expected, found 'n'" },
                { "\"value\":-1", "\"value\":-1,\"value\":-1",
                  "byte %P+11: no second key 'value' expected, found '\"'" },
                { "\"value\":-1", "\"value\":-1,\"\\u0076alue\":-1",
                  "byte %P+11: no second key 'value' expected, found '\"'" },
                { "{\"board\"", "{,\"board\"", "byte %P+1: '\"' expected, found ','" },
                { "{\"board\"", "{board\"", "byte %P+1: '\"' expected, found 'b'" },
                { "{\"board\"", "{\"\xff\":0,\"board\"", "byte %P+2: UTF-8 expected, found byte 0xff" },
                { "{\"board\"", "{\"a\nb\":0,\"board\"",
                  "byte %P+3: an escape of the control character expected, found byte 0x0a" },
                { "{\"board\"", "{\"x\":[1,],\"board\"", "byte %P+8: a value expected, found ']'" },
                { "{\"board\"", "{\"x\":01,\"board\"",
                  "byte %P+6: no digit after a leading 0 expected, found '1'" },
        };
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct rng r;

        (void) state;
        rng_seed(&r, 39, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                for (unsigned k = 0; k < 2; k++)
                        check_refusal(g, k ? SAMPLE : PLAIN, &cases[i], &r);
}

static void refuses_what_is_missing(void **state) {
        static const struct refusal cases[] = {
                { BOARD ",", "", "byte %P+45: a key 'board' expected, found '}'" },
                { POLICY ",", "", "byte %P+10: a key 'policy' expected, found '}'" },
                { ",\"value\":-1", "", "byte %P+0: a key 'value' expected, found '}'" },
                { PLAIN, "{}", "byte %P+1: a key 'board' expected, found '}'" },
        };
        static const struct refusal others[] = {
                { POLICY, "\"policy\":[0,0,0,0,0,0,0,0,0]",
                  "policy at byte %P+9: a sum of 1 expected, found '['" },
                { POLICY, "\"policy\":[0,0,0,0,0,0,0,0,0.998]",
                  "policy at byte %P+9: a sum of 1 expected, found '['" },
                { POLICY, "\"policy\":[0,0,0,0,0,0,0,1,0.002]",
                  "policy at byte %P+9: a sum of 1 expected, found '['" },
                { BOARD, "\"board\":[1,1,1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1]",
                  "board: 9 stones, at most 8 expected" },
        };
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct rng r;

        (void) state;
        rng_seed(&r, 40, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                check_refusal(g, PLAIN, &cases[i], &r);
        for (size_t i = 0; i < N_ELEMENTS(others); i++)
                check_refusal(g, PLAIN, &others[i], &r);
}

static void refuses_wrong_azpar(void **state) {
        static const struct refusal cases[] = {
                { "\"version\":1", "\"version\":2",
                  "azpar.version at byte %P+10: version 1 expected, found '2'" },
                { "\"version\":1", "\"version\":1.0",
                  "azpar.version at byte %P+11: an integer in digits only expected, found '.'" },
                { "\"version\":1,", "", "azpar at byte %P+187: a key 'version' expected, found '}'" },
                { "\"origin\":\"0", "\"origin\":\"",
                  "azpar.origin at byte %P+9: 16 of 0123456789abcdef, not all 0, expected, found '\"'" },
                { "\"origin\":\"0", "\"origin\":\"00",
                  "azpar.origin at byte %P+9: 16 of 0123456789abcdef, not all 0, expected, found '\"'" },
                { "\"origin\":\"0", "\"origin\":\"A",
                  "azpar.origin at byte %P+9: 16 of 0123456789abcdef, not all 0, expected, found '\"'" },
                { "\"slot\":3", "\"slot\":1024",
                  "azpar.slot at byte %P+7: at most 1023 expected, found '1'" },
                { "\"slot\":3", "\"slot\":-3",
                  "azpar.slot at byte %P+7: an unsigned integer expected, found '-'" },
                { "\"slot\":3", "\"slot\":3,\"slot\":3",
                  "azpar at byte %P+9: no second key 'slot' expected, found '\"'" },
                { "17,", "18446744073709551616,",
                  "azpar.incarnation at byte %P+0: at most 18446744073709551615 expected, found '1'" },
                { "\"rules\":\"", "\"rules\":\"a",
                  "azpar.rules at byte %P+8: \"tictactoe:3x3:3\" expected, found '\"'" },
                { "\"ply\":2", "\"ply\":9", "azpar.ply at byte %P+6: at most 8 expected, found '9'" },
                { "[2,13,8,87]", "[]",
                  "azpar.visits[0] at byte %P+1: an unsigned integer expected, found ']'" },
                { "[2,13,8,87]", "[2]", "azpar.visits[0] at byte %P+2: ',' and visits expected, found ']'" },
                { "[2,13,8,87]", "[2,13,8]",
                  "azpar.visits[2] at byte %P+7: ',' and visits expected, found ']'" },
                { "[2,13,8,87]", "[2,13,9,87]",
                  "azpar.visits[2] at byte %P+6: at most 8 expected, found '9'" },
                { "[2,13,8,87]", "[2,13,2,87]",
                  "azpar.visits[2] at byte %P+6: a move above the one before expected, found '2'" },
                { "[2,13,8,87]", "[2,13,8,0]",
                  "azpar.visits[3] at byte %P+8: visits, 1 or more, expected, found '0'" },
                { "[2,13,8,87]", "[2,65536,8,87]",
                  "azpar.visits[1] at byte %P+3: at most 65535 expected, found '6'" },
                { "[2,13,8,87]", "[2,14,8,87]", "policy[2]: 0.13, but by azpar.visits it is 0.138614" },
                { "[2,13,8,87]", "[1,13,8,87]", "policy[1]: 0, but by azpar.visits it is 0.13" },
                { "[2,13,8,87]", "[8,87]", "policy[2]: 0.13, but by azpar.visits it is 0" },
                { "0.13", "0.130002", "policy[2]: 0.130002, but by azpar.visits it is 0.13" },
                { "0.125", "1.0011",
                  "azpar.root_value at byte %P+0: a number from -1 to 1 expected, found '1'" },
                { "0.125", "1e200",
                  "azpar.root_value at byte %P+0: a number from -1 to 1 expected, found '1'" },
                { "\"weight\":1", "\"weight\":-1",
                  "azpar.weight at byte %P+9: a number from 0 to 1000 expected, found '-'" },
                { "\"weight\":1", "\"weight\":1001",
                  "azpar.weight at byte %P+9: a number from 0 to 1000 expected, found '1'" },
                { "4092567407", "4294967296",
                  "azpar.crc at byte %P+0: at most 4294967295 expected, found '4'" },
        };
        static const char sample[] = SAMPLE;
        /* the texts of these end with a number that is not worth having here */
        static const struct refusal damaged[] = {
                { "\"slot\":3", "\"slot\":4", "" },
                { ":17,", ":18,", "" },
                { ":4242,", ":4243,", "" },
                { ":42,", ":43,", "" },
                { "\"ply\":2", "\"ply\":3", "" },
                { ":0.125", ":0.1250001", "" },
                { "\"weight\":1", "\"weight\":2", "" },
                { "4092567407", "4092567406", "" },
                { "\"value\":-1", "\"value\":1", "" },
                { "[1,0,", "[0,0,", "" },
                { "[2,13,8,87]", "[2,26,8,174]", "" },
        };
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct rng r;

        (void) state;
        rng_seed(&r, 41, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                check_refusal(g, SAMPLE, &cases[i], &r);
        for (size_t i = 0; i < N_ELEMENTS(damaged); i++) {
                const char *found = strstr(sample, damaged[i].find);
                cleanup_(result_free) struct result got = { 0 };
                cleanup_(text_free) struct text t = { 0 };

                text_add(&t, "[%.*s%s%s]", (int) (found - sample), sample, damaged[i].put,
                         found + strlen(damaged[i].find));
                got = read_whole(g, t.bytes, t.n);
                assert_int_equal(got.r, -EBADMSG);
                assert_non_null(strstr(got.e.text, "sample 0 (byte 1): azpar.crc: "));
        }
}

/* Other ways to write the same */

static void check_reads_as(const struct game *g, const char *text, const struct batch_file_item *want) {
        cleanup_(result_free) struct result got = read_whole(g, text, strlen(text));

        if (got.r < 0)
                fail_msg("%s: %s", text, got.e.text);
        assert_int_equal(got.n, 1);
        assert_items_equal(g, &got.items[0], want);
}

static void reads_other_notations(void **state) {
        static const char *const same[] = {
                "[{\"value\":-1," POLICY "," BOARD "}]",
                "[{\"\\u0076al\\u0075e\":-1,\"p\\u006Flicy\":[0,0,13e-2,0,0,0,0,0,0.87E0],\"boar\\u0064\":"
                "[1.0,0e7,-0,0.00,-0.0,0,0,0,0,0,1e0,0,0,0,0,0,0,0,1,10E-1,0.1e1,1.000,1,1,1,1,1]}]",
                "[{\"a\":{\"board\":0,\"azpar\":[]},\"a\":1,\"Board\":\"\"," BOARD "," POLICY
                ",\"value\":-1.0e0}]",
                "[{\"azpar \":1,\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\":null,\"board\\u0000\":[]," BOARD
                "," POLICY ",\"value\":-1}]",
        };
        cleanup_(game_freep) struct game *g = fixture_game(0);
        cleanup_(result_free) struct result plain = read_whole(g, "[" PLAIN "]", sizeof("[" PLAIN "]") - 1),
                                            full = read_whole(g, "[" SAMPLE "]", sizeof("[" SAMPLE "]") - 1);

        (void) state;
        assert_int_equal(plain.n, 1);
        assert_int_equal(full.n, 1);
        assert_true(full.items[0].origin == ORIGIN && full.items[0].sample.id.sequence == 4242);
        for (size_t i = 0; i < N_ELEMENTS(same); i++)
                check_reads_as(g, same[i], &plain.items[0]);
        check_reads_as(g, "[{" AZPAR "," BOARD ",\"value\":-1," POLICY "}]", &full.items[0]);
        check_reads_as(
                g, "[ {" BOARD ",\"value\":-1,\"policy\":[0,0,0.1300000001,1e-9,0,0,0,0,0.87]," AZPAR "} ] ",
                &full.items[0]);
        check_reads_as(
                g,
                "[{\"azpar\":{\"crc\":4092567407,\"more\":[{}],\"weight\":1e0,\"root_value\":12.5e-2,"
                "\"visits\" : [ 2 , 13 , 8 , 87 ] "
                ",\"ply\":2,\"rules\":\"tictactoe\\u003a3x3:3\",\"generation\":42,"
                "\"sequence\":4242,\"incarnation\":17,\"slot\":3,\"origin\":\"0123456789abcde\\u0066\","
                "\"version\":1}," BOARD "," POLICY ",\"value\":-1}]",
                &full.items[0]);
}

/* Without the key: what follows from the three others. */
static void completes_plain_samples(void **state) {
        static const struct {
                const char *policy;
                bool is_f32, is_rounded;
                struct sample_visit visits[3];
        } cases[] = {
                { "0,0,0.13,0,0,0,0,0,0.87", false, false, { { 2, 13 }, { 8, 87 } } },
                { "0,0,1.0,0,0,0,0,0,0", false, false, { { 2, 1 } } },
                { "0.5,0,0,0,0,0,0,0.25,0.25", false, false, { { 0, 2 }, { 7, 1 }, { 8, 1 } } },
                { "0.3333333333333333,0,0,0,0,0,0,0,0.6666666666666666",
                  false,
                  false,
                  { { 0, 1 }, { 8, 2 } } },
                { "0.33333333333333331,0,0,0,0,0,0,0,0.66666666666666663",
                  false,
                  false,
                  { { 0, 1 }, { 8, 2 } } },
                { "0.33333334,0,0,0,0,0,0,0,0.6666667", true, false, { { 0, 1 }, { 8, 2 } } },
                { "0.3333333432674408,0,0,0,0,0,0,0,0.6666666865348816",
                  false,
                  true,
                  { { 0, 1 }, { 8, 2 } } },
                /* 0.2 and 0.8 are 13107 and 52428 of 65535 */
                { "0.2000001,0,0,0,0,0,0,0,0.7999998", false, true, { { 0, 1 }, { 8, 4 } } },
        };
        cleanup_(game_freep) struct game *g = fixture_game(0);

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct batch_file_item want = { .shares_are_f32 = cases[i].is_f32,
                                                .is_rounded = cases[i].is_rounded };
                struct sample *s = &want.sample;
                char text[512];

                s->root_value = s->outcome = -1;
                s->weight = 1;
                s->ply = 2;
                memcpy(s->planes, "\x01\x04\xfc\x07", 4);
                while (s->n_visits < 3 && cases[i].visits[s->n_visits].visits > 0) {
                        s->visits[s->n_visits] = cases[i].visits[s->n_visits];
                        s->n_visits++;
                }
                (void) snprintf(text, sizeof(text), "[{" BOARD ",\"policy\":[%s],\"value\":-1}]",
                                cases[i].policy);
                check_reads_as(g, text, &want);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(refuses_with_the_place),  cmocka_unit_test(refuses_what_is_missing),
                cmocka_unit_test(refuses_wrong_azpar),     cmocka_unit_test(reads_other_notations),
                cmocka_unit_test(completes_plain_samples),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
