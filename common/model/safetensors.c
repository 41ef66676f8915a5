/* SPDX-License-Identifier: MIT */
/*
 * safetensors files; see safetensors.h for the layout.
 *
 * The trainer writes them; azpard, the workers and the trainer read them.  The
 * reader trusts nothing: the header's size is checked before a byte of it is
 * parsed, every number before it is used, and every sum and product for
 * overflow.  Its rules are those of the format's own reader (tensors cover
 * the data without gap or overlap) plus what azpar needs: bounded counts, and
 * nothing unknown inside an entry.  The order of entries in the header means
 * nothing; the order of offsets is made by sorting.
 *
 * Values are read in place, from the mapping: the machine is little-endian
 * (asserted at compile time), and azpar replaces a file by rename.  Others may
 * write over it in place: a worker or trainer that dies of that is started again,
 * azpard checks a copy.
 */
#include "common/model/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/finite.h"
#include "common/model/json.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is used in place");

#define MAX_DIMS          8
#define MODEL_FORMAT      "azpar"
#define MODEL_VERSION     1
#define MODEL_MIN_FILTERS 8
#define MODEL_MAX_FILTERS 512
#define N_SHOWN           64 /* bytes of a foreign name in an error text */

/* The format's element types. */
static const struct dtype {
        const char *name;
        uint64_t n_bytes;
} dtypes[] = {
        { "F32", 4 },     { "BOOL", 1 }, { "U8", 1 },  { "I8", 1 },  { "F8_E5M2", 1 },
        { "F8_E4M3", 1 }, { "I16", 2 },  { "U16", 2 }, { "F16", 2 }, { "BF16", 2 },
        { "I32", 4 },     { "U32", 4 },  { "F64", 8 }, { "I64", 8 }, { "U64", 8 },
};

struct tensor {
        const char *name; /* owned by safetensors.header */
        const struct dtype *dtype;
        uint32_t n_dims;
        uint64_t dims[MAX_DIMS];
        uint64_t begin, end; /* bytes in the data */
};

struct safetensors {
        struct file_map map; /* empty if the bytes are the caller's */
        char *path;
        cJSON *header;
        const cJSON *metadata; /* in the header, or NULL */
        const unsigned char *data;
        uint64_t n_data_bytes;
        struct tensor *tensors; /* sorted by name */
        size_t n_tensors;
};

void safetensors_free(struct safetensors *s) {
        if (!s)
                return;
        cJSON_Delete(s->header);
        file_map_close(&s->map);
        free(s->tensors);
        free(s->path);
        free(s);
}

/* "[7, 84]" */
static const char *shape_text(uint32_t n_dims, const uint64_t *dims, char ret[192]) {
        size_t n = (size_t) snprintf(ret, 192, "[");

        for (uint32_t i = 0; i < n_dims && n < 192; i++)
                n += (size_t) snprintf(ret + n, 192 - n, "%s%" PRIu64, i ? ", " : "", dims[i]);
        if (n < 192)
                (void) snprintf(ret + n, 192 - n, "]");
        return ret;
}

static int parse_dtype(const cJSON *entry, struct tensor *t, struct error *e) {
        const cJSON *j = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
        char shown[N_SHOWN];

        if (!cJSON_IsString(j))
                return error_set(e, -EBADMSG, "dtype is missing or not a string");
        for (size_t i = 0; i < N_ELEMENTS(dtypes); i++)
                if (strcmp(j->valuestring, dtypes[i].name) == 0) {
                        t->dtype = &dtypes[i];
                        return 0;
                }
        return error_set(e, -EBADMSG, "unknown dtype '%s'",
                         json_printable(j->valuestring, sizeof(shown), shown));
}

/* Shape, and the bytes it needs. */
static int parse_shape(const cJSON *entry, struct tensor *t, uint64_t *ret_n_bytes, struct error *e) {
        const cJSON *j = cJSON_GetObjectItemCaseSensitive(entry, "shape"), *dim;
        uint64_t n_bytes = t->dtype->n_bytes;

        if (!cJSON_IsArray(j))
                return error_set(e, -EBADMSG, "shape is missing or not an array");
        cJSON_ArrayForEach(dim, j) {
                if (t->n_dims == MAX_DIMS)
                        return error_set(e, -EBADMSG, "shape has more than %d dimensions", MAX_DIMS);
                if (json_uint(dim, JSON_UINT_MAX, &t->dims[t->n_dims]) < 0)
                        return error_set(e, -EBADMSG,
                                         "shape: dimension %u is not a whole number in [0, 2^53)", t->n_dims);
                if (__builtin_mul_overflow(n_bytes, t->dims[t->n_dims], &n_bytes))
                        return error_set(e, -EBADMSG, "shape: the product of the dimensions overflows");
                t->n_dims++;
        }
        *ret_n_bytes = n_bytes;
        return 0;
}

