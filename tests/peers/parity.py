"""attend against PyTorch's scaled dot-product attention and nn.MultiheadAttention, and ONNX Runtime's MultiHeadAttention.

Each problem is solved by the peer, by the attend command on the same stored inputs, and in fp64. attend passes where its error
against fp64, in the mean square, is at most 1.5 times the peer's and one fp32 rounding at the size of what is summed. The point is
that both mean the same by layout, alignment, scale and heads; how exact attend is, docs/numerics.md says.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file
from torch.nn.functional import scaled_dot_product_attention as sdpa

ROOT = pathlib.Path(__file__).resolve().parents[2]
options = None
folder = None


def attend(*arguments):
    command = [options.attend, *map(str, arguments), "--device", options.device, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nexited with {done.returncode}: {done.stderr}")


def save(name, tensor):
    """[batch, heads, seqlen, dim] as the file's [batch, seqlen, heads, dim]."""
    path = folder / f"{name}.npy"
    numpy.save(path, tensor.transpose(1, 2).contiguous().numpy())
    return path


def attend_attention(q, k, v, *flags):
    out, lse = folder / "o.npy", folder / "lse.npy"
    attend("attention", "--q", save("q", q), "--k", save("k", k), "--v", save("v", v), "--output", out, "--lse", lse, *flags)
    return torch.from_numpy(numpy.load(out)).transpose(1, 2), torch.from_numpy(numpy.load(lse))


def rms(x):
    return x.double().square().mean().sqrt().item()


def judge(name, ours, peer, exact, summed=torch.zeros(1)):
    ours_rms, peer_rms = rms(ours - exact), rms(peer - exact)
    passed = ours_rms <= 1.5 * peer_rms + 2.0**-24 * rms(summed)
    print(f"{name:50s} rms error: attend {ours_rms:.2e}, peer {peer_rms:.2e}; apart at most {(ours - peer).abs().max():.2e}"
          f"  {'ok' if passed else 'FAILED'}", flush=True)
    return passed


def exact_lse(q, k, mask, scale):
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = q.double() @ k.double().transpose(-1, -2) * scale
    return scores.masked_fill(~mask, -torch.inf).logsumexp(-1)


def mask_of(seqlen_q, seqlen_k, causal):
    i, j = torch.arange(seqlen_q)[:, None], torch.arange(seqlen_k)[None]
    shift = {"": seqlen_k, "top-left": 0, "bottom-right": seqlen_k - seqlen_q}[causal]
    return j <= i + shift


def sdpa_case(name, dtype=torch.float32, batch=2, heads=6, kv_heads=6, seqlen_q=65, seqlen_k=129, dim=64, dim_v=64, causal="", scale=None):
    q, k, v = (torch.randn(batch, h, n, d, dtype=torch.float32).to(dtype)
               for h, n, d in ((heads, seqlen_q, dim), (kv_heads, seqlen_k, dim), (kv_heads, seqlen_k, dim_v)))
    mask = mask_of(seqlen_q, seqlen_k, causal)
    how = {"is_causal": True} if causal == "top-left" else {"attn_mask": mask}
    how |= {"scale": scale, "enable_gqa": heads != kv_heads}
    flags = ([f"--causal={causal}"] if causal else []) + (["--scale", scale] if scale else [])
    ours, lse = attend_attention(q, k, v, *flags)
    near = torch.allclose(lse.double(), exact_lse(q, k, mask, scale or dim**-0.5), rtol=0, atol=2e-5)
    if not near:
        print(f"{name}: LSE is off")
    exact, summed = (sdpa(q.double(), k.double(), values.double(), **how) for values in (v, v.abs()))
    return judge(f"SDPA {name}", ours, sdpa(q, k, v, **how), exact, summed) and near


def module_case(name, width=96, heads=4, seqlen=70, bias=True):
    module = torch.nn.MultiheadAttention(width, heads, bias=bias, batch_first=True).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.15)
        x = torch.randn(2, seqlen, width)
        peer, exact = module(x, x, x)[0], module.double()(*[x.double()] * 3)[0]
    save_file(module.float().state_dict(), folder / "mha.safetensors")
    numpy.save(folder / "x.npy", x.numpy())
    attend("run", "--weights", folder / "mha.safetensors", "--layout", "torch", "--causal=none", "--heads", heads, "--input", folder / "x.npy",
           "--output", folder / "z.npy")
    return judge(f"nn.MultiheadAttention {name}", torch.from_numpy(numpy.load(folder / "z.npy")), peer, exact)


def onnx_case(name, batch=2, heads=8, seqlen=127, dim=40):
    node = onnx.helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["o"], domain="com.microsoft", num_heads=heads)
    value = lambda n: onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [batch, seqlen, heads * dim])
    graph = onnx.helper.make_graph([node], "g", [value(n) for n in "qkv"], [value("o")])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    q, k, v = torch.randn(3, batch, seqlen, heads, dim)
    peer = session.run(None, {n: t.flatten(2).numpy() for n, t in zip("qkv", (q, k, v))})[0]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    peer = torch.from_numpy(peer).unflatten(-1, (heads, dim)).transpose(1, 2)
    return judge(f"ONNX Runtime {name}", attend_attention(q, k, v)[0], peer, sdpa(q.double(), k.double(), v.double()))


def main():
    global options, folder
    parser = argparse.ArgumentParser()
    parser.add_argument("--attend", default=ROOT / "build/release/attend")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(2)
    print(f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, attend on {options.device}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        passed = [
            sdpa_case("self, fp32", seqlen_q=128, seqlen_k=128),
            sdpa_case("cross, fp32"),
            sdpa_case("causal, square", seqlen_q=200, seqlen_k=200, causal="top-left"),
            sdpa_case("causal top-left, more keys", causal="top-left"),
            sdpa_case("causal bottom-right, more keys", causal="bottom-right"),
            sdpa_case("grouped heads 6/2", kv_heads=2),
            sdpa_case("one KV head, head_dim 80", kv_heads=1, dim=80, dim_v=80),
            sdpa_case("head_dim_v differs, scale 0.3", dim=40, dim_v=72, scale=0.3),
            sdpa_case("fp16", dtype=torch.float16),
            sdpa_case("4096 keys", batch=1, heads=2, kv_heads=2, seqlen_q=16, seqlen_k=4096),
            module_case("with biases"),
            module_case("without biases", bias=False),
            onnx_case("fp32, head_dim 40"),
        ]
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


sys.exit(main())
