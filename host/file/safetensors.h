/* The .safetensors format: 8 bytes of header length, a JSON header, then the data of all tensors.
   https://huggingface.co/docs/safetensors/index#format Opening checks the whole header: every tensor has the
   size of its shape, tensors do not overlap, and there are no gaps between them or at the end of the file.
   Tensors are read one by one. Invalid content is ATTEND_BAD_FILE. */
#ifndef ATTEND_FILE_SAFETENSORS_H
#define ATTEND_FILE_SAFETENSORS_H

#include "file/array.h"
#include "file/input.h"
#include "file/output.h"

typedef struct attend_safetensors_entry {
    const char *name;
    const char *dtype; /* as written in the file */
    attend_array_type type;
    int rank; /* above ATTEND_ARRAY_MAX_RANK: shape has only the first axes, and the tensor cannot be read */
    int64_t shape[ATTEND_ARRAY_MAX_RANK];
    int64_t begin, end; /* bytes from the beginning of the data */
} attend_safetensors_entry;

typedef struct attend_safetensors {
    attend_input input;
    struct cJSON *header;              /* owns the names */
    attend_safetensors_entry *entries; /* sorted by name */
    int64_t count;
    int64_t data; /* offset of the data in the file */
} attend_safetensors;

/* The caller closes *file; on failure it is cleared. */
attend_status attend_safetensors_open(const char *path, attend_safetensors *file);
/* May be called on a cleared file. */
void attend_safetensors_close(attend_safetensors *file);

/* NULL: no tensor has that name. */
const attend_safetensors_entry *attend_safetensors_find(const attend_safetensors *file, const char *name);

/* Reads f32, f16, bf16, i32, i64, u8 and bool of at most ATTEND_ARRAY_MAX_RANK axes; the caller frees the
   array. */
attend_status attend_safetensors_read(const attend_safetensors *file, const attend_safetensors_entry *entry,
                                      attend_array *array);
/* The same, but that the data is mapped, where its elements are aligned in the file. */
attend_status attend_safetensors_map(const attend_safetensors *file, const attend_safetensors_entry *entry,
                                     attend_array *array);

/* Writes a file with one tensor; data NULL: what comes before it alone. */
attend_status attend_safetensors_write(attend_output *output, const char *name, attend_dtype dtype, int rank,
                                       const int64_t *shape, const void *data);

#endif
