/* Registration by nvcc's start-up code, and modules read when they are first needed. A binary keeps one engine module
   for each PTX that some device picked. Nothing is unloaded before the report: it names kernels and source lines. */
#include "runtime/module.h"
#include "runtime/fatbinary.h"
#include "runtime/stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FUNCTION_MAGIC = 0x66756e63, MAX_MODULES = 8 };

typedef struct variable {
    struct variable *next;
    const void *host; /* its shadow; NULL once unregistered */
    void **managed;   /* where the program keeps the address of a __managed__ variable */
    const char *name;
    binary *binary;
} variable;

struct binary {
    const void *wrapper;
    void *handle; /* what the program holds: its address stands for the binary */
    struct {
        const void *entry; /* of the fat binary */
        sg_module *module;
        cudaError_t status;
        int target;
    } modules[MAX_MODULES];
    int module_count;
    int slots[MAX_DEVICES]; /* what each device runs: slot + 1, -1 for nothing, 0 for not looked yet */
    bool managed_ready;
};

static function *functions;
static variable *variables;

static void tell_resources(const cubin_kernel *kernel, void *module) {
    sg_resources resources = {.registers = kernel->registers,
                              .static_shared_bytes = kernel->shared_bytes,
                              .stack_bytes = kernel->stack_bytes,
                              .spill_store_bytes = kernel->stack_bytes ? -1 : 0,
                              .spill_load_bytes = kernel->stack_bytes ? -1 : 0};
    sg_module_resources(module, kernel->name, &resources);
}

static void load(binary *b, int slot, const fat_image *ptx, int capability) {
    char error[512] = "it cannot be decompressed";
    size_t bytes;
    char *text = fat_read(ptx, &bytes);
    sg_module *module = text ? sg_module_load(text, strnlen(text, bytes), error, sizeof error) : NULL; /* entries are padded */
    free(text);
    b->modules[slot].entry = ptx->entry;
    b->modules[slot].target = ptx->capability;
    b->modules[slot].module = module;
    if (!module) {
        fprintf(stderr, "softgpu: cannot read a module's PTX: %s\n", error);
        b->modules[slot].status = cudaErrorInvalidPtx;
        return;
    }
    fat_image cubin;
    if (!fat_find_cubin(b->wrapper, capability, &cubin)) return;
    char *code = fat_read(&cubin, &bytes);
    if (code) cubin_visit(code, bytes, cubin.capability, tell_resources, module);
    free(code);
}

/* The slot of the module that a device runs; -1, explained once, if the binary has nothing for it. */
static int find_slot(binary *b, const context *c, const char *wanted) {
    fat_image ptx;
    char why[400];
    int capability = c->properties.compute_major * 10 + c->properties.compute_minor;
    if (!fat_find_ptx(b->wrapper, capability, &ptx, why, sizeof why)) {
        fprintf(stderr, "softgpu: the binary that holds %s cannot run: %s\n", wanted, why);
        return -1;
    }
    for (int i = 0; i < b->module_count; i++)
        if (b->modules[i].entry == ptx.entry) return i;
    if (b->module_count == MAX_MODULES) return -1;
    load(b, b->module_count, &ptx, capability);
    return b->module_count++;
}

static int module_slot(binary *b, const context *c, const char *wanted) {
    int *slot = &b->slots[c->index];
    if (*slot == 0) {
        int found = find_slot(b, c, wanted);
        *slot = found < 0 ? -1 : found + 1;
    }
    return *slot < 0 ? -1 : *slot - 1;
}

cudaError_t function_of(const void *handle, function **f) {
    for (function *each = functions; each && handle; each = each->next)
        if (each->host == handle || each == handle) return *f = each, cudaSuccess;
    return cudaErrorInvalidDeviceFunction;
}

const void *function_host_pointer(const function *f) { return f->host; }

cudaError_t function_on(const function *f, context *c, const sg_function **code) {
    int slot = module_slot(f->binary, c, f->name);
    if (slot < 0) return cudaErrorNoKernelImageForDevice;
    if (!f->binary->modules[slot].module) return f->binary->modules[slot].status;
    *code = sg_module_function(f->binary->modules[slot].module, f->name);
    return *code ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}

int function_target(const function *f, context *c) {
    int slot = module_slot(f->binary, c, f->name);
    return slot < 0 ? 0 : f->binary->modules[slot].target;
}

