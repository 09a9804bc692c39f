"""docs/API.md: each curl line of its tables runs, and each operation of /openapi.json has one."""
import json
import os
import re
import subprocess

from cases_webhooks import ALLOW, Receiver
from harness import HERE, ROW, Server, Skip, test, until

PAGE = os.path.join(HERE, "..", "..", "docs", "API.md")
JOBS = "/v1/fine_tuning/jobs"


def lines():
    """(what it does, command) of each row of the page's tables."""
    found = []
    for line in open(PAGE, encoding="utf-8"):
        row = re.match(r"\| ([^|]+) \| `([^`]*\bcurl .*?)`(?= |\n)", line)
        if row:
            found.append((row[1], row[2].replace("\\|", "|")))
    return found


def operation(command):
    """(method, path without query) that a command asks."""
    target = re.search(r"\$F(/[^ \"'?]*)", command)[1]
    method = re.search(r"-X (\w+)", command)
    return method[1] if method else "POST" if re.search(r" -[dF] ", command) else "GET", target


class Page:
    """A server with one of everything that the page's variables name."""

    def __init__(self):
        self.server = s = Server(config=ALLOW)
        self.receiver = Receiver()
        os.makedirs(os.path.join(s.models, "org"))
        os.symlink(os.path.join(s.models, "tiny"), os.path.join(s.models, "org", "name"))
        open(os.path.join(s.temp, "train.jsonl"), "w").write(ROW * 12)

    def finished(self):
        job = self.server.create("steps10")
        assert self.server.ended(job)["status"] == "succeeded"
        return job

    def paused(self):
        s = self.server
        job = s.create("steps100000")
        s.running(job)
        s.reaches(job, 2)
        assert s.post(f"{JOBS}/{job}/pause").status == 200
        until(lambda: s.job(job)["status"] == "paused")
        return job

    def model(self, job=None):
        return self.server.job(job or self.finished())["fine_tuned_model"]

    def checkpoint(self):
        s, job = self.server, self.paused()
        found = s.get(f"{JOBS}/{job}/checkpoints").json()["data"][0]["fine_tuned_model_checkpoint"]
        s.post(f"{JOBS}/{job}/cancel")
        return found

    def job_for(self, what):
        s = self.server
        if what == "resume":
            return self.paused()
        if what not in ("cancel", "pause", "priority"):
            return self.finished()
        job = s.create("steps100000")
        s.reaches(job, 2)
        if what == "priority":
            job = s.create("steps20")
            until(lambda: s.job(job)["status"] == "queued")
        return job

    def variables(self, what, command):
        """Values of the variables a line uses, each made for it."""
        s = self.server
        out = {"F": f"http://127.0.0.1:{s.port}"}
        if "$FILE" in command:
            out["FILE"] = s.upload()
        if "$JOB" in command:
            out["JOB"] = self.job_for(what)
        if "$EVENT" in command:
            out["EVENT"] = s.events(out["JOB"])[1]["id"]
        if "$UPLOAD" in command:
            a = s.post("/v1/uploads", {"filename": "t.jsonl", "purpose": "fine-tune",
                                       "bytes": len(ROW * 12), "mime_type": "application/jsonl"})
            out["UPLOAD"] = a.json()["id"]
        if "$CKPT" in command:
            out["CKPT"] = self.checkpoint()
        if "$PERMISSION" in command:
            a = s.post(f"/v1/fine_tuning/checkpoints/{out['CKPT']}/permissions",
                       {"project_ids": ["team-a"]})
            out["PERMISSION"] = a.json()["data"][0]["id"]
        if "$ENDPOINT" in command:
            a = s.post("/v1/webhook_endpoints", {"url": self.receiver.url})
            out["ENDPOINT"] = a.json()["id"]
        return out

    def filled_in(self, command, values):
        """The names that the page only makes up."""
        if "part_…" in command:
            part = os.path.join(self.server.temp, "train.jsonl")
            a = subprocess.run(["curl", "-sS", f"{values['F']}/v1/uploads/{values['UPLOAD']}/parts",
                                "-F", f"data=@{part}"], capture_output=True, check=True)
            command = command.replace('"part_…","part_…"', f'"{json.loads(a.stdout)["id"]}"')
        if ":ckpt-step-40" in command:
            command = re.sub(r"ft:[^ ]*", self.checkpoint(), command)
        return re.sub(r"ft:tiny:ffwd:orders:ab12cd34", lambda _: self.model(), command)

    def end_jobs(self):
        for j in self.server.get(f"{JOBS}?limit=100").json()["data"]:
            if j["status"] not in ("succeeded", "failed", "cancelled"):
                self.server.post(f"{JOBS}/{j['id']}/cancel")
                self.server.ended(j["id"])


@test
def each_curl_line_of_the_page_runs():
    if subprocess.run(["which", "curl"], capture_output=True).returncode:
        raise Skip("no curl")
    page = Page()
    for what, command in lines():
        values = page.variables(what, command)
        shell = page.filled_in(command, values).replace("curl ", "curl -sS --fail-with-body ")
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", shell], capture_output=True, timeout=60,
                              cwd=page.server.temp, env={**os.environ, **values})
        assert done.returncode == 0, (what, shell, values, done.stdout[-500:], done.stderr[-500:])
        page.end_jobs()


@test
def each_operation_has_a_curl_line():
    described = Server().get("/openapi.json").json()["paths"]
    asked = set()
    for _, command in lines():
        method, path = operation(command)
        for pattern, operations in described.items():
            # a model's name may have slashes; what is fixed in a pattern is worth more
            fits = re.fullmatch(re.sub(r"\{(\w+)\}", lambda m: ".+" if m[1] == "model" else "[^/]+",
                                       pattern), path)
            if fits and method.lower() in operations:
                asked.add((method, pattern))
    azure = {("POST", f"{JOBS}/{{fine_tuning_job_id}}/{kind}") for kind in ("events", "checkpoints")}
    missing = {(m.upper(), p) for p, o in described.items() for m in o} - asked - azure
    assert not missing, missing
    assert len(lines()) >= 40, len(lines())
