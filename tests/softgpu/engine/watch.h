/* Managed memory while work is queued: what the host touches too early. */
#ifndef SOFTGPU_ENGINE_WATCH_H
#define SOFTGPU_ENGINE_WATCH_H

#include "engine/memory.h"

#include <stdatomic.h>

void watch_add(sg_region *region);
void watch_remove(const sg_region *region); /* before its pages go */

extern atomic_int watch_touches;

/* The host's name for what it did ("host read", "host write") if it touched the range after the running task was queued, in a way that
   clashes with the task reading or writing it; NULL: nothing. *address becomes the byte. */
const char *watch_clash(uint64_t *address, int64_t bytes, bool writes);

static inline bool watch_is_needed(const sg_region *region)
{
    return region && region->kind == SG_MEMORY_MANAGED && atomic_load_explicit(&watch_touches, memory_order_relaxed);
}

#endif
