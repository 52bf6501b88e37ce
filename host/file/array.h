/* An array read from a file, or mapped from it: element type, shape, and row-major data. */
#ifndef ATTEND_FILE_ARRAY_H
#define ATTEND_FILE_ARRAY_H

#include "file/mapping.h"

#include <attend/attend.h>

enum { ATTEND_ARRAY_MAX_RANK = 8 };

typedef enum attend_array_type {
    ATTEND_ARRAY_F32,
    ATTEND_ARRAY_F16,
    ATTEND_ARRAY_BF16,
    ATTEND_ARRAY_I32,
    ATTEND_ARRAY_I64,
    ATTEND_ARRAY_U8,   /* and booleans */
    ATTEND_ARRAY_OTHER /* a type that attend does not use */
} attend_array_type;

typedef struct attend_array {
    attend_array_type type;
    int rank;
    int64_t shape[ATTEND_ARRAY_MAX_RANK];
    /* little-endian, aligned to 64 bytes, or to an element in a mapping; never NULL after a successful read
       */
    void *data;
    attend_mapping mapping; /* that data lies in; cleared: in memory of its own */
} attend_array;

/* Bytes of one element; 0 for ATTEND_ARRAY_OTHER. */
size_t attend_array_type_bytes(attend_array_type type);
int64_t attend_array_elements(const attend_array *array);

/* Bytes of memory that the system has available; INT64_MAX: unknown. */
int64_t attend_memory_available(void);

/* Allocates at least `bytes` bytes, aligned to 64. `name` is used in the message of ATTEND_OUT_OF_MEMORY.
   More than the available memory fails here, not when it is first written. */
attend_status attend_memory_allocate(const char *name, int64_t bytes, void **data);

/* The dtype of the array's elements; fails for integers. `path` is used in the message. */
attend_status attend_array_dtype(const char *path, const attend_array *array, attend_dtype *dtype);
/* Converts the elements to `dtype`: from a float type to a float type, or u8 to u8. A finite value that
   overflows is an error. */
attend_status attend_array_convert(const char *path, attend_array *array, attend_dtype dtype);
/* Element `index` of an array of floats. */
float attend_array_load(const void *data, attend_dtype dtype, int64_t index);
void attend_array_store(void *data, attend_dtype dtype, int64_t index, float value);

/* Frees the data and clears the array; may be called on a cleared one. */
void attend_array_free(attend_array *array);

#endif
