/* The door between the software device (this folder) and the API libraries in front of it (../runtime, ../cublas):
   devices, memory, modules, launches, host accesses, findings and reports. Everything an API call needs and nothing
   that knows CUDA's API. Thread-safe unless said otherwise; the runtime decides *when* things run, the engine *what* they do. */
#ifndef SOFTGPU_ENGINE_ENGINE_H
#define SOFTGPU_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- devices ------------------------------------------------------------------------------------------------ */

typedef struct sg_properties {
    char name[64];
    int compute_major, compute_minor;
    int multiprocessors;
    int64_t memory_bytes;             /* capacity; allocations beyond it fail */
    int64_t l2_bytes;
    int64_t shared_per_sm_bytes;      /* 167936 on compute 8.0, 233472 on 9.0 */
    int64_t shared_per_block_bytes;   /* without opt-in: 49152 */
    int64_t shared_optin_bytes;       /* with opt-in: 166912 on 8.0, 232448 on 9.0 */
    int registers_per_sm, threads_per_sm, blocks_per_sm;
} sg_properties;

typedef struct sg_device sg_device;

/* Fills the properties of "a100", "h100", "rtx4090", "rtx5090" …; false for an unknown name. */
bool sg_properties_named(const char *name, sg_properties *properties);
sg_device *sg_device_create(int index, const sg_properties *properties);
const sg_properties *sg_device_properties(const sg_device *device);
void sg_device_destroy(sg_device *device); /* reports allocations still alive as leaks */

/* ---- memory -------------------------------------------------------------------------------------------------- */

typedef enum sg_memory_kind {
    SG_MEMORY_DEVICE,     /* only the device may touch it: the address faults on the host */
    SG_MEMORY_HOST,       /* pinned host memory that the device can also address */
    SG_MEMORY_REGISTERED, /* the caller's pages, pinned in place */
    SG_MEMORY_MANAGED,    /* both may touch it */
    SG_MEMORY_MODULE      /* a __device__ or __constant__ variable */
} sg_memory_kind;

typedef struct sg_allocation {
    uint64_t address;
    int64_t bytes;
    sg_memory_kind kind;
    int device;
    uint64_t serial; /* order of allocation, from 1; names the allocation in findings */
} sg_allocation;

/* Allocates with red zones on both sides, every byte marked never-written (managed and host memory: written).
   `origin` says who asked ("cudaMalloc") and appears in findings. 0 where the capacity does not suffice. */
uint64_t sg_memory_allocate(sg_device *device, sg_memory_kind kind, int64_t bytes, const char *origin);
bool sg_memory_register(sg_device *device, void *host, int64_t bytes);
/* False if address is not the start of a live allocation. Freed ranges are quarantined so that later use is caught. */
bool sg_memory_free(uint64_t address);
/* The live allocation that holds address; false if none does (ordinary host memory, say). */
bool sg_memory_find(uint64_t address, sg_allocation *allocation);
void sg_memory_usage(const sg_device *device, int64_t *free_bytes, int64_t *total_bytes);

/* The API's own accesses (memcpy, memset, cuBLAS) to device memory: checked for bounds and, on reads, for bytes never
   written (which travel with a copy: sg_memory_copy moves the never-written marks along). `what` names the call in
   findings. Return false after an out-of-bounds finding; nothing is moved then. Ordinary host addresses pass freely. */
bool sg_memory_copy(uint64_t to, uint64_t from, int64_t bytes, const char *what);
bool sg_memory_fill(uint64_t to, int value, int64_t bytes, const char *what);
const void *sg_memory_read(uint64_t address, int64_t bytes, const char *what);  /* host pointer to the bytes; NULL: finding */
void *sg_memory_write(uint64_t address, int64_t bytes, const char *what);       /* marks them written */

/* Managed memory between API calls, so that a host which touches it too early is found. sg_watch_begin: the host goes on while work up to
   task `queued` waits; sg_watch_end: it does not any more (any thread is inside the API); sg_watch_run: this task's accesses follow;
   sg_watch_forget: nothing is queued any more. Tasks are numbered in the order of their calls. */
void sg_watch_begin(uint64_t queued);
void sg_watch_end(void);
void sg_watch_run(uint64_t task);
void sg_watch_forget(void);

/* ---- modules and launches ------------------------------------------------------------------------------------- */

typedef struct sg_module sg_module;
typedef struct sg_function sg_function;

/* Parses PTX text (not necessarily NUL-terminated) and decodes every function once. NULL with a sentence that names
   the line on a syntax error. An opcode that is not known is an error only when a launch reaches it. */
