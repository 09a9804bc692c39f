"""A server in a temporary folder, and HTTP by hand: nothing between the test and the bytes."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

BUILD = "build"
TESTS = []
ALONE = set()
HERE = os.path.dirname(os.path.abspath(__file__))
FAKE = os.path.join(HERE, "fake_worker.py")
ROW = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
running = []


class Skip(Exception):
    pass


def test(function):
    TESTS.append((function.__name__, function))
    return function


def alone(function):
    """Measures time: no other test runs beside it."""
    ALONE.add(function)
    return function


def until(condition, seconds=20, pause=0.02):
    """Waits for a true value and returns it."""
    end = time.time() + seconds
    while time.time() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json()["error"]


class Connection:
    """One TCP connection; reads answers by Content-Length or chunks."""

    def __init__(self, port, timeout=20, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def line(self):
        while b"\r\n" not in self.buffer:
            if not self.more():
                raise EOFError(self.buffer)
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def exactly(self, n):
        pieces, have = [self.buffer], len(self.buffer)
        try:
            while have < n:
                pieces.append(self.socket.recv(1 << 20))
                have += len(pieces[-1])
                if not pieces[-1]:
                    raise EOFError(b"".join(pieces))
        finally:
            self.buffer = b"".join(pieces)
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def head(self):
        status = int(self.line().split()[1])
        headers = {}
        while line := self.line():
            name, value = line.decode("latin1").split(":", 1)
            headers[name.lower()] = value.strip()
        return status, headers

    def chunks(self):
        while True:
            size = int(self.line(), 16)
            data = self.exactly(size)
            self.line()
            if size == 0:
                return
            yield data

    def answer(self, method="GET"):
        status, headers = self.head()
        while status == 100:
            status, headers = self.head()
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join(self.chunks())
        else:
            body = self.exactly(int(headers.get("content-length", 0)))
        return Answer(status, headers, body)

    def ended(self, seconds=5):
        """Whether the other side closes within the time."""
        self.socket.settimeout(seconds)
        try:
            while self.more():
                pass
            return True
        except socket.timeout:
            return False
        except OSError:
            return True

    def close(self):
        self.socket.close()


class Server:
    def __init__(self, config=None, args=(), engine=FAKE, data=None, start=True, models=None):
        self.temp = tempfile.mkdtemp(prefix="ffwd-http-")
        self.data = data or os.path.join(self.temp, "data")
        self.models = models or os.path.join(self.temp, "models")
        if not models:
            os.makedirs(os.path.join(self.models, "tiny"))
            with open(os.path.join(self.models, "tiny", "config.json"), "w") as f:
                json.dump({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
                           "num_attention_heads": 4, "vocab_size": 256,
                           "intermediate_size": 128, "max_position_embeddings": 128}, f)
        limits = {"retry_seconds": 0, "idle_seconds": 5}
        limits.update((config or {}).get("limits", {}))
        self.config = os.path.join(self.temp, "config.json")
        with open(self.config, "w") as f:
            json.dump({**(config or {}), "limits": limits}, f)
        self.args, self.engine, self.process, self.port = list(args), engine, None, 0
        self.log_path = os.path.join(self.temp, "log")
        running.append(self)
        if start:
            self.start()

    def command(self, *args):
        return [os.path.join(BUILD, "ffwd-server"), *args]

    def start(self, listen="127.0.0.1:0", wait=True):
        mark = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command("--data", self.data, "--models", self.models, "--listen", listen,
                             "--config", self.config, "--engine", self.engine, *self.args),
                stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            def up():
                if self.process.poll() is not None:
                    raise AssertionError("server ended:\n" + self.log()[-2000:])
                return re.search(r"server\.start url=http://[^ ]*:(\d+)/", self.log()[mark:])
            self.port = int(until(up)[1])
        return self

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self, how=signal.SIGTERM, seconds=30):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)

    def key(self, project="default"):
        """A new API key."""
        return subprocess.run(
            self.command("keys", "create", "--project", project, "--data", self.data),
            capture_output=True, text=True, check=True).stdout.strip()

    def connect(self, timeout=20):
        return Connection(self.port, timeout)

    def ask(self, method, path, body=None, headers=(), kind="application/json"):
        c = self.connect()
        try:
            try:
                c.send(request(method, path, body, headers, kind))
            except BrokenPipeError:
                pass  # refused before all of it was sent: the answer says why
            return c.answer(method)
        finally:
            c.close()

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, value=None, **more):
        body = None if value is None else json.dumps(value).encode()
        return self.ask("POST", path, body, **more)

    # ---- the api in a few words ----

    def upload(self, content=ROW * 12, **more):
        a = self.ask("POST", "/v1/files", form([("purpose", None, b"fine-tune"),
                     ("file", "t.jsonl", content.encode())]), kind=FORM, **more)
        assert a.status == 200, (a.status, a.body)
        return a.json()["id"]

    def create(self, how="", file=None, **more):
        a = self.post("/v1/fine_tuning/jobs",
                      {"model": "tiny", "training_file": file or self.upload(),
                       **({"suffix": how} if how else {}), "seed": 7, **more})
        assert a.status == 200, (a.status, a.body)
        return a.json()["id"]

    def job(self, job):
        return self.get(f"/v1/fine_tuning/jobs/{job}").json()

    def ended(self, job, seconds=30):
        over = ("succeeded", "failed", "cancelled")
        return until(lambda: (j := self.job(job))["status"] in over and j, seconds, 0.05)

    def reaches(self, job, step, seconds=20):
        return until(lambda: ((self.job(job)["ffwd"]["progress"] or {}).get("step") or 0) >= step,
                     seconds)

    def running(self, job):
        return until(lambda: self.job(job)["status"] == "running")

    def events(self, job):
        found, after = [], ""
        while True:
            page = self.get(f"/v1/fine_tuning/jobs/{job}/events?limit=100{after}").json()
            found += page["data"]
            if not page["has_more"]:
                return found[::-1]
            after = "&after=" + found[-1]["id"]

    def adapter(self, job):
        a = self.get(f"/v1/fine_tuning/jobs/{job}/adapter/adapter_model.safetensors")
        assert a.status == 200, (a.status, a.body)
        return a.body

    def workers(self):
        """Process ids of workers of this server's data folder, its own or an orphan."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if self.process and int(pid) == self.process.pid:
                continue
            try:
                links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            except OSError:
                continue
            if os.path.join(os.path.realpath(self.data), "worker.lock") in links:
                found.append(int(pid))
        return found


