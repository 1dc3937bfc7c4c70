/* oneDNN 2.6 .. 3.x behind one small face. Activations are plain nhwc, weights are laid out by the library: letting it
 * choose activations too costs a reorder a layer, many times the convolution itself. */
#include "onednn.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t MD;
#else
typedef const dnnl_memory_desc_t *MD;
#endif

typedef struct primitive {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t run;
    dnnl_memory_t scratch;
} primitive;

/* The gradient of the weights is summed over slices of the batch, each by one thread: shared among threads by the library, it
 * waits in loops that never sleep, and beside another busy program each of them costs a turn of the scheduler. The slices
 * depend on the batch alone, so that the sum does not change with the number of threads. */
enum { MOST_SLICES = 8 };
typedef struct slice {
    dnnl_stream_t stream;
    dnnl_memory_t x, dy, dw, db, scratch;
} slice;

struct uf_dconv {
    uf_ctx *ctx;
    uf_dconv_spec spec;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    primitive forward, data, weights;
    primitive pack_forward, pack_data, unpack;
    primitive widen_x, widen_dy, narrow_dx; /* to and from float32, where bf16 gradients cannot be trusted */
    slice slices[MOST_SLICES];
    int n_slices;
    dnnl_memory_t x, y, bias, w, w_data, w_plain, dx, dy, dw_plain;
    dnnl_memory_t x32, dy32, dx32;
    float *scaled, *dw_sum, *db_sum; /* OIHW work space; db_sum: a row a slice */
    size_t n_w, n_scratch, slice_scratch;
};

static int check(uf_dconv *c, dnnl_status_t status, const char *what) {
    if (status == dnnl_success) return UF_OK;
    int code = status == dnnl_unimplemented   ? UF_EUNSUPPORTED
               : status == dnnl_out_of_memory ? UF_ENOMEM
                                              : UF_EINVAL;
    return uf_fail(c->ctx, code, "oneDNN refuses the %s of a %dx%d convolution from %dx%dx%d to %d channels (status %d)",
                   what, c->spec.kh, c->spec.kw, c->spec.x.c, c->spec.x.h, c->spec.x.w, c->spec.y.c, (int)status);
}

static dnnl_data_type_t type_of(uf_dtype t) { return t == UF_BF16 ? dnnl_bf16 : dnnl_f32; }

/* A descriptor in either API generation; `any` lets the library choose. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t desc;
static dnnl_status_t desc_init(desc *d, int n, const dnnl_dim_t *dims, dnnl_data_type_t t, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(d, n, dims, t, tag);
}
static void desc_free(desc *d) {
    if (*d) dnnl_memory_desc_destroy(*d);
    *d = NULL;
}
static MD desc_ref(const desc *d) { return *d; }
#else
typedef dnnl_memory_desc_t desc;
static dnnl_status_t desc_init(desc *d, int n, const dnnl_dim_t *dims, dnnl_data_type_t t, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_init_by_tag(d, n, dims, t, tag);
}
static void desc_free(desc *d) { (void)d; }
static MD desc_ref(const desc *d) { return d; }
#endif

typedef struct layouts {
    desc x, y, w_any, w_plain, bias, dw_any;
    dnnl_dim_t strides[DNNL_MAX_NDIMS], dilates[DNNL_MAX_NDIMS], pad_low[DNNL_MAX_NDIMS], pad_high[DNNL_MAX_NDIMS];
} layouts;

static void layouts_free(layouts *l) {
    desc *all[] = {&l->x, &l->y, &l->w_any, &l->w_plain, &l->bias, &l->dw_any};
    for (int i = 0; i < UF_LEN(all); i++) desc_free(all[i]);
}

static int layouts_init(uf_dconv *c, layouts *l, uf_dtype dtype, int n) {
    const uf_dconv_spec *s = &c->spec;
    dnnl_data_type_t t = type_of(dtype);
    dnnl_dim_t x[DNNL_MAX_NDIMS] = {n, s->x.c, s->x.h, s->x.w}, y[DNNL_MAX_NDIMS] = {n, s->y.c, s->y.h, s->y.w};
    dnnl_dim_t w4[DNNL_MAX_NDIMS] = {s->y.c, s->x.c, s->kh, s->kw}, bias[DNNL_MAX_NDIMS] = {s->y.c};
    dnnl_dim_t w5[DNNL_MAX_NDIMS] = {s->groups, s->y.c / s->groups, s->x.c / s->groups, s->kh, s->kw};
    const dnnl_dim_t *w = s->groups > 1 ? w5 : w4;
    int rank = s->groups > 1 ? 5 : 4;
    dnnl_format_tag_t plain = s->groups > 1 ? dnnl_goihw : dnnl_oihw;
    dnnl_status_t e = desc_init(&l->x, 4, x, t, dnnl_nhwc);
    if (!e) e = desc_init(&l->y, 4, y, t, dnnl_nhwc);
    if (!e) e = desc_init(&l->w_any, rank, w, t, dnnl_format_tag_any);
    if (!e) e = desc_init(&l->dw_any, rank, w, dnnl_f32, dnnl_format_tag_any);
    if (!e) e = desc_init(&l->w_plain, rank, w, dnnl_f32, plain);
    if (!e) e = desc_init(&l->bias, 1, bias, dnnl_f32, dnnl_a);
    for (int a = 0; a < 2; a++) {
        int in = a ? s->x.w : s->x.h, out = a ? s->y.w : s->y.h, k = a ? s->kw : s->kh;
        l->strides[a] = s->stride;
        l->dilates[a] = s->dilation - 1;
        l->pad_low[a] = a ? s->pad : s->top;
        l->pad_high[a] = (dnnl_dim_t)(out - 1) * s->stride + (dnnl_dim_t)(k - 1) * s->dilation + 1 - in - l->pad_low[a];
    }
    return check(c, e, "layout");
}

/* Memory objects without a buffer: each run hands its own. */
static int memory(uf_dconv *c, dnnl_memory_t *m, MD md, void *data) {
    return check(c, dnnl_memory_create(m, md, c->engine, data), "memory");
}

