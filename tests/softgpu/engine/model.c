/* Rates by compute capability: results a clock and multiprocessor, from the CUDA C++ Programming Guide, "Throughput of Native Arithmetic
   Instructions"; tensor rates from the architecture papers' dense fp16 peak. Clocks and bandwidths: boost clock and L2 read rate.
   Hopper reaches its peak through wgmma alone, with mma.sync about 2/3 of it: note 1 of the FlashAttention-3 announcement
   (pytorch.org/blog/flashattention-3), after arXiv:2402.13499. No such figure is known here for Blackwell, whose peak is that of tcgen05. */
#include "engine/model.h"

#include <stddef.h>

typedef struct rates {
    int major, minor;
    double clock_hz;
    double tensor_flops;              /* a clock and multiprocessor, fp16 with fp32 accumulation */
    double fma, alu, half, fp64, mufu, convert, shuffle; /* lanes a clock and multiprocessor */
    double l2_bytes;                  /* a clock, whole device */
    double warp_share;                /* of tensor_flops that mma.sync and wmma reach */
} rates;

static const rates table[] = {
    {7, 0, 1.53e9, 1024, 64, 64, 128, 32, 16, 16, 32, 2048, 1},   {7, 5, 1.59e9, 1024, 64, 64, 128, 2, 16, 16, 32, 1280, 1},
    {8, 0, 1.41e9, 2048, 64, 64, 256, 32, 16, 16, 32, 5120, 1},   {8, 6, 1.70e9, 512, 128, 64, 128, 2, 16, 16, 32, 2560, 1},
    {8, 9, 2.52e9, 512, 128, 64, 128, 2, 16, 16, 32, 5120, 1},    {9, 0, 1.755e9, 4096, 128, 64, 256, 64, 16, 64, 32, 5632, 2.0 / 3},
    {10, 0, 1.85e9, 8192, 128, 64, 256, 64, 16, 64, 32, 10240, 1}, {12, 0, 2.41e9, 512, 128, 64, 128, 2, 16, 64, 32, 8192, 1},
};

const char *pipe_name(pipe p)
{
    static const char *const names[PIPES] = {"tensor", "FMA", "ALU", "half", "FP64", "MUFU", "convert", "shared", "global", "local", "async",
                                             "atomic", "shuffle", "barrier", "control"};
    return names[p];
}

static const rates *rates_of(const sg_properties *device)
{
    const rates *best = table;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].major * 10 + table[i].minor <= device->compute_major * 10 + device->compute_minor) best = &table[i];
    return best;
}

static double tensor_rate(const rates *r, const counted_insn *insn)
{
    return insn->warpgroup ? r->tensor_flops : r->warp_share * r->tensor_flops;
}

static void limit(model_bound *bound, double cycles, const char *by)
{
    if (cycles > bound->seconds) bound->seconds = cycles, bound->by = by;
}

model_bound model_time(const counted_kernel *kernel, const counts *totals)
{
    const rates *r = rates_of(&kernel->device);
    const double lanes[PIPES] = {[PIPE_FMA] = r->fma, [PIPE_ALU] = r->alu, [PIPE_HALF] = r->half, [PIPE_FP64] = r->fp64, [PIPE_MUFU] = r->mufu,
                                 [PIPE_CONVERT] = r->convert, [PIPE_SHUFFLE] = r->shuffle};
    double cycles[PIPES] = {0}, issued = 0, wavefronts = 0, sectors = 0;
    for (int i = 0; i < kernel->instructions; i++) {
        pipe p = kernel->insns[i].pipe;
        if (kernel->insns[i].copies) continue; /* of registers and constants: ptxas makes operands of them */
        issued += (double)totals[i].warps;
        wavefronts += (double)totals[i].wavefronts;
        sectors += (double)totals[i].sectors;
        if (p == PIPE_TENSOR) cycles[p] += (double)(totals[i].warps * kernel->insns[i].tensor_flops) / tensor_rate(r, &kernel->insns[i]);
        if (lanes[p] > 0) cycles[p] += (double)totals[i].warps * 32 / lanes[p];
    }
    /* No more multiprocessors work than there are blocks that have work. */
    int64_t per_launch = kernel->launches ? (kernel->busy_blocks + kernel->launches - 1) / kernel->launches : 0;
    double sms = per_launch < kernel->device.multiprocessors ? (double)(per_launch > 0 ? per_launch : 1) : kernel->device.multiprocessors;
    model_bound bound = {.by = "nothing"};
    for (pipe p = 0; p < PIPES; p++) limit(&bound, cycles[p] / sms, pipe_name(p));
    limit(&bound, issued / 4 / sms, "issue"); /* four schedulers */
    limit(&bound, wavefronts / sms, "shared memory");
    bound.multiprocessor_seconds = bound.seconds * sms / r->clock_hz;
    bound.l2_seconds = sectors * 32 / r->l2_bytes / r->clock_hz;
    limit(&bound, sectors * 32 / r->l2_bytes, "L2");
    bound.seconds /= r->clock_hz;
    return bound;
}
