/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * oneDNN's C API as inference uses it: its errors as ours, ends for its objects, descriptions of memory, and memory
 * itself.  Nothing here knows what a network is.  Process: azpar-worker, azpar-match.
 */

#include <oneapi/dnnl/dnnl.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/attr.h"
#include "common/base/error.h"

/* Where everything is computed: the CPU, in this thread alone. */
struct onednn {
        dnnl_engine_t engine;
        dnnl_stream_t stream;
};

must_check_ int onednn_init(struct onednn *o, struct error *e);
void onednn_deinit(struct onednn *o);

/* Return: 0, or a negative errno with the text "oneDNN: could not WHAT: REASON". */
must_check_ int onednn_check(dnnl_status_t status, const char *what, struct error *e);

/* dnnl_*_destroy() with NULL is an error that nobody sees; these are for half-built objects. */
void onednn_memory_drop(dnnl_memory_t *m);
void onednn_primitive_drop(dnnl_primitive_t *p);
void onednn_desc_drop(dnnl_primitive_desc_t *d);
void onednn_attr_drop(dnnl_primitive_attr_t *a);

/* ---- memory ---- */

/* Pages of our own, so that they go back to the system when they are dropped. */
struct onednn_pages {
        unsigned char *bytes;
        size_t n_bytes;
};

must_check_ int onednn_map(struct onednn_pages *p, size_t n_bytes, struct error *e);
void onednn_unmap(struct onednn_pages *p); /* also if nothing is mapped */

/* @n rounded up, so that what follows begins at a cache line. */
size_t onednn_aligned(size_t n);

/* ---- descriptions of memory ---- */

/* Of four dimensions: images [n][channels][rows][cols], or a convolution's weights [out][in][rows][cols]. */
dnnl_memory_desc_t onednn_tensor(dnnl_data_type_t type, dnnl_format_tag_t tag, uint32_t d0, uint32_t d1, uint32_t d2,
                                 uint32_t d3);
dnnl_memory_desc_t onednn_matrix(dnnl_format_tag_t tag, uint32_t rows, uint32_t cols); /* f32 */
dnnl_memory_desc_t onednn_vector(uint32_t n);                                          /* f32 */

/*
 * onednn_reorder() - build a change of layout
 * @ret_scratch: what it needs beside source and destination while it runs
 */
must_check_ int onednn_reorder(const struct onednn *o, const dnnl_memory_desc_t *src, const dnnl_memory_desc_t *dst,
                               dnnl_primitive_t *ret, dnnl_memory_desc_t *ret_scratch, struct error *e);