static int primitive_finish(uf_dconv *c, primitive *p, const char *what) {
    UF_TRY(check(c, dnnl_primitive_create(&p->run, p->desc), what));
    MD md = dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    size_t n = md ? dnnl_memory_desc_get_size(md) : 0;
    if (n == 0) return UF_OK;
    if (n > c->n_scratch) c->n_scratch = n;
    return memory(c, &p->scratch, md, DNNL_MEMORY_NONE);
}

static void primitive_close(primitive *p) {
    if (p->run) dnnl_primitive_destroy(p->run);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
    if (p->scratch) dnnl_memory_destroy(p->scratch);
}

static int execute(uf_dconv *c, primitive *p, int n, dnnl_exec_arg_t *args, void *scratch) {
    if (p->scratch) {
        dnnl_memory_set_data_handle(p->scratch, scratch);
        args[n].arg = DNNL_ARG_SCRATCHPAD;
        args[n++].memory = p->scratch;
    }
    UF_TRY(check(c, dnnl_primitive_execute(p->run, c->stream, n, args), "run"));
    return check(c, dnnl_stream_wait(c->stream), "run");
}

static int attributes(uf_dconv *c, dnnl_primitive_attr_t *attr, bool fuse) {
    UF_TRY(check(c, dnnl_primitive_attr_create(attr), "attributes"));
    dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (!fuse || (!c->spec.sum && !c->spec.relu)) return UF_OK;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t e = dnnl_post_ops_create(&ops);
#if DNNL_VERSION_MAJOR >= 3
    if (!e && c->spec.sum) e = dnnl_post_ops_append_sum(ops, 1.f, 0, dnnl_data_type_undef);
    if (!e && c->spec.relu) e = dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0.f, 0.f);
#else
    if (!e && c->spec.sum) e = dnnl_post_ops_append_sum(ops, 1.f);
    if (!e && c->spec.relu) e = dnnl_post_ops_append_eltwise(ops, 1.f, dnnl_eltwise_relu, 0.f, 0.f);
#endif
    if (!e) e = dnnl_primitive_attr_set_post_ops(*attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    return check(c, e, "fusion");
}

