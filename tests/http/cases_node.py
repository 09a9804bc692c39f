"""The openai SDK for node, byte by byte as it sends (node_wire.py), on connections that stay open."""
import hashlib
import os
import time

import node_wire as node
from harness import ROW, Server, test, until

JOBS = "/v1/fine_tuning/jobs"
ROWS = ROW.encode() * 12


class Node:
    """One connection of the SDK."""

    def __init__(self, s):
        self.s, self.c = s, s.connect()

    def send(self, data, method="GET"):
        self.c.send(data)
        a = self.c.answer(method)
        assert a.headers["x-request-id"].startswith("req_")
        return a

    def ok(self, data):
        a = self.send(data)
        assert a.status == 200, a.body
        return a.json()

    def call(self, method, path, value=None, **more):
        return self.ok(node.call(method, path, value, **more))

    def upload(self, **fields):
        return self.ok(node.upload("/v1/files", fields or {"file": ("t.jsonl", ROWS), "purpose": "fine-tune"}))


@test
def node_uploads_in_the_callers_order_and_in_chunks():
    s = Server()
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file, purpose = {"file": ("train.jsonl", ROWS)}, {"purpose": "fine-tune"}
    orders = [{**file, **purpose}, {**purpose, **file}, {**file, **purpose, **expiry},
              {**expiry, **file, **purpose}, {**purpose, **expiry, **file}]
    for size in (1, 7, 61, 4096, 1 << 20):
        n = Node(s)
        for fields in orders if size != 1 else orders[:1]:
            f = n.ok(node.upload("/v1/files", fields, size))
            assert f["filename"] == "train.jsonl" and f["bytes"] == len(ROWS), f
            assert ("expires_at" in f) == (len(fields) == 4), f
            got = n.send(node.call("GET", f"/v1/files/{f['id']}/content", accept="application/binary"))
            assert got.body == ROWS and got.headers["content-type"] == "application/octet-stream"
        n.c.close()


@test
def node_form_whose_pieces_end_anywhere():
    """A boundary cut at each of its bytes, and content that looks like one."""
    s = Server()
    mark = f"\r\n--{node.BOUNDARY}".encode()
    content = ROWS + mark[:-1] + b"-" + mark[:9] + b"\r\n--" + ROWS
    body = node.form({"file": ("t.jsonl", content), "purpose": "fine-tune"})
    end = body.rindex(mark, 0, len(body) - len(mark) - 4)
    n = Node(s)
    kind = f"Content-Type: multipart/form-data; boundary={node.BOUNDARY}\r\ntransfer-encoding: chunked\r\n\r\n"
    for cut in range(end - 2, end + len(mark) + 6):
        data = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:cut], body[cut:])) + b"0\r\n\r\n"
        f = n.ok(node.head("POST", "/v1/files") + kind.encode() + data)
        assert f["bytes"] == len(content), (cut, f)
    assert n.send(node.call("GET", f"/v1/files/{f['id']}/content")).body == content


