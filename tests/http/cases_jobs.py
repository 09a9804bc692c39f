"""Jobs from validation to their end."""
import json
import os
import signal
import subprocess
import threading
import time

import harness
from harness import FORM, Server, Skip, alone, form, read_stream, request, test, until


def messages(s, job):
    return [e["message"] for e in s.events(job)]


def steps(s, job):
    return [e["data"]["step"] for e in s.events(job) if e["type"] == "metrics"]


def reference(s, **more):
    """The adapter of an undisturbed run."""
    job = s.create(**more)
    assert s.ended(job)["status"] == "succeeded"
    return s.adapter(job)


@test
def job_runs_to_success():
    s = Server()
    job = s.create("steps12")
    j = s.ended(job)
    assert j["status"] == "succeeded" and j["trained_tokens"] == 120, j
    assert j["hyperparameters"]["batch_size"] == 2 and j["finished_at"] >= j["created_at"]
    assert j["fine_tuned_model"].startswith("ft:tiny:") and j["error"] is None
    assert steps(s, job) == list(range(1, 13))
    m = messages(s, job)
    assert m[0].startswith("Created fine-tuning job") and m[1].startswith("Validating")
    assert m[2] == "Files validated, moving job to queued state"
    assert m[3] == "Fine-tuning job started"
    assert m[-1] == "The job has successfully completed"


@test
def bad_files_fail_the_job():
    s = Server()
    good, bad = s.upload(), s.upload('{"messages":[]}\nnot json\n')
    j = s.ended(s.create(file=bad))
    assert j["status"] == "failed" and j["error"]["code"] == "invalid_training_file", j
    assert j["error"]["param"] == "training_file" and "line 2" in j["error"]["message"]
    j = s.ended(s.create(file=good, validation_file=bad))
    assert j["error"]["code"] == "invalid_validation_file", j
    assert j["error"]["param"] == "validation_file"
    j = s.ended(s.create(file=good, validation_file=good))
    assert j["status"] == "succeeded", j


@test
@alone
def progress_and_estimate_while_running():
    s = Server()
    job = s.create("steps200-ms20")
    s.reaches(job, 5)
    j = s.job(job)
    assert j["status"] == "running" and j["estimated_finish"] >= time.time() - 1, j
    assert j["ffwd"]["progress"]["total_steps"] == 200 and j["ffwd"]["device"]["name"] == "fake"
    waiting = s.create()
    until(lambda: s.job(waiting)["status"] == "queued")
    assert s.job(waiting)["ffwd"]["queue_position"] == 0
    s.post(f"/v1/fine_tuning/jobs/{job}/cancel")
    assert s.ended(job)["status"] == "cancelled" and s.ended(waiting)["status"] == "succeeded"
    assert messages(s, job)[-1] == "Job cancelled"
    assert s.post(f"/v1/fine_tuning/jobs/{job}/cancel").status == 400


@test
def cancel_while_queued_and_a_worker_that_ignores_it():
    s = Server(config={"limits": {"cancel_seconds": 1, "worker_heartbeat_seconds": 60}})
    stuck = s.create("steps100000-ms1000000")
    s.running(stuck)
    queued = s.create()
    until(lambda: s.job(queued)["status"] == "queued")
    s.post(f"/v1/fine_tuning/jobs/{queued}/cancel")
    assert s.job(queued)["status"] == "cancelled"
    s.post(f"/v1/fine_tuning/jobs/{stuck}/cancel")
    assert s.ended(stuck)["status"] == "cancelled"
    assert s.ended(s.create())["status"] == "succeeded"


@test
def crash_is_retried_from_the_resume_point():
    s = Server()
    want = reference(s, how="steps30-every4")
    job = s.create("steps30-every4-once17")
    j = s.ended(job)
    assert j["status"] == "succeeded" and j["ffwd"]["attempt"] == 2, j
    assert s.adapter(job) == want
    assert steps(s, job) == list(range(1, 31)), "no step twice, none missing"
    assert any("signal 9" in m for m in messages(s, job))


@test
def crash_without_progress_fails_after_three_attempts():
    s = Server()
    j = s.ended(s.create("steps30-every4-crash10"))
    assert j["status"] == "failed" and j["error"]["code"] == "worker_failed", j
    assert j["ffwd"]["attempt"] in (3, 4), j
    assert s.ended(s.create())["status"] == "succeeded"


@test
def exit_codes_decide():
    s = Server()
    for code in (20, 21, 22):
        j = s.ended(s.create(f"steps30-exit{code}"))
        assert j["status"] == "failed" and j["error"]["code"] == f"code_{code}", j
        assert j["ffwd"]["attempt"] == 1 and j["error"]["message"] == "gave up"
    j = s.ended(s.create("steps30-exit70"))
    assert j["status"] == "failed" and j["ffwd"]["attempt"] in (3, 4), j


