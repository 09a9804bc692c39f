"""Every path with every method it does not have, every kind of id that is not there, every kind of
body that an address does not take.

The list of paths is written by hand from the published API and docs/API.md.
"""
import json
import os
import re

from harness import FORM, ROW, Server, bearer, form, test, until

JOBS = "/v1/fine_tuning/jobs"
PERMISSIONS = "/v1/fine_tuning/checkpoints/{checkpoint}/permissions"
HOOKS = "/v1/webhook_endpoints"
J, F = "json", "form"
# (path, {method: what it takes})
ROUTES = [
    ("/v1/files", {"POST": F, "GET": None}),
    ("/v1/files/{file}", {"GET": None, "DELETE": None}),
    ("/v1/files/{file}/content", {"GET": None}),
    ("/v1/uploads", {"POST": J}),
    ("/v1/uploads/{upload}/parts", {"POST": F}),
    ("/v1/uploads/{upload}/complete", {"POST": J}),
    ("/v1/uploads/{upload}/cancel", {"POST": J}),
    (JOBS, {"POST": J, "GET": None}),
    (JOBS + "/{job}", {"GET": None, "PATCH": J}),
    (JOBS + "/{job}/cancel", {"POST": J}),
    (JOBS + "/{job}/pause", {"POST": J}),
    (JOBS + "/{job}/resume", {"POST": J}),
    (JOBS + "/{job}/plot", {"GET": None}),
    (JOBS + "/{job}/events", {"GET": None, "POST": J}),
    (JOBS + "/{job}/checkpoints", {"GET": None, "POST": J}),
    (JOBS + "/{job}/adapter", {"GET": None}),
    (JOBS + "/{job}/adapter/adapter_model.safetensors", {"GET": None}),
    ("/v1/models", {"GET": None}),
    ("/v1/models/{model}", {"GET": None, "DELETE": None}),
    (PERMISSIONS, {"GET": None, "POST": J}),
    (PERMISSIONS + "/{permission}", {"DELETE": None}),
    (HOOKS, {"POST": J, "GET": None}),
    (HOOKS + "/{hook}", {"GET": None, "POST": J, "DELETE": None}),
    (HOOKS + "/{hook}/rotate_secret", {"POST": J}),
    (HOOKS + "/{hook}/test", {"POST": J}),
    ("/v1/webhook_event_types", {"GET": None}),
    ("/healthz", {"GET": None}),
    ("/readyz", {"GET": None}),
    ("/metrics", {"GET": None}),
    ("/openapi.json", {"GET": None}),
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "LINK", "get", "X" * 30)
ABSENT = {"file": "file-nothere", "upload": "upload_nothere", "job": "ftjob-nothere",
          "model": "ft:tiny:ffwd::nothere1", "checkpoint": "ft:tiny:ffwd::nothere1:ckpt-step-2",
          "permission": "cp_nothere", "hook": "wh_nothere"}


def envelope(a, status, code=None, param=None):
    assert a.status == status, (a.status, a.body)
    e = a.error
    assert set(a.json()) == {"error"} and set(e) == {"message", "type", "param", "code"}, e
    assert isinstance(e["message"], str) and e["message"], e
    assert e["type"] == ("server_error" if status >= 500 else
                         "rate_limit_error" if status == 429 else "invalid_request_error"), e
    assert a.headers["content-type"] == "application/json"
    assert re.fullmatch(r"req_[0-9a-z]{24}", a.headers["x-request-id"])
    assert code is None or e["code"] == code, e
    assert param is None or e["param"] == param, e
    return e