static dnnl_status_t describe(uf_dconv *c, int dir, layouts *l, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out) {
    const uf_dconv_spec *s = &c->spec;
    dnnl_prop_kind_t prop = s->backward_data || s->backward_weights ? dnnl_forward_training : dnnl_forward_inference;
    dnnl_primitive_desc_t hint = c->forward.desc;
    MD x = desc_ref(&l->x), y = desc_ref(&l->y), w = desc_ref(&l->w_any), b = s->bias ? desc_ref(&l->bias) : NULL;
    MD dw = desc_ref(&l->dw_any);
#if DNNL_VERSION_MAJOR >= 3
    if (dir == 0)
        return dnnl_convolution_forward_primitive_desc_create(out, c->engine, prop, dnnl_convolution_direct, x, w, b, y,
                                                              l->strides, l->dilates, l->pad_low, l->pad_high, attr);
    if (dir == 1)
        return dnnl_convolution_backward_data_primitive_desc_create(out, c->engine, dnnl_convolution_direct, x, w, y,
                                                                    l->strides, l->dilates, l->pad_low, l->pad_high,
                                                                    hint, attr);
    return dnnl_convolution_backward_weights_primitive_desc_create(out, c->engine, dnnl_convolution_direct, x, dw, b, y,
                                                                   l->strides, l->dilates, l->pad_low, l->pad_high,
                                                                   hint, attr);
#else
    dnnl_convolution_desc_t d;
    dnnl_status_t e;
    if (dir == 0)
        e = dnnl_dilated_convolution_forward_desc_init(&d, prop, dnnl_convolution_direct, x, w, b, y, l->strides,
                                                       l->dilates, l->pad_low, l->pad_high);
    else if (dir == 1)
        e = dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, x, w, y, l->strides,
                                                             l->dilates, l->pad_low, l->pad_high);
    else
        e = dnnl_dilated_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, x, dw, b, y, l->strides,
                                                                l->dilates, l->pad_low, l->pad_high);
    return e ? e : dnnl_primitive_desc_create(out, &d, attr, c->engine, dir ? hint : NULL);
#endif
}

static int direction(uf_dconv *c, primitive *p, int dir, layouts *l) {
    static const char *const what[] = {"forward pass", "backward pass to data", "backward pass to weights"};
    dnnl_primitive_attr_t attr = NULL;
    int err = attributes(c, &attr, dir == 0);
    if (err == UF_OK) err = check(c, describe(c, dir, l, attr, &p->desc), what[dir]);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return err < 0 ? err : primitive_finish(c, p, what[dir]);
}

static int reorder(uf_dconv *c, primitive *p, MD from, MD to) {
    dnnl_primitive_attr_t attr = NULL;
    int err = attributes(c, &attr, false);
    if (err == UF_OK)
        err = check(c, dnnl_reorder_primitive_desc_create(&p->desc, from, c->engine, to, c->engine, attr), "reorder");
    if (attr) dnnl_primitive_attr_destroy(attr);
    return err < 0 ? err : primitive_finish(c, p, "reorder");
}

static int move(uf_dconv *c, primitive *p, dnnl_memory_t from, dnnl_memory_t to, void *scratch) {
    dnnl_exec_arg_t a[3] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    return execute(c, p, 2, a, scratch);
}

static MD query(const primitive *p, dnnl_query_t q) { return dnnl_primitive_desc_query_md(p->desc, q, 0); }

/* oneDNN before 3.6 answers wrongly for some bf16 gradients. With AMX: of the weights, on pictures 360 or more wide, out of
 * bounds at that (352 ran clean). With bf16 dot products alone (2.6.3, found by test_conv_sweep): of the weights, with a
 * dilation, and on pictures narrower than the kernel, where it reads what it never wrote; of 1x1 kernels, to an odd number of
 * channels. Those shapes compute the direction in float32. */
static bool distrusted(const uf_dconv_spec *s) {
    const dnnl_version_t *v = dnnl_version();
    return s->dtype == UF_BF16 && (v->major < 3 || (v->major == 3 && v->minor < 6));
}

static bool pointwise_needs_f32(const uf_dconv_spec *s) {
    return s->kh == 1 && s->kw == 1 && s->y.c % 2;
}

static bool weights_need_f32(const uf_dconv_spec *s) {
    bool wide = s->x.w > 352 && uf_cpu_has_amx();
    return distrusted(s) && (wide || s->dilation > 1 || s->x.w < s->kw || s->x.h < s->kh || pointwise_needs_f32(s));
}

static bool data_needs_f32(const uf_dconv_spec *s) { return distrusted(s) && pointwise_needs_f32(s); }

