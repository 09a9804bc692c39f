"""Pause and resume, whatever happens in between."""
import os
import re
import signal
import threading
import time

from harness import FORM, Server, alone, bearer, form, test, until


def act(s, job, action, want=200):
    a = s.post(f"/v1/fine_tuning/jobs/{job}/{action}")
    assert a.status == want, (a.status, a.body)
    return a.json()


def messages(s, job):
    return [e["message"] for e in s.events(job)]


def steps(s, job):
    return [e["data"]["step"] for e in s.events(job) if e["type"] == "metrics"]


def status(s, job, want):
    return until(lambda: (j := s.job(job))["status"] == want and j)


def reference(s, how):
    job = s.create(how)
    assert s.ended(job)["status"] == "succeeded"
    return s.adapter(job)


@test
def pause_and_resume_make_the_same_bytes():
    s = Server()
    want = reference(s, "steps150-ms1")
    job = s.create("steps150-ms20")
    for at in (5, 30, 60):
        s.reaches(job, at)
        j = act(s, job, "pause")
        assert j["status"] in ("running", "paused"), j
        j = status(s, job, "paused")
        step = j["ffwd"]["progress"]["step"]
        assert j["finished_at"] is None and j["estimated_finish"] is None and at <= step < 150, j
        page = s.get(f"/v1/fine_tuning/jobs/{job}/checkpoints").json()["data"]
        assert page[0]["step_number"] == step, "pausing leaves a checkpoint"
        assert act(s, job, "pause")["status"] == "paused", "a repeat changes nothing"
        other = s.create("steps3")
        assert s.ended(other)["status"] == "succeeded", "a paused job does not hold the worker"
        assert act(s, job, "resume")["status"] in ("queued", "running")
    assert s.ended(job)["status"] == "succeeded" and s.adapter(job) == want
    assert steps(s, job) == list(range(1, 151))
    assert sum(m.startswith("Job paused at step") for m in messages(s, job)) == 3
    assert act(s, job, "pause", 400)["error"]["code"] == "job_ended"
    assert act(s, job, "resume", 400)["error"]["code"] == "job_ended"


@test
def paused_jobs_survive_restarts():
    s = Server()
    want = reference(s, "steps150-ms1")
    running, waiting = s.create("steps150-ms20"), s.create("steps150-ms20")
    s.reaches(running, 5)
    status(s, waiting, "queued")
    assert act(s, waiting, "pause")["status"] == "paused"
    act(s, running, "pause")
    status(s, running, "paused")
    for how in (signal.SIGTERM, signal.SIGKILL):
        s.process.send_signal(how)
        s.process.wait(20)
        s.start()
        assert [s.job(j)["status"] for j in (running, waiting)] == ["paused"] * 2
    for job in (waiting, running):
        act(s, job, "resume")
    for job in (waiting, running):
        assert s.ended(job)["status"] == "succeeded" and s.adapter(job) == want


@test
def pause_asked_for_before_a_crash_still_holds():
    s = Server()
    want = reference(s, "steps150-ms1-every7")
    for how in ("worker", "server", "both"):
        job = s.create("steps150-ms20-every7")
        s.reaches(job, 5)
        pids = s.workers()
        if how != "server":
            os.kill(pids[0], signal.SIGSTOP)  # does not read its pipe any more
        act(s, job, "pause")
        if how != "worker":
            s.process.kill()
            s.process.wait()
        if how != "server":
            os.kill(pids[0], signal.SIGKILL)
        if how != "worker":
            s.start()
        status(s, job, "paused")
        act(s, job, "resume")
        j = s.ended(job)
        assert j["status"] == "succeeded" and s.adapter(job) == want, (how, j)


