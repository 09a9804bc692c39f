"""Event streams: live, replay, reconnect."""
import random
import threading
import time

from harness import Server, alone, bearer, read_stream, request, test, until


def open_stream(s, job, last=None, extra=()):
    c = s.connect()
    headers = list(extra) + ([("Last-Event-ID", last)] if last else [])
    c.send(request("GET", f"/v1/fine_tuning/jobs/{job}/events?stream=true", headers=headers))
    return c


def whole(s, job, last=None):
    return list(read_stream(open_stream(s, job, last)))


@test
def stream_live_then_replayed():
    s = Server()
    job = s.create("steps30-ms10")
    live = whole(s, job)
    assert live[-1] == (None, "[DONE]")
    listed = s.events(job)
    assert [i for i, _ in live[:-1]] == [e["id"] for e in listed]
    assert [e for _, e in live[:-1]] == listed
    assert all(i == e["id"] for i, e in live[:-1])
    assert listed[-1]["message"] == "The job has successfully completed"
    assert listed[-2]["message"].startswith("New fine-tuned model created: ft:tiny:")
    assert whole(s, job) == live
    for k in (0, 7, len(listed) - 1):
        assert whole(s, job, listed[k]["id"]) == live[k + 1:], k
    assert s.get("/v1/fine_tuning/jobs/ftjob-none/events?stream=true").status == 404


@test
@alone
def reconnects_under_load_have_no_gap():
    s = Server()
    job = s.create("steps600-ms3-every50-bytes2")
    wrong, counts = [], []

    def follow(seed):
        chance = random.Random(seed)
        seen, reconnects, over = [], 0, False
        while not over:
            c = open_stream(s, job, seen[-1] if seen else None)
            limit = chance.randint(1, 60)
            for i, e in read_stream(c):
                if e == "[DONE]":
                    over = True
                    break
                seen.append(i)
                limit -= 1
                if limit == 0:
                    reconnects += 1
                    break
            c.close()
        counts.append(reconnects)
        if seen != [e["id"] for e in s.events(job)]:
            wrong.append(seed)

    threads = [threading.Thread(target=follow, args=(n,), daemon=True) for n in range(8)]
    for t in threads:
        t.start()
    times = []
    while any(t.is_alive() for t in threads):
        start = time.time()
        s.get("/v1/models")
        times.append(time.time() - start)
        time.sleep(0.02)
    for t in threads:
        t.join()
    assert not wrong and len(counts) == 8, wrong
    assert sum(counts) > 50, counts
    assert sorted(times)[len(times) * 9 // 10] < 2, sorted(times)[-5:]


@test
def quiet_streams_get_heartbeats_and_the_dead_are_noticed():
    s = Server(config={"limits": {"stream_heartbeat_seconds": 1, "streams": 3,
                                  "worker_heartbeat_seconds": 60}})
    job = s.create("mute")
    s.running(job)
    c = open_stream(s, job)
    status, _ = c.head()
    text, beats = b"", 0
    for chunk in c.chunks():
        text += chunk
        beats = text.count(b"\n\n:\n\n") + text.count(b":\n\n:\n\n")
        if text.endswith(b":\n\n:\n\n"):
            break
    assert status == 200 and beats
    others = [open_stream(s, job) for _ in range(2)]
    for o in others:
        assert o.head()[0] == 200
    refused = open_stream(s, job)
    a = refused.answer()
    assert a.status == 429 and "retry-after" in a.headers
    for o in others:
        o.close()

    def room():
        again = open_stream(s, job)
        try:
            return again.head()[0] == 200
        finally:
            again.close()
    until(room, 10, 0.3)


@test
def one_project_leaves_places_for_the_readers_of_others():
    s = Server(config={"limits": {"streams": 8}})
    job = s.create("steps100000-ms50")
    s.running(job)
    path = f"/v1/fine_tuning/jobs/{job}/events?stream=true"
    free = [open_stream(s, job) for _ in range(8)]
    assert all(c.head()[0] == 200 for c in free), "without keys there is one project"
    assert open_stream(s, job).head()[0] == 429
    for c in free:
        c.close()
    keys = {p: bearer(s.key(p)) for p in ("default", "other")}

    def reader(project, of):
        c = s.connect()
        c.send(request("GET", of, headers=keys[project]))
        return c, c.head()[0]
    until(lambda: reader("default", path)[1] == 200, 10, 0.3)
    held = [reader("default", path) for _ in range(7)]
    assert [status for _, status in held].count(200) <= 2, "a quarter of the places"
    file = s.upload(headers=keys["other"])
    own = s.post("/v1/fine_tuning/jobs", {"model": "tiny", "training_file": file},
                 headers=keys["other"]).json()["id"]
    own = f"/v1/fine_tuning/jobs/{own}/events?stream=true"
    others = [reader("other", own) for _ in range(3)]
    assert [status for _, status in others] == [200, 200, 429], others
    for c, _ in held + others:
        c.close()


@test
def stream_over_http_1_0_and_head():
    s = Server()
    job = s.create()
    s.ended(job)
    c = s.connect()
    c.send(f"GET /v1/fine_tuning/jobs/{job}/events?stream=true HTTP/1.0\r\n\r\n".encode())
    assert c.ended() and c.buffer.endswith(b"data: [DONE]\n\n"), c.buffer[-200:]
    a = s.ask("HEAD", f"/v1/fine_tuning/jobs/{job}/events?stream=true")
    assert a.status == 200
