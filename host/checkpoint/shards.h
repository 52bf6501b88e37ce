/* The tensors of a checkpoint by their names, whether one .safetensors file holds them or many do, as an
   index (model.safetensors.index.json) says. A shard is opened, and held to the index, when a tensor of it is
   first asked for: who reads one layer needs the shards of that layer alone. */
#ifndef ATTEND_CHECKPOINT_SHARDS_H
#define ATTEND_CHECKPOINT_SHARDS_H

#include "file/safetensors.h"

typedef struct attend_shard {
    const char *name; /* of the file within the folder */
    bool open;
    attend_safetensors file;
} attend_shard;

typedef struct attend_shard_tensor {
    const char *name;
    int64_t shard;
} attend_shard_tensor;

typedef struct attend_shards {
    char *path, *folder; /* what is read, and where it lies */
    struct cJSON *index; /* owns the names of many shards */
    attend_shard *shards;
    int64_t shard_count;
    attend_shard_tensor *tensors; /* sorted by name */
    int64_t count;
} attend_shards;

/* `path` is a .safetensors file, an index of some, or a folder with one of them. The caller closes; on
 * failure all is cleared. */
attend_status attend_shards_open(const char *path, attend_shards *shards);
/* Fine on cleared ones. */
void attend_shards_close(attend_shards *shards);

bool attend_shards_have(const attend_shards *shards, const char *name);
/* The file and entry of a tensor that is there. Fails where its shard is missing, broken, or not what the
 * index says. */
attend_status attend_shards_find(attend_shards *shards, const char *name, const attend_safetensors **file,
                                 const attend_safetensors_entry **entry);
/* Index of the first tensor whose name begins with `prefix`, or is behind all such. */
int64_t attend_shards_first(const attend_shards *shards, const char *prefix);

#endif
