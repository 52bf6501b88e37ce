/* One layer under the names and in the shapes of every kind of checkpoint: the same bits come out, and what was found is said;
   and what cannot be right is refused. */
#include "support/command.h"
#include "support/files.h"
#include "file/npy.h"
#include "file/safetensors.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { HIDDEN = 24, HEADS = 4, DIM = 8, Q = HEADS * DIM, SEQLEN = 5, MAX_FILE = 1 << 17 };

/* Wq, Wk, Wv [Q, HIDDEN], Wo [HIDDEN, Q] and their biases; K and V may have fewer rows. */
static float wq[Q * HIDDEN], wk[Q * HIDDEN], wv[Q * HIDDEN], wo[HIDDEN * Q], bq[Q], bk[Q], bv[Q], bo[HIDDEN];

typedef struct checkpoint {
    char header[8192];
    unsigned char data[MAX_FILE];
    size_t used;
} checkpoint;

static checkpoint file;

static void begin(void) { memset(&file, 0, sizeof file); }

static float *add(const char *name, int64_t rows, int64_t columns)
{
    size_t bytes = (size_t)(rows * (columns ? columns : 1)) * sizeof(float), at = strlen(file.header);
    char shape[64];
    assert_true(file.used + bytes <= sizeof file.data);
    snprintf(shape, sizeof shape, columns ? "%lld,%lld" : "%lld", (long long)rows, (long long)columns);
    snprintf(file.header + at, sizeof file.header - at, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
             at ? "," : "{", name, shape, file.used, file.used + bytes);
    file.used += bytes;
    return (float *)(void *)(file.data + file.used - bytes);
}

static void put(const char *name, const float *from, int64_t rows, int64_t columns)
{
    float *to = add(name, rows, columns);
    memcpy(to, from, (size_t)(rows * (columns ? columns : 1)) * sizeof *to);
}

static void finish(const char *name)
{
    FILE *out = fopen(test_path(name), "wb");
    uint64_t length = strlen(file.header) + 1;
    assert_non_null(out);
    fwrite(&length, 8, 1, out);
    fwrite(file.header, 1, (size_t)length - 1, out);
    fputc('}', out);
    fwrite(file.data, 1, file.used, out);
    assert_int_equal(fclose(out), 0);
}

static void gauss(float *to, int64_t elements, uint64_t seed)
{
    attend_tensor t = attend_tensor_1d(to, ATTEND_F32, elements);
    t.stride[0] = 1;
    attend_values_gauss(seed, 0.4f, &t);
}

/* Projections apart, as BERT, Llama and others have them. */
static void put_apart(const char *prefix, const char *const names[4], int64_t kv_rows, bool biases)
{
    char name[128];
    const float *const weights[] = {wq, wk, wv, wo}, *const vectors[] = {bq, bk, bv, bo};
    const int64_t rows[] = {Q, kv_rows, kv_rows, HIDDEN}, columns[] = {HIDDEN, HIDDEN, HIDDEN, Q};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s.weight", prefix, names[i]);
        put(name, weights[i], rows[i], columns[i]);
        snprintf(name, sizeof name, "%s%s.bias", prefix, names[i]);
        if (biases) put(name, vectors[i], rows[i], 0);
    }
}

static const char *const bert[] = {"attention.self.query", "attention.self.key", "attention.self.value",
                                   "attention.output.dense"};
