"""Webhook endpoints: made, changed, tested, given new secrets, deleted; by HTTP and by command."""
import json
import signal
import socket
import time

from cases_webhooks import ALLOW, Receiver, add, header, rows, signed_by, webhooks
from harness import Server, bearer, request, test, until


@test
def webhook_secrets_rotate_with_two_active():
    s = Server(config=ALLOW)
    r = Receiver()
    w = add(s, r.url)
    path = f"/v1/webhook_endpoints/{w['id']}"
    a = s.post(path + "/rotate_secret", {"keep_old_secret_active_for_24_hours": True}).json()
    assert a["signing_secret"] != w["signing_secret"]
    assert s.post(path + "/test").json()["status_code"] == 200 and len(r.got) == 1
    assert signed_by(w["signing_secret"], r.got[0]) and signed_by(a["signing_secret"], r.got[0])
    s.stop()
    rows(s, "UPDATE webhook_endpoints SET old_secret_until = 1")
    s.start()
    assert s.post(path + "/test").json()["status_code"] == 200 and len(r.got) == 2
    assert not signed_by(w["signing_secret"], r.got[1]) and signed_by(a["signing_secret"], r.got[1])
    shown = s.get("/v1/webhook_endpoints").body + s.get(f"/v1/webhook_endpoints/{w['id']}").body
    for secret in (w["signing_secret"], a["signing_secret"]):
        assert secret.encode() not in shown and secret not in s.log()
    for body in (None, {}, {"keep_old_secret_active_for_24_hours": False}):
        b = s.post(path + "/rotate_secret", body).json()
        s.post(path + "/test")
        assert not signed_by(a["signing_secret"], r.got[-1]) and signed_by(b["signing_secret"], r.got[-1])
        assert b["signing_secret_hint"] == "whsec_..." + b["signing_secret"][-4:]
        a = b
    r.close()


@test
def webhook_endpoints_by_http():
    s = Server()
    for body, param in (({}, "url"), ({"url": 1}, "url"), ({"url": ""}, "url"),
                        ({"url": "ftp://x/"}, "url"), ({"url": "file:///etc/passwd"}, "url"),
                        ({"url": "https://"}, "url"), ({"url": "https:///x"}, "url"),
                        ({"url": "https://u:p@x/"}, "url"), ({"url": "https://x/ y"}, "url"),
                        ({"url": "https://x/\r\nX: y"}, "url"), ({"url": "https://x/#f"}, "url"),
                        ({"url": "https://x/" + "y" * 2048}, "url"),
                        ({"url": "https://x/\u00e9"}, "url"),
                        ({"url": "https://x/", "secret": "s"}, "secret"),
                        *(({"url": "https://x/", "name": v}, "name") for v in ("", 1, None, "x" * 256)),
                        *(({"url": "https://x/", "event_types": v}, "event_types") for v in (
                            None, [], "x", {}, [1], [None], ["batch.completed"], ["fine_tuning.job.succeeded"] * 2,
                            ["fine_tuning.job.failed", "fine_tuning.job.paused"]))):
        a = s.post("/v1/webhook_endpoints", body)
        assert a.status == 400 and a.error["param"] == param, (body, a.body)
    made = [add(s, f"https://example.com/{i}") for i in range(16)]
    a = s.post("/v1/webhook_endpoints", {"url": "https://example.com/"})
    assert a.status == 400 and a.error["code"] == "too_many_webhooks", a.body
    listed = s.get("/v1/webhook_endpoints").json()
    assert [w["id"] for w in listed["data"]] == [w["id"] for w in made][::-1], "newest first"
    assert listed["first_id"] == made[-1]["id"] and listed["last_id"] == made[0]["id"]
    page = s.get(f"/v1/webhook_endpoints?limit=3&after={made[9]['id']}").json()
    assert [w["id"] for w in page["data"]] == [made[i]["id"] for i in (8, 7, 6)] and page["has_more"]
    page = s.get(f"/v1/webhook_endpoints?limit=3&after={made[2]['id']}").json()
    assert len(page["data"]) == 2 and not page["has_more"]
    assert s.get("/v1/webhook_endpoints?after=whe_none").error["param"] == "after"
    path = f"/v1/webhook_endpoints/{made[0]['id']}"
    assert s.get(path).json() == {k: v for k, v in made[0].items() if k != "signing_secret"}
    assert s.ask("DELETE", path).json()["deleted"] is True
    for a in (s.get(path), s.ask("DELETE", path), s.post(path + "/rotate_secret"), s.post(path + "/test"),
              s.post(path, {"name": "x"})):
        assert a.status == 404 and a.error["param"] == "webhook_endpoint_id", a.body


