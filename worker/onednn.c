/* SPDX-License-Identifier: MIT */
/* oneDNN's C API as inference uses it; see onednn.h.  Process: azpar-worker, azpar-match. */
#include "worker/onednn.h"

#include <assert.h>
#include <errno.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <omp.h>
#include <sys/mman.h>

#define ALIGNMENT 64

int onednn_check(dnnl_status_t status, const char *what, struct error *e) {
        int code = status == dnnl_out_of_memory ? -ENOMEM : status == dnnl_unimplemented ? -ENOTSUP : -EIO;

        if (status == dnnl_success)
                return 0;
        return error_set(e, code, "oneDNN: could not %s: %s", what, dnnl_status2str(status));
}

int onednn_init(struct onednn *o, struct error *e) {
        dnnl_status_t status;

        omp_set_num_threads(1);
        status = dnnl_engine_create(&o->engine, dnnl_cpu, 0);
        if (status == dnnl_success)
                status = dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags);
        return onednn_check(status, "start", e);
}

void onednn_deinit(struct onednn *o) {
        if (o->stream)
                (void) dnnl_stream_destroy(o->stream);
        if (o->engine)
                (void) dnnl_engine_destroy(o->engine);
        *o = (struct onednn){ 0 };
}

void onednn_memory_drop(dnnl_memory_t *m) {
        if (*m)
                (void) dnnl_memory_destroy(*m);
        *m = NULL;
}

void onednn_primitive_drop(dnnl_primitive_t *p) {
        if (*p)
                (void) dnnl_primitive_destroy(*p);
        *p = NULL;
}

void onednn_desc_drop(dnnl_primitive_desc_t *d) {
        if (*d)
                (void) dnnl_primitive_desc_destroy(*d);
        *d = NULL;
}

void onednn_attr_drop(dnnl_primitive_attr_t *a) {
        if (*a)
                (void) dnnl_primitive_attr_destroy(*a);
        *a = NULL;
}

/* ---- memory ---- */

int onednn_map(struct onednn_pages *p, size_t n_bytes, struct error *e) {
        void *bytes = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (bytes == MAP_FAILED)
                return error_errno(e, -errno, "could not allocate %zu bytes for the network", n_bytes);
        *p = (struct onednn_pages){ .bytes = bytes, .n_bytes = n_bytes };
        return 0;
}

void onednn_unmap(struct onednn_pages *p) {
        if (p->bytes)
                (void) munmap(p->bytes, p->n_bytes);
        *p = (struct onednn_pages){ 0 };
}

size_t onednn_aligned(size_t n) {
        return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- descriptions of memory ---- */

static dnnl_memory_desc_t describe(dnnl_data_type_t type, dnnl_format_tag_t tag, int n_dims,
                                   const dnnl_dims_t dims) {
        dnnl_memory_desc_t m;
        dnnl_status_t status = dnnl_memory_desc_init_by_tag(&m, n_dims, dims, type, tag);

        assert(status == dnnl_success); /* depends on our own numbers only */
        return m;
}

dnnl_memory_desc_t onednn_tensor(dnnl_data_type_t type, dnnl_format_tag_t tag, uint32_t d0, uint32_t d1,
                                 uint32_t d2, uint32_t d3) {
        return describe(type, tag, 4, (const dnnl_dims_t){ d0, d1, d2, d3 });
}

dnnl_memory_desc_t onednn_matrix(dnnl_format_tag_t tag, uint32_t rows, uint32_t cols) {
        return describe(dnnl_f32, tag, 2, (const dnnl_dims_t){ rows, cols });
}

dnnl_memory_desc_t onednn_vector(uint32_t n) {
        return describe(dnnl_f32, dnnl_a, 1, (const dnnl_dims_t){ n });
}

int onednn_reorder(const struct onednn *o, const dnnl_memory_desc_t *src, const dnnl_memory_desc_t *dst,
                   dnnl_primitive_t *ret, dnnl_memory_desc_t *ret_scratch, struct error *e) {
        cleanup_(onednn_attr_drop) dnnl_primitive_attr_t attr = NULL;
        cleanup_(onednn_desc_drop) dnnl_primitive_desc_t d = NULL;
        dnnl_status_t status;

        status = dnnl_primitive_attr_create(&attr);
        if (status == dnnl_success)
                status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
        if (status == dnnl_success)
                status = dnnl_reorder_primitive_desc_create(&d, src, o->engine, dst, o->engine, attr);
        if (status == dnnl_success) {
                *ret_scratch = *dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
                status = dnnl_primitive_create(ret, d);
        }
        return onednn_check(status, "build a change of layout", e);
}
