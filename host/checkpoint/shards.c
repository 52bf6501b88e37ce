/* Opens checkpoints of one file or many. An index is untrusted: its files must be plain names in its own
   folder, and a shard must have exactly the tensors that the index lists for it. */
#include "checkpoint/shards.h"
#include "file/fail.h"
#include "file/json.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SHARDS = 1 << 16 };

static attend_status no_memory(const char *path)
{
    return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its names", path);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const attend_shard_tensor *)a)->name, ((const attend_shard_tensor *)b)->name);
}

static int64_t lower_bound(const attend_shards *s, const char *name)
{
    int64_t from = 0, to = s->count;
    while (from < to) {
        int64_t middle = from + (to - from) / 2;
        if (strcmp(s->tensors[middle].name, name) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

int64_t attend_shards_first(const attend_shards *s, const char *prefix) { return lower_bound(s, prefix); }

static const attend_shard_tensor *find(const attend_shards *s, const char *name)
{
    int64_t at = lower_bound(s, name);
    return at < s->count && !strcmp(s->tensors[at].name, name) ? &s->tensors[at] : NULL;
}

bool attend_shards_have(const attend_shards *s, const char *name) { return find(s, name) != NULL; }

/* Whether the name is of a file in the index's own folder. Links there are followed, since download caches
   use them. */
static bool plain_name(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

/* A tensor and its file, from the index. */
typedef struct tensor_file {
    const char *file;
    int64_t tensor;
} tensor_file;

static int by_file(const void *a, const void *b)
{
    return strcmp(((const tensor_file *)a)->file, ((const tensor_file *)b)->file);
}

/* Numbers the shards and sets each tensor's shard. `files` is sorted by file. */
static attend_status number_shards(attend_shards *s, const tensor_file *files)
{
    int64_t count = 0;
    for (int64_t i = 0; i < s->count; i++) count += i == 0 || by_file(&files[i - 1], &files[i]) != 0;
    if (count > MAX_SHARDS)
        return attend_file_fail(ATTEND_BAD_FILE, "%s names %" PRId64 " files, the limit is %d", s->path,
                                count, MAX_SHARDS);
    s->shards = calloc((size_t)count + 1, sizeof *s->shards);
    if (!s->shards) return no_memory(s->path);
    for (int64_t i = 0; i < s->count; i++) {
        const char *file = files[i].file;
        if (!plain_name(file))
            return attend_file_fail(
                ATTEND_BAD_FILE,
                "%s names a file \"%.80s\", which is not a plain name in the index's own folder", s->path,
                file);
        if (i == 0 || by_file(&files[i - 1], &files[i]) != 0) s->shards[s->shard_count++].name = file;
        s->tensors[files[i].tensor].shard = s->shard_count - 1;
    }
    return ATTEND_OK;
}

/* Tensors and their files, in the order of the index. */
static attend_status read_map(attend_shards *s, const cJSON *map, tensor_file *files)
{
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return attend_file_fail(ATTEND_BAD_FILE, "%s: the file of tensor \"%s\" is not a string", s->path,
                                    item->string);
        s->tensors[s->count].name = item->string;
        files[s->count] = (tensor_file){item->valuestring, s->count};
        s->count++;
    }
    qsort(files, (size_t)s->count, sizeof *files, by_file);
    return number_shards(s, files);
}

static attend_status read_index(attend_shards *s)
{
    ATTEND_TRY(attend_json_read(s->path, &s->index));
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(s->index, "weight_map");
    for (const cJSON *other = map ? map->next : NULL; other; other = other->next)
        if (!strcmp(other->string, map->string))
            return attend_file_fail(ATTEND_BAD_FILE, "%s has the key \"%s\" twice", s->path, map->string);
    if (!cJSON_IsObject(map))
        return attend_file_fail(ATTEND_BAD_FILE, "%s has no weight_map, which names the file of each tensor",
                                s->path);
    const size_t room = (size_t)cJSON_GetArraySize(map) + 1;
    tensor_file *files = calloc(room, sizeof *files);
    s->tensors = calloc(room, sizeof *s->tensors);
    attend_status status = files && s->tensors ? read_map(s, map, files) : no_memory(s->path);
    free(files);
    ATTEND_TRY(status);
    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_name);
    for (int64_t i = 1; i < s->count; i++)
        if (!strcmp(s->tensors[i - 1].name, s->tensors[i].name))
            return attend_file_fail(ATTEND_BAD_FILE, "%s names tensor \"%s\" twice", s->path,
                                    s->tensors[i].name);
    return ATTEND_OK;
}

/* Checks that the shard has exactly the tensors that the index lists. */
static attend_status check_shard(const attend_shards *s, int64_t shard)
{
    const attend_safetensors *file = &s->shards[shard].file;
    for (int64_t i = 0; i < file->count; i++) {
        const attend_shard_tensor *tensor = find(s, file->entries[i].name);
        if (!tensor || tensor->shard != shard)
            return attend_file_fail(ATTEND_BAD_FILE, "%s has tensor \"%s\", which %s %s", file->input.path,
                                    file->entries[i].name, s->path,
                                    tensor ? "lists in another file" : "does not list");
    }
    for (int64_t i = 0; i < s->count; i++)
        if (s->tensors[i].shard == shard && !attend_safetensors_find(file, s->tensors[i].name))
            return attend_file_fail(ATTEND_BAD_FILE, "%s lacks tensor \"%s\", which %s lists there",
                                    file->input.path, s->tensors[i].name, s->path);
    return ATTEND_OK;
}

static attend_status open_shard(attend_shards *s, int64_t index)
{
    attend_shard *shard = &s->shards[index];
    char *path;
    if (shard->open) return ATTEND_OK;
    if (asprintf(&path, "%s/%s", s->folder, shard->name) < 0) return no_memory(s->path);
    attend_status status = attend_safetensors_open(path, &shard->file);
    free(path);
    ATTEND_TRY(status);
    shard->open = true;
    status = check_shard(s, index);
    if (status != ATTEND_OK) attend_safetensors_close(&shard->file), shard->open = false;
    return status;
}

attend_status attend_shards_find(attend_shards *s, const char *name, const attend_safetensors **file,
                                 const attend_safetensors_entry **entry)
{
    const attend_shard_tensor *tensor = find(s, name);
    if (!tensor) return attend_file_fail(ATTEND_BAD_FILE, "%s has no tensor \"%s\"", s->path, name);
    ATTEND_TRY(open_shard(s, tensor->shard));
    *file = &s->shards[tensor->shard].file;
    *entry = attend_safetensors_find(*file, name);
    return ATTEND_OK;
}

static attend_status read_single(attend_shards *s)
{
    int64_t shard;
    const char *slash = strrchr(s->path, '/');
    s->shards = calloc(1, sizeof *s->shards);
    if (!s->shards) return no_memory(s->path);
    attend_shard *only = s->shards;
    only->name = slash ? slash + 1 : s->path;
    s->shard_count = 1, shard = 0;
    ATTEND_TRY(attend_safetensors_open(s->path, &only->file));
    only->open = true;
    s->tensors = calloc((size_t)only->file.count + 1, sizeof *s->tensors);
    if (!s->tensors) return no_memory(s->path);
    for (; s->count < only->file.count; s->count++)
        s->tensors[s->count] = (attend_shard_tensor){only->file.entries[s->count].name, shard};
    return ATTEND_OK;
}

static bool exists(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* The file to read of a folder: model.safetensors, else its index, in the order of transformers. */
static attend_status choose_in_folder(const char *folder, char **path)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (int i = 0; i < 2; i++) {
        if (asprintf(path, "%s/%s", folder, names[i]) < 0) return *path = NULL, no_memory(folder);
        if (exists(*path)) return ATTEND_OK;
        free(*path), *path = NULL;
    }
    for (int i = 0; i < 2; i++) {
        char *pickle;
        if (asprintf(&pickle, "%s/%s", folder, pickles[i]) < 0) return no_memory(folder);
        bool there = exists(pickle);
        free(pickle);
        if (there)
            return attend_file_fail(ATTEND_BAD_FILE,
                                    "%s has %s, a pickle, which is not read; save the model as "
                                    ".safetensors (save_pretrained does)",
                                    folder, pickles[i]);
    }
    return attend_file_fail_input("%s has neither model.safetensors nor model.safetensors.index.json",
                                  folder);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && !strcmp(text + length - end_length, end);
}

static attend_status open_all(const char *path, attend_shards *s)
{
    if (is_folder(path))
        ATTEND_TRY(choose_in_folder(path, &s->path));
    else
        s->path = strdup(path);
    if (!s->path) return no_memory(path);
    const char *slash = strrchr(s->path, '/');
    s->folder = slash == s->path ? strdup("/")
                : slash          ? strndup(s->path, (size_t)(slash - s->path))
                                 : strdup(".");
    if (!s->folder) return no_memory(path);
    if (ends_with(s->path, ".bin.index.json"))
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s is an index of pickles, which are not read; save the model as "
                                ".safetensors (save_pretrained does)",
                                s->path);
    return ends_with(s->path, ".json") ? read_index(s) : read_single(s);
}

attend_status attend_shards_open(const char *path, attend_shards *s)
{
    memset(s, 0, sizeof *s);
    attend_status status = open_all(path, s);
    if (status != ATTEND_OK) attend_shards_close(s);
    return status;
}

void attend_shards_close(attend_shards *s)
{
    for (int64_t i = 0; i < s->shard_count; i++)
        if (s->shards[i].open) attend_safetensors_close(&s->shards[i].file);
    free(s->shards), free(s->tensors), free(s->path), free(s->folder);
    cJSON_Delete(s->index);
    memset(s, 0, sizeof *s);
}
