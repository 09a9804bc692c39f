"""A thousand readers of one job's stream. (tests/bench/sse.py has ten thousand, and the figures.)"""
import re
import selectors
import socket
import time

from harness import Server, alone, request, test, until

READERS = 1000


class Readers:
    """Connections that collect what they get; times of arrival beside it."""

    def __init__(self, s, job, n):
        self.select = selectors.DefaultSelector()
        self.texts, self.times, self.over = {}, {}, set()
        ask = request("GET", f"/v1/fine_tuning/jobs/{job}/events?stream=true")
        for _ in range(n):
            c = socket.create_connection(("127.0.0.1", s.port), timeout=60)
            c.sendall(ask)
            c.setblocking(False)
            self.select.register(c, selectors.EVENT_READ)
            self.texts[c], self.times[c] = b"", []

    def read(self, wait=0.2):
        for key, _ in self.select.select(wait):
            c = key.fileobj
            data = c.recv(1 << 20)
            self.times[c].append((time.time(), data))
            self.texts[c] += data
            if not data or self.texts[c].endswith(b"0\r\n\r\n"):
                self.over.add(c)
                self.select.unregister(c)
                c.close()

    def until(self, condition, seconds=90):
        end = time.time() + seconds
        while not condition():
            assert time.time() < end, f"not within {seconds} s"
            self.read()

    def events(self, c):
        """Event ids and [DONE], from the chunks."""
        head, rest = self.texts[c].split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200"), head
        body = b""
        while rest:
            size, rest = rest.split(b"\r\n", 1)
            body, rest = body + rest[:int(size, 16)], rest[int(size, 16) + 2:]
        return re.findall(rb"^id: (\S+)$|^data: \[(DONE)\]$", body, re.M)


@test
@alone
def a_thousand_readers_get_every_event():
    s = Server(config={"limits": {"idle_seconds": 60}})
    job = s.create("steps40-ms50-every10")
    alone = []
    for _ in range(50):
        start = time.time()
        assert s.get("/v1/models").status == 200
        alone.append(time.time() - start)
    r = Readers(s, job, READERS)
    beside = []

    def done():
        start = time.time()
        assert s.get("/v1/models").status == 200
        beside.append(time.time() - start)
        return len(r.over) == READERS
    r.until(done)
    expected = [(e["id"].encode(), b"") for e in s.events(job)] + [(b"", b"DONE")]
    assert len(expected) > 45
    for c in r.texts:
        assert r.events(c) == expected, r.events(c)
    middle = sorted(beside)[len(beside) // 2]
    assert middle < 20 * sorted(alone)[25] + 0.25, (middle, sorted(alone)[25])
    assert until(lambda: s.get("/readyz").status == 200)


@test
def heartbeats_of_many_readers_are_spread():
    interval = 4
    s = Server(config={"limits": {"stream_heartbeat_seconds": interval, "idle_seconds": 60,
                                  "worker_heartbeat_seconds": 600}})
    job = s.create("mute")
    s.running(job)
    r = Readers(s, job, 300)

    def beats(c):
        return [t for t, data in r.times[c] if b"\n:\n\n\r\n" in data]
    r.until(lambda: all(len(beats(c)) >= 2 for c in r.texts))
    first = sorted(beats(c)[0] for c in r.texts)
    assert first[269] - first[30] > interval / 4, "they came in one burst"
    gaps = sorted(beats(c)[1] - beats(c)[0] for c in r.texts)
    assert gaps[150] < 2 * interval, gaps[150]
    assert s.stop() == 0, "a server ends with all of them open"
    r.until(lambda: len(r.over) == 300)
