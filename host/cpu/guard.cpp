// oneDNN is C++ behind a C interface, and where memory runs out its containers throw: here that ends.
#include "cpu/guard.h"

#include <new>

dnnl_status_t attend_cpu_guard(dnnl_status_t (*call)(void *), void *data)
{
    try {
        return call(data);
    } catch (const std::bad_alloc &) {
        return dnnl_out_of_memory;
    } catch (...) {
        return dnnl_runtime_error;
    }
}
