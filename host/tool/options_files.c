/* Finds files of a command line that are the same: by device and inode if they exist, else by folder and
   name. */
#include "tool/options_files.h"
#include "tool/options_table.h"
#include "file/fail.h"
#include "file/json.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool same_inode(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool stat_folder(const char *path, struct stat *about)
{
    char *copy = strdup(path);
    bool found = copy && !stat(dirname(copy), about);
    free(copy);
    return found;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Whether two paths name the same regular file; devices and pipes may be given twice. */
static bool are_one(const char *a, const char *b)
{
    struct stat of_a, of_b;
    bool there = !stat(a, &of_a);
    if (there != !stat(b, &of_b)) return false;
    if (there) return S_ISREG(of_a.st_mode) && same_inode(&of_a, &of_b);
    return !strcmp(name_of(a), name_of(b)) && stat_folder(a, &of_a) && stat_folder(b, &of_b) &&
           same_inode(&of_a, &of_b);
}

/* Whether `output` is one of the files that an index names, in the index's folder. */
static bool is_shard(const char *output, const char *index)
{
    const char *name = name_of(index);
    const cJSON *item;
    cJSON *json;
    bool one = false;
    if (attend_json_read(index, &json) != ATTEND_OK) return false; /* the loader reports the error */
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, "weight_map"))
    {
        char *shard;
        if (one || !cJSON_IsString(item)) continue;
        if (asprintf(&shard, "%.*s%s", (int)(name - index), index, item->valuestring) < 0) break;
        one = are_one(output, shard);
        free(shard);
    }
    cJSON_Delete(json);
    return one;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && !strcmp(text + length - end_length, end);
}

/* Whether `output` is a file of an input, which may be a file, a folder, an index of files, or
   FILE.safetensors:NAME. */
static bool is_input(const char *output, const char *input)
{
    static const char *const in_folders[] = {"model.safetensors", "model.safetensors.index.json"};
    static const char extension[] = ".safetensors";
    const char *colon = strstr(input, ".safetensors:");
    struct stat about;
    const bool folder = !stat(input, &about) && S_ISDIR(about.st_mode);
    bool one = false;
    for (int i = 0; i < (folder ? 2 : 1) && !one; i++) {
        char *file;
        if (folder ? asprintf(&file, "%s/%s", input, in_folders[i]) < 0
                   : !(file = colon ? strndup(input, (size_t)(colon - input) + sizeof extension - 1)
                                    : strdup(input)))
            break;
        one = are_one(output, file) || (ends_with(file, ".index.json") && is_shard(output, file));
        free(file);
    }
    return one;
}

static const char *value_of(const options *options, const option_row *row)
{
    return *(const char *const *)((const char *)options + row->offset);
}

attend_status files_check(const options *options, const bool *given)
{
    for (int i = 0; i < option_row_count; i++) {
        const option_row *output = &option_rows[i];
        if (!given[i] || !option_is_output(output)) continue;
        const char *path = value_of(options, output);
        for (int j = 0; j < option_row_count; j++) {
            const option_row *other = &option_rows[j];
            if (given[j] && option_is_input(other) && is_input(path, value_of(options, other)))
                return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s would overwrite %s, which %s reads",
                                        output->name, path, other->name);
            if (given[j] && j < i && option_is_output(other) && are_one(path, value_of(options, other)))
                return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s and %s are the same file", other->name,
                                        output->name);
        }
    }
    return ATTEND_OK;
}
