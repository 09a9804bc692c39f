/* plans: the plans of attention that cuDNN would be asked for, made for a Hopper that need not be
 * here: forward and the deterministic backward pass, of the named shapes, with and without a
 * window. Prints each one's engine and workspace; nothing is run. One that cuDNN refuses, or that
 * wants more memory than is planned, would be left to our own kernels; here it is a failure. */
#include <stdio.h>
#include <string.h>

#include "engine/model/config.h"
#include "engine/ops/cuda/attention_plans.h"

#define HOPPER 90

/* What a device tells of itself; numbers of an H100 SXM. */
static const char device[] =
    "{\"cudaDeviceId\":0,\"deviceName\":\"NVIDIA H100 80GB HBM3\",\"deviceVer\":900,"
    "\"driverVer\":13000,\"isTccDriver\":0,\"l2CacheSize\":52428800,\"maxCtasPerSM\":32,"
    "\"maxRegistersPerSM\":65536,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":232448,\"maxThreadsPerBlock\":1024,"
    "\"maxThreadsPerSM\":2048,\"memClockRateKHz\":2619000,\"multiProcessorCount\":132,"
    "\"pciDeviceId\":0,\"regsPerBlock\":65536,\"reservedSharedMemoryPerBlock\":1024,"
    "\"smClockRateKHz\":1980000,\"supportCoopLaunch\":1,\"totalGlobalMem\":85017493504,"
    "\"warpSize\":32,\"maxBlockSize\":[1024,1024,64],\"maxGridSize\":[2147483647,65535,65535]}";

/* Batches: those of gpu-bench, and a packed one of many short examples and a long one. */
static const struct {
    int32_t examples, longest;
    int64_t tokens;
} batches[] = {{9, 2048, 16384}, {5, 4096, 16384}, {64, 2048, 16384}};

static const char *const shapes[] = {"smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "llama-3-8b",
                                     "pythia-1.4b"};
static const int32_t windows[] = {0, 1024};

struct totals {
    int made, failed;
};

static void make(struct fused *f, const char *model, const struct fused_shape *s,
                 struct totals *t) {
    struct err_msg em = ERR_MSG_INIT;
    struct fused_plan *p = NULL;
    size_t most = cuda_attention_workspace_most(s, fused_version(f));
    printf("%-13s %-8s heads %d/%d of %d, window %d, %d examples of up to %d, %lld tokens: ", model,
           s->backward ? "backward" : "forward", s->heads, s->kv_heads, s->head_dim, s->window,
           s->examples, s->longest, (long long)s->tokens);
    enum err e = fused_plan_new(f, s, &p, &em);
    if (e == ERR_OK && fused_plan_workspace(p) <= most) {
        printf("%s, workspace %.1f of %.1f MiB\n", fused_plan_name(p),
               (double)fused_plan_workspace(p) / (1 << 20), (double)most / (1 << 20));
        t->made++;
    } else {
        if (e == ERR_OK)
            printf("OWN: %s wants %.1f MiB, %.1f are planned\n", fused_plan_name(p),
                   (double)fused_plan_workspace(p) / (1 << 20), (double)most / (1 << 20));
        else
            printf("OWN: %s\n", em.text);
        t->failed++;
    }
    fflush(stdout);
    fused_plan_free(p);
}

static void make_all(struct fused *f, const char *model, struct totals *t) {
    struct err_msg em = ERR_MSG_INIT;
    struct model_config c;
    if (model_config_shape(model, &c, &em) != ERR_OK) {
        printf("%s\n", em.text);
        t->failed++;
        return;
    }
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        for (size_t k = 0; k < sizeof batches / sizeof *batches; k++)
            for (int backward = 0; backward < 2; backward++) {
                const struct attention a = {c.heads, c.kv_heads, c.head_dim, c.attention_scale,
                                            windows[i]};
                struct fused_shape s =
                    cuda_attention_shape(&a, batches[k].examples, batches[k].longest,
                                         batches[k].tokens, backward, fused_version(f));
                make(f, model, &s, t);
            }
}

int main(void) {
    struct err_msg em = ERR_MSG_INIT;
    struct totals t = {0};
    struct fused *f;
    if (fused_open(HOPPER, device, &f, &em) != ERR_OK) {
        printf("SKIP: %s\n", em.text);
        return 0;
    }
    printf("cuDNN %d, for compute capability 9.0 and 132 multiprocessors\n", fused_version(f));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        make_all(f, shapes[i], &t);
    fused_close(f);
    printf("%d plans made, %d failed\n", t.made, t.failed);
    return t.failed == 0 ? 0 : 1;
}
