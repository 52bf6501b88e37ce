// The order of summation, and the state that carries it. Keys are counted from the sequence's first; spans of
// attend_span_keys keys lie at multiples of their size. Within a span a row's sums begin at zero and add tile
// after tile; whole spans are merged in ascending order (softmax_row::merge). So a row's bits depend on its
// query and keys alone: not on which blocks took which spans, nor on whether its sums were stored in memory
// between two of them.
//
// A block that takes several spans keeps the total of those before in a slot of scratch memory, which stays
// in L2: each thread stores its own registers, next to its neighbours'. All launches on a context share its
// slots. A block acquires a slot at the end of its first span, or at once if the caller gives a state, and
// releases it at its own end.
#pragma once

#include "kernels.h"
#include "ptx.cuh"

namespace attend
{

// Acquires a free slot; called by one thread. The multiprocessor's own slots are tried first. Where all are
// taken it spins, which ends: blocks with a slot wait for no other block.
__device__ inline int acquire_slot(const attend_kernel_args &args)
{
    const uint32_t slots = static_cast<uint32_t>(args.slots.count);
    uint32_t slot = smid() * attend_slots_at_once % slots;
    while (atomicExch(args.slots.taken + slot, 1) != 0) slot = slot + 1 < slots ? slot + 1 : 0;
    __threadfence(); // the last owner's writes are visible
    return static_cast<int>(slot);
}

// Releases the slot; called by one thread, after all others are done with it.
__device__ inline void release_slot(const attend_kernel_args &args, int slot)
{
    __threadfence();
    atomicExch(args.slots.taken + slot, 0);
}

// This thread's part of a slot: every threads-th float4.
template <int threads> struct slot_part {
    float4 *own;

    __device__ slot_part(const attend_kernel_args &args, int slot, uint32_t thread = threadIdx.x)
        : own(reinterpret_cast<float4 *>(args.slots.memory + int64_t(slot) * attend_slot_bytes) + thread)
    {
    }
    __device__ float4 &operator[](int n) const { return own[n * threads]; }
};

} // namespace attend
