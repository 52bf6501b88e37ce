/* Tensors of a command: a pool of memory freed at once, inputs loaded from files and converted, results
   written to files. */
#ifndef ATTEND_TOOL_TENSORS_H
#define ATTEND_TOOL_TENSORS_H

#include "file/array.h"
#include "file/output.h"

typedef struct pool {
    struct {
        void *memory;
        attend_mapping mapping; /* of a file, in place of memory */
    } blocks[48];
    int count;
} pool;
void pool_free(pool *pool);
/* Gives back the memory of mapped files, which comes back as it is touched. */
void pool_release(const pool *pool);
/* The pool owns `block` from here on, and frees it if this call fails. */
attend_status pool_keep(pool *pool, void *block);
attend_status pool_keep_mapping(pool *pool, attend_mapping mapping);

/* Allocates a zeroed, contiguous tensor. `name` is used in the message of a failure. */
attend_status pool_tensor(pool *pool, const char *name, attend_dtype dtype, int rank, const int64_t *shape,
                          attend_tensor *tensor);

/* Element `index` of a contiguous tensor. */
float tensor_element(const attend_tensor *tensor, int64_t index);

/* Loads an input file: .npy, .safetensors with one tensor, or FILE.safetensors:NAME. A file that cannot be
   opened is bad input. */
attend_status array_load(const char *path, attend_array *array);
/* The same, but that the data is mapped where it can be. */
attend_status array_map(const char *path, attend_array *array);

/* Converts the array to a tensor of its shape in `dtype`, and frees the array. A finite value that overflows
   `dtype` is an error. */
attend_status array_to_tensor(pool *pool, const char *path, attend_array *array, attend_dtype dtype,
                              attend_tensor *tensor);

/* The same for `rank` axes. If the first (batch) axis is missing, it becomes 1, and *given is false. */
attend_status load_batched(pool *pool, const char *path, attend_array *array, attend_dtype dtype, int rank,
                           attend_tensor *tensor, bool *given);

/* Loads another program's result. It must have the dtype of the problem. */
attend_status result_load(pool *pool, const char *path, attend_dtype dtype, int rank, attend_tensor *tensor);

/* An output file. It is opened before the computation, so that a path that cannot be written fails early. */
typedef struct result_file {
    const char *path; /* NULL: no such output */
    attend_output output;
    bool mapped; /* result_map() */
} result_file;

/* Fails for bf16 in .npy, which does not support it. */
attend_status result_open(const char *path, attend_dtype dtype, result_file *file);
attend_status result_open_picture(const char *path, result_file *file);
/* Makes a tensor of zeros whose elements are the file's, so that writing them is all there is to do. *made is
   false, and nothing happens, where the output is a device or a pipe. `batched` as below. */
attend_status result_map(result_file *file, pool *pool, const char *name, attend_dtype dtype, int rank,
                         const int64_t *shape, bool batched, attend_tensor *tensor, bool *made);
/* Writes a contiguous tensor, unless it is mapped, without its first axis if `batched` is false. */
attend_status result_write(result_file *file, const char *name, const attend_tensor *tensor, bool batched);
/* Renames all open files to their final names, after all were written. */
attend_status results_commit(result_file *const *files, int count);
void result_close(result_file *file);

#endif
