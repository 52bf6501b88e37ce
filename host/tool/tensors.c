/* Allocates, converts, reads and writes tensors. */
#include "tool/tensors.h"
#include "file/fail.h"
#include "file/npy.h"
#include "file/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void pool_free(pool *pool)
{
    while (pool->count) {
        pool->count--;
        free(pool->blocks[pool->count].memory);
        attend_mapping_free(&pool->blocks[pool->count].mapping);
    }
}

void pool_release(const pool *pool)
{
    for (int i = 0; i < pool->count; i++) attend_mapping_release(&pool->blocks[i].mapping);
}

static attend_status keep(pool *pool, void *memory, attend_mapping mapping)
{
    if (pool->count < (int)(sizeof pool->blocks / sizeof *pool->blocks)) {
        pool->blocks[pool->count].memory = memory;
        pool->blocks[pool->count++].mapping = mapping;
        return ATTEND_OK;
    }
    free(memory);
    attend_mapping_free(&mapping);
    return attend_file_fail(ATTEND_OUT_OF_MEMORY, "too many tensors");
}

attend_status pool_keep(pool *pool, void *block) { return keep(pool, block, (attend_mapping){0}); }
attend_status pool_keep_mapping(pool *pool, attend_mapping mapping) { return keep(pool, NULL, mapping); }

/* Describes a row-major tensor without data, whose bytes can be counted. */
static attend_status describe(const char *name, attend_dtype dtype, int rank, const int64_t *shape,
                              attend_tensor *tensor, int64_t *bytes)
{
    bool overflow = false;
    *bytes = (int64_t)attend_dtype_bytes(dtype);
    memset(tensor, 0, sizeof *tensor);
    tensor->dtype = dtype, tensor->rank = rank;
    for (int axis = 0; axis < rank; axis++) {
        tensor->shape[axis] = shape[axis];
        overflow |= __builtin_mul_overflow(*bytes, shape[axis], bytes);
    }
    if (overflow)
        return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s has more bytes than 63 bits can count", name);
    *tensor = attend_tensor_row_major(*tensor);
    return ATTEND_OK;
}

attend_status pool_tensor(pool *pool, const char *name, attend_dtype dtype, int rank, const int64_t *shape,
                          attend_tensor *tensor)
{
    int64_t bytes;
    ATTEND_TRY(describe(name, dtype, rank, shape, tensor, &bytes));
    ATTEND_TRY(attend_memory_allocate(name, bytes, &tensor->data));
    memset(tensor->data, 0, (size_t)bytes);
    return pool_keep(pool, tensor->data);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && !strcmp(text + length - end_length, end);
}

/* Loads the tensor called `name`, or the only one of the file if name is NULL. */
static attend_status load_from_safetensors(const char *path, const char *name, bool mapped,
                                           attend_array *array)
{
    attend_safetensors file;
    ATTEND_TRY(attend_safetensors_open(path, &file));
    const attend_safetensors_entry *entry = name              ? attend_safetensors_find(&file, name)
                                            : file.count == 1 ? file.entries
                                                              : NULL;
    attend_status status;
    if (entry)
        status = mapped ? attend_safetensors_map(&file, entry, array)
                        : attend_safetensors_read(&file, entry, array);
    else if (name)
        status = attend_file_fail(ATTEND_BAD_FILE, "%s has no tensor \"%s\"", path, name);
    else
        status = attend_file_fail(ATTEND_BAD_FILE, "%s has %" PRId64 " tensors; name one: %s:NAME", path,
                                  file.count, path);
    attend_safetensors_close(&file);
    return status;
}

static attend_status load(const char *path, bool mapped, attend_array *array)
{
    static const char extension[] = ".safetensors";
    const char *colon = strstr(path, ".safetensors:");
    attend_status status;
    if (colon) {
        char *file = strndup(path, (size_t)(colon - path) + sizeof extension - 1);
        if (!file) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a file's name");
        status = load_from_safetensors(file, colon + sizeof extension, mapped, array);
        free(file);
    } else {
        status = ends_with(path, extension) ? load_from_safetensors(path, NULL, mapped, array)
                 : mapped                   ? attend_npy_map(path, array)
                                            : attend_npy_read(path, array);
    }
    return status;
}

attend_status array_load(const char *path, attend_array *array) { return load(path, false, array); }
attend_status array_map(const char *path, attend_array *array) { return load(path, true, array); }

float tensor_element(const attend_tensor *tensor, int64_t index)
{
    return attend_array_load(tensor->data, tensor->dtype, index);
}

static attend_status to_tensor(pool *pool, const char *path, attend_array *array, attend_dtype dtype,
                               attend_tensor *tensor)
{
    ATTEND_TRY(attend_array_convert(path, array, dtype));
    if (array->rank > ATTEND_MAX_RANK)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has %d axes, expected at most %d", path, array->rank,
                                ATTEND_MAX_RANK);
    *tensor = (attend_tensor){.data = array->data, .dtype = dtype, .rank = array->rank};
    memcpy(tensor->shape, array->shape, sizeof tensor->shape);
    *tensor = attend_tensor_row_major(*tensor);
    const attend_mapping mapping = array->mapping;
    array->data = NULL, array->mapping = (attend_mapping){0};
    return mapping.base ? pool_keep_mapping(pool, mapping) : pool_keep(pool, tensor->data);
}

