/* Checks an untrusted .safetensors header: each tensor must have the size of its shape, and all together must
   fill the file exactly. */
#include "file/safetensors_header.h"
#include "file/fail.h"
#include "file/json.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    attend_array_type type;
    int bits;
} dtypes[] = {
    {"F32", ATTEND_ARRAY_F32, 32},      {"F16", ATTEND_ARRAY_F16, 16},
    {"BF16", ATTEND_ARRAY_BF16, 16},    {"I32", ATTEND_ARRAY_I32, 32},
    {"I64", ATTEND_ARRAY_I64, 64},      {"F64", ATTEND_ARRAY_OTHER, 64},
    {"C64", ATTEND_ARRAY_OTHER, 64},    {"U64", ATTEND_ARRAY_OTHER, 64},
    {"U32", ATTEND_ARRAY_OTHER, 32},    {"I16", ATTEND_ARRAY_OTHER, 16},
    {"U16", ATTEND_ARRAY_OTHER, 16},    {"I8", ATTEND_ARRAY_OTHER, 8},
    {"U8", ATTEND_ARRAY_U8, 8},         {"BOOL", ATTEND_ARRAY_U8, 8},
    {"F8_E4M3", ATTEND_ARRAY_OTHER, 8}, {"F8_E5M2", ATTEND_ARRAY_OTHER, 8},
    {"F8_E8M0", ATTEND_ARRAY_OTHER, 8}, {"F6_E2M3", ATTEND_ARRAY_OTHER, 6},
    {"F6_E3M2", ATTEND_ARRAY_OTHER, 6}, {"F4", ATTEND_ARRAY_OTHER, 4},
};

/* Whether the item is a whole number, not negative, that a double represents exactly. */
static bool whole_number(const cJSON *item, int64_t *value)
{
    double number = item->valuedouble;
    if (!cJSON_IsNumber(item) || !(number >= 0 && number <= 0x1p53)) return false;
    *value = (int64_t)number;
    return (double)*value == number;
}

static attend_status bad(const attend_safetensors *file, const char *tensor, const char *what)
{
    return attend_file_fail(ATTEND_BAD_FILE, "%s: tensor \"%s\" %s", file->input.path, tensor, what);
}

/* Sets rank, shape and the number of bits of the data. */
static attend_status take_shape(const attend_safetensors *file, const cJSON *shape, int element_bits,
                                attend_safetensors_entry *entry, int64_t *bits)
{
    bool overflow = false, empty = false;
    if (!cJSON_IsArray(shape)) return bad(file, entry->name, "has a shape that is not a list");
    *bits = element_bits;
    for (const cJSON *item = shape->child; item; item = item->next) {
        int64_t extent;
        if (!whole_number(item, &extent))
            return bad(file, entry->name, "has a shape with an entry that is not a whole number");
        if (entry->rank < ATTEND_ARRAY_MAX_RANK) entry->shape[entry->rank] = extent;
        entry->rank++;
        empty |= extent == 0;
        overflow |= __builtin_mul_overflow(*bits, extent, bits);
    }
    if (empty) *bits = 0;
    if (overflow && !empty)
        return bad(file, entry->name, "has a shape with more bits than 63 bits can count");
    return ATTEND_OK;
}

static attend_status take_offsets(const attend_safetensors *file, const cJSON *offsets,
                                  attend_safetensors_entry *entry)
{
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !whole_number(offsets->child, &entry->begin) || !whole_number(offsets->child->next, &entry->end))
        return bad(file, entry->name, "has data_offsets that are not two whole numbers");
    if (entry->begin > entry->end) return bad(file, entry->name, "ends before it begins");
    return ATTEND_OK;
}

static attend_status take_dtype(const attend_safetensors *file, const cJSON *dtype,
                                attend_safetensors_entry *entry, int *bits)
{
    if (!cJSON_IsString(dtype)) return bad(file, entry->name, "has a dtype that is not a string");
    entry->dtype = dtype->valuestring;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(entry->dtype, dtypes[i].name)) {
            entry->type = dtypes[i].type, *bits = dtypes[i].bits;
            return ATTEND_OK;
        }
    return attend_file_fail(ATTEND_BAD_FILE, "%s: tensor \"%s\" has an unknown dtype \"%s\"",
                            file->input.path, entry->name, entry->dtype);
}

