/* driver: libcuda.so.1 for a machine without one, as far as cuDNN needs it to make a plan. It
 * counts no devices, takes the code it is handed for loaded, and runs nothing. Signatures are
 * CUDA's up to the arguments that are written to. */
#define DRIVER_CALL(name, parameter, effect)                                                       \
    int name(parameter);                                                                           \
    int name(parameter) {                                                                          \
        effect;                                                                                    \
        return 0;                                                                                  \
    }
#define NOTHING(name) DRIVER_CALL(name, void, (void)0)
#define HANDLE(name) DRIVER_CALL(name, void **out, *out = loaded)
#define NUMBER(name, value) DRIVER_CALL(name, int *out, *out = value)

#define NO_DEVICE 100
static char loaded[1];

int cuInit(unsigned flags);
int cuInit(unsigned flags) {
    (void)flags;
    return NO_DEVICE;
}

NUMBER(cuDriverGetVersion, 13000)
NUMBER(cuDeviceGetCount, 0)
NUMBER(cuKernelGetAttribute, 0)
NUMBER(cuFuncGetAttribute, 0)
NUMBER(cuOccupancyMaxActiveBlocksPerMultiprocessor, 1)
NUMBER(cuOccupancyMaxPotentialClusterSize, 1)
HANDLE(cuLibraryLoadData)
HANDLE(cuLibraryGetKernel)
HANDLE(cuKernelGetFunction)
HANDLE(cuModuleLoadData)
HANDLE(cuModuleLoadDataEx)
HANDLE(cuModuleGetFunction)
NOTHING(cuCtxGetCurrent)
NOTHING(cuCtxGetDevice)
NOTHING(cuCtxGetLimit)
NOTHING(cuCtxPopCurrent)
NOTHING(cuCtxPushCurrent)
NOTHING(cuDeviceGet)
NOTHING(cuDeviceGetAttribute)
NOTHING(cuDevicePrimaryCtxRelease)
NOTHING(cuDevicePrimaryCtxReset)
NOTHING(cuDevicePrimaryCtxRetain)
NOTHING(cuFuncSetAttribute)
NOTHING(cuGetErrorName)
NOTHING(cuGetErrorString)
NOTHING(cuKernelSetAttribute)
NOTHING(cuLaunchCooperativeKernel)
NOTHING(cuLaunchKernel)
NOTHING(cuLaunchKernelEx)
NOTHING(cuLibraryLoadFromFile)
NOTHING(cuLibraryUnload)
NOTHING(cuLinkAddData)
NOTHING(cuLinkAddData_v2)
NOTHING(cuLinkAddFile_v2)
NOTHING(cuLinkComplete)
NOTHING(cuLinkCreate)
NOTHING(cuLinkCreate_v2)
NOTHING(cuLinkDestroy)
NOTHING(cuMemcpyDtoH_v2)
NOTHING(cuModuleGetGlobal_v2)
NOTHING(cuModuleLoadFatBinary)
NOTHING(cuModuleUnload)
NOTHING(cuStreamGetCtx)
NOTHING(cuStreamSynchronize)
NOTHING(cuTensorMapEncodeTiled)
