/* Reads and writes .npy. The header is a Python dict; only literals in the form that numpy writes are
   accepted. */
#include "file/npy.h"
#include "file/fail.h"
#include "file/input.h"
#include "shared/dtype.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 65536, PREFIX_BYTES = 12 };
static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

typedef struct parser {
    const char *path, *at; /* a NUL follows the text */
    attend_array *array;
    bool have_descr, have_order, have_shape;
} parser;

static attend_status bad_header(const parser *p)
{
    return attend_file_fail(ATTEND_BAD_FILE,
                            "%s: the .npy header is not the dict that numpy writes, at \"%.20s\"", p->path,
                            p->at);
}

static void skip_spaces(parser *p)
{
    while (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r') p->at++;
}

static bool take(parser *p, const char *token)
{
    skip_spaces(p);
    if (strncmp(p->at, token, strlen(token)) != 0) return false;
    p->at += strlen(token);
    return true;
}

/* Parses a quoted string without escapes. */
static attend_status take_string(parser *p, char *text, size_t size)
{
    skip_spaces(p);
    char quote = *p->at;
    if (quote != '\'' && quote != '"') return bad_header(p);
    const char *end = strchr(p->at + 1, quote);
    if (!end || (size_t)(end - p->at) > size || memchr(p->at, '\\', (size_t)(end - p->at)))
        return bad_header(p);
    snprintf(text, size, "%.*s", (int)(end - p->at - 1), p->at + 1);
    p->at = end + 1;
    return ATTEND_OK;
}

static attend_status take_descr(parser *p)
{
    static const struct {
        const char *descr;
        attend_array_type type;
    } types[] = {{"<f4", ATTEND_ARRAY_F32}, {"<f2", ATTEND_ARRAY_F16}, {"<i4", ATTEND_ARRAY_I32},
                 {"<i8", ATTEND_ARRAY_I64}, {"|u1", ATTEND_ARRAY_U8},  {"|b1", ATTEND_ARRAY_U8}};
    char descr[32];
    if (take(p, "["))
        return attend_file_fail(ATTEND_BAD_FILE, "%s has a structured dtype; float32 and float16 are read",
                                p->path);
    ATTEND_TRY(take_string(p, descr, sizeof descr));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(descr, types[i].descr)) {
            p->array->type = types[i].type;
            return ATTEND_OK;
        }
    if (descr[0] == '>')
        return attend_file_fail(ATTEND_BAD_FILE, "%s is big-endian ('%s'); save it as little-endian", p->path,
                                descr);
    if (!strcmp(descr + (*descr != 0), "V2"))
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s has 2-byte voids ('%s'); numpy has no bfloat16: use .safetensors",
                                p->path, descr);
    return attend_file_fail(
        ATTEND_BAD_FILE, "%s has dtype '%s'; float32 ('<f4') and float16 ('<f2') are read", p->path, descr);
}

static attend_status take_order(parser *p)
{
    if (take(p, "False")) return ATTEND_OK;
    if (!take(p, "True")) return bad_header(p);
    return attend_file_fail(ATTEND_BAD_FILE, "%s is in Fortran order; save numpy.ascontiguousarray() of it",
                            p->path);
}

static attend_status take_extent(parser *p)
{
    attend_array *a = p->array;
    int64_t extent = 0;
    skip_spaces(p);
    if (*p->at < '0' || *p->at > '9') return bad_header(p);
    for (; *p->at >= '0' && *p->at <= '9'; p->at++)
        if (__builtin_mul_overflow(extent, 10, &extent) ||
            __builtin_add_overflow(extent, *p->at - '0', &extent))
            return attend_file_fail(ATTEND_BAD_FILE, "%s: shape[%d] does not fit in 63 bits", p->path,
                                    a->rank);
    if (a->rank == ATTEND_ARRAY_MAX_RANK)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has more than %d axes", p->path, ATTEND_ARRAY_MAX_RANK);
    a->shape[a->rank++] = extent;
    return ATTEND_OK;
}

static attend_status take_shape(parser *p)
{
    if (!take(p, "(")) return bad_header(p);
    while (!take(p, ")")) {
        ATTEND_TRY(take_extent(p));
        bool comma = take(p, ",");
        skip_spaces(p);
        /* in Python (3) is a number and (3,) a tuple */
        if (!comma && (*p->at != ')' || p->array->rank == 1)) return bad_header(p);
    }
    return ATTEND_OK;
}

static attend_status take_entry(parser *p)
{
    static const struct {
        const char *name;
        size_t seen;
        attend_status (*take)(parser *);
    } keys[] = {{"descr", offsetof(parser, have_descr), take_descr},
                {"fortran_order", offsetof(parser, have_order), take_order},
                {"shape", offsetof(parser, have_shape), take_shape}};
    char key[32];
    ATTEND_TRY(take_string(p, key, sizeof key));
    if (!take(p, ":")) return bad_header(p);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool *seen = (bool *)((char *)p + keys[i].seen);
        if (strcmp(key, keys[i].name) != 0) continue;
        if (*seen) return attend_file_fail(ATTEND_BAD_FILE, "%s: the header has '%s' twice", p->path, key);
        *seen = true;
        return keys[i].take(p);
    }
    return attend_file_fail(ATTEND_BAD_FILE, "%s: the header has an unknown key '%s'", p->path, key);
}

