/* What every part of the runtime shares: the virtual devices with their CUDA state, the calling thread's state, the
   lock, and how an API call begins and ends. One lock guards everything; it is released while device work runs. */
#ifndef SOFTGPU_RUNTIME_STATE_H
#define SOFTGPU_RUNTIME_STATE_H

#include "runtime/queue.h"
#include <cuda_runtime_api.h>
#include <pthread.h>

typedef struct CUstream_st stream;       /* cudaStream_t points to it */
typedef struct CUmemPoolHandle_st pool;

enum { MAX_DEVICES = 16, LIMITS = 16, MAX_PUSHES = 8 };

/* A virtual device as CUDA's API knows it (its primary context). */
typedef struct context {
    int index;
    sg_properties properties;
    sg_device *device;   /* the engine's; created at first use, again after a reset */
    bool busy;           /* another process has it for itself: no context can be made */
    cudaError_t sticky;  /* what every call returns until cudaDeviceReset */
    stream *legacy;      /* the default stream, created with the device */
    stream *streams;     /* all that were ever created, linked; handles are never reused */
    pool *default_pool, *current_pool;
    unsigned flags;      /* cudaSetDeviceFlags */
    size_t limits[LIMITS];
    bool peer_enabled[MAX_DEVICES];
} context;

typedef struct configuration { /* <<<grid, block, shared, stream>>> between push and pop */
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
} configuration;

typedef struct thread_state {
    int device;                  /* where no context was pushed */
    context *pushed[MAX_PUSHES]; /* by the driver's API; the last is current */
    int pushes;
    cudaError_t last_error;
    bool in_host_function;       /* API calls are not permitted there */
    bool default_is_per_thread;  /* inside a _ptsz or _ptds call: stream 0 means cudaStreamPerThread */
    enum cudaStreamCaptureMode capture_mode;
    stream *per_thread[MAX_DEVICES];
    configuration configurations[8];
    int depth;
} thread_state;

extern pthread_mutex_t runtime_lock;
extern pthread_cond_t runtime_progress; /* some work has finished */

thread_state *this_thread(void);
int device_count(void);
context *context_at(int index);    /* NULL beyond the last; not yet initialised perhaps */
int current_device(void);
context *current_context(void);    /* initialised */
context *initialised(context *c);
void fail_context(context *c, cudaError_t error); /* makes an error sticky */
uint64_t random_below(uint64_t bound);            /* seeded by SOFTGPU_SEED */

/* Every way into the API and out of it: the lock, and the watch on managed memory. */
void runtime_enter(void);
void runtime_leave(void);
uint64_t calls_made(void); /* ways in, so far */
/* Takes the lock and returns what stands in the way of any call: the sticky error, a lost device, a host function. */
cudaError_t api_enter(void);
/* Takes the lock for calls that work whatever state the device is in. */
cudaError_t api_enter_any(void);
/* Records the result as the thread's last error, releases the lock. */
cudaError_t api_leave(cudaError_t status);

/* The body of an API function: an expression evaluated under the lock. */
#define API(expression)                                                                                                \
    {                                                                                                                  \
        cudaError_t status_ = api_enter();                                                                             \
        if (status_ == cudaSuccess) status_ = (expression);                                                            \
        return api_leave(status_);                                                                                     \
    }
#define API_ANY(expression)                                                                                            \
    {                                                                                                                  \
        (void)api_enter_any();                                                                                         \
        return api_leave(expression);                                                                                  \
    }
#define TRY(expression)                                                                                                \
    do {                                                                                                               \
        cudaError_t try_ = (expression);                                                                               \
        if (try_ != cudaSuccess) return try_;                                                                          \
    } while (0)

/* ---- error.c, fault.c, options.c ---- */

cudaError_t error_named(const char *name, cudaError_t otherwise);
cudaError_t fault_or_success(softgpu_call call); /* softgpu_fault as an error code */
/* Counts a wait for an event; true: SOFTGPU_FAULT leaves it out. */
bool fault_leaves_out_wait(void);
void fault_configure(const char *specification);
void fault_report(void);
cudaError_t device_lost(void); /* the error of a lost device, cudaSuccess while it is there */

/* Reads SOFTGPU_DEVICES and SOFTGPU_MEMORY into contexts; the number of devices. Complains on stderr and exits the
   process with status 2 for a specification it cannot read: a run on another device than asked proves nothing. */
int read_devices(context contexts[MAX_DEVICES]);
void read_options(sg_options *options);

#endif