@test
def node_stream_that_pauses_and_one_that_breaks_off():
    s = Server()
    n = Node(s)
    data = node.upload("/v1/files", {"file": ("t.jsonl", ROWS), "purpose": "fine-tune"}, 100)
    for i in range(0, len(data), len(data) // 5 + 1):
        n.c.send(data[i:i + len(data) // 5 + 1])
        time.sleep(0.05)
    assert n.c.answer().status == 200
    n.c.send(data[:-40])
    n.c.close()
    time.sleep(0.1)
    assert len(s.get("/v1/files").json()["data"]) == 1, "half a stream is no file"
    n = Node(s)  # refused while it still sends, and the connection's end is orderly
    n.c.send(node.upload("/v1/files", {"file": ("t.jsonl", b"x" * 3000000), "purpose": "other"}, 70000))
    assert n.c.answer().status == 400


@test
def node_calls_of_each_kind():
    s = Server()
    n = Node(s)
    file = n.upload()["id"]
    optional = dict.fromkeys(("validation_file", "suffix", "seed", "metadata", "integrations"))
    job = n.call("POST", JOBS, {"model": "tiny", "training_file": file, **optional})
    assert job["status"] in ("validating_files", "queued") and job["seed"] >= 0
    again = n.call("POST", JOBS, {"model": "tiny", "training_file": file, **optional}, retry=1)
    assert again["id"] == job["id"], "sent again because the answer was lost"
    until(lambda: n.call("GET", f"{JOBS}/{job['id']}")["status"] == "succeeded")
    seen, after = [], {}
    while True:  # as its pages go on: with the last element's id, until has_more is false
        page = n.call("GET", f"{JOBS}/{job['id']}/events" + node.query(limit=3, **after))
        seen += [e["id"] for e in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["data"][-1]["id"]}
    assert len(seen) == len(set(seen)) == len(s.events(job["id"])) and len(seen) > 10
    long = n.call("POST", JOBS, {"model": "tiny", "training_file": file, "suffix": "steps100000-ms10",
                                 "metadata": {"team a": "ü&="}})["id"]
    until(lambda: (n.call("GET", f"{JOBS}/{long}")["ffwd"]["progress"] or {}).get("step"))
    found = n.call("GET", JOBS + node.query(limit=2, metadata={"team a": "ü&="}))["data"]
    assert [j["id"] for j in found] == [long], found
    for action, words in (("pause", ("running", "paused")), ("resume", ("running", "queued")),
                          ("cancel", ("running", "cancelled"))):
        assert n.call("POST", f"{JOBS}/{long}/{action}")["status"] in words, action
    # a body of null, as older versions send it, is refused and the connection goes on
    a = n.send(node.head("POST", JOBS) + b"Content-Type: application/json\r\ncontent-length: 4\r\n\r\nnull")
    assert a.status == 400 and "object" in a.error["message"]
    assert n.call("DELETE", f"/v1/files/{n.upload()['id']}")["deleted"] is True


@test
def node_uploads_in_parts():
    s = Server()
    n = Node(s)
    upload = n.call("POST", "/v1/uploads", {"filename": "t.jsonl", "purpose": "fine-tune", "bytes": len(ROWS),
                                            "mime_type": "application/jsonl"})
    path = f"/v1/uploads/{upload['id']}"
    half = len(ROWS) // 2
    ids = [n.ok(node.upload(path + "/parts", {"data": ("blob", d)}, 333))["id"]
           for d in (ROWS[:half], ROWS[half:])]
    done = n.call("POST", path + "/complete", {"part_ids": ids, "md5": hashlib.md5(ROWS).hexdigest()})
    assert done["status"] == "completed" and done["file"]["bytes"] == len(ROWS)
    other = n.call("POST", "/v1/uploads", {"filename": "t", "purpose": "batch", "bytes": 1, "mime_type": "a/b"})
    assert n.call("POST", f"/v1/uploads/{other['id']}/cancel")["status"] == "cancelled"


@test
def node_names_of_models():
    """Colons raw, slashes and blanks encoded; the answer has the name as it is."""
    s = Server()
    os.makedirs(os.path.join(s.models, "org"))
    os.symlink(os.path.join(s.models, "tiny"), os.path.join(s.models, "org", "model name"))
    n = Node(s)
    file = n.upload()["id"]
    job = n.call("POST", JOBS, {"model": "org/model name", "training_file": file, "suffix": "steps2"})["id"]
    until(lambda: n.call("GET", f"{JOBS}/{job}")["status"] == "succeeded")
    tuned = n.call("GET", f"{JOBS}/{job}")["fine_tuned_model"]
    assert tuned.startswith("ft:org/model name:ffwd:steps2:"), tuned
    for name in ("org/model name", tuned):
        path = "/v1/models/" + node.segment(name)
        assert ":" in path or name[0] == "o"
        assert "%2F" in path and "%20" in path
        for at in (path, path.replace("%2F", "/"), path.replace("%2F", "%2f")):
            assert n.call("GET", at)["id"] == name, at
    a = n.send(node.call("GET", f"/v1/fine_tuning/checkpoints/{node.segment(tuned)}/permissions"))
    assert a.status == 200 and a.json()["data"] == [], a.body
    assert n.call("DELETE", "/v1/models/" + node.segment(tuned))["deleted"] is True


@test
def node_reads_errors_and_repeats_what_it_may():
    s = Server(config={"limits": {"queued_jobs_per_project": 1}})
    n = Node(s)
    file = n.upload()["id"]
    body = {"model": "tiny", "training_file": file, "suffix": "steps100000-ms10"}
    first = n.call("POST", JOBS, body)["id"]
    until(lambda: n.call("GET", f"{JOBS}/{first}")["status"] == "running")
    n.call("POST", JOBS, {**body, "seed": 1})
    a = n.send(node.call("POST", JOBS, {**body, "seed": 2}))
    assert a.status == 429 and a.headers["x-should-retry"] == "false", a.headers
    for data, status in ((node.call("GET", f"{JOBS}/ftjob-nothere"), 404), (node.call("POST", JOBS, {}), 400),
                         (node.call("PUT", JOBS, {}), 405)):
        a = n.send(data)
        assert a.status == status and a.headers["content-type"] == "application/json", (status, a.body)
        assert set(a.error) == {"message", "type", "param", "code"}
    assert n.call("GET", f"{JOBS}/{first}")["status"] == "running", "the connection is still good"