static const char *const distil[] = {"attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"};
static const char *const llama[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"};
static const char *const bart[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"};

/* Q, K and V in one matrix, [3·Q, HIDDEN], or by columns as Conv1D has it, which also turns Wo. */
static void put_fused(const char *prefix, const char *fused, const char *fused_bias, const char *out, bool conv1d)
{
    const float *const parts[] = {wq, wk, wv}, *const biases[] = {bq, bk, bv};
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, fused);
    float *to = conv1d ? add(name, HIDDEN, 3 * Q) : add(name, 3 * Q, HIDDEN);
    for (int64_t r = 0; r < 3 * Q; r++)
        for (int64_t c = 0; c < HIDDEN; c++) to[conv1d ? c * 3 * Q + r : r * HIDDEN + c] = parts[r / Q][r % Q * HIDDEN + c];
    snprintf(name, sizeof name, "%s%s", prefix, fused_bias);
    to = add(name, 3 * Q, 0);
    for (int r = 0; r < 3 * Q; r++) to[r] = biases[r / Q][r % Q];
    snprintf(name, sizeof name, "%s%s.weight", prefix, out);
    to = conv1d ? add(name, Q, HIDDEN) : add(name, HIDDEN, Q);
    for (int64_t r = 0; r < HIDDEN; r++)
        for (int64_t c = 0; c < Q; c++) to[conv1d ? c * HIDDEN + r : r * Q + c] = wo[r * Q + c];
    snprintf(name, sizeof name, "%s%s.bias", prefix, out);
    put(name, bo, HIDDEN, 0);
}

static int make_layer(void **state)
{
    (void)state;
    static float x[SEQLEN * HIDDEN];
    attend_output output;
    gauss(wq, Q * HIDDEN, 1), gauss(wk, Q * HIDDEN, 2), gauss(wv, Q * HIDDEN, 3), gauss(wo, HIDDEN * Q, 4);
    gauss(bq, Q, 5), gauss(bk, Q, 6), gauss(bv, Q, 7), gauss(bo, HIDDEN, 8), gauss(x, SEQLEN * HIDDEN, 9);
    assert_int_equal(attend_output_open(test_path("x.npy"), &output), ATTEND_OK);
    assert_int_equal(attend_npy_write(&output, ATTEND_F32, 2, (int64_t[]){SEQLEN, HIDDEN}, x), ATTEND_OK);
    assert_int_equal(attend_output_finish(&output), ATTEND_OK);
    assert_int_equal(attend_output_commit(&output), ATTEND_OK);
    attend_output_close(&output);
    begin(), put_apart("", bert, Q, true), finish("bert.safetensors");
    begin(), put_apart("bert.encoder.layer.0.", bert, Q, true), finish("bert0.safetensors");
    begin(), put_apart("distilbert.transformer.layer.3.", distil, Q, true), finish("distil.safetensors");
    begin(), put_apart("model.layers.11.", llama, Q, true), finish("llama.safetensors");
    begin(), put_apart("decoder.layers.0.", bart, Q, true), finish("bart.safetensors");
    begin(), put_fused("transformer.h.2.", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj", true),
        finish("gpt2.safetensors");
    begin(), put_fused("", "in_proj_weight", "in_proj_bias", "out_proj", false), finish("torch.safetensors");
    begin(), put_fused("layers.1.self_attn.", "in_proj_weight", "in_proj_bias", "out_proj", false), finish("encoder.safetensors");
    begin(), put_fused("model.layers.0.", "self_attn.qkv_proj.weight", "self_attn.qkv_proj.bias", "self_attn.o_proj", false),
        finish("phi.safetensors");
    begin(), put_apart("model.layers.0.", llama, 2 * DIM, false), finish("grouped.safetensors");
    return 0;
}

#define RUN       "run --input x.npy --output z.npy --device reference "
#define RUN_QUIET RUN "--quiet "
/* Without a config.json names alone do not say what a layer computes. */
#define SAID "--causal=none --rotary none "

static char *result(size_t *size) { return test_read_file(test_path("z.npy"), size); }

static void one_layer_in_every_layout(void **state)
{
    (void)state;
    static const struct {
        const char *name, *layout, *prefix;
        int layer;
    } cases[] = {
        {"bert0", "bert", "bert.encoder.layer.0.", 0},
        {"distil", "bert", "distilbert.transformer.layer.3.", 3},
        {"llama", "llama", "model.layers.11.", 11},
        {"bart", "torch", "decoder.layers.0.", 0},
        {"gpt2", "gpt2", "transformer.h.2.", 2},
        {"torch", "torch", "", 0},
        {"encoder", "torch", "layers.1.self_attn.", 1},
        {"phi", "llama", "model.layers.0.", 0},
    };
    size_t size, expected_size;
    test_expect(0, "", RUN_QUIET SAID "--weights bert.safetensors --heads 4");
    char *expected = result(&expected_size);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int named = 0; named < 2; named++) {
            cJSON *json = test_json(0, RUN SAID "--json --weights %s.safetensors --heads 4 --layout %s", cases[i].name,
                                    named ? cases[i].layout : "auto");
            assert_string_equal(test_json_text(json, "layout"), cases[i].layout);
            assert_string_equal(test_json_text(json, "prefix"), cases[i].prefix);
            assert_int_equal(test_json_number(json, "layer"), cases[i].layer);
            assert_false(cJSON_HasObjectItem(json, "warnings")); /* nothing was guessed */
            cJSON_Delete(json);
            char *z = result(&size);
            assert_int_equal(size, expected_size);
            if (memcmp(z, expected, size) != 0) fail_msg("%s gives another result", cases[i].name);
            free(z);
        }
    free(expected);
}

static void decoders_are_causal_unless_told_otherwise(void **state)
{
    (void)state;
    size_t size, expected_size;
    test_expect(0, "", RUN_QUIET "--weights bert.safetensors --heads 4 --rotary none --causal=top-left");
    char *expected = result(&expected_size);
    test_write_file(test_path("config.json"), "{\"model_type\": \"gpt2\"}", 22);
    cJSON *json = test_json(0, RUN "--json --weights gpt2.safetensors --heads 4");
    assert_string_equal(test_json_text(json, "causal"), "top-left");
    cJSON_Delete(json);
    unlink(test_path("config.json"));
    char *z = result(&size);
    assert_int_equal(size, expected_size);
    assert_memory_equal(z, expected, size);
    free(z), free(expected);
}

static void heads_come_from_shapes_and_config(void **state)
{
    (void)state;
    cJSON *json = test_json(0, RUN SAID "--json --weights grouped.safetensors --heads 4");
    assert_int_equal(test_json_number(json, "kv_heads"), 2);
    assert_int_equal(test_json_number(json, "head_dim"), 8);
    cJSON_Delete(json);
    test_expect(2, "does not say how many heads it has", RUN SAID "--weights grouped.safetensors");
    test_expect(2, "the 32 rows of Q do not divide into 5 heads", RUN SAID "--weights grouped.safetensors --heads 5");
    test_expect(2, "do not divide", RUN SAID "--weights torch.safetensors --heads 5");
    test_expect(2, "2 heads of 8, but --kv-heads says 4", RUN SAID "--weights grouped.safetensors --heads 4 --kv-heads 4");
    test_expect(0, "", RUN_QUIET SAID "--weights bert.safetensors --heads 4 --kv-heads 4");
}

static void config(const char *text) { test_write_file(test_path("config.json"), text, strlen(text)); }

static void config_json_is_believed_and_checked(void **state)
{
    (void)state;
    static const struct {
        const char *text, *weights;
        int code;
        const char *sentence;
    } cases[] = {
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4}", "bert", 0, ""},
        {"{\"n_head\": 4, \"model_type\": \"gpt2\"}", "gpt2", 0, ""},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8}", "grouped", 0, ""},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"num_key_value_heads\": null, \"sliding_window\": null}", "bert", 0, ""},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"num_key_value_heads\": 1}", "grouped", 2, "config.json says 1"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"head_dim\": 16}", "bert", 2, "says head_dim 16"},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"rope_theta\": 10000.0}", "grouped", 0, ""},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"rope_theta\": \"big\"}", "grouped", 2, "rope_theta is not a number of at least 1"},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"rope_theta\": 1e4, \"rope_scaling\": {\"type\": \"longrope\"}}", "grouped", 2, "longrope, which attend does not know"},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"rope_theta\": 1e4, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"mscale\": 1}}", "grouped", 2,
         "mscale, which attend does not know"},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"rope_theta\": 1e4, \"rope_local_base_freq\": 1e4}", "grouped", 2, "rope_local_base_freq"},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"rope_theta\": 10000.0}", "grouped --rotary none", 0, ""},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"attn_logit_softcapping\": \"50\"}", "grouped", 2, "attn_logit_softcapping"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"position_embedding_type\": \"relative_key\"}", "bert", 2, "has position_embedding_type"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"position_embedding_type\": \"absolute\"}", "bert", 0, ""},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"sliding_window\": 4}", "bert", 2, "sliding_window = 4, which changes attention"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"sliding_window\": 4}", "bert --window -1,-1", 0, ""},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"sliding_window\": 5}", "bert", 2, "sliding_window = 5, which changes attention"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"sliding_window\": 4, \"use_sliding_window\": false}", "bert", 0, ""},
        {"{\"model_type\": \"bert\"}", "bert", 2, "config.json does not either"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 0}", "bert", 2, "not a whole number"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": \"4\"}", "bert", 2, "not a whole number"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4.5}", "bert", 2, "not a whole number"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 1e30}", "bert", 2, "not a whole number"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 3}", "bert", 2, "do not divide into 3 heads"},
        {"[4]", "bert", 2, "not a JSON object"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4", "bert", 2, "not JSON"},
        {"", "bert", 2, "not JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[128];
        snprintf(words, sizeof words, "%s", cases[i].weights);
        char *more = strchr(words, ' ');
        if (more) *more++ = 0;
        config(cases[i].text);
        test_expect(cases[i].code, cases[i].sentence, RUN_QUIET "--weights %s.safetensors %s", words, more ? more : "");
    }
#define GEMMA "{\"model_type\": \"gemma2\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8, \"rope_theta\": 1e4, "
    config(GEMMA "\"sliding_window\": null, \"attn_logit_softcapping\": null, \"query_pre_attn_scalar\": 16}");
    cJSON *json = test_json(0, RUN "--json --weights grouped.safetensors");
    assert_float_equal(test_json_number(json, "scale"), 0.25, 0);
    cJSON_Delete(json);
    config(GEMMA "\"query_pre_attn_scalar\": 8, \"attn_logit_softcapping\": 2, \"sliding_window\": 2, \"layer_types\": "
                 "[\"sliding_attention\"]}");
    test_expect(0, "", RUN_QUIET "--weights grouped.safetensors");
    size_t sizes[2];
    char *by_config = result(&sizes[0]);
    config(GEMMA "\"query_pre_attn_scalar\": 8, \"attn_logit_softcapping\": null, \"sliding_window\": 2, \"layer_types\": "
                 "[\"full_attention\"]}");
    test_expect(0, "", RUN_QUIET "--weights grouped.safetensors --window 1,-1 --softcap 2");
    char *by_options = result(&sizes[1]);
    assert_memory_equal(by_config, by_options, sizes[0]);
    free(by_config), free(by_options);
    config("{\"model_type\": \"bert\", \"num_attention_heads\": 2}");
    json = test_json(0, RUN "--json --weights bert.safetensors --heads 4"); /* the command line wins */
    assert_int_equal(test_json_number(json, "heads"), 4);
    cJSON_Delete(json);
    unlink(test_path("config.json"));
}