static attend_status parse_header(const char *path, const char *text, attend_array *array)
{
    parser p = {.path = path, .at = text, .array = array};
    if (!take(&p, "{")) return bad_header(&p);
    while (!take(&p, "}")) {
        ATTEND_TRY(take_entry(&p));
        skip_spaces(&p);
        if (!take(&p, ",") && *p.at != '}') return bad_header(&p);
    }
    skip_spaces(&p);
    if (*p.at) return bad_header(&p);
    if (p.have_descr && p.have_order && p.have_shape) return ATTEND_OK;
    return attend_file_fail(ATTEND_BAD_FILE, "%s: the header lacks '%s'", path,
                            !p.have_descr   ? "descr"
                            : !p.have_order ? "fortran_order"
                                            : "shape");
}

/* Checks magic, version and header length, and parses the header; *data is the offset of the data. */
static attend_status read_header(const attend_input *input, attend_array *array, int64_t *data)
{
    unsigned char prefix[PREFIX_BYTES] = {0};
    char text[MAX_HEADER + 1];
    if (input->size < PREFIX_BYTES)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has %" PRId64 " bytes, less than any .npy file",
                                input->path, input->size);
    ATTEND_TRY(attend_input_read(input, 0, prefix, PREFIX_BYTES));
    if (memcmp(prefix, magic, sizeof magic) != 0)
        return attend_file_fail(ATTEND_BAD_FILE, "%s is not a .npy file: it does not begin with \\x93NUMPY",
                                input->path);
    int major = prefix[6], minor = prefix[7];
    if (major < 1 || major > 3 || minor != 0)
        return attend_file_fail(ATTEND_BAD_FILE, "%s is .npy version %d.%d; 1.0, 2.0 and 3.0 are read",
                                input->path, major, minor);
    int64_t begin = major == 1 ? 10 : 12, length = prefix[8] | prefix[9] << 8;
    if (major > 1) length |= (int64_t)prefix[10] << 16 | (int64_t)prefix[11] << 24;
    if (length > MAX_HEADER || length > input->size - begin)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s has a header length of %" PRId64 "; %" PRId64
                                " bytes follow, and the limit is %d",
                                input->path, length, input->size - begin, MAX_HEADER);
    ATTEND_TRY(attend_input_read(input, begin, text, length));
    text[length] = 0;
    if (strlen(text) != (size_t)length)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has a NUL in its header", input->path);
    *data = begin + length;
    return parse_header(input->path, text, array);
}

static attend_status data_bytes(const attend_input *input, const attend_array *array, int64_t available,
                                int64_t *bytes)
{
    bool overflow = false, empty = false;
    *bytes = (int64_t)attend_array_type_bytes(array->type);
    for (int axis = 0; axis < array->rank; axis++) empty |= array->shape[axis] == 0;
    for (int axis = 0; axis < array->rank && !empty; axis++)
        overflow |= __builtin_mul_overflow(*bytes, array->shape[axis], bytes);
    if (empty) *bytes = 0;
    if (overflow)
        return attend_file_fail(ATTEND_BAD_FILE, "%s: its shape has more bytes than 63 bits can count",
                                input->path);
    if (available < *bytes)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s is truncated: its shape needs %" PRId64 " bytes of data, it has %" PRId64,
                                input->path, *bytes, available);
    if (available > *bytes)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s has %" PRId64 " bytes more than the %" PRId64 " that its shape needs",
                                input->path, available - *bytes, *bytes);
    return ATTEND_OK;
}

static attend_status read_array(const attend_input *input, bool mapped, attend_array *array)
{
    int64_t begin, bytes;
    ATTEND_TRY(read_header(input, array, &begin));
    ATTEND_TRY(data_bytes(input, array, input->size - begin, &bytes));
    return attend_input_take(input, begin, bytes, mapped, array);
}

static attend_status open_array(const char *path, bool mapped, attend_array *array)
{
    attend_input input;
    memset(array, 0, sizeof *array);
    ATTEND_TRY(attend_input_open(path, &input));
    attend_status status = read_array(&input, mapped, array);
    attend_input_close(&input);
    if (status != ATTEND_OK) attend_array_free(array);
    return status;
}

attend_status attend_npy_read(const char *path, attend_array *array)
{
    return open_array(path, false, array);
}
attend_status attend_npy_map(const char *path, attend_array *array) { return open_array(path, true, array); }

attend_status attend_npy_write(attend_output *output, attend_dtype dtype, int rank, const int64_t *shape,
                               const void *data)
{
    char header[512] = {0};
    int length = snprintf(header + 10, sizeof header - 10,
                          "{'descr': '%s', 'fortran_order': False, 'shape': (", attend_dtypes[dtype].npy);
    int64_t elements = 1;
    for (int axis = 0; axis < rank; axis++) {
        length +=
            snprintf(header + 10 + length, sizeof header - 10 - (size_t)length, "%" PRId64 "%s", shape[axis],
                     axis + 1 < rank ? ", "
                     : rank == 1     ? ","
                                     : "");
        elements *= shape[axis];
    }
    length += snprintf(header + 10 + length, sizeof header - 10 - (size_t)length, "), }");
    int total = (10 + length + 1 + 63) / 64 * 64; /* the data is aligned to 64 bytes, as numpy does it */
    memset(header + 10 + length, ' ', (size_t)(total - 10 - length));
    header[total - 1] = '\n';
    memcpy(header, magic, sizeof magic);
    header[6] = 1;
    header[8] = (char)((total - 10) & 0xff), header[9] = (char)((total - 10) >> 8);
    ATTEND_TRY(attend_output_write(output, header, total));
    return data ? attend_output_write(output, data, elements * (int64_t)attend_dtype_bytes(dtype))
                : ATTEND_OK;
}
