"""Webhooks: who is told, when, signed how, and where nothing is sent."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import signal
import shutil
import socket
import sqlite3
import ssl
import subprocess
import threading
import time

from harness import Server, Skip, alone, test, until

ALLOW = {"webhook_allow": ["127.0.0.0/8"]}


class Receiver:
    """An endpoint that answers as it is told and keeps what it got."""

    def __init__(self, answers=(), delay=0, certificate=None):
        got, plan = [], list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((self.path, dict(self.headers.items()), body, time.time()))
                if delay:
                    time.sleep(delay)
                status, headers = plan.pop(0) if plan else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass
        self.got = got
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' * bool(certificate)}://127.0.0.1:{self.server.server_address[1]}/hook?a=b"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def webhooks(s, *args):
    return subprocess.run(s.command("webhooks", *args, "--data", s.data), capture_output=True,
                          text=True, timeout=60)


def add(s, url, **more):
    a = s.post("/v1/webhook_endpoints", {"url": url}, **more)
    assert a.status == 200, a.body
    return a.json()


def header(got, name):
    return {n.lower(): v for n, v in got[1].items()}[name]


def signed_by(secret, got):
    """Whether one of the signatures is that of the secret, by Python's own HMAC."""
    text = f"{header(got, 'webhook-id')}.{header(got, 'webhook-timestamp')}.".encode() + got[2]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return "v1," + mac in header(got, "webhook-signature").split(" ")


def rows(s, sql, *args):
    db = sqlite3.connect(os.path.join(s.data, "ffwd.db"))
    try:
        found = db.execute(sql, args).fetchall()
        db.commit()
        return found
    finally:
        db.close()


def make_due(s):
    """Moves what waits for its next attempt to now; the server must not run."""
    rows(s, "UPDATE webhook_deliveries SET next_at = 1 WHERE status = 0")


@test
def webhook_tells_how_each_job_ended():
    s = Server(config=ALLOW)
    r = Receiver()
    secret = add(s, r.url)["signing_secret"]
    assert secret.startswith("whsec_") and len(base64.b64decode(secret[6:])) == 32
    good, bad, gone = s.create(), s.create("exit20"), s.create("steps9999-ms20")
    s.ended(good), s.ended(bad)
    s.running(gone)
    s.post(f"/v1/fine_tuning/jobs/{gone}/cancel")
    jobs = {j: s.ended(j) for j in (good, bad, gone)}
    assert [jobs[j]["status"] for j in (good, bad, gone)] == ["succeeded", "failed", "cancelled"]
    until(lambda: len(r.got) == 3)
    seen = {}
    for got in r.got:
        assert got[0] == "/hook?a=b" and signed_by(secret, got), got
        assert header(got, "content-type") == "application/json"
        assert abs(int(header(got, "webhook-timestamp")) - time.time()) < 60
        body = json.loads(got[2])
        assert set(body) == {"object", "id", "type", "created_at", "data"}, body
        assert body["object"] == "event" and body["id"].startswith("evt_")
        assert set(body["data"]) == {"id"}, body
        seen[body["data"]["id"]] = body
    assert len({header(g, "webhook-id") for g in r.got}) == 3
    for job, row in jobs.items():
        assert seen[job]["type"] == "fine_tuning.job." + row["status"], (row, seen[job])
        assert seen[job]["created_at"] == row["finished_at"]
    time.sleep(1)
    assert len(r.got) == 3, "a delivery that was accepted is not repeated"
    r.close()


