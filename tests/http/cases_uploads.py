"""Files in parts, files stored once, limits of what a project stores."""
import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time

from harness import FORM, ROW, Server, Skip, alone, form, request, test, until

PURPOSE = ("purpose", None, b"fine-tune")


def begin(s, n, **more):
    a = s.post("/v1/uploads", {"filename": "t.jsonl", "purpose": "fine-tune", "bytes": n,
                               "mime_type": "application/jsonl", **more})
    assert a.status == 200, a.body
    return a.json()["id"]


def send_part(s, upload, content):
    return s.ask("POST", f"/v1/uploads/{upload}/parts", form([("data", "upload", content)]),
                 kind=FORM)


def part(s, upload, content):
    a = send_part(s, upload, content)
    assert a.status == 200, a.body
    return a.json()["id"]


def complete(s, upload, parts, **more):
    return s.post(f"/v1/uploads/{upload}/complete", {"part_ids": parts, **more})


def inode(s, file):
    return os.stat(os.path.join(s.data, "files", file)).st_ino


def on_disk(s):
    """Bytes of all files under the data folder that clients sent, each inode once."""
    sizes = {}
    for top in ("files", "uploads"):
        for folder, _, names in os.walk(os.path.join(s.data, top)):
            for name in names:
                try:
                    st = os.stat(os.path.join(folder, name))
                    sizes[st.st_ino] = st.st_size
                except FileNotFoundError:
                    pass
    return sum(sizes.values())


@test
def upload_in_parts_in_any_order_at_once():
    s = Server()
    content = os.urandom(2000003)
    pieces = [content[i:i + 150000] for i in range(0, len(content), 150000)]
    upload = begin(s, len(content))
    ids = [None] * len(pieces)

    def send(i):
        ids[i] = part(s, upload, pieces[i])
    order = list(range(len(pieces)))
    random.Random(1).shuffle(order)
    threads = [threading.Thread(target=send, args=(i,), daemon=True) for i in order]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    a = complete(s, upload, ids, md5=hashlib.md5(content).hexdigest())
    u = a.json()
    assert a.status == 200 and u["status"] == "completed", a.body
    assert u["object"] == "upload" and u["file"]["bytes"] == len(content)
    assert u["file"]["purpose"] == "fine-tune" and u["file"]["filename"] == "t.jsonl"
    got = s.get(f"/v1/files/{u['file']['id']}/content")
    assert got.body == content
    assert got.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert os.listdir(os.path.join(s.data, "uploads")) == []
    again = complete(s, upload, ids)
    assert again.status == 200 and again.json() == u, again.body


@test
def upload_trains_a_job():
    s = Server()
    content = (ROW * 12).encode()
    upload = begin(s, len(content))
    ids = [part(s, upload, content[:100]), part(s, upload, content[100:])]
    file = complete(s, upload, ids).json()["file"]["id"]
    assert s.ended(s.create(file=file))["status"] == "succeeded"


@test
def each_wrong_upload_is_refused():
    s = Server(config={"limits": {"part_bytes": 1000, "upload_bytes": 5000}})
    good = {"filename": "t", "purpose": "fine-tune", "bytes": 10, "mime_type": "text/plain"}
    for change, param in (({"filename": None}, "filename"), ({"filename": 1}, "filename"),
                          ({"filename": ""}, "filename"), ({"filename": "x" * 300}, "filename"),
                          ({"purpose": "other"}, "purpose"), ({"purpose": None}, "purpose"),
                          ({"bytes": 0}, "bytes"), ({"bytes": 5001}, "bytes"),
                          ({"bytes": "10"}, "bytes"), ({"bytes": -1}, "bytes"),
                          ({"bytes": 1e300}, "bytes"), ({"mime_type": ""}, "mime_type"),
                          ({"mime_type": []}, "mime_type"), ({"other": 1}, "other"),
                          ({"expires_after": 5}, "expires_after"),
                          ({"expires_after": {"seconds": 3600}}, "expires_after.anchor"),
                          ({"expires_after": {"anchor": "created_at", "seconds": 1}},
                           "expires_after.seconds")):
        a = s.post("/v1/uploads", {**good, **change})
        assert a.status == 400 and a.error["param"] == param, (change, a.body)
    for name in good:
        a = s.post("/v1/uploads", {k: v for k, v in good.items() if k != name})
        assert a.status == 400 and a.error["param"] == name, a.body
    assert os.listdir(os.path.join(s.data, "uploads")) == []
    for end in ("parts", "complete", "cancel"):
        path = f"/v1/uploads/upload_{'x' * 24}/{end}"
        a = s.ask("POST", path, form([("data", "t", b"x")]), kind=FORM) if end == "parts" else \
            s.post(path, {"part_ids": ["a"]})
        assert a.status == 404 and a.error["param"] == "upload_id", (end, a.body)


