/* Allocations: two arenas of addresses that are handed out once and never again (one that only the device may follow, one for both
   sides), with wide gaps between neighbours as red zones, and the caller's registered pages. Freed regions stay on record. */
#include "engine/memory.h"

#include "engine/finding.h"
#include "engine/watch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGNMENT = 4096,          /* whole pages, so that freeing gives them back */
    RED_ZONE = 65536,          /* at least; doubled lengths catch strides that overshoot */
    RED_ZONE_MOST = 64 << 20,
    FILL_MOST = 16 << 20       /* new memory up to this size is filled with 0xff: NaN in every floating format */
};

/* Regions of an arena lie in the order of their addresses because addresses only grow; registered pages are kept sorted. */
typedef struct arena {
    char *start, *view; /* addresses handed out; the same bytes where the host may touch them */
    size_t size, used;
    sg_region **regions;
    int64_t count, capacity;
} arena;

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static arena device_arena, shared_arena, registered;
static uint64_t serials;

/* ---- regions --------------------------------------------------------------------------------------------------------------- */

static char *reserve(size_t size, int protection)
{
    void *start = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

/* Address space costs nothing, but some systems limit it. */
static bool open_arena(arena *a, bool device_only)
{
    for (size_t size = (size_t)1 << 44; !a->start && size >= (size_t)1 << 34; size /= 4) {
        a->view = reserve(size, PROT_READ | PROT_WRITE);
        a->start = !device_only ? a->view : a->view ? reserve(size, PROT_NONE) : NULL;
        if (a->view && !a->start) munmap(a->view, size);
        a->size = size;
    }
    return a->start;
}

/* The number of regions that start at or below an address. */
static int64_t at_or_below(const arena *a, uint64_t address)
{
    int64_t low = 0, high = a->count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (a->regions[middle]->address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool insert(arena *a, sg_region *region)
{
    if (a->count == a->capacity) {
        int64_t capacity = a->capacity ? 2 * a->capacity : 64;
        sg_region **grown = realloc(a->regions, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        a->regions = grown;
        a->capacity = capacity;
    }
    int64_t at = at_or_below(a, region->address);
    memmove(a->regions + at + 1, a->regions + at, (size_t)(a->count - at) * sizeof *a->regions);
    a->regions[at] = region;
    a->count++;
    return true;
}

static sg_region *holder(const arena *a, uint64_t address)
{
    int64_t at = at_or_below(a, address);
    if (!at || address - a->regions[at - 1]->address >= (uint64_t)a->regions[at - 1]->bytes) return NULL;
    return a->regions[at - 1];
}

static sg_region *locate(uint64_t address)
{
    sg_region *region = holder(&device_arena, address);
    if (!region) region = holder(&shared_arena, address);
    return region ? region : holder(&registered, address);
}

sg_region *sg_region_at(uint64_t address)
{
    pthread_rwlock_rdlock(&lock);
    sg_region *region = locate(address);
    pthread_rwlock_unlock(&lock);
    return region;
}

static void describe_from(const sg_region *r, uint64_t address, char *text, size_t bytes)
{
    long long distance = (long long)(address - r->address), length = (long long)r->bytes;
    const char *state = r->freed ? "freed " : "";
    if (distance < 0)
        snprintf(text, bytes, "%lld bytes before the %lld %sbytes of %s #%llu at 0x%llx", -distance, length, state, r->origin,
                 (unsigned long long)r->serial, (unsigned long long)r->address);
    else if (distance >= length)
        snprintf(text, bytes, "%lld bytes after the %lld %sbytes of %s #%llu at 0x%llx", distance - length, length, state, r->origin,
                 (unsigned long long)r->serial, (unsigned long long)r->address);
    else
        snprintf(text, bytes, "byte %lld of the %lld %sbytes of %s #%llu at 0x%llx", distance, length, state, r->origin,
                 (unsigned long long)r->serial, (unsigned long long)r->address);
}

static bool within(const arena *a, uint64_t address)
{
    uint64_t start = (uint64_t)(uintptr_t)a->start;
    return a->start && address >= start && address - start < a->size;
}

void sg_address_describe(uint64_t address, char *text, size_t bytes)
{
    pthread_rwlock_rdlock(&lock);
    const arena *a = within(&device_arena, address) ? &device_arena : within(&shared_arena, address) ? &shared_arena : &registered;
    int64_t at = at_or_below(a, address);
    const sg_region *below = at ? a->regions[at - 1] : NULL, *above = at < a->count ? a->regions[at] : NULL;
    /* The nearer neighbour; inside `below` its end counts as nearest. */
    bool up = above && (!below || above->address - address < address - below->address - (uint64_t)below->bytes) &&
              !(below && address - below->address < (uint64_t)below->bytes);
    const sg_region *near = up ? above : below;
    if (near && (a != &registered || address - near->address < (uint64_t)near->bytes))
        describe_from(near, address, text, bytes);
    else
        snprintf(text, bytes, "an address that no allocation ever held");
    pthread_rwlock_unlock(&lock);
}

/* ---- allocating and freeing ---------------------------------------------------------------------------------------------- */

static size_t rounded(int64_t bytes) { return ((size_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static size_t red_zone(int64_t bytes)
{
    return RED_ZONE + rounded(bytes < RED_ZONE_MOST ? bytes : RED_ZONE_MOST);
}

/* Marks for device memory; a mapping, so that what nobody touches costs nothing. */
static uint8_t *new_marks(int64_t bytes) { return (uint8_t *)reserve(rounded(bytes), PROT_READ | PROT_WRITE); }

static bool takes_marks(sg_memory_kind kind) { return kind == SG_MEMORY_DEVICE && sg_settings.checks; }

static bool counts_against_capacity(sg_memory_kind kind) { return kind == SG_MEMORY_DEVICE || kind == SG_MEMORY_MANAGED || kind == SG_MEMORY_MODULE; }

/* Under the lock. */
static sg_region *allocate(sg_device *device, sg_memory_kind kind, int64_t bytes, const char *origin)
{
    bool device_only = kind == SG_MEMORY_DEVICE || kind == SG_MEMORY_MODULE;
    arena *a = device_only ? &device_arena : &shared_arena;
    size_t zone = red_zone(bytes);
    if (!a->start && !open_arena(a, device_only)) return NULL;
    if ((size_t)bytes > a->size || a->size - a->used < rounded(bytes) + 2 * zone) return NULL;
    sg_region *region = malloc(sizeof *region);
    char *start = a->start + a->used + zone;
    if (!region) return NULL;
    *region = (sg_region){.address = (uint64_t)(uintptr_t)start, .bytes = bytes, .to_host = a->view - a->start, .kind = kind,
                          .device = device, .serial = ++serials, .origin = origin};
    if (takes_marks(kind)) region->written = new_marks(bytes);
    if ((takes_marks(kind) && !region->written) || !insert(a, region)) {
        if (region->written) munmap(region->written, rounded(bytes));
        free(region);
        return NULL;
    }
    a->used += zone + rounded(bytes);
    if (kind == SG_MEMORY_MANAGED) watch_add(region);
    return region;
}

uint64_t sg_memory_allocate(sg_device *device, sg_memory_kind kind, int64_t bytes, const char *origin)
{
    if (bytes <= 0) return 0;
    bool counted = counts_against_capacity(kind);
    pthread_rwlock_wrlock(&lock);
    bool fits = !counted || bytes <= device->properties.memory_bytes - device->used_bytes;
    sg_region *region = fits ? allocate(device, kind, bytes, origin) : NULL;
    if (region && counted) device->used_bytes += bytes;
    pthread_rwlock_unlock(&lock);
    if (!region) return 0;
    if (kind == SG_MEMORY_DEVICE && bytes <= FILL_MOST) memset(sg_region_host(region, region->address), 0xff, (size_t)bytes);
    return region->address;
}

bool sg_memory_register(sg_device *device, void *host, int64_t bytes)
{
    sg_region *region = malloc(sizeof *region);
    if (!region) return false;
    pthread_rwlock_wrlock(&lock);
    *region = (sg_region){.address = (uint64_t)(uintptr_t)host, .bytes = bytes, .kind = SG_MEMORY_REGISTERED, .device = device,
                          .serial = ++serials, .origin = "cudaHostRegister"};
    bool done = bytes > 0 && !locate(region->address) && insert(&registered, region);
    pthread_rwlock_unlock(&lock);
    if (!done) free(region);
    return done;
}

/* The pages go back to the system; those both sides saw can no longer be touched by either. */
static void give_back(sg_region *region)
{
    char *host = sg_region_host(region, region->address);
    size_t bytes = rounded(region->bytes);
    if (region->kind == SG_MEMORY_MANAGED) watch_remove(region);
    madvise(host, bytes, MADV_DONTNEED);
    if (region->to_host == 0) mprotect(host, bytes, PROT_NONE);
    if (region->written) munmap(region->written, bytes);
    free(region->shadow);
    region->written = NULL;
    region->shadow = NULL;
    region->freed = true;
    if (counts_against_capacity(region->kind)) region->device->used_bytes -= region->bytes;
}

static void unregister(sg_region *region)
{
    int64_t at = at_or_below(&registered, region->address) - 1;
    memmove(registered.regions + at, registered.regions + at + 1, (size_t)(registered.count - at - 1) * sizeof *registered.regions);
    registered.count--;
    free(region->shadow);
    free(region);
}

bool sg_memory_free(uint64_t address)
{
    pthread_rwlock_wrlock(&lock);
    sg_region *region = locate(address);
    bool found = region && !region->freed && region->address == address;
    if (found && region->kind == SG_MEMORY_REGISTERED)
        unregister(region);
    else if (found)
        give_back(region);
    pthread_rwlock_unlock(&lock);
    return found;
}

bool sg_memory_find(uint64_t address, sg_allocation *allocation)
{
    const sg_region *r = sg_region_at(address);
    if (!r || r->freed) return false;
    *allocation = (sg_allocation){r->address, r->bytes, r->kind, r->device->index, r->serial};
    return true;
}

void sg_memory_usage(const sg_device *device, int64_t *free_bytes, int64_t *total_bytes)
{
    pthread_rwlock_rdlock(&lock);
    *total_bytes = device->properties.memory_bytes;
    *free_bytes = *total_bytes - device->used_bytes;
    pthread_rwlock_unlock(&lock);
}

/* Ends a device's regions in one arena. The records of its freed regions go too. */
static void end_regions(arena *a, const sg_device *device)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < a->count; i++) {
        sg_region *r = a->regions[i];
        if (r->device != device) {
            a->regions[kept++] = r;
            continue;
        }
        if (!r->freed && r->kind != SG_MEMORY_MODULE && r->kind != SG_MEMORY_REGISTERED)
            sg_finding("leak", "%lld bytes of %s #%llu at 0x%llx were never freed", (long long)r->bytes, r->origin,
                       (unsigned long long)r->serial, (unsigned long long)r->address);
        if (!r->freed && r->kind != SG_MEMORY_REGISTERED) give_back(r);
        free(r);
    }
    a->count = kept;
}

void sg_device_destroy(sg_device *device)
{
    pthread_rwlock_wrlock(&lock);
    end_regions(&device_arena, device);
    end_regions(&shared_arena, device);
    end_regions(&registered, device);
    pthread_rwlock_unlock(&lock);
    free(device);
}

/* ---- accesses by the API -------------------------------------------------------------------------------------------------- */

/* What is wrong with an operand is said once for each allocation that it lies in, not for each of its columns. */
typedef char operand_name[256];

static const char *name_operand(operand_name name, const char *what, const sg_region *region)
{
    snprintf(name, sizeof(operand_name), "%s, %llu", what, region ? (unsigned long long)region->serial : 0);
    return name;
}

/* The region of a range, *host its bytes. Host memory that is nobody's has no region. False after a finding. */
static bool resolve(uint64_t address, int64_t bytes, const char *what, sg_region **region, char **host)
{
    char place[256];
    operand_name name;
    *region = sg_region_at(address);
    *host = (char *)(uintptr_t)address;
    if (!*region && !within(&device_arena, address)) return true;
    if (!*region || bytes > (*region)->bytes - (int64_t)(address - (*region)->address)) {
        sg_address_describe(*region ? (*region)->address + (uint64_t)(*region)->bytes : address, place, sizeof place);
        sg_finding_of("out of bounds", name_operand(name, what, *region), "%s of %lld bytes at 0x%llx reaches %s", what, (long long)bytes, (unsigned long long)address, place);
        return false;
    }
    if ((*region)->freed) {
        sg_address_describe(address, place, sizeof place);
        sg_finding_of("use after free", name_operand(name, what, *region), "%s of %lld bytes reaches %s", what, (long long)bytes, place);
        return false;
    }
    *host = sg_region_host(*region, address);
    return true;
}

static uint8_t *marks_of(const sg_region *region, uint64_t address)
{
    return region && region->written ? region->written + (address - region->address) : NULL;
}

static void check_host(const sg_region *region, uint64_t address, int64_t bytes, bool writes, const char *what)
{
    const char *kind = watch_is_needed(region) ? watch_clash(&address, bytes, writes) : NULL;
    char place[256];
    operand_name name;
    if (!kind) return;
    sg_address_describe(address, place, sizeof place);
    sg_finding_of(kind, name_operand(name, what, region), "the host used %s before %s, which was queued already, %s it", place, what, writes ? "wrote" : "read");
}

static void check_written(const sg_region *region, uint64_t address, int64_t bytes, const char *what)
{
    const uint8_t *marks = marks_of(region, address), *gap = marks ? memchr(marks, 0, (size_t)bytes) : NULL;
    char place[256];
    operand_name name;
    if (!gap) return;
    sg_address_describe(address + (uint64_t)(gap - marks), place, sizeof place);
    sg_finding_of("uninitialised", name_operand(name, what, region), "%s of %lld bytes reads what was never written, from %s", what, (long long)bytes, place);
}

const void *sg_memory_read(uint64_t address, int64_t bytes, const char *what)
{
    sg_region *region;
    char *host;
    if (!resolve(address, bytes, what, &region, &host)) return NULL;
    check_host(region, address, bytes, false, what);
    check_written(region, address, bytes, what);
    return host;
}

void *sg_memory_write(uint64_t address, int64_t bytes, const char *what)
{
    sg_region *region;
    char *host;
    if (!resolve(address, bytes, what, &region, &host)) return NULL;
    uint8_t *marks = marks_of(region, address);
    check_host(region, address, bytes, true, what);
    if (marks) memset(marks, 1, (size_t)bytes);
    return host;
}

bool sg_memory_fill(uint64_t to, int value, int64_t bytes, const char *what)
{
    if (bytes == 0) return true;
    void *host = sg_memory_write(to, bytes, what);
    if (host) memset(host, value, (size_t)bytes);
    return host;
}

bool sg_memory_copy(uint64_t to, uint64_t from, int64_t bytes, const char *what)
{
    sg_region *source, *target;
    char *from_host, *to_host;
    if (bytes == 0) return true;
    if (!resolve(from, bytes, what, &source, &from_host) || !resolve(to, bytes, what, &target, &to_host)) return false;
    check_host(source, from, bytes, false, what);
    check_host(target, to, bytes, true, what);
    uint8_t *marks = marks_of(target, to);
    const uint8_t *source_marks = marks_of(source, from);
    if (marks && source_marks)
        memmove(marks, source_marks, (size_t)bytes);
    else if (marks)
        memset(marks, 1, (size_t)bytes);
    else
        check_written(source, from, bytes, what);
    memmove(to_host, from_host, (size_t)bytes);
    return true;
}
