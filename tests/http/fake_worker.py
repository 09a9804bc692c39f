#!/usr/bin/env python3
"""A stand-in for the engine (docs/WORKER_PROTOCOL.md): counts instead of training.

`fake_worker.py worker --device D` speaks the worker's protocol. A job's request says how it goes, by
its suffix: words joined with '-', each `name` or `nameNUMBER`:
  steps20     number of steps (10)          ms5       milliseconds a step (5)
  every5      steps between resume points   crash3    dies by SIGKILL at that step, each attempt
  once3       dies at that step, once       exit22    gives up with that code at step 2
  mute        no heartbeat and no step      stale     speaks for an older attempt too
  bytes9      data of that many KiB in each step's event
  stage6      a Fast Forward stage, three steps long, every so many steps
  eval20      an evaluation, ten steps long, every so many steps
  heavy9      an adapter of that many MiB, a hole but for its beginning
  stamp       the monotonic time, in nanoseconds, in each step's event
  again       sends its last steps' events again when it goes on, as the engine does: a server that is
              killed, or copied, may not have read those of before a resume point

The "adapter" is a chain of SHA-256 over the steps, so a run that skips or repeats a step shows.
`fake_worker.py check … FILE` accepts every file of JSON lines; a row with "fake" makes it hang, crash
each time or once, take a second or print nonsense.
"""
import fcntl
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time

lock = threading.Lock()
inbox = []
locks = []
arrived = threading.Condition()


def say(**message):
    with lock:
        try:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        except OSError:
            pass  # the server is gone; the end of our input says so too


def options(text):
    found = {"steps": 10, "ms": 5, "every": 5}
    for word in (text or "").split("-"):
        m = re.fullmatch(r"([a-z]+)(\d*)", word)
        if m:
            found[m[1]] = int(m[2]) if m[2] else True
    return found


