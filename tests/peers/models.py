"""Makes tests/data/models/: one attention layer each of small random models with the shapes of heads and the conventions of GPT-2, Llama 3,
Gemma 2, gpt-oss, Qwen 3, GPT-1 and Marian, as transformers' own code runs them. tests/test_models.c holds `attend run` to what came out.

    python3 -m venv build/peers && build/peers/bin/pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6
    build/peers/bin/python tests/peers/models.py

What is written are random weights and results of running those libraries, not their code. Licences of what ran: PyTorch BSD-3-Clause,
transformers Apache-2.0.
"""

import pathlib

import numpy
import torch
import transformers
from safetensors.torch import save_file

torch.manual_seed(9)
SEQLEN = 37
SMALL = dict(vocab_size=16, hidden_size=32, intermediate_size=16)

MODELS = {
    "gpt2": (transformers.GPT2Config(vocab_size=16, n_embd=128, n_head=2, n_layer=2, n_positions=64), 1, "h.1.attn."),
    "llama3": (
        transformers.LlamaConfig(**SMALL, num_attention_heads=4, num_key_value_heads=1, head_dim=128, num_hidden_layers=2,
                                 max_position_embeddings=131072,
                                 rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                      original_max_position_embeddings=8192)), 1, "layers.1.self_attn."),
    "gemma2": (
        transformers.Gemma2Config(**SMALL, num_attention_heads=2, num_key_value_heads=1, head_dim=256, num_hidden_layers=2, sliding_window=16,
                                  query_pre_attn_scalar=144, attn_logit_softcapping=5.0, max_position_embeddings=8192), 0, "layers.0.self_attn."),
    "gpt_oss": (
        transformers.GptOssConfig(**SMALL, num_attention_heads=8, num_key_value_heads=1, head_dim=64, num_hidden_layers=2, sliding_window=16,
                                  num_local_experts=2, num_experts_per_tok=1, max_position_embeddings=131072), 0, "layers.0.self_attn."),
    "qwen3": (
        transformers.Qwen3Config(**SMALL, num_attention_heads=4, num_key_value_heads=2, head_dim=128, num_hidden_layers=2,
                                 max_position_embeddings=40960), 1, "layers.1.self_attn."),
    # Their first layers read x + positions: what is kept as x has none yet.
    "gpt1": (transformers.OpenAIGPTConfig(vocab_size=16, n_embd=64, n_head=2, n_layer=1, n_positions=41), 0, "h.0.attn."),
    "marian": (
        transformers.MarianConfig(vocab_size=16, d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                                  encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, pad_token_id=0, eos_token_id=0,
                                  decoder_start_token_id=0), 0, "layers.0.self_attn."),
}
TABLES = {"gpt1": "positions_embed.weight"}


def attention_of(model, prefix):
    return model.get_submodule(prefix[:-1])


def run(name, config, layer, prefix):
    config._attn_implementation = "eager"
    model = transformers.AutoModel.from_config(config).eval()
    if name == "marian":
        model = model.get_encoder()
    module = attention_of(model, prefix)
    with torch.no_grad():
        for parameter in module.parameters():  # larger than a model starts with, so that weights matter
            parameter.copy_(torch.randn_like(parameter) * (0.6 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.5))
        if name == "qwen3":
            for norm in (module.q_norm, module.k_norm):
                norm.weight.copy_(1 + 0.3 * torch.randn_like(norm.weight))
        if name in TABLES:
            model.get_parameter(TABLES[name]).normal_(0, 0.7)
    seen = {}

    def before(_, args, kwargs):
        seen["x"] = (args[0] if args else kwargs["hidden_states"]).detach().clone()

    def after(_, args, kwargs, output):
        seen["z"] = output[0].detach().clone()

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after, with_kwargs=True)
    embeddings = torch.randn(1, SEQLEN, config.hidden_size)
    with torch.no_grad():
        model(inputs_embeds=embeddings, **({} if name in ("gpt1", "marian") else {"use_cache": False}))
    if name in ("gpt1", "marian"):
        seen["x"] = embeddings
    folder = pathlib.Path(__file__).parent.parent / "data" / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {prefix + key: value.contiguous() for key, value in module.state_dict().items() if value.dtype == torch.float32}
    if name in TABLES:
        weights[TABLES[name]] = model.get_parameter(TABLES[name]).detach().contiguous()
    save_file(weights, folder / "layer.safetensors")
    (folder / "config.json").write_text(config.to_json_string(use_diff=False))
    numpy.save(folder / "x.npy", seen["x"].numpy())
    numpy.save(folder / "z.npy", seen["z"].numpy())
    print(name, list(weights), float(seen["z"].std()))


for name, (config, layer, prefix) in MODELS.items():
    run(name, config, layer, prefix)
