/* attention_cudnn: see attention_cudnn.h. The one file that sees cuDNN's frontend, whose headers
 * take the better part of a minute to compile.
 *
 * A graph's dimensions are [examples, heads, longest, head_dim], padded; where the rows of an
 * example really lie is said by its offset and length, which are data (a ragged layout). Heads of a
 * row are neighbours, so q, k and v may be columns of one matrix. */
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/ops/cuda/attention_cudnn.h"

namespace cudnn_frontend {
void *cudnn_dlhandle = nullptr; /* where the frontend looks for the library's functions */
}
namespace fe = cudnn_frontend;

using tensor_ptr = std::shared_ptr<fe::graph::Tensor_attributes>;

/* The oldest library for which plans have been made (make gpu-plans). */
constexpr int32_t OLDEST = 91900;

/* Names of what a graph reads and writes: an operand, its offsets, the lengths. */
constexpr int64_t OFFSETS_UID = 100, LENGTHS_UID = 200;

struct fused {
    int32_t sm, version;
    std::shared_ptr<fe::DeviceProperties> described; /* none: the current device */
    cudnnHandle_t handle = nullptr;                  /* made with the first plan */
};

struct fused_plan {
    fe::graph::Graph graph;
    std::string name;
    std::vector<int> operands; /* that it has */
    int64_t workspace = 0;
};

static enum err refuse(struct err_msg *em, const char *what, const std::string &why) {
    std::string line = why.substr(0, why.find('\n'));
    return err_set(em, ERR_UNSUPPORTED, "cuDNN, %s: %s", what, line.c_str());
}

/* ---- the library ---------------------------------------------------------------------------- */

/* What the frontend reads from the environment. A deterministic backward pass on Hopper keeps all
 * scores, examples · heads · longest² of them, unless it is told to keep none (cuDNN 9.25 and later
 * then order the sums of dq). And the CUDA runtime it looks for is to be the one of this build. */
static void prepare_environment() {
    char runtime[32];
    std::snprintf(runtime, sizeof runtime, "libcudart.so.%d", CUDART_VERSION / 1000);
    setenv("CUDNN_FRONTEND_ATTN_DP_WORKSPACE_LIMIT", "0", 1);
    setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", runtime, 0);
}

static enum err load(struct err_msg *em) {
    if (fe::cudnn_dlhandle == nullptr)
        fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (fe::cudnn_dlhandle == nullptr)
        return err_set(em, ERR_UNSUPPORTED, "%s", dlerror());
    return ERR_OK;
}

static enum err open_library(int32_t sm, const char *described, std::unique_ptr<fused> &f,
                             struct err_msg *em) {
    enum err e = load(em);
    if (e != ERR_OK)
        return e;
    prepare_environment();
    f = std::make_unique<fused>();
    f->sm = sm;
    f->version = static_cast<int32_t>(fe::detail::get_backend_version());
    if (f->version < OLDEST)
        return err_set(em, ERR_UNSUPPORTED, "libcudnn is version %d; at least %d is needed",
                       f->version, OLDEST);
    if (described == nullptr)
        return ERR_OK;
    f->described = std::make_shared<fe::DeviceProperties>();
    fe::error_t rc =
        f->described->deserialize(std::vector<uint8_t>(described, described + strlen(described)));
    return rc.is_good() ? ERR_OK : refuse(em, "device", rc.get_message());
}

extern "C" enum err fused_open(int32_t sm, const char *described, struct fused **out,
                               struct err_msg *em) {
    *out = nullptr;
    try {
        std::unique_ptr<fused> f;
        enum err e = open_library(sm, described, f, em);
        if (e == ERR_OK)
            *out = f.release();
        return e;
    } catch (const std::exception &x) {
        return refuse(em, "library", x.what());
    }
}

extern "C" void fused_close(struct fused *f) {
    if (f == nullptr)
        return;
    if (f->handle != nullptr)
        (void)fe::detail::destroy_handle(f->handle);
    delete f;
}

