"""Holds `attend run` to the installed transformers, versions 4 and 5, on every architecture that it knows.

For each model_type a small random model is made and saved, its own attention runs, and each layer that
libattend_checkpoint finds in what was saved is run by the command.

    python3 -m venv build/peers && build/peers/bin/pip install torch==2.15.0 transformers==5.24.0
    build/peers/bin/python tests/peers/architectures.py [--attend FILE] [--deletions] [TYPE …]

The model_types are those of docs/checkpoints.md; --all takes all of transformers. A layer is right (within
1e-4 of the rms of what transformers computed), refused with a sentence, or wrong; the exit status is 1 where
one is wrong. Layers whose model cannot be run here are counted apart. What is read of a model are the input
of the layer's Q and the output of its last projection, found by the saved weights themselves, so no name is
trusted but those that attend reports.

`--deletions` takes each key out of the config.json of each configuration that is right, as old checkpoints
lack keys, and all at once that have their default; those of rotary embeddings are written as version 4 did.
transformers reads what is left and loads the same
weights; attend must compute what that model does, or refuse. Keys whose absence transformers does not load
(weights of other shapes, or weights that it makes up) are counted apart.

`--keep tests/data/models` writes the fixtures of tests/test_models.c anew: random weights and results of
running these libraries, not their code."""

import argparse
import collections
import ctypes
import importlib
import inspect
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SEQLEN, TOLERANCE, VOCABULARY = 37, 1e-4, 99

# What makes a config small, wherever it has such a key.
# fmt: off
SMALL = dict(
    vocab_size=VOCABULARY, hidden_size=64, n_embd=64, d_model=64, dim=64, emb_dim=64, embed_dim=64,
    n_layer=2, n_layers=2, num_layers=2, num_hidden_layers=2, encoder_layers=2, decoder_layers=2,
    num_decoder_layers=2, num_encoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
    num_attention_heads=4, n_head=4, n_heads=4, num_heads=4, num_key_value_heads=2, head_dim=16, d_kv=16,
    d_ff=96, intermediate_size=96, ffn_dim=96, encoder_ffn_dim=96, decoder_ffn_dim=96, ffn_hidden_size=96,
    n_inner=96, hidden_dim=96, moe_intermediate_size=32, shared_expert_intermediate_size=32,
    num_local_experts=4, num_experts=4, n_routed_experts=4, num_experts_per_tok=2, moe_num_experts=4,
    max_position_embeddings=128, n_positions=128, seq_length=128, max_seq_len=128, n_ctx=128, image_size=32,
    patch_size=8, sliding_window=8, embedding_size=64, projection_dim=32, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, n_group=1, topk_group=1, mamba_n_heads=8, mamba_d_head=16, num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2, conv_dim=(64, 64), conv_stride=(5, 4), conv_kernel=(10, 8),
    num_feat_extract_layers=2, hidden_size_per_layer_input=16, vocab_size_per_layer_input=VOCABULARY,
    attention_window=8, attention_chunk_size=8, rotary_dim=8, d_inner=96, num_mel_bins=16,
    n_shared_experts=1, local_attention=16, window_size=8, mamba_expand=2, mamba_d_state=8,
    max_source_positions=64, max_target_positions=128, embed_size=64, max_2d_position_embeddings=64,
    first_k_dense_replace=1)
# fmt: on
ALL_USUAL, BEFORE_5 = "all that have their defaults", "rope_parameters, in the keys of version 4"
KEEP_NONE = ("sliding_window", "rotary_dim", "n_inner")

