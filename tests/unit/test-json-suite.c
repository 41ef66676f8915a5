/* SPDX-License-Identifier: MIT */
/*
 * The JSON parsing suite of Nicolas Seriot (tests/fuzz/corpus/batch-file/README.md): each case as the value
 * of a key that azpar does not know, in a sample that is otherwise sound.  y_: must be read, n_: must be
 * refused, i_: either.  And each case as the whole file, which none of them is.
 */
#include "common/exchange/batch_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/file.h"

#define FOLDER "tests/fuzz/corpus/batch-file"

static const char before[] = "[{\"board\":[1,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1],"
                             "\"policy\":[0,0,0.25,0,0,0,0,0,0.75],\"value\":-1,\"x\":",
                  behind[] = "}]";

/*
 * Read @text to its end, in a block without a byte to spare, @step bytes more at a time.  Return: samples, or
 * the error, which is the same for every @step.
 */
static int read_all(const struct game *g, const char *text, size_t n, size_t step, struct error *e) {
        struct batch_file_reader r;
        struct batch_file_item item;
        size_t at = 0, window = 0, used;
        int x;

        batch_file_reader_init(&r, g);
        do {
                cleanup_(freep) char *exact = NULL;

                window = MIN(n - at, window + step);
                exact = malloc(window > 0 ? window : 1);
                memcpy(exact, text + at, window);
                x = batch_file_read(&r, exact, window, at + window == n, &used, &item, e);
                if (x >= 0) {
                        at += used;
                        window -= used;
                }
        } while (x == 0 || x == BATCH_FILE_E_MORE);
        return x < 0 ? x : (int) r.n_samples;
}

static int read_both_ways(const struct game *g, const char *text, size_t n) {
        struct error whole = ERROR_INIT, pieces = ERROR_INIT;
        int x = read_all(g, text, n, n + 1, &whole);

        assert_int_equal(read_all(g, text, n, n > 5000 ? 4096 : 1, &pieces), x);
        assert_string_equal(whole.text, pieces.text);
        return x;
}

static void check_case(const struct game *g, const char *name, const char *text, size_t n) {
        size_t n_before = sizeof(before) - 1, n_behind = sizeof(behind) - 1, n_all = n_before + n + n_behind;
        cleanup_(freep) char *all = malloc(n_all);
        int x;

        memcpy(all, before, n_before);
        memcpy(all + n_before, text, n);
        memcpy(all + n_before + n, behind, n_behind);
        x = read_both_ways(g, all, n_all);
        if (x != -EBADMSG && name[0] == 'n')
                fail_msg("%s is read", name);
        if (x != 1 && name[0] == 'y')
                fail_msg("%s is refused", name);
        assert_true(x == 1 || x == -EBADMSG);
        /* alone it holds no sample; an empty array is a file without any */
        x = read_both_ways(g, text, n);
        assert_true(x == -EBADMSG || (x == 0 && name[0] == 'y'));
}

static void reads_the_suite(void **state) {
        cleanup_(game_freep) struct game *g = NULL;
        unsigned counts[256] = { 0 };
        DIR *folder = opendir(FOLDER);
        struct dirent *entry;

        (void) state;
        assert_int_equal(game_from_rules("tictactoe:3x3:3", &g, NULL), 0);
        assert_non_null(folder);
        while ((entry = readdir(folder))) {
                struct error e = ERROR_INIT;
                struct file_map f;

                if (!strchr("yni", entry->d_name[0]) || entry->d_name[1] != '_')
                        continue;
                if (file_read(dirfd(folder), entry->d_name, 1 << 20, &f, &e) < 0)
                        fail_msg("%s", e.text);
                check_case(g, entry->d_name, f.n_bytes > 0 ? (const char *) f.bytes : "", f.n_bytes);
                file_map_close(&f);
                counts[(unsigned char) entry->d_name[0]]++;
        }
        (void) closedir(folder);
        /* two of the 188 n_ cases are made below */
        assert_int_equal(counts['y'], 95);
        assert_int_equal(counts['n'], 186);
        assert_int_equal(counts['i'], 35);
}

/* n_structure_100000_opening_arrays and n_structure_open_array_object, which are not worth keeping as files.
 */
static void refuses_the_deep_ones(void **state) {
        cleanup_(game_freep) struct game *g = NULL;
        const size_t n = 250001;
        cleanup_(freep) char *text = malloc(n);

        (void) state;
        assert_int_equal(game_from_rules("tictactoe:3x3:3", &g, NULL), 0);
        memset(text, '[', n);
        check_case(g, "n_structure_100000_opening_arrays", text, 100000);
        for (size_t i = 0; i + 5 <= n; i += 5)
                memcpy(text + i, "[{\"\":", 5);
        text[n - 1] = '\n';
        check_case(g, "n_structure_open_array_object", text, n);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reads_the_suite),
                cmocka_unit_test(refuses_the_deep_ones),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
