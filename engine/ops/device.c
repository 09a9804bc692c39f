/* device: the one place that picks a device by its name. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/ops/cpu/cpu.h"
#include "engine/ops/ops.h"

#define CUDA_LIBRARY "libffwd-cuda.so"

/* Exported by the CUDA library. index: the device's number. */
typedef enum err cuda_open_fn(int index, struct device **out, struct err_msg *em);

/* Path of the CUDA library: in the folder of the running program. */
static bool library_path(char *path, size_t size) {
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    if (n <= 0)
        return false;
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    size_t room = slash ? size - (size_t)(slash + 1 - path) : 0;
    if (room <= strlen(CUDA_LIBRARY))
        return false;
    memcpy(slash + 1, CUDA_LIBRARY, sizeof CUDA_LIBRARY);
    return true;
}

static enum err cuda_open(int index, struct device **out, struct err_msg *em) {
    char path[PATH_MAX];
    if (!library_path(path, sizeof path))
        return err_set(em, ERR_DEVICE,
                       "the folder of this program is unknown, so " CUDA_LIBRARY
                       " cannot be found; use the device \"cpu\"");
    if (access(path, F_OK) != 0)
        return err_set(em, ERR_DEVICE,
                       "this build has no CUDA device: %s was not found; build it where nvcc is "
                       "installed, or use the device \"cpu\"",
                       path);
    /* The library stays loaded for the life of the process, as CUDA's own does. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(em, ERR_DEVICE, "the CUDA device cannot be loaded: %s", dlerror());
    void *symbol = dlsym(library, "ffwd_cuda_open");
    if (!symbol)
        return err_set(em, ERR_DEVICE, "%s is not a device of this program (no ffwd_cuda_open)",
                       path);
    cuda_open_fn *open_fn;
    memcpy(&open_fn, &symbol, sizeof open_fn);
    return open_fn(index, out, em);
}

/* "cuda" or "cuda:N" with N of at most three digits. */
static bool parse_cuda(const char *spec, int *index) {
    *index = 0;
    if (strncmp(spec, "cuda", 4) != 0)
        return false;
    const char *p = spec + 4;
    if (!*p)
        return true;
    if (*p++ != ':' || !*p || strlen(p) > 3)
        return false;
    for (; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        *index = *index * 10 + (*p - '0');
    }
    return true;
}

enum err device_open(const char *spec, int threads, struct device **out, struct err_msg *em) {
    int index;
    if (threads < 0)
        return err_set(em, ERR_USAGE, "the number of threads must not be negative, not %d",
                       threads);
    if (strcmp(spec, "cpu") == 0)
        return cpu_open(threads, CPU_PRODUCT_BEST, out, em);
    if (strcmp(spec, "auto") == 0) {
        struct err_msg why = ERR_MSG_INIT;
        if (cuda_open(0, out, &why) == ERR_OK)
            return ERR_OK;
        log_info("device.auto", "device=cpu reason=%s", why.text);
        return cpu_open(threads, CPU_PRODUCT_BEST, out, em);
    }
    if (parse_cuda(spec, &index))
        return cuda_open(index, out, em);
    return err_set(em, ERR_USAGE,
                   "unknown device \"%.40s\": use \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"", spec);
}

void device_close(struct device *dev) {
    if (dev)
        dev->ops->close(dev);
}