@test
def each_wrong_part_is_refused():
    s = Server(config={"limits": {"part_bytes": 1000, "upload_bytes": 5000}})
    upload = begin(s, 1500)
    path = f"/v1/uploads/{upload}/parts"
    a = send_part(s, upload, b"x" * 1001)
    assert a.status == 413 and a.error["code"] == "part_too_large", a.body
    assert "1000" in a.error["message"]
    # refused from its length alone, before the body is sent
    c = s.connect()
    c.send(request("POST", path, None, [("Content-Type", FORM), ("Content-Length", 3000000)]))
    assert c.answer().status == 413 and c.ended()
    # and so is one to an upload that is not there, though it asked first
    c = s.connect()
    c.send(request("POST", f"/v1/uploads/upload_{'x' * 24}/parts", None,
                   [("Content-Type", FORM), ("Content-Length", 500), ("Expect", "100-continue")]))
    assert c.head()[0] == 404
    c = s.connect()
    body = form([("data", "t", b"w" * 300)])
    c.send(request("POST", path, None, [("Content-Type", FORM), ("Expect", "100-continue"),
                                        ("Content-Length", len(body))]))
    assert c.head()[0] == 100
    c.send(body)
    assert c.answer().status == 200
    for body in (form([("data", "t", b"")]), form([PURPOSE, ("data", "t", b"x")]),
                 form([("file", "t", b"x")]), form([PURPOSE]),
                 form([("data", "t", b"x"), ("data", "t", b"x")])):
        a = s.ask("POST", path, body, kind=FORM)
        assert a.status == 400, a.body
    assert s.ask("POST", path, b"abc", kind="application/octet-stream").status == 415
    # without a file name, and with chunks: as good as any
    assert s.ask("POST", path, form([("data", None, b"x" * 500)]), kind=FORM).status == 200
    c = s.connect()
    body = form([("data", "t", b"y" * 1000)])
    c.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
           "Transfer-Encoding: chunked\r\n\r\n".encode())
    c.send(b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7])
                    for i in range(0, len(body), 7)) + b"0\r\n\r\n")
    assert c.answer().status == 200
    # what is kept for one upload has an end
    assert send_part(s, upload, b"z" * 1000).status == 200
    a = send_part(s, upload, b"z" * 201)
    assert a.status == 413 and a.error["code"] == "part_too_large", a.body
    assert send_part(s, upload, b"z" * 200).status == 200
    assert sorted(len(n) for n in os.listdir(os.path.join(s.data, "uploads", upload))) == [29] * 5


@test
def complete_is_checked_and_then_final():
    s = Server()
    content = b"0123456789" * 100
    upload = begin(s, 1000)
    one, two = part(s, upload, content[:400]), part(s, upload, content[400:])
    other = begin(s, 10)
    foreign = part(s, other, b"0123456789")
    for body, param in (({}, "part_ids"), ({"part_ids": []}, "part_ids"),
                        ({"part_ids": "a"}, "part_ids"), ({"part_ids": [1]}, "part_ids[0]"),
                        ({"part_ids": [one, "part_none"]}, "part_ids"),
                        ({"part_ids": [one, foreign]}, "part_ids"),
                        ({"part_ids": [one, one]}, "part_ids"), ({"part_ids": [one]}, "part_ids"),
                        ({"part_ids": [one, two], "md5": "x"}, "md5"),
                        ({"part_ids": [one, two], "md5": "0" * 32}, "md5"),
                        ({"part_ids": [one, two], "md5": 5}, "md5"),
                        ({"part_ids": [one, two], "more": 1}, "more")):
        a = s.post(f"/v1/uploads/{upload}/complete", body)
        assert a.status == 400 and a.error["param"] == param, (body, a.status, a.body)
    assert s.get("/v1/files").json()["data"] == []
    a = complete(s, upload, [two, one], md5=None)
    assert a.status == 200, a.body
    file = a.json()["file"]["id"]
    assert s.get(f"/v1/files/{file}/content").body == content[400:] + content[:400]
    assert send_part(s, upload, b"x").error["code"] == "upload_ended"
    for a in (complete(s, upload, [one, two]), s.post(f"/v1/uploads/{upload}/cancel")):
        assert a.status == 400 and a.error["code"] == "upload_ended", a.body
    assert s.ask("DELETE", f"/v1/files/{file}").status == 200
    assert "file" not in complete(s, upload, [two, one]).json()


