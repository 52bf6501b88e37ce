/* Copies that the asynchronous engine makes: into shared memory, an mbarrier counting their bytes, or out of it, in groups that the issuing
   thread waits for. Their bytes move as late as the program allows: when somebody waits for them. */
#ifndef SOFTGPU_ENGINE_BULK_H
#define SOFTGPU_ENGINE_BULK_H

#include "engine/warp.h"

typedef struct bulk_piece {
    const char *from; /* NULL: zeros */
    char *to;
    int64_t bytes;
    uint64_t address; /* in global memory, of a copy that goes there */
} bulk_piece;

struct bulk_copy {
    block *issuer;
    const insn *insn;
    uint8_t warp, lane;
    ptx_type type;              /* of its elements, where they are reduced */
    bool to_global, is_read;    /* is_read: the source is free again */
    bool has_source;            /* of the issuer's shared memory: at `source` */
    uint32_t target, source;    /* offsets in shared memory */
    int64_t bytes;              /* of shared memory, and what the barrier is told */
    uint32_t barrier;           /* into shared memory: of the block that keeps the copy */
    int32_t group;              /* out of it: the issuing thread's */
    uint64_t id;
    bulk_piece *pieces;
    int piece_count, piece_capacity;
    char *snapshot;             /* what was read of the source */
};

/* A copy that a lane begins; pieces are added, then it is sent off. */
bulk_copy bulk_begin(warp *w, const insn *i, int lane);
void bulk_piece_add(bulk_copy *c, bulk_piece piece);
void bulk_drop(bulk_copy *c);

/* The bytes of a span on the host: checked and counted, unknown to the race detector. NULL: there was a finding. */
char *bulk_host(warp *w, const insn *i, int lane, ptx_space space, uint64_t address, int64_t bytes, access_kind kind);
/* The same for a span of the issuer's shared memory, or of another block's of the cluster, with its owner and offset. */
char *bulk_shared(warp *w, const insn *i, int lane, ptx_space space, uint64_t address, int64_t bytes, access_kind kind, block **owner,
                  uint32_t *offset);
/* A lane's access as the race detector sees it. */
race_access bulk_access(const bulk_copy *c, uint64_t addresses[LANES], uint64_t address, int64_t bytes, race_kind kind);

/* Sends a copy into `owner`'s shared memory, c->target and c->barrier set; false after a finding. */
bool bulk_send_to_shared(bulk_copy *c, block *owner);
/* Sends a copy from c->source of the issuer's shared memory to global memory, in its lane's present group. */
void bulk_send_to_global(bulk_copy *c);

#endif