@test
def pause_can_be_withdrawn_and_cancelled():
    s = Server()
    job = s.create("steps1000-ms10")
    s.reaches(job, 3)
    act(s, job, "pause")
    act(s, job, "resume")
    until(lambda: s.job(job)["status"] == "running" and not s.job(job)["ffwd"]["pause_requested"])
    s.reaches(job, s.job(job)["ffwd"]["progress"]["step"] + 3)
    act(s, job, "pause")
    status(s, job, "paused")
    assert act(s, job, "cancel")["status"] == "cancelled"
    assert messages(s, job)[-1] == "Job cancelled"


@test
def pause_while_validating_waits_for_the_verdict():
    s = Server(start=False)
    slow = os.path.join(s.temp, "slow_engine")
    with open(s.engine, encoding="utf-8") as f:
        text = f.read()
    gate = os.path.join(s.temp, "gate")
    with open(slow, "w", encoding="utf-8") as f:
        f.write(text.replace("    rows, errors = 0, []",
                             f"    while not os.path.exists({gate!r}): time.sleep(0.02)\n"
                             "    rows, errors = 0, []"))
    os.chmod(slow, 0o755)
    s.engine = slow
    s.start()
    good, bad = s.create(), s.create(file=s.upload("no json\n"))
    for job in (good, bad):
        j = act(s, job, "pause")
        assert j["status"] == "validating_files" and j["ffwd"]["pause_requested"], j
    open(gate, "w").close()
    assert s.ended(bad)["error"]["code"] == "invalid_training_file"
    status(s, good, "paused")
    assert act(s, good, "resume")["status"] in ("queued", "running")
    assert s.ended(good)["status"] == "succeeded"


@test
def projects_take_turns_and_priority_goes_first():
    s = Server()
    keys = {}
    for name in ("many", "few"):
        keys[name] = bearer(s.key(name))
    files = {n: s.upload(headers=h) for n, h in keys.items()}

    def create(project, how):
        a = s.post("/v1/fine_tuning/jobs", {"model": "tiny", "training_file": files[project],
                                            "suffix": how}, headers=keys[project])
        assert a.status == 200, a.body
        return a.json()["id"]

    def job(project, name):
        return s.get(f"/v1/fine_tuning/jobs/{name}", headers=keys[project]).json()

    first = create("many", "steps100000-ms10")
    until(lambda: job("many", first)["status"] == "running")
    many = [create("many", "steps2-ms1") for _ in range(30)]
    few = [create("few", "steps2-ms1") for _ in range(2)]
    until(lambda: all(job("few", j)["status"] == "queued" for j in few))
    until(lambda: all(job("many", j)["status"] == "queued" for j in many))
    assert [job("few", j)["ffwd"]["queue_position"] for j in few] == [0, 2]
    assert [job("many", j)["ffwd"]["queue_position"] for j in many[:3]] == [1, 3, 4]
    page = s.get("/v1/fine_tuning/jobs?limit=40", headers=keys["many"]).json()["data"]
    assert [j["ffwd"]["queue_position"] for j in page[::-1][1:4]] == [1, 3, 4], "as in the list"
    patch = ("PATCH", f"/v1/fine_tuning/jobs/{many[-1]}", b'{"priority":9}')
    assert s.ask(*patch, headers=keys["few"]).status == 404
    a = s.ask(*patch, headers=keys["many"])
    assert a.status == 200 and a.json()["ffwd"]["priority"] == 9, a.body
    assert a.json()["ffwd"]["queue_position"] == 0
    s.post(f"/v1/fine_tuning/jobs/{first}/cancel", headers=keys["many"])

    def ended():
        return all(job("many", j)["status"] == "succeeded" for j in many) and all(
            job("few", j)["status"] == "succeeded" for j in few)
    until(ended, 60)
    claims = re.findall(r"job\.claim id=(\S+)", s.log())[1:5]
    assert claims == [many[-1], few[0], many[0], few[1]], claims


