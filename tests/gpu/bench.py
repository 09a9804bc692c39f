"""LoRA training steps on this machine's CUDA device: ffwd with its own attention kernels and with
cuDNN's, and beside it, in the same run, transformers + PEFT where they are installed. A line for each
shape; JSON lines, as `ffwd bench` printed them, in FOLDER/bench.jsonl. "attention" there is what the
program logged of it: the library's version, and what was left to our own kernels all the same.
Algorithms of products are timed once and kept in FOLDER/algorithms.
usage: bench.py FOLDER [--quick]
"""
import importlib.util
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# shape, tokens of an example, examples of a step, steps
FULL = [("smollm2-135m", 2048, 8, 20), ("qwen2.5-0.5b", 4096, 4, 10), ("llama-3.2-1b", 4096, 4, 10),
        ("pythia-1.4b", 2048, 8, 10), ("llama-3-8b", 4096, 2, 5)]
QUICK = [("smollm2-135m", 1024, 4, 5), ("qwen2.5-0.5b", 1024, 4, 5)]
RANK = 16
ALGORITHMS = {"FFWD_CUDA_ALGORITHMS": os.path.join(sys.argv[1], "algorithms")}


def run(command, seconds, env=None):
    """The JSON object a command printed, or {"error": why}; with what it logged of attention."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=ROOT,
                              check=False, env={**ALGORITHMS, **os.environ, **(env or {})})
    except subprocess.TimeoutExpired:
        return {"error": f"not within {seconds} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return {"error": f"status {done.returncode}: {done.stderr.strip()[-300:]}"}
    found = json.loads(lines[-1])
    if env:
        found["attention"] = [line.split(" cuda.attention ", 1)[1] for line in done.stderr.splitlines()
                              if " cuda.attention " in line]
    return found


def ffwd(folder, shape, seq, batch, steps, seconds, attention):
    return run([os.path.join(folder, "ffwd"), "bench", "--shape", shape, "--device", "cuda",
                "--dtype", "bf16", "--seq", str(seq), "--batch", str(batch), "--rank", str(RANK),
                "--steps", str(steps)], seconds, {"FFWD_CUDA_ATTENTION": attention})


def peft(shape, seq, batch, steps, how, seconds):
    needed = ("torch", "transformers", "peft") + (("flash_attn",) if how == "flash" else ())
    missing = [m for m in needed if not importlib.util.find_spec(m)]
    if missing:
        return {"error": "not installed: " + ", ".join(missing)}
    found = run([sys.executable, os.path.join("tests", "bench", "peft_step.py"), shape, "bf16",
                 str(seq), str(batch), str(RANK), str(steps), "4", "cuda", how], seconds)
    if "error" not in found:
        found["tokens_per_s"] = 1e3 * seq * batch / statistics.median(found["step_ms_each"])
    return found


def shown(result):
    if "error" in result:
        return result["error"]
    return f"{result['tokens_per_s']:.0f} tok/s, {result['peak_bytes'] / 1e9:.1f} GB"


def main():
    folder, quick = sys.argv[1], "--quick" in sys.argv[2:]
    seconds, ok = (60 if quick else 600), True
    with open(os.path.join(folder, "bench.jsonl"), "a", encoding="utf-8") as out:
        for shape, seq, batch, steps in QUICK if quick else FULL:
            ours = {who: ffwd(folder, shape, seq, batch, steps, seconds, who)
                    for who in ("own", "cudnn")}
            ok = ok and all("error" not in r or "asks for cuDNN" in r["error"]
                            for r in ours.values()) and "error" not in ours["own"]
            theirs = {how: peft(shape, seq, batch, steps, how, seconds)
                      for how in (["eager"] if quick else ["eager", "compile", "flash"])}
            out.write(json.dumps({"ffwd": ours, "peft": theirs}) + "\n")
            print(f"{shape:14} {seq}x{batch}: "
                  + "; ".join(f"ffwd, attention by {who} {shown(r)}"
                              + (f", MFU {r['mfu']:.2f}" if "error" not in r else "")
                              for who, r in ours.items()) + "; "
                  + "; ".join(f"PEFT {how} {shown(r)}" for how, r in theirs.items()), flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
