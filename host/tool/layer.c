/* Reads a layer with the checkpoint library as the options say. */
#include "tool/layer.h"
#include "file/fail.h"

#include <inttypes.h>
#include <string.h>

static attend_status from_checkpoint(attend_status status)
{
    if (status == ATTEND_IO_ERROR) return attend_file_fail_input("%s", attend_checkpoint_error_message());
    return status == ATTEND_OK ? ATTEND_OK
                               : attend_file_fail(status, "%s", attend_checkpoint_error_message());
}

/* The options of the command line for the checkpoint library; the checkpoint decides the rest. */
static attend_checkpoint_options overrides_of(const options *o)
{
    const feature_options *f = &o->features;
    const rope_options *t = &o->rope;
    const attend_causal bare = f->align_bottom_right ? ATTEND_CAUSAL_BOTTOM_RIGHT : ATTEND_CAUSAL_TOP_LEFT;
    const struct {
        bool given;
        int bit;
    } overrides[] = {
        {o->causal_choice != CAUSAL_NOT_GIVEN, ATTEND_OVERRIDE_CAUSAL},
        {o->scale != 0, ATTEND_OVERRIDE_SCALE},
        {f->softcap > 0, ATTEND_OVERRIDE_SOFTCAP},
        {f->windowed, ATTEND_OVERRIDE_WINDOW},
        {f->chunk > 0, ATTEND_OVERRIDE_CHUNK},
        {f->alibi_given, ATTEND_OVERRIDE_ALIBI},
        {f->relative_table != NULL, ATTEND_OVERRIDE_RELATIVE},
        {f->sinks != NULL, ATTEND_OVERRIDE_SINKS},
        {t->choice != ROTARY_AUTO, ATTEND_OVERRIDE_ROTARY},
        {t->dim > 0, ATTEND_OVERRIDE_ROTARY_DIM},
        {t->base != 0, ATTEND_OVERRIDE_ROTARY_BASE},
        {t->scaling_given, ATTEND_OVERRIDE_ROTARY_SCALING},
        {t->norm_given, ATTEND_OVERRIDE_QK_NORM},
        {t->norm_epsilon != 0, ATTEND_OVERRIDE_QK_NORM_EPSILON},
    };
    attend_checkpoint_options options = {.num_heads = o->heads, .num_kv_heads = o->kv_heads};
    for (size_t i = 0; i < sizeof overrides / sizeof *overrides; i++)
        if (overrides[i].given) options.overrides |= overrides[i].bit;
    options.problem = (attend_problem){.causal = o->causal_choice == CAUSAL_NAMED ? o->causal : bare,
                                       .softmax_scale = o->scale,
                                       .softcap = f->softcap,
                                       .windowed = f->windowed,
                                       .window_left = f->window_left,
                                       .window_right = f->window_right,
                                       .chunk = f->chunk,
                                       .alibi = f->alibi,
                                       .rotary = t->rotary,
                                       .rotary_dim = t->dim,
                                       .rotary_base = t->base,
                                       .rotary_scaling = t->scaling,
                                       .rotary_factor = t->factor,
                                       .rotary_original_seqlen = t->original_seqlen,
                                       .rotary_low = t->low,
                                       .rotary_high = t->high,
                                       .rotary_attention_factor = t->attention_factor,
                                       .rotary_untruncated = t->untruncated,
                                       .qk_norm = t->norm,
                                       .qk_norm_epsilon = t->norm_epsilon};
    return options;
}

/* Positions come from the command line only. Parameters of a rotary embedding are refused without one. */
static attend_status set_positions(const options *o, attend_problem *p)
{
    const rope_options *t = &o->rope;
    p->absolute = o->features.position_table ? ATTEND_ABSOLUTE_LEARNED : t->absolute;
    p->absolute_base = t->absolute_base, p->first_position = t->first_position;
    const bool placed = (t->first_position || o->features.positions) && !p->absolute;
    if (p->rotary || !(placed || t->dim || t->base != 0 || t->scaling)) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s: parameters or positions of a rotary embedding are given, but there is none; "
                            "--rotary halves or interleaved adds one",
                            o->weights);
}

attend_status layer_find(const options *o, layer *layer)
{
    const attend_checkpoint_query query = {o->name_prefix, o->layout, o->layer};
    const attend_checkpoint_options overrides = overrides_of(o);
    int64_t index;
    memset(layer, 0, sizeof *layer);
    ATTEND_TRY(from_checkpoint(attend_checkpoint_open(o->weights, &layer->checkpoint)));
    ATTEND_TRY(from_checkpoint(attend_checkpoint_find(layer->checkpoint, &query, &index)));
    ATTEND_TRY(from_checkpoint(attend_checkpoint_decide(layer->checkpoint, index, &overrides, &layer->read)));
    return set_positions(o, &layer->read->problem);
}

attend_status layer_load(attend_dtype dtype, layer *layer)
{
    ATTEND_TRY(from_checkpoint(attend_checkpoint_load(layer->read, dtype)));
    layer->weights = layer->read->weights;
    return ATTEND_OK;
}

attend_status layer_load_table(const char *path, pool *pool, attend_problem *p, layer *layer)
{
    attend_array array;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(array_load(path, &array));
    ATTEND_TRY(array_to_tensor(pool, path, &array, p->dtype, &layer->weights.position_table));
    const attend_tensor *t = &layer->weights.position_table;
    if (t->rank != 2 || t->shape[0] < 1 || t->shape[1] != p->hidden_size)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s: expected a table [positions, %" PRId64 "], as wide as the layer's input",
                                path, p->hidden_size);
    p->max_positions = t->shape[0];
    return ATTEND_OK;
}

void layer_free(layer *layer)
{
    attend_checkpoint_free(layer->read);
    attend_checkpoint_close(layer->checkpoint);
    memset(layer, 0, sizeof *layer);
}

const char *layer_decision(const layer *layer, const char *of)
{
    for (int i = 0; layer->read && i < layer->read->decision_count; i++)
        if (!strcmp(layer->read->decisions[i].of, of)) return layer->read->decisions[i].text;
    return NULL;
}
