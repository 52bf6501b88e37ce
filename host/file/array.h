/* An array as a file holds it: element type, shape, and a row-major copy of its data in memory of its own. */
#ifndef ATTEND_FILE_ARRAY_H
#define ATTEND_FILE_ARRAY_H

#include <attend/attend.h>

enum { ATTEND_ARRAY_MAX_RANK = 8 };

typedef enum attend_array_type {
    ATTEND_ARRAY_F32,
    ATTEND_ARRAY_F16,
    ATTEND_ARRAY_BF16,
    ATTEND_ARRAY_I32,
    ATTEND_ARRAY_I64,
    ATTEND_ARRAY_U8,   /* also of truth values */
    ATTEND_ARRAY_OTHER /* a type that attend has no use for; only its size is known */
} attend_array_type;

typedef struct attend_array {
    attend_array_type type;
    int rank;
    int64_t shape[ATTEND_ARRAY_MAX_RANK];
    void *data; /* little-endian, aligned to 64 bytes; never NULL after a successful read */
} attend_array;

/* Bytes of one element; 0 for ATTEND_ARRAY_OTHER. */
size_t attend_array_type_bytes(attend_array_type type);
int64_t attend_array_elements(const attend_array *array);

/* What the system can still give; INT64_MAX where it does not say. */
int64_t attend_memory_available(void);

/* Memory for `bytes` bytes and a few more, aligned to 64; ATTEND_OUT_OF_MEMORY names what it was for. More
   than there is fails here, and not when it is touched. */
attend_status attend_memory_allocate(const char *name, int64_t bytes, void **data);

/* The tensor dtype that the array holds; fails for integers. `path` is for the sentence. */
attend_status attend_array_dtype(const char *path, const attend_array *array, attend_dtype *dtype);
/* Makes its elements those of `dtype`: a float type, or u8 if they are. A finite value that overflows is an
   error. */
attend_status attend_array_convert(const char *path, attend_array *array, attend_dtype dtype);
/* Element `index` of floats. */
float attend_array_load(const void *data, attend_dtype dtype, int64_t index);
void attend_array_store(void *data, attend_dtype dtype, int64_t index, float value);

/* Frees data and clears the array; fine on a cleared one. */
void attend_array_free(attend_array *array);

#endif
