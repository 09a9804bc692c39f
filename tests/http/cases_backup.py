"""`ffwd-server backup`: a server that is started with the copy has all of it, and jobs go on."""
import os
import stat
import subprocess
import threading

from harness import Server, alone, bearer, test, until
from cases_jobs import reference, steps


def backup(s, to):
    return subprocess.run(s.command("backup", "--to", to, "--data", s.data), capture_output=True,
                          text=True, check=False)


def listed(s):
    """What the API shows of files and jobs that have ended: {id: object}."""
    files = {f["id"]: f for f in s.get("/v1/files?limit=10000").json()["data"]}
    jobs = s.get("/v1/fine_tuning/jobs?limit=10000").json()["data"]
    return files, {j["id"]: j for j in jobs if j["status"] in ("succeeded", "failed", "cancelled")}


def started_with(copy):
    s = Server(data=copy, start=False)
    return s.start()


@test
@alone
def a_backup_of_a_running_server_is_whole():
    s = Server(config={"limits": {"idle_seconds": 60}})
    how = "steps400-ms5-every20-again"
    want = reference(s, how=how)
    paused, running = s.create(how), s.create(how)
    s.reaches(paused, 30)
    s.post(f"/v1/fine_tuning/jobs/{paused}/pause")
    until(lambda: s.job(paused)["status"] == "paused")
    s.reaches(running, 30)
    waiting = [s.create("steps3") for _ in range(3)]
    over, lock = threading.Event(), threading.Lock()
    told = []

    def client(n):
        while not over.is_set():
            file = s.upload(f'{{"text":"{n} {len(told)}"}}\n' * 2000)
            with lock:
                told.append(file)
    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(2)]
    for t in threads:
        t.start()
    until(lambda: len(told) > 10)
    before, ended = listed(s)
    seen = {j: s.events(j) for j in (paused, running)}
    copy = s.temp + "/copy"
    done = backup(s, copy)
    over.set()
    for t in threads:
        t.join()
    assert done.returncode == 0 and "copied " in done.stderr, done
    assert not os.path.exists(os.path.join(s.data, "backup.db"))
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(copy + "/ffwd.db").st_mode) == 0o600
    after, _ = listed(s)
    again = backup(s, copy)
    assert again.returncode == 2 and "not empty" in again.stderr, "two are not mixed"
    content = {f: s.get(f"/v1/files/{f}/content").body for f in after}
    assert s.stop() == 0
    t = started_with(copy)
    files, jobs = listed(t)
    assert set(before) <= set(files) and len(before) > 10
    for f in set(files) & set(after):
        assert t.get(f"/v1/files/{f}/content").body == content[f], f
    assert ended.items() <= jobs.items()
    for job in (paused, running):
        now = t.events(job)
        assert now[:len(seen[job])] == seen[job], "the stream goes on where it was"
    assert t.job(paused)["status"] == "paused"
    t.post(f"/v1/fine_tuning/jobs/{paused}/resume")
    for job in (running, paused):
        j = t.ended(job, 60)
        assert j["status"] == "succeeded" and t.adapter(job) == want, j
        assert steps(t, job) == list(range(1, 401)), steps(t, job)
    for job in waiting:
        assert t.ended(job)["status"] == "succeeded"


@test
def a_backup_without_a_server():
    s = Server(start=False)
    key = s.key()
    s.start()
    who = bearer(key)
    file = s.upload(headers=who)
    assert s.stop() == 0
    done = backup(s, s.temp + "/copy")
    assert done.returncode == 0, done
    t = started_with(s.temp + "/copy")
    assert t.get("/v1/files", headers=who).json()["data"][0]["id"] == file
    assert t.get(f"/v1/files/{file}/content", headers=who).status == 200
    assert t.get("/v1/files").status == 401, "its keys are there"


@test
def a_backup_says_what_is_wrong():
    s = Server(start=False)
    for arguments, word in ((["--data", s.temp], "usage"), (["--to", s.temp + "/a", "--data", s.temp + "/none"], "--data"),
                            (["--to", s.temp, "--data", s.temp], "not empty"), (["--what"], "unknown")):
        done = subprocess.run(s.command("backup", *arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 2 and word in done.stderr, done