@test
def cancel_removes_parts_and_takes_no_more():
    s = Server()
    upload = begin(s, 10)
    one = part(s, upload, b"0123456789")
    a = s.ask("POST", f"/v1/uploads/{upload}/cancel", b"")
    assert a.status == 200 and a.json()["status"] == "cancelled" and "file" not in a.json()
    assert os.listdir(os.path.join(s.data, "uploads")) == []
    for a in (send_part(s, upload, b"x"), complete(s, upload, [one]),
              s.post(f"/v1/uploads/{upload}/cancel")):
        assert a.status == 400 and "cancelled" in a.error["message"], a.body


@test
def uploads_and_files_expire():
    s = Server(config={"limits": {"upload_seconds": 5}})  # enough for a part on a busy machine
    upload = begin(s, 10, expires_after={"anchor": "created_at", "seconds": 3600})
    one = part(s, upload, b"0123456789")
    until(lambda: send_part(s, upload, b"x").status == 400)
    a = complete(s, upload, [one])
    assert a.status == 400 and "expired" in a.error["message"], a.body
    assert os.listdir(os.path.join(s.data, "uploads")) == []
    upload = begin(s, 10, expires_after={"anchor": "created_at", "seconds": 3600})
    u = complete(s, upload, [part(s, upload, b"0123456789")]).json()
    assert u["file"]["expires_at"] == u["file"]["created_at"] + 3600
    assert u["expires_at"] == u["created_at"] + 5


@test
def acknowledged_parts_outlive_a_kill():
    s = Server()
    content = os.urandom(300000)
    upload = begin(s, len(content))
    ids = [part(s, upload, content[i:i + 100000]) for i in range(0, 300000, 100000)]
    s.stop(signal.SIGKILL)
    s.start()
    a = complete(s, upload, ids, md5=hashlib.md5(content).hexdigest())
    assert a.status == 200, a.body
    assert s.get(f"/v1/files/{a.json()['file']['id']}/content").body == content


@test
def kill_while_parts_are_joined_loses_nothing():
    s = Server()
    piece = os.urandom(1 << 20)
    pieces = [bytes([i]) + piece for i in range(24)]
    content = b"".join(pieces)
    upload = begin(s, len(content))
    ids = [part(s, upload, p) for p in pieces]
    folder = os.path.join(s.data, "uploads", upload)
    kills = 0
    for wait in (1, 3, 6, 10, 15):
        c = s.connect()
        body = json.dumps({"part_ids": ids, "md5": hashlib.md5(content).hexdigest()}).encode()
        c.send(request("POST", f"/v1/uploads/{upload}/complete", body))
        until(lambda: not os.path.isdir(folder) or len(os.listdir(folder)) <= 24 - wait or
              "joined" in os.listdir(folder), pause=0.0005)
        assert on_disk(s) <= len(content) + len(pieces[0])
        s.stop(signal.SIGKILL)
        kills += os.path.isdir(folder)
        s.start()
        assert s.get("/v1/files").json()["data"] == [] or not os.path.isdir(folder)
    a = complete(s, upload, ids)
    assert a.status == 200, a.body
    file = a.json()["file"]["id"]
    assert s.get(f"/v1/files/{file}/content").body == content
    assert [f["id"] for f in s.get("/v1/files").json()["data"]] == [file] and kills > 0
    assert on_disk(s) == len(content) and os.listdir(os.path.join(s.data, "uploads")) == []