static cudaError_t variable_on(const variable *v, context *c, uint64_t *address, int64_t *bytes) {
    int slot = module_slot(v->binary, c, v->name);
    if (slot < 0) return cudaErrorNoKernelImageForDevice;
    sg_module *module = v->binary->modules[slot].module;
    if (!module) return v->binary->modules[slot].status;
    return sg_module_variable(module, c->device, v->name, address, bytes) ? cudaSuccess : cudaErrorInvalidSymbol;
}

cudaError_t symbol_address(const void *symbol, context *c, uint64_t *address, int64_t *bytes) {
    for (variable *v = variables; v && symbol; v = v->next)
        if (v->host == symbol || (v->managed && *v->managed == symbol)) return variable_on(v, c, address, bytes);
    return cudaErrorInvalidSymbol;
}

static cudaError_t get_symbol(const void *symbol, void **pointer, size_t *bytes) {
    uint64_t address;
    int64_t size;
    if (!pointer && !bytes) return cudaErrorInvalidValue;
    TRY(symbol_address(symbol, current_context(), &address, &size));
    if (pointer) *pointer = (void *)(uintptr_t)address;
    if (bytes) *bytes = (size_t)size;
    return cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void **pointer, const void *symbol) API(get_symbol(symbol, pointer, NULL))
cudaError_t cudaGetSymbolSize(size_t *bytes, const void *symbol) API(get_symbol(symbol, NULL, bytes))

/* ---- called by the code that nvcc generates ------------------------------------------------------------------ */

void **__cudaRegisterFatBinary(void *wrapper);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int thread_limit,
                            uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *warp);
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int ext, size_t size, int constant,
                       int global);
void __cudaRegisterManagedVar(void **handle, void **host, char *device, const char *name, int ext, size_t size,
                              int constant, int global);
char __cudaInitModule(void **handle);

static binary *binary_of(void **handle) { return handle ? (binary *)*handle : NULL; }

void **__cudaRegisterFatBinary(void *wrapper) {
    binary *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->wrapper = wrapper;
    b->handle = b;
    return &b->handle;
}

void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int thread_limit,
                            uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *warp) {
    (void)device, (void)thread_limit, (void)tid, (void)bid, (void)block, (void)grid, (void)warp;
    function *f = calloc(1, sizeof *f);
    if (!f) return;
    *f = (function){.magic = FUNCTION_MAGIC, .host = host, .name = name, .binary = binary_of(handle), .carveout = -1};
    pthread_mutex_lock(&runtime_lock);
    f->next = functions;
    functions = f;
    pthread_mutex_unlock(&runtime_lock);
}

static void register_variable(void **handle, const void *host, void **managed, const char *name) {
    variable *v = calloc(1, sizeof *v);
    if (!v) return;
    *v = (variable){.host = host, .managed = managed, .name = name, .binary = binary_of(handle)};
    pthread_mutex_lock(&runtime_lock);
    v->next = variables;
    variables = v;
    pthread_mutex_unlock(&runtime_lock);
}

void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int ext, size_t size, int constant,
                       int global) {
    (void)device, (void)ext, (void)size, (void)constant, (void)global;
    register_variable(handle, host, NULL, name);
}

void __cudaRegisterManagedVar(void **handle, void **host, char *device, const char *name, int ext, size_t size,
                              int constant, int global) {
    (void)device, (void)ext, (void)size, (void)constant, (void)global;
    register_variable(handle, host, host, name);
}

/* The host code of a __managed__ variable calls this before it reads the variable's address. */
char __cudaInitModule(void **handle) {
    binary *b = binary_of(handle);
    pthread_mutex_lock(&runtime_lock);
    if (b && !b->managed_ready && device_count() > 0) {
        b->managed_ready = true;
        for (variable *v = variables; v; v = v->next) {
            uint64_t address;
            int64_t bytes;
            if (v->binary == b && v->managed && variable_on(v, current_context(), &address, &bytes) == cudaSuccess)
                *v->managed = (void *)(uintptr_t)address;
        }
    }
    pthread_mutex_unlock(&runtime_lock);
    return 1;
}

/* At exit or dlclose: what is queued still runs, but stubs and host functions may not be called any more. */
void __cudaUnregisterFatBinary(void **handle) {
    binary *b = binary_of(handle);
    pthread_mutex_lock(&runtime_lock);
    drain_devices();
    for (function *f = functions; f; f = f->next)
        if (f->binary == b) f->host = NULL;
    for (variable *v = variables; v; v = v->next)
        if (v->binary == b) v->host = NULL;
    pthread_mutex_unlock(&runtime_lock);
}
