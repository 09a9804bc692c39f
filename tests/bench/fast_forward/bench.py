#!/usr/bin/env python3
"""What Fast Forward saves, by the paper's protocol: a plain run, its best held-out loss, and the FLOPs after which runs
with Fast Forward have that loss; both see the same rows in the same order.

    python3 tests/bench/fast_forward/bench.py BUILD_DIR [--suite short|long] [--cases NAMES] [--times] [--out FILE]
    python3 tests/bench/fast_forward/bench.py --merge FILE... [--out FILE]
    python3 tests/bench/fast_forward/bench.py BUILD_DIR --model DIR --train FILE [--valid FILE] [--name NAME]
                                              [--settings FILE] [--seeds 0,1,2] [--arms plain,auto,linear,paper]
                                              [--rates 1e-4,auto] [--constant RATES] [--linear RATES]
                                              [--batch N] [--steps N [--points N]] [--rank N] [--dtype bf16|f32]

The suites use the project's own models and the tasks of tasks.py. With --model, --settings is one of settings/*.json,
or any file with {"config": body of a create request}; without --valid the last 128 rows of the training file are held out.
Every arm starts at each of --rates (constant, if the settings name no schedule); --constant and --linear are rates of more
plain runs, among which the best is looked for. rows.py makes training files of texts. --merge takes medians over the files
of one --name.

A run is measured on held-out rows every few steps; those evaluations are in no FLOP count, as in the paper. The rows
that Fast Forward measures on are in neither arm's loss. Both accountings are given: `lora`, a training step is two
forward passes (what LoRA costs), and `paper`, it is three. Seconds of a curve are wall-clock time with the evaluations.
With --times both runs of a pair at the same rate are made again without evaluations, up to the step at which the loss was
reached, for their processor time. Output: JSON with every run's curve and stages, written after each task.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import tasks

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
HELD = 32  # rows that Fast Forward measures on
OWN_VALID = 128  # rows held out of a training file without a validation file
LLAMA, NEOX = "examples/models/ffwd-tiny", "examples/models/ffwd-tiny-neox"

# name, model, batch, steps, plain rates, arms: (search, start rates, schedule). The best constant rate is near 0.01.
SHORT = [
    ("paper's regime", NEOX, 64, 30, {"constant": [1e-4]}, [("auto", [1e-4], "constant")]),
    ("near the best rate", NEOX, 16, 60, {"constant": [5e-3]}, [("auto", [5e-3], "constant")]),
]
LONG = [
    ("paper's regime", NEOX, 64, 30, {"constant": [1e-4, 3.3e-4]}, [("auto", [1e-4, 3.3e-4], "constant")]),
    ("searches", NEOX, 64, 30, {"constant": [1e-4]},
     [("auto", [1e-4], "constant"), ("linear", [1e-4], "constant"), ("paper", [1e-4], "constant")]),
    ("rates", NEOX, 16, 40, {"constant": [1e-4, 1e-3, 5e-3, 1e-2, 2e-2, 1e-1], "linear": [1e-2, 2e-2]},
     [("auto", [1e-5, 1e-4, 1e-3, 5e-3, 1e-2, 1e-1], "constant")]),
    ("high rates", NEOX, 16, 40, {"constant": [2.5e-2, 5e-2]}, [("auto", [2.5e-2, 5e-2], "constant")]),
    ("batch 4", NEOX, 4, 150, {"constant": [1e-4, 5e-3, 1e-2, 1e-1], "linear": [5e-3, 1e-2, 2e-2]},
     [("auto", [1e-4, 5e-3, 1e-2, 1e-1], "constant")]),
    ("batch 64", NEOX, 64, 30, {"constant": [5e-3, 1e-2, 2e-2]}, [("auto", [5e-3], "constant")]),
    ("batch 512", NEOX, 512, 8, {"constant": [1e-4]}, [("auto", [1e-4], "constant")]),
    ("Llama", LLAMA, 16, 60, {"constant": [1e-4, 3e-3, 6e-3]}, [("auto", [1e-4, 3e-3], "constant")]),
]


class Bench:
    def __init__(self, build, work, threads, dtype=None):
        self.ffwd, self.work = pathlib.Path(build).resolve() / "ffwd", pathlib.Path(work)
        self.options = ["--threads", str(threads), *(["--dtype", dtype] if dtype else [])]

    def command(self, model, train, valid, config):
        plain = not config["fast_forward"]["enabled"]
        rows = pathlib.Path(valid).read_text().splitlines(True)
        held = self.work / "valid.jsonl"
        held.write_text("".join(rows[HELD:] if plain else rows))
        settings, out = self.work / "config.json", self.work / "out"
        settings.write_text(json.dumps(config))
        subprocess.run(["rm", "-rf", str(out)], check=True)
        return [str(self.ffwd), "train", "--model", str(model), "--train", str(train), "--valid", str(held),
                "--config", str(settings), "--out", str(out), *self.options]

    def processor_seconds(self, model, train, valid, config, last):
        """Processor time from the first event to that of step `last` and its stage, without evaluations of the loss."""
        config = json.loads(json.dumps(config))
        config["training"]["eval_interval"] = 1000000
        if last == config["training"].get("max_steps"):  # there the end of the run evaluates it
            config["training"]["max_steps"] += 1
        first = now = None
        with subprocess.Popen(self.command(model, train, valid, config), stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                data = json.loads(line).get("data") or {}
                if data.get("step", 0) > last and "train_loss" in data:
                    break
                fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
                now = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                first = now if first is None else first
            child.kill()
        return now - first

    def run(self, model, train, valid, config):
        """Curve [(step, training FLOPs, Fast Forward FLOPs, seconds, loss)] and stages of one run."""
        done = subprocess.run(self.command(model, train, valid, config), stdout=subprocess.PIPE, text=True)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode == 21:  # a rate so high that nothing is finite is a result too
            return {"status": "diverged", "curve": [], "stages": []}
        if done.returncode != 0:
            raise SystemExit(f"bench: ffwd train: {done.returncode}: {events[-1]['message'] if events else ''}")
        data = [e["data"] for e in events if e.get("data")]
        stages = [dict(d["fast_forward"], step=d["step"]) for d in data if "fast_forward" in d]
        each = data[-1]["flops"]["fast_forward"] / max(1, sum(s["evaluations"] for s in stages))
        curve, rates = [], []
        for d in data:
            if "train_loss" not in d:
                continue
            rates.append(d["learning_rate"])
            if "full_valid_loss" in d:
                search = each * sum(s["evaluations"] for s in stages if s["step"] <= d["step"])
                curve.append((d["step"], d["flops"] - search, search, d["seconds"], d["full_valid_loss"]))
        return {"status": "succeeded", "ended": data[-1]["steps"], "curve": curve, "stages": stages, "rates": rates,
                "flops": data[-1]["flops"], "seconds": data[-1]["seconds"]}


def config_of(search, rate, schedule, batch, steps, seed, train_on, rank=16):
    """None for search: a plain run."""
    ff = {"enabled": search is not None, "validation_examples": HELD, **({"search": search} if search else {})}
    return {"seed": seed, "hyperparameters": {"batch_size": batch, "n_epochs": 100}, "lora": {"rank": rank}, "fast_forward": ff,
            "training": {"learning_rate": rate, "lr_schedule": schedule, "max_steps": steps, "train_on": train_on,
                         "eval_interval": max(1, steps // 40)}}


def cost(point, accounting):
    return point[1] * (1.5 if accounting == "paper" else 1.0) + point[2]


def best(run):
    return min((p[4] for p in run["curve"] if p[4] is not None), default=None)


def lowest(run):
    """best, to compare runs by: infinite where no loss was finite."""
    return math.inf if best(run) is None else best(run)


def end(run):
    """The loss after the last step; infinite where it was not finite, which a curve leaves out."""
    last = run["curve"][-1] if run["curve"] else (None,) * 5
    return last[4] if last[0] == run.get("ended", run["steps"]) and last[4] is not None else math.inf


def reach(run, loss):
    """First point of the curve with that loss, or None."""
    return next((p for p in run["curve"] if p[4] is not None and p[4] <= loss), None)


def saving(plain, fast):
    """Ratios fast / plain to the plain run's best loss; None where it is not reached."""
    target = best(plain)
    if target is None:
        return None
    a, b = reach(plain, target), reach(fast, target)
    out = {"target_loss": target, "reached": b is not None}
    if b is not None:
        out |= {f"flops_{k}": cost(b, k) / cost(a, k) for k in ("lora", "paper")}
    return out


