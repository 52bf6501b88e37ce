/* Memory as the executor sees it: regions with their bounds, where their bytes lie on the host, and which of them were ever written. A
   device address is never a host address: it is reserved without access rights, so that a host that follows one faults. */
#ifndef SOFTGPU_ENGINE_MEMORY_H
#define SOFTGPU_ENGINE_MEMORY_H

#include "engine/engine.h"

struct sg_device {
    int index;
    sg_properties properties;
    int64_t used_bytes;
};

typedef struct sg_region {
    uint64_t address;
    int64_t bytes;
    int64_t to_host;   /* added to an address gives the host's */
    uint8_t *written;  /* a byte for each byte: not 0 once written; NULL where all count as written */
    void *shadow;      /* the race detector's own; freed with free() when the region dies */
    sg_memory_kind kind;
    bool freed;        /* kept, its bytes gone, so that a late use finds it */
    sg_device *device;
    uint64_t serial;
    const char *origin;
} sg_region;

/* The region, live or freed, that holds an address; NULL between regions. Stays valid until the device is destroyed. Keep the last
   one found: regions are large and a lookup takes a lock. */
sg_region *sg_region_at(uint64_t address);

static inline char *sg_region_host(const sg_region *region, uint64_t address)
{
    return (char *)(uintptr_t)(address + (uint64_t)region->to_host);
}

/* Where an address lies, for a finding: "4 bytes after the 400 bytes of cudaMalloc #3 at 0x7f0000000000". */
void sg_address_describe(uint64_t address, char *text, size_t bytes);

#endif
