"""What stands around an answer: request ids, the access log, rate limits, types, origins, Azure."""
import re
import time

from harness import Connection, FORM, ROW, Server, Skip, bearer, form, request, test, until
from cases_guard import outward_address

STANDARD = ("x-request-id", "openai-version", "openai-processing-ms", "openai-organization",
            "x-content-type-options")
JOBS = "/v1/fine_tuning/jobs"


def log_line(s, a):
    """The access log's line of an answer, as fields."""
    id = a.headers["x-request-id"]

    def find():
        return [line for line in s.log().splitlines() if "http.request" in line and id in line]
    lines = until(find)
    assert len(lines) == 1, lines
    return dict(re.findall(r"(\w+)=(\S+)", lines[0]))


@test
def every_answer_has_the_headers_and_a_line_in_the_log():
    s = Server()
    file = s.upload()
    raw = (b"GET http://evil/x HTTP/1.1\r\nHost: x\r\n\r\n",
           b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
           b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
           b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n")
    answers = []
    for data in raw:
        c = s.connect()
        c.send(data)
        answers.append(c.answer())
    assert [a.status for a in answers] == [400, 400, 414, 431]
    answers += [s.get("/healthz"), s.get("/nothing"), s.get("/v1/models"), s.get("/metrics"),
                s.ask("DELETE", "/v1/models"), s.ask("OPTIONS", "/v1/models"),
                s.ask("HEAD", "/v1/models"), s.get(f"/v1/files/{file}/content"),
                s.get(f"/v1/files/{file}/content", headers=[("Range", "bytes=0-9")]),
                s.get(f"/v1/files/{file}/content", headers=[("Range", "bytes=999999-")]),
                s.post(JOBS, {}), s.ask("POST", JOBS, b"{}", kind="text/plain"),
                s.ask("POST", JOBS, b"x" * 2000000), s.ask("POST", "/v1/files", b"x", kind=FORM)]
    ids = {a.headers["x-request-id"] for a in answers}
    assert len(ids) == len(answers), "ids are not used twice"
    for a in answers:
        assert all(h in a.headers for h in STANDARD), (a.status, a.headers)
        assert re.fullmatch(r"req_[0-9a-z]{24}", a.headers["x-request-id"])
        assert a.headers["openai-processing-ms"].isdigit()
        line = log_line(s, a)
        assert line["status"] == str(a.status) and line["end"] == "sent", line
        if a.status != 204 and line["method"] != "HEAD":
            assert line["bytes"] == str(len(a.body)), (line, len(a.body))
        if a.status >= 400:
            assert set(a.error) == {"message", "type", "param", "code"}, a.body
            assert a.headers["content-type"] == "application/json"


@test
def the_log_names_key_and_project_and_no_secret():
    s = Server()
    key = s.key("team-a")
    a = s.get("/v1/models?secret=in-the-query", headers=bearer(key))
    line = log_line(s, a)
    assert line["project"] == "team-a" and line["key"].startswith("key-"), line
    assert line["path"] == "/v1/models" and line["ms"].isdigit() and line["bytes_in"] == "0"
    wrong = log_line(s, s.get("/v1/models", headers=bearer("sk-ffwd-wrong-key")))
    assert wrong["status"] == "401" and wrong["key"] == "-" and wrong["project"] == "-"
    body = b'{"model":"x"}'
    sent = log_line(s, s.ask("POST", JOBS, body, bearer(key)))
    assert sent["bytes_in"] == str(len(body)), sent
    for data in (b"GET /v1/models?a=in-the-query HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
                 b"GET /v1/models?a=in-the-query HTTP/1.1\r\nContent-Length: +5\r\n\r\n"):
        c = s.connect()
        c.send(data)
        assert c.ended()
    until(lambda: "http.unread" in s.log())
    log = s.log()
    assert key not in log and "in-the-query" not in log and "wrong-key" not in log


@test
def rate_limits_of_keys_and_projects():
    s = Server(config={"limits": {"key_requests_per_minute": 60,
                                  "project_requests_per_minute": 100}})
    one, two, other = s.key("one"), s.key("one"), s.key("other")
    start = time.time()
    first = s.get("/v1/models", headers=bearer(one))
    assert first.headers["x-ratelimit-limit-requests"] == "60", first.headers
    assert first.headers["x-ratelimit-remaining-requests"] == "59"
    assert re.fullmatch(r"\d+(ms|s|m\d+s)", first.headers["x-ratelimit-reset-requests"])

    def until_refused(key, most):
        for n in range(most):
            a = s.get("/v1/models", headers=bearer(key))
            if a.status != 200:
                return n, a
        raise AssertionError(f"{most} requests passed")
    passed, a = until_refused(one, 200)
    filled = (time.time() - start) + 1  # one request a second is added
    assert 59 <= passed <= 59 + filled, passed
    assert a.status == 429 and a.error["code"] == "rate_limit_exceeded" and "key" in a.error["message"]
    assert a.error["type"] == "rate_limit_error" and a.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(a.headers["retry-after-ms"]) <= 1000 and a.headers["retry-after"] == "1"
    assert s.get("/healthz").status == 200, "open routes have no limit"
    passed, a = until_refused(two, 200)
    assert passed < 59 and "project" in a.error["message"], (passed, a.body)
    assert s.get("/v1/models", headers=bearer(other)).status == 200
    until(lambda: s.get("/v1/models", headers=bearer(one)).status == 200)
    text = s.get("/metrics").body.decode()
    assert float(re.search(r"^ffwd_http_rate_limited_total (\S+)$", text, re.M)[1]) >= 2


@test
def rate_limit_of_addresses_without_a_key():
    address = outward_address()
    if not address:
        raise Skip("this machine has loopback only")
    s = Server(start=False, config={"limits": {"address_requests_per_minute": 20}})
    key = s.key()
    s.start(listen="0.0.0.0:0")

    def ask(host, headers):
        c = Connection(s.port, host=host)
        c.send(request("GET", "/v1/models", headers=headers))
        a = c.answer()
        c.close()
        return a
    found = [ask(address, bearer("guess")).status for _ in range(60)]
    assert found[:20] == [401] * 20 and 429 in found, found
    assert ask(address, bearer(key)).status == 200, "a key is not limited by its address"
    assert [ask("127.0.0.1", bearer("guess")).status for _ in range(60)] == [401] * 60


@test
def without_configuration_there_is_no_rate_limit():
    s = Server()
    a = [s.get("/v1/models") for _ in range(200)]
    assert all(x.status == 200 for x in a)
    assert not any(h.startswith("x-ratelimit") for h in a[0].headers)


@test
def types_methods_and_sizes():
    s = Server()
    job = "/v1/fine_tuning/jobs/ftjob-none"
    for path in (JOBS, job + "/cancel"):
        a = s.ask("POST", path, b"{}", kind="text/plain")
        assert a.status == 415 and a.error["code"] == "unsupported_media_type", (path, a.body)
    for kind in ("application/json", None, "application/json; charset=utf-8", "Application/JSON",
                 "application/vnd.x+json"):
        assert s.ask("POST", JOBS, b"{}", kind=kind).status == 400, kind
    for headers in ((), [("Content-Type", "application/json")], [("Content-Type", "text/plain")]):
        a = s.ask("POST", job + "/cancel", headers=headers)
        assert a.status == 404, (headers, a.status, a.body)
    a = s.ask("POST", "/v1/files", b"{}")
    assert a.status == 415, a.status
    for method, path, allow in (("PUT", "/v1/files", {"POST", "GET", "HEAD"}),
                                ("PATCH", "/v1/models", {"GET", "HEAD"}),
                                ("GET", job + "/cancel", {"POST"}),
                                ("DELETE", job + "/events", {"GET", "HEAD", "POST"}),
                                ("POST", "/metrics", {"GET", "HEAD"})):
        a = s.ask(method, path)
        assert a.status == 405 and set(a.headers["allow"].split(", ")) == allow, (path, a.headers)
        assert a.error["code"] == "method_not_allowed"
        o = s.ask("OPTIONS", path)
        assert o.status == 204 and set(o.headers["allow"].split(", ")) == allow, (path, o.headers)
    assert s.ask("OPTIONS", "/nothing").status == 204
    assert s.ask("POST", JOBS, b" " * ((1 << 20) + 1)).status == 413


@test
def azure_clients():
    s = Server()
    key = s.key()
    azure = [("api-key", key)]
    file = s.ask("POST", "/openai/files?api-version=2024-10-21",
                 form([("purpose", None, b"fine-tune"), ("file", "t.jsonl", ROW.encode() * 12)]),
                 azure, FORM).json()["id"]
    a = s.post("/openai/fine_tuning/jobs?api-version=2024-10-21",
               {"model": "tiny", "training_file": file}, headers=azure)
    assert a.status == 200, a.body
    job = a.json()["id"]
    until(lambda: s.get("/v1/fine_tuning/jobs/" + job, headers=azure).json()["status"] == "succeeded")
    for prefix in ("/v1", "/openai/v1", "/openai"):
        base = f"{prefix}/fine_tuning/jobs"
        assert s.get(f"{base}?api-version=2024-10-21", headers=azure).json()["data"][0]["id"] == job
        listed = s.get(f"{base}/{job}/events?limit=3&api-version=x", headers=azure)
        assert len(listed.json()["data"]) == 3
        for kind in ("events", "checkpoints"):
            got = s.get(f"{base}/{job}/{kind}?api-version=x", headers=azure)
            posted = s.ask("POST", f"{base}/{job}/{kind}?api-version=x", headers=azure)
            assert posted.status == 200 and posted.json() == got.json(), (prefix, kind, posted.body)
        assert s.get(f"{prefix}/models", headers=azure).status == 200
    assert s.get("/openai/v1/models", headers=[("api-key", key + "x")]).status == 401


@test
def browsers_of_configured_origins():
    good, bad = "https://app.example", "https://bad.example"
    s = Server(config={"cors_origins": [good, "http://localhost:3000"]})
    key = s.key()
    pre = [("Access-Control-Request-Method", "POST"),
           ("Access-Control-Request-Headers", "authorization,content-type,x-stainless-os")]
    for path in (JOBS, "/v1/files", "/openai/v1/models", "/v1/nothing"):
        a = s.ask("OPTIONS", path, headers=pre + [("Origin", good)])
        assert a.status == 204 and a.headers["access-control-allow-origin"] == good, a.headers
        allowed = {h.strip() for h in a.headers["access-control-allow-headers"].split(",")}
        assert {"authorization", "content-type", "api-key", "last-event-id", "idempotency-key",
                "x-stainless-os", "x-stainless-retry-count"} <= allowed
        methods = set(a.headers["access-control-allow-methods"].split(", "))
        assert {"GET", "POST", "DELETE"} <= methods
        assert a.headers["vary"] == "Origin" and int(a.headers["access-control-max-age"]) > 0
        b = s.ask("OPTIONS", path, headers=pre + [("Origin", bad)])
        assert b.status == 204 and not any(h.startswith("access-control") for h in b.headers)
    answers = {n: s.get("/v1/models", headers=bearer(key) + [("Origin", o)] * bool(o))
               for n, o in (("good", good), ("bad", bad), ("none", ""), ("null", "null"),
                            ("longer", good + ".evil.example"), ("case", good.upper()))}
    for name, a in answers.items():
        assert a.status == 200 and a.headers["vary"] == "Origin", name
        assert ("access-control-allow-origin" in a.headers) == (name == "good"), name
        assert a.headers.get("access-control-allow-origin") != "*"
        assert "access-control-allow-credentials" not in a.headers
    exposed = {h.strip() for h in
               answers["good"].headers["access-control-expose-headers"].split(",")}
    assert {"x-request-id", "retry-after", "retry-after-ms", "x-ratelimit-remaining-requests",
            "openai-processing-ms", "content-range"} <= exposed
    refused = s.get("/v1/models", headers=[("Origin", good)])
    assert refused.status == 401 and refused.headers["access-control-allow-origin"] == good, \
        "a page must be able to read why it was refused"
    plain = Server()
    a = plain.get("/v1/models")
    assert "vary" not in a.headers