static int parse_offsets(const cJSON *entry, uint64_t n_data_bytes, struct tensor *t, struct error *e) {
        const cJSON *j = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");

        if (!cJSON_IsArray(j) || cJSON_GetArraySize(j) != 2)
                return error_set(e, -EBADMSG, "data_offsets is missing or not an array of two");
        if (json_uint(cJSON_GetArrayItem(j, 0), JSON_UINT_MAX, &t->begin) < 0 ||
            json_uint(cJSON_GetArrayItem(j, 1), JSON_UINT_MAX, &t->end) < 0)
                return error_set(e, -EBADMSG, "data_offsets are not whole numbers in [0, 2^53)");
        if (t->begin > t->end)
                return error_set(e, -EBADMSG, "data_offsets are not in order: %" PRIu64 " before %" PRIu64,
                                 t->begin, t->end);
        if (t->end > n_data_bytes)
                return error_set(e, -EBADMSG,
                                 "ends at byte %" PRIu64 ", but the file has only %" PRIu64 " bytes of data",
                                 t->end, n_data_bytes);
        return 0;
}

static int parse_entry(const cJSON *entry, uint64_t n_data_bytes, struct tensor *t, struct error *e) {
        uint64_t n_bytes = 0;
        char shape[192];
        int r;

        if (!cJSON_IsObject(entry))
                return error_set(e, -EBADMSG, "its entry is not an object");
        r = parse_dtype(entry, t, e);
        if (r < 0)
                return r;
        r = parse_shape(entry, t, &n_bytes, e);
        if (r < 0)
                return r;
        r = parse_offsets(entry, n_data_bytes, t, e);
        if (r < 0)
                return r;
        if (cJSON_GetArraySize(entry) != 3)
                return error_set(e, -EBADMSG, "its entry has keys besides dtype, shape and data_offsets");
        if (t->end - t->begin != n_bytes)
                return error_set(e, -EBADMSG, "%" PRIu64 " bytes at %" PRIu64 ", but %s %s needs %" PRIu64,
                                 t->end - t->begin, t->begin, t->dtype->name,
                                 shape_text(t->n_dims, t->dims, shape), n_bytes);
        return 0;
}

static int compare_offsets(const void *a, const void *b) {
        const struct tensor *x = a, *y = b;

        if (x->begin != y->begin)
                return x->begin < y->begin ? -1 : 1;
        return (x->end > y->end) - (x->end < y->end);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const struct tensor *) a)->name, ((const struct tensor *) b)->name);
}

/* The tensors must cover the data: no overlap, no hole, nothing behind. Leaves them sorted by name. */
static int check_cover(struct safetensors *s, struct error *e) {
        uint64_t at = 0;
        char shown[N_SHOWN];

        if (s->n_tensors > 0)
                qsort(s->tensors, s->n_tensors, sizeof(*s->tensors), compare_offsets);
        for (size_t i = 0; i < s->n_tensors; i++) {
                const struct tensor *t = &s->tensors[i];

                if (t->begin != at)
                        return error_set(e, -EBADMSG,
                                         "tensor '%s': begins at byte %" PRIu64
                                         ", but the tensors before it end at %" PRIu64 " (%s)",
                                         json_printable(t->name, sizeof(shown), shown), t->begin, at,
                                         t->begin < at ? "they overlap" : "a hole");
                at = t->end;
        }
        if (at != s->n_data_bytes)
                return error_set(e, -EBADMSG, "%" PRIu64 " bytes of data, but the tensors end at %" PRIu64,
                                 s->n_data_bytes, at);
        if (s->n_tensors > 0)
                qsort(s->tensors, s->n_tensors, sizeof(*s->tensors), compare_names);
        return 0;
}

static int check_metadata(const cJSON *metadata, struct error *e) {
        const cJSON *j;
        char shown[N_SHOWN];

        if (!cJSON_IsObject(metadata))
                return error_set(e, -EBADMSG, "__metadata__ is not an object");
        cJSON_ArrayForEach(j, metadata) if (!cJSON_IsString(j)) return error_set(
                e, -EBADMSG, "__metadata__: '%s' is not a string",
                json_printable(j->string, sizeof(shown), shown));
        return 0;
}