@test
def webhook_is_sent_again_with_the_same_id_also_after_a_kill():
    s = Server(config=ALLOW)
    r = Receiver([(500, {}), (302, {"Location": "/other"}), (200, {})])
    secret = add(s, r.url)["signing_secret"]
    s.ended(s.create())
    until(lambda: len(r.got) == 1)
    # the schedule's first pause, with jitter
    until(lambda: len(r.got) == 2, seconds=20)
    assert 4 <= r.got[1][3] - r.got[0][3] <= 9, [g[3] for g in r.got]
    until(lambda: "attempt=2 status=302" in s.log())
    s.stop(signal.SIGKILL)
    (next_at, attempts, status), = rows(s, "SELECT next_at, attempts, status FROM "
                                           "webhook_deliveries")
    assert attempts == 2 and status == 0 and 290 <= next_at - time.time() <= 361
    make_due(s)
    s.start()
    until(lambda: len(r.got) == 3)
    assert len({header(g, "webhook-id") for g in r.got}) == 1
    assert len({g[2] for g in r.got}) == 1 and {g[0] for g in r.got} == {"/hook?a=b"}
    assert all(signed_by(secret, g) for g in r.got)
    until(lambda: "webhook.sent" in s.log())
    r.close()


@test
def webhook_of_a_job_that_ended_before_a_kill_is_sent_after_it():
    s = Server(config=ALLOW)
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        port = refusing.getsockname()[1]
        add(s, f"http://127.0.0.1:{port}/")
        job = s.create()
        s.ended(job)
        until(lambda: "webhook.failed" in s.log())
        s.stop(signal.SIGKILL)
    (n,), = rows(s, "SELECT count(*) FROM webhook_deliveries WHERE status = 0")
    assert n == 1
    r = Receiver()
    rows(s, "UPDATE webhook_endpoints SET url = ?", r.url)
    make_due(s)
    s.start()
    until(lambda: len(r.got) == 1)
    assert json.loads(r.got[0][2])["data"]["id"] == job
    r.close()


@test
def webhook_410_disables_and_retry_after_is_kept():
    s = Server(config=ALLOW)
    r = Receiver([(503, {"Retry-After": "4000"})])
    gone = Receiver([(410, {})])
    one, two = add(s, r.url)["id"], add(s, gone.url)["id"]
    s.ended(s.create())
    until(lambda: s.get(f"/v1/webhook_endpoints/{two}").json()["status"] == "disabled")
    until(lambda: "status=503" in s.log())
    assert "410" in s.get(f"/v1/webhook_endpoints/{two}").json()["disabled_reason"]
    a = s.post(f"/v1/webhook_endpoints/{two}/test")
    assert a.status == 400 and a.error["code"] == "webhook_disabled" and "410" in a.error["message"]
    s.ended(s.create())
    until(lambda: len(r.got) == 2)
    s.stop()
    waits = [n - time.time() for n, in rows(s, "SELECT next_at FROM webhook_deliveries WHERE "
                                               "attempts = 1 AND status = 0")]
    assert len(waits) == 1 and 3900 < waits[0] <= 4001, waits
    assert len(gone.got) == 1
    s.start()
    w = s.post(f"/v1/webhook_endpoints/{two}", {"url": gone.url}).json()
    assert w["status"] == "enabled" and w["disabled_reason"] is None, w
    assert s.post(f"/v1/webhook_endpoints/{two}/test").json()["status_code"] == 200
    assert one and not rows(s, "SELECT 1 FROM webhook_deliveries d JOIN webhook_endpoints e ON "
                               "e.seq = d.endpoint_seq WHERE d.status = 0 AND e.id = ?", two)
    r.close(), gone.close()


@test
def webhook_ends_after_its_last_attempt():
    s = Server(config=ALLOW)
    r = Receiver([(404, {})] * 20)
    add(s, r.url)
    s.ended(s.create())
    until(lambda: "attempt=1 " in s.log())
    s.stop()
    rows(s, "UPDATE webhook_deliveries SET next_at = 1, attempts = 9")
    s.start()
    until(lambda: "attempt=10 " in s.log())
    s.stop()
    (status, error), = rows(s, "SELECT status, error FROM webhook_deliveries")
    assert status == 2 and "404" in error and len(r.got) == 2
    r.close()


