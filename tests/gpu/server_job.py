"""A job through ffwd-server on the CUDA device: left alone, and with its worker and the server killed.

Prints one line and exits 0 if both end with the same adapter bytes.
usage: server_job.py FOLDER   (FOLDER holds ffwd, ffwd-server and libffwd-cuda.so)
"""
import json
import os
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "http"))
import harness  # noqa: E402

JOB = {"lora": {"rank": 4}, "seed": 11, "fast_forward": {"validation_examples": 4},
       "training": {"max_steps": 20, "learning_rate": 0.003, "checkpoint_interval": 2},
       "method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 4,
                                                                           "n_epochs": 2}}}}


def create(server):
    with open(os.path.join(ROOT, "examples", "data", "orders-train.jsonl"), encoding="utf-8") as f:
        file = server.upload(f.read())
    answer = server.post("/v1/fine_tuning/jobs",
                         {"model": "ffwd-tiny", "training_file": file, **JOB})
    assert answer.status == 200, answer.body
    return answer.json()["id"]


def finished(server, job):
    end = server.ended(job, 180)
    assert end["status"] == "succeeded", end
    assert "cuda" in json.dumps(end["ffwd"]["device"]), end["ffwd"]
    return server.adapter(job)


def main():
    harness.BUILD = sys.argv[1]
    server = harness.Server(engine=os.path.join(harness.BUILD, "ffwd"),
                            models=os.path.join(ROOT, "examples", "models"),
                            args=["--device", "cuda"])
    try:
        whole = finished(server, create(server))
        job = create(server)
        server.reaches(job, 6, 120)
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        server.reaches(job, 12, 120)
        server.stop(signal.SIGKILL)
        server.start()
        broken = finished(server, job)
    finally:
        server.stop(signal.SIGTERM)
    assert whole == broken, "the adapter of the killed job differs"
    print(f"{len(whole)} bytes, the same with worker and server killed")


main()
