// oneDNN is C++ with a C interface, and its containers throw where memory runs out: exceptions become a
// status here.
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
