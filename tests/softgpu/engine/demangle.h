/* Kernels' names as people wrote them. */
#ifndef SOFTGPU_ENGINE_DEMANGLE_H
#define SOFTGPU_ENGINE_DEMANGLE_H

/* "attend::flash_fma<float, 64>" for what nvcc makes of it: without parameters, return type and anonymous namespaces. A copy to free();
   the name itself where the C++ library, which knows how, cannot be found. */
char *demangled(const char *name);

#endif
