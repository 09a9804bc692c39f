#!/usr/bin/env python3
"""The loss along the last step, measured from outside: adapters w + tau · d are written and given to `ffwd eval`.

    python3 tests/bench/fast_forward/along.py BUILD_DIR > along.json

Plain runs on the instruction task with a checkpoint after each step; w is the adapter after a step, d what the step added.
The rows are the 32 that Fast Forward would measure on. Output: {"curves": [{"rate", "step", "points": [[tau, loss], …]}]}.
"""

import array
import json
import pathlib
import subprocess
import sys
import tempfile

import tasks
from bench import HELD, NEOX, ROOT

RATES, STEPS = [1e-4, 1e-3, 5e-3], [6, 30]
REACH = 0.03  # tau · rate at most


def read(path):
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    values = array.array("f")
    values.frombytes(raw[start:])
    return raw[:start], values


def loss(ffwd, adapter, rows):
    done = subprocess.run([ffwd, "eval", "--model", str(ROOT / NEOX), "--adapter", str(adapter), "--data", str(rows), "--device",
                           "cpu", "--dtype", "f32", "--threads", "1"], stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["total"]["loss"]


def main():
    ffwd = str(pathlib.Path(sys.argv[1]).resolve() / "ffwd")
    curves = []
    with tempfile.TemporaryDirectory(prefix="ffwd-along-") as folder:
        work = pathlib.Path(folder)
        tasks.make(work)
        rows = work / "rows.jsonl"
        rows.write_text("".join((work / "instruction-valid.jsonl").read_text().splitlines(True)[:HELD]))
        for rate in RATES:
            config, out = work / "config.json", work / f"run-{rate:g}"
            config.write_text(json.dumps({
                "seed": 1, "hyperparameters": {"batch_size": 16, "n_epochs": 10}, "fast_forward": {"enabled": False},
                "training": {"learning_rate": rate, "lr_schedule": "constant", "max_steps": max(STEPS), "train_on": "response",
                             "checkpoint_interval": 1}}))
            subprocess.run([ffwd, "train", "--model", str(ROOT / NEOX), "--train", str(work / "instruction-train.jsonl"),
                            "--config", str(config), "--out", str(out), "--device", "cpu", "--dtype", "f32", "--threads", "1"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            for step in STEPS:
                last = out / f"checkpoints/step-{step}"
                _, before = read(out / f"checkpoints/step-{step - 1}/adapter_model.safetensors")
                header, after = read(last / "adapter_model.safetensors")
                points = []
                for part in range(13):
                    tau = round(REACH / rate * (part / 12) ** 2, 2)
                    moved = array.array("f", (w + tau * (w - v) for v, w in zip(before, after)))
                    (last / "adapter_model.safetensors").write_bytes(header + moved.tobytes())
                    points.append([tau, loss(ffwd, last, rows)])
                curves.append({"rate": rate, "step": step, "points": points})
                print(f"rate {rate:g}, step {step}", file=sys.stderr, flush=True)
    print(json.dumps({"curves": curves}))


if __name__ == "__main__":
    main()