@test
def every_path_with_every_wrong_method():
    s = Server()
    described = {re.sub(r"\{[^}]*\}", "{}", p) for p in s.get("/openapi.json").json()["paths"]}
    listed = {re.sub(r"\{[^}]*\}", "{}", p.replace("adapter_model.safetensors", "{}")) for p, _ in ROUTES}
    assert described == listed, described ^ listed
    for pattern, methods in ROUTES:
        path = pattern.format(**ABSENT)
        allowed = set(methods) | ({"HEAD"} if "GET" in methods else set())
        prefixes = ["/v1"] if path.startswith("/v1/") else [""]
        for prefix in prefixes + (["/openai", "/openai/v1"] if prefixes == ["/v1"] else []):
            at = prefix + path.removeprefix("/v1")
            for method in METHODS:
                if method in allowed:
                    continue
                a = s.ask(method, at)
                assert set(a.headers["allow"].split(", ")) == allowed, (method, at, a.headers)
                if method == "HEAD":
                    assert a.status == 405 and a.body == b"", (at, a.status, a.body)
                else:
                    e = envelope(a, 405, "method_not_allowed")
                    assert all(m in e["message"] for m in (at, *allowed)), e
        o = s.ask("OPTIONS", path)
        assert o.status == 204 and set(o.headers["allow"].split(", ")) == allowed, (path, o.headers)
    for path in ("/", "/v1", "/v1/", "/v2/files", "/v1/files/", "/v1/files/x/y", "/v1/fine-tunes",
                 "/v1/fine_tuning/jobs/", "/v1/fine_tuning/jobs/x/y", "/v1/fine_tuning", "/v1/engines",
                 "/v1/chat/completions", "/v1/completions", "/v1/fine_tuning/alpha/graders/run",
                 "/v1/fine_tuning/alpha/graders/validate", "/V1/files", "/v1//files", "/openai", "/openai/"):
        for method in ("GET", "POST", "DELETE"):
            e = envelope(s.ask(method, path), 404, "unknown_url")
            assert path in e["message"], e


JOB_404 = ("fine_tune_not_found", "fine_tune_id", "Could not find fine tune: {}")
MODEL_404 = ("model_not_found", "model", "The model '{}' does not exist")
CHECKPOINT_404 = ("model_not_found", "fine_tuned_model_checkpoint", "The checkpoint '{}' does not exist")
FILE_404 = (None, "id", "No such File object: {}")
HOOK_404 = (None, "webhook_endpoint_id", "No such webhook endpoint: {}")
UPLOAD_404 = (None, "upload_id", "No such Upload object: {}")
# (method, path, body, the id that is not there, code, param, message)
UNKNOWN = [
    *((m, "/v1/files/{}" + p, None, "file", *FILE_404)
      for m, p in (("GET", ""), ("DELETE", ""), ("GET", "/content"))),
    ("POST", "/v1/uploads/{}/parts", form([("data", "t", b"x")]), "upload", *UPLOAD_404),
    ("POST", "/v1/uploads/{}/complete", b'{"part_ids":["part_x"]}', "upload", *UPLOAD_404),
    ("POST", "/v1/uploads/{}/cancel", b"", "upload", *UPLOAD_404),
    *((m, JOBS + "/{}" + p, b, "job", *JOB_404) for m, p, b in (
        ("GET", "", None), ("PATCH", "", b'{"priority":1}'), ("POST", "/cancel", b""),
        ("POST", "/pause", b""), ("POST", "/resume", b""), ("GET", "/events", None),
        ("GET", "/events?stream=true", None), ("POST", "/events", b""), ("GET", "/checkpoints", None),
        ("POST", "/checkpoints", b""), ("GET", "/adapter", None),
        ("GET", "/adapter/adapter_model.safetensors", None))),
    ("GET", "/v1/models/{}", None, "model", *MODEL_404),
    ("DELETE", "/v1/models/{}", None, "model", *MODEL_404),
    ("GET", "/v1/models/{}", None, "checkpoint", *MODEL_404),
    ("DELETE", "/v1/models/{}", None, "checkpoint", *MODEL_404),
    ("GET", "/v1/fine_tuning/checkpoints/{}/permissions", None, "checkpoint", *CHECKPOINT_404),
    ("POST", "/v1/fine_tuning/checkpoints/{}/permissions", b'{"project_ids":["a"]}', "checkpoint",
     *CHECKPOINT_404),
    ("DELETE", "/v1/fine_tuning/checkpoints/{}/permissions/cp_x", None, "checkpoint", *CHECKPOINT_404),
    ("GET", HOOKS + "/{}", None, "hook", *HOOK_404),
    ("DELETE", HOOKS + "/{}", None, "hook", *HOOK_404),
    ("POST", HOOKS + "/{}", b'{"name":"x"}', "hook", *HOOK_404),
    ("POST", HOOKS + "/{}/rotate_secret", b"", "hook", *HOOK_404),
    ("POST", HOOKS + "/{}/test", b"", "hook", *HOOK_404),
]


