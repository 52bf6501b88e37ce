/* DLPack's tensors (github.com/dmlc/dlpack, 0.6 and later) as attend's and back, without a copy: what
 * PyTorch, JAX, CuPy and others hand over. Nothing of this is compiled into the library.
 *
 *     #include <dlpack/dlpack.h> // or another header with DLPack's own guard, as ATen/dlpack.h
 *     #include <attend/dlpack.h>
 *
 *     char why[ATTEND_DLPACK_BYTES];
 *     attend_attention_args args = {0};
 *     if (attend_tensor_from_dlpack(&managed->dl_tensor, "q", ATTEND_CUDA, 0, &args.q, why))
 *         fprintf(stderr, "%s\n", why);
 *
 * Views only: memory belongs to whom it belonged, and a managed tensor's deleter is called by the caller,
 * once the run is done with it. */
#ifndef ATTEND_DLPACK_H
#define ATTEND_DLPACK_H

#ifndef DLPACK_DLPACK_H_
#include <dlpack/dlpack.h>
#endif
#include <attend/context.h>
#include <attend/tensor.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room for the sentence of a refusal. */
#define ATTEND_DLPACK_BYTES 160

/* DLPack's numbers of dtypes and devices, some of which its older headers have no names for. */
enum {
    ATTEND_DLPACK_INT = 0,
    ATTEND_DLPACK_UINT = 1,
    ATTEND_DLPACK_FLOAT = 2,
    ATTEND_DLPACK_BFLOAT = 4,
    ATTEND_DLPACK_BOOL = 6,
    ATTEND_DLPACK_CPU = 1,
    ATTEND_DLPACK_CUDA = 2,
    ATTEND_DLPACK_CUDA_HOST = 3,
    ATTEND_DLPACK_CUDA_MANAGED = 13
};

/* One dtype in both tables. Booleans are masks, which are bytes: they become ATTEND_U8. */
static inline bool attend_dlpack_dtype(DLDataType from, attend_dtype *to)
{
    const int code = (int)from.code, bits = (int)from.bits;
    if (code == ATTEND_DLPACK_FLOAT && bits == 32) return *to = ATTEND_F32, true;
    if (code == ATTEND_DLPACK_FLOAT && bits == 16) return *to = ATTEND_F16, true;
    if (code == ATTEND_DLPACK_BFLOAT && bits == 16) return *to = ATTEND_BF16, true;
    if ((code == ATTEND_DLPACK_UINT || code == ATTEND_DLPACK_BOOL) && bits == 8) return *to = ATTEND_U8, true;
    if (code == ATTEND_DLPACK_INT && bits == 32) return *to = ATTEND_I32, true;
    if (code == ATTEND_DLPACK_INT && bits == 64) return *to = ATTEND_I64, true;
    return false;
}

/* Whether memory of a DLPack device serves a context there. */
static inline bool attend_dlpack_lies(DLDevice at, attend_device device, int device_index)
{
    const int type = (int)at.device_type;
    const bool host = type == ATTEND_DLPACK_CPU || type == ATTEND_DLPACK_CUDA_HOST;
    const bool managed = type == ATTEND_DLPACK_CUDA_MANAGED;
    const bool cuda = type == ATTEND_DLPACK_CUDA && at.device_id == device_index;
    return device == ATTEND_CUDA   ? cuda || managed
           : device == ATTEND_AUTO ? host || managed || cuda
                                   : host || managed;
}

/* *to is the memory of *from. `name` is what sentences call it. It must lie on the host for ATTEND_CPU and
 * ATTEND_REFERENCE, on CUDA device `device_index` for ATTEND_CUDA, on either for ATTEND_AUTO, which is what a
 * plan on CUDA with host_tensors takes; managed memory lies everywhere. Strides that are
 * NULL are those of rows without gaps.
 * Errors, *to stays as it was and `why`, of ATTEND_DLPACK_BYTES, or NULL, gets a sentence: UNSUPPORTED for a
 * dtype, rank or device that attend has not; INVALID_ARGUMENT for NULL where something must be, negative
 * sizes and strides, sizes that 63 bits cannot hold, and elements that are not aligned to their size. */
