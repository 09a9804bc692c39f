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
def what_the_node_sdk_sends():
    """Its order of fields (file before purpose), chunks, boundary and headers."""
    s = Server()
    rows = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n' * 12
    boundary = "openai-3f9c1d7e2b8a4c60"
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="train.jsonl"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode() + rows + (
            f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune'
            f"\r\n--{boundary}--\r\n").encode()
    head = ("POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n"
            "Accept: application/json\r\nUser-Agent: OpenAI/JS 7.5.0\r\n"
            "X-Stainless-Retry-Count: 0\r\nX-Stainless-Timeout: 600\r\nX-Stainless-Lang: js\r\n"
            "X-Stainless-Package-Version: 7.5.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n"
            "X-Stainless-Runtime: node\r\nX-Stainless-Runtime-Version: v22.0.0\r\n"
            "OpenAI-Organization: org\r\nOpenAI-Project: proj\r\nAuthorization: Bearer unused\r\n"
            f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
            "Accept-Language: *\r\nSec-Fetch-Mode: cors\r\nAccept-Encoding: gzip, deflate\r\n")
    for size in (1, 7, 61, len(body)):
        c = s.connect()
        c.send((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
        for at in range(0, len(body), size):
            piece = body[at:at + size]
            c.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        c.send(b"0\r\n\r\n")
        a = c.answer()
        assert a.status == 200, (size, a.body)
        assert a.json()["filename"] == "train.jsonl" and a.json()["bytes"] == len(rows)
        assert a.headers["x-request-id"]
        c.send(request("GET", f"/v1/files/{a.json()['id']}/content"))
        assert c.answer().body == rows
        c.close()
    job = s.ask("POST", JOBS, json.dumps({"model": "tiny", "training_file": a.json()["id"]}).encode(),
                headers=[("X-Stainless-Retry-Count", "0"), ("X-Stainless-Lang", "js")])
    assert job.status == 200 and job.headers["content-type"].endswith("json")
    # cancel has no body and still a content type
    a = s.ask("POST", f"{JOBS}/{job.json()['id']}/cancel", b"", kind="application/json")
    assert a.status in (200, 400), a.body


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
