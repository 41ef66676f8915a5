/* SPDX-License-Identifier: MIT */
/*
 * Spilling: what is added lies in files afterwards, each sample once and exact, whatever the disk does
 * meanwhile; by io_uring and by plain calls.
 *
 * spill.c is included with a clock that stands still until it is told, and so that io_uring and
 * RENAME_NOREPLACE can be refused and the sync of the folder fail.
 */
#include "tests/unit/fixture-spill.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include "common/base/clock.h"
#include "common/base/disk.h"

static uint64_t test_now_ns = NS_PER_S;
static bool allow_uring, refuse_noreplace;
static int bad_sync_fd; /* of what disk_sync() shall fail on; -1: nothing */

static uint64_t test_clock(void) {
        return test_now_ns;
}

static int test_disk_new(bool with_event, bool allow, struct disk **ret, int *ret_refused) {
        return disk_new(with_event, allow && allow_uring, ret, ret_refused);
}

static void test_disk_rename(struct disk *d, struct disk_request *r, int old_fd, const char *old, int new_fd,
                             const char *new, unsigned flags) {
        /* the kernel refuses a flag that it does not know as file systems refuse RENAME_NOREPLACE */
        disk_rename(d, r, old_fd, old, new_fd, new, flags && refuse_noreplace ? 1u << 20 : flags);
}

static void test_disk_sync(struct disk *d, struct disk_request *r, int fd, bool only_data) {
        disk_sync(d, r, fd == bad_sync_fd ? -1 : fd, only_data);
}

#define clock_now_ns test_clock
#define disk_new     test_disk_new
#define disk_rename  test_disk_rename
#define disk_sync    test_disk_sync
#include "worker/spill.c"
#undef clock_now_ns

#define SLOT      3
#define FOLDER    "spill/worker_3"
#define ORIGIN    UINT64_C(0x1234567890abcdef)
#define NO_LIMIT  UINT64_MAX
#define MAX_GAMES 4000
#define WAIT_NS   (30 * NS_PER_S)

struct fixture {
        char directory[64];
        int state_fd;
        struct game *game;
        struct spill *spill;
        unsigned char *record;
        uint64_t incarnation;
        unsigned n_games; /* added */
        struct sample_id first[MAX_GAMES];
        uint64_t n_samples, next_sequence;
};

static void open_spill(struct fixture *f) {
        int refused = 0;

        f->incarnation++;
        f->next_sequence = 0;
        assert_int_equal(spill_new(f->game, f->state_fd, SLOT, ORIGIN, &f->spill, &refused), 0);
}

static int set_up_with(void **state, bool uring) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        allow_uring = uring;
        refuse_noreplace = false;
        bad_sync_fd = -1;
        f->game = fixture_game(GAME_CONNECT4);
        (void) strcpy(f->directory, "/tmp/test-spill-XXXXXX");
        f->state_fd = fixture_folder(f->directory);
        f->record = malloc(sample_record_max_bytes(f->game));
        assert_non_null(f->record);
        open_spill(f);
        *state = f;
        return 0;
}

static int set_up_uring(void **state) {
        return set_up_with(state, true);
}

static int set_up_plain(void **state) {
        return set_up_with(state, false);
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        fixture_obey_modes(false);
        spill_free(f->spill);
        fixture_remove(f->directory);
        (void) close(f->state_fd);
        game_free(f->game);
        free(f->record);
        free(f);
        return 0;
}

/* The record of the game that begins at @first. Return: its length. */
static size_t make_record(struct fixture *f, struct sample_id first, unsigned *ret_n_samples) {
        struct sample samples[GAME_MAX_PLIES];
        size_t length = 0;

        *ret_n_samples = fixture_play(f->game, first, samples);
        assert_int_equal(sample_encode_record(f->game, samples, *ret_n_samples, f->record,
                                              sample_record_max_bytes(f->game), &length),
                         0);
        return length;
}

