/* The blocking of a plan, from the size of the cache and the number of threads. It changes no bit of any
   result. Blocks have a fixed number of keys: their weights, [128][rows of a panel], take 12 to 24 KB of L1
   in every build. */
#include "cpu/cpu.h"

#include <unistd.h>

static int64_t cache_bytes(int name, int64_t usual)
{
    long bytes = sysconf(name);
    return bytes > 0 ? bytes : usual;
}

static int64_t clamp(int64_t n, int64_t low, int64_t high) { return n < low ? low : n > high ? high : n; }

attend_cpu_blocking attend_cpu_blocking_for(const attend_cpu_kernel *kernel, const attend_problem *p,
                                            int threads)
{
    int64_t l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10), width = kernel->lanes * kernel->vectors,
            float_bytes = (int64_t)sizeof(float);
    attend_cpu_blocking b = {ATTEND_CPU_BLOCK, 1};
    while (b.keys > 16 && b.keys / 2 >= p->seqlen_k) b.keys /= 2;
    /* one block of K and V and the state of all panels fit in three quarters of L2 */
    int64_t block_bytes = b.keys * (p->head_dim + p->head_dim_v) * float_bytes;
    int64_t panel_bytes = (p->head_dim + 2 * p->head_dim_v) * width * float_bytes;
    b.panels = clamp((l2 / 4 * 3 - block_bytes) / panel_bytes, 1, ATTEND_CPU_MAX_PANELS);
    /* at least 8 tasks a thread, so that threads do not wait long for the last ones */
    int64_t heads = p->batch * p->num_kv_heads, rows = p->num_heads / p->num_kv_heads * p->seqlen_q;
    int64_t panels = heads * ((rows + width - 1) / width);
    return b.panels = clamp(panels / (8 * threads), 1, b.panels), b;
}