def ask_for(s, case, id, headers=()):
    method, path, body, _, code, param, message = case
    kind = FORM if path.endswith("/parts") else "application/json"
    a = s.ask(method, path.format(id), body, headers, kind)
    e = envelope(a, 404, code, param)
    assert e["code"] == code and e["message"] == message.format(id), (method, path, e)
    return a


def owned(s, mine):
    """One thing of each kind, of the project whose key is given."""
    file = s.upload(headers=mine)
    upload = s.post("/v1/uploads", {"filename": "t", "purpose": "fine-tune", "bytes": 1,
                                    "mime_type": "text/plain"}, headers=mine).json()["id"]
    job = s.post(JOBS, {"model": "tiny", "training_file": file, "suffix": "steps400-ms10"},
                 headers=mine).json()["id"]

    def get(path=""):
        return s.get(f"{JOBS}/{job}{path}", headers=mine).json()
    until(lambda: (get()["ffwd"]["progress"] or {}).get("step", 0) >= 2)
    s.post(f"{JOBS}/{job}/pause", headers=mine)
    until(lambda: get()["status"] == "paused")
    checkpoint = get("/checkpoints")["data"][0]["fine_tuned_model_checkpoint"]
    other = s.post(JOBS, {"model": "tiny", "training_file": file}, headers=mine).json()["id"]
    done = until(lambda: (j := s.get(f"{JOBS}/{other}", headers=mine).json())["finished_at"] and j)
    hook = s.post(HOOKS, {"url": "https://example.org/"}, headers=mine).json()["id"]
    return {"file": file, "upload": upload, "job": job, "checkpoint": checkpoint,
            "model": done["fine_tuned_model"], "hook": hook}


@test
def ids_that_are_not_there_and_those_of_others_are_one_answer():
    s = Server()
    for case in UNKNOWN:
        ask_for(s, case, ABSENT[case[3]])
    for case in UNKNOWN:  # odd, but still only an id
        if case[3] != "model":
            ask_for(s, case, "x" * 300)
    mine, other = bearer(s.key("mine")), bearer(s.key("other"))
    have = owned(s, mine)
    for case in UNKNOWN:
        ask_for(s, case, have[case[3]], other)
    for path in ("/v1/files", JOBS, HOOKS):
        assert s.get(path, headers=other).json()["data"] == []
    assert [m["id"] for m in s.get("/v1/models", headers=other).json()["data"]] == ["tiny"]
    job = s.get(f"{JOBS}/{have['job']}", headers=mine).json()
    assert job["status"] == "paused" and job["ffwd"]["priority"] == 0, "nothing of it was changed"
    for path in (f"/v1/files/{have['file']}", f"/v1/models/{have['model']}", f"{HOOKS}/{have['hook']}",
                 f"/v1/models/{have['checkpoint']}"):
        assert s.get(path, headers=mine).status == 200, path


