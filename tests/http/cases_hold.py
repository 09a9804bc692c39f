"""The queue waits for what is no job's fault: an engine or a device that is not there, a folder of
models that is gone."""
import os
import time

import harness
from harness import Server, test, until


def messages(s, job):
    return [e["message"] for e in s.events(job) if e["level"] == "warn"]


def held(s, word):
    a = s.get("/readyz")
    return a.status == 503 and a.json()["status"] == "not_ready" and word in a.json()["reason"]


def gauge(s):
    lines = s.get("/metrics").body.decode().splitlines()
    return [line.split()[1] for line in lines if line.startswith("ffwd_queue_held ")]


def engine(s, body):
    """A program that does this before it is the engine."""
    path = os.path.join(s.temp, "engine")
    with open(path + ".part", "w", encoding="utf-8") as f:
        f.write(f"#!/bin/sh\n{body}\nexec {harness.FAKE} \"$@\"\n")
    os.chmod(path + ".part", 0o755)
    os.rename(path + ".part", path)
    return path


def goes_on(s, jobs):
    for job in jobs:
        j = s.ended(job, 60)
        assert j["status"] == "succeeded" and j["ffwd"]["attempt"] == 1, j
    assert s.get("/readyz").status == 200 and s.get("/readyz").json() == {"status": "ready"}
    assert gauge(s) == ["0"], s.log()


@test
def an_engine_that_is_not_there_holds_the_queue():
    s = Server(start=False)
    s.engine = os.path.join(s.temp, "engine")
    s.start()
    jobs = [s.create(), s.create()]
    until(lambda: held(s, "files"))
    assert gauge(s) == ["1"] and s.get("/healthz").status == 200
    assert [s.job(j)["status"] for j in jobs] == ["validating_files"] * 2
    assert any("stays in it" in m for m in messages(s, jobs[0])), s.events(jobs[0])
    engine(s, "")
    goes_on(s, jobs)


@test
def a_library_that_is_missing_holds_the_queue():
    s = Server(start=False)
    s.engine = engine(s, "exit 127")
    s.start()
    jobs = [s.create(), s.create()]
    until(lambda: held(s, "files"))
    assert [s.job(j)["status"] for j in jobs] == ["validating_files"] * 2
    engine(s, "")
    goes_on(s, jobs)


@test
def a_check_that_dies_is_tried_again():
    s = Server()
    job = s.create(file=s.upload('{"fake":"once"}\n'))
    assert s.ended(job)["status"] == "succeeded"
    assert any("signal 9; they are checked again" in m for m in messages(s, job)), messages(s, job)
    job = s.create(file=s.upload('{"fake":"crash"}\n'))
    j = s.ended(job)
    assert j["status"] == "failed" and j["error"]["code"] == "server_error", j
    assert len([m for m in messages(s, job) if "checked again" in m]) == 2, "three attempts"
    assert s.ended(s.create())["status"] == "succeeded", "the queue goes on"


@test
def cancelling_ends_the_check():
    s = Server()
    job = s.create(file=s.upload('{"fake":"hang"}\n'))
    behind = s.create()
    time.sleep(0.5)
    assert s.job(behind)["status"] == "validating_files"
    assert s.post(f"/v1/fine_tuning/jobs/{job}/cancel").status == 200
    assert s.job(job)["status"] == "cancelled"
    assert s.ended(behind)["status"] == "succeeded"


@test
def a_device_that_is_not_there_holds_the_queue():
    s = Server(start=False)
    s.engine = engine(s, "[ $1 = worker ] && exit 70")
    s.start()
    jobs = [s.create() for _ in range(5)]
    until(lambda: held(s, "training process"))
    until(lambda: [s.job(j)["status"] for j in jobs] == ["queued"] * 5)
    assert len(messages(s, jobs[0])) == 1 and "does not start" in messages(s, jobs[0])[0]
    assert not any(messages(s, j) for j in jobs[1:]), "one job tells it"
    assert "code 70" in s.log() and "queue.held" in s.log()
    assert s.post(f"/v1/fine_tuning/jobs/{jobs[4]}/cancel").status == 200
    engine(s, "")
    goes_on(s, jobs[:4])