@test
def full_queue_is_429_and_not_repeated():
    s = Server(config={"limits": {"queued_jobs_per_project": 3}})
    first = s.create("steps100000-ms10")
    s.running(first)
    file = s.upload()
    for _ in range(3):
        s.create(file=file)
    body = {"model": "tiny", "training_file": file}
    a = s.post("/v1/fine_tuning/jobs", body)
    assert a.status == 429 and a.error["code"] == "queue_full", a.body
    assert a.error["type"] == "rate_limit_error"
    assert a.headers["x-should-retry"] == "false" and "retry-after" not in a.headers, a.headers
    s.post(f"/v1/fine_tuning/jobs/{first}/cancel")
    until(lambda: s.post("/v1/fine_tuning/jobs", body).status == 200)


@test
def states_are_not_409_which_clients_repeat():
    """Each refusal for the state of a thing: the SDKs repeat 408, 409, 429 and 5xx."""
    s = Server()
    base = "/v1/fine_tuning/jobs"
    done = s.create("steps6-ms1-every3")
    over = s.ended(done)
    model, used = over["fine_tuned_model"], s.upload()
    run = s.create("steps100000-ms20", file=used)
    s.running(run)
    on = s.post(base, {"model": model, "training_file": used}).json()["id"]
    upload = s.post("/v1/uploads", {"filename": "t", "purpose": "fine-tune", "bytes": 3,
                                    "mime_type": "text/plain"}).json()["id"]
    assert s.post(f"/v1/uploads/{upload}/cancel").status == 200
    key = [("Idempotency-Key", "one")]
    body = {"model": "tiny", "training_file": used}
    assert s.post(base, body, headers=key).status == 200
    refusals = {
        "cancel": s.post(f"{base}/{done}/cancel"), "pause": s.post(f"{base}/{done}/pause"),
        "resume ended": s.post(f"{base}/{done}/resume"),
        "file in use": s.ask("DELETE", f"/v1/files/{used}"),
        "model in use": s.ask("DELETE", f"/v1/models/{model}"),
        "base model": s.ask("DELETE", "/v1/models/tiny"),
        "cancel upload": s.post(f"/v1/uploads/{upload}/cancel"),
        "complete upload": s.post(f"/v1/uploads/{upload}/complete", {"part_ids": ["part_x"]}),
        "part": s.ask("POST", f"/v1/uploads/{upload}/parts", form([("data", "t", b"abc")]),
                      kind=FORM),
        "key of another body": s.post(base, {**body, "seed": 1}, headers=key),
    }
    found = {name: a.status for name, a in refusals.items()}
    want = {name: {"base model": 403, "key of another body": 422}.get(name, 400) for name in found}
    assert found == want, found
    for name, a in refusals.items():
        assert "retry-after" not in a.headers, (name, a.headers)
    assert refusals["file in use"].headers["x-should-retry"] == "false"
    s.post(f"{base}/{on}/cancel")


@test
@alone
def estimated_finish_is_honest():
    """Sampled while the job runs, against when it really ended."""
    s = Server()
    job = s.create("steps160-ms40-stage6-eval40")
    s.running(job)
    told, begin = [], time.time()
    while (j := s.job(job))["status"] == "running":
        if j["estimated_finish"]:
            told.append((time.time(), j["estimated_finish"]))
        time.sleep(0.1)
    assert j["status"] == "succeeded", j
    end = time.time()
    whole = end - begin
    late = [(t, at) for t, at in told if t - begin > 0.1 * whole]
    assert len(late) > 20
    # Whole seconds on both sides, and an estimate that is stored once a second.
    wrong = [(round(t - begin, 1), round(at - end, 1)) for t, at in late
             if abs(at - end) > 0.15 * whole + 2]
    assert not wrong, (whole, wrong)
    assert j["estimated_finish"] is None