extern "C" int32_t fused_version(const struct fused *f) {
    return f->version;
}

/* ---- graphs --------------------------------------------------------------------------------- */

/* A graph under construction. */
struct maker {
    const fused_shape &s;
    fused_plan &plan;
};

static tensor_ptr integers(maker &m, const char *name, int64_t uid, int64_t n) {
    return m.plan.graph.tensor(fe::graph::Tensor_attributes()
                                   .set_name(name)
                                   .set_uid(uid)
                                   .set_dim({n, 1, 1, 1})
                                   .set_stride({1, 1, 1, 1})
                                   .set_data_type(fe::DataType_t::INT32));
}

/* [examples, heads, longest, columns], each example's rows at its offset. */
static void lay_out(maker &m, fe::graph::Tensor_attributes &t, fused_operand op, int64_t heads,
                    int64_t cols) {
    int64_t row = m.s.stride[op];
    t.set_uid(1 + op)
        .set_dim({m.s.examples, heads, m.s.longest, cols})
        .set_stride({m.s.longest * row, cols, row, 1})
        .set_data_type(op == FUSED_STATS ? fe::DataType_t::FLOAT : fe::DataType_t::BFLOAT16)
        .set_ragged_offset(integers(m, "offsets", OFFSETS_UID + op, m.s.examples + 1));
    m.plan.operands.push_back(op);
}

static tensor_ptr input(maker &m, const char *name, fused_operand op, int64_t heads, int64_t cols) {
    fe::graph::Tensor_attributes t;
    t.set_name(name);
    lay_out(m, t, op, heads, cols);
    return m.plan.graph.tensor(t);
}

static void output(maker &m, const tensor_ptr &t, fused_operand op, int64_t heads, int64_t cols) {
    t->set_output(true);
    lay_out(m, *t, op, heads, cols);
}

/* Key j is seen by query i of the same example iff i - window < j <= i. */
template <typename Attributes> static Attributes masked(maker &m, const char *name) {
    Attributes a;
    tensor_ptr lengths = integers(m, "lengths", LENGTHS_UID, m.s.examples);
    a.set_name(name)
        .set_attn_scale(m.s.scale)
        .set_padding_mask(true)
        .set_seq_len_q(lengths)
        .set_seq_len_kv(lengths)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (m.s.window > 0)
        a.set_diagonal_band_left_bound(m.s.window);
    return a;
}

static void add_forward(maker &m, const tensor_ptr &q, const tensor_ptr &k, const tensor_ptr &v) {
    auto a = masked<fe::graph::SDPA_attributes>(m, "attention");
    a.set_generate_stats(true);
    a.set_implementation(fe::AttentionImplementation_t::COMPOSITE);
    auto [out, stats] = m.plan.graph.sdpa(q, k, v, a);
    output(m, out, FUSED_OUT, m.s.heads, m.s.head_dim);
    output(m, stats, FUSED_STATS, m.s.heads, 1);
}

static void add_backward(maker &m, const tensor_ptr &q, const tensor_ptr &k, const tensor_ptr &v) {
    auto a = masked<fe::graph::SDPA_backward_attributes>(m, "attention_backward");
    a.set_deterministic_algorithm(true)
        .set_max_total_seq_len_q(m.s.tokens)
        .set_max_total_seq_len_kv(m.s.tokens);
    tensor_ptr out = input(m, "out", FUSED_OUT, m.s.heads, m.s.head_dim);
    tensor_ptr dout = input(m, "dout", FUSED_DOUT, m.s.heads, m.s.head_dim);
    tensor_ptr stats = input(m, "stats", FUSED_STATS, m.s.heads, 1);
    auto [dq, dk, dv] = m.plan.graph.sdpa_backward(q, k, v, out, dout, stats, a);
    output(m, dq, FUSED_DQ, m.s.heads, m.s.head_dim);
    output(m, dk, FUSED_DK, m.s.kv_heads, m.s.head_dim);
    output(m, dv, FUSED_DV, m.s.kv_heads, m.s.head_dim);
}

