/* Reads and writes structs of callers that were compiled with another release's headers. */
/* A new field in padding would read bytes that older callers left uninitialized. */
#pragma GCC diagnostic error "-Wpadded"
#include <attend/attend.h>
#pragma GCC diagnostic ignored "-Wpadded"
#include "core/struct.h"

#include <string.h>

enum { MOST_BYTES = 1 << 16 }; /* a larger size is an error of the caller */

#define GROWS(type, first) \
    _Static_assert(sizeof(type) >= first && sizeof(type) % 8 == 0, #type " grows, by whole 8 bytes");
#define STANDS(type, first) \
    _Static_assert(sizeof(type) == first, #type " lies inside others: it never changes its size");
ATTEND_STRUCTS(GROWS, GROWS, STANDS)

#define PLAIN(type, first) {#type, sizeof(type), first, 0, 0},
#define RESERVING(type, first) \
    {#type, sizeof(type), first, offsetof(type, reserved), sizeof((type *)NULL)->reserved},
const attend_struct attend_structs[ATTEND_STRUCT_COUNT] = {ATTEND_STRUCTS(PLAIN, RESERVING, PLAIN)};

size_t attend_sizeof(const char *name)
{
    for (int i = 0; name && i < ATTEND_STRUCT_COUNT; i++)
        if (!strcmp(name, attend_structs[i].name)) return attend_structs[i].bytes;
    return 0;
}

/* The number of zero bytes before the first that is not zero. */
static size_t zeros(const unsigned char *bytes, size_t count)
{
    size_t i = 0;
    while (i < count && bytes[i] == 0) i++;
    return i;
}

attend_status attend_reserved_check(const char *name, const void *reserved, size_t bytes)
{
    size_t at = zeros(reserved, bytes);
    if (at == bytes) return ATTEND_OK;
    return attend_fail(
        ATTEND_INVALID_ARGUMENT,
        "%s has byte %zu of reserved set to %d, expected 0: later releases give these a meaning", name, at,
        ((const unsigned char *)reserved)[at]);
}

attend_status attend_struct_check(const attend_struct *type, const char *name, const void *given,
                                  size_t bytes)
{
    if (!given) return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is NULL", name);
    if (bytes < type->first || bytes > MOST_BYTES || bytes % 8)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s has %zu bytes, but an %s has a multiple of 8 from %zu to %d", name, bytes,
                           type->name, type->first, MOST_BYTES);
    return ATTEND_OK;
}

attend_status attend_struct_read(const attend_struct *type, const char *name, void *to, const void *from,
                                 size_t from_bytes)
{
    ATTEND_TRY(attend_struct_check(type, name, from, from_bytes));
    const size_t common = from_bytes < type->bytes ? from_bytes : type->bytes, more = from_bytes - common;
    const size_t at = zeros((const unsigned char *)from + common, more);
    if (at < more)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s has %zu bytes and sets byte %zu, but this library (%s) knows %zu: the program "
                           "uses a newer attend",
                           name, from_bytes, common + at, attend_version(), type->bytes);
    ATTEND_TRY(attend_reserved_check(name, (const char *)from + type->reserved_at, type->reserved_bytes));
    memcpy(to, from, common);
    memset((char *)to + common, 0, type->bytes - common);
    return ATTEND_OK;
}

void attend_struct_write(const attend_struct *type, void *to, size_t to_bytes, const void *from)
{
    const size_t common = to_bytes < type->bytes ? to_bytes : type->bytes;
    memcpy(to, from, common);
    memset((char *)to + common, 0, to_bytes - common);
}
