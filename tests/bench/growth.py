"""How a training step on this CPU grows: with the sequence, the batch, the rank and the model.

One axis at a time, each point a process of its own (`ffwd bench`) on one thread. A point's growth is
how often the processor time of its best step is that of the point before, over how often its size
is: 1 is linear, above 1 is worse. Processor time, because it is nearly the same on a busy machine.
Beside it the growth of the arithmetic, which says what part of that is attention's square. Prints
a table and writes the same as JSON. Points for which no time or memory is left are named.
usage: growth.py BUILD_DIR [--axes sequence,batch,rank,model] [--dtype bf16|f32] [--threads N]
                 [--short] [--seconds N] [--json FILE]
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "../../examples/models/ffwd-tiny")
BASE = {"shape": "smollm2-135m", "seq": 256, "batch": 2, "rank": 16}
LINEAR = 1.1  # a growth up to this is called linear: a machine's timings are no better


def points(short):
    """axis: what is varied, its values, what is fixed besides BASE."""
    return {
        "sequence": ("seq", [128, 512, 2048] if short else [128, 256, 512, 1024, 2048, 4096, 8192],
                     {"batch": 1}),
        "batch": ("batch", [1, 4, 16] if short else [1, 2, 4, 8, 16, 32], {}),
        "rank": ("rank", [4, 16, 64, 256], {"seq": 128 if short else 256}),
        "model": ("shape", ["1m", "12m", "smollm2-135m", "qwen2.5-0.5b"] +
                  ([] if short else ["llama-3.2-1b"]), {"seq": 128 if short else 256}),
    }


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--axes", default="sequence,batch,rank,model")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seconds", type=float, default=1500)
    parser.add_argument("--json")
    return parser.parse_args()


def tensors(hidden, inner, layers, vocab):
    yield "model.embed_tokens.weight", [vocab, hidden]
    yield "model.norm.weight", [hidden]
    for i in range(layers):
        p = f"model.layers.{i}."
        for name in "input_layernorm", "post_attention_layernorm":
            yield f"{p}{name}.weight", [hidden]
        for name in "q_proj", "k_proj", "v_proj", "o_proj":
            yield f"{p}self_attn.{name}.weight", [hidden, hidden]
        yield f"{p}mlp.gate_proj.weight", [inner, hidden]
        yield f"{p}mlp.up_proj.weight", [inner, hidden]
        yield f"{p}mlp.down_proj.weight", [hidden, inner]


def write_model(folder, hidden=320, inner=896, layers=6, vocab=16384):
    """A Llama of 12.9 million weights: the named shapes begin at 135 million."""
    header, at, draw = {}, 0, random.Random(1)
    for name, shape in tensors(hidden, inner, layers, vocab):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(f"{folder}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():
            n = (entry["data_offsets"][1] - entry["data_offsets"][0]) // 2
            bits = int.from_bytes(draw.randbytes(2 * n), "little")
            keep = int.from_bytes(b"\x7f\x80" * n, "little")  # sign and fraction; 2^-7 the rest
            f.write((bits & keep | int.from_bytes(b"\x00\x3c" * n, "little")).to_bytes(2 * n, "little"))
    with open(f"{folder}/config.json", "w") as f:
        json.dump({"model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
                   "num_hidden_layers": layers, "num_attention_heads": 5, "num_key_value_heads": 5,
                   "vocab_size": vocab, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
                   "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True}, f)


def bench(o, work, setting):
    """The JSON of one run, or what went wrong."""
    folders = {"1m": TINY, "12m": f"{work}/12m"}
    shape = setting["shape"]
    what = ["--model", folders[shape]] if shape in folders else ["--shape", shape]
    command = [f"{o.build}/ffwd", "bench", *what, "--device", "cpu", "--dtype", o.dtype,
               "--threads", str(o.threads), "--steps", str(o.steps)]
    for key in "seq", "batch", "rank":
        command += [f"--{key}", str(setting[key])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def row_of(axis, value, setting, r):
    tokens = setting["seq"] * setting["batch"]
    return {"axis": axis, "value": value, **setting, "tokens": tokens, "step_ms": r["step_ms"],
            "best_ms": min(r["step_processor_ms_each"]), "tokens_per_s": r["tokens_per_s"],
            "gflop": r["model_tflops"] * r["step_ms"], "mfu": r["mfu"],
            "peak_bytes": r["peak_bytes"], "planned_bytes": r["planned_bytes"]["total"],
            "weights_bytes": r["planned_bytes"]["weights"]}


def size_of(row):
    return row["gflop"] if row["axis"] == "model" else row["value"]


def add_growth(row, before):
    size = size_of(row) / size_of(before)
    row["growth"] = row["best_ms"] / before["best_ms"] / size
    row["work_growth"] = row["gflop"] / before["gflop"] / size
    row["worse_than_linear"] = row["growth"] > LINEAR


def print_row(row):
    growth = f"{row['growth']:.2f} | {row['work_growth']:.2f}" if "growth" in row else "– | –"
    rate = row["gflop"] / row["best_ms"]
    print(f"| {row['axis']} | {row['value']} | {1e3 * row['tokens'] / row['best_ms']:.0f} "
          f"| {row['best_ms']:.0f} "
          f"| {1e3 * rate:.0f} | {growth} | {row['peak_bytes'] / 1e6:.0f} "
          f"| {row['peak_bytes'] / row['planned_bytes']:.2f} |", flush=True)


def run_axis(o, work, axis, deadline, rows):
    key, values, fixed = points(o.short)[axis]
    before = None
    for value in values:
        setting = {**BASE, **fixed, key: value}
        if time.monotonic() > deadline:
            print(f"| {axis} | {value} | no time left |", flush=True)
            continue
        result = bench(o, work, setting)
        if isinstance(result, str):
            print(f"| {axis} | {value} | {result} |", flush=True)
            continue
        row = row_of(axis, value, setting, result)
        if before:
            add_growth(row, before)
        print_row(row)
        rows.append(row)
        before = row


def main():
    o = options()
    rows, deadline, load = [], time.monotonic() + o.seconds, os.getloadavg()[0]
    commit = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip()
    print(f"{o.dtype}, {o.threads} threads, load {load:.1f} at the start; commit {commit}; "
          f"unless varied: {BASE['shape']}, sequence {BASE['seq']}, batch {BASE['batch']} "
          f"(1 for the sequence), rank {BASE['rank']}\n")
    print("| axis | value | tokens/s | step, ms of processor | GFLOP/s | growth | of the work | peak MB "
          "| of plan |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="ffwd-growth-") as work:
        os.mkdir(f"{work}/12m")
        writer = os.fork()  # a child's peak begins with the memory of its parent
        if writer == 0:
            write_model(f"{work}/12m")
            os._exit(0)
        os.waitpid(writer, 0)
        for axis in o.axes.split(","):
            run_axis(o, work, axis, deadline, rows)
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"commit": commit, "load": load, "dtype": o.dtype, "threads": o.threads,
                       "rows": rows}, f, indent=1)
            f.write("\n")
    return 0 if rows else 1


sys.exit(main())