/* A direction with another type or batch than the convolution's own; its hint must be of the same. */
static int direction_apart(uf_dconv *c, primitive *p, int dir, layouts *l) {
    primitive forward = {0}, saved = c->forward;
    c->forward = (primitive){0};
    int err = direction(c, &forward, 0, l);
    c->forward = forward;
    if (err == UF_OK) err = direction(c, p, dir, l);
    c->forward = saved;
    primitive_close(&forward);
    return err;
}

static int widen(uf_dconv *c, primitive *p, dnnl_memory_t *m, desc *from, desc *to) {
    if (*m) return UF_OK;
    UF_TRY(reorder(c, p, desc_ref(from), desc_ref(to)));
    return memory(c, m, desc_ref(to), DNNL_MEMORY_ALLOCATE);
}

static int slices_of(int n) {
    int most = n < MOST_SLICES ? n : MOST_SLICES;
    while (n % most) most--;
    return most;
}

static int open_slice(uf_dconv *c, slice *s, layouts *l, float *db) {
    UF_TRY(check(c, dnnl_stream_create(&s->stream, c->engine, dnnl_stream_default_flags), "stream"));
    UF_TRY(memory(c, &s->x, desc_ref(&l->x), DNNL_MEMORY_NONE));
    UF_TRY(memory(c, &s->dy, desc_ref(&l->y), DNNL_MEMORY_NONE));
    UF_TRY(memory(c, &s->dw, query(&c->weights, dnnl_query_diff_weights_md), DNNL_MEMORY_ALLOCATE));
    if (c->spec.bias) UF_TRY(memory(c, &s->db, desc_ref(&l->bias), db));
    MD scratch = query(&c->weights, dnnl_query_scratchpad_md);
    return c->slice_scratch ? memory(c, &s->scratch, scratch, DNNL_MEMORY_NONE) : UF_OK;
}

static int open_slices(uf_dconv *c, layouts *l) {
    int n_threads = omp_get_max_threads();
    omp_set_num_threads(1);
    int err = direction_apart(c, &c->weights, 2, l);
    omp_set_num_threads(n_threads);
    if (err < 0) return err;
    MD scratch = query(&c->weights, dnnl_query_scratchpad_md);
    c->slice_scratch = scratch ? (dnnl_memory_desc_get_size(scratch) + 63) / 64 * 64 : 0;
    size_t all = c->slice_scratch * (size_t)n_threads;
    if (all > c->n_scratch) c->n_scratch = all;
    if (!(c->db_sum = uf_alloc(c->ctx, (size_t)(c->n_slices * c->spec.y.c), sizeof(float)))) return UF_ENOMEM;
    for (int i = 0; i < c->n_slices; i++) UF_TRY(open_slice(c, &c->slices[i], l, c->db_sum + i * c->spec.y.c));
    return UF_OK;
}

static int open_weights(uf_dconv *c, layouts *l, layouts *wide) {
    layouts part = {0};
    bool f32 = weights_need_f32(&c->spec);
    if (f32) {
        UF_TRY(widen(c, &c->widen_x, &c->x32, &l->x, &wide->x));
        UF_TRY(widen(c, &c->widen_dy, &c->dy32, &l->y, &wide->y));
    }
    c->n_slices = slices_of(c->spec.x.n);
    int err = layouts_init(c, &part, f32 ? UF_F32 : c->spec.dtype, c->spec.x.n / c->n_slices);
    if (err == UF_OK) err = open_slices(c, &part);
    layouts_free(&part);
    if (err < 0) return err;
    if (!(c->dw_sum = uf_alloc(c->ctx, c->n_w, sizeof(float)))) return UF_ENOMEM;
    UF_TRY(memory(c, &c->dw_plain, desc_ref(&l->w_plain), c->dw_sum));
    return reorder(c, &c->unpack, query(&c->weights, dnnl_query_diff_weights_md), desc_ref(&l->w_plain));
}

static int open_data(uf_dconv *c, layouts *l, layouts *wide) {
    if (data_needs_f32(&c->spec)) {
        UF_TRY(direction_apart(c, &c->data, 1, wide));
        UF_TRY(widen(c, &c->widen_dy, &c->dy32, &l->y, &wide->y));
        UF_TRY(reorder(c, &c->narrow_dx, desc_ref(&wide->x), desc_ref(&l->x)));
        UF_TRY(memory(c, &c->dx32, desc_ref(&wide->x), DNNL_MEMORY_ALLOCATE));
    } else {
        UF_TRY(direction(c, &c->data, 1, l));
    }
    UF_TRY(memory(c, &c->dx, desc_ref(&l->x), DNNL_MEMORY_NONE));
    UF_TRY(memory(c, &c->w_data, query(&c->data, dnnl_query_weights_md), DNNL_MEMORY_ALLOCATE));
    return reorder(c, &c->pack_data, desc_ref(&l->w_plain), query(&c->data, dnnl_query_weights_md));
}