static void layers_are_chosen_by_number_and_prefix(void **state)
{
    (void)state;
    begin();
    put_apart("encoder.layers.2.", bart, Q, false);
    put_apart("encoder.layers.4.", bart, Q, true);
    put_apart("decoder.layers.4.", bart, Q, true);
    finish("many.safetensors");
    cJSON *json = test_json(0, RUN SAID "--json --weights many.safetensors --heads 4");
    assert_int_equal(test_json_number(json, "layer"), 2);
    cJSON_Delete(json);
    test_expect(2, "no layer 3; it has layers 2 to 4", RUN SAID "--weights many.safetensors --heads 4 --layer 3");
    test_expect(2, "more than once: \"decoder.layers.4.\" and \"encoder.layers.4.\"",
                RUN SAID "--weights many.safetensors --heads 4 --layer 4");
    json = test_json(0, RUN SAID "--json --weights many.safetensors --heads 4 --layer 4 --name-prefix enc");
    assert_string_equal(test_json_text(json, "prefix"), "encoder.layers.4.");
    cJSON_Delete(json);
    test_expect(2, "under names that begin with \"model.\"", RUN SAID "--weights many.safetensors --heads 4 --name-prefix model.");
    test_expect(2, "its names are those of GPT-2", RUN SAID "--weights gpt2.safetensors --heads 4 --layout bert");
    begin(), put("some.weight", bq, Q, 0), finish("other.safetensors");
    test_expect(2, "its 1 tensors begin with \"some.weight\"", RUN SAID "--weights other.safetensors --heads 4");
}

