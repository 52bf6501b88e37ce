/* The container that nvcc writes (fatbinary's output, read off it with `nvcc --keep`): a header, then entries, each a
   header of its own and PTX text or a cubin, as it is or compressed. */
#include "runtime/fatbinary.h"
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { WRAPPER_MAGIC = 0x466243b1, KIND_PTX = 1, KIND_CUBIN = 2 };
static const uint32_t container_magic = 0xba55ed50;
static const uint64_t lz4_flag = 0x2000, zstd_flag = 0x8000, specific_flag = 0x100000; /* sm_90a */

typedef struct wrapper {
    uint32_t magic, version;
    const char *data;
    const void *more;
} wrapper;

typedef struct container {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes;
} container;

typedef struct fat_entry {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
    uint32_t compressed_bytes, options_offset;
    uint16_t minor, major;
    uint32_t capability, name_offset, name_bytes;
    uint64_t flags, reserved, unpacked_bytes; /* 0: not compressed */
} fat_entry;

typedef struct search {
    int kind, capability;
    fat_image best;
    char held[160];  /* what there is of the kind */
} search;

static void consider(search *s, const fat_entry *e) {
    if (e->kind != s->kind) return;
    bool specific = e->flags & specific_flag;
    size_t used = strlen(s->held);
    snprintf(s->held + used, sizeof s->held - used, "%ssm_%u%s", used ? ", " : "", e->capability, specific ? "a" : "");
    int capability = (int)e->capability;
    bool runs = specific ? capability == s->capability : capability <= s->capability;
    if (s->kind == KIND_CUBIN && capability / 10 != s->capability / 10) runs = false;
    if (!runs || capability < s->best.capability) return;
    s->best = (fat_image){e, capability};
}

static bool walk(const void *registered, search *s) {
    const wrapper *w = registered;
    const container *c = w && w->magic == WRAPPER_MAGIC ? (const container *)w->data : NULL;
    if (!c || c->magic != container_magic) return false;
    const char *at = w->data + c->header_bytes, *end = at + c->bytes;
    while (at + sizeof(fat_entry) <= end) {
        const fat_entry *e = (const fat_entry *)at;
        consider(s, e);
        at += e->header_bytes + e->bytes;
    }
    return true;
}

/* The entry's content in `to`, which has room for unpacked_bytes, or for bytes where it is not compressed. */
static bool unpack(const fat_entry *e, char *to)
{
    const char *from = (const char *)e + e->header_bytes;
    if (e->flags & zstd_flag) return ZSTD_decompress(to, e->unpacked_bytes, from, e->compressed_bytes) == e->unpacked_bytes;
    if (e->flags & lz4_flag)
        return LZ4_decompress_safe(from, to, (int)e->compressed_bytes, (int)e->unpacked_bytes) == (int)e->unpacked_bytes;
    memcpy(to, from, e->bytes);
    return true;
}

char *fat_read(const fat_image *image, size_t *bytes)
{
    const fat_entry *e = image->entry;
    *bytes = e->flags & (zstd_flag | lz4_flag) ? e->unpacked_bytes : e->bytes;
    char *content = malloc(*bytes + 1);
    if (content && unpack(e, content)) return content;
    free(content);
    return NULL;
}

bool fat_find_ptx(const void *registered, int capability, fat_image *ptx, char *why, size_t why_bytes) {
    search s = {.kind = KIND_PTX, .capability = capability};
    if (!walk(registered, &s)) {
        snprintf(why, why_bytes, "the fat binary is in a format that is not known");
        return false;
    }
    if (s.best.entry) {
        *ptx = s.best;
        return true;
    }
    if (s.held[0])
        snprintf(why, why_bytes, "its PTX is for %s, the device is sm_%d; compile with nvcc -gencode arch=compute_%d,code=compute_%d",
                 s.held, capability, capability, capability);
    else
        snprintf(why, why_bytes, "it holds no PTX; compile with nvcc -gencode arch=compute_%d,code=compute_%d (PTX does "
                 "not survive device linking with -rdc=true)", capability, capability);
    return false;
}

bool fat_find_cubin(const void *registered, int capability, fat_image *cubin) {
    search s = {.kind = KIND_CUBIN, .capability = capability};
    if (!walk(registered, &s) || !s.best.entry) return false;
    *cubin = s.best;
    return true;
}