@test
def a_full_disk_of_the_training_process_pauses_the_job():
    s = Server()
    job = s.create("steps30-exit30")

    def paused(after):
        return until(lambda: (j := s.job(job))["status"] == "paused" and j["ffwd"]["attempt"] > after and j, 30)
    j = paused(2)
    assert j["ffwd"]["attempt"] in (3, 4), j
    assert any("gave up" in m and "resume the job when there is room" in m for m in messages(s, job)), messages(s, job)
    assert s.ended(s.create())["status"] == "succeeded", "the queue goes on"
    assert s.post(f"/v1/fine_tuning/jobs/{job}/resume").status == 200
    assert paused(j["ffwd"]["attempt"] + 2)["ffwd"]["attempt"] <= j["ffwd"]["attempt"] + 4, "as many attempts again"


@test
def resume_points_go_with_the_end_of_their_job():
    s = Server()

    def has_points(job):
        return os.path.exists(os.path.join(s.data, "jobs", job, "resume"))
    job = s.create("steps20-ms1-every4")
    assert s.ended(job)["status"] == "succeeded" and not has_points(job)
    job = s.create("steps30-every4-crash10")
    s.running(job)
    until(lambda: has_points(job))
    assert s.ended(job)["status"] == "failed" and not has_points(job)
    for paused in (False, True):
        job = s.create("steps100000-ms5-every4")
        s.reaches(job, 8)
        assert has_points(job)
        if paused:
            s.post(f"/v1/fine_tuning/jobs/{job}/pause")
            until(lambda: s.job(job)["status"] == "paused")
            assert s.stop() == 0
            s.start()
            assert has_points(job), "it can go on"
        s.post(f"/v1/fine_tuning/jobs/{job}/cancel")
        assert s.ended(job)["status"] == "cancelled" and not has_points(job)
    left = os.path.join(s.data, "jobs", job, "resume", "step-1")
    os.makedirs(left)
    s.stop()
    s.start()
    assert not has_points(job), "as after a crash"


@test
def silent_worker_is_replaced():
    s = Server(config={"limits": {"worker_heartbeat_seconds": 1, "attempts": 2}})
    j = s.ended(s.create("mute"))
    assert j["status"] == "failed" and j["ffwd"]["attempt"] == 2, j
    assert "no sign of life" in s.log()


def algorithms_of(s):
    """Where the engine keeps its algorithms of matrix products."""
    def told():
        for pid in s.workers():
            with open(f"/proc/{pid}/environ", encoding="utf-8") as f:
                for entry in f.read().split("\0"):
                    if entry.startswith("FFWD_CUDA_ALGORITHMS="):
                        return entry.split("=", 1)[1]
        return None

    s.start()
    s.create("steps1000")
    found = until(told)
    s.stop()
    return found


@test
def workers_keep_algorithms_in_the_data_folder():
    s = Server(start=False)
    assert algorithms_of(s) == os.path.join(s.data, "cuda-algorithms")
    os.environ["FFWD_CUDA_ALGORITHMS"] = "off"
    try:
        assert algorithms_of(s) == "off"
    finally:
        del os.environ["FFWD_CUDA_ALGORITHMS"]


@test
def older_attempts_are_refused():
    s = Server()
    job = s.create("steps10-stale")
    assert s.ended(job)["status"] == "succeeded"
    assert "from an older attempt" not in messages(s, job) and "worker.refused" in s.log()


@test
@alone
def drain_lets_the_job_stop_and_go_on():
    s = Server()
    want = reference(s, how="steps60-ms50")
    job = s.create("steps60-ms50")  # the stop must come before its end
    s.reaches(job, 10)
    c = s.connect()
    c.send(request("GET", f"/v1/fine_tuning/jobs/{job}/events?stream=true"))
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(read_stream(c)), daemon=True)
    reader.start()
    until(lambda: seen)
    start = time.time()
    assert s.stop() == 0 and time.time() - start < 10
    reader.join(10)
    assert seen and seen[-1][1] != "[DONE]", "a stream that was cut off is not done"
    s.start()
    j = s.ended(job)
    assert j["status"] == "succeeded" and s.adapter(job) == want, j
    assert steps(s, job) == list(range(1, 61))


@test
@alone
def drain_refuses_new_work():
    s = Server(config={"limits": {"drain_seconds": 3}})
    job = s.create("steps100000-ms1000000")  # does not look at its pipe
    s.running(job)
    s.process.send_signal(signal.SIGTERM)
    until(lambda: s.get("/v1/models").status == 503)
    a = s.ask("POST", "/v1/files", form([("file", "t", b"x")]), kind=FORM)
    assert a.status == 503 and int(a.headers["retry-after"]) > 0 and a.error["message"]
    assert s.get("/healthz").status == 200 and s.get("/readyz").status == 503
    assert s.process.wait(20) == 0, "a worker that does not stop is ended"
    s.start()
    assert s.job(job)["status"] in ("queued", "running")


@test
@alone
def a_second_signal_is_hard():
    s = Server(config={"limits": {"drain_seconds": 60}})
    s.running(s.create("steps100000-ms1000000"))
    s.process.send_signal(signal.SIGTERM)
    until(lambda: s.get("/v1/models").status == 503)
    s.process.send_signal(signal.SIGTERM)
    assert s.process.wait(20) == 0, "it waits for no worker"


