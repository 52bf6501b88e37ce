"""attend against PyTorch and ONNX Runtime on the CPU, row by row in one run, as shares of the multiply-add peak measured beside each row.

Each row is timed by build/release/tests/bench/bench_cpu for attend and here for the peers, one after the other and with the same
number of threads; the best of the runs counts. scripts/bench-cpu makes the environment and starts this.
"""
import argparse
import csv
import io
import os
import pathlib
import platform
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--cpu-time", action="store_true", help="one thread, its CPU time: for a machine that others use as well")
parser.add_argument("--seconds", type=float, default=2, help="for each row and library")
parser.add_argument("rows", nargs="*", help="names; all without one")
options = parser.parse_args()
if options.cpu_time:
    options.threads = 1
now = time.process_time if options.cpu_time else time.perf_counter
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import numpy
import onnx
import onnxruntime
import torch

torch.set_num_threads(options.threads)
torch.set_grad_enabled(False)

# name, seqlen_q, seqlen_k, heads, KV heads, head dim, causal, dtype
ROWS = [
    ("n512-d64", 512, 512, 8, 8, 64, False, torch.float32),
    ("n512-d128", 512, 512, 8, 8, 128, False, torch.float32),
    ("n2048-d64", 2048, 2048, 8, 8, 64, False, torch.float32),
    ("n2048-d128", 2048, 2048, 8, 8, 128, False, torch.float32),
    ("n8192-d64", 8192, 8192, 8, 8, 64, False, torch.float32),
    ("n8192-d128", 8192, 8192, 8, 8, 128, False, torch.float32),
    ("causal-n2048-d64", 2048, 2048, 8, 8, 64, True, torch.float32),
    ("causal-n2048-d128", 2048, 2048, 8, 8, 128, True, torch.float32),
    ("causal-n8192-d64", 8192, 8192, 8, 8, 64, True, torch.float32),
    ("causal-n8192-d128", 8192, 8192, 8, 8, 128, True, torch.float32),
    ("bf16-n2048-d128", 2048, 2048, 8, 8, 128, False, torch.bfloat16),
    ("decode-bf16", 1, 32768, 32, 8, 128, False, torch.bfloat16),
    ("layer-minilm", 512, 512, 12, 12, 32, False, torch.float32),
]


def attend(name):
    """Best seconds, work, and the peak as it was beside the runs, in the median."""
    threads = ["--cpu-time"] if options.cpu_time else ["--threads", str(options.threads)]
    command = [ROOT / "build/release/tests/bench/bench_cpu", "--csv", *threads, "--seconds", str(options.seconds), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = next(row for row in csv.DictReader(io.StringIO(done.stdout)) if row["name"] == name)
    work = float(row["work"])
    return float(row["best_s"]), work, work / float(row["median_s"]) / float(row["share"])


def best(function):
    function()
    times, begin = [], now()
    while len(times) < 3 or now() - begin < options.seconds:
        start = now()
        function()
        times.append(now() - start)
    return min(times)


def sdpa(seqlen_q, seqlen_k, heads, kv_heads, dim, causal, dtype):
    """[batch, seqlen, heads, dim] in memory, as a projection leaves it."""
    q = torch.randn(1, seqlen_q, heads, dim).to(dtype).transpose(1, 2)
    k, v = (torch.randn(1, seqlen_k, kv_heads, dim).to(dtype).transpose(1, 2) for _ in range(2))
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)


def session(node, inputs, outputs, initializers=()):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value(n, 1, s) for n, s in inputs], [value(n, 1, s) for n, s in outputs], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def multi_head_attention(seqlen, heads, dim, causal):
    shape = [1, seqlen, heads * dim]
    node = onnx.helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["o"], domain="com.microsoft", num_heads=heads, unidirectional=int(causal))
    run = session(node, [(n, shape) for n in "qkv"], [("o", shape)])
    feed = {n: numpy.random.randn(*shape).astype(numpy.float32) for n in "qkv"}
    return lambda: run.run(None, feed)


def torch_layer(seqlen, heads, dim):
    layer = torch.nn.MultiheadAttention(heads * dim, heads, batch_first=True).eval()
    x = torch.randn(1, seqlen, heads * dim)
    return lambda: layer(x, x, x, need_weights=False)


def onnx_layer(seqlen, heads, dim):
    """The fused Attention operator, and the output projection, which it leaves out, as a Gemm."""
    width = heads * dim
    constants = {"w": (width, 3 * width), "b": (3 * width,), "wo": (width, width), "bo": (width,)}
    initializers = [onnx.numpy_helper.from_array(numpy.random.randn(*s).astype(numpy.float32), n) for n, s in constants.items()]
    shape, make = [1, seqlen, width], onnx.helper.make_node
    nodes = [make("Attention", ["x", "w", "b"], ["h"], domain="com.microsoft", num_heads=heads), make("MatMul", ["h", "wo"], ["p"]), make("Add", ["p", "bo"], ["y"])]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, shape)], [value("y", 1, shape)], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    run = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    feed = {"x": numpy.random.randn(*shape).astype(numpy.float32)}
    return lambda: run.run(None, feed)


def peers(name, seqlen_q, seqlen_k, heads, kv_heads, dim, causal, dtype):
    if name.startswith("layer"):
        return {"PyTorch": torch_layer(seqlen_q, heads, dim), "ONNX Runtime": onnx_layer(seqlen_q, heads, dim)}
    found = {"PyTorch": sdpa(seqlen_q, seqlen_k, heads, kv_heads, dim, causal, dtype)}
    if dtype == torch.float32 and seqlen_q == seqlen_k:
        found["ONNX Runtime"] = multi_head_attention(seqlen_q, heads, dim, causal)
    return found


def main():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    print(f"{time.strftime('%Y-%m-%d')}, {model}, {'CPU time of 1 thread' if options.cpu_time else f'{options.threads} threads'}, PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, "
          f"load {os.getloadavg()[0]:.1f} at the start\n")
    print("| row | attend | of the peak | PyTorch | of the peak | ONNX Runtime | of the peak | attend against the best |")
    print("|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        if options.rows and row[0] not in options.rows:
            continue
        seconds, work, peak = attend(row[0])
        cells, least = [f"{seconds * 1e3:.2f} ms | {100 * work / seconds / peak:.0f} %"], None
        measured = {peer: best(function) for peer, function in peers(*row).items()}
        for peer in ("PyTorch", "ONNX Runtime"):
            cells.append(f"{measured[peer] * 1e3:.2f} ms | {100 * work / measured[peer] / peak:.0f} %" if peer in measured else "– | –")
        least = min(measured.values())
        print(f"| {row[0]} | {' | '.join(cells)} | {least / seconds:.2f}× |", flush=True)


main()
