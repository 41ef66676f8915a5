/* SPDX-License-Identifier: MIT */
/*
 * Model files: the input is the file.
 *
 * What is accepted covers its data exactly, by a count of its own here, and every value that is handed out
 * can be read.  What is also a model of azpar is written again by model_write() and comes back the same.
 * What is refused says why.
 *
 * The module is included and not linked, so that a file need not exist to be checked as a model, and so that
 * the tensors can be counted.
 */
#include "common/model/safetensors.c"

#include "tests/fuzz/fuzz.h"

/* As __SANITIZE_ADDRESS__, for what only libFuzzer calls. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed);

/* Most bytes of a file are weights: change the header only, three times in four, with its length. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed) {
        static uint8_t data[1u << 20];
        uint64_t n_header;
        size_t n_data;

        if (n < 8 || seed % 4 == 0)
                return LLVMFuzzerMutate(bytes, n, max);
        memcpy(&n_header, bytes, 8);
        if (n_header > n - 8 || n > sizeof(data))
                return LLVMFuzzerMutate(bytes, n, max);
        n_data = n - 8 - n_header;
        memcpy(data, bytes + 8 + n_header, n_data);
        n_header = LLVMFuzzerMutate(bytes + 8, n_header, max - 8 - n_data);
        memcpy(bytes, &n_header, 8);
        memcpy(bytes + 8 + n_header, data, n_data);
        return 8 + n_header + n_data;
}
#endif

/* Each byte of the data belongs to one tensor, and each tensor has the bytes that its shape asks for. */
static void check_tensors(const struct safetensors *s, const uint8_t *bytes, size_t n) {
        uint64_t n_covered = 0;

        EXPECT(s->data >= bytes + 8 && s->data + s->n_data_bytes == bytes + n);
        EXPECT(s->n_tensors <= SAFETENSORS_MAX_TENSORS + 1);
        for (size_t i = 0; i < s->n_tensors; i++) {
                const struct tensor *t = &s->tensors[i];
                __extension__ unsigned __int128 need = t->dtype->n_bytes;

                for (uint32_t d = 0; d < t->n_dims; d++)
                        need *= t->dims[d];
                EXPECT(t->begin <= t->end && t->end <= s->n_data_bytes && t->end - t->begin == need);
                EXPECT(i == 0 || strcmp(s->tensors[i - 1].name, t->name) < 0);
                n_covered += t->end - t->begin;
                for (size_t k = 0; k < s->n_tensors && s->n_tensors < 64; k++)
                        EXPECT(k == i || t->begin == t->end || s->tensors[k].begin >= t->end ||
                               s->tensors[k].end <= t->begin);
        }
        EXPECT(n_covered == s->n_data_bytes);
}

/* A model goes out and comes back. */
static void check_model_round_trip(const struct model_info *info, const float *const *tensors) {
        static struct network_tensor list[NETWORK_MAX_TENSORS];
        static const float *again[NETWORK_MAX_TENSORS];
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        struct model_info info_again;
        size_t n = network_tensors(&info->network, list);

        EXPECT(model_write(fuzz_folder(), "model", info, tensors, NULL) == 0);
        EXPECT(model_check(fuzz_folder(), "model", &info->network, &info_again, NULL) == 0);
        EXPECT(model_open(fuzz_folder(), "model", &info->network, &s, &info_again, again, NULL) == 0);
        EXPECT(info_again.generation == info->generation && info_again.step == info->step);
        EXPECT(info_again.unix_us == info->unix_us && network_equal(&info_again.network, &info->network));
        for (size_t i = 0; i < n; i++)
                EXPECT(memcmp(tensors[i], again[i], list[i].n_elements * sizeof(float)) == 0);
}

static void check_as_model(const struct safetensors *s) {
        static const float *tensors[NETWORK_MAX_TENSORS];
        struct model_info info;
        struct error e = ERROR_INIT;
        int r = check_model(s, NULL, &info, tensors, &e);

        if (r == 0)
                check_model_round_trip(&info, tensors);
        else {
                EXPECT(r == -EBADMSG);
                fuzz_expect_text(&e, true);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        struct error e = ERROR_INIT;
        int fd, r;

        if (n > 1u << 20)
                return 0;
        (void) fuzz_folder();
        fd = fuzz_next_fd();
        bytes = fuzz_guarded(bytes, n); /* aligned as in a mapped file if a model's size is a multiple of 4 */
        r = safetensors_parse(bytes, n, "model", &s, &e);
        if (r == 0) {
                check_tensors(s, bytes, n);
                check_as_model(s);
        } else {
                EXPECT(r == -EBADMSG && strncmp(e.text, "model: ", 7) == 0);
                fuzz_expect_text(&e, true);
        }
        EXPECT(fuzz_next_fd() == fd);
        return 0;
}