/* Reads a tensor's entry, which must have exactly dtype, shape and data_offsets. */
static attend_status take_entry(const attend_safetensors *file, const cJSON *item,
                                attend_safetensors_entry *entry)
{
    const char *const keys[] = {"dtype", "shape", "data_offsets"};
    const cJSON *found[3] = {NULL};
    int element_bits = 0;
    int64_t bits = 0;
    entry->name = item->string;
    if (!cJSON_IsObject(item)) return bad(file, entry->name, "is not described by an object");
    for (const cJSON *field = item->child; field; field = field->next) {
        int key = 0;
        while (key < 3 && strcmp(field->string, keys[key]) != 0) key++;
        if (key == 3) return bad(file, entry->name, "has a field that is not dtype, shape or data_offsets");
        if (found[key]) return bad(file, entry->name, "has a field twice");
        found[key] = field;
    }
    if (!found[0] || !found[1] || !found[2])
        return bad(file, entry->name, "lacks its dtype, shape or data_offsets");
    ATTEND_TRY(take_dtype(file, found[0], entry, &element_bits));
    ATTEND_TRY(take_shape(file, found[1], element_bits, entry, &bits));
    ATTEND_TRY(take_offsets(file, found[2], entry));
    if (bits % 8 == 0 && bits / 8 == entry->end - entry->begin) return ATTEND_OK;
    return attend_file_fail(
        ATTEND_BAD_FILE, "%s: tensor \"%s\" has %" PRId64 " bytes, but its shape and dtype need %" PRId64,
        file->input.path, entry->name, entry->end - entry->begin, bits / 8 + (bits % 8 != 0));
}

static attend_status check_metadata(const attend_safetensors *file, const cJSON *metadata)
{
    bool good = cJSON_IsObject(metadata);
    for (const cJSON *item = metadata->child; good && item; item = item->next) good = cJSON_IsString(item);
    if (!good)
        return attend_file_fail(ATTEND_BAD_FILE, "%s: __metadata__ is not a map of strings",
                                file->input.path);
    return ATTEND_OK;
}

static int by_place(const void *a, const void *b)
{
    const attend_safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const attend_safetensors_entry *)a)->name, ((const attend_safetensors_entry *)b)->name);
}

/* Checks that tensors follow each other without gaps, from the first byte of the data to the end of the
   file. */
static attend_status check_places(attend_safetensors *file)
{
    int64_t end = 0, size = file->input.size - file->data;
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_place);
    for (int64_t i = 0; i < file->count; i++) {
        const attend_safetensors_entry *entry = &file->entries[i];
        if (entry->begin < end) return bad(file, entry->name, "overlaps another one");
        if (entry->begin > end) return bad(file, entry->name, "leaves a gap before it");
        end = entry->end;
    }
    if (end > size)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s is truncated: its tensors need %" PRId64 " bytes, it has %" PRId64,
                                file->input.path, end, size);
    if (end < size)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has %" PRId64 " bytes after its last tensor",
                                file->input.path, size - end);
    return ATTEND_OK;
}

static attend_status check_names(attend_safetensors *file)
{
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_name);
    for (int64_t i = 1; i < file->count; i++)
        if (!strcmp(file->entries[i - 1].name, file->entries[i].name))
            return bad(file, file->entries[i].name, "is in the header twice");
    return ATTEND_OK;
}

static attend_status parse_json(const char *text, int64_t length, attend_safetensors *file)
{
    const char *end = NULL;
    const char *path = file->input.path;
    if (length == 0 || text[0] != '{')
        return attend_file_fail(ATTEND_BAD_FILE, "%s: its header is not a JSON object", path);
    if (memchr(text, 0, (size_t)length) || strstr(text, "\\u0000"))
        return attend_file_fail(ATTEND_BAD_FILE, "%s has a NUL in its header", path);
    ATTEND_TRY(attend_json_parse(path, ": its header", text, (size_t)length, &end, &file->header));
    for (; end < text + length; end++)
        if (!strchr(" \t\r\n", *end))
            return attend_file_fail(ATTEND_BAD_FILE, "%s: its header goes on after the JSON object", path);
    return ATTEND_OK;
}

attend_status attend_safetensors_parse(const char *text, int64_t length, attend_safetensors *file)
{
    ATTEND_TRY(parse_json(text, length, file));
    int items = cJSON_GetArraySize(file->header);
    bool metadata = false;
    file->entries = calloc((size_t)items + 1, sizeof *file->entries);
    if (!file->entries)
        return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its header", file->input.path);
    for (const cJSON *item = file->header->child; item; item = item->next) {
        if (strcmp(item->string, "__metadata__") != 0) {
            ATTEND_TRY(take_entry(file, item, &file->entries[file->count++]));
            continue;
        }
        if (metadata) return attend_file_fail(ATTEND_BAD_FILE, "%s has __metadata__ twice", file->input.path);
        metadata = true;
        ATTEND_TRY(check_metadata(file, item));
    }
    ATTEND_TRY(check_names(file));
    ATTEND_TRY(check_places(file));
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_name); /* for lookup by name */
    return ATTEND_OK;
}