attend_status array_to_tensor(pool *pool, const char *path, attend_array *array, attend_dtype dtype,
                              attend_tensor *tensor)
{
    attend_status status = to_tensor(pool, path, array, dtype, tensor);
    attend_array_free(array);
    return status;
}

attend_status load_batched(pool *pool, const char *path, attend_array *array, attend_dtype dtype, int rank,
                           attend_tensor *tensor, bool *given)
{
    *given = array->rank == rank;
    if (!*given && array->rank != rank - 1) {
        attend_status status =
            attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has %d axes, expected %d, or %d without the batch",
                             path, array->rank, rank, rank - 1);
        attend_array_free(array);
        return status;
    }
    if (!*given) {
        memmove(array->shape + 1, array->shape, sizeof *array->shape * (size_t)(rank - 1));
        array->shape[0] = 1;
        array->rank = rank;
    }
    return array_to_tensor(pool, path, array, dtype, tensor);
}

attend_status result_load(pool *pool, const char *path, attend_dtype dtype, int rank, attend_tensor *tensor)
{
    attend_array array;
    attend_dtype stored = dtype;
    bool given;
    ATTEND_TRY(array_load(path, &array));
    attend_status status = attend_array_dtype(path, &array, &stored);
    if (status == ATTEND_OK && stored != dtype)
        status =
            attend_file_fail(ATTEND_INVALID_ARGUMENT,
                             "%s is %s, but the problem is %s; a result is not converted before it is judged",
                             path, attend_dtype_name(stored), attend_dtype_name(dtype));
    if (status != ATTEND_OK) {
        attend_array_free(&array);
        return status;
    }
    return load_batched(pool, path, &array, dtype, rank, tensor, &given);
}

/* Whether the path is, or will be, a regular file. */
static bool is_file(const char *path)
{
    struct stat about;
    return stat(path, &about) || S_ISREG(about.st_mode);
}

attend_status result_open(const char *path, attend_dtype dtype, result_file *file)
{
    memset(file, 0, sizeof *file);
    if (!path) return ATTEND_OK;
    if (dtype == ATTEND_BF16 && !ends_with(path, ".safetensors"))
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "%s cannot store bf16, which .npy does not support; give a .safetensors file, or --dtype f32",
            path);
    if (!ends_with(path, ".npy") && !ends_with(path, ".safetensors") && is_file(path))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s ends neither in .npy nor in .safetensors, the formats of results", path);
    file->path = path;
    return attend_output_open(path, &file->output);
}

attend_status result_open_picture(const char *path, result_file *file)
{
    memset(file, 0, sizeof *file);
    if (!path) return ATTEND_OK;
    if (!ends_with(path, ".png") && is_file(path))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s does not end in .png, the format of pictures",
                                path);
    file->path = path;
    return attend_output_open(path, &file->output);
}

/* Data NULL: what comes before it alone. */
static attend_status write_tensor(result_file *file, const char *name, const attend_tensor *tensor,
                                  bool batched)
{
    const int rank = batched ? tensor->rank : tensor->rank - 1;
    const int64_t *shape = batched ? tensor->shape : tensor->shape + 1;
    if (ends_with(file->path, ".safetensors"))
        return attend_safetensors_write(&file->output, name, tensor->dtype, rank, shape, tensor->data);
    return attend_npy_write(&file->output, tensor->dtype, rank, shape, tensor->data);
}

attend_status result_map(result_file *file, pool *pool, const char *name, attend_dtype dtype, int rank,
                         const int64_t *shape, bool batched, attend_tensor *tensor, bool *made)
{
    attend_mapping mapping;
    int64_t bytes;
    *made = file->path && file->output.temporary;
    if (!*made) return ATTEND_OK;
    ATTEND_TRY(describe(file->path, dtype, rank, shape, tensor, &bytes));
    ATTEND_TRY(write_tensor(file, name, tensor, batched));
    ATTEND_TRY(attend_output_map(&file->output, bytes, &mapping, &tensor->data));
    file->mapped = true;
    return pool_keep_mapping(pool, mapping);
}

attend_status result_write(result_file *file, const char *name, const attend_tensor *tensor, bool batched)
{
    if (!file->path) return ATTEND_OK;
    if (!file->mapped) ATTEND_TRY(write_tensor(file, name, tensor, batched));
    return attend_output_finish(&file->output);
}

attend_status results_commit(result_file *const *files, int count)
{
    for (int i = 0; i < count; i++)
        if (files[i]->path) ATTEND_TRY(attend_output_commit(&files[i]->output));
    return ATTEND_OK;
}

void result_close(result_file *file) { attend_output_close(&file->output); }
