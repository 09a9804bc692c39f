"""Answers that are kept for a moment are never older than the last change."""
import json

from harness import FORM, Server, form, request, test, until

JOBS = "/v1/fine_tuning/jobs"


@test
def a_reader_sees_each_change_at_once():
    s = Server()
    file = s.upload()
    c = s.connect()

    def get(path):
        c.send(request("GET", path))
        return c.answer().json()
    for i in range(12):
        before = [j["id"] for j in get(JOBS)["data"]]
        assert before == [j["id"] for j in get(JOBS)["data"]]
        job = s.create("steps100000", file)
        listed = get(JOBS)["data"]
        assert [j["id"] for j in listed] == [job] + before, i
        assert get(f"{JOBS}/{job}")["status"] in ("validating_files", "queued", "running")
        events = len(get(f"{JOBS}/{job}/events?limit=100")["data"])
        assert s.post(f"{JOBS}/{job}/cancel").status == 200
        until(lambda: get(f"{JOBS}/{job}")["status"] == "cancelled")
        assert get(JOBS)["data"][0]["status"] == "cancelled"
        assert len(get(f"{JOBS}/{job}/events?limit=100")["data"]) > events
    c.close()


@test
def bad_bodies_are_refused_and_leave_nothing():
    s = Server()
    file = s.upload()
    good = {"model": "tiny", "training_file": file}
    text = json.dumps(good)[:-1]
    bodies = [
        b"", b"[]", b"null", b"7", b'"x"', b"{", text.encode(), b"\xff\xfe{}", b"{}\x00",
        (text + ',"seed":1,"seed":2}').encode(),
        (text + ',"suffix":"a\\u0000b"}').encode(),
        (text + ',"suffix":"\\ud800"}').encode(),
        (text + ',"seed":' + "9" * 400 + "}").encode(),
        (text + ',"seed":1e999}').encode(), (text + ',"seed":-1}').encode(),
        (text + ',"metadata":' + '{"a":' * 5000 + "1" + "}" * 5001).encode(),
        (text + ',"metadata":{"a":' + "[" * 100000 + "]" * 100000 + "}}").encode(),
    ]
    for body in bodies:
        a = s.ask("POST", JOBS, body)
        assert a.status == 400, (body[:80], a.status, a.body[:200])
        assert set(a.error) == {"message", "type", "param", "code"}, a.body
    a = s.ask("POST", JOBS, (text + ',"suffix":"' + "x" * (1 << 20) + '"}').encode())
    assert a.status == 413, a.status
    assert s.ask("POST", JOBS, text.encode() + b"}", kind="text/plain").status == 415
    assert s.get(JOBS).json()["data"] == []
    assert [f["id"] for f in s.get("/v1/files").json()["data"]] == [file]
    assert s.ask("POST", "/v1/files", form([("purpose", None, b"fine-tune")]), kind=FORM).status == 400
    assert len(s.get("/v1/files").json()["data"]) == 1
