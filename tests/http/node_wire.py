"""What openai-node 7.5.0 puts on the wire, written down from its sources: order of form fields as the
caller gave them, a form as a stream in chunks, its boundary, its headers, its spelling of paths and
queries."""
import json
import urllib.parse

BOUNDARY = "openai-3f9c1d7e2b8a4c60"
PATH_SAFE = "!$&'()*+,;=:@"  # what the SDK leaves as it is in a path's segment


def segment(text):
    return urllib.parse.quote(text, safe=PATH_SAFE)


def query(**values):
    """Nested names in brackets, percent-encoded; lists repeat their name."""
    pairs = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += [(f"{name}[{k}]", v) for k, v in value.items()]
        else:
            pairs.append((name, value))
    return "?" + urllib.parse.urlencode(pairs) if pairs else ""


def head(method, path, key="unused", retry=0, accept="application/json", more=()):
    """Lines of the request's head up to its framing."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1:8080", "connection: keep-alive",
             f"Accept: {accept}", "User-Agent: OpenAI/JS 7.5.0", f"X-Stainless-Retry-Count: {retry}",
             "X-Stainless-Timeout: 600", "X-Stainless-Lang: js", "X-Stainless-Package-Version: 7.5.0",
             "X-Stainless-OS: Linux", "X-Stainless-Arch: x64", "X-Stainless-Runtime: node",
             "X-Stainless-Runtime-Version: v22.0.0", "OpenAI-Organization: org-x", "OpenAI-Project: proj-x",
             f"Authorization: Bearer {key}", *more, "accept-language: *", "sec-fetch-mode: cors",
             "accept-encoding: gzip, deflate"]
    return "\r\n".join(lines).encode() + b"\r\n"


def form(fields):
    """The bytes of a form; fields in the caller's order: text, or (file name, bytes)."""
    out = b""
    for name, value in fields.items():
        out += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(value, tuple):
            out += f'; filename="{value[0]}"\r\nContent-Type: application/octet-stream'.encode()
            value = value[1]
        out += b"\r\n\r\n" + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return out + f"--{BOUNDARY}--\r\n".encode()


def chunks(body, size):
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def upload(path, fields, size=65536, **more):
    """A form from a stream: its length is not known before, so it comes in chunks."""
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\ntransfer-encoding: chunked\r\n\r\n"
    return head("POST", path, **more) + kind.encode() + chunks(form(fields), size)


def call(method, path, value=None, **more):
    """A call with a JSON body, or with none: POST then has Content-Length 0 and no type."""
    if value is None:
        return head(method, path, **more) + (b"content-length: 0\r\n" if method == "POST" else b"") + b"\r\n"
    body = json.dumps(value, separators=(",", ":")).encode()
    return (head(method, path, **more) + b"Content-Type: application/json\r\n"
            + b"content-length: %d\r\n\r\n" % len(body) + body)