# Settings that change attention, beside the usual ones of a model_type. Keys with dashes are options of the
# command.
VARIANTS = {
    "llama": [dict(rope_theta=500000.0), dict(num_attention_heads=32, num_key_value_heads=8, head_dim=4)],
    "bert": [
        dict(is_decoder=True),
        dict(position_embedding_type="relative_key"),
        dict(position_embedding_type="relative_key_query"),
    ],
    "roberta": [dict(is_decoder=True)],
    "electra": [dict(position_embedding_type="relative_key")],
    "gpt2": [dict(scale_attn_weights=False), dict(scale_attn_by_inverse_layer_idx=True)],
    "gpt_bigcode": [dict(multi_query=False)],
    "falcon": [
        dict(multi_query=False),
        dict(new_decoder_architecture=True, num_kv_heads=2),
        dict(alibi=True),
        dict(alibi=True, multi_query=False),
    ],
    "mistral": [dict(sliding_window=None), dict(num_attention_heads=32, num_key_value_heads=8, head_dim=4)],
    "mixtral": [dict(sliding_window=None)],
    "phi3": [dict(sliding_window=None), dict(partial_rotary_factor=0.75)],
    "qwen2": [
        dict(use_sliding_window=True, max_window_layers=1),
        dict(use_sliding_window=True, sliding_window=8, max_window_layers=1),
    ],
    "qwen3": [dict(use_sliding_window=True, sliding_window=8, max_window_layers=1)],
    "qwen2_moe": [dict(use_sliding_window=True, sliding_window=8, max_window_layers=1)],
    "esm": [dict(position_embedding_type="rotary"), dict(position_embedding_type="relative_key")],
    "roformer": [dict(rotary_value=True)],
    "gpt_neox": [dict(rotary_pct=1.0), dict(rotary_pct=0.5, rotary_emb_base=500)],
    "modernbert": [dict(global_rope_theta=500.0, local_rope_theta=77.0)],
    "nomic_bert": [dict(rope_theta=500.0)],
    "phi": [dict(qk_layernorm=True), dict(partial_rotary_factor=0.25)],
    "glm4": [dict(partial_rotary_factor=0.25)],
    "stablelm": [dict(qk_layernorm=True)],
    "persimmon": [dict(qk_layernorm=False)],
    "cohere": [dict(use_qk_norm=True)],
    "olmo": [dict(clip_qkv=0.5)],
    "olmoe": [dict(clip_qkv=0.5)],
    "granite": [dict(attention_multiplier=0.05)],
    "lfm2_moe": [dict(layer_types=["full_attention", "full_attention"])],
    "granitemoe": [dict(attention_multiplier=0.05)],
    "falcon_h1": [dict(key_multiplier=0.3, mamba_d_ssm=128, mamba_n_heads=8, mamba_d_head=16)],
    "granitemoeshared": [dict(attention_multiplier=0.05)],
    "granitemoehybrid": [
        dict(attention_multiplier=0.05, layer_types=["attention", "attention"]),
        dict(attention_multiplier=0.05, layer_types=["full_attention", "full_attention"]),
        dict(position_embedding_type="rope", layer_types=["full_attention", "full_attention"]),
        dict(position_embedding_type="rope", layer_types=["attention", "attention"]),
    ],
    "mpt": [
        dict(attn_config=dict(alibi=False)),
        dict(attn_config=dict(clip_qkv=0.5)),
        dict(attn_config=dict(softmax_scale=0.5)),
    ],
    "dbrx": [
        dict(attn_config=dict(clip_qkv=0.5, kv_n_heads=2, rope_theta=10000.0)),
        dict(attn_config=dict(kv_n_heads=2, rope_theta=500000.0)),
    ],
    "beit": [dict(use_relative_position_bias=True), dict(use_shared_relative_position_bias=True)],
    "data2vec-vision": [dict(use_relative_position_bias=True)],
    "xlm": [dict(causal=True)],
    "gemma3_text": [
        dict(use_bidirectional_attention=True),
        dict(num_attention_heads=8, num_key_value_heads=4),
    ],
    "gemma2": [dict(query_pre_attn_scalar=40)],
    "smollm3": [dict(no_rope_layers=[1, 0])],
    "gpt_neo": [dict(attention_types=[[["global", "local"], 1]], num_layers=2)],
    "wavlm": [],
    "t5": [dict(feed_forward_proj="gated-gelu")],
    "jamba": [dict(attn_layer_period=1, attn_layer_offset=0)],
    "bamba": [dict(attn_layer_indices=[0, 1])],
    "layoutlmv3": [dict(has_relative_attention_bias=False, has_spatial_attention_bias=False)],
    "cohere2": [dict(layer_types=["sliding_attention", "full_attention"])],
    "exaone4": [dict(layer_types=["sliding_attention", "full_attention"])],
    "glm4_moe": [dict(use_qk_norm=True)],
    "chameleon": [],
    "git": [{"--causal": "top-left"}],
    "blip_text_model": [{"--causal": "top-left"}, {"--causal": "none"}],
    "gemma3": [{"--causal": "top-left"}],
    "paligemma": [{"--causal": "none"}],
}
# Whether projections have biases: each model_type with one of these is tried with the other value too.
DECODES = False  # BLIP's text model is told when it is called
BIASES = ("attention_bias", "qkv_bias", "use_qkv_bias", "use_bias", "bias", "enable_bias")


