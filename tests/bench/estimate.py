"""How honest estimated_finish is with the real engine: jobs with Fast Forward on, sampled while they
run, against when they ended. One JSON line a job: the largest error after the first tenth, as a
share of the whole time, and the error at some points of it; exit status 1 if one is over 15 %.
On a machine that does other work at the same time, the error is that of the machine.
usage: tests/bench/estimate.py BUILD_DIR [JOB...]"""
import json
import os
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "http"))
import harness  # noqa: E402

EXAMPLES = os.path.join(here, "..", "..", "examples")
MOST = 0.15


def job(train, valid, batch, epochs, **more):
    return train, valid, {"method": {"type": "supervised", "supervised": {"hyperparameters": {
        "batch_size": batch, "n_epochs": epochs}}}, "seed": 3, **more}


JOBS = {
    "defaults": job("orders-train.jsonl", "orders-valid.jsonl", "auto", 12),
    "fixed_rate": job("orders-train.jsonl", "orders-valid.jsonl", 4, 4,
                   training={"learning_rate": 0.001}),
    "no_validation_file": job("sums.jsonl", None, 2, 100),
    "linear_search": job("orders-train.jsonl", "orders-valid.jsonl", 8, 8,
                         fast_forward={"search": "linear"}),
    "evaluations": job("orders-train.jsonl", "orders-valid.jsonl", 4, 4,
                       training={"eval_interval": 25, "checkpoint_interval": 50}),
    "without": job("orders-train.jsonl", "orders-valid.jsonl", 4, 4,
                   fast_forward={"enabled": False}),
}


def read(name):
    with open(os.path.join(EXAMPLES, "data", name), encoding="utf-8") as f:
        return f.read()


def watch(s, id):
    """(seconds since the start, seconds until the told end) while it runs; its length."""
    told, begin = [], time.time()
    while (j := s.job(id))["status"] == "running":
        if j["estimated_finish"]:
            told.append((time.time() - begin, j["estimated_finish"] - begin))
        time.sleep(0.1)
    assert j["status"] == "succeeded", j
    return told, time.time() - begin


def body_of(s, name):
    train, valid, more = JOBS[name]
    body = {"model": "ffwd-tiny", "training_file": s.upload(read(train)), **more}
    return {**body, "validation_file": s.upload(read(valid))} if valid else body


def serve():
    return harness.Server(engine=os.path.join(harness.BUILD, "ffwd"),
                          args=["--device", "cpu", "--threads", "1"],
                          models=os.path.join(EXAMPLES, "models"))


def run(s, name):
    a = s.post("/v1/fine_tuning/jobs", body_of(s, name))
    assert a.status == 200, a.body
    id = a.json()["id"]
    s.running(id)
    told, whole = watch(s, id)
    # Whole seconds on both sides: half a second of an error is none of the estimate's.
    wrong = [(t / whole, (at - whole) / whole) for t, at in told if t > 0.1 * whole]
    most = max((max(abs(e) - 0.5 / whole, 0) for _, e in wrong), default=1)
    at = {f"{p} %": round(min(wrong, key=lambda x: abs(x[0] - p / 100))[1], 3)
          for p in (10, 20, 30, 50, 75, 90)} if wrong else {}
    print(json.dumps({"bench": "estimate", "job": name, "seconds": round(whole, 1),
                      "largest_error": round(most, 3), "error_at": at}), flush=True)
    return most <= MOST


def main():
    harness.BUILD = os.path.abspath(sys.argv[1])
    s = serve()
    try:
        return not all([run(s, name) for name in sys.argv[2:] or JOBS])
    finally:
        harness.stop_all()


if __name__ == "__main__":
    sys.exit(main())
