/* attention_cudnn, where the headers of cuDNN or of its frontend were not at hand. */
#include "engine/ops/cuda/attention_cudnn.h"

enum err fused_open(int32_t sm, const char *described, struct fused **out, struct err_msg *em) {
    (void)sm;
    (void)described;
    *out = NULL;
    return err_set(em, ERR_UNSUPPORTED, "this build has no cuDNN");
}

void fused_close(struct fused *f) {
    (void)f;
}

int32_t fused_version(const struct fused *f) {
    (void)f;
    return 0;
}

enum err fused_plan_new(struct fused *f, const struct fused_shape *s, struct fused_plan **out,
                        struct err_msg *em) {
    (void)f;
    (void)s;
    *out = NULL;
    return err_set(em, ERR_UNSUPPORTED, "this build has no cuDNN");
}

void fused_plan_free(struct fused_plan *p) {
    (void)p;
}

size_t fused_plan_workspace(const struct fused_plan *p) {
    (void)p;
    return 0;
}

const char *fused_plan_name(const struct fused_plan *p) {
    (void)p;
    return "";
}

enum err fused_run(struct fused *f, const struct fused_plan *p, const struct fused_call *call,
                   struct err_msg *em) {
    (void)f;
    (void)p;
    (void)call;
    return err_set(em, ERR_UNSUPPORTED, "this build has no cuDNN");
}
