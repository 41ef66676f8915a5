/* SPDX-License-Identifier: MIT */
/* Foreign JSON; see json.h. */
#include "common/model/json.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static size_t digits(const char *text, size_t n) {
        size_t i = 0;

        while (i < n && is_digit(text[i]))
                i++;
        return i;
}

/* Length of the number at the start of @text, 0 if it is none by the grammar (RFC 8259, section 6). */
static size_t number_length(const char *text, size_t n) {
        size_t i = n > 0 && text[0] == '-', k = digits(text + i, n - i);

        if (k == 0 || (k > 1 && text[i] == '0'))
                return 0;
        i += k;
        if (i < n && text[i] == '.') {
                k = digits(text + i + 1, n - i - 1);
                if (k == 0)
                        return 0;
                i += 1 + k;
        }
        if (i < n && (text[i] == 'e' || text[i] == 'E')) {
                i++;
                i += i < n && (text[i] == '+' || text[i] == '-');
                k = digits(text + i, n - i);
                if (k == 0)
                        return 0;
                i += k;
        }
        return i;
}

/* One pass over the raw text for what cJSON would let through. */
static int check_text(const char *text, size_t n, struct error *e) {
        bool in_string = false;
        unsigned depth = 0;

        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char) text[i];

                if (c < 0x20 && (in_string || !strchr("\t\n\r", c) || c == 0))
                        return error_set(e, -EBADMSG, "control character 0x%02x at byte %zu", c, i);
                if (in_string && c == '\\') {
                        if (n - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0)
                                return error_set(e, -EBADMSG, "\\u0000 in a string at byte %zu", i);
                        i++;
                } else if (c == '"') {
                        in_string = !in_string;
                } else if (in_string) {
                        continue;
                } else if (c == '{' || c == '[') {
                        if (++depth > JSON_MAX_DEPTH)
                                return error_set(e, -EBADMSG, "nested deeper than %d at byte %zu",
                                                 JSON_MAX_DEPTH, i);
                } else if (c == '}' || c == ']') {
                        depth -= depth > 0;
                } else if (c == '-' || is_digit(text[i])) {
                        size_t k = number_length(text + i, n - i);

                        if (k == 0)
                                return error_set(e, -EBADMSG, "malformed number at byte %zu", i);
                        i += k - 1;
                }
        }
        return 0;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Refuse an object that has a key twice, at any depth (which check_text() has bounded). */
static int check_duplicates(const cJSON *j, struct error *e) {
        cleanup_(freep) const char **names = NULL;
        size_t n = 0;
        const cJSON *child;
        int r;

        cJSON_ArrayForEach(child, j) {
                r = check_duplicates(child, e);
                if (r < 0)
                        return r;
                n++;
        }
        if (!cJSON_IsObject(j) || n < 2)
                return 0;
        names = calloc(n, sizeof(*names));
        if (!names)
                return error_errno(e, -ENOMEM, "could not check %zu keys", n);
        n = 0;
        cJSON_ArrayForEach(child, j) names[n++] = child->string;
        qsort(names, n, sizeof(*names), compare_names);
        for (size_t i = 1; i < n; i++)
                if (strcmp(names[i - 1], names[i]) == 0) {
                        char shown[64];

                        return error_set(e, -EBADMSG, "key '%s' is there twice",
                                         json_printable(names[i], sizeof(shown), shown));
                }
        return 0;
}

/*
 * cJSON says the same of text that is malformed and of text for which there was no memory.  The second is no
 * fault of the file, which is fine when looked at again; so the allocations are watched.
 */
static bool out_of_memory;

static void *watched_malloc(size_t n) {
        void *p = malloc(n);

        out_of_memory = out_of_memory || !p;
        return p;
}

/* cJSON's hooks belong to the whole process: nobody else of it may be in cJSON meanwhile. */
static cJSON *parse_watched(const char *text, size_t n, const char **ret_end) {
        cJSON_Hooks hooks = { .malloc_fn = watched_malloc, .free_fn = free };
        cJSON *j;

        out_of_memory = false;
        cJSON_InitHooks(&hooks);
        j = cJSON_ParseWithLengthOpts(text, n, ret_end, 0);
        cJSON_InitHooks(NULL);
        return j;
}

int json_parse_object(const char *text, size_t n, cJSON **ret, struct error *e) {
        cleanup_(json_freep) cJSON *j = NULL;
        const char *end = NULL;
        int r;

        if (n < 2 || text[0] != '{')
                return error_set(e, -EBADMSG, "JSON does not begin with '{'");
        r = check_text(text, n, e);
        if (r < 0)
                return r;
        j = parse_watched(text, n, &end);
        if (!j && out_of_memory)
                return error_errno(e, -ENOMEM, "could not parse %zu bytes of JSON", n);
        if (!j)
                return error_set(e, -EBADMSG, "JSON is malformed near byte %zu",
                                 end ? (size_t) (end - text) : 0);
        while (end < text + n && strchr(" \t\n\r", *end))
                end++;
        if (end != text + n)
                return error_set(e, -EBADMSG, "something follows the JSON object at byte %zu",
                                 (size_t) (end - text));
        r = check_duplicates(j, e);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(j);
        return 0;
}

int json_uint(const cJSON *j, uint64_t max, uint64_t *ret) {
        double v;

        if (!j || !cJSON_IsNumber(j))
                return -EBADMSG;
        v = j->valuedouble;
        if (!(v >= 0.0 && v <= (double) max) || v != floor(v))
                return -EBADMSG;
        *ret = (uint64_t) v;
        return 0;
}

int json_decimal(const char *text, uint64_t max, uint64_t *ret) {
        uint64_t v = 0;

        if (!text || !*text)
                return -EBADMSG;
        for (const char *p = text; *p; p++)
                if (!is_digit(*p) || __builtin_mul_overflow(v, 10, &v) ||
                    __builtin_add_overflow(v, (uint64_t) (*p - '0'), &v))
                        return -EBADMSG;
        if (v > max)
                return -EBADMSG;
        *ret = v;
        return 0;
}

const char *json_printable(const char *text, size_t n_ret, char *ret) {
        size_t i = 0;

        for (; i + 1 < n_ret && text[i]; i++)
                ret[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
        ret[i] = '\0';
        return ret;
}
