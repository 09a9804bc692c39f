/* fault: from CUDA's errors to ours.
 *
 * Work on a device is asynchronous: an error may show in a later call than the one at fault, and
 * once a kernel has failed every further call fails too. So the first error is kept with the name
 * of the call that reported it and of the newest kernel, and everything after it is skipped. */
#include <stdio.h>

#include "engine/ops/cuda/cuda.h"

enum err cuda_error_code(cudaError_t rc) {
    return rc == cudaSuccess                 ? ERR_OK
           : rc == cudaErrorMemoryAllocation ? ERR_NO_MEMORY
                                             : ERR_DEVICE;
}

void cuda_fault_set(struct cuda *c, enum err code, const char *text) {
    if (c->fault.code != ERR_OK)
        return;
    c->fault.code = code;
    snprintf(c->fault.text, sizeof c->fault.text, "%s", text);
}

bool cuda_check(struct cuda *c, cudaError_t rc, const char *call) {
    char text[ERR_TEXT_MAX];
    if (rc == cudaSuccess)
        return true;
    (void)cudaGetLastError(); /* an error that is not sticky must not reach the next call */
    snprintf(text, sizeof text, "CUDA device %d (%s): %s failed: %s%s%s%s", c->index, c->name, call,
             cudaGetErrorString(rc), c->last_launch ? " (newest kernel: " : "",
             c->last_launch ? c->last_launch : "", c->last_launch ? ")" : "");
    cuda_fault_set(c, cuda_error_code(rc), text);
    return false;
}

enum err cuda_fault_return(struct cuda *c, struct err_msg *em) {
    enum err e = c->fault.code;
    if (e != ERR_OK)
        err_set(em, e, "%s", c->fault.text);
    if (e == ERR_NO_MEMORY)
        c->fault = (struct cuda_fault){0};
    return e;
}

/* CUDA writes versions as 1000 · major + 10 · minor. */
enum err cuda_availability(cudaError_t rc, int driver, int count, int index, struct err_msg *em) {
    if (driver == 0)
        return err_set(em, ERR_DEVICE,
                       "no NVIDIA driver is installed on this machine; use the device \"cpu\"");
    if (rc == cudaErrorInsufficientDriver)
        return err_set(em, ERR_DEVICE,
                       "the NVIDIA driver is too old: it serves CUDA %d.%d, this build needs %d.%d",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    if (rc == cudaErrorNoDevice || (rc == cudaSuccess && count == 0))
        return err_set(em, ERR_DEVICE, "there is no CUDA device that this process may use");
    if (rc != cudaSuccess)
        return err_set(em, ERR_DEVICE, "CUDA cannot be started: %s", cudaGetErrorString(rc));
    if (index >= count)
        return err_set(em, ERR_DEVICE, "there is no device cuda:%d; this machine has %d", index,
                       count);
    return ERR_OK;
}