static inline attend_status attend_tensor_from_dlpack(const DLTensor *from, const char *name,
                                                      attend_device device, int device_index,
                                                      attend_tensor *to, char *why)
{
    attend_tensor t = {NULL, ATTEND_F32, 0, {0, 0, 0, 0}, {0, 0, 0, 0}};
    char none[ATTEND_DLPACK_BYTES];
    const size_t room = ATTEND_DLPACK_BYTES;
    if (!why) why = none;
    if (!from || !to) return snprintf(why, room, "%s is NULL", from ? "to" : name), ATTEND_INVALID_ARGUMENT;
    if (from->dtype.lanes != 1)
        return snprintf(why, room, "%s has %d lanes, attend takes 1", name, (int)from->dtype.lanes),
               ATTEND_UNSUPPORTED;
    if (!attend_dlpack_dtype(from->dtype, &t.dtype))
        return snprintf(why, room, "%s has DLPack's dtype code %d with %d bits, which attend does not have",
                        name, (int)from->dtype.code, (int)from->dtype.bits),
               ATTEND_UNSUPPORTED;
    if (!attend_dlpack_lies(from->device, device, device_index))
        return snprintf(why, room, "%s lies on DLPack's device type %d, id %d, not %s", name,
                        (int)from->device.device_type, (int)from->device.device_id,
                        device == ATTEND_CUDA   ? "on the CUDA device asked for"
                        : device == ATTEND_AUTO ? "on the host or the CUDA device asked for"
                                                : "on the host"),
               ATTEND_UNSUPPORTED;
    if (from->ndim < 1 || from->ndim > ATTEND_MAX_RANK)
        return snprintf(why, room, "%s has rank %d, attend takes 1 to %d", name, (int)from->ndim,
                        ATTEND_MAX_RANK),
               ATTEND_UNSUPPORTED;
    if (!from->shape) return snprintf(why, room, "%s has no shape", name), ATTEND_INVALID_ARGUMENT;

    const int64_t bytes = from->dtype.bits / 8;
    int64_t inside = 1, last = 0;
    bool empty = false, countable = true;
    t.rank = (int)from->ndim;
    for (int axis = 0; axis < t.rank; axis++) empty = empty || from->shape[axis] == 0;
    for (int axis = t.rank - 1; axis >= 0; axis--) {
        const int64_t n = from->shape[axis], stride = from->strides ? from->strides[axis] : inside;
        if (n < 0)
            return snprintf(why, room, "%s has a shape[%d] of %" PRId64, name, axis, n),
                   ATTEND_INVALID_ARGUMENT;
        if (stride < 0 && n > 1 && !empty)
            return snprintf(why, room, "%s has a stride[%d] of %" PRId64 ", attend takes 0 and more", name,
                            axis, stride),
                   ATTEND_INVALID_ARGUMENT;
        t.shape[axis] = n, t.stride[axis] = empty || n == 1 ? inside : stride;
        if (empty || n <= 1) continue;
        countable = countable && t.stride[axis] <= (INT64_MAX / bytes - 1 - last) / (n - 1);
        if (countable) last += t.stride[axis] * (n - 1);
        inside = inside > INT64_MAX / n ? INT64_MAX : inside * n;
    }
    const uint64_t begin = (uint64_t)(uintptr_t)from->data + from->byte_offset;
    if (!countable || (!empty && (begin < from->byte_offset ||
                                  begin > UINT64_MAX - ((uint64_t)last + 1) * (uint64_t)bytes)))
        return snprintf(why, room, "%s is larger than addresses count", name), ATTEND_INVALID_ARGUMENT;
    if (!from->data && !empty) return snprintf(why, room, "%s has no data", name), ATTEND_INVALID_ARGUMENT;
    if (from->data && begin % (uint64_t)bytes)
        return snprintf(why, room, "%s lies at an address that is no multiple of its %d bytes an element",
                        name, (int)bytes),
               ATTEND_INVALID_ARGUMENT;
    t.data = from->data ? (void *)(uintptr_t)begin : NULL;
    *to = t;
    return ATTEND_OK;
}

/* *to is the memory of *from, on this device. Its shape and strides are those of *from itself, which must
 * live as long; nobody owns it, and byte_offset is 0. Errors: INVALID_ARGUMENT for NULL, absent tensors,
 * dtypes and ranks that no tensor has. */
static inline attend_status attend_tensor_to_dlpack(attend_tensor *from, DLDevice device, DLTensor *to)
{
    static const uint8_t codes[] = {ATTEND_DLPACK_FLOAT, ATTEND_DLPACK_FLOAT, ATTEND_DLPACK_BFLOAT,
                                    ATTEND_DLPACK_UINT,  ATTEND_DLPACK_INT,   ATTEND_DLPACK_INT};
    static const uint8_t bits[] = {32, 16, 16, 8, 32, 64};
    if (!from || !to || !from->data || (unsigned)from->dtype > ATTEND_I64 || from->rank < 1 ||
        from->rank > ATTEND_MAX_RANK)
        return ATTEND_INVALID_ARGUMENT;
    to->data = from->data;
    to->device = device;
    to->ndim = from->rank;
    to->dtype.code = codes[from->dtype], to->dtype.bits = bits[from->dtype], to->dtype.lanes = 1;
    to->shape = from->shape, to->strides = from->stride;
    to->byte_offset = 0;
    return ATTEND_OK;
}

#ifdef __cplusplus
}
#endif

#endif