static int open_all(uf_dconv *c, layouts *l, layouts *wide) {
    UF_TRY(layouts_init(c, l, c->spec.dtype, c->spec.x.n));
    UF_TRY(direction(c, &c->forward, 0, l));
    UF_TRY(memory(c, &c->x, desc_ref(&l->x), DNNL_MEMORY_NONE));
    UF_TRY(memory(c, &c->y, desc_ref(&l->y), DNNL_MEMORY_NONE));
    if (!(c->scaled = uf_alloc(c->ctx, c->n_w, sizeof(float)))) return UF_ENOMEM;
    UF_TRY(memory(c, &c->w_plain, desc_ref(&l->w_plain), c->scaled));
    if (c->spec.forward) {
        if (c->spec.bias) UF_TRY(memory(c, &c->bias, desc_ref(&l->bias), DNNL_MEMORY_NONE));
        UF_TRY(memory(c, &c->w, query(&c->forward, dnnl_query_weights_md), DNNL_MEMORY_ALLOCATE));
        UF_TRY(reorder(c, &c->pack_forward, desc_ref(&l->w_plain), query(&c->forward, dnnl_query_weights_md)));
    }
    if (c->spec.backward_data || c->spec.backward_weights) {
        UF_TRY(layouts_init(c, wide, UF_F32, c->spec.x.n));
        UF_TRY(memory(c, &c->dy, desc_ref(&l->y), DNNL_MEMORY_NONE));
    }
    if (c->spec.backward_data) UF_TRY(open_data(c, l, wide));
    return c->spec.backward_weights ? open_weights(c, l, wide) : UF_OK;
}

bool uf_dconv_trusted(const uf_dconv_spec *s) {
    return s->kh > 1 || s->kw > 1 || s->stride == 1 || (s->x.c % 16 == 0 && s->y.c % 16 == 0);
}

int uf_dconv_open(uf_dconv **out, uf_ctx *ctx, const uf_dconv_spec *spec) {
    uf_dconv *c = uf_alloc(ctx, 1, sizeof *c);
    if (!c) return UF_ENOMEM;
    c->ctx = ctx;
    c->spec = *spec;
    c->n_w = (size_t)spec->y.c * (size_t)(spec->x.c / spec->groups) * (size_t)(spec->kh * spec->kw);
    layouts l = {0}, wide = {0};
    int err = check(c, dnnl_engine_create(&c->engine, dnnl_cpu, 0), "engine");
    if (err == UF_OK) err = check(c, dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags), "stream");
    if (err == UF_OK) err = open_all(c, &l, &wide);
    layouts_free(&l);
    layouts_free(&wide);
    if (err < 0) {
        uf_dconv_close(&c);
        return err;
    }
    *out = c;
    return UF_OK;
}

static void slice_close(slice *s) {
    dnnl_memory_t m[] = {s->x, s->dy, s->dw, s->db, s->scratch};
    for (int i = 0; i < UF_LEN(m); i++)
        if (m[i]) dnnl_memory_destroy(m[i]);
    if (s->stream) dnnl_stream_destroy(s->stream);
}

void uf_dconv_close(uf_dconv **pc) {
    uf_dconv *c = *pc;
    if (!c) return;
    primitive *all[] = {&c->forward, &c->data,    &c->weights, &c->pack_forward, &c->pack_data,
                        &c->unpack,  &c->widen_x, &c->widen_dy, &c->narrow_dx};
    for (int i = 0; i < UF_LEN(all); i++) primitive_close(all[i]);
    for (int i = 0; i < c->n_slices; i++) slice_close(&c->slices[i]);
    dnnl_memory_t m[] = {c->x, c->y, c->bias, c->w, c->w_data, c->w_plain, c->dx, c->dy, c->dw_plain, c->x32, c->dy32, c->dx32};
    for (int i = 0; i < UF_LEN(m); i++)
        if (m[i]) dnnl_memory_destroy(m[i]);
    if (c->stream) dnnl_stream_destroy(c->stream);
    if (c->engine) dnnl_engine_destroy(c->engine);
    free(c->scaled);
    free(c->dw_sum);
    free(c->db_sum);
    free(c);
    *pc = NULL;
}

