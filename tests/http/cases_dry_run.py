"""dry_run: a report and an estimate, and no job, whatever becomes of the process or the client."""
import json
import os
import threading
import time

from cases_engine import JOB, read, server
from harness import ROW, Server, alone, request, test, until

JOBS = "/v1/fine_tuning/jobs"


def body(file, **more):
    return {"model": "tiny", "training_file": file, "dry_run": True, **more}


def fake(s, word):
    return s.upload(ROW + json.dumps({"messages": [], "fake": word}, separators=(",", ":")) + "\n")


def checks(s):
    """Process ids of checks that the server runs."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except (OSError, IndexError):
            continue
        if parent == s.process.pid and b"check" in words:
            found.append(int(pid))
    return found


def ask_in_background(s, value):
    c = s.connect(60)
    c.send(request("POST", JOBS, json.dumps(value).encode()))
    return c


@test
def dry_run_reports_and_makes_no_job():
    s = Server()
    running = s.create("steps100000-ms5")
    s.running(running)
    file = s.upload()
    for extra in ({}, {"validation_file": file}):
        a = s.post(JOBS, body(file, lora={"rank": 4}, **extra))
        assert a.status == 200, a.body
        j = a.json()
        assert j["object"] == "fine_tuning.job.estimate" and j["valid"] and j["message"] is None, j
        assert j["training"]["rows"] == 12 and j["estimate"]["total_steps"] == 12, j
        assert (j["validation"] is None) == (not extra), j
        asked = j["estimate"]["arguments"]
        assert "--measure" in asked and "--sample-bytes" in asked, asked
        assert json.loads(asked[asked.index("--request") + 1])["lora"]["rank"] == 4
    assert len(s.get(JOBS).json()["data"]) == 1, "no job was made"
    a = s.post(JOBS, body(file), headers=[("Idempotency-Key", "k")])
    assert a.status == 200
    assert s.post(JOBS, {"model": "tiny", "training_file": file},
                  headers=[("Idempotency-Key", "k")]).json()["object"] == "fine_tuning.job"


@test
def dry_run_of_bad_files_names_the_lines():
    s = Server()
    good, bad = s.upload(), s.upload(ROW + "no json\n")
    j = s.post(JOBS, body(bad)).json()
    assert not j["valid"] and "line 2" in j["message"] and j["estimate"] is None, j
    assert j["training"]["errors"][0]["line"] == 2
    j = s.post(JOBS, body(good, validation_file=bad)).json()
    assert not j["valid"] and j["training"]["ok"] and not j["validation"]["ok"], j
    for wrong, param in (({"model": "none"}, "model"), ({"training_file": "file-none"}, "training_file"),
                         ({"lora": {"rank": 0}}, "lora.rank"), ({"dry_run": 1}, "dry_run")):
        a = s.post(JOBS, {**body(good), **wrong})
        assert a.status == 400 and a.error["param"] == param, (wrong, a.body)


@test
def dry_run_whose_process_fails():
    s = Server(config={"limits": {"dry_run_seconds": 1}})
    for word, status, code in (("crash", 500, "check_failed"), ("nonsense", 500, "check_failed"),
                               ("hang", 504, "dry_run_timeout")):
        a = s.post(JOBS, body(fake(s, word)))
        assert a.status == status and a.error["code"] == code, (word, a.body)
        assert a.headers["x-should-retry"] == "false"
    assert s.post(JOBS, body(s.upload())).status == 200
    until(lambda: not checks(s))


@test
@alone
def dry_run_ends_with_its_client_and_with_the_server():
    s = Server()
    hang = fake(s, "hang")
    clients = [ask_in_background(s, body(hang)) for _ in range(3)]
    until(lambda: len(checks(s)) == 2, pause=0.05)
    assert s.get("/healthz").status == 200
    for c in clients[:2]:
        c.close()
    until(lambda: len(checks(s)) == 1, pause=0.05)
    clients[2].close()
    until(lambda: not checks(s), pause=0.05)
    assert s.post(JOBS, body(s.upload())).status == 200, "the next one has its turn"
    c = ask_in_background(s, body(hang))
    until(lambda: checks(s))
    start = time.time()
    assert s.stop() == 0 and time.time() - start < 8
    answer = c.answer()
    assert answer.status == 503, answer.body


@test
@alone
def dry_runs_at_once_are_bounded_and_all_answered():
    s = Server()
    slow = fake(s, "slow")
    clients = [ask_in_background(s, body(slow)) for _ in range(20)]
    until(lambda: len(checks(s)) == 2, pause=0.01)
    most = 0
    answers = []

    def collect():
        for c in clients:
            answers.append(c.answer())
    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    while reader.is_alive():
        most = max(most, len(checks(s)))
        time.sleep(0.02)
    reader.join()
    assert most <= 2, most
    statuses = sorted(a.status for a in answers)
    assert statuses == [200] * 16 + [429] * 4, statuses
    late = next(a for a in answers if a.status == 429)
    assert late.error["code"] == "too_many_dry_runs" and int(late.headers["retry-after"]) > 0


@test
def engine_dry_run_says_what_the_job_then_does():
    s = server()
    files = {"training_file": s.upload(read("orders-train.jsonl")),
             "validation_file": s.upload(read("orders-valid.jsonl"))}
    job = {"model": "ffwd-tiny", **files, **JOB}
    a = s.post(JOBS, {**job, "dry_run": True})
    assert a.status == 200, a.body
    told = a.json()
    e = told["estimate"]
    assert e["exact"] and e["seconds"] > 0 and e["memory_bytes"]["total"] > 1e6, e
    assert e["seconds_basis"].startswith("measured"), e
    made = s.post(JOBS, job).json()["id"]
    j = s.ended(made, 120)
    assert j["status"] == "succeeded", j
    assert j["hyperparameters"] == e["hyperparameters"]
    assert j["ffwd"]["progress"]["total_steps"] == e["total_steps"]
    ratio = j["ffwd"]["flops"]["training"] / e["flops"]["training"]
    assert 0.9 < ratio < 1.1, ratio
    kept = j["ffwd"]["data"]
    assert kept["training"] == told["training"] and kept["validation"] == told["validation"]
    assert kept["estimate"]["total_steps"] == e["total_steps"]
    assert "data" not in s.get(JOBS).json()["data"][0]["ffwd"], "lists leave it out"
    again = s.post(JOBS, {**job, "dry_run": True}).json()["estimate"]
    assert again["seconds_basis"].startswith("earlier"), again
    s.stop()
    s.start()
    after = s.post(JOBS, {**job, "dry_run": True}).json()["estimate"]
    assert after["seconds_basis"].startswith("earlier"), after
    assert 0.9 < after["seconds"] / again["seconds"] < 1.1, (after, again)
    tuned = {k: v for k, v in job.items() if k != "lora"}
    tuned["model"] = j["fine_tuned_model"]
    a = s.post(JOBS, {**tuned, "dry_run": True}).json()
    assert a["estimate"]["trainable_parameters"] == e["trainable_parameters"], a
    wrong = {**job, "training": {**JOB["training"], "max_seq_len": 100000}}
    a = s.post(JOBS, {**wrong, "dry_run": True}).json()
    assert not a["valid"] and "max_seq_len" in a["message"], a
    j = s.ended(s.post(JOBS, wrong).json()["id"])
    assert j["error"]["param"] == "training.max_seq_len", j
