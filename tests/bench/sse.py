"""Readers of one job's event stream: every event to all of them, memory, latency, and what ordinary
requests feel of it. One JSON line. usage: tests/bench/sse.py BUILD_DIR [READERS]"""
import json
import os
import subprocess
import sys
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "http"))
import harness  # noqa: E402


def rss(pid):
    return int(open(f"/proc/{pid}/status").read().split("VmRSS:")[1].split()[0]) * 1024


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Requests:
    """Asks for the list of models on one kept connection, every few milliseconds."""

    def __init__(self, server):
        self.connection, self.times, self.on = server.connect(), [], True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        data = harness.request("GET", "/v1/models")
        while self.on:
            start = time.perf_counter()
            self.connection.send(data)
            assert self.connection.answer().status == 200
            self.times.append((time.perf_counter() - start) * 1000)
            time.sleep(0.005)

    def end(self):
        self.on = False
        self.thread.join()
        t = sorted(self.times)
        return {"n": len(t), "p50": round(t[len(t) // 2], 2), "p99": round(t[len(t) * 99 // 100], 2),
                "max": round(t[-1], 2)}


def main():
    harness.BUILD = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    s = harness.Server(config={"limits": {"idle_seconds": 60, "worker_heartbeat_seconds": 60}})
    try:
        alone = Requests(s)
        time.sleep(3)
        alone = alone.end()
        steps = 40 + count // 250
        job = s.create(f"steps{steps}-ms500-every1000-stamp")
        s.running(job)
        before, start = rss(s.process.pid), time.time()
        path = f"/v1/fine_tuning/jobs/{job}/events?stream=true"
        readers = subprocess.Popen([os.path.join(harness.BUILD, "tests/bench/sse_readers"),
                                    str(s.port), path, str(count)], stdout=subprocess.PIPE, text=True)
        opened = json.loads(readers.stdout.readline() or "{}").get("open")
        seconds = time.time() - start
        memory, beside, used, since = rss(s.process.pid), Requests(s), cpu(s.process.pid), time.time()
        result = json.loads(readers.stdout.readline())
        beside = beside.end()
        used = (cpu(s.process.pid) - used) / (time.time() - since)
        stored = len(s.events(job))
        print(json.dumps({
            "bench": "sse", "opened": opened, "seconds_to_open": round(seconds, 1), **result,
            "events_stored": stored,
            "complete": result["events_least"] == result["events_most"] == stored,
            "server_bytes_per_reader": (memory - before) // count,
            "server_cpu": round(used, 2), "request_ms": {"alone": alone, "beside": beside}}))
        return readers.wait() or result["events_least"] != stored
    finally:
        harness.stop_all()


if __name__ == "__main__":
    sys.exit(main())
