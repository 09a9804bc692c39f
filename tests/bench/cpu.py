"""ffwd and PEFT side by side on this CPU: speed and memory of a LoRA training step.

Rounds take turns: ffwd, PEFT, ffwd, PEFT …, each a process of its own, so that a machine that is
slow for a while is slow for both. A figure is the median of all steps of all rounds. Prints a table
and writes the same as JSON.
usage: cpu.py BUILD_DIR PYTHON [--shapes A,B] [--dtypes f32,bf16] [--seq N] [--batch N] [--rank N]
              [--rounds N] [--steps N] [--threads N] [--json FILE]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

# Examples of a step unless --batch says otherwise: PEFT must fit beside the rest of a small machine.
BATCH = {"smollm2-135m": 4, "qwen2.5-0.5b": 2, "llama-3.2-1b": 1}
HERE = os.path.dirname(os.path.abspath(__file__))


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("python")
    parser.add_argument("--shapes", default=",".join(BATCH))
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json")
    o = parser.parse_args()
    if o.rounds * o.steps < 5:
        parser.error("a median of fewer than 5 steps says little: raise --rounds or --steps")
    return o


def run(command):
    """The JSON line of a process; None and its last words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    print(f"{command[1]}: {words[0]}", file=sys.stderr)
    return None


def ffwd(o, shape, dtype, batch):
    return run([f"{o.build}/ffwd", "bench", "--shape", shape, "--device", "cpu", "--dtype", dtype,
                "--seq", str(o.seq), "--batch", str(batch), "--rank", str(o.rank),
                "--steps", str(o.steps), "--threads", str(o.threads)])


def peft(o, shape, dtype, batch):
    return run([o.python, f"{HERE}/peft_step.py", shape, dtype, str(o.seq), str(batch),
                str(o.rank), str(o.steps), str(o.threads)])


def median_of(runs):
    """Median step and highest memory of several runs; None if one failed."""
    if any(r is None for r in runs):
        return None
    return {"step_ms": statistics.median(ms for r in runs for ms in r["step_ms_each"]),
            "peak_bytes": max(r["peak_bytes"] for r in runs)}


def compare(o, shape, dtype):
    batch = o.batch or BATCH.get(shape, 1)
    ours, theirs = [], []
    for _ in range(o.rounds):
        ours.append(ffwd(o, shape, dtype, batch))
        theirs.append(peft(o, shape, dtype, batch))
    a, b = median_of(ours), median_of(theirs)
    tokens = o.seq * batch
    row = {"shape": shape, "dtype": dtype, "seq": o.seq, "batch": batch, "rank": o.rank,
           "threads": o.threads, "steps": o.rounds * o.steps}
    if a:
        peak = statistics.median(r["gemm_peak_tflops"] for r in ours)
        tflops = ours[0]["model_tflops"] * ours[0]["step_ms"] / a["step_ms"]
        row |= {"ffwd_tokens_per_s": tokens / a["step_ms"] * 1e3, "ffwd_peak_bytes": a["peak_bytes"],
                "gemm_peak_tflops": peak, "mfu": tflops / peak}
    if b:
        row |= {"peft_tokens_per_s": tokens / b["step_ms"] * 1e3, "peft_peak_bytes": b["peak_bytes"]}
    if a and b:
        row |= {"speed_ratio": b["step_ms"] / a["step_ms"],
                "memory_ratio": a["peak_bytes"] / b["peak_bytes"]}
    return row


def cell(row, key, form, scale=1.0):
    return format(row[key] * scale, form) if key in row else "–"


def print_row(row):
    cells = [row["shape"], row["dtype"], str(row["batch"]),
             cell(row, "ffwd_tokens_per_s", ".0f"), cell(row, "peft_tokens_per_s", ".0f"),
             cell(row, "speed_ratio", ".2f"), cell(row, "gemm_peak_tflops", ".0f", 1e3),
             cell(row, "mfu", ".0%"), cell(row, "ffwd_peak_bytes", ".2f", 1e-9),
             cell(row, "peft_peak_bytes", ".2f", 1e-9), cell(row, "memory_ratio", ".2f")]
    print("| " + " | ".join(cells) + " |", flush=True)


def processor():
    with open("/proc/cpuinfo") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def main():
    o = options()
    commit = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip()
    load = os.getloadavg()[0]
    print(f"{processor()}, {o.threads} threads, load {load:.1f} at the start; commit {commit}; "
          f"sequence {o.seq}, rank {o.rank}, medians of {o.rounds * o.steps} steps\n")
    print("| shape | type | batch | ffwd tok/s | PEFT tok/s | ratio | products GFLOP/s | MFU "
          "| ffwd GB | PEFT GB | ratio |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    rows = []
    for shape in o.shapes.split(","):
        for dtype in o.dtypes.split(","):
            rows.append(compare(o, shape, dtype))
            print_row(rows[-1])
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"processor": processor(), "commit": commit, "load": load, "rows": rows}, f,
                      indent=1)
            f.write("\n")
    return 0 if all("speed_ratio" in r for r in rows) else 1


sys.exit(main())