@test
def places_in_a_list_that_are_not_there():
    """An unknown `after` is 404 and never the first page again, which a client would read for ever."""
    s = Server()
    job, foreign = s.create("steps6"), s.create("steps6")
    s.ended(job)
    s.ended(foreign)
    others = s.events(foreign)
    for path, ids in (("/v1/files", ["file-nothere", job]), (JOBS, ["ftjob-nothere", "x"]),
                      (f"{JOBS}/{job}/events", ["ftevent-nothere", others[0]["id"]]),
                      (f"{JOBS}/{job}/checkpoints", ["ftckpt_nothere", "x"])):
        for id in ids:
            e = envelope(s.get(f"{path}?after={id}"), 404, param="after")
            assert id in e["message"], e
        assert s.get(f"{path}?after=").status == 200
        for limit in ("0", "-1", "10001", "x", "1.5", "1e3", "", "99999999999999999999", "5 "):
            envelope(s.get(f"{path}?limit={limit.replace(' ', '%20')}"), 400, param="limit")
        last = s.get(f"{path}?limit=10000").json()["data"]
        if last:
            end = s.get(f"{path}?after={last[-1]['id']}").json()
            assert end["data"] == [] and end["has_more"] is False, end
    for path, name, value in (("/v1/files", "order", "up"), ("/v1/files", "order", "ascending"),
                              (JOBS, "metadata", "x"), (JOBS, "metadata[", "x"),
                              (f"{JOBS}/{job}/events", "stream", "yes"), (HOOKS, "limit", "x")):
        envelope(s.get(f"{path}?{name}={value}"), 400, param=name.strip("["))
    for id in ("ftevent-nothere", others[0]["id"]):
        a = s.get(f"{JOBS}/{job}/events?stream=true", headers=[("Last-Event-ID", id)])
        envelope(a, 404, "event_not_found", "Last-Event-ID")


def stored(s):
    """Everything that a request could have left behind."""
    folders = {}
    for top in ("files", "uploads", "jobs"):
        for folder, _, names in os.walk(os.path.join(s.data, top)):
            folders[folder] = sorted(names)
    lists = [s.get(p).json()["data"] for p in ("/v1/files", JOBS, HOOKS, "/v1/models")]
    return folders, [sorted(o["id"] for o in data) for data in lists]


def posts(s, have):
    """(method, path, a good body as JSON text) of every address that takes JSON and is asked for more
    than its name."""
    return [("POST", "/v1/uploads", '{"filename":"t","purpose":"fine-tune","bytes":3,"mime_type":"a/b"}'),
            ("POST", f"/v1/uploads/{have['upload']}/complete", '{"part_ids":["part_x"]}'),
            ("POST", JOBS, '{"model":"tiny","training_file":"%s"}' % have["file"]),
            ("PATCH", f"{JOBS}/{have['job']}", '{"priority":1}'),
            ("POST", PERMISSIONS.format(**have), '{"project_ids":["a"]}'),
            ("POST", HOOKS, '{"url":"https://example.org/"}'),
            ("POST", f"{HOOKS}/{have['hook']}", '{"name":"x"}')]


def one_of_each(s):
    have = owned(s, [])
    return {**have, "permission": "cp_x"}


