/* Reads and writes of device memory by the library, each through the engine's checks, and scalars on top of them. */
#include "cublas/scalar.h"

#include "cublas/element.h"

#include <stdio.h>

/* Memory that only the host knows is what a real device faults on. */
static bool is_device_memory(const char *label, const void *address)
{
    sg_allocation allocation;
    if (sg_memory_find((uint64_t)(uintptr_t)address, &allocation)) return true;
    sg_finding("out of bounds", "%s: %p is not device memory", label, address);
    return false;
}

bool device_read(const char *what, const char *operand, const void *address, int64_t bytes, const void **data)
{
    char label[96];
    snprintf(label, sizeof label, "%s: %s", what, operand);
    *data = is_device_memory(label, address) ? sg_memory_read((uint64_t)(uintptr_t)address, bytes, label) : NULL;
    return *data;
}

bool device_write(const char *what, const char *operand, void *address, int64_t bytes, void **data)
{
    char label[96];
    snprintf(label, sizeof label, "%s: %s", what, operand);
    *data = is_device_memory(label, address) ? sg_memory_write((uint64_t)(uintptr_t)address, bytes, label) : NULL;
    return *data;
}

scalar scalar_take(cublasHandle_t handle, const void *pointer, cudaDataType type)
{
    scalar taken = {.type = type};
    if (handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE)
        taken.address = (uint64_t)(uintptr_t)pointer;
    else
        element_widen_double(type, pointer, 1, &taken.value);
    return taken;
}

bool scalar_read(const scalar *scalar, const char *what, double *value)
{
    const void *data;
    *value = scalar->value;
    if (!scalar->address) return true;
    if (!device_read(what, "scalar", (const void *)(uintptr_t)scalar->address, element_bytes(scalar->type), &data))
        return false;
    element_widen_double(scalar->type, data, 1, value);
    return true;
}
