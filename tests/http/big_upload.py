#!/usr/bin/env python3
"""Uploads N MiB (2048) and prints what the server needed, as one JSON line.
usage: tests/http/big_upload.py BUILD_DIR [MIB]"""
import json
import os
import sys
import time

import harness
from harness import BOUNDARY, FORM, Server


def main():
    harness.BUILD = os.path.abspath(sys.argv[1])
    mib = int(sys.argv[2]) if len(sys.argv) > 2 else 2048
    head = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="t"\r\n\r\n')
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    piece = os.urandom(1 << 20)
    s = Server()
    try:
        c = s.connect(timeout=600)
        start = time.time()
        c.send((f"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: "
                f"{len(head) + mib * len(piece) + len(tail)}\r\n\r\n{head}").encode())
        for _ in range(mib):
            c.send(piece)
        c.send(tail)
        a = c.answer()
        seconds = time.time() - start
        assert a.status == 200 and a.json()["bytes"] == mib * len(piece), (a.status, a.body)
        with open(f"/proc/{s.process.pid}/status", encoding="ascii") as f:
            peak = int(f.read().split("VmHWM:")[1].split()[0])
        print(json.dumps({"mib": mib, "seconds": round(seconds, 2),
                          "mib_per_s": round(mib / seconds, 1), "peak_resident_kib": peak}))
    finally:
        harness.stop_all()


if __name__ == "__main__":
    main()