@test
def interrupted_upload_is_finished_by_the_next_start():
    s = Server()
    piece = os.urandom(1 << 20)
    for round in range(8):  # a kill may come when everything is done
        pieces = [bytes([round, i]) + piece for i in range(32)]
        content = b"".join(pieces)
        upload = begin(s, len(content))
        ids = [part(s, upload, p) for p in pieces]
        folder = os.path.join(s.data, "uploads", upload)
        c = s.connect()
        c.send(request("POST", f"/v1/uploads/{upload}/complete",
                       json.dumps({"part_ids": ids}).encode()))
        until(lambda: not os.path.isdir(folder) or "joined" in os.listdir(folder), pause=0.0005)
        s.stop(signal.SIGKILL)
        left = len(os.listdir(folder)) if os.path.isdir(folder) else 0
        s.start()
        if left > 1:
            break
    assert left > 1 and "uploads.resume interrupted=1" in s.log(), left

    def file():
        return [f for f in s.get("/v1/files").json()["data"] if f["bytes"] == len(content)
                and s.get(f"/v1/files/{f['id']}/content").body == content]
    file = until(file)[0]
    assert not os.path.isdir(folder)
    a = complete(s, upload, ids, md5=hashlib.md5(content).hexdigest())
    assert a.status == 200 and a.json()["file"] == file, a.body
    s.stop(signal.SIGKILL)
    s.start()
    assert complete(s, upload, ids).json()["file"] == file


@test
def removed_files_lose_their_blocks_later():
    """A large file goes by way of DATA/trash, which another thread empties, also after a crash."""
    s = Server(config={"limits": {"upload_seconds": 2}})
    trash = os.path.join(s.data, "trash")
    big = [s.upload("x%d" % i * (2 << 20)) for i in range(3)]
    assert s.ask("DELETE", f"/v1/files/{big[0]}").status == 200
    assert not os.path.exists(os.path.join(s.data, "files", big[0]))
    job = s.create("heavy64-steps3")
    model = s.ended(job)["fine_tuned_model"]
    assert s.ask("DELETE", f"/v1/models/{model}").status == 200
    upload = begin(s, 4 << 20)
    part(s, upload, os.urandom(4 << 20))
    assert s.post(f"/v1/uploads/{upload}/cancel").status == 200
    upload = begin(s, 4 << 20)
    part(s, upload, os.urandom(4 << 20))
    until(lambda: send_part(s, upload, b"x").status == 400)  # expired
    assert os.listdir(os.path.join(s.data, "uploads")) == []
    until(lambda: os.listdir(trash) == [])
    s.stop(signal.SIGKILL)
    os.makedirs(os.path.join(trash, "gone-1", "deep"))
    for path in ("gone-2", "gone-1/deep/x"):
        with open(os.path.join(trash, path), "w") as f:
            f.write("left by a crash")
    s.start()
    until(lambda: os.listdir(trash) == [])
    assert s.get(f"/v1/files/{big[1]}/content").body == b"x1" * (2 << 20)


@test
@alone
def large_adapters_are_hashed_beside_other_requests():
    s = Server()
    job = s.create("heavy300-steps5")
    waits = []
    while s.job(job)["status"] not in ("succeeded", "failed"):
        start = time.time()
        assert s.get("/healthz").status == 200
        waits.append(time.time() - start)
        time.sleep(0.005)
    j = s.job(job)
    assert j["status"] == "succeeded", j
    files = [s.get(f"/v1/files/{f}").json() for f in j["result_files"]]
    assert max(f["bytes"] for f in files) == 300 << 20
    assert max(waits) < 0.5, sorted(waits)[-5:]  # to hash 300 MB takes longer


@test
def stop_while_parts_are_joined_is_clean():
    s = Server()
    piece = os.urandom(1 << 20)
    upload = begin(s, 24 << 20)
    ids = [part(s, upload, piece) for _ in range(24)]
    c = s.connect()
    c.send(request("POST", f"/v1/uploads/{upload}/complete",
                   json.dumps({"part_ids": ids}).encode()))
    folder = os.path.join(s.data, "uploads", upload)
    until(lambda: not os.path.isdir(folder) or "joined" in os.listdir(folder), pause=0.001)
    assert s.stop() == 0
    s.start()
    assert complete(s, upload, ids).json()["status"] == "completed"