def write(path, text):
    with open(path + ".part", "w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + ".part", path)


def listen():
    for line in sys.stdin:
        with arrived:
            inbox.append(json.loads(line))
            arrived.notify()
    with arrived:
        inbox.append({"type": "eof"})
        arrived.notify()


def take(wait):
    with arrived:
        while wait and not inbox:
            arrived.wait()
        return inbox.pop(0) if inbox else None


class Job:
    def __init__(self, run):
        self.id, self.attempt, self.out = run["job"], run["attempt"], run["out"]
        self.run = run
        self.how = options(run["request"].get("suffix"))
        self.step, self.digest = 0, run["request"].get("seed", 0)
        self.rows, self.sent = [], []
        self.flops, self.seconds, self.began = 0, 0, time.time()
        self.point = os.path.join(self.out, "resume", "point.json")
        self.mute = bool(self.how.get("mute"))
        self.alone()

    def alone(self):
        """Leaves a mark if another worker trains in this data folder."""
        data = os.path.dirname(os.path.dirname(self.out))
        if not locks:
            locks.append(open(os.path.join(data, "fake.lock"), "w"))
        try:
            fcntl.flock(locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            write(os.path.join(data, "two-workers"), "")

    def event(self, message, kind="message", data=None, attempt=None):
        event = {"object": "fine_tuning.job.event", "created_at": int(time.time()),
                 "level": "info", "message": message, "type": kind, "data": data or {}}
        if kind == "metrics" and self.how.get("again"):
            self.sent = (self.sent + [event])[-256:]
        self.say_event(event, attempt)

    def say_event(self, event, attempt=None):
        say(type="event", job=self.id, attempt=self.attempt if attempt is None else attempt,
            event=event)

    def save(self):
        os.makedirs(os.path.dirname(self.point), exist_ok=True)
        write(self.point, json.dumps([self.step, self.digest, self.rows, self.flops,
                                      self.seconds + time.time() - self.began, self.sent]))

    def load(self):
        if os.path.exists(self.point):
            (self.step, self.digest, self.rows, self.flops,
             self.seconds, self.sent) = json.load(open(self.point))
        for event in self.sent:
            self.say_event(event)

    def elapsed(self):
        """As it is with stages or evaluations, as it should be without."""
        if self.how.get("stage") or self.how.get("eval"):
            return self.seconds + time.time() - self.began
        return self.step * self.how["ms"] / 1000

    def one_step(self):
        self.step += 1
        text = f"{self.digest}:{self.step}"
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        loss = 1.0 / self.step
        self.rows.append(f"{self.step},{loss}")
        total = self.how["steps"]
        time.sleep(self.how["ms"] / 1000)
        stage = self.how.get("stage") and self.step % self.how["stage"] == 0
        measure = self.how.get("eval") and self.step % self.how["eval"] == 0
        time.sleep((3 * bool(stage) + 10 * bool(measure)) * self.how["ms"] / 1000)
        self.flops += 1e6 * (1 + 3 * bool(stage))
        data = {"step": self.step, "total_steps": total, "train_loss": loss,
                "tokens": 10 * self.step, "seconds": self.elapsed(),
                "flops": self.flops}
        if measure:
            data["full_valid_loss"] = loss
        if self.how.get("bytes"):
            data["padding"] = "x" * (1024 * self.how["bytes"])
        if self.how.get("stamp"):
            data["sent"] = time.monotonic_ns()
        self.event(f"Step {self.step}/{total}: training loss={loss:.4f}", "metrics", data)
        if stage:
            self.event("stage", "metrics", {"step": self.step, "fast_forward": {
                "tau": 1, "evaluations": 2, "loss_before": 1.0, "loss_after": 0.5,
                "flops": 10.0, "flops_share": 0.1, "learning_rate": 0.001}})
        if self.how.get("stale"):
            self.event("from an older attempt", attempt=self.attempt - 1)
        if self.step % self.how["every"] == 0:
            self.save()
            self.event(f"Checkpoint created at step {self.step}")

    def checkpoint(self):
        folder = os.path.join(self.out, "checkpoints", f"step-{self.step}")
        os.makedirs(folder, exist_ok=True)
        write(os.path.join(folder, "adapter_model.safetensors"), str(self.digest))
        write(os.path.join(folder, "adapter_config.json"), json.dumps({"r": 16}))
        self.event(f"Checkpoint created at step {self.step}")

    def accident(self):
        if self.how.get("crash") == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how.get("once") == self.step:
            mark = os.path.join(self.out, "died")
            if not os.path.exists(mark):
                write(mark, "")
                os.kill(os.getpid(), signal.SIGKILL)

    def finish(self):
        folder = os.path.join(self.out, "adapter")
        os.makedirs(folder, exist_ok=True)
        write(os.path.join(folder, "adapter_model.safetensors"), str(self.digest))
        if self.how.get("heavy"):
            os.truncate(os.path.join(folder, "adapter_model.safetensors"), self.how["heavy"] << 20)
        write(os.path.join(folder, "adapter_config.json"), json.dumps({"r": 16}))
        write(os.path.join(folder, "README.md"), "# adapter\n")
        write(os.path.join(folder, "metrics.csv"), "\n".join(["step,train_loss"] + self.rows) + "\n")
        result = {"status": "succeeded", "steps": self.step, "trained_tokens": 10 * self.step,
                  "adapter": folder}
        self.event("done", data=result)
        self.done(0, "succeeded", result=result)

    def done(self, code, status, error=None, result=None):
        say(type="done", job=self.id, attempt=self.attempt, exit=code, status=status, error=error,
            result=result)

    def train(self):
        """Runs to the job's end. True: the process must end."""
        self.load()
        say(type="resolved", job=self.id, attempt=self.attempt,
            resolved={"hyperparameters": {"n_epochs": 1, "batch_size": 2,
                                          "learning_rate_multiplier": 1.0},
                      "learning_rate": 1e-4, "total_steps": self.how["steps"]})
        while self.step < self.how["steps"]:
            message = take(False)
            kind = message["type"] if message else None
            if kind in ("stop", "eof"):
                self.save()
                self.done(11, "stopped")
                return kind == "eof"
            if kind == "pause":
                if self.step:
                    self.checkpoint()
                self.save()
                self.done(11, "stopped")
                return False
            if kind == "cancel":
                self.done(10, "cancelled")
                return False
            if self.mute:
                time.sleep(0.05)
                continue
            self.one_step()
            self.accident()
            if self.step == 2 and self.how.get("exit"):
                code = self.how["exit"]
                self.done(code, "failed", {"code": f"code_{code}", "message": "gave up",
                                           "param": None})
                return False
        self.finish()
        return False


current = None


def beat():
    while True:
        job = current
        if not (job and job.mute):
            say(type="heartbeat", job=job.id if job else None,
                attempt=job.attempt if job else 0, step=job.step if job else 0)
        time.sleep(0.3)


def worker():
    global current
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=beat, daemon=True).start()
    say(type="ready", device={"kind": "cpu", "name": "fake", "threads": 1})
    while True:
        message = take(True)
        if message["type"] == "eof":
            os._exit(11 if current else 0)
        if message["type"] == "exit":
            os._exit(0)
        if message["type"] == "run":
            current = Job(message)
            if current.train():
                os._exit(11)
            current = None


def report(path):
    rows, errors = 0, []
    for number, line in enumerate(open(path, "rb"), 1):
        if b'"fake":"hang"' in line:
            time.sleep(3600)
        if b'"fake":"slow"' in line:
            time.sleep(1)
        if b'"fake":"crash"' in line:
            os.kill(os.getpid(), signal.SIGKILL)
        if b'"fake":"once"' in line:
            mark = os.path.join(os.path.dirname(os.path.dirname(path)), "check-died")
            if not os.path.exists(mark):
                write(mark, "")
                os.kill(os.getpid(), signal.SIGKILL)
        if b'"fake":"nonsense"' in line:
            print("{")
            sys.exit(0)
        try:
            row = json.loads(line)
            rows += isinstance(row, dict)
        except ValueError:
            errors.append({"line": number, "offset": 0, "reason": "not JSON"})
    if not rows and not errors:
        errors.append({"line": 0, "offset": 0, "reason": "the file has no rows"})
    return {"ok": not errors, "kind": "chat", "rows": rows, "tokens": 10 * rows, "errors": errors,
            "error_count": len(errors), "warnings": []}


def check(arguments):
    o = report(arguments[-1])
    good = o["ok"]
    if "--valid" in arguments:
        o["validation"] = report(arguments[arguments.index("--valid") + 1])
        good = good and o["validation"]["ok"]
    if good:
        o["estimate"] = {"exact": True, "total_steps": o["rows"], "tokens": 10 * o["rows"],
                         "hyperparameters": {"n_epochs": 1, "batch_size": 2,
                                             "learning_rate_multiplier": 1.0},
                         "flops": {"training": 1e6, "fast_forward": 0.0, "validation": 0.0},
                         "memory_bytes": {"process": 1, "weights": 1, "adapter": 1, "activations": 1,
                                          "scratch": 0, "total": 4},
                         "seconds": None, "seconds_basis": None,
                         "arguments": [a for a in arguments if not a.startswith("/")]}
    print(json.dumps(o))
    return 0 if good else 20


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker()
    else:
        sys.exit(check(sys.argv[1:]))