# One for each convention: what tests/data/models/ keeps, so that tests need neither torch nor transformers.
FIXTURES = {
    "gpt_neox": ("gpt_neox", dict(rotary_pct=0.5), "layers.1."),
    "falcon": ("falcon", dict(new_decoder_architecture=True, num_kv_heads=2), "h.1."),
    "falcon_alibi": ("falcon", dict(alibi=True), "h.0."),
    "bloom": ("bloom", {}, "h.0."),
    "mpt": ("mpt", {}, "blocks.0."),
    "gpt_bigcode": ("gpt_bigcode", {}, "h.0."),
    "codegen": ("codegen", {}, "h.0."),
    "gptj": ("gptj", {}, "h.0."),
    "gpt_neo": ("gpt_neo", dict(attention_types=[[["global", "local"], 1]], num_layers=2), "h.1."),
    "t5": ("t5", {}, "encoder.block.1."),
    "t5_decoder": ("t5", {}, "decoder.block.1."),
    "mpnet": ("mpnet", {}, "encoder.layer.1."),
    "gemma3": ("gemma3_text", {}, "layers.0."),
    "modernbert": ("modernbert", {}, "layers.1."),
    "cohere2": ("cohere2", dict(layer_types=["sliding_attention", "full_attention"]), "layers.1."),
    "exaone4": ("exaone4", dict(layer_types=["sliding_attention", "full_attention"]), "layers.0."),
    "granite": ("granite", dict(attention_multiplier=0.05), "layers.1."),
    "falcon_h1": (
        "falcon_h1",
        dict(key_multiplier=0.3, mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8),
        "layers.0.",
    ),
    "smollm3": ("smollm3", dict(no_rope_layers=[1, 0]), "layers.1."),
    "eurobert": ("eurobert", {}, "layers.0."),
    "roformer": ("roformer", {}, "encoder.layer.0."),
    "esm": ("esm", dict(position_embedding_type="rotary"), "encoder.layer.0."),
    "persimmon": ("persimmon", {}, "layers.0."),
    "phi": ("phi", dict(qk_layernorm=True), "layers.1."),
    "lfm2": ("lfm2", {}, "layers."),
    "mistral": ("mistral", {}, "layers.1."),
    "bart": ("bart", {}, "decoder.layers.1."),
    "clip": ("clip", {}, "text_model.encoder.layers.0."),
    "blip": ("blip", {}, "vision_model.encoder.layers.0."),
    "videomae": ("videomae", {}, "encoder.layer.0."),
    "xlm": ("xlm", dict(causal=True), "attentions.1."),
    "gpt2_by_layer": ("gpt2", dict(scale_attn_by_inverse_layer_idx=True), "h.1."),
}
NARROW = dict(
    hidden_size=32,
    n_embd=32,
    d_model=32,
    dim=32,
    emb_dim=32,
    head_dim=8,
    d_kv=8,
    embedding_size=32,
    rotary_dim=4,
    projection_dim=32,
    mamba_d_head=8,
)


class Name(ctypes.Structure):
    _fields_ = [
        ("prefix", ctypes.c_char_p),
        ("layout", ctypes.c_char_p),
        ("title", ctypes.c_char_p),
        ("number", ctypes.c_int64),
    ]


class Timeout(Exception):
    pass


def on_alarm(*_):
    raise Timeout("it takes too long")


def set_key(config, key, value):
    old = getattr(config, key, None)
    if (
        isinstance(old, (list, dict, tuple))
        and not isinstance(value, (list, tuple, dict))
        or (key in KEEP_NONE and old is None)
    ):
        return
    if isinstance(old, transformers.PretrainedConfig):
        for name, inner in value.items():
            setattr(old, name, inner)
        return
    try:
        setattr(config, key, value)
    except Exception:
        pass


def shrink(config):
    for key, value in SMALL.items():
        if key in config.__dict__ or key in getattr(config, "attribute_map", {}):
            set_key(config, key, value)
    for value in list(config.__dict__.values()):
        if isinstance(value, transformers.PretrainedConfig):
            shrink(value)
    for key in ("layer_types", "mlp_layer_types", "layers_block_type"):
        value = getattr(config, key, None)
        if isinstance(value, list) and value:
            kinds = list(dict.fromkeys(value))[:4]
            set_key(config, key, (kinds * 2)[: max(2, len(kinds))])
            config.num_hidden_layers = max(2, len(kinds))
    return config


def other_biases(model_type):
    try:
        usual = CONFIG_MAPPING[model_type]()
    except Exception:
        return []
    return [{key: not getattr(usual, key)} for key in BIASES if isinstance(getattr(usual, key, None), bool)]