@test
def bodies_that_are_no_json_object():
    s = Server()
    have = one_of_each(s)
    before = stored(s)
    for method, path, good in posts(s, have):
        deep = '{"a":' * 5000 + "1" + "}" * 5000
        key = good[2:good.index('"', 2)]
        bodies = [
            (b"", 400, "body"), (b" \n\t", 400, "JSON"), (b"[]", 400, "object"), (b"null", 400, "object"),
            (b"7", 400, "object"), (b'"x"', 400, "object"), (b"{", 400, "JSON"), (b"{}{}", 400, "JSON"),
            (good[:-1].encode(), 400, "JSON"), (good[:-1].encode() + b",}", 400, "JSON"),
            (b"\xff\xfe" + good.encode("utf-16-le"), 400, "JSON"), (b"\xef\xbb\xbf" + good.encode(), 400, "JSON"),
            (good.encode() + b"\0", 400, "JSON"), (good.replace('"', "'").encode(), 400, "JSON"),
            (("/* */" + good).encode(), 400, "JSON"), (good.encode() + b"garbage", 400, "JSON"),
            (good[:-1].encode() + b',"a":NaN}', 400, "JSON"), (good[:-1].encode() + b',"a":01}', 400, "JSON"),
            (good[:-1].encode() + b',"a":1e999}', 400, "JSON"),
            (good[:-1].encode() + b',"a":"\xc3("}', 400, "JSON"),
            (good[:-1].encode() + b',"a":"\\ud800"}', 400, "JSON"),
            (good[:-1].encode() + b',"a":"x\0y"}', 400, "JSON"),
            (good[:-1].encode() + b',"a":"x\\u0000y"}', 400, "has the character \\u0000."),
            (good[:-1].encode() + b',"a\\u0000b":1}', 400, "has the character \\u0000."),
            ((good[:-1] + "," + good[1:]).encode(), 400, "duplicate"),
            (('{"%s":null,' % key + good[1:]).encode(), 400, "duplicate"),
            ((good[:-1] + ',"o":{"a":1,"a":1}}').encode(), 400, "duplicate"),
            ((good[:-1] + ',"a":' + deep + "}").encode(), 400, "deep"),
            ((good[:-1] + ',"a":' + "[" * 400000 + "]" * 400000 + "}").encode(), 400, "deep"),
            ((good[:-1] + ',"a":"' + "x" * (1 << 20) + '"}').encode(), 413, "1 MiB"),
        ]
        for body, status, word in bodies:
            a = s.ask(method, path, body)
            e = envelope(a, status)
            assert word in e["message"], (path, body[:80], e)
            assert len(e["message"]) < 300, (path, len(e["message"]))
        for kind in ("text/plain", "application/x-www-form-urlencoded", FORM, "application/octet-stream",
                     "application/jsonl", "json", "text/json-x"):
            e = envelope(s.ask(method, path, good.encode(), kind=kind), 415, "unsupported_media_type")
            assert "application/json" in e["message"], e
    assert stored(s) == before
    job = s.job(have["job"])
    assert job["status"] == "paused" and job["ffwd"]["priority"] == 0, "nothing was changed"
    for method, path, good in posts(s, have):
        a = s.ask(method, path, good.encode())
        assert a.status == (400 if path.endswith("complete") else 200), (path, a.body)


@test
def addresses_that_need_no_body_take_an_empty_one():
    """Bodies that SDKs send with these calls: none with Content-Length 0, none at all, {}."""
    s = Server()
    for path in (f"{JOBS}/{{}}/{w}" for w in ("cancel", "pause", "resume", "events", "checkpoints")):
        for body, kind in ((b"", "application/json"), (None, None), (b"", None), (b"{}", "application/json")):
            job = s.create("steps100000")
            a = s.ask("POST", path.format(job), body, kind=kind)
            assert a.status == 200, (path, body, a.body)
            s.post(f"{JOBS}/{job}/cancel")
    upload = s.post("/v1/uploads", {"filename": "t", "purpose": "fine-tune", "bytes": 1,
                                    "mime_type": "text/plain"}).json()["id"]
    assert s.ask("POST", f"/v1/uploads/{upload}/cancel", b"").json()["status"] == "cancelled"
    file = s.upload()
    assert s.ask("DELETE", f"/v1/files/{file}", b"", kind="application/json").status == 200
    file = s.upload()
    assert s.ask("DELETE", f"/v1/files/{file}", b"{}", kind="application/json").status == 200