BOUNDARY = "bOuNdArY123"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def bearer(key):
    return [("Authorization", "Bearer " + key)]


def form(parts, end=True):
    """parts: (name, filename or None, bytes)."""
    out = b""
    for name, filename, content in parts:
        extra = f'; filename="{filename}"' if filename is not None else ""
        out += (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
                .encode() + content + b"\r\n")
    return out + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def request(method, path, body=None, headers=(), kind="application/json"):
    lines = [f"{method} {path} HTTP/1.1", "Host: x"] + [f"{n}: {v}" for n, v in headers]
    if body is not None:
        lines += [f"Content-Length: {len(body)}"] + ([f"Content-Type: {kind}"] if kind else [])
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def read_stream(c):
    """Events of a server-sent stream as (id, object or '[DONE]'), until it ends."""
    text = b""
    status, headers = c.head()
    assert status == 200, (status, c.buffer)
    assert headers["content-type"].startswith("text/event-stream"), headers
    for chunk in c.chunks():
        text += chunk
        while b"\n\n" in text:
            block, text = text.split(b"\n\n", 1)
            fields = [line.split(b": ", 1) for line in block.split(b"\n") if b": " in line]
            values = {n.decode(): v.decode() for n, v in fields}
            if "data" in values:
                data = values["data"]
                yield values.get("id"), data if data == "[DONE]" else json.loads(data)
    assert text == b"", text


def check_sanitizers():
    """Ends the servers that still run and looks for reports of a sanitizer build."""
    for s in running:
        if s.process and s.process.poll() is None:
            s.stop()
        log = s.log() if os.path.exists(s.log_path) else ""
        for word in ("Sanitizer", "runtime error:"):
            assert word not in log, log[log.index(word):][:4000]


def stop_all():
    while running:
        s = running.pop()
        if s.process and s.process.poll() is None:
            s.process.kill()
            s.process.wait()
        for pid in s.workers():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        shutil.rmtree(s.temp, ignore_errors=True)
