"""/metrics, read by a parser of Prometheus' text format as its specification has it."""
import json
import os
import re

from harness import Connection, Server, Skip, bearer, request, test, until
from cases_guard import outward_address

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL},?)*)\}})? (\S+)")


def parse(text):
    """{family: (type, help)} and {(name, labels): value}; every line must have its place."""
    families, samples, current = {}, {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, words = line[7:].split(" ", 1)
            assert name not in families and words, line
            families[name], current = (None, words), name
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == current and kind in ("counter", "gauge", "histogram"), line
            families[name] = (kind, families[name][1])
        else:
            m = SAMPLE.fullmatch(line)
            assert m, line
            base = re.sub("_(bucket|sum|count)$", "", m[1])
            family = base if families.get(base, (0,))[0] == "histogram" else m[1]
            assert family == current, line
            key = (m[1], tuple(sorted((a, b) for a, b in re.findall(LABEL, m[2] or ""))))
            assert key not in samples, line
            samples[key] = float(m[5])
    return families, samples


def scrape(s, **more):
    a = s.get("/metrics", **more)
    assert a.status == 200, (a.status, a.body)
    assert a.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(a.body.decode())


def value(samples, name, **labels):
    return samples.get((name, tuple(sorted(labels.items()))))


def requests(samples, method, route, status):
    return value(samples, "ffwd_http_requests_total", method=method, route=route, status=status)


@test
def metrics_follow_the_conventions():
    s = Server()
    s.ended(s.create())
    families, samples = scrape(s)
    for name, (kind, words) in families.items():
        assert re.match(r"(ffwd|process)_[a-z0-9_]+$", name), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search("_(ms|millis|kb|mb|percent|minutes)(_|$)", name), name
        assert words.endswith("."), words
    histogram = "ffwd_http_request_duration_seconds"
    series = {k[1] for k in samples if k[0] == histogram + "_count"}
    assert series
    for labels in series:
        buckets = [(float(dict(k[1])["le"]), v) for k, v in samples.items()
                   if k[0] == histogram + "_bucket" and set(labels) < set(k[1])]
        buckets.sort()
        counts = [v for _, v in buckets]
        assert buckets[-1][0] == float("inf") and counts == sorted(counts) and len(counts) > 10
        assert counts[-1] == samples[(histogram + "_count", labels)]
        assert counts[-1] == samples[("ffwd_http_requests_total", labels)]
        assert samples[(histogram + "_sum", labels)] >= 0
    assert value(samples, "ffwd_build_info", version=s.get("/healthz").json()["version"]) == 1


@test
def metrics_count_what_happened():
    s = Server()
    first = scrape(s)[1]
    assert requests(first, "GET", "/v1/files/{file_id}", "4xx") is None
    for n in range(7):
        assert s.get(f"/v1/files/file-nothing{n}").status == 404
    file = s.upload()
    for path in ("/openai/v1/models", "/openai/models", "/v1/models"):
        assert s.get(path).status == 200
    assert s.get("/no/such/route").status == 404
    c = s.connect()
    c.send(b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n")
    assert c.answer().status == 400
    job = s.create("steps400-ms20", file=file)
    s.reaches(job, 3)
    reader = s.connect()
    reader.send(request("GET", f"/v1/fine_tuning/jobs/{job}/events?stream=true"))
    assert reader.head()[0] == 200
    waiting = s.create()
    until(lambda: s.job(waiting)["status"] == "queued")
    samples = scrape(s)[1]
    assert requests(samples, "GET", "/v1/files/{file_id}", "4xx") == 7
    assert requests(samples, "POST", "/v1/files", "2xx") == 2
    assert requests(samples, "GET", "/v1/models", "2xx") == 3
    assert requests(samples, "other", "other", "4xx") == 2
    assert requests(samples, "GET", "/metrics", "2xx") == 1
    assert value(samples, "ffwd_uploads_total") == 2
    assert value(samples, "ffwd_upload_bytes_total") > 2 * 12 * 70
    assert value(samples, "ffwd_event_streams") == 1
    assert value(samples, "ffwd_http_connections") >= 2
    assert value(samples, "ffwd_http_connections_accepted_total") >= 15
    assert value(samples, "ffwd_jobs", status="running") == 1
    assert value(samples, "ffwd_jobs", status="queued") == 1
    assert value(samples, "ffwd_jobs", status="failed") == 0
    assert value(samples, "ffwd_queue_depth") == 1
    assert value(samples, "ffwd_worker_up") == 1 and value(samples, "ffwd_worker_restarts_total") == 0
    step = value(samples, "ffwd_training_step")
    assert step >= 3 and value(samples, "ffwd_training_steps") == 400
    assert abs(value(samples, "ffwd_training_loss") - 1 / step) < 1e-6, "the stand-in's loss"
    assert abs(value(samples, "ffwd_training_tokens_per_second") - 10 / 0.02) < 1
    assert value(samples, "ffwd_trained_tokens_total") == 10 * step
    disk = os.statvfs(s.data)
    assert abs(value(samples, "ffwd_disk_free_bytes") - disk.f_bavail * disk.f_frsize) < 1 << 30
    assert value(samples, "ffwd_disk_used_bytes") > 0
    status = open(f"/proc/{s.process.pid}/status").read()
    resident = int(status.split("VmRSS:")[1].split()[0]) * 1024
    assert 0.5 < value(samples, "process_resident_memory_bytes") / resident < 2
    files = len(os.listdir(f"/proc/{s.process.pid}/fd"))
    assert abs(value(samples, "process_open_fds") - files) <= 3
    os.kill(s.workers()[0], 9)
    until(lambda: value(scrape(s)[1], "ffwd_worker_restarts_total") == 1)
    s.post(f"/v1/fine_tuning/jobs/{job}/cancel")
    s.ended(job)
    s.ended(waiting)
    last = scrape(s)[1]
    assert value(last, "ffwd_training_loss") is None and value(last, "ffwd_queue_depth") == 0
    assert value(last, "ffwd_trained_tokens_total") >= 10 * (step + 10)


@test
def metrics_do_not_grow_with_what_clients_send():
    s = Server()
    for n in range(3):
        s.get(f"/v1/files/file-{n}"), s.get(f"/x{n}"), s.ask(f"BREW{n}", "/v1/models")
    before = set(scrape(s)[1])
    for n in range(200):
        s.get(f"/v1/files/file-y{n}?a={n}")
        s.get(f"/x/{n}")
        s.ask(f"M{n}", f"/v1/models?{n}")
        s.get("/v1/models/" + f"%22{n}%5c%0a")
    after = set(scrape(s)[1])
    new = {k for k in after - before if "/metrics" not in str(k) and "/v1/models/{" not in str(k)}
    assert not new, new


@test
def metrics_are_for_this_machine_or_a_key():
    address = outward_address()
    for setting in (None, "key", "open"):
        s = Server(start=False, config={"metrics": setting} if setting else {})
        key = s.key()
        s.start(listen="0.0.0.0:0" if address else "127.0.0.1:0")
        near = s.get("/metrics").status
        assert near == (401 if setting == "key" else 200), (setting, near)
        assert s.get("/metrics", headers=bearer(key)).status == 200
        if address:
            c = Connection(s.port, host=address)
            c.send(request("GET", "/metrics"))
            assert c.answer().status == (200 if setting == "open" else 401), setting
            c.send(request("GET", "/metrics", headers=bearer(key)))
            assert c.answer().status == 200
        s.stop()
    if not address:
        raise Skip("this machine has loopback only: the way in from outside was not tried")


@test
def metrics_are_in_the_openapi_document():
    s = Server()
    doc = s.get("/openapi.json").json()
    assert "text/plain" in json.dumps(doc["paths"]["/metrics"]["get"]["responses"]["200"])
