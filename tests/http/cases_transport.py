"""Uploads, bodies, downloads and headers."""
import io
import json
import os
import subprocess
import tarfile
import xml.etree.ElementTree

from harness import (BOUNDARY, FORM, ROW, Server, Skip, form, request, test, until)

PURPOSE = ("purpose", None, b"fine-tune")


def leftovers(s):
    return [f for f in os.listdir(os.path.join(s.data, "files")) if not f.startswith("file-")]


@test
def health_and_headers():
    s = Server()
    a = s.get("/healthz")
    assert a.status == 200 and a.headers["x-request-id"].startswith("req_")
    assert a.headers["openai-version"] == "2020-10-01" and "openai-processing-ms" in a.headers
    until(lambda: a.headers["x-request-id"] in s.log())
    assert s.get("/readyz").status == 200
    head = s.ask("HEAD", "/v1/models")
    assert head.status == 200 and int(head.headers["content-length"]) > 2
    wrong = s.ask("DELETE", "/v1/models")
    assert wrong.status == 405 and "GET" in wrong.headers["allow"]
    assert s.get("/nowhere").error["type"] == "invalid_request_error"
    assert s.ask("BREW", "/v1/models").status in (405, 501)


@test
def uploads_in_either_order():
    s = Server()
    content = (ROW * 500).encode()
    file = ("file", "t.jsonl", content)
    for parts in ([PURPOSE, file], [file, PURPOSE], [("file", None, content), PURPOSE]):
        a = s.ask("POST", "/v1/files", form(parts), kind=FORM)
        assert a.status == 200 and a.json()["bytes"] == len(content), a.body
        got = s.get(f"/v1/files/{a.json()['id']}/content")
        assert got.body == content


@test
def upload_chunked_in_any_pieces():
    s = Server()
    content = os.urandom(70000) + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\r\n" + b"x" * 10
    body = form([("file", "t", content), PURPOSE])
    for piece in (1, 7, 4096, len(body)):
        c = s.connect()
        c.send(f"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
               "Transfer-Encoding: chunked\r\n\r\n".encode())
        part = body if piece > 1 else form([("file", "t", content[-60:]), PURPOSE])
        out = b"".join(b"%x\r\n%s\r\n" % (len(part[i:i + piece]), part[i:i + piece])
                       for i in range(0, len(part), piece))
        c.send(out + b"0\r\n\r\n")
        a = c.answer()
        assert a.status == 200, a.body
        got = s.get(f"/v1/files/{a.json()['id']}/content").body
        assert got == (content if piece > 1 else content[-60:])


@test
def upload_asks_before_it_sends():
    s = Server()
    body = form([PURPOSE, ("file", "t", ROW.encode())])
    c = s.connect()
    c.send(request("POST", "/v1/files", None, [("Content-Type", FORM), ("Expect", "100-continue"),
                                               ("Content-Length", len(body))]))
    assert c.head()[0] == 100
    c.send(body)
    assert c.answer().status == 200
    c.send(request("POST", "/v1/files", None, [("Content-Type", "text/plain"),
                                               ("Expect", "100-continue"),
                                               ("Content-Length", len(body))]))
    assert c.head()[0] == 415


