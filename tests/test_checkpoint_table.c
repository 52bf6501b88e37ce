/* docs/checkpoints.md says what the table of architectures says; and the table is whole: each type once, each
 * layout there. */
#include "checkpoint/architectures.h"
#include "checkpoint/names.h"
#include "support/document.h"

#include <attend/checkpoint.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void add_layouts(test_document *t)
{
    test_print(t, "| layout | of | Q, or Q, K and V in one | output | |\n|---|---|---|---|---|\n");
    for (int i = 0; attend_naming_at(i); i++) {
        const attend_naming *n = attend_naming_at(i);
        test_print(t, "| `%s` | %s | `%s` | `%s` | %s%s%s%s |\n", n->layout, n->title,
                   n->fused ? n->fused : n->q, n->out, n->conv1d ? "stored [in, out]" : "",
                   n->fused && !n->blocks      ? "a block of rows a KV head"
                   : n->fused && n->blocks > 1 ? "four blocks of rows, each Q, V, K"
                                               : "",
                   n->relative ? "relative positions" : "",
                   n->if_asked ? "; only where the model_type or `--layout` says so" : "");
    }
}

static const char *positions_of(const attend_architecture *row)
{
    static const char *const kinds[] = {"", "rotary, halves", "rotary, interleaved"};
    static char room[160];
    snprintf(room, sizeof room, "%s%s%s", kinds[row->rotary],
             row->rotary_layers == ATTEND_ROTARY_LISTED ? ", in layers of `no_rope_layers`"
             : row->rotary_layers                       ? ", in layers with a window"
                                                        : "",
             row->relative_distance ? "relative, T5's buckets" : "");
    if (row->rotary && row->part > 0 && row->part < 1)
        snprintf(room + strlen(room), sizeof room - strlen(room), ", of %g of a head", row->part);
    return room;
}

static const char *condition(const attend_switch *which)
{
    static char room[80];
    if (!which->key) return "as stored";
    snprintf(room, sizeof room, which->usual ? "unless `%s` is false" : "with `%s`", which->key);
    return room;
}

static void add_rest(test_document *t, const attend_architecture *row)
{
    static const char *const windows[] = {
        NULL,
        "window in all layers",
        "window in even layers",
        "window in all but each `sliding_window_pattern`'th layer",
        "window from `max_window_layers` on",
        "window in `local` layers",
        "window of `local_attention` in all but each `global_attn_every_n_layers`'th layer"};
    static const char *const norms[] = {NULL, "RMS norms of Q and K",
                                        "RMS norms of Q and K, times 1 + weight", "layer norms of Q and K"};
    char norm[120];
    snprintf(norm, sizeof norm, "%s%s%s", row->norm ? norms[row->norm] : "",
             row->norm && row->normed.key ? " " : "",
             row->norm && row->normed.key ? condition(&row->normed) : "");
    const char *const facts[] = {windows[row->window],
                                 row->window_asked ? "windows with `use_sliding_window`" : NULL, norm,
                                 row->sinks ? "sinks" : NULL, row->scale_one ? "scale 1" : NULL};
    bool any = false;
    for (int i = 0; i < 5; i++)
        if (facts[i] && *facts[i]) test_print(t, "%s%s", any ? "; " : "", facts[i]), any = true;
    for (const attend_rule *rule = row->rules; rule && rule->key; rule++) {
        bool seen = !strcmp(rule->key, "model_type");
        for (const attend_rule *other = row->rules; other < rule; other++)
            seen |= !strcmp(other->key, rule->key);
        if (seen) continue;
        test_print(t, "%s`%s`", any ? "; " : "", rule->key), any = true;
    }
}

static void add_rows(test_document *t)
{
    static const char *const causal[] = {"no", "yes", "in decoders", "must be given"};
    const attend_architecture *row;
    test_print(t,
               "| model_type | layouts | causal | positions | biases | and |\n|---|---|---|---|---|---|\n");
    for (int i = 0; (row = attend_architecture_at(i)); i++) {
        if (row->refused || row->parts) continue;
        test_print(t, "| `%s` | %s | %s | %s | %s | ", row->model_type, row->layouts, causal[row->causal],
                   positions_of(row), condition(&row->biased));
        add_rest(t, row);
        test_print(t, " |\n");
    }
    test_print(
        t, "\n## Models in parts\n\nTheir layers are those of `text_config`, `vision_config` and the like, "
           "by what the names of tensors begin with:\n");
    for (int i = 0, n = 0; (row = attend_architecture_at(i)); i++)
        if (row->parts) test_print(t, "%s`%s`", n++ ? ", " : "", row->model_type);
    test_print(t, ".\n\n## Refused by name\n\n| model_type | because of |\n|---|---|\n");
    for (int i = 0; (row = attend_architecture_at(i)); i++)
        if (row->refused) test_print(t, "| `%s` | %s |\n", row->model_type, row->refused);
    test_print(
        t, "\n## Keys that change attention\n\nOne that a model's row does not read is refused, unless the "
           "option overrides it:\n");
    for (int i = 0; attend_known_key_at(i); i++) {
        const attend_known_key *k = attend_known_key_at(i);
        test_print(t, "%s`%s`%s%s%s", i ? ", " : "", k->key, k->option ? " (`" : "",
                   k->option ? k->option : "", k->option ? "`)" : "");
    }
    test_print(t, ".\n");
}

static void the_document_is_current(void **state)
{
    (void)state;
    test_document t = {NULL};
    test_print(
        &t,
        "# Checkpoints\n\n"
        "Generated from the code: `ATTEND_WRITE_DOCS=1 build/release/tests/test_checkpoint_table`.\n"
        "How layers are read is written once, in [`checkpoint.h`](../include/attend/checkpoint.h); a complete\n"
        "program is [`checkpoint.c`](../tests/install/checkpoint.c). Rows are held to transformers' own "
        "code\n"
        "by [`architectures.py`](../tests/peers/architectures.py): [figures](measured/checkpoints.md).\n\n"
        "A layer is right or refused. Without a `config.json`, and for a `model_type` that is not below,\n"
        "causality and the rotary embedding must be given:\n"
        "`--layout llama --causal=top-left --rotary halves`.\n"
        "An override changes one thing and leaves the rest of the config in force.\n\n"
        "## Names\n\n");
    add_layouts(&t);
    test_print(&t, "\n## Architectures\n\nA tensor of biases or norms that the row does not ask for is "
                   "refused.\nA key that is missing is what transformers makes of it, or refused.\n\n");
    add_rows(&t);
    test_document_expect(&t, "checkpoints.md", "test_checkpoint_table");
}

static void the_table_is_whole(void **state)
{
    (void)state;
    const attend_architecture *row;
    for (int i = 0; (row = attend_architecture_at(i)); i++) {
        if (attend_architecture_of(row->model_type) != row) fail_msg("%s is there twice", row->model_type);
        if (row->refused || row->parts) continue;
        bool any = false;
        for (int j = 0; attend_checkpoint_layout(j); j++)
            any |= attend_architecture_has_layout(row, attend_checkpoint_layout(j));
        if (!any) fail_msg("%s has no layout that is known: %s", row->model_type, row->layouts);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_document_is_current),
                                       cmocka_unit_test(the_table_is_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