@test
def webhook_goes_to_no_private_address():
    s = Server()
    r = Receiver()
    port = r.server.server_address[1]
    v6 = socket.socket(socket.AF_INET6)
    try:
        v6.bind(("::1", port))
        v6.listen(1)
        v6.settimeout(0.1)
    except OSError:
        v6.close()
        v6 = None
    hosts = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "0",
             "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[64:ff9b::7f00:1]"]
    made = [add(s, f"http://{h}:{port}/")["id"] for h in hosts]
    job = s.create()
    s.ended(job)
    until(lambda: s.log().count("webhook.failed") >= len(hosts), seconds=40)
    for id, host in zip(made, hosts):
        lines = [x for x in s.log().splitlines() if "webhook.failed" in x and id in x]
        assert "webhook_allow" in lines[0], (host, lines)
    assert r.got == [] and s.job(job)["status"] == "succeeded"
    if v6:
        try:
            v6.accept()
            raise AssertionError("a connection to ::1")
        except socket.timeout:
            pass
        v6.close()
    r.close()


@test
def webhook_uses_no_proxy_of_the_environment():
    proxy, r = Receiver(), Receiver()
    os.environ["http_proxy"] = os.environ["all_proxy"] = proxy.url.split("/hook")[0]
    try:
        s = Server(config=ALLOW)
        add(s, r.url)
        s.ended(s.create())
        until(lambda: len(r.got) == 1)
        assert proxy.got == []
    finally:
        del os.environ["http_proxy"], os.environ["all_proxy"]
    r.close(), proxy.close()


@test
@alone
def webhook_that_hangs_holds_up_nobody():
    s = Server(config={**ALLOW, "limits": {"webhook_seconds": 1}})
    hanging = socket.socket()
    hanging.bind(("127.0.0.1", 0))
    hanging.listen(8)
    r = Receiver()
    add(s, f"http://127.0.0.1:{hanging.getsockname()[1]}/")
    add(s, r.url)
    for _ in range(3):
        s.ended(s.create())
    until(lambda: len(r.got) == 3)
    start = time.time()
    assert s.get("/healthz").status == 200 and time.time() - start < 1
    until(lambda: "imed out" in s.log())
    # stopping does not wait for it
    assert s.stop() == 0
    hanging.close()
    r.close()


