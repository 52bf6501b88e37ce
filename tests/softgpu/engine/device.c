/* The devices that can be asked for by name. Figures: CUDA programming guide, table of compute capabilities; NVIDIA's architecture papers. */
#include "engine/memory.h"

#include <stdlib.h>
#include <string.h>

#define GIB ((int64_t)1 << 30)
#define MIB ((int64_t)1 << 20)

static const struct {
    const char *key;
    sg_properties properties;
} devices[] = {
    {"v100", {"V100", 7, 0, 80, 32 * GIB, 6 * MIB, 98304, 49152, 98304, 65536, 2048, 32}},
    {"t4", {"T4", 7, 5, 40, 16 * GIB, 4 * MIB, 65536, 49152, 65536, 65536, 1024, 16}},
    {"a100", {"A100", 8, 0, 108, 80 * GIB, 40 * MIB, 167936, 49152, 166912, 65536, 2048, 32}},
    {"a10", {"A10", 8, 6, 72, 24 * GIB, 6 * MIB, 102400, 49152, 101376, 65536, 1536, 16}},
    {"rtx3090", {"RTX 3090", 8, 6, 82, 24 * GIB, 6 * MIB, 102400, 49152, 101376, 65536, 1536, 16}},
    {"orin", {"Jetson AGX Orin", 8, 7, 16, 64 * GIB, 4 * MIB, 167936, 49152, 166912, 65536, 1536, 16}},
    {"l4", {"L4", 8, 9, 58, 24 * GIB, 48 * MIB, 102400, 49152, 101376, 65536, 1536, 24}},
    {"l40s", {"L40S", 8, 9, 142, 48 * GIB, 96 * MIB, 102400, 49152, 101376, 65536, 1536, 24}},
    {"rtx4090", {"RTX 4090", 8, 9, 128, 24 * GIB, 72 * MIB, 102400, 49152, 101376, 65536, 1536, 24}},
    {"h100", {"H100", 9, 0, 132, 80 * GIB, 50 * MIB, 233472, 49152, 232448, 65536, 2048, 32}},
    {"h200", {"H200", 9, 0, 132, 141 * GIB, 50 * MIB, 233472, 49152, 232448, 65536, 2048, 32}},
    {"b200", {"B200", 10, 0, 148, 180 * GIB, 126 * MIB, 233472, 49152, 232448, 65536, 2048, 32}},
    {"rtx5090", {"RTX 5090", 12, 0, 170, 32 * GIB, 96 * MIB, 102400, 49152, 101376, 65536, 1536, 24}},
};

bool sg_properties_named(const char *name, sg_properties *properties)
{
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (!strcmp(name, devices[i].key)) {
            *properties = devices[i].properties;
            return true;
        }
    return false;
}

sg_device *sg_device_create(int index, const sg_properties *properties)
{
    sg_device *device = calloc(1, sizeof *device);
    if (device) *device = (sg_device){.index = index, .properties = *properties};
    return device;
}

const sg_properties *sg_device_properties(const sg_device *device) { return &device->properties; }
