"""Makes tests/data/features/transformers.json: small numbers from the own code of PyTorch and transformers, which
tests/test_transformers.c holds attend's definitions to.

    python3 -m venv build/peers && build/peers/bin/pip install torch==2.15.0 transformers==5.24.0
    build/peers/bin/python tests/peers/features.py

What is written are results of running those libraries on random numbers, not their code. Licences of what ran: PyTorch BSD-3-Clause,
transformers Apache-2.0.
"""

import json
import pathlib
import types

import torch
import transformers
from transformers import LlamaConfig
from transformers.masking_utils import causal_mask_function, sliding_window_overlay
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom import modeling_bloom as bloom
from transformers.models.gemma2 import modeling_gemma2 as gemma2
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama
from transformers.models.t5 import modeling_t5 as t5

torch.manual_seed(8)
HEADS, KV_HEADS, DIM, SEQLEN = 4, 2, 8, 11


def numbers(tensor):
    return [float(f"{x:.9g}") for x in tensor.flatten().tolist()]


def random(*shape):
    return torch.randn(shape)


def rotary_frequencies():
    cases = [
        ("default", {}),
        ("linear", {"factor": 4.0}),
        ("dynamic", {"factor": 2.0}),
        ("yarn", {"factor": 16.0, "original_max_position_embeddings": 4096}),
        ("llama3", {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}),
    ]
    for name, parameters in cases:
        config = LlamaConfig(hidden_size=512, num_attention_heads=4, head_dim=128, max_position_embeddings=2048,
                             rope_parameters={"rope_type": name, "rope_theta": 500000.0, **parameters})
        if name == "default":
            frequencies, factor = llama.LlamaRotaryEmbedding.compute_default_rope_parameters(config)
        elif name == "dynamic":
            frequencies, factor = ROPE_INIT_FUNCTIONS[name](config, seq_len=5000)
        else:
            frequencies, factor = ROPE_INIT_FUNCTIONS[name](config)
        yield {"name": name, "frequencies": numbers(frequencies), "factor": factor}


def rotations():
    q = random(1, 1, 3, DIM)
    positions = torch.tensor([0, 7, 40])
    config = LlamaConfig(hidden_size=DIM, num_attention_heads=1, head_dim=DIM, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    cosine, sine = llama.LlamaRotaryEmbedding(config)(q, positions[None])
    halves, _ = llama.apply_rotary_pos_emb(q, q, cosine, sine)
    table = gptj.create_sinusoidal_positions(64, DIM)[positions][None]
    sine, cosine = torch.split(table, DIM // 2, dim=-1)
    interleaved = gptj.apply_rotary_pos_emb(q.transpose(1, 2), sine, cosine)
    return {"positions": positions.tolist(), "q": numbers(q), "halves": numbers(halves), "interleaved": numbers(interleaved)}


def buckets():
    distances = torch.arange(-300, 301)
    for both, count, longest in [(True, 32, 128), (False, 32, 128), (True, 8, 20), (False, 7, 50)]:
        found = t5.T5Attention._relative_position_bucket(distances, bidirectional=both, num_buckets=count, max_distance=longest)
        yield {"bidirectional": both, "buckets": count, "max_distance": longest, "of": found.tolist()}


def slopes():
    for heads in (1, 2, 8, 12, 7):
        alibi = bloom.build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), heads, torch.float32)
        yield {"heads": heads, "slopes": numbers(alibi[:, 0, 1])}


def mask(window=0):
    allowed = torch.zeros(SEQLEN, SEQLEN, dtype=torch.bool)
    near = sliding_window_overlay(window) if window else None
    for i in range(SEQLEN):
        for j in range(SEQLEN):
            allowed[i, j] = bool(causal_mask_function(0, 0, i, j)) and (near is None or bool(near(0, 0, i, j)))
    return torch.zeros(1, 1, SEQLEN, SEQLEN).masked_fill(~allowed, float("-inf"))


def attention():
    def qkv():
        return random(1, HEADS, SEQLEN, DIM), random(1, KV_HEADS, SEQLEN, DIM), random(1, KV_HEADS, SEQLEN, DIM)

    def case(name, q, k, v, out, **more):
        return {"name": name, "q": numbers(q.transpose(1, 2)), "k": numbers(k.transpose(1, 2)), "v": numbers(v.transpose(1, 2)), "out": numbers(out), **more}

    module = types.SimpleNamespace(num_key_value_groups=HEADS // KV_HEADS, head_dim=DIM, training=False)
    q, k, v = qkv()
    yield case("llama", q, k, v, llama.eager_attention_forward(module, q, k, v, mask(), DIM**-0.5)[0])
    q, k, v = qkv()
    yield case("gemma2", 4 * q, k, v, gemma2.eager_attention_forward(module, 4 * q, k, v, mask(4), scaling=0.5, softcap=3.0)[0])
    q, k, v = qkv()
    module.sinks = random(HEADS)
    yield case("gpt_oss", q, k, v, gpt_oss.eager_attention_forward(module, q, k, v, mask(5), DIM**-0.5)[0], extra=numbers(module.sinks))
    q, k, v = qkv()
    alibi = bloom.build_alibi_tensor(torch.ones(1, SEQLEN, dtype=torch.long), HEADS, torch.float32).reshape(1, HEADS, 1, SEQLEN)
    yield case("bloom", q, k, v, llama.eager_attention_forward(module, q, k, v, alibi + mask(), DIM**-0.5)[0])
    for name, decoder in (("t5_encoder", False), ("t5_decoder", True)):
        config = transformers.T5Config(d_model=HEADS * DIM, d_kv=DIM, num_heads=HEADS, relative_attention_num_buckets=8,
                                       relative_attention_max_distance=20, is_decoder=decoder)
        layer = t5.T5Attention(config, has_relative_attention_bias=True)
        torch.nn.init.normal_(layer.relative_attention_bias.weight)
        q, k, v = qkv()
        bias = layer.compute_bias(SEQLEN, SEQLEN).detach()
        out = llama.eager_attention_forward(module, q, k, v, bias + (mask() if decoder else 0), 1.0)[0]
        yield case(name, q, k, v, out, extra=numbers(layer.relative_attention_bias.weight.detach().T))
    q, k, v = qkv()
    seen = torch.rand(1, HEADS, SEQLEN, SEQLEN) < 0.6
    seen[..., 0] = True
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    yield case("sdpa_mask", q, k, v, out.transpose(1, 2), extra=[int(x) for x in seen.flatten()])
    q, k, v = qkv()
    bias = random(1, HEADS, SEQLEN, SEQLEN)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)
    yield case("sdpa_bias", q, k, v, out.transpose(1, 2), extra=numbers(bias))


def main():
    path = pathlib.Path(__file__).parent.parent / "data" / "features" / "transformers.json"
    content = {
        "made_by": f"tests/peers/features.py with torch {torch.__version__.split('+')[0]} (BSD-3-Clause), transformers {transformers.__version__} (Apache-2.0)",
        "shape": {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM, "seqlen": SEQLEN},
        "rotary": list(rotary_frequencies()),
        "rotations": rotations(),
        "buckets": list(buckets()),
        "slopes": list(slopes()),
        "attention": list(attention()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