@test
def webhook_of_a_long_answer_is_cut_and_counts():
    s = Server(config={**ALLOW, "limits": {"webhook_seconds": 5}})
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)

    def flood():
        c, _ = listener.accept()
        c.recv(65536)
        try:
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                c.sendall(b"x" * 65536)
        except OSError:
            c.close()
    threading.Thread(target=flood, daemon=True).start()
    add(s, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    s.ended(s.create())
    until(lambda: "webhook.sent" in s.log(), seconds=10)
    listener.close()


def openssl(folder, *args):
    run = subprocess.run(["openssl", *args], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def make_authority(folder, name):
    openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", name + ".key", "-out", name + ".pem", "-days", "2", "-subj", "/CN=" + name)
    return os.path.join(folder, name + ".pem")


def make_certificate(folder, authority, name, alternative, days="2"):
    """Files of a certificate for the alternative name, and of its key."""
    openssl(folder, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=127.0.0.1")
    with open(os.path.join(folder, name + ".ext"), "w") as f:
        f.write("subjectAltName=" + alternative)
    openssl(folder, "x509", "-req", "-in", name + ".csr", "-CA", authority + ".pem", "-CAkey",
            authority + ".key", "-CAcreateserial", "-out", name + ".pem", "-days", days,
            "-extfile", name + ".ext")
    return [os.path.join(folder, name + end) for end in (".pem", ".key")]


@test
def webhook_by_https_goes_to_certificates_of_the_authority_only():
    if not shutil.which("openssl"):
        raise Skip("no openssl here to make certificates with")
    s = Server(start=False)
    authority, _ = (make_authority(s.temp, name) for name in ("own", "other"))
    made = {"good": ("own", "IP:127.0.0.1"), "wrong name": ("own", "DNS:example.org"),
            "of another": ("other", "IP:127.0.0.1"), "over": ("own", "IP:127.0.0.1", "-1")}
    receivers = {name: Receiver(certificate=make_certificate(
        s.temp, how[0], name.replace(" ", "-"), *how[1:])) for name, how in made.items()}
    plain = ALLOW, {**ALLOW, "webhook_ca_file": authority}
    for config in plain:
        with open(s.config, "w") as f:
            json.dump(config, f)
        s.start()
        ids = {name: add(s, r.url) for name, r in receivers.items()}
        job = s.create()
        s.ended(job)
        trusted = {"good"} if config is plain[1] else set()
        until(lambda: sum(w["id"] in s.log() for w in ids.values()) == len(ids))
        for name, w in ids.items():
            lines = [x for x in s.log().splitlines() if w["id"] in x and "webhook." in x]
            if name in trusted:
                assert "webhook.sent" in lines[0], lines
            else:
                assert "webhook.failed" in lines[0] and "ertificate" in lines[0], (name, lines)
        assert {name for name, r in receivers.items() if r.got} == trusted
        s.stop()
        rows(s, "DELETE FROM webhook_endpoints WHERE id <> ?", ids["good"]["id"])
    assert signed_by(ids["good"]["signing_secret"], receivers["good"].got[-1])
    for r in receivers.values():
        r.close()
    with open(s.config, "w") as f:
        json.dump({"webhook_ca_file": "/nowhere.pem"}, f)
    s.start(wait=False)
    assert s.process.wait(20) != 0 and "webhook_ca_file" in s.log()


@test
def webhook_deliveries_are_listed_and_sent_again_by_command():
    s = Server(config=ALLOW)
    r = Receiver([(404, {"Retry-After": "600"})])  # none by itself meanwhile
    gone = Receiver([(410, {})])
    one, two = add(s, r.url), add(s, gone.url)
    job = s.create()
    s.ended(job)
    until(lambda: len(r.got) == 1 and len(gone.got) == 1)
    until(lambda: s.log().count("webhook.failed") == 2)

    def listed(*args):
        found = webhooks(s, "deliveries", *args)
        assert found.returncode == 0, found
        return [line.split() for line in found.stdout.splitlines()[1:]]
    lines = {line[1]: line for line in listed()}
    assert set(lines) == {one["id"], two["id"]}
    id, _, kind, of, created, state, attempts, status, following = lines[one["id"]][:9]
    assert header(r.got[0], "webhook-id") == id and (kind, of) == ("fine_tuning.job.succeeded", job)
    assert (state, attempts, status) == ("pending", "1", "404") and following > created
    assert "404" in " ".join(lines[one["id"]][9:])
    assert lines[two["id"]][5:8] == ["failed", "1", "410"]
    assert [x[0] for x in listed(one["id"])] == [id] == [x[0] for x in listed("--state", "pending")]
    assert listed("--project", "other") == [] == listed("--state", "delivered")
    again = webhooks(s, "redeliver", id)
    assert again.returncode == 0 and "status 200" in again.stderr, again
    assert header(r.got[1], "webhook-id") == id and signed_by(one["signing_secret"], r.got[1])
    assert listed(one["id"])[0][5:8] == ["delivered", "1", "200"]
    assert webhooks(s, "redeliver", id).returncode == 0 and len(r.got) == 3, "once more, by hand"
    for args in (("redeliver", lines[two["id"]][0]), ("redeliver", "wh_none"), ("redeliver",),
                 ("deliveries", "--state", "odd"), ("list", "--state", "failed")):
        assert webhooks(s, *args).returncode != 0, args
    assert len(gone.got) == 1
    s.stop()
    assert len(listed()) == 2 and "no server runs" in webhooks(s, "redeliver", id).stderr
    s.start()
    until(lambda: len(r.got) == 4)
    r.close(), gone.close()
