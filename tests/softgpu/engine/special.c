/* The special registers' names. */
#include "engine/ptx.h"

#include <string.h>

static const char *const names[SPECIALS] = {
    "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
    "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid",
    "%gridid", "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt",
    "%clusterid.x", "%clusterid.y", "%clusterid.z", "%nclusterid.x", "%nclusterid.y", "%nclusterid.z",
    "%cluster_ctaid.x", "%cluster_ctaid.y", "%cluster_ctaid.z", "%cluster_nctaid.x", "%cluster_nctaid.y",
    "%cluster_nctaid.z", "%cluster_ctarank", "%cluster_nctarank", "%dynamic_smem_size", "%total_smem_size", "%envreg1", "%envreg2",
    "%reserved_smem_offset_begin", "%reserved_smem_offset_end", "%reserved_smem_offset_cap", "%reserved_smem_offset_0", "%reserved_smem_offset_1",
    "%clock", "%clock_hi", "%clock64", "%globaltimer",
};

int ptx_special_find(const char *name)
{
    for (int i = 0; i < SPECIALS; i++)
        if (!strcmp(name, names[i])) return i;
    return -1;
}

int ptx_special_bits(int which) { return which == SPECIAL_CLOCK64 || which == SPECIAL_GLOBALTIMER || which == SPECIAL_GRIDID ? 64 : 32; }
