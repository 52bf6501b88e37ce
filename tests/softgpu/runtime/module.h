/* What a program registered at its start: fat binaries, kernels and variables, and their instances on a device. */
#ifndef SOFTGPU_RUNTIME_MODULE_H
#define SOFTGPU_RUNTIME_MODULE_H

#include "runtime/state.h"

typedef struct CUkern_st function; /* cudaKernel_t points to it */
typedef struct binary binary;

struct CUkern_st {
    uint32_t magic;
    function *next;
    const void *host;  /* the stub that the program names the kernel by; NULL once its binary is unregistered */
    const char *name;
    binary *binary;
    int dynamic_shared[MAX_DEVICES]; /* 0: never set, so the default limit */
    int carveout;
    bool non_portable_cluster;
};

/* By stub or by cudaKernel_t; cudaErrorInvalidDeviceFunction if it is neither. */
cudaError_t function_of(const void *handle, function **f);
const void *function_host_pointer(const function *f);
/* The code for a device; the module is read at first use. Explains a failure on stderr. */
cudaError_t function_on(const function *f, context *c, const sg_function **code);
/* The PTX target of the code that a device runs, 80 say. */
int function_target(const function *f, context *c);

cudaError_t symbol_address(const void *symbol, context *c, uint64_t *address, int64_t *bytes);

#endif
