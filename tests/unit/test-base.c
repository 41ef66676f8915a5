/* SPDX-License-Identifier: MIT */
/* Random numbers against published ones, checksums, errors, whole files. */
#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/file.h"
#include "common/base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

/* The authors' xoshiro256starstar.c, started at {1, 2, 3, 4}, gives these first numbers. */
static void test_rng_reference(void **state) {
        static const uint64_t expected[] = { 11520u, 0u, 1509978240u, 1215971899390074240u };
        struct rng r = { { 1, 2, 3, 4 } };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(expected); i++)
                assert_true(rng_u64(&r) == expected[i]);
}

static void test_rng_streams(void **state) {
        struct rng a, b, c, d;

        (void) state;
        rng_seed(&a, 1, 2);
        rng_seed(&b, 1, 2);
        rng_seed(&c, 2, 1);
        rng_seed(&d, 1, 3);
        assert_memory_equal(&a, &b, sizeof(a));
        assert_memory_not_equal(&a, &c, sizeof(a));
        assert_memory_not_equal(&a, &d, sizeof(a));
}

/* Chi-square of 7 bins, 6 degrees of freedom: 22.46 is the 99.9 % point; the seed is fixed. */
static void test_rng_below(void **state) {
        enum { N = 70000, BINS = 7 };
        unsigned counts[BINS] = { 0 };
        double chi2 = 0;
        struct rng r;

        (void) state;
        rng_seed(&r, 42, 0);
        for (int i = 0; i < N; i++)
                counts[rng_below(&r, BINS)]++;
        for (int i = 0; i < BINS; i++)
                chi2 += pow(counts[i] - (double) N / BINS, 2) / ((double) N / BINS);
        assert_true(chi2 < 22.46);
        for (int i = 0; i < 100; i++)
                assert_int_equal(rng_below(&r, 1), 0);
}

/* Mean 1/n, variance (1/n)(1 - 1/n) / (n alpha + 1) for each entry of a symmetric Dirichlet. */
static void check_dirichlet(double alpha, uint32_t n) {
        enum { DRAWS = 20000 };
        double sum = 0, squares = 0, mean, variance, expected = (1.0 / n) * (1 - 1.0 / n) / (n * alpha + 1);
        float x[32];
        struct rng r;

        rng_seed(&r, 7, n);
        for (int i = 0; i < DRAWS; i++) {
                double total = 0;

                rng_dirichlet(&r, alpha, n, x);
                for (uint32_t j = 0; j < n; j++) {
                        assert_true(x[j] >= 0 && x[j] <= 1);
                        total += x[j];
                }
                assert_true(fabs(total - 1) < 1e-4);
                sum += x[0];
                squares += (double) x[0] * x[0];
        }
        mean = sum / DRAWS;
        variance = squares / DRAWS - mean * mean;
        assert_true(fabs(mean - 1.0 / n) < 5 * sqrt(expected / DRAWS));
        assert_true(fabs(variance / expected - 1) < 0.1);
}

static void test_rng_dirichlet(void **state) {
        (void) state;
        check_dirichlet(0.3, 7);
        check_dirichlet(0.03, 20); /* draws of Gamma(0.03) underflow without logarithms */
        check_dirichlet(1.0, 3);
        check_dirichlet(10.0, 5);
}

static void test_crc32c(void **state) {
        unsigned char zeros[32] = { 0 };

        (void) state;
        assert_int_equal(crc32c("123456789", 9), 0xe3069283);
        assert_int_equal(crc32c(zeros, 32), 0x8a9136aa); /* RFC 3720, B.4 */
        assert_int_equal(crc32c("", 0), 0);
        assert_int_equal(crc64(0, "123456789", 9), 0x995dc9bbdf1939fa); /* CRC-64/XZ's check value */
        assert_int_equal(crc64(crc64(0, "1234", 4), "56789", 5), 0x995dc9bbdf1939fa);
}

static void test_error(void **state) {
        struct error e = ERROR_INIT;
        char big[2 * ERROR_TEXT_MAX];

        (void) state;
        assert_int_equal(error_set(&e, -EINVAL, "file '%s'", "x"), -EINVAL);
        assert_string_equal(e.text, "file 'x'");
        error_prefix(&e, "line %d", 3);
        assert_string_equal(e.text, "line 3: file 'x'");
        assert_int_equal(error_errno(&e, -ENOENT, "open"), -ENOENT);
        assert_string_equal(e.text, "open: No such file or directory");
        assert_int_equal(error_set(NULL, -EIO, "nobody listens"), -EIO);
        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = 0;
        (void) error_errno(&e, -EIO, "%s", big);
        error_prefix(&e, "%s", big);
        assert_int_equal(strlen(e.text), ERROR_TEXT_MAX - 1);
}