static int parse_tensors(struct safetensors *s, struct error *e) {
        size_t n = (size_t) cJSON_GetArraySize(s->header);
        const cJSON *j;
        int r;

        if (n > SAFETENSORS_MAX_TENSORS + 1)
                return error_set(e, -EBADMSG, "%zu tensors, at most %d expected", n, SAFETENSORS_MAX_TENSORS);
        s->tensors = calloc(n + 1, sizeof(*s->tensors));
        if (!s->tensors)
                return error_errno(e, -ENOMEM, "could not hold %zu tensors", n);
        cJSON_ArrayForEach(j, s->header) {
                char shown[N_SHOWN];

                if (strcmp(j->string, "__metadata__") == 0) {
                        r = check_metadata(j, e);
                        if (r < 0)
                                return r;
                        s->metadata = j;
                        continue;
                }
                s->tensors[s->n_tensors].name = j->string;
                r = parse_entry(j, s->n_data_bytes, &s->tensors[s->n_tensors], e);
                if (r < 0) {
                        error_prefix(e, "tensor '%s'", json_printable(j->string, sizeof(shown), shown));
                        return r;
                }
                s->n_tensors++;
        }
        return check_cover(s, e);
}

static int parse(struct safetensors *s, const unsigned char *bytes, size_t n, struct error *e) {
        uint64_t n_header;
        int r;

        if (n < sizeof(n_header))
                return error_set(e, -EBADMSG, "file is %zu bytes, at least 8 + header expected", n);
        (void) memcpy(&n_header, bytes, sizeof(n_header));
        n -= sizeof(n_header);
        if (n_header > SAFETENSORS_HEADER_MAX)
                return error_set(e, -EBADMSG, "header is %" PRIu64 " bytes, at most %u allowed", n_header,
                                 SAFETENSORS_HEADER_MAX);
        if (n_header > n)
                return error_set(e, -EBADMSG,
                                 "header is %" PRIu64 " bytes, but the file has only %zu after its length",
                                 n_header, n);
        s->data = bytes + sizeof(n_header) + n_header;
        s->n_data_bytes = n - n_header;
        r = json_parse_object((const char *) bytes + sizeof(n_header), (size_t) n_header, &s->header, e);
        if (r < 0) {
                error_prefix(e, "header");
                return r;
        }
        return parse_tensors(s, e);
}

int safetensors_parse(const unsigned char *bytes, size_t n, const char *path, struct safetensors **ret,
                      struct error *e) {
        cleanup_(safetensors_freep) struct safetensors *s = calloc(1, sizeof(*s));
        int r;

        if (s)
                s->path = strdup(path);
        if (!s || !s->path)
                return error_errno(e, -ENOMEM, "could not read '%s'", path);
        r = parse(s, bytes, n, e);
        if (r < 0) {
                error_prefix(e, "%s", path);
                return r;
        }
        *ret = TAKE_PTR(s);
        return 0;
}

int safetensors_open(int dir_fd, const char *path, struct safetensors **ret, struct error *e) {
        struct file_map map = FILE_MAP_NULL;
        int r;

        r = file_map_open(dir_fd, path, &map, e);
        if (r < 0)
                return r;
        r = safetensors_parse(map.bytes, map.n_bytes, path, ret, e);
        if (r < 0) {
                file_map_close(&map);
                return r;
        }
        (*ret)->map = map;
        return 0;
}

const char *safetensors_metadata(const struct safetensors *s, const char *key) {
        const cJSON *j = s->metadata ? cJSON_GetObjectItemCaseSensitive(s->metadata, key) : NULL;

        return j ? j->valuestring : NULL;
}

