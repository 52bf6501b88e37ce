/* Opens checkpoints and finds layers in them. */
#include "checkpoint/work.h"
#include "file/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *attend_checkpoint_error_message(void) { return attend_file_message(); }

/* The row of the config's model_type; NULL: there is none, or it has submodels. */
static const attend_architecture *row_of(const attend_checkpoint *c)
{
    const cJSON *type = c->config ? cJSON_GetObjectItemCaseSensitive(c->config, "model_type") : NULL;
    return cJSON_IsString(type) ? attend_architecture_of(type->valuestring) : NULL;
}

static attend_status open_all(const char *path, attend_checkpoint *c)
{
    ATTEND_TRY(attend_shards_open(path, &c->shards));
    if (asprintf(&c->config_path, "%s/config.json", c->shards.folder) < 0) {
        c->config_path = NULL;
        return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a file's name");
    }
    if (!access(c->config_path, F_OK) || errno != ENOENT) {
        ATTEND_TRY(attend_json_read(c->config_path, &c->config));
        ATTEND_TRY(attend_check_keys_once(c->config_path, c->config));
    }
    return attend_names_find(&c->shards, row_of(c), &c->found);
}

attend_status attend_checkpoint_open(const char *path, attend_checkpoint **checkpoint)
{
    *checkpoint = NULL;
    attend_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a checkpoint");
    attend_status status = open_all(path, c);
    if (status == ATTEND_OK)
        *checkpoint = c;
    else
        attend_checkpoint_close(c);
    return status;
}

void attend_checkpoint_close(attend_checkpoint *c)
{
    if (!c) return;
    attend_names_free(&c->found);
    attend_shards_close(&c->shards);
    cJSON_Delete(c->config);
    free(c->config_path);
    free(c);
}

bool attend_checkpoint_layer_name(const attend_checkpoint *c, int64_t index, attend_checkpoint_name *name)
{
    if (index < 0 || index >= c->found.listed) return false;
    *name = attend_found_layer_name(&c->found.layers[index]);
    return true;
}

const char *attend_checkpoint_layout(int index)
{
    for (int i = 0; attend_naming_at(i); i++) {
        bool seen = false;
        for (int j = 0; j < i; j++) seen |= !strcmp(attend_naming_at(j)->layout, attend_naming_at(i)->layout);
        if (!seen && index-- == 0) return attend_naming_at(i)->layout;
    }
    return NULL;
}

static bool fits(const attend_checkpoint *c, const attend_checkpoint_query *q,
                 const attend_found_layer *found)
{
    char name[1024];
    const attend_architecture *row = row_of(c);
    snprintf(name, sizeof name, "%s%s", found->prefix,
             found->naming->fused ? found->naming->fused : found->naming->q);
    if (q->name_prefix && strncmp(name, q->name_prefix, strlen(q->name_prefix)) != 0) return false;
    if (row && row->without && strstr(found->prefix, row->without)) return false;
    return q->layout ? !strcmp(found->naming->layout, q->layout) : !found->hidden;
}

static attend_status nothing_found(const attend_checkpoint *c, const attend_checkpoint_query *q)
{
    const char *path = c->shards.path;
    for (int64_t i = 0; i < c->found.count && q->layout; i++)
        if (strcmp(c->found.layers[i].naming->layout, q->layout) != 0)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "%s has no layer of the given layout; its names are those of %s", path,
                                    c->found.layers[i].naming->title);
    if (q->name_prefix)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has no attention layer under names that begin with \"%s\"", path,
                                q->name_prefix);
    return attend_file_fail(ATTEND_BAD_FILE,
                            "%s has no attention layer with names that attend knows (docs/checkpoints.md "
                            "lists them); its %" PRId64 " tensors begin with \"%s\"",
                            path, c->shards.count, c->shards.count ? c->shards.tensors[0].name : "");
}

attend_status attend_checkpoint_find(const attend_checkpoint *c, const attend_checkpoint_query *query,
                                     int64_t *index)
{
    int64_t number = query->number, last = -1, matches = 0, second = 0;
    int64_t first = -1;
    for (int64_t i = 0; i < c->found.count; i++) {
        if (!fits(c, query, &c->found.layers[i])) continue;
        if (first < 0)
            first =
                c->found.layers[i].number; /* sorted by number; all layers of a layout are hidden, or none */
        last = c->found.layers[i].number;
        if (last != (number < 0 ? first : number)) continue;
        if (matches++ == 0)
            *index = i;
        else
            second = i;
    }
    if (last < 0) return nothing_found(c, query);
    if (number < 0) number = first;
    if (matches == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has no layer %" PRId64 "; it has layers %" PRId64 " to %" PRId64,
                                c->shards.path, number, first, last);
    if (matches > 1)
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "%s has layer %" PRId64 " more than once: \"%s\" and \"%s\"; give --name-prefix", c->shards.path,
            number, c->found.layers[*index].prefix, c->found.layers[second].prefix);
    return ATTEND_OK;
}
