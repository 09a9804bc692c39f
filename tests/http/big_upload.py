#!/usr/bin/env python3
"""Uploads N MiB (2048), in one request or in parts of 64 MiB, and prints what the server needed, as
one JSON line: how long others waited for an answer while the file came in, and while it was deleted
and its blocks were freed; or, with parts, while these were put together.
usage: tests/http/big_upload.py BUILD_DIR [MIB] [parts]"""
import hashlib
import json
import os
import sys
import threading
import time

import harness
from harness import BOUNDARY, FORM, Server, request

PART_MIB = 64


def head_of(fields, name):
    out = "".join(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'
                  for n, v in fields)
    return (out + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; '
            'filename="t"\r\n\r\n').encode()


def send(c, path, head, piece, mib):
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    c.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: "
           f"{len(head) + mib * len(piece) + len(tail)}\r\n\r\n".encode() + head)
    for _ in range(mib):
        c.send(piece)
    c.send(tail)
    a = c.answer()
    assert a.status == 200, (a.status, a.body)
    return a.json()


class Prober(threading.Thread):
    """Asks for /healthz again and again; keeps how long each answer took."""

    def __init__(self, s):
        super().__init__(daemon=True)
        self.server, self.seconds, self.stop = s, [], False

    def run(self):
        c = self.server.connect()
        while not self.stop:
            start = time.time()
            c.send(request("GET", "/healthz"))
            c.answer()
            self.seconds.append(time.time() - start)
            time.sleep(0.002)
        c.close()

    def end(self, name):
        self.stop = True
        self.join()
        waits = sorted(self.seconds)
        return {name: {"n": len(waits), "median": round(waits[len(waits) // 2] * 1000, 2),
                       "p99": round(waits[len(waits) * 99 // 100] * 1000, 2),
                       "max": round(waits[-1] * 1000, 2)}}


def prober(s):
    p = Prober(s)
    p.start()
    return p


def whole(s, piece, mib):
    start, beside = time.time(), prober(s)
    a = send(s.connect(timeout=600), "/v1/files", head_of([("purpose", "fine-tune")], "file"),
             piece, mib)
    seconds = time.time() - start
    assert a["bytes"] == mib * len(piece), a
    found = beside.end("ms_beside_the_upload")
    start, beside = time.time(), prober(s)
    assert s.ask("DELETE", f"/v1/files/{a['id']}").status == 200
    delete = time.time() - start
    time.sleep(3)  # its blocks are freed in this time
    return {"seconds": round(seconds, 2), **found, "delete_ms": round(delete * 1000, 2),
            **beside.end("ms_beside_the_delete")}


def disk(s):
    """MiB of the data folder's blocks."""
    blocks = 0
    for folder, _, names in os.walk(s.data):
        for name in names:
            try:
                blocks += os.stat(os.path.join(folder, name)).st_blocks
            except FileNotFoundError:
                pass
    return blocks >> 11


def parts(s, piece, mib):
    start = time.time()
    a = s.post("/v1/uploads", {"filename": "t", "purpose": "fine-tune", "bytes": mib << 20,
                               "mime_type": "text/plain"}).json()
    upload, ids, md5 = a["id"], [], hashlib.md5()
    c = s.connect(timeout=600)
    for i in range(0, mib, PART_MIB):
        n = min(PART_MIB, mib - i)
        own = i.to_bytes(8, "big") + piece[8:]
        ids.append(send(c, f"/v1/uploads/{upload}/parts", head_of([], "data"), own, n)["id"])
        for _ in range(n):
            md5.update(own)
    sent, before, beside = time.time(), disk(s), prober(s)
    c.send(request("POST", f"/v1/uploads/{upload}/complete", json.dumps(
        {"part_ids": ids, "md5": md5.hexdigest()}).encode()))
    a = c.answer()
    complete, waits = time.time() - sent, beside.end("ms_beside_the_completion")
    assert a.status == 200 and a.json()["file"]["bytes"] == mib << 20, a.body
    return {"seconds": round(sent - start, 2), "complete_seconds": round(complete, 2),
            "disk_mib_before_and_after": [before, disk(s)], **waits}


def main():
    harness.BUILD = os.path.abspath(sys.argv[1])
    mib = int(sys.argv[2]) if len(sys.argv) > 2 else 2048
    how = parts if "parts" in sys.argv[3:] else whole
    s = Server()
    try:
        found = how(s, os.urandom(1 << 20), mib)
        with open(f"/proc/{s.process.pid}/status", encoding="ascii") as f:
            peak = int(f.read().split("VmHWM:")[1].split()[0])
        print(json.dumps({"how": how.__name__, "mib": mib, **found,
                          "mib_per_s": round(mib / found["seconds"], 1),
                          "peak_resident_kib": peak}))
    finally:
        harness.stop_all()


if __name__ == "__main__":
    main()
