"""API keys, origins, the command line."""
import json
import os
import stat
import subprocess
import threading

from harness import FORM, ROW, Server, bearer, form, read_stream, request, test, until


def keys(s, *args):
    return subprocess.run(s.command("keys", *args, "--data", s.data), capture_output=True,
                          text=True, timeout=30)


@test
def keys_take_effect_at_once():
    s = Server()
    assert s.get("/v1/models").status == 200
    made = keys(s, "create", "--name", "laptop", "--project", "one")
    assert made.returncode == 0 and made.stdout.count("\n") == 1, made
    key = made.stdout.strip()
    assert key.startswith("sk-ffwd-")
    refused = s.get("/v1/models")
    assert refused.status == 401 and refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.error["code"] == "invalid_api_key"
    assert s.get("/v1/models", headers=bearer(key)).status == 200
    assert s.get("/v1/models", headers=[("api-key", key)]).status == 200
    wrong = [s.get("/v1/models", headers=bearer(k)) for k in (key[:-1] + "x", "sk-ffwd-x", "x" * 999)]
    assert {w.status for w in wrong} == {401} and len({w.body for w in wrong}) == 1
    assert s.get("/healthz").status == 200 and s.get("/openapi.json").status == 200
    for method, path in (("GET", "/v1/files"), ("POST", "/v1/files"), ("GET", "/v1/unknown"),
                         ("GET", "/openai/v1/models"), ("GET", "/openai/models"),
                         ("GET", "/v1/fine_tuning/jobs/x/events?stream=true"),
                         ("DELETE", "/v1/models")):
        assert s.ask(method, path).status == 401, path
    listed = keys(s, "list").stdout
    id = [line.split()[0] for line in listed.splitlines() if "laptop" in line][0]
    assert key not in listed and key not in s.log()
    assert keys(s, "revoke", id).returncode == 0
    assert s.get("/v1/models", headers=bearer(key)).status == 401
    assert s.get("/v1/models").status == 401, "a revoked last key must not open the server"
    assert keys(s, "revoke", "key_none").returncode == 2
    mode = os.stat(os.path.join(s.data, "admin.sock")).st_mode
    assert stat.S_IMODE(mode) == 0o600


@test
def a_revoked_key_ends_its_streams():
    s = Server()
    file = s.upload()
    made = [keys(s, "create", "--name", n).stdout.strip() for n in ("goes", "stays")]
    running = s.post("/v1/fine_tuning/jobs", {"model": "tiny", "training_file": file, "suffix": "steps400-ms20"},
                     headers=bearer(made[0])).json()["id"]
    waiting = s.post("/v1/fine_tuning/jobs", {"model": "tiny", "training_file": file, "seed": 2},
                     headers=bearer(made[0])).json()["id"]
    seen, readers = {}, {}
    for key in made:
        for job in (running, waiting):
            c = s.connect()
            c.send(request("GET", f"/v1/fine_tuning/jobs/{job}/events?stream=true", headers=bearer(key)))
            got = seen[key, job] = []
            readers[key, job] = threading.Thread(target=lambda c=c, got=got: got.extend(read_stream(c)),
                                                 daemon=True)
            readers[key, job].start()
    until(lambda: all(seen.values()))
    id = [line.split()[0] for line in keys(s, "list").stdout.splitlines() if "goes" in line][0]
    assert keys(s, "revoke", id).returncode == 0
    for job in (running, waiting):
        readers[made[0], job].join(5)
        assert not readers[made[0], job].is_alive() and seen[made[0], job][-1][1] != "[DONE]", job
        assert readers[made[1], job].is_alive(), job
    more = len(seen[made[1], running])
    until(lambda: len(seen[made[1], running]) > more)


@test
def keys_separate_projects():
    s = Server()
    one = keys(s, "create", "--project", "one").stdout.strip()
    two = keys(s, "create", "--project", "two").stdout.strip()
    a = s.ask("POST", "/v1/files", form([("purpose", None, b"fine-tune"),
                                         ("file", "t", ROW.encode())]), bearer(one), FORM)
    file = a.json()["id"]
    assert s.get(f"/v1/files/{file}", headers=bearer(one)).status == 200
    assert s.get(f"/v1/files/{file}", headers=bearer(two)).status == 404
    assert s.get("/v1/files", headers=bearer(two)).json()["data"] == []


