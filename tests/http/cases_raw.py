"""Requests that two parsers may read differently: each is sent as raw bytes, with a second request
behind it that must never be carried out.

GUARD: refused by us in the first call, with the envelope and x-request-id.
LIBRARY: refused by libmicrohttpd's parser before any of our code runs, with its own page.
DROPPED: a body that never ends; the connection is cut by its deadline, without an answer.
SERVED: read in the one way RFC 9112 allows, and answered. (A chunk's lines may end with a bare LF:
libmicrohttpd does not show us these lines. The request behind is then one of its own.)
"""
import re

from harness import FORM, Server, form, test

SMUGGLED = b"GET /v1/models?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
JOBS = b"POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"
CHUNKS = JOBS + b"Transfer-Encoding: chunked\r\n\r\n"
GUARD, LIBRARY, DROPPED, SERVED = "guard", "library", "dropped", "served"
N = b"%d" % len(SMUGGLED)


def post(lines, body=b""):
    return JOBS + lines + b"\r\n" + body


def target(path):
    return b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"


CASES = {
    # ---- where the body ends ----
    "content_length_0_then_n": (post(b"Content-Length: 0\r\nContent-Length: " + N + b"\r\n"), GUARD, 400),
    "content_length_n_then_0": (post(b"Content-Length: " + N + b"\r\nContent-Length: 0\r\n"), GUARD, 400),
    "content_length_twice_equal": (post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"{\"a\":"), GUARD, 400),
    "content_length_before_chunked": (
        post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "content_length_after_chunked": (
        post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), GUARD, 400),
    "chunked_then_identity": (
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"), GUARD, 400),
    "chunked_twice": (
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "coding_xchunked": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "coding_list_chunked_identity": (
        post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), GUARD, 400),
    "coding_list_identity_chunked": (
        post(b"Transfer-Encoding: identity, chunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "coding_gzip_chunked": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "coding_empty": (post(b"Transfer-Encoding: \r\n", b"0\r\n\r\n"), GUARD, 400),
    "coding_with_vertical_tab": (post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "coding_in_http_1_0": (
        b"POST /v1/fine_tuning/jobs HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", GUARD, 400),
    "space_before_colon_of_length": (post(b"Content-Length : 5\r\n", b"{\"a\":"), GUARD, 400),
    "space_before_colon_of_coding": (post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "tab_before_colon": (post(b"Content-Length\t: 5\r\n", b"{\"a\":"), GUARD, 400),
    "length_plus": (post(b"Content-Length: +5\r\n", b"{\"a\":"), LIBRARY, 400),
    "length_minus": (post(b"Content-Length: -5\r\n", b"{\"a\":"), LIBRARY, 400),
    "length_hexadecimal": (post(b"Content-Length: 0x5\r\n", b"{\"a\":"), LIBRARY, 400),
    "length_empty": (post(b"Content-Length: \r\n"), LIBRARY, 400),
    "length_list": (post(b"Content-Length: 5, 5\r\n", b"{\"a\":"), LIBRARY, 400),
    "length_2_to_64": (post(b"Content-Length: 18446744073709551616\r\n"), LIBRARY, 413),
    "length_2_to_64_less_1": (post(b"Content-Length: 18446744073709551615\r\n"), GUARD, 413),
    "length_2_to_63": (post(b"Content-Length: 9223372036854775808\r\n"), GUARD, 413),
    "chunk_size_17_digits": (CHUNKS + b"F" * 17 + b"\r\n", LIBRARY, 413),
    "chunk_size_16_digits": (CHUNKS + b"F" * 16 + b"\r\n" + b"x" * 2000000, DROPPED, 0),
    "chunk_size_0x5": (CHUNKS + b"0x5\r\n{\"a\":\r\n0\r\n\r\n", LIBRARY, 400),
    "chunk_size_minus": (CHUNKS + b"-5\r\n{\"a\":\r\n0\r\n\r\n", LIBRARY, 400),
    "chunk_lines_with_bare_lf": (CHUNKS + b"5\n{\"a\":\n0\n\n", SERVED, 400),
    # ---- lines of the head ----
    "host_twice": (GET + b"Host: y\r\n\r\n", GUARD, 400),
    "host_missing": (b"GET /v1/models HTTP/1.1\r\n\r\n", GUARD, 400),
    "bare_lf_everywhere": (GET.replace(b"\r", b"") + b"\n", GUARD, 400),
    "bare_lf_after_request_line": (b"GET /v1/models HTTP/1.1\nHost: x\r\n\r\n", GUARD, 400),
    "bare_lf_after_a_header": (GET + b"X: y\nZ: y\r\n\r\n", GUARD, 400),
    "bare_lf_at_the_end": (GET + b"X: y\n\r\n", GUARD, 400),
    "folded_line": (GET + b"X: y\r\n z\r\n\r\n", GUARD, 400),
    "folded_coding": (post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), GUARD, 400),
    "nul_in_value": (GET + b"X: y\0z\r\n\r\n", GUARD, 400),
    "control_character_in_value": (GET + b"X: y\x01z\r\n\r\n", GUARD, 400),
    # ---- targets ----
    "nul_in_path": (target(b"/v1/models%00b"), GUARD, 400),
    "dots_encoded": (target(b"/v1/files/%2e%2e/%2e%2e/etc/passwd"), SERVED, 404),
    "dots_with_encoded_slash": (target(b"/v1/files/..%2f..%2fffwd.db/content"), SERVED, 404),
    "absolute_target": (target(b"http://evil/x"), GUARD, 400),
}
assert len(CASES) == 44


def check(name, data, who, status):
    s = Server(config={"limits": {"idle_seconds": 1}})
    c = s.connect()
    c.send(data + SMUGGLED)
    if who == DROPPED:
        assert c.ended(20) and not c.buffer, c.buffer
    else:
        a = c.answer() if who != LIBRARY else None
        if who == LIBRARY:
            assert c.ended() and int(c.buffer.split()[1]) == status, c.buffer
        else:
            assert a.status == status, (a.status, a.body)
            assert set(a.error) == {"message", "type", "param", "code"}, a.body
            assert a.error["type"] == "invalid_request_error" and a.error["message"]
            assert a.headers["content-type"] == "application/json"
            assert re.fullmatch(r"req_[0-9a-z]{24}", a.headers["x-request-id"])
        if who == GUARD:
            assert a.headers["connection"].lower() == "close" and c.ended()
            assert not c.buffer, (name, c.buffer)
    assert s.get("/healthz").status == 200
    log = s.log()
    served = [line for line in log.splitlines() if "http.request" in line and "/healthz" not in line]
    may_go_on = who == SERVED
    assert sum("path=/v1/models status=200" in line for line in served) <= may_go_on, served
    if who == GUARD:
        assert len(served) == 1 and a.headers["x-request-id"] in served[0], served


def register(name, case):
    def run():
        check(name, *case)
    run.__name__ = "raw_" + name
    test(run)


for case_name, one_case in CASES.items():
    register(case_name, one_case)


@test
def raw_ordinary_heads_pass():
    """What the guard must let through: empty values, tabs, many headers, a body in pieces."""
    s = Server()
    for head in (b"X:\r\n", b"X: \t y \t\r\n", b"Cookie: a=b; c=d\r\n", b"X: y\r\nX: z\r\n",
                 b"".join(b"x-%d: %s\r\n" % (i, b"y" * 200) for i in range(90))):
        c = s.connect()
        for _ in range(3):
            for i in range(0, len(GET + head), 997):
                c.send((GET + head)[i:i + 997])
            c.send(b"\r\n")
            a = c.answer()
            assert a.status == 200, (head, a.body)
    c = s.connect()
    c.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert c.answer().status == 200
    body = form([("purpose", None, b"fine-tune"), ("file", "t", b"\0\0{}")])
    c = s.connect()
    for byte in (b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: " + FORM.encode()
                 + b"\r\ncontent-length: %d\r\n\r\n" % len(body)):
        c.send(bytes([byte]))
    c.send(body)
    assert c.answer().status == 200