@test
def a_hundred_creates_with_one_key_are_one_job():
    s = Server()
    file = s.upload()
    body = {"model": "tiny", "training_file": file, "suffix": "steps2-ms1"}
    found = []

    def create(headers):
        a = s.post("/v1/fine_tuning/jobs", body, headers=headers)
        found.append((a.status, a.json()["id"]))
    threads = [threading.Thread(target=create, args=([("Idempotency-Key", "once")],), daemon=True)
               for _ in range(100)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 100 and len(set(found)) == 1 and found[0][0] == 200, set(found)
    assert len(s.get("/v1/fine_tuning/jobs?limit=200").json()["data"]) == 1
    first = found[0][1]
    assert s.ended(first)["status"] == "succeeded"
    create([("Idempotency-Key", "once")])
    assert found[-1] == (200, first), "also after its end"
    for count in range(3):  # as the SDKs repeat a create whose answer was lost
        create([("x-stainless-retry-count", str(count))])
    assert len({job for _, job in found[-3:]}) == 1 and found[-1][1] != first
    assert len(s.get("/v1/fine_tuning/jobs?limit=200").json()["data"]) == 2
    s.process.kill()
    s.process.wait()
    s.start()
    create([("Idempotency-Key", "once")])
    assert found[-1] == (200, first), "also after a crash of the server"


@test
def checkpoints_of_another_project_need_a_permission():
    s = Server()
    keys = {}
    for name in ("owner", "guest"):
        keys[name] = bearer(s.key(name))
    files = {n: s.upload(headers=h) for n, h in keys.items()}

    def create(project, model, want=200):
        a = s.post("/v1/fine_tuning/jobs", {"model": model, "training_file": files[project],
                                            "suffix": "steps40-ms40"}, headers=keys[project])
        assert a.status == want, a.body
        return a.json().get("id")

    def job(project, name):
        return s.get(f"/v1/fine_tuning/jobs/{name}", headers=keys[project]).json()

    first = create("owner", "tiny")
    until(lambda: ((job("owner", first)["ffwd"]["progress"] or {}).get("step") or 0) >= 2)
    s.post(f"/v1/fine_tuning/jobs/{first}/pause", headers=keys["owner"])
    until(lambda: job("owner", first)["status"] == "paused")
    page = s.get(f"/v1/fine_tuning/jobs/{first}/checkpoints", headers=keys["owner"]).json()
    name = page["data"][0]["fine_tuned_model_checkpoint"]
    for path in ("", "/events", "/checkpoints", "/adapter"):
        assert s.get(f"/v1/fine_tuning/jobs/{first}{path}", headers=keys["guest"]).status == 404
    create("guest", name, want=400)
    permissions = f"/v1/fine_tuning/checkpoints/{name}/permissions"
    a = s.post(permissions, {"project_ids": ["guest"]}, headers=keys["owner"])
    assert a.status == 200, a.body
    mine = create("guest", name)
    until(lambda: job("guest", mine)["status"] == "succeeded")
    other = create("guest", name)
    gone = s.ask("DELETE", f"/v1/models/{name}", headers=keys["owner"])
    assert gone.status == 400 and gone.error["code"] == "model_in_use", gone.body
    until(lambda: job("guest", other)["status"] == "succeeded")
    gone = s.ask("DELETE", f"/v1/models/{name}", headers=keys["owner"])
    assert gone.status == 200 and gone.json()["deleted"], gone.body
    create("guest", name, want=400)
    model = job("guest", mine)["fine_tuned_model"]
    assert s.ask("DELETE", f"/v1/models/{model}", headers=keys["owner"]).status == 404
    assert s.ask("DELETE", f"/v1/models/{model}", headers=keys["guest"]).status == 200
    a = s.get(f"/v1/fine_tuning/jobs/{mine}/adapter", headers=keys["guest"])
    assert a.status == 404, a.body
    left = job("guest", mine)["result_files"]
    assert len(left) == 1, left
    a = s.get(f"/v1/files/{left[0]}/content", headers=keys["guest"])
    assert a.status == 200 and a.body.startswith(b"step,train_loss"), a.body
