"""schemathesis: what /openapi.json describes, asked in many ways: no server error, no answer that the
document does not describe, nothing accepted that it forbids.

The document is taken at its word: objects of answers are closed, so a key that it does not name fails.
The worker is the stand-in of tests/http, so jobs end at once. The examples are the same in every run.
"""

import json
import re
import subprocess
import sys
import time
import urllib.request

import pytest

from conftest import BASE, BUILD, ROOT, Server
from test_webhooks import receiving

FAKE = ROOT / "tests" / "http" / "fake_worker.py"
JOBS = "/v1/fine_tuning/jobs"
ROW = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
EXAMPLES = 12

CONFIG = """
continue-on-failure = true
request-timeout = 20
headers = {{ Authorization = "Bearer {key}" }}
warnings = false

[generation]
deterministic = true
max-examples = {examples}
database = "none"

[checks.positive_data_acceptance]
# A limit on time, place or number is no fault of the request.
expected-statuses = ["2xx", "304", "404", "416", "422", "429"]

# Ids come from the dictionaries alone: from answers it would learn to delete what others need.
[phases.coverage.extra-data-sources]
responses = false

[phases.fuzzing.extra-data-sources]
responses = false

[phases.stateful]
max-steps = 6

[dictionaries]
{dictionaries}
[parameters]
"path.file_id" = {{ dictionary = "files", probability = 0.8 }}
"path.upload_id" = {{ dictionary = "uploads", probability = 0.8 }}
"path.fine_tuning_job_id" = {{ dictionary = "jobs", probability = 0.8 }}
"path.file" = {{ dictionary = "adapter_files", probability = 0.8 }}
"path.model" = {{ dictionary = "models", probability = 0.8 }}
"path.fine_tuned_model_checkpoint" = {{ dictionary = "checkpoints", probability = 0.8 }}
"path.webhook_endpoint_id" = {{ dictionary = "endpoints", probability = 0.8 }}
"body.model" = {{ dictionary = "models", probability = 0.8 }}
"body.training_file" = {{ dictionary = "files", probability = 0.9 }}
"body.validation_file" = {{ dictionary = "files", probability = 0.9 }}

# Each of these takes away what it names, or needs it in a certain state.
[[operations]]
include-operation-id = "deleteFile"
parameters = {{ "path.file_id" = {{ dictionary = "files_to_delete", probability = 0.8 }} }}

[[operations]]
include-operation-id = "deleteWebhookEndpoint"
parameters = {{ "path.webhook_endpoint_id" = {{ dictionary = "endpoints_to_delete", probability = 0.8 }} }}

[[operations]]
include-operation-id = "deleteModel"
parameters = {{ "path.model" = {{ dictionary = "models_to_delete", probability = 0.8 }} }}

[[operations]]
include-operation-id = "deleteFineTuningCheckpointPermission"
[operations.parameters]
"path.permission_id" = {{ dictionary = "permissions", probability = 1 }}
"path.fine_tuned_model_checkpoint" = {{ dictionary = "checkpoints", probability = 1 }}

[[operations]]
include-operation-id = ["updateFineTuningJob", "pauseFineTuningJob"]
parameters = {{ "path.fine_tuning_job_id" = {{ dictionary = "jobs_paused", probability = 0.8 }} }}

[[operations]]
include-operation-id = "resumeFineTuningJob"
parameters = {{ "path.fine_tuning_job_id" = {{ dictionary = "jobs_to_resume", probability = 0.8 }} }}

[[operations]]
include-operation-id = "cancelFineTuningJob"
parameters = {{ "path.fine_tuning_job_id" = {{ dictionary = "jobs_to_cancel", probability = 0.8 }} }}

# Whether these are accepted depends on what the server has: files and models that exist, a job or
# upload that has not ended, parts with the bytes of the upload, room for an endpoint, an answer of one.
[[operations]]
include-operation-id = ["createFineTuningJob", "updateFineTuningJob", "cancelFineTuningJob",
                        "pauseFineTuningJob", "resumeFineTuningJob", "addUploadPart",
                        "completeUpload", "cancelUpload", "createWebhookEndpoint", "testWebhookEndpoint",
                        "deleteModel", "deleteFile"]
checks.positive_data_acceptance.enabled = false

# A part is refused for its size before the form's other fields are seen.
[[operations]]
include-operation-id = "addUploadPart"
checks.negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "413", "415", "429"]
"""


# The stand-in adds the arguments it was given to a job's estimate.
OPEN = ("JobEstimate",)


def closed(node, open_=OPEN, inside=False):
    """A copy of the document in which an object has no keys but those it is described with."""
    if isinstance(node, list):
        return [closed(x, open_, inside) for x in node]
    if not isinstance(node, dict):
        return node
    out = {k: v if k in open_ else closed(v, open_, inside or k == "schemas") for k, v in node.items()}
    if inside and isinstance(node.get("properties"), dict) and "type" in node:
        out.setdefault("additionalProperties", False)
    return out


