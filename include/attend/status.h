/* What calls return, the sentence of a failure, the library's version, and the sizes of its structs. */
#ifndef ATTEND_STATUS_H
#define ATTEND_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATTEND_API __attribute__((visibility("default")))

#define ATTEND_VERSION_MAJOR 0
#define ATTEND_VERSION_MINOR 1
#define ATTEND_VERSION_PATCH 0

typedef enum attend_status {
    ATTEND_OK = 0,
    ATTEND_INVALID_ARGUMENT, /* a value that no backend can accept; the message names it */
    ATTEND_UNSUPPORTED,      /* a valid problem that this backend or build does not implement */
    ATTEND_OUT_OF_MEMORY,    /* on the host or on the device */
    ATTEND_NO_DEVICE,        /* no driver, no such device or a busy one, or a build without CUDA */
    /* CUDA or cuBLAS failed; the message has the call, CUDA's name for it, and if CUDA cannot be used again */
    ATTEND_DEVICE_ERROR,
    ATTEND_BAD_FILE, /* a file whose content violates its format */
    ATTEND_IO_ERROR, /* the system refused to open, read or write */
    ATTEND_CANCELLED /* a progress callback asked to stop */
} attend_status;

/* "ATTEND_INVALID_ARGUMENT" and so on; never NULL. */
ATTEND_API const char *attend_status_name(attend_status status);

/* The sentence of the last failure in the calling thread; "" before the first. Valid until that thread's next
   failure. */
ATTEND_API const char *attend_error_message(void);

/* The library's own version, "0.1.0". */
ATTEND_API const char *attend_version(void);

/* Bytes that this library knows of a struct by its name, "attend_problem" and so on; 0 where it has none of
 * that name. For bindings that write structs themselves: a field at or beyond this size is not known, one
 * below it lies where every release has it. */
ATTEND_API size_t attend_sizeof(const char *name);

#ifdef __cplusplus
}
#endif

#endif