def time_pairs(bench, made, model, train, valid):
    """Of the runs of a case, task and seed: those at the same rate as a plain run."""
    for fast, config in made:
        for plain, plain_config in made:
            same = all(fast[k] == plain[k] for k in ("rate", "schedule")) and plain["arm"] == "plain" != fast["arm"]
            if same and fast["curve"] and plain["curve"] and reach(fast, best(plain)) is not None:
                ends = [(fast, config, reach(fast, best(plain))[0]), (plain, plain_config, reach(plain, best(plain))[0])]
                fast["processor_seconds"] = [bench.processor_seconds(model, train, valid, c, last) for _, c, last in ends]


def measure(bench, label, files, arms, config, times, log):
    """A run of each arm (search, rate, schedule) on the same model, rows and seed."""
    made = []
    for search, rate, schedule in arms:
        own = config(search, rate, schedule)
        run = bench.run(*files, own) | label | {"arm": search or "plain", "rate": rate, "schedule": schedule}
        made.append((run, own))
        print(f"{label['case']}, {label['task']}, seed {label['seed']}, {run['arm']} {rate} {schedule}: {best(run)}", file=log, flush=True)
    if times:
        time_pairs(bench, made, *files)
    return [run for run, _ in made]


def suite(bench, cases, seeds, names, times, log):
    """All runs so far, after each task."""
    data = bench.work / "tasks"
    tasks.make(data)
    runs = []
    for case, model, batch, steps, plain, fast in cases:
        arms = [(None, rate, schedule) for schedule, rates in plain.items() for rate in rates]
        arms += [(search, rate, schedule) for search, rates, schedule in fast for rate in rates]
        for seed in seeds:
            for task in names:
                label = {"case": case, "model": pathlib.Path(model).name, "task": task, "seed": seed, "batch": batch, "steps": steps}
                files = (ROOT / model, data / f"{task}-train.jsonl", data / f"{task}-valid.jsonl")
                runs += measure(bench, label, files, arms, lambda search, rate, schedule: config_of(
                    search, rate, schedule, batch, steps, seed, tasks.TRAIN_ON[task]), times, log)
                yield runs