class Prepared:
    """A server with a key and one of everything, some of it to be deleted."""

    def __init__(self, folder, endpoint):
        self.endpoint = endpoint
        self.config = folder / "config.json"
        self.config.write_text(json.dumps({
            "webhook_allow": ["127.0.0.1"],
            "limits": {"retry_seconds": 0, "idle_seconds": 5, "webhook_seconds": 1}}))
        self.server = Server(folder, "--engine", FAKE, "--config", self.config)
        self.key = self.command("keys", "create", "--name", "fuzz").strip()
        self.pools = {}
        self.fill()

    def command(self, *args):
        return subprocess.run([BUILD / "ffwd-server", *args, "--data", self.server.data], check=True,
                              capture_output=True, text=True, timeout=30).stdout

    def ask(self, method, path, value=None, body=None, kind="application/json"):
        data = json.dumps(value).encode() if value is not None else body
        request = urllib.request.Request(self.server.url + path, data=data, method=method, headers={
            "Authorization": "Bearer " + self.key, "Content-Type": kind})
        with urllib.request.urlopen(request, timeout=30) as r:
            return r.read()

    def json(self, *args, **more):
        return json.loads(self.ask(*args, **more))

    def file(self):
        line = b"--b\r\nContent-Disposition: form-data; name="
        return self.json("POST", "/v1/files", kind="multipart/form-data; boundary=b", body=line +
                         b'"purpose"\r\n\r\nfine-tune\r\n' + line + b'"file"; filename="t.jsonl"\r\n\r\n' +
                         ROW * 12 + b"\r\n--b--\r\n")["id"]

    def job(self, suffix, *wanted):
        body = {"model": BASE, "training_file": self.training, "suffix": suffix}
        job = self.json("POST", JOBS, body)["id"]
        return self.until(job, *wanted)

    def until(self, job, *wanted):
        deadline = time.time() + 60
        while time.time() < deadline:
            now = self.json("GET", f"{JOBS}/{job}")
            if now["status"] in wanted and (now["status"] != "running" or
                                            (now["ffwd"]["progress"] or {}).get("step")):
                return now
            time.sleep(0.05)
        raise AssertionError(now)

    def paused(self):
        job = self.job("steps60-ms20", "running")["id"]
        self.json("POST", f"{JOBS}/{job}/pause")
        return self.until(job, "paused")["id"]

    def checkpoint(self):
        """Of a job that was paused and then cancelled."""
        job = self.paused()
        found = self.json("GET", f"{JOBS}/{job}/checkpoints")["data"][0]
        self.json("POST", f"{JOBS}/{job}/cancel")
        return job, found["fine_tuned_model_checkpoint"]

    def permissions(self, checkpoint, n):
        made = self.json("POST", f"/v1/fine_tuning/checkpoints/{checkpoint}/permissions",
                         {"project_ids": [f"team-{i}" for i in range(n)]})
        return [p["id"] for p in made["data"]]

    def fill(self):
        self.training = self.file()
        done = [self.job("steps10", "succeeded") for _ in range(4)]
        stopped, checkpoint = self.checkpoint()
        uploads = [self.json("POST", "/v1/uploads", {"filename": "t", "purpose": "fine-tune", "bytes": 1 << 20,
                                                     "mime_type": "text/plain"})["id"] for _ in range(8)]
        endpoints = [self.json("POST", "/v1/webhook_endpoints", {"url": f"{self.endpoint}{i}"})["id"]
                     for i in range(8)]
        names = [j["fine_tuned_model"] for j in done]
        self.pools = {
            "files": [self.training, self.file()],
            "files_to_delete": [self.file() for _ in range(8)],
            "uploads": uploads,
            "jobs": [done[0]["id"], stopped],
            "jobs_paused": [self.paused()],
            "jobs_to_resume": [self.paused() for _ in range(2)],
            "jobs_to_cancel": [self.paused() for _ in range(3)],
            "adapter_files": ["adapter_model.safetensors", "adapter_config.json", "README.md", "metrics.csv"],
            "models": [BASE, names[0], checkpoint],
            "models_to_delete": [*names[1:], BASE],
            "checkpoints": [checkpoint],
            "permissions": self.permissions(checkpoint, 8),
            "endpoints": endpoints[:2],
            "endpoints_to_delete": endpoints[2:],
        }

    def toml(self):
        pools = "".join(f"{name} = {{ values = {json.dumps(values)} }}\n" for name, values in self.pools.items())
        return CONFIG.format(key=self.key, examples=EXAMPLES, dictionaries=pools)

    def answered(self):
        """{(method, pattern): classes of status} that the server has given, from /metrics."""
        found = {}
        for line in self.ask("GET", "/metrics").decode().splitlines():
            m = re.match(r'ffwd_http_requests_total\{(.*)\} (\d+)', line)
            if m and int(m[2]) > 0:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', m[1]))
                found.setdefault((labels["method"], labels["route"].replace("...}", "}")), set()).add(labels["status"])
        return found


# Never answered with 2xx here: parts would have to be sent with just the bytes of the upload.
UNREACHED = {("POST", "/v1/uploads/{upload_id}/complete")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    with receiving() as (url, _):
        p = Prepared(tmp_path_factory.mktemp("schemathesis"), url)
        yield p
        p.server.stop()


def test_what_the_document_says_holds(prepared, tmp_path):
    described = prepared.json("GET", "/openapi.json")
    (tmp_path / "openapi.json").write_text(json.dumps(closed(described)))
    (tmp_path / "schemathesis.toml").write_text(prepared.toml())
    run = subprocess.run([sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
                          "--config-file", "schemathesis.toml", "run", "openapi.json", "--url",
                          prepared.server.url, "--no-color"], cwd=tmp_path, capture_output=True, text=True,
                         timeout=580)
    assert run.returncode == 0, run.stdout[-20000:] + run.stderr[-2000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert re.search(f"✅ +{phase}", run.stdout), run.stdout
    answered = prepared.answered()
    operations = {(m.upper(), p) for p, o in described["paths"].items() for m in o}
    good = {k for k, classes in answered.items() if "2xx" in classes}
    assert operations - good == UNREACHED, (operations - good, answered)
    assert not [k for k, classes in answered.items() if "5xx" in classes], answered
