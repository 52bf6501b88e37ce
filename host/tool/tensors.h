/* Tensors of a command: memory that is freed at once, arrays from files in the dtype that is asked for,
 * results to files. */
#ifndef ATTEND_TOOL_TENSORS_H
#define ATTEND_TOOL_TENSORS_H

#include "file/array.h"
#include "file/output.h"

typedef struct pool {
    void *blocks[48];
    int count;
} pool;
void pool_free(pool *pool);
/* Takes a block, also when it fails. */
attend_status pool_keep(pool *pool, void *block);

/* A zeroed tensor without gaps. `name` is for the sentence where memory lacks. */
attend_status pool_tensor(pool *pool, const char *name, attend_dtype dtype, int rank, const int64_t *shape,
                          attend_tensor *tensor);

/* Element `index` of a tensor without gaps. */
float tensor_element(const attend_tensor *tensor, int64_t index);

/* An input file: .npy, or .safetensors with one tensor, or FILE.safetensors:NAME. A file that cannot be
 * opened is bad input. */
attend_status array_load(const char *path, attend_array *array);

/* Makes a tensor of the array's shape, in `dtype`, and takes the array. A finite value that overflows is an
 * error. */
attend_status array_to_tensor(pool *pool, const char *path, attend_array *array, attend_dtype dtype,
                              attend_tensor *tensor);

/* The same with `rank` axes, where a missing first one is 1; *given tells whether it was there. */
attend_status load_batched(pool *pool, const char *path, attend_array *array, attend_dtype dtype, int rank,
                           attend_tensor *tensor, bool *given);

/* A result that somebody else computed, in the dtype of the problem: nothing is converted. */
attend_status result_load(pool *pool, const char *path, attend_dtype dtype, int rank, attend_tensor *tensor);

/* A result's file: opened before the work, so that a place that cannot be written shows early. */
typedef struct result_file {
    const char *path; /* NULL: not wanted */
    attend_output output;
} result_file;

/* Fails for bf16 in .npy, which has none. */
attend_status result_open(const char *path, attend_dtype dtype, result_file *file);
attend_status result_open_picture(const char *path, result_file *file);
/* Writes a tensor without gaps, without its first axis if `batched` is false. */
attend_status result_write(result_file *file, const char *name, const attend_tensor *tensor, bool batched);
/* Gives all files that are open their names; all were written. */
attend_status results_commit(result_file *const *files, int count);
void result_close(result_file *file);

#endif
