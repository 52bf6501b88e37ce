/* The tensors of a checkpoint by name: one .safetensors file, or shards with an index
   (model.safetensors.index.json). A shard is opened and checked against the index when its first tensor is
   needed, so that reading one layer needs only the shards of that layer. */
#ifndef ATTEND_CHECKPOINT_SHARDS_H
#define ATTEND_CHECKPOINT_SHARDS_H

#include "file/safetensors.h"

typedef struct attend_shard {
    const char *name; /* file name within the folder */
    bool open;
    attend_safetensors file;
} attend_shard;

typedef struct attend_shard_tensor {
    const char *name;
    int64_t shard;
} attend_shard_tensor;

typedef struct attend_shards {
    char *path, *folder; /* the file or index, and its folder */
    struct cJSON *index; /* owns the names; NULL: one file */
    attend_shard *shards;
    int64_t shard_count;
    attend_shard_tensor *tensors; /* sorted by name */
    int64_t count;
} attend_shards;

/* `path` is a .safetensors file, an index, or a folder with one of them. The caller closes *shards; on
   failure it is cleared. */
attend_status attend_shards_open(const char *path, attend_shards *shards);
/* May be called on cleared shards. */
void attend_shards_close(attend_shards *shards);

bool attend_shards_have(const attend_shards *shards, const char *name);
/* The file and entry of a tensor. Fails if its shard is missing, invalid, or contradicts the index. */
attend_status attend_shards_find(attend_shards *shards, const char *name, const attend_safetensors **file,
                                 const attend_safetensors_entry **entry);
/* Index of the first tensor whose name is not before `prefix` in the sorted list. */
int64_t attend_shards_first(const attend_shards *shards, const char *prefix);

#endif