def median(values):
    """None counts as never."""
    values = sorted(float("inf") if v is None else v for v in values)
    m = statistics.median_high(values) if values else None
    return None if m in (None, float("inf")) else round(m, 4)


def worst(values):
    return None if None in values else round(max(values), 4)


def reached(values):
    return f"{sum(v is not None for v in values)}/{len(values)}"


def order_of(key):
    return tuple((isinstance(part, str), part) for part in key)


def fraction(run):
    total = run["flops"]["training"] + run["flops"]["fast_forward"] if run["curve"] else 1.0
    return run["flops"]["fast_forward"] / total if run["curve"] else 0.0


def summary(runs):
    """One line for each case, search and start rate: medians over tasks and seeds."""
    lines = []
    groups = {}
    for r in runs:
        groups.setdefault((r["case"], r["task"], r["seed"]), []).append(r)
    keys = sorted({(r["case"], r["arm"], r["rate"], r["schedule"]) for r in runs if r["arm"] != "plain"}, key=order_of)
    for case, arm, rate, schedule in keys:
        same, paper, tuned, above, last, share, times = [], [], [], [], [], [], []
        for (c, _, _), group in groups.items():
            if c != case:
                continue
            plain = [r for r in group if r["arm"] == "plain" and r["curve"]]
            for run in (r for r in group if (r["arm"], r["rate"], r["schedule"]) == (arm, rate, schedule)):
                share.append(fraction(run))
                if "processor_seconds" in run:
                    times.append(run["processor_seconds"][0] / run["processor_seconds"][1])
                for p in plain:
                    if (p["rate"], p["schedule"]) == (rate, schedule):
                        s = saving(p, run)
                        same.append(s["flops_lora"] if s and s["reached"] else None)
                        paper.append(s["flops_paper"] if s and s["reached"] else None)
                constant = [p for p in plain if p["schedule"] == "constant" and best(p) is not None]
                if constant:
                    goal = min(constant, key=lowest)
                    s = saving(goal, run)
                    tuned.append(s["flops_lora"] if s["reached"] else None)
                    above.append(end(run) / best(goal) - 1 if math.isfinite(end(run)) else None)
                linear = [p for p in plain if p["schedule"] == "linear" and math.isfinite(end(p))]
                if linear:
                    goal = min(linear, key=end)
                    budget = cost(goal["curve"][-1], "lora") * 1.0001
                    ends = [p[4] for p in run["curve"] if cost(p, "lora") <= budget]
                    last.append(ends[-1] / end(goal) - 1 if ends and ends[-1] is not None else None)
        line = {"case": case, "search": arm, "start_rate": rate, "schedule": schedule, "runs": len(share),
                "stages_share": median(share)}
        if same:
            line |= {"flops_to_plain_of_that_rate": median(same), "worst": worst(same), "reached": reached(same),
                     "the_same_as_the_paper_counts": median(paper)}
        if times:
            line["processor_time_to_plain_of_that_rate"] = median(times)
        if tuned:
            line |= {"flops_to_best_constant": median(tuned), "reached_best_constant": reached(tuned),
                     "loss_above_best_constant_at_the_end": median(above), "worst_above_best_constant": worst(above)}
        if last:
            line |= {"loss_above_best_linear_at_equal_flops": median(last), "worst_above_best_linear": worst(last)}
        lines.append(line)
    return lines


