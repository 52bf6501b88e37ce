/* Small checkpoints in the test's folder. */
#ifndef ATTEND_TEST_SUPPORT_CHECKPOINTS_H
#define ATTEND_TEST_SUPPORT_CHECKPOINTS_H

/* Names and shapes are "layers.0.self_attn.q_proj.weight 32x16;layers.0.self_attn.q_proj.bias 32"; fp32
   values depend on the name alone. */
void test_write_safetensors(const char *name, const char *tensors);
void test_write_text(const char *name, const char *text);

/* The four projections of a layer with Llama's names: hidden size 16, 4 heads of 8, 2 KV heads. */
#define TEST_LLAMA_LAYER(n)                                                                  \
    "layers." n ".self_attn.q_proj.weight 32x16;layers." n ".self_attn.k_proj.weight 16x16;" \
    "layers." n ".self_attn.v_proj.weight 16x16;layers." n ".self_attn.o_proj.weight 16x32"
#define TEST_LLAMA_CONFIG                                                                                 \
    "\"model_type\": \"llama\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"rope_theta\": " \
    "500000"

#endif
