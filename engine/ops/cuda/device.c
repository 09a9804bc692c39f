/* device: opening and closing a CUDA device, and its table of operations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/attention_plans.h"
#include "engine/ops/cuda/cuda.h"
#include "engine/ops/cuda/product.h"

/* Kernels are built for 8.0 and up. */
#define OLDEST_MAJOR 8

static void cuda_info(const struct device *dev, struct device_info *out) {
    const struct cuda *c = (const struct cuda *)(const void *)dev;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", c->name);
    snprintf(out->kind, sizeof out->kind, "cuda:%d", c->index);
    out->native_bf16 = true;
    out->memory_total = c->memory_total;
    out->memory_usable = cuda_memory_usable(c);
}

static void cuda_close(struct device *dev) {
    struct cuda *c = cuda_of(dev);
    if (c->done)
        (void)cuda_finish(c, "close");
    if (c->hung) /* only the end of the process helps */
        return;
    products_free(c);
    cuda_attention_close(c);
    cuda_memory_close(c);
    cuda_graphs_close(c);
    cuda_wait_close(c);
    if (c->sends)
        (void)cudaStreamDestroy(c->sends);
    if (c->stream)
        (void)cudaStreamDestroy(c->stream);
    free(c);
}

/* ---- choices -------------------------------------------------------------------------------- */

#define ATTENTION " attention="

/* Who computes attention stands at the end of the first line, behind the device and its library. */
static char *cuda_choices_text(struct device *dev) {
    const struct cuda *c = cuda_of(dev);
    char *products = products_text(c), *attention = cuda_attention_choice(c);
    size_t line = strcspn(products, "\n");
    char *text =
        xasprintf("%.*s" ATTENTION "%s%s", (int)line, products, attention, products + line);
    free(products);
    free(attention);
    return text;
}

/* Texts of versions that had our kernels alone do not name them. */
static bool cuda_choices_use(struct device *dev, const char *text) {
    struct cuda *c = cuda_of(dev);
    if (!text)
        return cuda_attention_choose(c, NULL) & products_use(c, NULL);
    char *products = xstrdup(text), *end = products + strcspn(products, "\n");
    char *mark = strstr(products, ATTENTION);
    char *choice = mark && mark < end
                       ? xasprintf("%.*s", (int)(end - mark - (int)strlen(ATTENTION)),
                                   mark + strlen(ATTENTION))
                       : xstrdup("own");
    if (mark && mark < end)
        memmove(mark, end, strlen(end) + 1);
    bool same = cuda_attention_choose(c, choice);
    same = products_use(c, products) && same;
    free(choice);
    free(products);
    return same;
}

/* ---- opening and closing -------------------------------------------------------------------- */

static const struct ops cuda_ops = {
    .repeats = true,
    .close = cuda_close,
    .info = cuda_info,
    .mem_alloc = cuda_mem_alloc,
    .mem_free = cuda_mem_free,
    .mem_share = cuda_mem_share,
    .mem_zero = cuda_mem_zero,
    .mem_copy = cuda_mem_copy,
    .upload = cuda_upload,
    .download = cuda_download,
    .fetch_new = cuda_fetch_new,
    .fetch_free = cuda_fetch_free,
    .fetch_begin = cuda_fetch_begin,
    .fetch_end = cuda_fetch_end,
    .send_new = cuda_send_new,
    .send_free = cuda_send_free,
    .send_open = cuda_send_open,
    .send_begin = cuda_send_begin,
    .send_end = cuda_send_end,
    .send_bytes = cuda_send_bytes,
    .sync = cuda_sync,
    .mem_peak = cuda_mem_peak,
    .reserve = cuda_reserve,
    .scratch_bytes = cuda_scratch_bytes,
    .choices_text = cuda_choices_text,
    .choices_use = cuda_choices_use,
    .repeat = cuda_repeat,
    .linear_new = cuda_linear_new,
    .linear_free = cuda_linear_free,
    .linear_room = cuda_linear_room,
    .linear_bytes = cuda_linear_bytes,
    .linear_forward = cuda_linear_forward,
    .linear_backward = cuda_linear_backward,
    .dora_norms = cuda_dora_norms,
    .dora_forward = cuda_dora_forward,
    .dora_backward = cuda_dora_backward,
    .embed = cuda_embed,
    .norm_forward = cuda_norm_forward,
    .norm_apply = cuda_norm_apply,
    .norm_backward = cuda_norm_backward,
    .rope = cuda_rope,
    .attention_forward = cuda_attention_forward,
    .attention_backward = cuda_attention_backward,
    .act_forward = cuda_act_forward,
    .act_backward = cuda_act_backward,
    .rows_gather = cuda_rows_gather,
    .rows_scatter = cuda_rows_scatter,
    .head_loss = cuda_head_loss,
    .adapter_alloc = cuda_adapter_alloc,
    .adapter_free = cuda_adapter_free,
    .adapter_refresh = cuda_adapter_refresh,
    .vec_sumsq = cuda_vec_sumsq,
    .vec_axpy = cuda_vec_axpy,
    .adamw = cuda_adamw,
    .adapter_move = cuda_adapter_move,
};

static enum err describe(struct cuda *c, struct err_msg *em) {
    struct cudaDeviceProp prop;
    if (!cuda_check(c, cudaSetDevice(c->index), "cudaSetDevice") ||
        !cuda_check(c, cudaGetDeviceProperties(&prop, c->index), "cudaGetDeviceProperties"))
        return cuda_fault_return(c, em);
    snprintf(c->name, sizeof c->name, "%.95s", prop.name);
    c->memory_total = prop.totalGlobalMem;
    c->sm = 10 * prop.major + prop.minor;
    if (prop.major < OLDEST_MAJOR)
        return err_set(em, ERR_DEVICE,
                       "device %d (%s) has compute capability %d.%d; at least %d.0 is needed",
                       c->index, c->name, prop.major, prop.minor, OLDEST_MAJOR);
    return ERR_OK;
}

enum err ffwd_cuda_open(int index, struct device **out, struct err_msg *em) {
    int driver = 0, count = 0;
    *out = NULL;
    (void)cudaDriverGetVersion(&driver);
    cudaError_t rc = cudaGetDeviceCount(&count);
    enum err e = cuda_availability(rc, driver, count, index, em);
    if (e != ERR_OK)
        return e;
    struct cuda *c = xcalloc(1, sizeof *c);
    c->base.ops = &cuda_ops;
    c->index = index;
    cuda_graphs_open(c);
    e = describe(c, em);
    if (e == ERR_OK) {
        const char *call = "cudaStreamCreateWithFlags";
        if (cuda_check(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), call))
            cuda_check(c, cudaStreamCreateWithFlags(&c->sends, cudaStreamNonBlocking), call);
        e = cuda_wait_open(c, em);
    }
    if (e == ERR_OK)
        e = cuda_staging_open(c, em);
    if (e == ERR_OK)
        e = products_new(c, &c->products, em);
    if (e == ERR_OK)
        e = cuda_attention_open(c, em);
    if (e != ERR_OK) {
        cuda_close(&c->base);
        return e;
    }
    *out = &c->base;
    return ERR_OK;
}