def own_files(bench, a):
    """Training and validation rows; a part of the former where there are none of the latter."""
    if a.valid:
        return a.train, a.valid
    rows = a.train.read_text().splitlines(True)
    if len(rows) < 2 * OWN_VALID:
        raise SystemExit(f"bench: {a.train} has {len(rows)} rows: fewer than {2 * OWN_VALID}, and no --valid")
    train, valid = bench.work / "own-train.jsonl", bench.work / "own-valid.jsonl"
    train.write_text("".join(rows[:-OWN_VALID]))
    valid.write_text("".join(rows[-OWN_VALID:]))
    return train, valid


def own_base(a):
    """The settings with what the command line says in their place."""
    base = json.loads((a.settings or HERE / "settings/default.json").read_text())["config"]
    for part, key, value in (("hyperparameters", "batch_size", a.batch), ("lora", "rank", a.rank), ("training", "max_steps", a.steps)):
        if value is not None:
            base.setdefault(part, {})[key] = value
    if a.steps:
        base["training"]["eval_interval"] = max(1, a.steps // a.points)
        base.setdefault("hyperparameters", {}).setdefault("n_epochs", 100)
    return base


def own_arms(a, training):
    schedule = training.get("lr_schedule", "constant" if a.rates else "linear")
    rates = a.rates or [training.get("learning_rate", "auto")]
    arms = [(None if arm == "plain" else arm, rate, schedule) for arm in a.arms.split(",") for rate in rates]
    arms += [(None, rate, name) for name, more in (("constant", a.constant), ("linear", a.linear)) for rate in more]
    return list(dict.fromkeys(arms))


def own(bench, a, log):
    """All runs so far, after each seed."""
    train, valid = own_files(bench, a)
    if len(valid.read_text().splitlines()) <= HELD:
        raise SystemExit(f"bench: {valid} has no more than the {HELD} rows that Fast Forward measures on")
    base, runs = own_base(a), []
    for seed in map(int, a.seeds.split(",")):
        def config(search, rate, schedule):
            made = json.loads(json.dumps(base)) | {"seed": seed}
            made.setdefault("training", {}).update(learning_rate=rate, lr_schedule=schedule)
            made.setdefault("fast_forward", {}).update(enabled=search is not None, validation_examples=HELD, **({"search": search} if search else {}))
            return made
        label = {"case": a.name, "model": a.model.name, "task": a.train.name, "seed": seed,
                 "batch": base.get("hyperparameters", {}).get("batch_size"), "steps": a.steps}
        runs += measure(bench, label, (a.model, train, valid), own_arms(a, base.get("training", {})), config, a.times, log)
        yield runs


def commit():
    return subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()


def machine():
    """The processor's name and how many of it."""
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names)} CPUs"


