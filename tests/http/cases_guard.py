"""Raw bytes: requests that two parsers could read differently, and clients that are slow."""
import select
import socket
import time

from harness import Connection, FORM, Server, Skip, alone, bearer, form, request, test, until

NEXT = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b"Content-Type: application/json\r\n"
JOBS = b"POST /v1/fine_tuning/jobs HTTP/1.1\r\n"


def refused(s, data, statuses=(400,), close=True):
    c = s.connect()
    c.send(data)
    try:
        a = c.answer()
    except (EOFError, OSError):
        a = None  # closed without an answer
    if a is not None:
        assert a.status in statuses, (data, a.status, a.body)
    assert not close or c.ended(), data
    assert b"smuggled" not in s.log().encode(), data
    return a


@test
def ambiguous_framing_is_refused():
    s = Server()
    host = b"Host: x\r\n"
    for head in (
        b"Content-Length: 0\r\nContent-Length: 40\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +5\r\n", b"Content-Length: -5\r\n", b"Content-Length: 0x5\r\n",
        b"Content-Length: \r\n", b"Content-Length: 5, 5\r\n",
        b"Content-Length: 9223372036854775808\r\n",
        b"Content-Length: 18446744073709551616\r\n",
        b"Host: y\r\n",
        b"X[]: y\r\n",
        b"X: a\x01b\r\n",
    ):
        refused(s, JOBS + host + BODY + head + b"\r\n0\r\n\r\n" + NEXT, (400, 413))
        refused(s, b"GET /v1/models HTTP/1.1\r\n" + host + head + b"\r\n0\r\n\r\n" + NEXT, (400, 413))
    refused(s, b"GET /v1/models HTTP/1.1\r\n\r\n")
    refused(s, JOBS + host + BODY + b"Content-Length: 9223372036854775807\r\n\r\n", (413,))
    a = refused(s, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n")
    assert set(a.error) == {"message", "type", "param", "code"}
    assert s.get("/healthz").status == 200


@test
def odd_targets_are_refused():
    s = Server()
    for target in (b"/a%00b", b"http://evil/x", b"*", b"/a%zz", b"/a%", b"x", b"/\x01"):
        refused(s, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    for target in (b"/v1/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd/content", b"/v1/files/../../etc",
                   b"/v1/files/..%2fffwd.db/content", b"/v1/fine_tuning/jobs/..%2f..%2fx/adapter"):
        refused(s, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404), close=False)
    refused(s, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (414,))
    refused(s, b"GET /" + b"a" * 50000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400, 414))
    many = b"".join(b"x%d: y\r\n" % i for i in range(101))
    refused(s, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n", (431,))
    refused(s, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 50000 + b"\r\n\r\n", (400, 431))
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 100, b"GET\r\n\r\n",
                 b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        c = s.connect()
        c.send(junk + b"\r\n\r\n")
        c.socket.shutdown(socket.SHUT_WR)
        assert c.ended()
    assert s.get("/healthz").status == 200


@test
def bad_chunks_end_the_connection():
    s = Server()
    head = JOBS + b"Host: x\r\n" + BODY + b"Transfer-Encoding: chunked\r\n\r\n"
    for chunk in (b"zz\r\n", b"0x5\r\nhello\r\n", b"-5\r\nhello\r\n", b"1" * 17 + b"\r\n"):
        refused(s, head + chunk + b"0\r\n\r\n", (400, 413))


@test
def requests_one_after_another():
    s = Server()
    c = s.connect()
    one = request("GET", "/v1/models")
    c.send(one * 50)
    assert all(c.answer().status == 200 for _ in range(50))
    refusal = request("POST", "/v1/nothing", b"x" * 1000)
    c.send(refusal + one)
    assert c.answer().status == 404 and c.answer().status == 200


@test
@alone
def slow_clients_are_cut():
    s = Server(config={"limits": {"header_seconds": 1, "body_grace_seconds": 1, "idle_seconds": 2,
                                  "body_bytes_per_second": 1000}})
    start = time.time()
    head, body, late, silent = (s.connect() for _ in range(4))
    data = request("POST", "/v1/files", form([("file", "t", b"x" * 5000)]), kind=FORM)
    body.send(data[:300])
    late.send(request("GET", "/v1/models"))
    assert late.answer().status == 200
    closed = {}
    clients = {"head": head, "body": body, "silent": silent, "late": late}
    trickle = {"head": request("GET", "/v1/models"), "body": data[300:],
               "late": request("GET", "/v1/models")}
    while clients and time.time() - start < 10:
        for name, c in list(clients.items()):
            c.socket.settimeout(0.05)
            try:
                if name in trickle:
                    c.send(trickle[name][:1])
                    trickle[name] = trickle[name][1:]
                if not c.more():
                    raise ConnectionError
            except socket.timeout:
                continue
            except OSError:
                closed[name] = time.time() - start
                del clients[name]
        assert s.get("/healthz").status == 200
    assert set(closed) == {"head", "body", "silent", "late"}, closed
    assert max(closed.values()) < 8, closed


@test
@alone
def connection_limit_recovers():
    s = Server(config={"limits": {"connections": 3, "idle_seconds": 2, "header_seconds": 30}})
    held = [s.connect() for _ in range(3)]
    for c in held:
        c.send(request("GET", "/v1/models"))
        assert c.answer().status == 200
    start = time.time()
    c = s.connect()
    c.send(request("GET", "/v1/models"))
    assert c.answer().status == 200
    assert time.time() - start < 6


def outward_address():
    """An address of this machine that is not loopback, or None."""
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        own.connect(("192.0.2.1", 9))  # sends nothing; picks the address
        return own.getsockname()[0]
    except OSError:
        return None
    finally:
        own.close()


@test
def connections_of_one_address_are_limited():
    """Loopback is exempt, so the clients come by another address of this machine."""
    address = outward_address()
    if not address:
        raise Skip("this machine has loopback only")
    s = Server(start=False, config={"limits": {"connections_per_address": 3}})
    key = s.key()
    s.start(listen="0.0.0.0:0")
    ask = request("GET", "/v1/models", headers=bearer(key))

    def client():
        c = Connection(s.port, 5, host=address)
        try:
            c.send(ask)
            return c if c.answer().status == 200 else None
        except (OSError, EOFError):
            return None
    held = [client() for _ in range(3)]
    assert all(held) and client() is None
    assert s.get("/healthz").status == 200, "others are served"
    page = s.get("/metrics", headers=bearer(key)).body.decode()
    assert "\nffwd_http_connections_refused_total 1\n" in page
    until(lambda: "http.refused connections=1 " in s.log())
    held.pop().close()
    until(client)


class Crowd:
    """200 clients that each do one thing slowly: a head, a body, reading a download."""

    def __init__(self, s):
        self.open, self.cut = {}, {"head": 0, "body": 0, "reader": 0}
        big = s.upload("x" * (8 << 20))
        head = request("GET", "/v1/mod" + "e" * 1000)
        body = request("POST", "/v1/files", form([("file", "t", b"x" * 50000)]), kind=FORM)
        content = request("GET", f"/v1/files/{big}/content")
        for i in range(200):
            kind = ("head", "body", "reader")[i % 3]
            c = socket.socket()
            if kind == "reader":
                c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.connect(("127.0.0.1", s.port))
            first = {"head": head[:20], "body": body[:300], "reader": content}[kind]
            c.sendall(first)
            c.setblocking(False)
            ended = select.poll()
            ended.register(c, 0)  # errors and hang-ups
            rest = {"head": head, "body": body, "reader": b""}[kind][len(first):]
            self.open[c] = [kind, rest, ended]

    def trickle(self):
        """One byte of each client, which is enough not to be idle."""
        for c, state in list(self.open.items()):
            kind, rest, ended = state
            try:
                if kind != "reader":
                    c.send(rest[:1])
                    state[1] = rest[1:]
                # A reader has bytes left to read when it is cut.
                if (kind == "reader" and ended.poll(0)) or c.recv(1) == b"":
                    raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                self.cut[kind] += 1
                del self.open[c]
                c.close()


@test
@alone
def many_slow_clients_are_cut_and_leave_room_for_others():
    s = Server(config={"limits": {"header_seconds": 2, "body_grace_seconds": 2, "idle_seconds": 60,
                                  "body_bytes_per_second": 100000}})
    alone = []
    for _ in range(50):
        start = time.time()
        assert s.get("/v1/models").status == 200
        alone.append(time.time() - start)
    crowd = Crowd(s)
    beside = []

    def round_of_all():
        crowd.trickle()
        start = time.time()
        assert s.get("/v1/models").status == 200
        if len(crowd.open) == 200:
            beside.append(time.time() - start)
        return not crowd.open
    until(round_of_all, 60, 0.05)
    assert min(crowd.cut.values()) >= 66, crowd.cut
    assert len(beside) >= 3, len(beside)
    middle = sorted(beside)[len(beside) // 2]
    assert middle < 20 * sorted(alone)[25] + 0.25, (middle, sorted(alone)[25])
    assert s.get("/healthz").status == 200