size_t uf_dconv_scratch(const uf_dconv *c) { return c->n_scratch; }

const char *uf_dconv_impl(const uf_dconv *c) {
    const char *s = NULL;
    dnnl_primitive_desc_query(c->forward.desc, dnnl_query_impl_info_str, 0, &s);
    return s ? s : "?";
}

int uf_dconv_pack(uf_dconv *c, const float *w, const float *scale) {
    size_t per = c->n_w / (size_t)c->spec.y.c;
    if (!c->spec.forward && !c->spec.backward_data) return UF_OK; /* gradients of the weights do not read them */
    for (int o = 0; o < c->spec.y.c; o++)
        for (size_t i = 0; i < per; i++)
            c->scaled[(size_t)o * per + i] = w[(size_t)o * per + i] * (scale ? scale[o] : 1.f);
    void *scratch = NULL; /* reorders of weights need little; only ask when one does */
    if (c->pack_forward.scratch || c->pack_data.scratch)
        if (!(scratch = uf_alloc(c->ctx, 1, c->n_scratch))) return UF_ENOMEM;
    int err = c->spec.forward ? move(c, &c->pack_forward, c->w_plain, c->w, scratch) : UF_OK;
    if (err == UF_OK && c->spec.backward_data) err = move(c, &c->pack_data, c->w_plain, c->w_data, scratch);
    free(scratch);
    return err;
}

static void at(dnnl_memory_t m, const void *data) { dnnl_memory_set_data_handle(m, (void *)(uintptr_t)data); }

int uf_dconv_forward(uf_dconv *c, const void *x, const float *bias, void *y, void *scratch) {
    at(c->x, x);
    at(c->y, y);
    if (c->spec.bias) at(c->bias, bias);
    dnnl_exec_arg_t a[6] = {{DNNL_ARG_SRC, c->x}, {DNNL_ARG_WEIGHTS, c->w}, {DNNL_ARG_DST, c->y}};
    int n = 3;
    if (c->spec.bias) a[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, c->bias};
    return execute(c, &c->forward, n, a, scratch);
}

static void clear(const uf_dconv *c, void *dx) {
    void *to = dx;
    if (c->dx32) dnnl_memory_get_data_handle(c->dx32, &to);
    memset(to, 0, uf_count(c->spec.x) * (c->dx32 || c->spec.dtype != UF_BF16 ? sizeof(float) : 2));
}

int uf_dconv_backward_data(uf_dconv *c, const void *dy, void *dx, void *scratch) {
    at(c->dy, dy);
    at(c->dx, dx);
    bool wide = c->dx32 != NULL;
    if (wide) UF_TRY(move(c, &c->widen_dy, c->dy, c->dy32, scratch));
    if (c->spec.stride > c->spec.kh) clear(c, dx); /* some kernels leave the pixels that no window touches as they were */
    dnnl_exec_arg_t a[5] = {{DNNL_ARG_DIFF_DST, wide ? c->dy32 : c->dy}, {DNNL_ARG_WEIGHTS, c->w_data},
                            {DNNL_ARG_DIFF_SRC, wide ? c->dx32 : c->dx}};
    UF_TRY(execute(c, &c->data, 3, a, scratch));
    return wide ? move(c, &c->narrow_dx, c->dx32, c->dx, scratch) : UF_OK;
}

/* Slice i of x and dy, whose elements are `size` bytes. Called by several threads at once. */
static dnnl_status_t run_slice(uf_dconv *c, int i, const char *x, const char *dy, size_t size, char *scratch) {
    slice *s = &c->slices[i];
    size_t n = (size_t)c->n_slices, before = (size_t)i * size;
    at(s->x, x + uf_count(c->spec.x) / n * before);
    at(s->dy, dy + uf_count(c->spec.y) / n * before);
    dnnl_exec_arg_t a[6] = {{DNNL_ARG_SRC, s->x}, {DNNL_ARG_DIFF_DST, s->dy}, {DNNL_ARG_DIFF_WEIGHTS, s->dw}};
    int n_args = 3;
    if (c->spec.bias) a[n_args++] = (dnnl_exec_arg_t){DNNL_ARG_DIFF_BIAS, s->db};
    if (s->scratch) {
        at(s->scratch, scratch);
        a[n_args++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, s->scratch};
    }
    dnnl_status_t e = dnnl_primitive_execute(c->weights.run, s->stream, n_args, a);
    return e ? e : dnnl_stream_wait(s->stream);
}