static void test_file_replace(void **state) {
        char folder[] = "/tmp/azpar-test-base-XXXXXX", command[64];
        struct file_part parts[] = { { "one, ", 5 }, { "two", 3 } }, other = { "three", 5 };
        struct file_map old, new;
        struct error e = ERROR_INIT;
        int fd;

        (void) state;
        assert_non_null(mkdtemp(folder));
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(file_map_open(fd, "f", &old, &e), -ENOENT);
        assert_int_equal(file_replace(fd, "f", parts, 2, &e), 0);
        assert_int_equal(file_map_open(fd, "f", &old, &e), 0);
        assert_int_equal(file_replace(fd, "f", &other, 1, &e), 0);
        assert_int_equal(file_map_open(fd, "f", &new, &e), 0);
        assert_int_equal(new.n_bytes, 5);
        assert_memory_equal(new.bytes, "three", 5);
        assert_int_equal(old.n_bytes, 8); /* who mapped the old file keeps it whole */
        assert_memory_equal(old.bytes, "one, two", 8);
        assert_int_equal(faccessat(fd, "f.tmp", F_OK, 0), -1);
        file_map_close(&old);
        file_map_close(&new);

        assert_int_equal(mkdirat(fd, "g", 0755), 0); /* in the way of the rename */
        assert_int_equal(file_replace(fd, "g", &other, 1, &e), -EISDIR);
        assert_non_null(strstr(e.text, "could not rename 'g.tmp' to 'g'"));
        assert_int_equal(faccessat(fd, "g.tmp", F_OK, 0), -1);
        assert_int_equal(file_map_open(fd, "g", &old, &e), -EINVAL);
        assert_int_equal(file_replace(fd, "h/i", &other, 1, &e), -ENOENT);
        (void) close(fd);
        (void) snprintf(command, sizeof(command), "rm -r '%s'", folder);
        assert_int_equal(system(command), 0);
}

/* A copy stays what it was when the file is written over in place; a mapping would end us with SIGBUS. */
static void test_file_read(void **state) {
        char folder[] = "/tmp/azpar-test-base-XXXXXX", command[64];
        static unsigned char large[100000];
        const struct file_part part = { large, sizeof(large) };
        struct file_map copy = FILE_MAP_NULL;
        struct error e = ERROR_INIT;
        int fd, file;

        (void) state;
        for (size_t i = 0; i < sizeof(large); i++)
                large[i] = (unsigned char) (i * 7);
        assert_non_null(mkdtemp(folder));
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(file_read(fd, "f", 10, &copy, &e), -ENOENT);
        assert_int_equal(file_replace(fd, "f", &part, 1, &e), 0);
        assert_int_equal(file_read(fd, "f", sizeof(large) - 1, &copy, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "'f' is 100000 bytes, at most 99999 expected"));
        assert_null(copy.bytes);
        assert_int_equal(file_read(fd, "f", sizeof(large), &copy, &e), 0);

        file = openat(fd, "f", O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(file >= 0);
        assert_int_equal(copy.n_bytes, sizeof(large));
        assert_memory_equal(copy.bytes, large, sizeof(large));
        file_map_close(&copy);
        assert_null(copy.bytes);
        assert_int_equal(file_read(fd, "f", 0, &copy, &e), 0); /* empty now */
        assert_null(copy.bytes);

        assert_int_equal(mkdirat(fd, "g", 0755), 0);
        assert_int_equal(file_read(fd, "g", 100000, &copy, &e), -EINVAL);
        (void) close(file);
        (void) close(fd);
        (void) snprintf(command, sizeof(command), "rm -r '%s'", folder);
        assert_int_equal(system(command), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rng_reference), cmocka_unit_test(test_rng_streams),
                cmocka_unit_test(test_rng_below),     cmocka_unit_test(test_rng_dirichlet),
                cmocka_unit_test(test_crc32c),        cmocka_unit_test(test_error),
                cmocka_unit_test(test_file_replace),  cmocka_unit_test(test_file_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