@test
def same_content_is_stored_once():
    s = Server()
    content = os.urandom(500000)
    a = s.upload(content.hex())
    b = s.upload(content.hex())
    assert inode(s, a) == inode(s, b) and on_disk(s) == 1000000
    half = content.hex().encode()
    upload = begin(s, len(half))
    c = complete(s, upload, [part(s, upload, half[:7]), part(s, upload, half[7:])]).json()
    c = c["file"]["id"]
    assert inode(s, c) == inode(s, a) and on_disk(s) == 1000000
    assert s.ask("DELETE", f"/v1/files/{a}").status == 200
    assert s.get(f"/v1/files/{a}/content").status == 404
    for other in (b, c):
        assert s.get(f"/v1/files/{other}/content").body == half
    s.stop()
    s.start()
    for other in (b, c):
        assert s.get(f"/v1/files/{other}/content").body == half
        assert s.ask("DELETE", f"/v1/files/{other}").status == 200
    assert on_disk(s) == 0
    assert s.get(f"/v1/files/{s.upload(content.hex())}/content").body == half


@test
def project_may_store_so_much():
    s = Server(config={"limits": {"project_bytes": 10000}})
    a = s.upload("x" * 6000)
    r = s.ask("POST", "/v1/files", form([PURPOSE, ("file", "t", b"y" * 4001)]), kind=FORM)
    assert r.status == 413 and r.error["code"] == "storage_limit_exceeded", r.body
    assert "4000" in r.error["message"] and "10000" in r.error["message"]
    r = s.post("/v1/uploads", {"filename": "t", "purpose": "batch", "bytes": 4001,
                               "mime_type": "text/plain"})
    assert r.status == 413 and r.headers["x-should-retry"] == "false", r.body
    upload = begin(s, 3000)
    one = part(s, upload, b"z" * 3000)
    r = send_part(s, upload, b"z" * 1001)
    assert r.status == 413 and r.error["code"] == "storage_limit_exceeded", r.body
    assert complete(s, upload, [one]).status == 200
    s.upload("x" * 1000)
    r = s.ask("POST", "/v1/files", form([PURPOSE, ("file", "t", b"y")]), kind=FORM)
    assert r.status == 413, r.body
    assert s.ask("DELETE", f"/v1/files/{a}").status == 200
    s.upload("x" * 6000)
    s.stop()
    s.start()
    assert s.ask("POST", "/v1/files", form([PURPOSE, ("file", "t", b"y")]),
                 kind=FORM).status == 413


@test
def full_disk_keeps_an_upload():
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small file system")
    s = Server(start=False)
    os.makedirs(s.data)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "ffwd-test", s.data],
                      capture_output=True).returncode:
        raise Skip("cannot mount a small file system")
    try:
        s.start()
        pieces = [os.urandom(2 << 20) for _ in range(4)]
        upload = begin(s, 8 << 20)
        ids = [part(s, upload, p) for p in pieces]
        filler = os.path.join(s.data, "filler")
        with open(filler, "wb") as f:
            try:
                while f.write(b"x" * 65536):
                    f.flush()
            except OSError:
                pass
        a = complete(s, upload, ids)
        assert a.status == 507, (a.status, a.body)
        assert a.headers["x-should-retry"] == "false", a.headers
        assert send_part(s, upload, pieces[0]).status in (400, 500, 507)
        os.unlink(filler)
        # 8 MiB in 12: there is no room for a second copy, and none is needed
        a = until(lambda: (r := complete(s, upload, ids)).status == 200 and r)
        assert s.get(f"/v1/files/{a.json()['file']['id']}/content").body == b"".join(pieces)
    finally:
        s.process.kill()
        s.process.wait()
        subprocess.run(["umount", "-l", s.data])


@test
def empty_file_can_be_read():
    s = Server()
    file = s.upload("")
    a = s.get(f"/v1/files/{file}/content")
    assert a.status == 200 and a.body == b"" and a.headers["content-length"] == "0"
    r = s.get(f"/v1/files/{file}/content", headers=[("Range", "bytes=0-")])
    assert r.status == 416, r.status