def make_config(model_type, changes):
    given = {key: value for key, value in changes.items() if key != "attn_config"}
    try:
        small = {
            key: value
            for key, value in SMALL.items()
            if key in inspect.signature(CONFIG_MAPPING[model_type].__init__).parameters
            and key not in KEEP_NONE
        }
        config = CONFIG_MAPPING[model_type](**{**small, **given})
    except Exception:
        config = CONFIG_MAPPING[model_type](**given)
    config = shrink(config)
    for key, value in changes.items():
        if key == "attn_config":
            old = getattr(config, key)
            for name, inner in value.items():
                setattr(old, name, inner) if not isinstance(old, dict) else old.__setitem__(name, inner)
        else:
            setattr(config, key, value)
            if key == "layer_types":
                config.num_hidden_layers = len(value)
    return config


def randomise(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (
                not parameter.is_floating_point()
                or not parameter.requires_grad
                or not any(
                    word in name.lower()
                    for word in ("attn", "attention", "self_a", "sinks", "embed", "position")
                )
            ):
                continue
            if "embed" in name.lower() or "position" in name.lower():
                parameter.normal_(0, 1)
            elif parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * min(0.7, 1.2 / parameter.shape[-1] ** 0.5))
            elif "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.4 * torch.randn_like(parameter))


def class_of(config):
    """The model of a config; of parts of models, which AutoModel does not know, the class that takes it."""
    if type(config) in transformers.AutoModel._model_mapping:
        return None
    module = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    fitting = [
        c
        for name, c in vars(module).items()
        if inspect.isclass(c)
        and issubclass(c, transformers.PreTrainedModel)
        and getattr(c, "config_class", None) is type(config)
        and "PreTrained" not in name
    ]
    return sorted(
        fitting, key=lambda c: (not c.__name__.endswith("Model"), "ForCausalLM" not in c.__name__, c.__name__)
    )[0]


def inputs_of(model, config):
    wanted = inspect.signature(model.forward).parameters
    size = (
        getattr(config, "image_size", None)
        or getattr(getattr(config, "vision_config", None), "image_size", None)
        or 32
    )
    size = size if isinstance(size, int) else 32
    ids = torch.randint(3, VOCABULARY, (1, SEQLEN))
    texts = getattr(getattr(config, "text_config", None), "max_position_embeddings", SEQLEN) or SEQLEN
    ids = ids[:, : min(SEQLEN, texts)]
    mels = getattr(config, "num_mel_bins", None) or getattr(config, "input_feat_per_channel", None) or 16
    spans = 2 * (getattr(config, "max_source_positions", None) or 64)
    paths = torch.randint(0, 200, (1, ids.shape[1], getattr(config, "max_depth", None) or 50))
    made = dict(
        xpath_tags_seq=paths,
        xpath_subs_seq=paths.clone(),
        is_decoder=DECODES,
        input_ids=ids,
        lang_ids=torch.zeros(1, dtype=torch.long),
        decoder_input_ids=ids.clone(),
        pixel_values=torch.randn(1, 3, size, size),
        input_values=torch.randn(1, 2000),
        input_features=torch.randn(1, mels, spans),
        hidden_states=torch.randn(1, SEQLEN, 64),
        bbox=torch.randint(0, 60, (1, SEQLEN, 4)).sort(-1)[0],
    )
    main = getattr(model, "main_input_name", "input_ids")
    chosen = {
        key: value
        for key, value in made.items()
        if key in wanted
        and (
            key == main
            or key
            in ("decoder_input_ids", "bbox", "lang_ids", "xpath_tags_seq", "xpath_subs_seq", "is_decoder")
        )
    }
    if not chosen and "input_ids" in wanted:
        chosen = dict(input_ids=ids)
    if not chosen and "hidden_states" in wanted:
        chosen = dict(hidden_states=made["hidden_states"])
    if "use_cache" in wanted:
        chosen["use_cache"] = False  # FSMT's decoder has no causal mask with one
    second = dict(chosen)
    for key in ("pixel_values", "input_ids"):
        if key in wanted:
            second[key] = made[key]
    tries = [chosen, second] + ([dict(input_ids=ids)] if "input_ids" in wanted else [])
    frames = getattr(config, "num_frames", None)
    if frames and "pixel_values" in wanted:
        tries.append({**chosen, "pixel_values": torch.randn(1, frames, 3, size, size)})
    if main == "input_features":
        tries.append({**chosen, "input_features": torch.randn(1, SEQLEN, mels)})
    if main == "input_values" and hasattr(config, "max_length"):
        tries.append(dict(input_values=torch.randn(1, config.max_length, mels)))
    return tries