def finish(result, runs, out):
    result["summary"] = summary(runs)
    for line in result["summary"]:
        print(json.dumps(line))
    if out:
        out.write_text(json.dumps(result | {"runs": runs}) + "\n")


def rates_of(text):
    return [part if part == "auto" else float(part) for part in text.split(",")]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("build", nargs="?")
    ap.add_argument("--merge", type=pathlib.Path, nargs="+", help="no runs: the summary of those in these files")
    ap.add_argument("--suite", choices=["short", "long"], default="short")
    ap.add_argument("--cases", help="only these cases of the suite, by commas")
    ap.add_argument("--tasks", default=",".join(tasks.TASKS))
    ap.add_argument("--seeds")
    ap.add_argument("--times", action="store_true", help="processor time of pairs; twice the work")
    ap.add_argument("--out", type=pathlib.Path)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--model", type=pathlib.Path)
    ap.add_argument("--train", type=pathlib.Path)
    ap.add_argument("--valid", type=pathlib.Path)
    ap.add_argument("--settings", type=pathlib.Path)
    ap.add_argument("--name", default="own")
    ap.add_argument("--arms", default="plain,auto,linear")
    for name in ("rates", "constant", "linear"):
        ap.add_argument(f"--{name}", type=rates_of, default=[])
    for name in ("batch", "steps", "rank"):
        ap.add_argument(f"--{name}", type=int)
    ap.add_argument("--points", type=int, default=40, help="of a curve, with --steps")
    ap.add_argument("--dtype", choices=["bf16", "f32"])
    a = ap.parse_args()
    if (a.model is None) != (a.train is None):
        ap.error("--model and --train go together")
    a.seeds = a.seeds or ("1,2,3" if a.suite == "long" or a.model else "1")
    if (a.merge is None) == (a.build is None):
        ap.error("either BUILD_DIR or --merge")
    if a.merge:
        parts = [json.loads(f.read_text()) for f in a.merge]
        finish(parts[0] | {"summary": None}, [r for part in parts for r in part["runs"]], a.out)
        return
    runs = []
    result = {"bench": "fast_forward", "suite": "own" if a.model else a.suite, "commit": commit(), "machine": machine()}
    with tempfile.TemporaryDirectory(prefix="ffwd-bench-") as work:
        bench = Bench(a.build, work, a.threads, a.dtype)
        cases = [c for c in (LONG if a.suite == "long" else SHORT) if a.cases is None or c[0] in a.cases.split(",")]
        parts = own(bench, a, sys.stderr) if a.model else suite(
            bench, cases, [int(s) for s in a.seeds.split(",")], a.tasks.split(","), a.times, sys.stderr)
        for runs in parts:
            if a.out:
                a.out.write_text(json.dumps(result | {"runs": runs}) + "\n")
    finish(result, runs, a.out)


if __name__ == "__main__":
    main()
