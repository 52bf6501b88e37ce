/* Opens, reads and writes .safetensors; safetensors_header.c parses and checks headers. */
#include "file/safetensors.h"
#include "file/safetensors_header.h"
#include "file/fail.h"
#include "shared/dtype.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000 }; /* the format's limit */

/* The format of a file that is not .safetensors, from its first bytes; NULL: unknown. */
static const char *other_format(const void *bytes)
{
    static const struct {
        const char *magic;
        size_t length;
        const char *what;
    } formats[] = {
        {"PK\3\4", 4,
         "is a zip archive, as PyTorch saves pickles, which are not read; save the tensors as .safetensors "
         "(save_pretrained does)"},
        {"\x80\2", 2,
         "is a pickle, which is not read; save the tensors as .safetensors (save_pretrained does)"},
        {"version ", 8, "is a pointer of Git LFS: the file itself was not downloaded"},
        {"GGUF", 4, "is a GGUF file, which is not read"},
        {"\x93NUMPY", 6, "is a .npy file by another name"},
        {"<!DOCTYP", 8, "is a web page: the file itself was not downloaded"},
        {"{", 1, "is JSON; an index of shards is called model.safetensors.index.json"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!memcmp(bytes, formats[i].magic, formats[i].length)) return formats[i].what;
    return NULL;
}

/* Reads the header's text and appends a NUL; the caller frees it. */
static attend_status read_text(const attend_input *input, char **text, int64_t *length)
{
    uint64_t promised = 0;
    *text = NULL;
    if (input->size < LENGTH_BYTES)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has %" PRId64 " bytes, less than any .safetensors file",
                                input->path, input->size);
    ATTEND_TRY(attend_input_read(input, 0, &promised, LENGTH_BYTES));
    const bool fits = promised <= MAX_HEADER && promised <= (uint64_t)(input->size - LENGTH_BYTES);
    if (!fits && other_format(&promised))
        return attend_file_fail(ATTEND_BAD_FILE, "%s %s", input->path, other_format(&promised));
    if (!fits)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s has a header length of %" PRIu64 "; %" PRId64
                                " bytes follow, and the limit is %d",
                                input->path, promised, input->size - LENGTH_BYTES, MAX_HEADER);
    *length = (int64_t)promised;
    *text = malloc((size_t)promised + 1);
    if (!*text) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its header", input->path);
    (*text)[promised] = 0;
    return attend_input_read(input, LENGTH_BYTES, *text, *length);
}

static attend_status open_header(attend_safetensors *file)
{
    char *text;
    int64_t length = 0;
    attend_status status = read_text(&file->input, &text, &length);
    if (status == ATTEND_OK) {
        file->data = LENGTH_BYTES + length;
        status = attend_safetensors_parse(text, length, file);
    }
    free(text);
    return status;
}

attend_status attend_safetensors_open(const char *path, attend_safetensors *file)
{
    memset(file, 0, sizeof *file);
    ATTEND_TRY(attend_input_open(path, &file->input));
    attend_status status = open_header(file);
    if (status != ATTEND_OK) attend_safetensors_close(file);
    return status;
}

void attend_safetensors_close(attend_safetensors *file)
{
    free(file->entries);
    cJSON_Delete(file->header);
    attend_input_close(&file->input);
    memset(file, 0, sizeof *file);
}

const attend_safetensors_entry *attend_safetensors_find(const attend_safetensors *file, const char *name)
{
    int64_t from = 0, to = file->count;
    while (from < to) {
        int64_t middle = from + (to - from) / 2;
        int order = strcmp(name, file->entries[middle].name);
        if (order == 0) return &file->entries[middle];
        if (order < 0)
            to = middle;
        else
            from = middle + 1;
    }
    return NULL;
}

static attend_status take(const attend_safetensors *file, const attend_safetensors_entry *entry, bool mapped,
                          attend_array *array)
{
    memset(array, 0, sizeof *array);
    const char *path = file->input.path;
    if (entry->type == ATTEND_ARRAY_OTHER)
        return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is %s; F32, F16 and BF16 are read", path,
                                entry->name, entry->dtype);
    if (entry->rank > ATTEND_ARRAY_MAX_RANK)
        return attend_file_fail(ATTEND_BAD_FILE, "%s: %s has %d axes, more than %d", path, entry->name,
                                entry->rank, ATTEND_ARRAY_MAX_RANK);
    array->type = entry->type, array->rank = entry->rank;
    memcpy(array->shape, entry->shape, sizeof array->shape);
    attend_status status =
        attend_input_take(&file->input, file->data + entry->begin, entry->end - entry->begin, mapped, array);
    if (status != ATTEND_OK) attend_array_free(array);
    return status;
}

attend_status attend_safetensors_read(const attend_safetensors *file, const attend_safetensors_entry *entry,
                                      attend_array *array)
{
    return take(file, entry, false, array);
}

attend_status attend_safetensors_map(const attend_safetensors *file, const attend_safetensors_entry *entry,
                                     attend_array *array)
{
    return take(file, entry, true, array);
}

attend_status attend_safetensors_write(attend_output *output, const char *name, attend_dtype dtype, int rank,
                                       const int64_t *shape, const void *data)
{
    char header[512];
    int64_t bytes = (int64_t)attend_dtype_bytes(dtype);
    int length = snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"%s\",\"shape\":[", name,
                          attend_dtypes[dtype].safetensors);
    for (int axis = 0; axis < rank; axis++) {
        bytes *= shape[axis];
        length += snprintf(header + length, sizeof header - (size_t)length, "%s%" PRId64, axis ? "," : "",
                           shape[axis]);
    }
    length += snprintf(header + length, sizeof header - (size_t)length,
                       "],\"data_offsets\":[0,%" PRId64 "]}}", bytes);
    while (length % 8) header[length++] = ' '; /* the format requires writers to align the data to 8 bytes */
    uint64_t promised = (uint64_t)length;
    ATTEND_TRY(attend_output_write(output, &promised, LENGTH_BYTES));
    ATTEND_TRY(attend_output_write(output, header, length));
    return data ? attend_output_write(output, data, bytes) : ATTEND_OK;
}