const float *safetensors_f32(const struct safetensors *s, const struct network_tensor *want,
                             struct error *e) {
        const struct tensor key = { .name = want->name };
        const struct tensor *t = NULL;
        const unsigned char *p;
        char found[192], wanted[192];
        uint64_t dims[4];
        bool same;

        if (s->n_tensors > 0)
                t = bsearch(&key, s->tensors, s->n_tensors, sizeof(*s->tensors), compare_names);
        if (!t) {
                (void) error_set(e, -ENOENT, "%s: tensor '%s': is missing", s->path, want->name);
                return NULL;
        }
        same = strcmp(t->dtype->name, "F32") == 0 && t->n_dims == want->n_dims;
        for (uint32_t i = 0; i < want->n_dims; i++) {
                dims[i] = want->dims[i];
                same = same && t->dims[i] == dims[i];
        }
        if (!same) {
                (void) error_set(e, -EBADMSG, "%s: tensor '%s': is %s %s, expected F32 %s", s->path,
                                 want->name, t->dtype->name, shape_text(t->n_dims, t->dims, found),
                                 shape_text(want->n_dims, dims, wanted));
                return NULL;
        }
        p = s->data + t->begin;
        if ((uintptr_t) p % sizeof(float) != 0) {
                (void) error_set(e, -EBADMSG, "%s: tensor '%s': data is not aligned to %zu bytes", s->path,
                                 want->name, sizeof(float));
                return NULL;
        }
        return (const float *) (const void *) p;
}

/* One number of the metadata, within its range: sizes read here decide over allocations. */
static int metadata_uint(const struct safetensors *s, const char *key, uint64_t min, uint64_t max,
                         uint64_t *ret, struct error *e) {
        const char *text = safetensors_metadata(s, key);
        char shown[N_SHOWN];

        if (json_decimal(text, max, ret) < 0 || *ret < min)
                return error_set(e, -EBADMSG,
                                 "%s: metadata '%s' is '%s', expected a number in [%" PRIu64 ", %" PRIu64 "]",
                                 s->path, key, text ? json_printable(text, sizeof(shown), shown) : "missing",
                                 min, max);
        return 0;
}

static int metadata_format(const struct safetensors *s, struct error *e) {
        const char *format = safetensors_metadata(s, "format");
        uint64_t version;
        char shown[N_SHOWN];

        if (!format || strcmp(format, MODEL_FORMAT) != 0)
                return error_set(e, -EBADMSG,
                                 "%s: is not an azpar model: metadata 'format' is '%s', expected '%s'",
                                 s->path, format ? json_printable(format, sizeof(shown), shown) : "missing",
                                 MODEL_FORMAT);
        return metadata_uint(s, "version", MODEL_VERSION, MODEL_VERSION, &version, e);
}

static int metadata_read(const struct safetensors *s, struct model_info *ret, struct error *e) {
        const char *rules = safetensors_metadata(s, "rules");
        struct model_info info = { 0 };
        uint64_t v[6];
        const struct {
                const char *key;
                uint64_t min, max;
                uint64_t *ret;
        } numbers[] = {
                { "generation", 0, MODEL_GENERATION_MAX, &info.generation },
                { "step", 0, MODEL_STEP_MAX, &info.step },
                { "unix_us", 0, UINT64_MAX, &info.unix_us },
                { "planes", 1, GAME_MAX_PLANES, &v[0] },
                { "rows", 1, GAME_MAX_CELLS, &v[1] },
                { "cols", 1, GAME_MAX_CELLS, &v[2] },
                { "moves", 1, GAME_MAX_MOVES, &v[3] },
                { "filters", MODEL_MIN_FILTERS, MODEL_MAX_FILTERS, &v[4] },
                { "blocks", 1, NETWORK_MAX_BLOCKS, &v[5] },
        };
        int r;

        r = metadata_format(s, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < N_ELEMENTS(numbers); i++) {
                r = metadata_uint(s, numbers[i].key, numbers[i].min, numbers[i].max, numbers[i].ret, e);
                if (r < 0)
                        return r;
        }
        if (v[1] * v[2] > GAME_MAX_CELLS)
                return error_set(e, -EBADMSG,
                                 "%s: metadata: a board of %" PRIu64 " x %" PRIu64
                                 " cells, at most %d allowed",
                                 s->path, v[1], v[2], GAME_MAX_CELLS);
        if (!rules || !*rules || strlen(rules) >= GAME_RULES_MAX)
                return error_set(e, -EBADMSG, "%s: metadata 'rules' is missing or not 1 to %d bytes long",
                                 s->path, GAME_RULES_MAX - 1);
        info.network = (struct network){ .planes = (uint32_t) v[0],
                                         .rows = (uint32_t) v[1],
                                         .cols = (uint32_t) v[2],
                                         .moves = (uint32_t) v[3],
                                         .filters = (uint32_t) v[4],
                                         .blocks = (uint32_t) v[5] };
        (void) json_printable(rules, sizeof(info.network.rules), info.network.rules);
        *ret = info;
        return 0;
}