sg_module *sg_module_load(const char *ptx, size_t bytes, char *error, size_t error_bytes);
int sg_module_target(const sg_module *module); /* 80 for .target sm_80 */
const sg_function *sg_module_function(const sg_module *module, const char *name);
/* What ptxas assigned (found in the embedded cubin by the runtime), for sg_function_describe, limits and occupancy. */
typedef struct sg_resources {
    int registers; /* 0: unknown, so that they limit nothing */
    int64_t static_shared_bytes, stack_bytes, spill_store_bytes, spill_load_bytes; /* spills: -1 where unknown */
} sg_resources;
void sg_module_resources(sg_module *module, const char *function, const sg_resources *resources);
/* The instance of a module variable on a device, allocated and initialised at first use; false if there is none. A
   .managed one has a single instance, SG_MEMORY_MANAGED, for all devices. */
bool sg_module_variable(sg_module *module, sg_device *device, const char *name, uint64_t *address, int64_t *bytes);
void sg_module_unload(sg_module *module);

typedef struct sg_function_info {
    const char *name;
    int parameters;                     /* number of kernel parameters */
    const int *parameter_bytes;         /* their sizes, in order */
    int64_t static_shared_bytes, local_bytes, constant_bytes;
    int registers;                      /* from ptxas where the fat binary tells; 0: unknown */
    int places;                         /* of 32 bits that PTX's registers need: near what ptxas would find, no fact */
    int max_threads;                    /* .maxntid product, 1024 if absent */
    int required_cluster[3];            /* .reqnctapercluster, zeros if absent */
} sg_function_info;
void sg_function_describe(const sg_function *function, sg_function_info *info);

typedef struct sg_launch {
    unsigned grid[3], block[3], cluster[3]; /* cluster {1,1,1} for none */
    int64_t dynamic_shared_bytes;
    bool cooperative;
    const void *const *arguments; /* one pointer per parameter, as cudaLaunchKernel takes them; copied by sg_execute's caller */
    uint64_t stream;              /* its number; 0: none */
    bool early;                   /* may begin before the launch in front of it in its stream has ended */
} sg_launch;

typedef enum sg_status {
    SG_OK,
    SG_INVALID_CONFIGURATION, /* grid, block, cluster or shared memory beyond the device's limits */
    SG_ILLEGAL_ADDRESS,       /* the launch died on a bad access (a finding was recorded) */
    SG_MISALIGNED_ADDRESS,
    SG_ILLEGAL_INSTRUCTION,   /* an instruction this device does not have, or `trap` */
    SG_ASSERT,
    SG_TIMEOUT                /* all warps wait for ever: a barrier that cannot complete */
} sg_status;

/* Checks the launch against the device's limits; what cudaLaunchKernel refuses at once. */
sg_status sg_launch_check(const sg_device *device, const sg_function *function, const sg_launch *launch,
                          char *reason, size_t reason_bytes);
/* Runs the whole grid to its end, on as many host threads as configured. */
sg_status sg_execute(sg_device *device, const sg_function *function, const sg_launch *launch);
/* The modelled time of all launches executed on the device so far, for event timing; 0 where not modelled. */
double sg_modelled_seconds(const sg_device *device);
/* Blocks of a kernel that fit on one multiprocessor at once. */
int sg_occupancy(const sg_device *device, const sg_function *function, int threads, int64_t dynamic_shared_bytes);

/* ---- findings, counts, reports -------------------------------------------------------------------------------- */

/* Set once from the environment (SOFTGPU_…, see README.md) before anything else runs. */
typedef struct sg_options {
    bool checks;           /* all checks; off for speed */
    bool count;            /* keep counters */
    uint64_t seed;         /* order of warps and blocks */
    int threads;           /* host threads; 0: as many as the process may use */
    const char *report;    /* "text" or "json" on stderr or to report_file at the end; NULL: findings only */
    const char *report_file, *coverage_file;
    bool mma_rounds;       /* round to nearest inside mma instead of truncating */
} sg_options;
void sg_configure(const sg_options *options);

/* One check that fired. Reported once per place (kind + source line); later ones only count. */
void sg_finding(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
int64_t sg_findings(void);
/* Adds one figure ("calls.alloc", 12) to the report; kept until sg_report. */
void sg_report_figure(const char *name, int64_t value);
/* Writes the report, the coverage file and the findings; returns the number of findings. Called once, at exit. */
int64_t sg_report(void);

#endif