@test
def bad_forms_are_refused_and_leave_nothing():
    s = Server()
    file = ("file", "t", ROW.encode())
    cases = [
        (form([PURPOSE, file], end=False), FORM, 400),
        (form([PURPOSE, file]), "multipart/form-data", 400),
        (form([PURPOSE, file]), 'multipart/form-data; boundary=""', 400),
        (form([PURPOSE, file]), "application/json", 415),
        (form([PURPOSE, file]), None, 415),
        (form([PURPOSE, file, file]), FORM, 400),
        (form([PURPOSE, PURPOSE, file]), FORM, 400),
        (form([PURPOSE, ("other", "t", b"x")]), FORM, 400),
        (form([PURPOSE, ("field", None, b"x"), file]), FORM, 400),
        (form([PURPOSE, ("big", None, b"x" * 20000), file]), FORM, 400),
        (form([("purpose", None, b"\xff\xfe"), file]), FORM, 400),
        (form([file]), FORM, 400),
        (form([PURPOSE]), FORM, 400),
        (form([PURPOSE, ("file", "x" * 300, b"x")]), FORM, 400),
        (b"--" + BOUNDARY.encode() + b"junk\r\n", FORM, 400),
        (b"--" + BOUNDARY.encode() + b"\r\nX: " + b"y" * 9000, FORM, 400),
        (b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition : form-data; name=a\r\n\r\n", FORM,
         400),
        (b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: form-data\r\n\r\n", FORM, 400),
        (b"nothing at all", FORM, 400),
        (b"", FORM, 400),
    ]
    for body, kind, status in cases:
        a = s.ask("POST", "/v1/files", body, kind=kind)
        assert a.status == status, (status, a.status, body[:100], a.body)
        assert set(a.error) == {"message", "type", "param", "code"}, a.body
    assert s.get("/v1/files").json()["data"] == [] and leftovers(s) == []


@test
def truncated_upload_leaves_nothing():
    s = Server()
    body = form([PURPOSE, ("file", "t", ROW.encode() * 5000)])
    c = s.connect()
    c.send(request("POST", "/v1/files", body, kind=FORM)[:200000])
    until(lambda: leftovers(s))
    c.close()
    until(lambda: not leftovers(s))
    assert s.get("/v1/files").json()["data"] == []


@test
def bodies_have_limits():
    s = Server(config={"limits": {"file_bytes": 100000}})
    a = s.ask("POST", "/v1/fine_tuning/jobs", b"[" * (1 << 20) + b"[")
    assert a.status == 413, a.status
    c = s.connect()
    c.send(b"POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        c.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    c.send(b"0\r\n\r\n")
    assert c.answer().status == 413
    a = s.ask("POST", "/v1/files", form([PURPOSE, ("file", "t", b"x" * 100001)]), kind=FORM)
    assert a.status == 413, (a.status, a.body)
    c = s.connect()
    c.send(request("POST", "/v1/files", None, [("Content-Type", FORM),
                                               ("Content-Length", 2000000)]))
    assert c.answer().status == 413 and c.ended()
    assert leftovers(s) == []


@test
def json_routes_take_json_objects():
    s = Server()
    for body, kind, status in ((b"[1]", "application/json", 400), (b"{", "application/json", 400),
                               (b"{}", "text/plain", 415), (b'{"a":1,"a":2}', None, 400),
                               (b'{"model":"tiny","training_file":"file-x","zzz":1}',
                                "application/json", 400)):
        a = s.ask("POST", "/v1/fine_tuning/jobs", body, kind=kind)
        assert a.status == status, (body, a.status, a.body)
    assert a.error["param"] == "zzz", a.body
    for depth, word in ((63, "nested"), (64, "nested"), (65, "levels deep"), (500000, "levels deep")):
        body = b'{"nested":' + b"[" * (depth - 1) + b'"[[[[\\"[["' + b"]" * (depth - 1) + b"}"
        a = s.ask("POST", "/v1/fine_tuning/jobs", body)
        assert a.status == 400 and word in a.error["message"], (depth, a.body)


@test
def ranges_and_validators():
    s = Server()
    file = s.upload()
    content = (ROW * 12).encode()
    path = f"/v1/files/{file}/content"
    a = s.get(path)
    assert a.headers["accept-ranges"] == "bytes" and a.headers["etag"].startswith('"')
    assert a.headers["content-disposition"].startswith("attachment;")
    n = len(content)
    for text, first, last in (("0-0", 0, 0), ("5-", 5, n - 1), ("-7", n - 7, n - 1),
                              (f"10-{n * 2}", 10, n - 1), ("-99999999", 0, n - 1)):
        r = s.get(path, headers=[("Range", "bytes=" + text)])
        assert r.status == 206 and r.body == content[first:last + 1], text
        assert r.headers["content-range"] == f"bytes {first}-{last}/{n}"
    r = s.get(path, headers=[("Range", f"bytes={n}-")])
    assert r.status == 416 and r.headers["content-range"] == f"bytes */{n}"
    for text in ("bytes=5-2", "bytes=a-b", "lines=0-1", "bytes=0-1,3-4"):
        assert s.get(path, headers=[("Range", text)]).body == content
    r = s.get(path, headers=[("Range", "bytes=0-1"), ("If-Range", '"other"')])
    assert r.status == 200 and r.body == content
    assert s.get(path, headers=[("If-None-Match", a.headers["etag"])]).status == 304
    h = s.ask("HEAD", path)
    assert h.headers["content-length"] == str(n)


@test
def adapter_as_tar_and_file():
    s = Server()
    job = s.create()
    assert s.ended(job)["status"] == "succeeded"
    path = f"/v1/fine_tuning/jobs/{job}/adapter"
    whole = s.get(path)
    assert whole.status == 200 and whole.body == s.get(path).body
    tar = tarfile.open(fileobj=io.BytesIO(whole.body))
    assert tar.getnames() == ["README.md", "adapter_config.json", "adapter_model.safetensors",
                              "metrics.csv"]
    assert tar.extractfile("adapter_model.safetensors").read() == s.adapter(job)
    n = len(whole.body)
    for first, last in ((0, 511), (100, 2000), (511, 512), (n - 1024, n - 1), (1000, n - 1)):
        r = s.get(path, headers=[("Range", f"bytes={first}-{last}")])
        assert r.status == 206 and r.body == whole.body[first:last + 1], (first, last)
    files = [s.get(f"/v1/files/{f}").json() for f in s.job(job)["result_files"]]
    assert [f["filename"] for f in files][0] == "metrics.csv" and len(files) == 4
    assert all(f["purpose"] == "fine-tune-results" for f in files)
    got = s.get(f"/v1/files/{files[0]['id']}/content").body
    assert got.startswith(b"step,train_loss\n1,1.0\n")
    assert s.get(path + "/nothing").status == 404
    assert s.get(path + "/%2e%2e%2fdied").status in (400, 404)


@test
def a_job_as_a_picture():
    s = Server()
    job = s.create()
    assert s.ended(job)["status"] == "succeeded"
    a = s.get(f"/v1/fine_tuning/jobs/{job}/plot")
    assert a.status == 200 and a.headers["content-type"] == "image/svg+xml"
    svg = xml.etree.ElementTree.fromstring(a.body)
    texts = ["".join(t.itertext()) for t in svg.iter() if t.tag.endswith("}text")]
    steps = len(s.get(f"/v1/fine_tuning/jobs/{job}/adapter/metrics.csv").body.splitlines()) - 1
    assert texts[0] == f"{job} on tiny: succeeded" and texts[1].startswith(f"{steps} steps"), texts
    assert s.get("/v1/fine_tuning/jobs/ftjob-none/plot").status == 404


@test
def lists_go_on_page_by_page():
    s = Server()
    ids = [s.upload() for _ in range(7)]
    found, after = [], ""
    while True:
        page = s.get(f"/v1/files?limit=3{after}").json()
        found += [f["id"] for f in page["data"]]
        if not page["has_more"]:
            break
        after = "&after=" + found[-1]
    assert found == ids[::-1]
    assert s.get("/v1/files?limit=0").status == 400
    assert s.get("/v1/files?limit=2&after=file-none").status in (400, 404)


@test
def full_disk_loses_nothing():
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small file system")
    s = Server(start=False)
    os.makedirs(s.data)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "ffwd-test", s.data],
                      capture_output=True).returncode:
        raise Skip("cannot mount a small file system")
    try:
        s.start()
        kept = s.upload()
        big = form([PURPOSE, ("file", "t", b"x" * 4000000)])
        a = s.ask("POST", "/v1/files", big, kind=FORM)
        assert a.status == 507, (a.status, a.body)
        assert a.headers["x-should-retry"] == "false", a.headers
        assert leftovers(s) == [] and s.get(f"/v1/files/{kept}").status == 200
        for n in range(40):
            content = b"%d" % n + ROW.encode() * 1500  # the same content would be stored once
            a = s.ask("POST", "/v1/files", form([PURPOSE, ("file", "t", content)]), kind=FORM)
            if a.status != 200:
                break
        assert a.status == 507, (a.status, a.body)
        files = s.get("/v1/files").json()["data"]
        assert len(files) == n + 1
        for file in files[:3]:
            gone = s.ask("DELETE", f"/v1/files/{file['id']}")
            assert gone.status == 200, (gone.status, gone.body)
        assert s.stop() == 0
        s.start()
        assert len(s.get("/v1/files").json()["data"]) == n - 2
        assert json.loads(s.get(f"/v1/files/{kept}").body)["bytes"] == len(ROW) * 12
        s.upload()
    finally:
        s.process.kill()
        s.process.wait()
        subprocess.run(["umount", "-l", s.data])


@test
def upload_of_64_mb_stays_small():
    s = Server()
    content = os.urandom(1 << 20) * 64
    a = s.ask("POST", "/v1/files", form([("file", "t", content), PURPOSE]), kind=FORM)
    assert a.status == 200 and a.json()["bytes"] == len(content)
    peak = int(open(f"/proc/{s.process.pid}/status").read().split("VmHWM:")[1].split()[0])
    assert peak < 64 << 10 or "san-" in s.command()[0], f"{peak} KiB resident"
    r = s.get(f"/v1/files/{a.json()['id']}/content", headers=[("Range", "bytes=60000000-")])
    assert r.body == content[60000000:]
