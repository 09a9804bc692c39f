"""The real engine behind the server: the same bytes whatever is killed on the way."""
import json
import os
import random
import signal
import subprocess
import tempfile
import time

import harness
from harness import Server, Skip, alone, test, until

ROOT = os.path.dirname(os.path.dirname(harness.HERE))
DATA = os.path.join(ROOT, "examples", "data")
MODELS = os.path.join(ROOT, "examples", "models")
STEPS = 30
JOB = {"lora": {"rank": 4}, "seed": 11, "fast_forward": {"validation_examples": 3},
       "training": {"max_steps": STEPS, "learning_rate": 0.003, "checkpoint_interval": 4},
       "method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 4,
                                                                           "n_epochs": 2}}}}


def server(**more):
    engine = os.path.join(harness.BUILD, "ffwd")
    if not os.path.exists(os.path.join(MODELS, "ffwd-tiny", "config.json")):
        raise Skip("examples/models/ffwd-tiny is not there")
    if not os.access(engine, os.X_OK) or "san-" in harness.BUILD:
        raise Skip("the engine is not in this build")
    return Server(engine=engine, models=MODELS, args=["--device", "cpu", "--threads", "1"], **more)


def read(name):
    with open(os.path.join(DATA, name), encoding="utf-8") as f:
        return f.read()


def create(s, without=None, **more):
    body = {k: v for k, v in JOB.items() if k != without}
    train, valid = s.upload(read("orders-train.jsonl")), s.upload(read("orders-valid.jsonl"))
    a = s.post("/v1/fine_tuning/jobs", {"model": "ffwd-tiny", "training_file": train,
                                        "validation_file": valid, **body, **more})
    assert a.status == 200, (a.status, a.body)
    return a.json()["id"]


def steps(s, job):
    return [e["data"]["step"] for e in s.events(job) if "train_loss" in e["data"]]


@test
def engine_trains_what_the_command_line_trains():
    s = server()
    job = create(s)
    j = s.ended(job, 120)
    assert j["status"] == "succeeded", j
    assert steps(s, job) == list(range(1, STEPS + 1))
    stages = [e["data"]["fast_forward"] for e in s.events(job) if "fast_forward" in e["data"]]
    want = {"stages": len(stages), "simulated_steps": sum(x["tau"] for x in stages),
            "evaluations": sum(x["evaluations"] for x in stages)}
    totals = j["ffwd"]["fast_forward"]
    assert stages and {k: totals[k] for k in want} == want, (totals, stages)
    assert abs(totals["flops"] / j["ffwd"]["flops"]["fast_forward"] - 1) < 1e-6, j["ffwd"]
    so_far = {e["data"]["step"]: e["data"]["flops"] for e in s.events(job) if "train_loss" in e["data"]}
    at = [e["data"]["step"] for e in s.events(job) if "fast_forward" in e["data"]][-1]
    assert abs(stages[-1]["flops_share"] - totals["flops"] / so_far[at]) < 1e-6, stages
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.json")
        with open(config, "w") as f:
            json.dump(JOB, f)
        out = os.path.join(folder, "out")
        run = subprocess.run([os.path.join(harness.BUILD, "ffwd"), "train", "--model",
                              os.path.join(MODELS, "ffwd-tiny"), "--train",
                              os.path.join(DATA, "orders-train.jsonl"), "--valid",
                              os.path.join(DATA, "orders-valid.jsonl"), "--out", out, "--device",
                              "cpu", "--config", config], capture_output=True, timeout=120)
        assert run.returncode == 0, run.stderr
        with open(os.path.join(out, "adapter", "adapter_model.safetensors"), "rb") as f:
            assert f.read() == s.adapter(job)
    again = create(s, model=j["fine_tuned_model"], without="lora")
    assert s.ended(again, 120)["status"] == "succeeded", s.job(again)
    assert s.adapter(again) != s.adapter(job)


@test
def engine_names_bad_lines():
    s = server()
    bad = s.upload('{"messages":[{"role":"user","content":"a"}]}\n{"messages":7}\n')
    a = s.post("/v1/fine_tuning/jobs", {"model": "ffwd-tiny", "training_file": bad})
    j = s.ended(a.json()["id"])
    assert j["status"] == "failed" and j["error"]["code"] == "invalid_training_file", j
    assert "line 2" in j["error"]["message"], j


@test
def engine_killed_on_the_way_makes_the_same_adapter():
    s = server(config={"limits": {"attempts": 1000}})
    first = create(s)
    assert s.ended(first, 120)["status"] == "succeeded"
    want, chance = s.adapter(first), random.Random(5)
    for how in ("worker", "server", "both", "drain"):
        job = create(s)
        s.running(job)
        for _ in range(2):
            time.sleep(chance.uniform(0.1, 0.7))
            pids = s.workers()
            if how in ("server", "both"):
                s.process.kill()
            for pid in pids if how in ("worker", "both") else ():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if how == "drain":
                assert s.stop() == 0
            if how != "worker":
                s.process.wait()
                s.start()
        j = s.ended(job, 120)
        assert j["status"] == "succeeded", (how, j)
        assert s.adapter(job) == want, how
        assert steps(s, job) == list(range(1, STEPS + 1)), (how, steps(s, job))
    until(lambda: len(s.workers()) == 1)


@test
@alone
def engine_cancels():
    s = server()
    job = create(s, training={**JOB["training"], "max_steps": 5000},
                 method={"type": "supervised",
                         "supervised": {"hyperparameters": {"n_epochs": 100, "batch_size": 4}}})
    s.reaches(job, 3)
    start = time.time()
    s.post(f"/v1/fine_tuning/jobs/{job}/cancel")
    assert s.ended(job)["status"] == "cancelled" and time.time() - start < 10
    assert s.job(job)["fine_tuned_model"] is None
    assert s.get(f"/v1/fine_tuning/jobs/{job}/adapter").status in (400, 404)


@test
def engine_paused_on_the_way_makes_the_same_adapter():
    s, n = server(), 80
    longer = {"training": {**JOB["training"], "max_steps": n},
              "method": {"type": "supervised",
                         "supervised": {"hyperparameters": {"batch_size": 4, "n_epochs": 8}}}}
    first = create(s, **longer)
    assert s.ended(first, 300)["status"] == "succeeded"
    job = create(s, **longer)
    for at in (2, 12):
        s.reaches(job, at, 60)
        s.post(f"/v1/fine_tuning/jobs/{job}/pause")
        j = until(lambda: (j := s.job(job))["status"] == "paused" and j)
        step = j["ffwd"]["progress"]["step"]
        page = s.get(f"/v1/fine_tuning/jobs/{job}/checkpoints").json()["data"]
        assert page[0]["step_number"] == step >= at and page[0]["metrics"]["train_loss"] > 0, page
        assert s.stop() == 0
        s.start()
        assert s.post(f"/v1/fine_tuning/jobs/{job}/resume").status == 200
    j = s.ended(job, 300)
    assert j["status"] == "succeeded" and s.adapter(job) == s.adapter(first), j
    assert steps(s, job) == list(range(1, n + 1)), steps(s, job)