/* First element of @x that is not finite, or below 0 with @not_negative; @n if there is none. */
static uint64_t first_bad(const float *x, uint64_t n, bool not_negative) {
        for (uint64_t i = 0; i < n; i++)
                if (!isfinite(x[i]) || (not_negative && x[i] < 0.0f))
                        return i;
        return n;
}

static int check_values(const char *path, const struct network_tensor *t, const float *x, int code,
                        struct error *e) {
        size_t n_name = strlen(t->name);
        bool variance = n_name > 11 && strcmp(t->name + n_name - 11, "running_var") == 0;
        uint64_t i;

        if (!variance && finite_all(x, t->n_elements))
                return 0;
        i = first_bad(x, t->n_elements, variance);
        if (i == t->n_elements)
                return 0;
        return error_set(e, code, "%s: tensor '%s': element %" PRIu64 " is %g, which is not %s", path,
                         t->name, i, (double) x[i], variance ? "a variance" : "finite");
}

/* All tensors of @network, complete and sane, and no others. */
static int collect(const struct safetensors *s, const struct network *network, const float **ret_tensors,
                   struct error *e) {
        cleanup_(freep) struct network_tensor *want = calloc(NETWORK_MAX_TENSORS, sizeof(*want));
        size_t n;
        int r;

        if (!want)
                return error_errno(e, -ENOMEM, "could not read '%s'", s->path);
        n = network_tensors(network, want);
        for (size_t i = 0; i < n; i++) {
                const float *x = safetensors_f32(s, &want[i], e);

                if (!x)
                        return -EBADMSG;
                r = check_values(s->path, &want[i], x, -EBADMSG, e);
                if (r < 0)
                        return r;
                if (ret_tensors)
                        ret_tensors[i] = x;
        }
        /* all of ours are there, so a different count means others besides */
        if (s->n_tensors != n)
                return error_set(e, -EBADMSG, "%s: %zu tensors, but the network has only %zu", s->path,
                                 s->n_tensors, n);
        return 0;
}

/* Whether @s is a complete model of the network @want (NULL: of any). */
static int check_model(const struct safetensors *s, const struct network *want, struct model_info *ret_info,
                       const float **ret_tensors, struct error *e) {
        struct model_info info;
        int r;

        r = metadata_read(s, &info, e);
        if (r < 0)
                return r;
        if (want && !network_equal(&info.network, want))
                return error_set(e, -EINVAL,
                                 "%s: is for %s with %ux%u (filters x blocks), not for %s with %ux%u",
                                 s->path, info.network.rules, info.network.filters, info.network.blocks,
                                 want->rules, want->filters, want->blocks);
        r = collect(s, &info.network, ret_tensors, e);
        if (r == 0 && ret_info)
                *ret_info = info;
        return r;
}

int model_open(int dir_fd, const char *path, const struct network *want, struct safetensors **ret,
               struct model_info *ret_info, const float **ret_tensors, struct error *e) {
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        int r;

        r = safetensors_open(dir_fd, path, &s, e);
        if (r < 0)
                return r;
        r = check_model(s, want, ret_info, ret_tensors, e);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

/* The largest file that can be a model of @n: a header of any length, and the tensors. */
static int model_max_bytes(const struct network *n, uint64_t *ret) {
        cleanup_(freep) struct network_tensor *list = calloc(NETWORK_MAX_TENSORS, sizeof(*list));
        size_t n_tensors;

        if (!list)
                return -ENOMEM;
        n_tensors = network_tensors(n, list);
        *ret = sizeof(uint64_t) + SAFETENSORS_HEADER_MAX;
        for (size_t i = 0; i < n_tensors; i++)
                *ret += list[i].n_elements * sizeof(float);
        return 0;
}

int model_check(int dir_fd, const char *path, const struct network *want, struct model_info *ret_info,
                struct error *e) {
        cleanup_(file_map_close) struct file_map copy = FILE_MAP_NULL;
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        uint64_t max;
        int r;

        r = model_max_bytes(want, &max);
        if (r < 0)
                return error_errno(e, r, "could not check '%s'", path);
        r = file_read(dir_fd, path, max, &copy, e);
        if (r < 0)
                return r;
        r = safetensors_parse(copy.bytes, copy.n_bytes, path, &s, e);
        return r < 0 ? r : check_model(s, want, ret_info, NULL, e);
}

static int add_number(cJSON *object, const char *key, uint64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        return cJSON_AddStringToObject(object, key, text) ? 0 : -ENOMEM;
}

static int add_metadata(cJSON *header, const struct model_info *info) {
        const struct network *n = &info->network;
        cJSON *m = cJSON_AddObjectToObject(header, "__metadata__");
        const struct {
                const char *key;
                uint64_t value;
        } numbers[] = {
                { "version", MODEL_VERSION }, { "generation", info->generation },
                { "step", info->step },       { "unix_us", info->unix_us },
                { "planes", n->planes },      { "rows", n->rows },
                { "cols", n->cols },          { "moves", n->moves },
                { "filters", n->filters },    { "blocks", n->blocks },
        };

        if (!m || !cJSON_AddStringToObject(m, "format", MODEL_FORMAT) ||
            !cJSON_AddStringToObject(m, "rules", n->rules))
                return -ENOMEM;
        for (size_t i = 0; i < N_ELEMENTS(numbers); i++)
                if (add_number(m, numbers[i].key, numbers[i].value) < 0)
                        return -ENOMEM;
        return 0;
}

static int add_tensor(cJSON *header, const struct network_tensor *t, uint64_t *offset) {
        cJSON *entry = cJSON_AddObjectToObject(header, t->name);
        cJSON *shape, *offsets;
        bool ok;

        if (!entry || !cJSON_AddStringToObject(entry, "dtype", "F32"))
                return -ENOMEM;
        shape = cJSON_AddArrayToObject(entry, "shape");
        offsets = cJSON_AddArrayToObject(entry, "data_offsets");
        if (!shape || !offsets)
                return -ENOMEM;
        ok = cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double) *offset));
        *offset += t->n_elements * sizeof(float);
        ok = ok && cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double) *offset));
        for (uint32_t i = 0; i < t->n_dims; i++)
                ok = ok && cJSON_AddItemToArray(shape, cJSON_CreateNumber(t->dims[i]));
        return ok ? 0 : -ENOMEM;
}

