/* Writes .safetensors files of several tensors, which the library itself never does. */
#include "support/checkpoints.h"
#include "support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROOM = 1 << 20 };

static float value_of(const char *name, int i)
{
    uint32_t hash = 2166136261u + (uint32_t)i * 16777619u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
    hash = (hash ^ hash >> 15) * 0x2c1b3c6du;
    return (float)(hash >> 8) * 0x1p-24f - 0.5f;
}

void test_write_safetensors(const char *file, const char *tensors)
{
    char *bytes = calloc(1, ROOM), *header = bytes + 8, *list = strdup(tensors), *rest = NULL;
    float *data = malloc(ROOM);
    int count = 0, length = sprintf(header, "{");
    for (char *entry = strtok_r(list, ";", &rest); entry; entry = strtok_r(NULL, ";", &rest)) {
        int rows, columns = 0, begin = count;
        char *shape = strchr(entry, ' '), extents[32];
        assert_non_null(shape);
        *shape++ = 0;
        assert_true(sscanf(shape, "%dx%d", &rows, &columns) >= 1);
        const int elements = columns ? rows * columns : rows;
        for (int i = 0; i < elements; i++) data[count++] = value_of(entry, i);
        snprintf(extents, sizeof extents, columns ? "%d,%d" : "%d", rows, columns);
        length +=
            sprintf(header + length, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
                    length > 1 ? "," : "", entry, extents, 4 * begin, 4 * count);
    }
    length += sprintf(header + length, "}");
    const uint64_t promised = (uint64_t)length;
    memcpy(bytes, &promised, 8);
    assert_true(8 + length + 4 * count < ROOM);
    memcpy(header + length, data, (size_t)count * 4);
    test_write_file(test_path(file), bytes, (size_t)(8 + length + 4 * count));
    free(bytes), free(data), free(list);
}

void test_write_text(const char *name, const char *text)
{
    test_write_file(test_path(name), text, strlen(text));
}
