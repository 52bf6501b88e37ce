/* numpy's .npy format, versions 1 to 3:
   https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html float32, float16, int32 and int64,
   little-endian, C order; anything else is ATTEND_BAD_FILE, and the message names it. The file must have
   exactly the size that its header implies. */
#ifndef ATTEND_FILE_NPY_H
#define ATTEND_FILE_NPY_H

#include "file/array.h"
#include "file/output.h"

/* Reads a file. The caller frees the array; on failure it is cleared. */
attend_status attend_npy_read(const char *path, attend_array *array);
/* The same, but that the data is mapped. */
attend_status attend_npy_map(const char *path, attend_array *array);

/* Writes header and data of a row-major tensor of f32 or f16 elements; data NULL: the header alone. */
attend_status attend_npy_write(attend_output *output, attend_dtype dtype, int rank, const int64_t *shape,
                               const void *data);

#endif
