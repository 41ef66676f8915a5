/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * safetensors files: read as foreign input, written durably.
 *
 *      0            8                   8 + N
 *      +------------+-------------------+----------------------------+
 *      | N, u64 LE  | JSON header       | tensor data, little-endian |
 *      +------------+-------------------+----------------------------+
 *
 * The header maps names to {"dtype","shape","data_offsets":[begin,end]}, plus "__metadata__" (strings).
 * The reader refuses, with the reason: a size that lies, header over SAFETENSORS_HEADER_MAX, JSON that does
 * not parse, duplicate names, unknown types, shapes whose product does not match, offsets out of range,
 * overlapping, not in order, or with holes (the format demands that tensors cover the data without gaps).
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/model/network.h"

#define SAFETENSORS_HEADER_MAX  (1u << 20)
#define SAFETENSORS_MAX_TENSORS 1024

/*
 * Largest step and generation of a model or checkpoint, read or written: a checkpoint's name has room for ten
 * digits, and its counters are JSON numbers.  A file that claims more is refused, so that whoever counts on
 * from it has a limit to meet and a text to say, rather than a number that does not fit.
 */
#define MODEL_STEP_MAX       UINT64_C(9999999999)
#define MODEL_GENERATION_MAX (UINT64_C(1) << 52)

/* What azpar writes into __metadata__ of its models. */
struct model_info {
        uint64_t generation; /* at most MODEL_GENERATION_MAX */
        uint64_t step;       /* at most MODEL_STEP_MAX */
        uint64_t unix_us;    /* when it was written */
        struct network network;
};

struct safetensors; /* a checked, read-only mapping */

/* Map and check a file. Return: 0; -ENOENT; -EBADMSG with a text that names file, tensor and reason. */
must_check_ int safetensors_open(int dir_fd, const char *path, struct safetensors **ret, struct error *e);

/* Same for bytes in memory, which must outlive the handle (tests, fuzzing). @path is for texts. */
must_check_ int safetensors_parse(const unsigned char *bytes, size_t n, const char *path,
                                  struct safetensors **ret, struct error *e);
void safetensors_free(struct safetensors *s);
DEFINE_CLEANUP(struct safetensors *, safetensors_free)

/* F32 tensor of @want's name and dims, or NULL with a text. The pointer is into the mapping, aligned to 4. */
const float *safetensors_f32(const struct safetensors *s, const struct network_tensor *want, struct error *e);

/* Value of a metadata string, or NULL. */
const char *safetensors_metadata(const struct safetensors *s, const char *key);

/*
 * model_open() - open a model file and check that it is an azpar model of the network @want, complete
 * @want:       expected network; NULL: any (then *ret_info tells)
 * @ret_tensors: NETWORK_MAX_TENSORS pointers in network_tensors() order, into the mapping that *ret owns;
 *              may be NULL
 *
 * All values are checked to be finite, and running variances to be at least 0.
 *
 * Return: 0; -EINVAL: not a regular file, or a model of another network; -EBADMSG and others as
 * safetensors_open(); each with a text that names the file.
 */
must_check_ int model_open(int dir_fd, const char *path, const struct network *want, struct safetensors **ret,
                           struct model_info *ret_info, const float **ret_tensors, struct error *e);

/*
 * model_check() - the same checks on a private copy of the file, which is given up again
 * @want: as above, but not NULL: bounds the file's size
 *
 * For azpard, which must outlive a file that somebody writes over in place; see file_map_open().
 *
 * Return: as model_open(); -EAGAIN: the file became shorter meanwhile.
 */
must_check_ int model_check(int dir_fd, const char *path, const struct network *want,
                            struct model_info *ret_info, struct error *e);

/*
 * Write a model file atomically and durably. @tensors in network_tensors() order.
 * Return: 0; -EDOM: a value that model_open() would refuse (training diverged), -EOVERFLOW: a step or
 * generation that it would refuse, nothing is written; what file_replace() returns.
 */
must_check_ int model_write(int dir_fd, const char *path, const struct model_info *info,
                            const float *const *tensors, struct error *e);
