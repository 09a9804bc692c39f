"""ffwd-server beside a bare libmicrohttpd on libuv, in the same run, while a job trains.

Server and bare program share one CPU, training has the other; the load runs on a third where there
is one, else beside the training, which gives way. Bare and ffwd-server are measured in turn; a
figure is the median of its rounds. One JSON line for an almost empty database and one for a full.
usage: bench.py BUILD_DIR      (FFWD_BENCH_JOBS, FFWD_BENCH_EVENTS: rows of the full database)
"""
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import fill

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
JOBS = int(os.environ.get("FFWD_BENCH_JOBS", 100000))
EVENTS = int(os.environ.get("FFWD_BENCH_EVENTS", 10000000))
ROUNDS, SECONDS, CONNECTIONS, CREATES = 3, 0.7, 64, 300
PATH = "/v1/fine_tuning/jobs"
CPUS = sorted(os.sched_getaffinity(0))
SERVER, TRAINER = CPUS[0], CPUS[min(1, len(CPUS) - 1)]
LOAD = CPUS[min(2, len(CPUS) - 1)]


def pin(cpu):
    return lambda: os.sched_setaffinity(0, {cpu})


class Server:
    def __init__(self, build, temp):
        self.temp, self.data = temp, os.path.join(temp, "data")
        self.log = os.path.join(temp, "log")
        start = time.time()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [f"{build}/ffwd-server", "--data", self.data, "--models", f"{ROOT}/examples/models",
                 "--listen", "127.0.0.1:0", "--device", "cpu", "--threads", "1"],
                stderr=log, preexec_fn=pin(SERVER))
        while not (found := re.search(r"server\.start url=http://[^ ]*:(\d+)/", open(self.log).read())):
            if self.process.poll() is not None:
                raise SystemExit(open(self.log).read())
            time.sleep(0.01)
        self.start_seconds = time.time() - start
        self.port = int(found[1])

    def ask(self, method, path, value=None, raw=None, kind="application/json"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = raw if value is None else json.dumps(value)
        c.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = c.getresponse()
        text = answer.read()
        c.close()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {text}")
        return text

    def upload(self, times=1):
        rows = open(f"{ROOT}/examples/data/orders-train.jsonl", "rb").read() * times
        body = (b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--x\r\n'
                b'Content-Disposition: form-data; name="file"; filename="t.jsonl"\r\n\r\n' + rows
                + b"\r\n--x--\r\n")
        return json.loads(self.ask("POST", "/v1/files", raw=body,
                                   kind="multipart/form-data; boundary=x"))["id"]

    def body(self, file, **training):
        return {"model": "ffwd-tiny", "training_file": file, "seed": 1, "suffix": "x@",
                "training": training}

    def create(self, file, **training):
        return json.loads(self.ask("POST", PATH, self.body(file, **training)))["id"]

    def wait(self, job, *statuses):
        while (status := json.loads(self.ask("GET", f"{PATH}/{job}"))["status"]) not in statuses:
            if status in ("failed", "cancelled"):
                raise SystemExit(f"job {job}: {status}")
            time.sleep(0.05)

    def first_metrics(self, file):
        """Seconds from POST to the first metrics event of the stream."""
        start = time.time()
        job = self.create(file, max_steps=5)
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        c.request("GET", f"{PATH}/{job}/events?stream=true")
        stream = c.getresponse()
        while b'"type":"metrics"' not in stream.readline():
            pass
        took = time.time() - start
        c.close()
        self.wait(job, "succeeded")
        return took

    def give_trainer_its_cpu(self):
        for pid in subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True,
                                  text=True).stdout.split():
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {TRAINER})
                if LOAD == TRAINER:
                    os.setpriority(os.PRIO_PROCESS, int(thread), 19)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def load(build, port, targets, connections=CONNECTIONS, limit=0, body=None, seconds=SECONDS):
    command = [f"{build}/tests/bench/server/load", str(port), str(connections), str(seconds),
               str(limit), targets] + (["", body] if body else [])
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True,
                                     preexec_fn=pin(LOAD)).stdout)


def processor_us(pid):
    """Processor time of a process's first thread so far: whoever else computes does not count."""
    return int(open(f"/proc/{pid}/schedstat").read().split()[0]) / 1000


def timed_load(build, process, port, targets, limit):
    before = processor_us(process.pid)
    got = load(build, port, targets, limit=limit)
    return {**got, "cpu_us": (processor_us(process.pid) - before) / got["answered"]}


def compare(build, server, paths, rounds=ROUNDS, limit=0):
    """Bare and ffwd-server in turn on the same answer. A path with an @ is another one each time;
    each round begins with other paths, so that what one round made known is no help to the next."""
    targets, answer = (os.path.join(server.temp, n) for n in ("targets", "answer"))

    def begin(i):
        at = i * len(paths) // rounds
        open(targets, "w").write("\n".join(paths[at:] + paths[:at]) + "\n")
        return targets
    open(answer, "wb").write(server.ask("GET", paths[0]))
    bare = subprocess.Popen([f"{build}/tests/bench/server/bare", answer], stdout=subprocess.PIPE,
                            text=True, preexec_fn=pin(SERVER))
    port = int(bare.stdout.readline())
    got = [(timed_load(build, bare, port, begin(i), limit),
            timed_load(build, server.process, server.port, targets, limit)) for i in range(rounds)]
    bare.terminate()
    bare.wait()

    def middle(i, key):
        return round(statistics.median(r[i][key] for r in got), 3)

    def ratio(of):
        return round(statistics.median(of(f, b) for b, f in got), 3)
    return {"bytes": os.path.getsize(answer),
            "bare_per_second": middle(0, "per_second"), "per_second": middle(1, "per_second"),
            "ratio": ratio(lambda f, b: f["per_second"] / b["per_second"]),
            "bare_cpu_us": middle(0, "cpu_us"), "cpu_us": middle(1, "cpu_us"),
            "cpu_ratio": ratio(lambda f, b: b["cpu_us"] / f["cpu_us"]),
            "bare_p99_ms": middle(0, "p99_ms"), "p50_ms": middle(1, "p50_ms"),
            "p99_ms": middle(1, "p99_ms")}