@test
def webhook_endpoints_are_changed_and_told_what_they_asked_for():
    s = Server(config=ALLOW)
    r, other = Receiver(), Receiver()
    types = ["fine_tuning.job.failed", "fine_tuning.job.succeeded"]
    a = s.post("/v1/webhook_endpoints", {"url": r.url, "name": "ci", "event_types": types[:1]})
    w = a.json()
    path = f"/v1/webhook_endpoints/{w['id']}"
    assert w["event_types"] == types[:1] and w["name"] == "ci" and w["updated_at"] == w["created_at"]
    plain = add(s, other.url)
    assert plain["name"] == "" and len(plain["event_types"]) == 3
    s.ended(s.create()), s.ended(s.create("exit20"))
    until(lambda: len(other.got) == 2 and len(r.got) == 1)
    assert json.loads(r.got[0][2])["type"] == types[0]
    time.sleep(1.1)
    for same in ({}, {"name": "ci"}, {"url": r.url, "event_types": types[:1]}):
        assert s.post(path, same).json() == {k: v for k, v in w.items() if k != "signing_secret"}, same
    changed = s.post(path, {"name": "new", "event_types": types, "url": other.url}).json()
    assert changed["name"] == "new" and set(changed["event_types"]) == set(types)
    assert changed["url"] == other.url and changed["updated_at"] > w["updated_at"]
    assert s.get(path).json() == changed
    for body, param in (({"url": "x"}, "url"), ({"url": None}, "url"), ({"name": ""}, "name"),
                        ({"event_types": []}, "event_types"), ({"status": "enabled"}, "status")):
        a = s.post(path, body)
        assert a.status == 400 and a.error["param"] == param, (body, a.body)
    assert s.get(path).json() == changed
    s.stop(signal.SIGKILL)
    s.start()
    assert s.get(path).json() == changed
    assert s.get("/v1/webhook_event_types").json()["data"] == [types[1], types[0], "fine_tuning.job.cancelled"]
    r.close(), other.close()


@test
def webhook_tests_say_what_the_endpoint_answered():
    s = Server(config={**ALLOW, "limits": {"webhook_seconds": 1}})
    r = Receiver([(200, {}), (204, {}), (302, {"Location": "/x"}), (500, {})])
    w = add(s, r.url)
    path = f"/v1/webhook_endpoints/{w['id']}/test"
    for type, status in ((None, 200), ("fine_tuning.job.failed", 204), ("fine_tuning.job.succeeded", 302),
                         ("fine_tuning.job.cancelled", 500), ("ffwd.webhook.test", 200)):
        a = s.post(path, {"event_type": type} if type else None).json()
        got = json.loads(r.got[-1][2])
        assert {k: a[k] for k in ("object", "event_type", "status_code", "success", "webhook_endpoint_id")} == {
            "object": "webhook_endpoint.test", "event_type": type or "ffwd.webhook.test",
            "status_code": status, "success": True, "webhook_endpoint_id": w["id"]}, a
        assert got["type"] == a["event_type"] and got["data"] == {"id": w["id"]}
        assert signed_by(w["signing_secret"], r.got[-1]) and header(r.got[-1], "webhook-id") == a["id"]
    assert not rows(s, "SELECT 1 FROM webhook_deliveries WHERE status = 0"), "a test is tried once"
    for type in ("batch.completed", "", 1, None, []):
        a = s.post(path, {"event_type": type})
        assert a.status == 400 and a.error["param"] == "event_type", a.body
    assert len(r.got) == 5
    r.close()
    hanging = socket.socket()
    hanging.bind(("127.0.0.1", 0))
    hanging.listen(8)
    silent = add(s, f"http://127.0.0.1:{hanging.getsockname()[1]}/")["id"]
    private = add(s, "http://10.1.2.3/")["id"]
    for id, words in ((w["id"], "onnect"), (silent, "imed out"), (private, "webhook_allow")):
        a = s.post(f"/v1/webhook_endpoints/{id}/test")
        assert a.status == 400 and a.error["code"] == "webhook_unreachable" and words in a.error["message"], a.body
    # stopping does not wait for one, and its client is answered or cut
    c = s.connect()
    c.send(request("POST", f"/v1/webhook_endpoints/{silent}/test", b""))
    time.sleep(0.2)
    assert s.stop() == 0
    hanging.close()


@test
def webhook_endpoints_by_command():
    s = Server(config=ALLOW)
    r = Receiver([(200, {}), (503, {})])
    made = webhooks(s, "create", "--url", r.url, "--project", "one")
    secret, id = made.stdout.strip(), made.stderr.split()[1]
    assert made.returncode == 0 and secret.startswith("whsec_") and id.startswith("whe_"), made
    ok = webhooks(s, "test", id)
    assert ok.returncode == 0 and "status 200" in ok.stderr, ok
    assert signed_by(secret, r.got[0])
    assert json.loads(r.got[0][2])["type"] == "ffwd.webhook.test"
    refused = webhooks(s, "test", id)
    assert refused.returncode != 0 and "503" in refused.stderr, refused
    listed = webhooks(s, "list")
    assert id in listed.stdout and r.url in listed.stdout and secret not in listed.stdout
    assert id not in webhooks(s, "list", "--project", "two").stdout
    rotated = webhooks(s, "rotate", id)
    assert rotated.stdout.strip().startswith("whsec_") and rotated.stdout.strip() != secret
    for args in (("create",), ("create", "--url", "x"), ("delete",), ("delete", "whe_none"),
                 ("rotate", "whe_none"), ("test", "whe_none"), ("other",), ()):
        assert webhooks(s, *args).returncode == 2, args
    # keys of projects see their own only
    keys = {p: s.key(p) for p in ("one", "two")}
    for project, n in (("one", 1), ("two", 0)):
        found = s.get("/v1/webhook_endpoints",
                      headers=bearer(keys[project])).json()["data"]
        assert len(found) == n, (project, found)
    s.stop()
    # without a server
    assert webhooks(s, "delete", id).returncode == 0
    again = webhooks(s, "create", "--url", r.url)
    assert again.returncode == 0
    assert "no server runs" in webhooks(s, "test", again.stderr.split()[1]).stderr
    s.start()
    until(lambda: len(r.got) == 3)
    r.close()