class Recorder:
    """The first input and output of every module that multiplies by a matrix."""

    def __init__(self, model):
        self.runs, self.seen, self.trouble = [], {}, ""
        for name, module in model.named_modules():
            if (
                hasattr(module, "weight")
                and module.weight is not None
                and getattr(module.weight, "dim", lambda: 0)() == 2
                or isinstance(module, torch.nn.MultiheadAttention)
            ):
                module.register_forward_hook(self.hook(name), with_kwargs=True)

    def begin(self):
        self.seen = {}
        self.runs.append(self.seen)

    def hook(self, name):
        def keep(_, args, kwargs, output):
            if name not in self.seen:
                given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
                if given:
                    self.seen[name] = (
                        given[0].detach().clone(),
                        (output[0] if isinstance(output, tuple) else output).detach().clone(),
                    )

        return keep


def module_of(model, weight):
    for name, module in model.named_modules():
        for own in ("weight", "in_proj_weight", "q_proj_weight"):
            mine = getattr(module, own, None)
            if (
                not isinstance(mine, torch.Tensor)
                or mine.dim() != 2
                or mine.shape[1] != weight.shape[1]
                or mine.shape[0] > weight.shape[0]
            ):
                continue
            if torch.equal(
                mine.float(), weight[: mine.shape[0]].float()
            ):  # of a fused matrix that the model has apart, Q
                return name, module
    return None, None


def sequence(tensor):
    """[batch, tokens, width], however the model has it."""
    if tensor.dim() == 2:
        return tensor[None]
    return tensor.transpose(0, 1) if tensor.dim() == 3 and tensor.shape[1] == 1 else tensor


def verdict_of(ours, z):
    error = float((ours.reshape(z.shape) - z).abs().max() / z.double().pow(2).mean().sqrt())
    return "right" if error <= TOLERANCE else "wrong", f"{error:.1e} of the rms"


def flow(folder, model, recorder, facts):
    """What went into a layer and came out of it, or why that cannot be told."""
    with safe_open(next(folder.glob("*.safetensors")), "pt") as file:
        q, out = file.get_tensor(facts["input_tensor"]), file.get_tensor(facts["output_tensor"])
    q_name, q_module = module_of(model, q)
    out_name, _ = module_of(model, out)
    if isinstance(q_module, torch.nn.MultiheadAttention):
        out_name = q_name
    seen = next((run for run in recorder.runs if q_name in run and out_name in run), None)
    if seen is None:
        return (
            None,
            None,
            (
                f"its modules were not called {recorder.trouble}"
                if q_name is not None
                else "its weights are in no module"
            ),
        )
    x, z = sequence(seen[q_name][0]), sequence(seen[out_name][1])
    if x.dim() != 3 or z.dim() != 3 or x.shape[:2] != z.shape[:2] or not torch.isfinite(z).all():
        return None, None, f"its input is {tuple(x.shape)}, its output {tuple(z.shape)}"
    if x.std(1).mean() < 0.1 * x.pow(2).mean().sqrt():
        return None, None, "its tokens are all alike"
    return x, z, ""


def make_model(config, alibi):
    implementation = (
        "sdpa" if alibi else "eager"
    )  # Falcon's eager code adds ALiBi twice, in scores and in the mask
    config._attn_implementation = implementation
    one = class_of(config)
    make = (lambda config, **_: one(config)) if one else transformers.AutoModel.from_config
    with torch.device("meta"):
        empty = make(config)
    size = sum(p.numel() for p in empty.parameters())
    if size > 40_000_000:
        raise RuntimeError(f"{size} parameters, too many to try")
    return empty, lambda: make(config, attn_implementation=implementation).float().eval()


def record_into(recorder, model, config):
    for inputs in inputs_of(model, config):
        try:
            recorder.begin()
            with torch.no_grad():
                model(**inputs)
        except Timeout:
            raise
        except Exception as error:
            recorder.trouble = repr(error)[:120]
    for name, part in model.named_children():  # of models in parts, some of which want more to run as a whole
        if isinstance(part, transformers.PreTrainedModel) and not any(
            seen.startswith(name + ".") for run in recorder.runs for seen in run
        ):
            record_into(recorder, part, part.config)


def record(model, config):
    recorder = Recorder(model)
    record_into(recorder, model, config)
    return recorder


def key_paths(node, before=()):
    for key, value in node.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from key_paths(value, (*before, key))