@test
def a_device_is_tried_on_without_jobs():
    s = Server(start=False)
    s.engine = engine(s, "[ $1 = worker ] && exit 70")
    s.start()
    job = s.create()
    until(lambda: held(s, "training process"))
    assert s.post(f"/v1/fine_tuning/jobs/{job}/cancel").status == 200
    engine(s, "")
    until(lambda: s.get("/readyz").status == 200, 60)


@test
def waiting_for_a_device_grows_longer():
    s = Server(config={"limits": {"retry_seconds": 1, "attempts": 1}}, start=False)
    s.engine = engine(s, "[ $1 = worker ] && exit 70")
    s.start()
    s.create()
    until(lambda: "times=3 " in s.log())
    for times, seconds in ((1, "1.00"), (2, "2.00"), (3, "4.00")):
        assert f"times={times} next_try_seconds={seconds}" in s.log(), s.log()
    assert s.stop() == 0, "a server that waits can be stopped"


@test
def models_that_are_gone_hold_the_queue():
    s = Server()
    away = s.models + ".away"
    for mounted in (False, True):  # the folder is gone; or it is there and empty
        running = s.create("steps100000")
        s.running(running)
        jobs = [s.create(), s.create()]
        until(lambda: [s.job(j)["status"] for j in jobs] == ["queued"] * 2)
        os.rename(s.models, away)
        if mounted:
            os.mkdir(s.models)
        assert s.post(f"/v1/fine_tuning/jobs/{running}/cancel").status == 200
        until(lambda: held(s, "models"))
        assert [s.job(j)["status"] for j in jobs] == ["queued"] * 2
        assert any("stays in it" in m for m in messages(s, jobs[0])), s.events(jobs[0])
        if mounted:
            os.rmdir(s.models)
        os.rename(away, s.models)
        for job in jobs:
            assert s.ended(job, 60)["status"] == "succeeded", s.job(job)
        until(lambda: s.get("/readyz").status == 200)


@test
def one_of_two_roots_that_is_gone_holds_the_queue():
    s = Server(start=False)
    other, away = s.models + ".other", s.models + ".away"
    os.makedirs(os.path.join(other, "small"))
    with open(os.path.join(s.models, "tiny", "config.json"), encoding="utf-8") as f:
        text = f.read()
    with open(os.path.join(other, "small", "config.json"), "w", encoding="utf-8") as f:
        f.write(text)
    s.models = f"{s.models}:{other}"
    s.start()
    assert s.ended(s.create(model="small"))["status"] == "succeeded"
    running = s.create("steps100000")
    s.running(running)
    job = s.create(model="small")
    until(lambda: s.job(job)["status"] == "queued")
    os.rename(other, away)
    os.mkdir(other)
    s.post(f"/v1/fine_tuning/jobs/{running}/cancel")
    until(lambda: held(s, "models"))
    assert s.job(job)["status"] == "queued"
    os.rmdir(other)
    os.rename(away, other)
    assert s.ended(job, 60)["status"] == "succeeded"


@test
def a_model_that_is_gone_while_others_are_there_fails_its_job():
    s = Server(start=False)
    os.makedirs(os.path.join(s.models, "other"))
    os.link(os.path.join(s.models, "tiny", "config.json"), os.path.join(s.models, "other", "config.json"))
    s.start()
    running = s.create("steps100000")
    s.running(running)
    job, good = s.create(model="other"), s.create()
    until(lambda: s.job(good)["status"] == "queued")
    os.rename(os.path.join(s.models, "other"), s.models + ".away")
    s.post(f"/v1/fine_tuning/jobs/{running}/cancel")
    j = s.ended(job)
    assert j["status"] == "failed" and j["error"]["code"] == "not_found" and j["error"]["param"] == "model", j
    assert s.ended(good)["status"] == "succeeded" and s.get("/readyz").status == 200