@test
@alone
def idle_server_stops_at_once():
    s = Server()
    idle = [s.connect() for _ in range(5)]
    idle[0].send(request("GET", "/v1/models"))
    assert idle[0].answer().status == 200
    start = time.time()
    assert s.stop() == 0 and time.time() - start < 3
    for _ in range(5):
        s.start()
        assert s.stop() == 0


def disturb(s, how, pause):
    """One blow at a server that runs a job."""
    time.sleep(pause)
    workers = s.workers()
    if how in ("server", "both"):
        s.process.kill()
    if how in ("worker", "both"):
        for pid in workers:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    if how != "worker":
        s.process.wait()
        s.start()


@test
def killed_at_any_moment_ends_with_the_same_adapter():
    s = Server(config={"limits": {"attempts": 1000}})
    want = reference(s, how="steps150-ms10-every7")
    files, jobs = [s.upload()], []
    for round_, how in enumerate(["server", "worker", "both"] * 2):
        job = s.create("steps150-ms10-every7", file=files[-1])
        jobs.append(job)
        for blow in range(2):
            disturb(s, how, 0.15 + 0.13 * ((round_ * 7 + blow * 3) % 6))
            files.append(s.upload())
    for job in jobs:
        j = s.ended(job, 120)
        assert j["status"] == "succeeded", j
        assert s.adapter(job) == want
    known = {f["id"] for f in s.get("/v1/files?limit=1000").json()["data"]}
    assert set(files) <= known
    until(lambda: len(s.workers()) == 1)
    assert not os.path.exists(os.path.join(s.data, "two-workers")), "two trainers at once"


@test
def nothing_acknowledged_is_lost():
    s = Server()
    files, jobs, lock = [], [], threading.Lock()

    def client():
        while not over.is_set():
            try:
                f = s.upload()
                with lock:
                    files.append(f)
                j = s.create("steps2-ms1", file=f)
                with lock:
                    jobs.append(j)
            except (OSError, EOFError, AssertionError, ValueError):
                time.sleep(0.05)  # no answer: not acknowledged

    over = threading.Event()
    threads = [threading.Thread(target=client, daemon=True) for _ in range(4)]
    for t in threads:
        t.start()
    for n in range(6):
        time.sleep(0.3 + 0.07 * n)
        s.process.kill()
        s.process.wait()
        s.start()
    over.set()
    for t in threads:
        t.join()
    assert len(files) > 20 and len(jobs) > 20
    for f in files:
        assert s.get(f"/v1/files/{f}").status == 200, f
    for j in jobs:
        assert s.get(f"/v1/fine_tuning/jobs/{j}").status == 200, j
    rows = s.get("/v1/files?limit=10000").json()["data"]
    stored = [f for f in os.listdir(os.path.join(s.data, "files"))]
    assert {r["id"] for r in rows if r["purpose"] == "fine-tune"} <= set(stored)
    assert json.dumps(stored) and not [f for f in stored if not f.startswith("file-")]


@test
def full_disk_makes_the_worker_wait():
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small file system")
    s = Server(start=False)
    os.makedirs(s.data)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "ffwd-test", s.data],
                      capture_output=True).returncode:
        raise Skip("cannot mount a small file system")
    try:
        s.start()
        job = s.create("steps400-ms2-every100000-bytes16-stage2")
        s.running(job)
        filler = os.path.join(s.data, "filler")
        with open(filler, "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        until(lambda: s.log().count("scheduler.wait") >= 3)
        assert s.job(job)["status"] == "running" and s.get("/healthz").status == 200
        os.unlink(filler)
        j = s.ended(job)
        assert j["status"] == "succeeded" and j["ffwd"]["attempt"] == 1, j
        assert sorted(set(steps(s, job))) == list(range(1, 401))
        stages = 200
        assert len(steps(s, job)) == 400 + stages, "each has an event of its step"
        assert j["ffwd"]["fast_forward"] == {"stages": stages, "simulated_steps": stages,
                                             "evaluations": 2 * stages, "flops": 10 * stages}, j
        page = s.get("/metrics").body.decode()
        assert "\nffwd_trained_tokens_total 4000\n" in page, "what was not stored is not counted"
    finally:
        s.process.kill()
        s.process.wait()
        for pid in s.workers():
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["umount", "-l", s.data])


@test
@alone
def stopped_while_validating():
    with open(harness.FAKE, encoding="utf-8") as f:
        text = f.read()
    s = Server(start=False)
    slow = os.path.join(s.temp, "slow_engine")
    with open(slow, "w", encoding="utf-8") as f:
        f.write(text.replace("    rows, errors = 0, []", "    time.sleep(3)\n    rows, errors = 0, []"))
    os.chmod(slow, 0o755)
    s.engine = slow
    s.start()
    job = s.create()
    time.sleep(0.3)
    start = time.time()
    assert s.stop() == 0 and time.time() - start < 2.5
    s.engine = harness.FAKE
    s.start()
    assert s.ended(job)["status"] == "succeeded"