static void sinks_of_the_checkpoint_are_used(void **state)
{
    (void)state;
    attend_output output;
    size_t sizes[2];
    begin(), put_apart("model.layers.0.", bart, Q, true), put("model.layers.0.self_attn.sinks", bq, HEADS, 0),
        finish("sunk.safetensors");
    assert_int_equal(attend_output_open(test_path("sinks.npy"), &output), ATTEND_OK);
    assert_int_equal(attend_npy_write(&output, ATTEND_F32, 1, (int64_t[]){HEADS}, bq), ATTEND_OK);
    assert_int_equal(attend_output_finish(&output), ATTEND_OK);
    assert_int_equal(attend_output_commit(&output), ATTEND_OK);
    attend_output_close(&output);
    test_expect(0, "", RUN_QUIET SAID "--weights sunk.safetensors --heads 4");
    char *by_checkpoint = result(&sizes[0]);
    test_expect(0, "", RUN_QUIET SAID "--weights bert.safetensors --heads 4 --sinks sinks.npy");
    char *by_option = result(&sizes[1]);
    assert_memory_equal(by_checkpoint, by_option, sizes[0]);
    free(by_checkpoint), free(by_option);
}

static void what_is_not_applied_is_refused(void **state)
{
    (void)state;
    begin(), put_apart("model.layers.0.", llama, Q, false), put("model.layers.0.self_attn.q_norm.weight", bq, DIM, 0),
        put("model.layers.0.self_attn.k_norm.weight", bk, DIM, 0), finish("normed.safetensors");
    test_expect(0, "", RUN_QUIET "--weights normed.safetensors --heads 4 --causal=none --rotary halves --qk-norm rms");
    begin(), put_apart("model.layers.0.", llama, Q, false), put("model.layers.0.self_attn.q_norm.weight", bq, Q, 0),
        put("model.layers.0.self_attn.k_norm.weight", bk, Q, 0), finish("wide.safetensors");
    test_expect(2, "q_norm.weight is not a vector of head_dim (8) elements", RUN SAID "--qk-norm rms --weights wide.safetensors --heads 4");
    begin(), put_apart("", bert, Q, false), put("attention.self.query.bias", bq, Q - 1, 0), finish("bias.safetensors");
    test_expect(2, "attention.self.query.bias is not a vector of 32", RUN SAID "--weights bias.safetensors --heads 4");
    begin(), put("in_proj_weight", wq, Q, 0), put("out_proj.weight", wo, HIDDEN, Q), finish("vector.safetensors");
    test_expect(2, "in_proj_weight is not a matrix", RUN SAID "--weights vector.safetensors --heads 4");
    begin(), put("self_attn.q_proj.weight", wq, Q, HIDDEN), put("self_attn.k_proj.weight", wk, Q, HIDDEN);
    put("self_attn.v_proj.weight", wv, Q, HIDDEN), put("self_attn.o_proj.weight", wo, HIDDEN, Q - DIM),
        finish("short.safetensors");
    test_expect(2, "the output projection takes 24 columns, but 4 heads give 32", RUN SAID "--weights short.safetensors --heads 4");
    begin(), put("self_attn.q_proj.weight", wq, Q, HIDDEN), put("self_attn.k_proj.weight", wk, Q, HIDDEN / 2);
    put("self_attn.v_proj.weight", wv, Q, HIDDEN / 2), put("self_attn.o_proj.weight", wo, HIDDEN, Q), finish("cross.safetensors");
    test_expect(2, "cross-attention", RUN SAID "--weights cross.safetensors --heads 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_layer_in_every_layout),
        cmocka_unit_test(decoders_are_causal_unless_told_otherwise),
        cmocka_unit_test(heads_come_from_shapes_and_config),
        cmocka_unit_test(config_json_is_believed_and_checked),
        cmocka_unit_test(layers_are_chosen_by_number_and_prefix),
        cmocka_unit_test(sinks_of_the_checkpoint_are_used),
        cmocka_unit_test(what_is_not_applied_is_refused),
    };
    return cmocka_run_group_tests(tests, make_layer, NULL);
}