static void describe(maker &m, int32_t sm) {
    m.plan.graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT)
        .set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE) /* our graphs end first */
        .set_sm_version(sm);
    tensor_ptr q = input(m, "q", FUSED_Q, m.s.heads, m.s.head_dim);
    tensor_ptr k = input(m, "k", FUSED_K, m.s.kv_heads, m.s.head_dim);
    tensor_ptr v = input(m, "v", FUSED_V, m.s.kv_heads, m.s.head_dim);
    if (m.s.backward)
        add_backward(m, q, k, v);
    else
        add_forward(m, q, k, v);
}

/* ---- plans ---------------------------------------------------------------------------------- */

static fe::error_t lower(fused *f, fe::graph::Graph &g) {
    if (f->described) {
        g.set_device_properties(f->described);
        return g.build_operation_graph();
    }
    if (f->handle == nullptr && fe::detail::create_handle(&f->handle) != CUDNN_STATUS_SUCCESS)
        return {fe::error_code_t::HANDLE_ERROR, "cudnnCreate failed"};
    return g.build_operation_graph(f->handle);
}

static enum err build(fused *f, fused_plan *p, struct err_msg *em) {
    fe::graph::Graph &g = p->graph;
    fe::error_t rc = g.validate();
    if (rc.is_bad())
        return refuse(em, "graph", rc.get_message());
    rc = lower(f, g);
    if (rc.is_good())
        rc = g.create_execution_plans({fe::HeurMode_t::A});
    /* nothing that the library itself says may give other bytes another time */
    g.deselect_numeric_notes({fe::NumericalNote_t::NONDETERMINISTIC});
    if (rc.is_good())
        rc = g.check_support();
    if (rc.is_good())
        rc = g.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE);
    if (rc.is_good())
        rc = g.get_workspace_size(p->workspace);
    if (rc.is_good())
        rc = g.get_plan_name(p->name);
    return rc.is_good() ? ERR_OK : refuse(em, "plan", rc.get_message());
}

extern "C" enum err fused_plan_new(struct fused *f, const struct fused_shape *s,
                                   struct fused_plan **out, struct err_msg *em) {
    *out = nullptr;
    try {
        auto p = std::make_unique<fused_plan>();
        maker m{*s, *p};
        describe(m, f->sm);
        enum err e = build(f, p.get(), em);
        if (e == ERR_OK)
            *out = p.release();
        return e;
    } catch (const std::exception &x) {
        return refuse(em, "plan", x.what());
    }
}

extern "C" void fused_plan_free(struct fused_plan *p) {
    delete p;
}

extern "C" size_t fused_plan_workspace(const struct fused_plan *p) {
    return static_cast<size_t>(p->workspace);
}

extern "C" const char *fused_plan_name(const struct fused_plan *p) {
    return p->name.c_str();
}

static enum err run(fused *f, const fused_plan *p, const fused_call *call, struct err_msg *em) {
    std::unordered_map<int64_t, void *> at;
    at[LENGTHS_UID] = const_cast<int32_t *>(call->lengths);
    for (int op : p->operands) {
        at[1 + op] = call->data[op];
        at[OFFSETS_UID + op] = const_cast<int32_t *>(call->offsets + op * call->pitch);
    }
    if (fe::detail::set_stream(f->handle, call->stream) != CUDNN_STATUS_SUCCESS)
        return err_set(em, ERR_DEVICE, "cudnnSetStream failed");
    fe::error_t rc = p->graph.execute(f->handle, at, call->workspace);
    return rc.is_good() ? ERR_OK
                        : err_set(em, ERR_DEVICE, "cuDNN, run: %.300s", rc.get_message().c_str());
}

extern "C" enum err fused_run(struct fused *f, const struct fused_plan *p,
                              const struct fused_call *call, struct err_msg *em) {
    try {
        return run(f, p, call, em);
    } catch (const std::exception &x) {
        return err_set(em, ERR_DEVICE, "cuDNN, run: %.300s", x.what());
    }
}