/* All slices into the first: in the library's own layout, which they share. */
static void sum_slices(uf_dconv *c) {
    float *part[MOST_SLICES];
    size_t n = dnnl_memory_desc_get_size(query(&c->weights, dnnl_query_diff_weights_md)) / sizeof(float);
    for (int i = 0; i < c->n_slices; i++) dnnl_memory_get_data_handle(c->slices[i].dw, (void **)&part[i]);
#pragma omp parallel for
    for (size_t k = 0; k < n; k++)
        for (int i = 1; i < c->n_slices; i++) part[0][k] += part[i][k];
}

int uf_dconv_backward_weights(uf_dconv *c, const void *x, const void *dy, float *dw, float *db, void *scratch) {
    void *x32 = NULL, *dy32 = NULL;
    dnnl_status_t worst = dnnl_success;
    if (c->x32) {
        at(c->x, x);
        at(c->dy, dy);
        UF_TRY(move(c, &c->widen_x, c->x, c->x32, scratch));
        UF_TRY(move(c, &c->widen_dy, c->dy, c->dy32, scratch));
        dnnl_memory_get_data_handle(c->x32, &x32);
        dnnl_memory_get_data_handle(c->dy32, &dy32);
    }
    size_t size = x32 || c->spec.dtype != UF_BF16 ? sizeof(float) : 2;
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < c->n_slices; i++) {
        char *own = (char *)scratch + (size_t)omp_get_thread_num() * c->slice_scratch;
        dnnl_status_t e = run_slice(c, i, x32 ? x32 : x, dy32 ? dy32 : dy, size, own);
#pragma omp critical
        if (e) worst = e;
    }
    UF_TRY(check(c, worst, "run"));
    sum_slices(c);
    UF_TRY(move(c, &c->unpack, c->slices[0].dw, c->dw_plain, scratch));
    for (size_t i = 0; i < c->n_w; i++) dw[i] += c->dw_sum[i];
    for (int k = 0; db && k < c->n_slices; k++)
        for (int i = 0; i < c->spec.y.c; i++) db[i] += c->db_sum[k * c->spec.y.c + i];
    return UF_OK;
}

/* The library shares long sums among its threads, so that their order, and the last bits, change with their number. Here each thread has
 * rows or columns of c for itself, in shares that the shape alone decides; inside a parallel region the library keeps to one thread. */
int uf_sgemm(bool ta, bool tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
             float beta, float *c, int ldc) {
    enum { MOST = 8, LEAST = 16 }; /* shares; rows or columns of one */
    bool rows = m >= n;
    int all = rows ? m : n, shares = all / LEAST < 1 ? 1 : all / LEAST < MOST ? all / LEAST : MOST, worst = UF_OK;
#pragma omp parallel for reduction(min : worst)
    for (int i = 0; i < shares; i++) {
        int from = (int)((long long)all * i / shares), to = (int)((long long)all * (i + 1) / shares);
        const float *pa = rows ? a + (size_t)from * (ta ? 1 : (size_t)lda) : a;
        const float *pb = rows ? b : b + (size_t)from * (tb ? (size_t)ldb : 1);
        float *pc = c + (size_t)from * (rows ? (size_t)ldc : 1);
        dnnl_status_t s = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', rows ? to - from : m, rows ? n : to - from, k, alpha, pa, lda, pb, ldb, beta, pc, ldc);
        if (s != dnnl_success) worst = UF_EUNSUPPORTED;
    }
    return worst;
}

/* The library's own view: it honours ONEDNN_MAX_CPU_ISA, and every newer set contains the older ones. */
static bool has(dnnl_cpu_isa_t set) { return ((int)dnnl_get_effective_cpu_isa() & (int)set) == (int)set; }

bool uf_cpu_has_bf16(void) { return has(dnnl_cpu_isa_avx512_core_bf16); }
bool uf_cpu_has_amx(void) { return has(dnnl_cpu_isa_avx512_core_amx); }
bool uf_cpu_has_avx512(void) { return has(dnnl_cpu_isa_avx512_core); }
bool uf_cpu_has_avx2(void) { return has(dnnl_cpu_isa_avx2); }