/* One game more. Return: what spill_add() does. */
static int add(struct fixture *f) {
        struct sample_id first = { SLOT, f->incarnation, f->next_sequence };
        struct error e = ERROR_INIT;
        unsigned n_samples;
        size_t length = make_record(f, first, &n_samples);
        int r = spill_add(f->spill, f->record, length, &e);

        if (r < 0)
                fail_msg("%s", e.text);
        if (r > 0)
                return r;
        assert_true(f->n_games < MAX_GAMES);
        f->first[f->n_games++] = first;
        f->next_sequence += n_samples;
        f->n_samples += n_samples;
        return 0;
}

static void add_games(struct fixture *f, unsigned n) {
        while (n-- > 0)
                assert_int_equal(add(f), 0);
}

/* Poll until no request is on its way, which may be with files left to be written. */
static void poll_to_rest(struct fixture *f, uint64_t max_bytes, bool flush) {
        uint64_t begin_ns = clock_now_ns();

        do {
                spill_poll(f->spill, max_bytes, flush);
                disk_drain(f->spill->disk);
                assert_true(clock_now_ns() - begin_ns < WAIT_NS);
        } while (f->spill->step != STEP_REST);
}

static void write_all(struct fixture *f) {
        uint64_t begin_ns = clock_now_ns();

        while (!spill_is_idle(f->spill)) {
                spill_poll(f->spill, NO_LIMIT, true);
                assert_true(clock_now_ns() - begin_ns < WAIT_NS);
        }
        assert_int_equal(spill_counters(f->spill)->error, 0);
}