/* The header with its length in front, padded with spaces so that the data begins at a multiple of 8. */
static int build_header(const struct model_info *info, const struct network_tensor *t, size_t n, char **ret,
                        size_t *ret_n_bytes) {
        cleanup_(json_freep) cJSON *header = cJSON_CreateObject();
        cleanup_(freep) char *json = NULL, *bytes = NULL;
        uint64_t offset = 0, n_json, n_header;

        if (!header || add_metadata(header, info) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (add_tensor(header, &t[i], &offset) < 0)
                        return -ENOMEM;
        json = cJSON_PrintUnformatted(header);
        if (!json)
                return -ENOMEM;
        n_json = strlen(json);
        n_header = (n_json + 7) / 8 * 8;
        bytes = malloc(sizeof(n_header) + n_header);
        if (!bytes)
                return -ENOMEM;
        (void) memcpy(bytes, &n_header, sizeof(n_header));
        (void) memcpy(bytes + sizeof(n_header), json, n_json);
        (void) memset(bytes + sizeof(n_header) + n_json, ' ', n_header - n_json);
        *ret_n_bytes = sizeof(n_header) + n_header;
        *ret = TAKE_PTR(bytes);
        return 0;
}

int model_write(int dir_fd, const char *path, const struct model_info *info, const float *const *tensors,
                struct error *e) {
        cleanup_(freep) struct network_tensor *list = calloc(NETWORK_MAX_TENSORS, sizeof(*list));
        struct file_part parts[1 + NETWORK_MAX_TENSORS];
        cleanup_(freep) char *header = NULL;
        size_t n;
        int r;

        if (!list)
                return error_errno(e, -ENOMEM, "could not write '%s'", path);
        if (info->step > MODEL_STEP_MAX || info->generation > MODEL_GENERATION_MAX)
                return error_set(e, -EOVERFLOW,
                                 "could not write '%s': step %" PRIu64 " (at most %" PRIu64
                                 ") or generation %" PRIu64 " (at most %" PRIu64 ") is too large",
                                 path, info->step, MODEL_STEP_MAX, info->generation, MODEL_GENERATION_MAX);
        n = network_tensors(&info->network, list);
        for (size_t i = 0; i < n; i++) {
                r = check_values(path, &list[i], tensors[i], -EDOM, e);
                if (r < 0)
                        return r;
                parts[1 + i] = (struct file_part){ tensors[i], list[i].n_elements * sizeof(float) };
        }
        r = build_header(info, list, n, &header, &parts[0].n_bytes);
        if (r < 0)
                return error_errno(e, r, "could not write '%s'", path);
        parts[0].bytes = header;
        return file_replace(dir_fd, path, parts, 1 + n, e);
}