def without(saved, paths):
    config = json.loads(json.dumps(saved))
    for path in paths:
        node = config
        for key in path[:-1]:
            node = node.get(key, {})
        if path:
            node.pop(path[-1], None)
    return config


def as_before_5(saved):
    """A config of version 5 with rotary embeddings in the keys of version 4; None where it has none."""
    config, changed = {}, False
    for key, value in saved.items():
        inner = as_before_5(value) if isinstance(value, dict) else None
        if key == "rope_parameters" and isinstance(value, dict) and "rope_type" in value:
            rest = dict(value)
            config.update(
                {name: rest.pop(name) for name in ("rope_theta", "partial_rotary_factor") if name in rest}
            )
            config["rope_scaling"], changed = rest if rest["rope_type"] != "default" else None, True
        else:
            config[key], changed = inner or value, changed or inner is not None
    return config if changed else None


class Reading:
    """What transformers makes of a config and of the weights of `model`; `same` where it reads as `whole`."""

    def __init__(self, saved, model, whole=None):
        self.whole, self.weights = whole, model.state_dict()
        self.model, self.trouble, self.flows = None, "", {}
        try:
            self.config = CONFIG_MAPPING[saved["model_type"]].from_dict(json.loads(json.dumps(saved)))
            self.meaning = json.dumps(self.config.to_dict(), sort_keys=True, default=str)
        except Timeout:
            raise
        except Exception as error:
            self.meaning, self.trouble = None, repr(error)[:150]
        self.same = whole is not None and self.meaning == whole.meaning

    def load(self):
        """As from_pretrained(): what the file lacks is made up, what the model lacks is dropped."""
        torch.manual_seed(6)
        empty, make = make_model(self.config, getattr(self.config, "alibi", False))
        for name, tensor in empty.state_dict().items():
            if name in self.weights and tensor.shape != self.weights[name].shape:
                raise RuntimeError(f"{name} is {tuple(self.weights[name].shape)}, not {tuple(tensor.shape)}")
        model = make()
        self.made_up = model.load_state_dict(self.weights, strict=False).missing_keys
        self.recorder = record(model, self.config)
        self.model = model

    def flow(self, folder, facts):
        if self.same:
            return self.whole.flow(folder, facts)
        if not self.trouble and not self.model:
            try:
                self.load()
            except Timeout:
                raise
            except Exception as error:
                self.trouble = repr(error)[:150]
        if self.trouble:
            return None, None, self.trouble
        name = facts["input_tensor"]
        if name not in self.flows:
            within = os.path.commonprefix([name, facts["output_tensor"]]).rpartition(".")[0] + "."
            made_up = [missing for missing in self.made_up if within in missing]
            if made_up:
                self.flows[name] = None, None, f"{made_up[0]} is made up"
            else:
                self.flows[name] = flow(folder, self.model, self.recorder, facts)
        return self.flows[name]


