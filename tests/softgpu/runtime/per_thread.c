/* The entry points of programs compiled with --default-stream per-thread: _ptsz (a stream argument, whose 0 means the
   thread's own default stream) and _ptds (no stream argument). Each is its plain namesake under that reading of 0. */
#include "runtime/state.h"

static cudaError_t leave(bool before, cudaError_t status) {
    this_thread()->default_is_per_thread = before;
    return status;
}

static bool enter(void) {
    bool before = this_thread()->default_is_per_thread;
    this_thread()->default_is_per_thread = true;
    return before;
}

#define PER_THREAD(name, suffix, parameters, arguments)                                                                \
    cudaError_t name##suffix parameters;                                                                               \
    cudaError_t name##suffix parameters {                                                                              \
        bool before = enter();                                                                                         \
        return leave(before, name arguments);                                                                          \
    }
#include "runtime/per_thread.def"
