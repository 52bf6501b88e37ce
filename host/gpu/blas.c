/* Loads libcublas by its name, else from the folder of libcudart, which the loader has already found (under a
   sanitizer dlopen() ignores our RUNPATH). */
#include "gpu/blas.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

static const char library_name[] = "libcublas.so." TEXT(CUBLAS_VER_MAJOR);

static void *load_beside_runtime(void)
{
    char path[4096];
    Dl_info runtime;
    void *function = dlsym(RTLD_DEFAULT, TEXT(cudaGetDeviceCount));
    if (!function || !dladdr(function, &runtime) || !runtime.dli_fname) return NULL;
    const char *slash = strrchr(runtime.dli_fname, '/');
    if (!slash) return NULL;
    const int folder = (int)(slash - runtime.dli_fname);
    if (snprintf(path, sizeof path, "%.*s/%s", folder, runtime.dli_fname, library_name) >= (int)sizeof path)
        return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

static bool find(void *library, const char *name, void *function, char *why, size_t bytes)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    if (!found) snprintf(why, bytes, "%s has no %s", library_name, name);
    return found;
}

bool attend_blas_load(attend_blas *blas, char *why, size_t bytes)
{
    void *library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        snprintf(why, bytes, "cuBLAS cannot be loaded: %s", dlerror());
        library = load_beside_runtime();
    }
    if (!library) return false;
#define FIND(field, function) \
    if (!find(library, TEXT(function), &blas->field, why, bytes)) return false;
    ATTEND_BLAS_CALLS(FIND)
#undef FIND
    return true;
}