@test
def keys_without_a_server():
    s = Server(start=False)
    key = keys(s, "create").stdout.strip()
    s.start()
    assert s.get("/v1/models").status == 401
    assert s.get("/v1/models", headers=bearer(key)).status == 200
    assert s.stop() == 0
    assert "default" in keys(s, "list").stdout


@test
def without_keys_only_loopback():
    s = Server(start=False)
    s.start(listen="0.0.0.0:0", wait=False)
    assert s.process.wait(10) == 2 and "keys create" in s.log()
    keys(s, "create")
    s.start(listen="0.0.0.0:0")
    assert s.get("/v1/models").status == 401
    second = subprocess.run(s.command("--data", s.data, "--listen", "127.0.0.1:0"),
                            capture_output=True, text=True, timeout=20)
    assert second.returncode != 0 and second.stderr, "one server a data folder"


@test
def origins():
    s = Server(config={"cors_origins": ["https://good.example"]})
    pre = [("Origin", "https://good.example"), ("Access-Control-Request-Method", "POST")]
    a = s.ask("OPTIONS", "/v1/fine_tuning/jobs", headers=pre)
    assert a.status == 204 and a.headers["access-control-allow-origin"] == "https://good.example"
    assert "authorization" in a.headers["access-control-allow-headers"]
    assert "POST" in a.headers["access-control-allow-methods"]
    b = s.ask("OPTIONS", "/v1/fine_tuning/jobs", headers=[("Origin", "https://bad.example")])
    assert b.status == 204 and "access-control-allow-origin" not in b.headers
    assert "access-control-allow-origin" not in s.get("/v1/models",
                                                      headers=[("Origin", "null")]).headers
    a = s.get("/v1/models", headers=[("Origin", "https://good.example")])
    assert a.headers["access-control-allow-origin"] == "https://good.example"
    evil = s.post("/v1/fine_tuning/jobs", {}, headers=[("Origin", "https://bad.example")])
    assert evil.status == 403, "a foreign page must not drive a server without keys"
    keys(s, "create")
    assert s.ask("OPTIONS", "/v1/models", headers=pre).status == 204


@test
def names_that_anybody_may_own_need_a_key():
    s = Server(config={"cors_origins": ["http://ffwd.example:8080"]})

    def status(host, path=b"/v1/models", more=b""):
        c = s.connect()
        c.send(b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + more + b"\r\n")
        a = c.answer("GET")
        c.close()
        return a.status
    for host in (b"evil.example", b"evil.example:8080", b"a" * 300 + b".example", b"127.0.0.1.evil.example", b"ffwd.example"):
        assert status(host) == 403, host
        assert status(host, b"/healthz") == 200, host
    for host in (b"127.0.0.1:8080", b"10.1.2.3", b"[::1]:8080", b"localhost:1", b"a.localhost", b"gpu-box",
                 b"ffwd.example:8080"):
        assert status(host) == 200, host
    key = keys(s, "create").stdout.strip()
    assert status(b"evil.example") == 401
    assert status(b"evil.example", more=b"Authorization: Bearer " + key.encode() + b"\r\n") == 200


@test
def configuration_is_checked():
    s = Server(start=False)
    for value, word in (({"limits": {"filebytes": 1}}, "limits.filebytes"), ({"port": 1}, "port"),
                        ({"limits": {"connections": 0}}, "limits.connections"),
                        ({"cors_origins": ["*"]}, "cors_origins"), ({"device": "tpu"}, "device")):
        with open(s.config, "w") as f:
            json.dump(value, f)
        run = subprocess.run(s.command("--config", s.config, "--data", s.data),
                             capture_output=True, text=True, timeout=10)
        assert run.returncode in (2, 20) and word in run.stderr, (value, run)
    for args, word in ((["--what"], "--what"), (["--listen", "nowhere"], "nowhere"),
                       (["--threads", "x"], "threads"), (["extra"], "extra"),
                       (["--listen"], "--listen")):
        run = subprocess.run(s.command("--data", s.data, *args), capture_output=True, text=True,
                             timeout=10)
        assert run.returncode == 2 and word in run.stderr, (args, run)
    help_text = subprocess.run(s.command("--help"), capture_output=True, text=True, timeout=10)
    assert help_text.returncode == 0 and "--models" in help_text.stdout
    until(lambda: True)