class Sweep:
    def __init__(self, options):
        self.attend = options.attend
        self.library = ctypes.CDLL(
            str(pathlib.Path(options.attend).resolve().parent / "libattend_checkpoint.so")
        )
        self.keep = pathlib.Path(options.keep) if options.keep else None
        self.words = (pathlib.Path(options.attend).resolve().parent / "libattend_checkpoint.so").read_bytes()
        self.said, self.fixture, self.only, self.deleting = [], None, None, options.deletions
        self.rows, self.deletions, self.deleted = [], [], collections.Counter()

    def layers(self, folder):
        checkpoint, name, found = ctypes.c_void_p(), Name(), []
        if self.library.attend_checkpoint_open(str(folder).encode(), ctypes.byref(checkpoint)):
            self.library.attend_checkpoint_error_message.restype = ctypes.c_char_p
            raise RuntimeError(self.library.attend_checkpoint_error_message().decode())
        index = 0
        while self.library.attend_checkpoint_layer_name(
            checkpoint, ctypes.c_int64(index), ctypes.byref(name)
        ):
            found.append((name.prefix.decode(), name.layout.decode(), name.number))
            index += 1
        self.library.attend_checkpoint_close(checkpoint)
        return found

    def run(self, folder, prefix, layout, number, x, said=()):
        numpy.save(folder / "x.npy", x.numpy())
        done = subprocess.run(
            [
                self.attend,
                "run",
                "--weights",
                folder,
                "--name-prefix",
                prefix,
                "--layout",
                layout,
                "--layer",
                str(number),
                "--input",
                folder / "x.npy",
                "--output",
                folder / "z.npy",
                "--json",
                "--threads",
                "1",
                "--device",
                "cpu",
                *said,
            ],
            capture_output=True,
            text=True,
        )
        facts = json.loads(done.stdout)
        if self.said and not said and "give --causal" in facts.get("error", ""):
            return self.run(folder, prefix, layout, number, x, self.said)
        return facts, None if done.returncode else torch.from_numpy(numpy.load(folder / "z.npy"))

    def layer_facts(self, folder, prefix, layout, number):
        """What attend says of a layer, whose width its first answer may have to tell."""
        facts, _ = self.run(folder, prefix, layout, number, torch.zeros(1, 1, 64))
        columns = "columns, but the layer takes "
        if columns in facts.get("error", ""):
            width = int(facts["error"].split(columns)[1].split()[0].rstrip("."))
            facts, _ = self.run(folder, prefix, layout, number, torch.zeros(1, 1, width))
        return facts

    def judge(self, folder, model, recorder, layer):
        facts = self.layer_facts(folder, *layer)
        if "error" in facts:
            return "refused", facts["error"]
        x, z, trouble = flow(folder, model, recorder, facts)
        if trouble:
            return "not run", trouble
        return self.compare(folder, layer, x, z)

    def compare(self, folder, layer, x, z):
        facts, ours = self.run(folder, *layer, x)
        if ours is None:
            return "refused", facts["error"]
        verdict, why = verdict_of(ours, z)
        if verdict == "right" and self.fixture:
            self.save(folder, facts, x, z)
        return verdict, f"{why}, {json.dumps(facts['decisions'])}"

    def delete_keys(self, folder, name, model, layers):
        """Takes keys out of the config.json of `layers`, all right as it stands, and judges each again."""
        file = folder / "config.json"
        saved, usual = json.loads(file.read_text()), []
        whole = Reading(saved, model)
        layers = [(layer, self.layer_facts(folder, *layer)) for layer in layers]
        before = as_before_5(saved)
        for path in [(), *key_paths(saved), (ALL_USUAL,)] + [(BEFORE_5,)] * (before is not None):
            config = (
                before if path == (BEFORE_5,) else without(saved, usual if path == (ALL_USUAL,) else [path])
            )
            reading = Reading(config, model, whole) if path else whole
            if path and reading.same and path not in ((BEFORE_5,), (ALL_USUAL,)):
                usual.append(path)
                if path[-1].encode() + b"\0" not in self.words:
                    self.deleted["right"] += 1  # neither reads the key
                    continue
            file.write_text(json.dumps(config))
            worst = min(
                (self.judge_reading(folder, whole, reading, *layer) for layer in layers),
                key=lambda judged: ("wrong", "right", "refused", "not loaded").index(judged[0]),
            )
            self.deleted[worst[0]] += 1
            self.deletions.append((name, "/".join(path), *worst))
            if worst[0] == "wrong":
                print(f"WRONG {name} without {'/'.join(path)}: {worst[1]} {worst[2]}", flush=True)
        file.write_text(json.dumps(saved))

    def judge_reading(self, folder, whole, reading, layer, facts):
        x, z, trouble = whole.flow(folder, facts)
        if trouble:
            return "not loaded", layer[0], trouble
        said, ours = self.run(folder, *layer, x)  # before a model is made for what may be refused
        if ours is None:
            return "refused", layer[0], said["error"]
        if not reading.same:
            x, z, trouble = reading.flow(folder, facts)
            if trouble:
                return "not loaded", layer[0], trouble
            said, ours = self.run(folder, *layer, x)
            if ours is None:
                return "refused", layer[0], said["error"]
        verdict, why = verdict_of(ours, z)
        return verdict, layer[0], f"{why}, {json.dumps(said['decisions'])}"

    def save(self, folder, facts, x, z):
        """Keeps the layer's tensors, the config, what went in and what came out."""
        common = (
            os.path.commonprefix([facts["input_tensor"], facts["output_tensor"]]).rpartition(".")[0] + "."
        )
        to = self.keep / self.fixture
        to.mkdir(parents=True, exist_ok=True)
        with safe_open(next(folder.glob("*.safetensors")), "pt") as file:
            tensors = {
                name: file.get_tensor(name)
                for name in file.keys()
                if name.startswith(common) or "relative_attention_bias" in name
            }
        save_file(tensors, to / "layer.safetensors")
        (to / "config.json").write_text((folder / "config.json").read_text())
        numpy.save(to / "x.npy", x.numpy())
        numpy.save(to / "z.npy", z.numpy())
        self.fixture = None

    def add(self, model_type, changes, layer, verdict, why):
        self.rows.append((model_type, changes, layer, verdict, why))
        if verdict == "wrong":
            print(f"WRONG {model_type} {changes or ''} {layer}: {why}", flush=True)

    def model(self, model_type, changes):
        config = make_config(model_type, changes)
        torch.manual_seed(5)
        model = make_model(config, changes.get("alibi"))[1]()
        randomise(model)
        return config, model

    def try_one(self, model_type, changes):
        try:
            signal.setitimer(signal.ITIMER_PROF, 60)  # of processor time
            global DECODES
            self.said = [f"{key}={value}" for key, value in changes.items() if key.startswith("--")]
            DECODES = "--causal=top-left" in self.said
            config, model = self.model(
                model_type, {key: value for key, value in changes.items() if not key.startswith("--")}
            )
            with tempfile.TemporaryDirectory() as place:
                folder = pathlib.Path(place)
                model.save_pretrained(folder, safe_serialization=True)
                recorder, right = record(model, config), []
                for layer in self.layers(folder):
                    if self.only and not layer[0].startswith(self.only):
                        continue
                    verdict, why = self.judge(folder, model, recorder, layer)
                    self.add(model_type, changes, layer[0], verdict, why)
                    if verdict == "right":
                        right.append(layer)
                if self.deleting and right:
                    signal.setitimer(signal.ITIMER_PROF, 600)
                    self.delete_keys(
                        folder, f"{model_type} {json.dumps(changes) if changes else ''}".strip(), model, right
                    )
                if not self.layers(folder):
                    self.add(model_type, changes, "", "refused", "no layer has names that attend knows")
            signal.setitimer(signal.ITIMER_PROF, 0)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self.add(model_type, changes, "", "not made", repr(error)[:150])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--attend", default="build/release/attend")
    parser.add_argument("--keep", default=None, help="write fixtures into this folder instead")
    parser.add_argument("--all", action="store_true", help="also model_types that attend has no row for")
    parser.add_argument("--deletions", action="store_true", help="also without each key of config.json")
    parser.add_argument("--json", default=None, help="all rows, to this file")
    parser.add_argument("model_types", nargs="*")
    options = parser.parse_args()
    signal.signal(signal.SIGPROF, on_alarm)
    torch.set_num_threads(1)
    sweep = Sweep(options)
    rows = set(
        re.findall(
            r"`([^`\s]+)`",
            (pathlib.Path(__file__).parents[2] / "docs/checkpoints.md")
            .read_text()
            .partition("## Architectures")[2],
        )
    )
    if sweep.keep:
        SMALL.update(NARROW)
        for sweep.fixture, (model_type, changes, sweep.only) in FIXTURES.items():
            if not options.model_types or sweep.fixture in options.model_types:
                sweep.try_one(model_type, changes)
                if sweep.fixture:
                    print(f"{sweep.fixture} was not kept: {sweep.rows[-1]}")
        return 0
    for model_type in options.model_types or [name for name in CONFIG_MAPPING if options.all or name in rows]:
        for changes in [{}] + VARIANTS.get(model_type, []) + other_biases(model_type):
            sweep.try_one(model_type, changes)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    verdicts = collections.defaultdict(lambda: collections.defaultdict(list))
    for model_type, changes, layer, verdict, why in sweep.rows:
        verdicts[model_type + (" " + json.dumps(changes) if changes else "")][verdict].append((layer, why))
    for name, by in verdicts.items():
        counts = ", ".join(f"{len(layers)} {verdict}" for verdict, layers in by.items())
        worst = by.get("wrong") or by.get("refused") or by.get("not run") or by.get("not made") or [("", "")]
        print(f"{name:40} {counts:24} {worst[0][1][:150] if 'right' not in by or len(by) > 1 else ''}")
    if options.json:
        pathlib.Path(options.json).write_text(
            json.dumps(dict(rows=sweep.rows, deletions=sweep.deletions), indent=0)
        )
    total = collections.Counter(row[3] for row in sweep.rows)
    kinds = collections.Counter(
        (
            "wrong"
            if "wrong" in by
            else "right" if "right" in by else "refused" if "refused" in by else "not run here"
        )
        for by in verdicts.values()
    )
    print("layers:", dict(total), "\nconfigurations:", dict(kinds))
    if sweep.deleting:
        print("keys taken out:", dict(sweep.deleted))
    return 1 if total["wrong"] or sweep.deleted["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