def flush_times(folder, n=100):
    """What the disk itself takes to make two pages durable: part of every create."""
    took = []
    with open(os.path.join(folder, "flush"), "wb") as f:
        for _ in range(n):
            f.write(b"x" * 8192)
            f.flush()
            start = time.perf_counter()
            os.fdatasync(f.fileno())
            took.append((time.perf_counter() - start) * 1000)
            time.sleep(0.005)
    took.sort()
    return {"p50_ms": round(took[n // 2], 2), "p99_ms": round(took[n * 99 // 100], 2)}


def dry_run(server, mib=100):
    """A dry run of a big file while a job trains, and how long others wait meanwhile."""
    once = os.path.getsize(f"{ROOT}/examples/data/orders-train.jsonl")
    times = (mib << 20) // once + 1
    file = server.upload(times)
    waits, done = [], threading.Event()

    def probe():
        while not done.is_set():
            start = time.perf_counter()
            server.ask("GET", "/v1/files/" + file)
            waits.append((time.perf_counter() - start) * 1000)
            time.sleep(0.01)
    other = threading.Thread(target=probe)
    other.start()
    start = time.time()
    answer = json.loads(server.ask("POST", PATH, {**server.body(file), "dry_run": True}))
    seconds = time.time() - start
    done.set()
    other.join()
    waits.sort()
    return {"bytes": times * once, "rows": answer["training"]["rows"],
            "seconds": round(seconds, 2), "others_p50_ms": round(waits[len(waits) // 2], 2),
            "others_max_ms": round(waits[-1], 2)}


def addresses(server, jobs, job):
    """Pages by name. jobs: ids, newest first, of which some are asked for; job: one with events."""
    events, middle = f"{PATH}/{job}/events?limit=20", len(jobs) // 2
    listed = json.loads(server.ask("GET", f"{PATH}/{job}/events?limit=1000"))["data"]
    event = listed[len(listed) // 2]["id"]
    last = listed[max(0, len(listed) - 21)]["id"]
    once = jobs[::max(1, len(jobs) // 100000)]
    return {
        "job_again": [f"{PATH}/{job}"],
        "job_once": [f"{PATH}/{i}?ask=@" for i in once],
        "jobs_first_page": [f"{PATH}?limit=20"],
        "jobs_middle_page": [f"{PATH}?limit=20&after={jobs[middle]}"],
        "jobs_last_page": [f"{PATH}?limit=20&after={jobs[-21 if len(jobs) > 21 else 0]}"],
        "jobs_pages_once": [f"{PATH}?limit=20&after={i}&ask=@" for i in once[:-20] or once],
        "events_first_page": [events],
        "events_middle_page": [f"{events}&after={event}"],
        "events_last_page": [f"{events}&after={last}"],
        "events_pages_once": [f"{PATH}/{i}/events?limit=20&ask=@" for i in once]}


def measure(build, server, file, jobs, job, full):
    long_one = server.create(file, max_steps=1000000)
    server.wait(long_one, "running")
    server.give_trainer_its_cpu()
    out = {}
    if full:  # no job is in two of these pages, and none was shown before
        pages = [f"{PATH}?limit=20&after={i}" for i in jobs[:-20:20]]
        out["jobs_walk"] = compare(build, server, pages, limit=len(pages) // ROUNDS)
    out |= {name: compare(build, server, paths)
            for name, paths in addresses(server, jobs, job).items()}
    out["metrics_page"] = compare(build, server, ["/metrics?ask=@"], 1)
    if not full:
        out["dry_run"] = dry_run(server)
    targets = os.path.join(server.temp, "targets")
    open(targets, "w").write(PATH + "\n")
    out["flush"] = flush_times(server.data)
    out["create"] = load(build, server.port, targets, 1, CREATES,
                         json.dumps(server.body(file, max_steps=1)), 20)
    return out


def main():
    build = os.path.abspath(sys.argv[1])
    temp = tempfile.mkdtemp(prefix="ffwd-bench-")
    server = None
    try:
        for full in (False, True):
            server = Server(build, temp)
            file = server.upload()
            job = server.create(file, max_steps=100)
            server.wait(job, "succeeded")
            first = [server.first_metrics(file) for _ in range(5)]
            listed = [row["id"] for row in json.loads(server.ask("GET", PATH))["data"]]
            if full:
                server.stop()
                fill.fill(server.data, JOBS, EVENTS // JOBS)
                server = Server(build, temp)
                listed = [fill.job_id(i) for i in range(JOBS, 0, -1)]
                job = listed[JOBS // 3]
            print(json.dumps({"bench": "server", "jobs": JOBS if full else 6,
                              "events": EVENTS if full else 300, "connections": CONNECTIONS,
                              "cpus": len(CPUS), "start_seconds": round(server.start_seconds, 2),
                              "first_metrics_seconds": round(statistics.median(first), 3),
                              **measure(build, server, file, listed, job, full)}), flush=True)
            server.stop()
            shutil.rmtree(server.data)
    finally:
        if server and server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        shutil.rmtree(temp, ignore_errors=True)


if __name__ == "__main__":
    main()