static int compare_numbers(const void *a, const void *b) {
        const uint64_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

/* Numbers of the batch files in @folder, ascending. Return: how many. */
static size_t numbers_in(const struct fixture *f, const char *folder, uint64_t *ret, size_t max) {
        int fd = openat(f->state_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *d;
        size_t n = 0;

        while (dir && (d = readdir(dir))) {
                if (d->d_name[0] == '.')
                        continue;
                assert_true(n < max);
                if (spill_folder_parse_name(d->d_name, &ret[n]))
                        n++;
        }
        if (dir)
                (void) closedir(dir);
        qsort(ret, n, sizeof(*ret), compare_numbers);
        return n;
}

/* The files of @folder hold game @from and those after it up to @to, in order of numbers, exactly. */
static void check_files_in(const struct fixture *f, const char *folder, unsigned from, unsigned to) {
        struct batch_file_item *items = calloc(GAME_MAX_PLIES * 200, sizeof(*items));
        struct sample want[GAME_MAX_PLIES];
        uint64_t numbers[MAX_GAMES];
        size_t n_files = numbers_in(f, folder, numbers, MAX_GAMES);
        unsigned game = from, n_want = 0, at = 0;

        assert_non_null(items);
        for (size_t i = 0; i < n_files; i++) {
                char name[SPILL_FOLDER_NAME_MAX], path[3 * SPILL_FOLDER_NAME_MAX];
                size_t n;

                spill_folder_name(numbers[i], name);
                (void) snprintf(path, sizeof(path), "%s/%s", folder, name);
                n = fixture_read_batch(f->game, f->state_fd, path, items, GAME_MAX_PLIES * 200);
                assert_true(n > 0);
                for (size_t k = 0; k < n; k++) {
                        if (at == n_want) {
                                assert_true(game < to);
                                n_want = fixture_play(f->game, f->first[game++], want);
                                at = 0;
                        }
                        assert_int_equal(items[k].origin, ORIGIN);
                        assert_false(items[k].is_rounded);
                        fixture_assert_equal(f->game, &want[at++], &items[k].sample);
                }
                assert_int_equal(at, n_want); /* never half a game in a file */
        }
        assert_int_equal(game, to);
        free(items);
}

static void check_files(const struct fixture *f, unsigned from) {
        check_files_in(f, FOLDER, from, f->n_games);
}

static size_t n_files(const struct fixture *f) {
        uint64_t numbers[MAX_GAMES];

        return numbers_in(f, FOLDER, numbers, MAX_GAMES);
}

static uint64_t file_bytes(const struct fixture *f, uint64_t number) {
        char name[SPILL_FOLDER_NAME_MAX], path[3 * SPILL_FOLDER_NAME_MAX];
        struct stat st;

        spill_folder_name(number, name);
        (void) snprintf(path, sizeof(path), FOLDER "/%s", name);
        assert_int_equal(fstatat(f->state_fd, path, &st, 0), 0);
        return (uint64_t) st.st_size;
}

static void remove_file(const struct fixture *f, uint64_t number) {
        char name[SPILL_FOLDER_NAME_MAX], path[3 * SPILL_FOLDER_NAME_MAX];

        spill_folder_name(number, name);
        (void) snprintf(path, sizeof(path), FOLDER "/%s", name);
        assert_int_equal(unlinkat(f->state_fd, path, 0), 0);
}

static void assert_no_temporary(const struct fixture *f) {
        assert_int_equal(fixture_n_names(f->state_fd, FOLDER), n_files(f));
}

/* A second goes by. */
static void let_retry(void) {
        test_now_ns += RETRY_NS;
}

/* ---- files ---- */

static void test_files(void **state) {
        struct fixture *f = *state;
        uint64_t bytes = 0;

        assert_true(spill_is_idle(f->spill));
        assert_int_equal(fixture_n_names(f->state_fd, FOLDER), 0);
        for (unsigned i = 0; i < 95; i++) {
                while (add(f) == SPILL_E_FULL)
                        poll_to_rest(f, NO_LIMIT, false);
                assert_false(spill_is_idle(f->spill));
                spill_poll(f->spill, NO_LIMIT, false);
        }
        write_all(f);
        assert_int_equal(f->spill->number, n_files(f)); /* from 0 on, without holes */
        assert_in_range(n_files(f), 2, 11);
        check_files(f, 0);
        assert_no_temporary(f);
        for (uint64_t i = 0; i < n_files(f); i++)
                bytes += file_bytes(f, i);
        assert_int_equal(spill_counters(f->spill)->files, n_files(f));
        assert_int_equal(spill_counters(f->spill)->samples, f->n_samples);
        assert_int_equal(spill_counters(f->spill)->bytes, bytes);
        assert_false(spill_counters(f->spill)->full);
}

/* A file is begun when there are ten games, or enough bytes, or after a second, or when it is asked for. */
static void test_when_a_file_is_begun(void **state) {
        struct fixture *f = *state;

        add_games(f, FILE_GAMES - 1);
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(n_files(f), 0);
        add_games(f, 1);
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(n_files(f), 1);
        assert_true(spill_is_idle(f->spill));

        add_games(f, 1);
        test_now_ns += FILE_AGE_NS - 1;
        add_games(f, 1);
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(n_files(f), 1);
        test_now_ns += 1;
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(n_files(f), 2);

        add_games(f, 1);
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(n_files(f), 2);
        poll_to_rest(f, NO_LIMIT, true);
        assert_int_equal(n_files(f), 3);
        check_files(f, 0);
}

/* While one file is written, the next one is filled; without polling, no call writes. */
static void test_full(void **state) {
        struct fixture *f = *state;
        unsigned n_first;

        while (add(f) == 0)
                ;
        n_first = f->n_games;
        assert_true(n_first > FILE_GAMES);
        assert_int_equal(add(f), SPILL_E_FULL);
        assert_int_equal(n_files(f), 0);
        spill_poll(f->spill, NO_LIMIT, false);
        assert_int_equal(f->spill->step, STEP_OPEN);
        while (add(f) == 0)
                ;
        assert_true(f->n_games > n_first + FILE_GAMES);
        assert_true(f->spill->writing.n <= f->spill->text_bytes &&
                    f->spill->filling.n + 2 <= f->spill->text_bytes);
        write_all(f);
        assert_int_equal(n_files(f), 2);
        assert_int_equal(add(f), 0);
        write_all(f);
        check_files(f, 0);
}

/* A bad record is refused whole, and nothing of it is written. */
static void test_bad_record(void **state) {
        struct fixture *f = *state;
        struct error e = ERROR_INIT;
        unsigned n_samples;
        size_t length;

        add_games(f, 1);
        length = make_record(f, (struct sample_id){ SLOT, f->incarnation, f->next_sequence }, &n_samples);
        assert_true(n_samples > 1);
        assert_true(spill_add(f->spill, f->record, length - 3, &e) < 0); /* its last sample is cut short */
        assert_true(strlen(e.text) > 0);
        assert_true(spill_add(f->spill, f->record, 0, &e) < 0);
        add_games(f, 1);
        write_all(f);
        check_files(f, 0);
        assert_int_equal(spill_counters(f->spill)->samples, f->n_samples);

        assert_true(spill_add(f->spill, f->record, length - 3, &e) < 0); /* and as the first one */
        assert_true(spill_is_idle(f->spill));
}

/* ---- numbers ---- */

static void test_successor(void **state) {
        struct fixture *f = *state;

        add_games(f, 12);
        write_all(f);
        spill_free(TAKE_PTR(f->spill));
        fixture_write_file(f->state_fd, FOLDER "/batch_000007.json", "[]\n", 3);
        fixture_write_file(f->state_fd, FOLDER "/batch_000009.json.tmp", "[{", 2);
        fixture_write_file(f->state_fd, FOLDER "/batch_1.json.tmp", "mine", 4);
        fixture_write_file(f->state_fd, FOLDER "/notes.tmp", "mine", 4);
        open_spill(f);
        assert_false(fixture_exists(f->state_fd, FOLDER "/batch_000009.json.tmp"));
        assert_true(fixture_exists(f->state_fd, FOLDER "/batch_1.json.tmp")); /* none of ours */
        assert_true(fixture_exists(f->state_fd, FOLDER "/notes.tmp"));
        add_games(f, 1);
        write_all(f);
        assert_true(fixture_exists(f->state_fd, FOLDER "/batch_000008.json"));
        remove_file(f, 7);
        check_files(f, 0);
}

/* A file that appears under the next name stays as it is, whatever the file system can do. */
static void check_name_taken(struct fixture *f) {
        size_t n;
        char *text;

        for (unsigned i = 0; i < 3; i++) {
                char path[64];

                (void) snprintf(path, sizeof(path), FOLDER "/batch_%06u.json", i);
                fixture_write_file(f->state_fd, path, "mine", 4);
        }
        assert_int_equal(symlinkat("nowhere", f->state_fd, FOLDER "/batch_000003.json"), 0);
        add_games(f, 1);
        write_all(f);
        assert_int_equal(f->spill->number, 5);
        for (unsigned i = 0; i < 3; i++) {
                char path[64];

                (void) snprintf(path, sizeof(path), FOLDER "/batch_%06u.json", i);
                text = fixture_read_file(f->state_fd, path, &n);
                assert_string_equal(text, "mine");
                free(text);
                remove_file(f, i);
        }
        remove_file(f, 3);
        assert_no_temporary(f);
        add_games(f, 1);
        write_all(f);
        check_files(f, 0);
        assert_int_equal(f->spill->number, 6);
}

static void test_name_taken(void **state) {
        check_name_taken(*state);
}

static void test_name_taken_without_noreplace(void **state) {
        struct fixture *f = *state;

        refuse_noreplace = true;
        check_name_taken(f);
        assert_int_equal(f->spill->rename_flags, 0);
        write_all(f);
        assert_int_equal(spill_counters(f->spill)->error, 0);
}

static void test_large_numbers(void **state) {
        struct fixture *f = *state;

        spill_free(TAKE_PTR(f->spill));
        fixture_write_file(f->state_fd, FOLDER "/batch_999998.json", "[]\n", 3);
        open_spill(f);
        for (unsigned i = 0; i < 3; i++) {
                add_games(f, 1);
                write_all(f);
        }
        remove_file(f, 999998);
        assert_true(fixture_exists(f->state_fd, FOLDER "/batch_999999.json"));
        assert_true(fixture_exists(f->state_fd, FOLDER "/batch_1000000.json"));
        assert_true(fixture_exists(f->state_fd, FOLDER "/batch_1000001.json"));
        check_files(f, 0);
}

/* A number that no name can say is never used: azpard would not see the file. */
static void test_last_number(void **state) {
        struct fixture *f = *state;

        spill_free(TAKE_PTR(f->spill));
        fixture_write_file(f->state_fd, FOLDER "/batch_999999999999999998.json", "[]\n", 3);
        open_spill(f);
        add_games(f, 1);
        write_all(f);
        assert_true(fixture_exists(f->state_fd, FOLDER "/batch_999999999999999999.json"));
        remove_file(f, SPILL_FOLDER_NUMBER_MAX - 1);
        add_games(f, 1);
        poll_to_rest(f, NO_LIMIT, true);
        assert_int_equal(spill_counters(f->spill)->error, -EOVERFLOW);
        check_files_in(f, FOLDER, 0, 1);
        remove_file(f, SPILL_FOLDER_NUMBER_MAX); /* taken in */
        let_retry();
        write_all(f);
        assert_true(fixture_exists(f->state_fd, FOLDER "/batch_000000.json"));
        check_files(f, 1);
}

/* ---- a disk that refuses ---- */

/* Something in the way of the folder: the games stay, and go on by themselves once it is gone. */
static void test_no_folder(void **state) {
        struct fixture *f = *state;

        spill_free(TAKE_PTR(f->spill));
        fixture_remove(f->directory);
        assert_int_equal(mkdir(f->directory, 0777), 0);
        (void) close(f->state_fd);
        f->state_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fixture_write_file(f->state_fd, "spill", "", 0);
        open_spill(f);
        add_games(f, 10);
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(spill_counters(f->spill)->error, -ENOTDIR);
        add_games(f, 10);
        assert_int_equal(unlinkat(f->state_fd, "spill", 0), 0);
        poll_to_rest(f, NO_LIMIT, true); /* not before a second is over */
        assert_int_equal(spill_counters(f->spill)->error, -ENOTDIR);
        assert_false(fixture_exists(f->state_fd, "spill"));
        let_retry();
        write_all(f);
        check_files(f, 0);
}

/* Somebody takes the folder away: between two files, or while one is written. */
static void check_folder_gone(struct fixture *f, enum step when, bool move) {
        char path[128];

        add_games(f, 10);
        write_all(f);
        add_games(f, 10);
        while (f->spill->step < when) /* io_uring may take more than one step at once */
                spill_poll(f->spill, NO_LIMIT, true);
        if (f->spill->step >= STEP_RENAME)
                disk_drain(f->spill->disk);
        (void) snprintf(path, sizeof(path), "%s/spill", f->directory);
        if (move)
                assert_int_equal(renameat(f->state_fd, "spill", f->state_fd, "elsewhere"), 0);
        else
                fixture_remove(path);
        add_games(f, 3);
        poll_to_rest(f, NO_LIMIT, true);
        if (!spill_is_idle(f->spill)) {
                assert_int_equal(spill_counters(f->spill)->error, -ENOENT);
                let_retry();
        }
        write_all(f);
        /* what was renamed before that is gone with the folder */
        check_files(f,
                    spill_counters(f->spill)->files == 3 && when != STEP_REST && n_files(f) == 1 ? 20 : 10);
}

static void test_removed_folder(void **state) {
        check_folder_gone(*state, STEP_REST, false);
}

static void test_folder_removed_while_writing(void **state) {
        check_folder_gone(*state, STEP_WRITE, false);
}

static void test_moved_folder(void **state) {
        check_folder_gone(*state, STEP_REST, true);
}

/* A folder that cannot be written, as for want of rights: told, and tried again. */
static void test_read_only_folder(void **state) {
        struct fixture *f = *state;

        add_games(f, 10);
        write_all(f);
        assert_int_equal(fchmodat(f->state_fd, FOLDER, 0555, 0), 0);
        fixture_obey_modes(true);
        for (unsigned i = 0; i < 3; i++) {
                add_games(f, 10);
                poll_to_rest(f, NO_LIMIT, false);
                assert_int_equal(spill_counters(f->spill)->error, -EACCES);
                let_retry();
        }
        fixture_obey_modes(false);
        assert_int_equal(fchmodat(f->state_fd, FOLDER, 0755, 0), 0);
        assert_int_equal(n_files(f), 1);
        write_all(f);
        check_files(f, 0);
}

/* A file system of its own that is full: nothing is lost, nothing twice, and no rests. */
static void test_full_disk(void **state) {
        struct fixture *f = *state;
        char path[128];
        unsigned n_failures = 0, first_left;
        uint64_t numbers[MAX_GAMES];
        size_t n;

        (void) snprintf(path, sizeof(path), "%s/mnt", f->directory);
        assert_int_equal(mkdir(path, 0777), 0);
        if (mount("tmpfs", path, "tmpfs", 0, "size=1m") < 0) {
                print_message("no tmpfs can be mounted here (%s)\n", strerror(errno));
                skip();
        }
        spill_free(TAKE_PTR(f->spill));
        (void) close(f->state_fd);
        f->state_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        open_spill(f);
        while (n_failures < 3) {
                while (add(f) == 0)
                        ;
                poll_to_rest(f, NO_LIMIT, false);
                if (spill_counters(f->spill)->error) {
                        assert_int_equal(spill_counters(f->spill)->error, -ENOSPC);
                        n_failures++;
                }
                assert_no_temporary(f); /* what could not be finished takes no room */
                let_retry();
        }
        n = numbers_in(f, FOLDER, numbers, MAX_GAMES);
        assert_true(n > 0);
        first_left = f->n_games;
        while (first_left > 0 && n > 0) { /* what lies there is right, as far as it goes */
                struct sample want[GAME_MAX_PLIES];

                first_left--;
                if (f->first[first_left].sequence + fixture_play(f->game, f->first[first_left], want) ==
                    spill_counters(f->spill)->samples) {
                        first_left++;
                        break;
                }
        }
        assert_in_range(first_left, 1, f->n_games - 1);
        check_files_in(f, FOLDER, 0, first_left);
        assert_int_equal(mount("tmpfs", path, "tmpfs", MS_REMOUNT, "size=64m"), 0);
        write_all(f);
        check_files(f, 0);
        spill_free(TAKE_PTR(f->spill));
        (void) close(f->state_fd);
        assert_int_equal(umount(path), 0);
        f->state_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The file is in place, but may not survive a power cut: the folder's sync is tried again by itself. */
static void test_folder_sync_fails(void **state) {
        struct fixture *f = *state;

        add_games(f, 10);
        bad_sync_fd = f->spill->folder_fd;
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(spill_counters(f->spill)->error, -EBADF);
        assert_int_equal(spill_counters(f->spill)->files, 1);
        assert_false(spill_is_idle(f->spill));
        let_retry();
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(spill_counters(f->spill)->error, -EBADF);
        bad_sync_fd = -1;
        let_retry();
        poll_to_rest(f, NO_LIMIT, false);
        assert_int_equal(spill_counters(f->spill)->error, 0);
        assert_true(spill_is_idle(f->spill));
        check_files(f, 0);
}

/* ---- the limit ---- */

static void test_limit(void **state) {
        struct fixture *f = *state;
        uint64_t limit;

        add_games(f, 10);
        write_all(f);
        limit = file_bytes(f, 0) + 1;
        add_games(f, 10);
        poll_to_rest(f, limit, false); /* not there yet: one is begun, and goes above it */
        assert_int_equal(n_files(f), 2);
        assert_false(spill_counters(f->spill)->full);
        add_games(f, 10);
        for (unsigned i = 0; i < 3; i++) {
                poll_to_rest(f, limit, true);
                assert_int_equal(n_files(f), 2);
                assert_true(spill_counters(f->spill)->full);
                assert_false(spill_is_idle(f->spill));
                let_retry();
        }
        while (add(f) == 0) /* memory is a limit as well */
                ;
        remove_file(f, 0);
        remove_file(f, 1);
        let_retry();
        poll_to_rest(f, limit, false);
        assert_false(spill_counters(f->spill)->full);
        assert_int_equal(n_files(f), 1);
        check_files(f, 20);

        add_games(f, 1);
        poll_to_rest(f, 0, true);
        assert_true(spill_counters(f->spill)->full); /* none at all */
        write_all(f);
        check_files(f, 20);
}

/* What a predecessor left counts. */
static void test_limit_of_a_successor(void **state) {
        struct fixture *f = *state;

        add_games(f, 10);
        write_all(f);
        spill_free(TAKE_PTR(f->spill));
        open_spill(f);
        add_games(f, 10);
        poll_to_rest(f, file_bytes(f, 0), false);
        assert_true(spill_counters(f->spill)->full);
        assert_int_equal(n_files(f), 1);
        poll_to_rest(f, file_bytes(f, 0) + 1, false);
        assert_int_equal(n_files(f), 2);
        check_files(f, 0);
}

/* ---- the end, at any moment ---- */

static unsigned n_descriptors(void) {
        int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        unsigned n = (unsigned) fixture_n_names(fd, ".");

        (void) close(fd);
        return n;
}

/* Freed in step 0, 1, 2 ... of writing a file: what is renamed is whole, and the successor takes up the rest.
 */
static void test_freed_at_any_step(void **state) {
        struct fixture *f = *state;
        unsigned n_fds, n_seen = 0;

        spill_free(TAKE_PTR(f->spill));
        n_fds = n_descriptors();
        for (int step = STEP_REST; step <= STEP_SYNC_FOLDER; step++) {
                unsigned before = f->n_games;
                size_t n_before;

                open_spill(f);
                assert_no_temporary(f);
                n_before = n_files(f);
                add_games(f, 10);
                if (step != STEP_REST)
                        spill_poll(f->spill, NO_LIMIT, false);
                while ((int) f->spill->step < step && f->spill->step != STEP_REST)
                        disk_poll(f->spill->disk); /* io_uring may take more than one step at once */
                n_seen += (int) f->spill->step == step;
                add_games(f, 2);
                spill_free(TAKE_PTR(f->spill));
                assert_int_equal(n_descriptors(), n_fds);
                f->n_games = n_files(f) > n_before ? before + 10 : before;
                check_files(f, 0);
        }
        if (!allow_uring)
                assert_int_equal(n_seen, STEP_SYNC_FOLDER + 1);
        open_spill(f);
        assert_no_temporary(f);
        spill_free(NULL);
}

/* ---- memory ---- */

static size_t n_resident(const struct spill *s, const struct text *t) {
        unsigned char pages[4096];
        size_t n = (s->text_bytes + 4095) / 4096, n_resident = 0;

        assert_true(n <= sizeof(pages));
        assert_int_equal(mincore(t->bytes, s->text_bytes, pages), 0);
        for (size_t i = 0; i < n; i++)
                n_resident += pages[i] & 1;
        return n_resident;
}

/* The texts are backed by memory only while they are needed. */
static void test_memory(void **state) {
        struct fixture *f = *state;

        assert_int_equal(n_resident(f->spill, &f->spill->filling) + n_resident(f->spill, &f->spill->writing),
                         0);
        while (add(f) == 0)
                ;
        spill_poll(f->spill, NO_LIMIT, false);
        while (add(f) == 0)
                ;
        assert_true(n_resident(f->spill, &f->spill->filling) > 200);
        assert_true(n_resident(f->spill, &f->spill->writing) > 200);
        write_all(f);
        assert_int_equal(n_resident(f->spill, &f->spill->filling) + n_resident(f->spill, &f->spill->writing),
                         0);
        add_games(f, 10);
        write_all(f);
        check_files(f, 0);
}

/* clang-format off */
#define BOTH(test)                                                               \
        { #test " by io_uring", test, set_up_uring, tear_down, NULL },           \
        { #test " by plain calls", test, set_up_plain, tear_down, NULL }
/* clang-format on */

int main(void) {
        static const struct CMUnitTest tests[] = {
                BOTH(test_files),
                BOTH(test_when_a_file_is_begun),
                BOTH(test_full),
                BOTH(test_bad_record),
                BOTH(test_successor),
                BOTH(test_name_taken),
                BOTH(test_name_taken_without_noreplace),
                BOTH(test_large_numbers),
                BOTH(test_last_number),
                BOTH(test_no_folder),
                BOTH(test_removed_folder),
                BOTH(test_folder_removed_while_writing),
                BOTH(test_moved_folder),
                BOTH(test_read_only_folder),
                BOTH(test_full_disk),
                BOTH(test_folder_sync_fails),
                BOTH(test_limit),
                BOTH(test_limit_of_a_successor),
                BOTH(test_freed_at_any_step),
                BOTH(test_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
