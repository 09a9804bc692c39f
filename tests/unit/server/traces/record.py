#!/usr/bin/env python3
"""Records real runs for tests/unit/server/test_pace.c: NAME.json has the plan of the job (a dry run's)
and of each step the seconds that the engine's one thread has computed since its start, so that
nothing else on the machine is in it. usage: record.py BUILD_DIR [JOB of tests/bench/estimate.py...]
"""
import json
import os
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "..", "bench"))
import estimate  # noqa: E402
from estimate import EXAMPLES, JOBS, harness  # noqa: E402


def plan(name):
    s = estimate.serve()
    try:
        a = s.post("/v1/fine_tuning/jobs", {**estimate.body_of(s, name), "dry_run": True})
        assert a.status == 200, a.body
        return {k: a.json()["estimate"][k] for k in ("evaluations", "flops")}
    finally:
        harness.stop_all()


def seconds(pid):
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as f:
        return int(f.read().split()[0]) / 1e9


def run(name):
    train, valid, body = JOBS[name]
    rows, now = [], 0
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.json")
        with open(config, "w", encoding="utf-8") as f:
            json.dump(body, f)
        data = os.path.join(EXAMPLES, "data")
        command = [os.path.join(harness.BUILD, "ffwd"), "train", "--model",
                   os.path.join(EXAMPLES, "models", "ffwd-tiny"), "--train",
                   os.path.join(data, train), "--out", os.path.join(folder, "out"), "--config",
                   config, "--device", "cpu", "--threads", "1"]
        command += ["--valid", os.path.join(data, valid)] if valid else []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as engine:
            for line in engine.stdout:
                try:
                    now = seconds(engine.pid)
                except (OSError, IndexError):
                    pass  # it has ended
                d = json.loads(line)["data"]
                if "train_loss" in d:
                    rows.append([d["step"], now, d["flops"], "full_valid_loss" in d, 0])
                elif "fast_forward" in d:
                    rows[-1][4] = d["fast_forward"]["flops"]
        assert engine.returncode == 0, engine.returncode
    return rows, now


def main():
    harness.BUILD = os.path.abspath(sys.argv[1])
    for name in sys.argv[2:] or ("defaults", "fixed_rate", "evaluations", "without",
                                 "linear_search"):
        rows, whole = run(name)
        with open(os.path.join(here, name + ".json"), "w", encoding="utf-8") as f:
            f.write(f'{{"estimate":{json.dumps(plan(name))},"whole":{whole:.3f},\n"steps":[\n')
            f.write(",\n".join("[%d,%.3f,%.6g,%d,%.4g]" % tuple(r) for r in rows) + "\n]}\n")


if __name__ == "__main__":
    main()