@test
def every_wrong_upload_form():
    """A file's form wrong in turn: the field is named, and nothing stays."""
    s = Server(config={"limits": {"file_bytes": 100000}})
    have = one_of_each(s)
    before = stored(s)
    purpose, file = ("purpose", None, b"fine-tune"), ("file", "t", ROW.encode())

    def expiry(anchor, seconds):
        return [purpose, *((f"expires_after[{n}]", None, v) for n, v in (("anchor", anchor), ("seconds", seconds))
                           if v is not None), file]
    cases = [([purpose], "file"), ([file], "purpose"), ([("purpose", None, b""), file], "purpose"),
             ([("purpose", None, b"fine_tune"), file], "purpose"), ([("purpose", None, b"evals"), file], "purpose"),
             ([("purpose", None, b"fine-tune-results"), file], "purpose"),
             ([("purpose", None, b"fine-tune\0"), file], "purpose"), ([purpose, purpose, file], "purpose"),
             ([purpose, file, file], "file"), ([purpose, ("other", None, b"x"), file], "other"),
             ([purpose, ("other", "t", b"x")], "other"), ([purpose, ("file", "x" * 256, b"x")], "file"),
             (expiry(b"created_at", None), "expires_after[seconds]"), (expiry(None, b"3600"), "expires_after[anchor]"),
             (expiry(b"last_used", b"3600"), "expires_after[anchor]"),
             *((expiry(b"created_at", v), "expires_after[seconds]")
               for v in (b"", b"3599", b"2592001", b"-3600", b"3600.5", b"1e4", b"x", b" 3600", b"9" * 40, b"auto"))]
    for parts, param in cases:
        e = envelope(s.ask("POST", "/v1/files", form(parts), kind=FORM), 400)
        assert param is None or e["param"] == param, (parts, e)
    e = envelope(s.ask("POST", "/v1/files", form([purpose, ("file", "t", b"x" * 100001)]), kind=FORM), 413)
    assert e["param"] == "file" and "100000" in e["message"], e
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", None, "multipart/mixed"):
        e = envelope(s.ask("POST", "/v1/files", form([purpose, file]), kind=kind), 415, "unsupported_media_type")
        assert "multipart/form-data" in e["message"], e
    for path in ("/v1/files", f"/v1/uploads/{have['upload']}/parts"):
        for kind in (FORM.replace("boundary", "bound"), "multipart/form-data; boundary=",
                     "multipart/form-data; boundary=" + "x" * 300):
            envelope(s.ask("POST", path, form([purpose, file]), kind=kind), 400)
    part = f"/v1/uploads/{have['upload']}/parts"
    for parts, param in (([], None), ([("data", "t", b"")], "data"), ([purpose, ("data", "t", b"x")], "purpose"),
                         ([file], None)):
        e = envelope(s.ask("POST", part, form(parts), kind=FORM), 400)
        assert param is None or e["param"] == param, (parts, e)
    assert stored(s) == before
    for seconds in (b"3600", b"2592000"):
        a = s.ask("POST", "/v1/files", form(expiry(b"created_at", seconds)), kind=FORM)
        f = a.json()
        assert a.status == 200 and f["expires_at"] == f["created_at"] + int(seconds), a.body
    assert json.dumps(f)


@test
def pages_of_large_jobs_end_early():
    """A client that pages on sees each job once; no page is much longer than 8 MiB."""
    s = Server(engine="/nonexistent/ffwd")
    metadata = {f"{n:02}" + "\U0001F41F" * 62: "\U0001F41F" * 512 for n in range(16)}  # 37 KB
    file = s.upload()
    jobs = [s.create(file=file, metadata=metadata) for _ in range(300)]
    seen, pages, after = [], 0, ""
    while True:
        a = s.get(f"/v1/fine_tuning/jobs?limit=10000{after}")
        assert a.status == 200 and len(a.body) < 9 << 20, (a.status, len(a.body))
        page = a.json()
        pages, seen = pages + 1, seen + [j["id"] for j in page["data"]]
        if not page["has_more"]:
            break
        assert len(a.body) > 8 << 20
        after = "&after=" + seen[-1]
    assert pages == 2 and seen == jobs[::-1], (pages, len(seen))
