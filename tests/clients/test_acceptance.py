"""The acceptance list of a server that is compatible with OpenAI's fine-tuning API, one test a line."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request

import openai
import pytest

from conftest import BASE, BUILD, DATA, MODELS, ROOT, Server, get_json, wait
from relay import Relay
from test_webhooks import receiver  # noqa: F401

sys.path.insert(0, str(ROOT / "tests" / "http"))
import node_wire  # noqa: E402
from harness import Connection  # noqa: E402

TRAIN, VALID = (DATA / f"orders-{n}.jsonl" for n in ("train", "valid"))
ROWS = VALID.read_bytes()
SHORT = {"training": {"max_steps": 6, "learning_rate": 0.003}, "lora": {"rank": 4},
         "fast_forward": {"validation_examples": 4}}
JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A server as a team would run it: keys, limits, two roots of models, webhooks: (server, key)."""
    folder = tmp_path_factory.mktemp("acceptance")
    (folder / "models" / "org").mkdir(parents=True)
    (folder / "models" / "org" / "model name").symlink_to(MODELS / BASE)
    key = subprocess.run([BUILD / "ffwd-server", "keys", "create", "--data", folder / "data"],
                         capture_output=True, text=True, check=True).stdout.strip()
    (folder / "config.json").write_text(json.dumps(
        {"webhook_allow": ["127.0.0.1"], "limits": {"file_bytes": 8 << 20, "queued_jobs_per_project": 6}}))
    s = Server(folder, "--config", folder / "config.json", "--models", f"{MODELS}:{folder / 'models'}")
    yield s, key
    s.stop()


@pytest.fixture(scope="module")
def strict(service):
    s, key = service
    return openai.OpenAI(api_key=key, base_url=s.url + "/v1", max_retries=0, organization="org-x",
                         project="proj-x", _strict_response_validation=True)


@pytest.fixture(scope="module")
def train(strict):
    return strict.files.create(file=TRAIN, purpose="fine-tune").id


@pytest.fixture(scope="module")
def valid(strict):
    return strict.files.create(file=VALID, purpose="fine-tune").id


@pytest.fixture(scope="module")
def done(strict, train, valid):
    job = strict.fine_tuning.jobs.create(
        model="org/model name", training_file=train, validation_file=valid, suffix="acc", seed=3,
        hyperparameters={"n_epochs": "auto", "batch_size": 4},
        extra_body={**SHORT, "training": {**SHORT["training"], "checkpoint_interval": 2}})
    job = wait(strict, job.id)
    assert job.status == "succeeded", job.error
    return job


def ask(service, method, path, body=None, headers=()):
    """(status, headers, object) of a request with the service's key."""
    s, key = service
    request = urllib.request.Request(s.url + path, body, {"Authorization": "Bearer " + key, **dict(headers)},
                                     method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as r:
            return r.status, r.headers, json.loads(r.read())
    except urllib.error.HTTPError as e:
        return e.code, e.headers, json.loads(e.read())


def python_calls(c, done):
    f = c.files.create(file=open(VALID, "rb"), purpose="fine-tune")
    assert f.filename == VALID.name
    f = c.files.create(file=io.BytesIO(ROWS), purpose="fine-tune",
                       expires_after={"anchor": "created_at", "seconds": 3600})
    assert f.filename == "upload" and f.expires_at == f.created_at + 3600
    content = c.files.content(f.id)
    assert content.read() == ROWS and content.text == ROWS.decode()
    job = c.fine_tuning.jobs.create(model=BASE, training_file=f.id, suffix=None,
                                    extra_body={"lora": {"rank": 16}, "training": {"max_steps": 400}},
                                    hyperparameters={"n_epochs": 50}).id
    while not (c.fine_tuning.jobs.retrieve(job).ffwd["progress"] or {}).get("step"):
        time.sleep(0.02)
    assert c.fine_tuning.jobs.pause(job).status == "running"
    assert c.fine_tuning.jobs.resume(job).status in ("running", "queued")
    assert c.fine_tuning.jobs.cancel(job).status in ("running", "cancelled")
    wait(c, job)
    upload = c.uploads.create(filename="t", purpose="fine-tune", bytes=3, mime_type="text/plain")
    part = c.uploads.parts.create(upload.id, data=b"abc")
    md5 = hashlib.md5(b"abc").hexdigest()
    assert c.uploads.complete(upload.id, part_ids=[part.id], md5=md5).status == "completed"
    upload = c.uploads.create(filename="t", purpose="fine-tune", bytes=3, mime_type="text/plain")
    assert c.uploads.cancel(upload.id).status == "cancelled"
    assert c.uploads.upload_file_chunked(file=VALID, mime_type="text/plain", purpose="fine-tune",
                                         part_size=5000).file.bytes == len(ROWS)
    assert c.models.retrieve("org/model name").id == "org/model name"
    assert c.models.retrieve(done.fine_tuned_model).id == done.fine_tuned_model


def node_calls(service, done):
    s, key = service
    connection = Connection(s.port)

    def send(data):
        connection.send(data)
        a = connection.answer()
        assert a.status == 200, a.body
        return a

    def call(method, path, value=None, **more):
        return send(node_wire.call(method, path, value, key=key, **more)).json()
    f = send(node_wire.upload("/v1/files", {"file": ("t.jsonl", ROWS), "purpose": "fine-tune"}, 777, key=key)).json()
    got = send(node_wire.call("GET", f"/v1/files/{f['id']}/content", key=key, accept="application/binary"))
    assert got.body == ROWS
    job = call("POST", JOBS, {"model": BASE, "training_file": f["id"], "suffix": None, **SHORT})["id"]
    for action in ("pause", "resume", "cancel"):
        assert call("POST", f"{JOBS}/{job}/{action}")["id"] == job
    upload = call("POST", "/v1/uploads", {"filename": "t", "purpose": "fine-tune", "bytes": 3, "mime_type": "a/b"})
    path = f"/v1/uploads/{upload['id']}"
    part = send(node_wire.upload(path + "/parts", {"data": ("blob", b"abc")}, key=key)).json()
    assert call("POST", path + "/complete", {"part_ids": [part["id"]]})["status"] == "completed"
    for name in ("org/model name", done.fine_tuned_model):
        assert call("GET", "/v1/models/" + node_wire.segment(name))["id"] == name
    assert call("GET", JOBS + node_wire.query(limit=1, metadata={"k": "v"}))["data"] == []
    connection.close()


def test_01_python_and_node_with_only_the_address_changed(service, strict, done):
    python_calls(strict, done)
    node_calls(service, done)


def test_02_strict_validation_of_every_object(strict, train, done):
    """The client raises APIResponseValidationError for a field that is missing or of another type."""
    jobs = strict.fine_tuning.jobs
    checkpoint = jobs.checkpoints.list(done.id).data[0].fine_tuned_model_checkpoint
    permissions = strict.fine_tuning.checkpoints.permissions
    given = permissions.create(checkpoint, project_ids=["proj_x"]).data[0]
    upload = strict.uploads.create(filename="t", purpose="fine-tune", bytes=3, mime_type="text/plain")
    part = strict.uploads.parts.create(upload.id, data=b"abc")
    completed = strict.uploads.complete(upload.id, part_ids=[part.id])
    bad = strict.files.create(file=b"not json\n" * 12, purpose="fine-tune")
    failed = wait(strict, jobs.create(model=BASE, training_file=bad.id).id)
    assert failed.status == "failed" and failed.error.code and failed.error.message
    found = [strict.files.retrieve(train), strict.files.list(), upload, part, completed, completed.file, failed,
             jobs.retrieve(done.id), jobs.list(), jobs.list_events(done.id, limit=100), jobs.checkpoints.list(done.id),
             given, permissions.list(checkpoint), permissions.delete(given.id, fine_tuned_model_checkpoint=checkpoint),
             strict.models.list(), strict.models.retrieve(BASE), strict.files.delete(bad.id)]
    kinds = {getattr(o, "object", None) for o in found}
    assert kinds >= {"file", "upload", "upload.part", "fine_tuning.job", "checkpoint.permission", "model", "list"}


def curl(service, *arguments):
    s, key = service
    run = subprocess.run(["curl", "-sv", s.url + "/v1/files", "-H", "Authorization: Bearer " + key, *arguments],
                         capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), run.stderr.decode()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_03_curl_uploads_in_either_order_large_and_chunked(service, strict, tmp_path):
    large = tmp_path / "large.jsonl"
    large.write_bytes(ROWS * (3 * (1 << 20) // len(ROWS) + 1))
    for path in (VALID, large):
        for chunked in ((), ("-H", "Transfer-Encoding: chunked")):
            for fields in (("-F", f"file=@{path}", "-F", "purpose=fine-tune"),
                           ("-F", "purpose=fine-tune", "-F", f"file=@{path}")):
                f, log = curl(service, *chunked, *fields)
                assert f["object"] == "file" and f["filename"] == path.name, f
                assert ("100 Continue" in log) == (path is large), log
                assert strict.files.content(f["id"]).read() == path.read_bytes()


def test_04_posts_without_a_body_and_with_the_type_of_json(service, strict, train):
    job = strict.fine_tuning.jobs.create(model=BASE, training_file=train, hyperparameters={"n_epochs": 50}).id
    upload = strict.uploads.create(filename="t", purpose="batch", bytes=1, mime_type="a/b").id
    kind = {"Content-Type": "application/json"}
    for path in (f"{JOBS}/{job}/pause", f"{JOBS}/{job}/resume", f"{JOBS}/{job}/cancel", f"/v1/uploads/{upload}/cancel"):
        status, _, found = ask(service, "POST", path, b"", kind)
        assert status == 200 and found["id"] in (job, upload), (path, found)
    wait(strict, job)
    file = strict.files.create(file=ROWS, purpose="batch").id
    assert ask(service, "DELETE", f"/v1/files/{file}", None, kind)[2]["deleted"] is True


def test_05_null_for_what_is_optional(strict, train):
    nulls = dict.fromkeys(("validation_file", "suffix", "seed", "metadata", "integrations"))
    job = strict.fine_tuning.jobs.create(
        model=BASE, training_file=train, **nulls,
        extra_body={"method": None, "hyperparameters": None, **SHORT})
    assert job.validation_file is None and isinstance(job.seed, int) and job.hyperparameters.n_epochs == "auto"
    job = strict.fine_tuning.jobs.create(
        model=BASE, training_file=train, extra_body={"method": {"type": "supervised", "supervised": None}, **SHORT},
        hyperparameters={"n_epochs": None, "batch_size": None, "learning_rate_multiplier": None})
    assert wait(strict, job.id).status == "succeeded"


def test_06_pages_to_the_end(strict, train, valid, done):
    for name in ("one", "two", "three"):
        strict.files.create(file=ROWS, purpose="user_data")
    jobs = strict.fine_tuning.jobs
    for pages, more in ((lambda **o: strict.files.list(**o), "file-x"), (lambda **o: jobs.list(**o), "ftjob-x"),
                        (lambda **o: jobs.list_events(done.id, **o), "ftevent-x"),
                        (lambda **o: jobs.checkpoints.list(done.id, **o), "ftckpt_x")):
        ids = [o.id for o in pages(limit=1000)]
        assert len(ids) >= 3 and len(set(ids)) == len(ids)
        for limit in (1, 2, len(ids), len(ids) + 1):
            assert [o.id for o in pages(limit=limit)] == ids, limit
        last = pages(after=ids[-1])
        assert last.data == [] and last.has_more is False and not last.has_next_page()
        with pytest.raises(openai.NotFoundError) as e:
            list(pages(after=more))
        assert e.value.param == "after"


def fill_the_queue(strict, train):
    """Creates jobs until one is refused; cancels them again."""
    made = []
    try:
        while True:
            made.append(strict.fine_tuning.jobs.create(model=BASE, training_file=train, seed=len(made),
                                                       hyperparameters={"n_epochs": 50}).id)
            assert len(made) < 50
    finally:
        for id in made:
            strict.fine_tuning.jobs.cancel(id)


def test_07_error_envelopes(service, strict, train, done):
    s, key = service
    wrong = openai.OpenAI(api_key="sk-x", base_url=s.url + "/v1", max_retries=0)
    for status, kind, call in (
            (404, openai.NotFoundError, lambda: strict.files.retrieve("file-x")),
            (400, openai.BadRequestError, lambda: strict.fine_tuning.jobs.create(model=BASE, training_file="x")),
            (401, openai.AuthenticationError, lambda: wrong.models.list()),
            (403, openai.PermissionDeniedError, lambda: strict.models.delete(BASE)),
            (413, openai.APIStatusError, lambda: strict.files.create(file=b"x" * (9 << 20), purpose="batch")),
            (429, openai.RateLimitError, lambda: fill_the_queue(strict, train))):
        with pytest.raises(kind) as e:
            call()
        assert e.value.status_code == status and e.value.request_id.startswith("req_")
        assert set(e.value.body) == {"message", "type", "param", "code"} and e.value.body["message"]
        assert e.value.type == ("rate_limit_error" if status == 429 else "invalid_request_error")


def test_08_events_newest_first_and_auto_resolved(strict, train):
    job = strict.fine_tuning.jobs.create(model=BASE, training_file=train, extra_body=SHORT)
    assert job.hyperparameters.n_epochs == job.hyperparameters.batch_size == "auto"
    ended = wait(strict, job.id)
    for found in (ended.hyperparameters, ended.method.supervised.hyperparameters):
        assert type(found.n_epochs) is int and type(found.batch_size) is int
        assert isinstance(found.learning_rate_multiplier, (int, float))
    events = [e for e in strict.fine_tuning.jobs.list_events(job.id, limit=4)]
    assert [e.created_at for e in events] == sorted((e.created_at for e in events), reverse=True)
    steps = [e.data["step"] for e in events if e.type == "metrics" and "train_loss" in e.data]
    assert steps == [6, 5, 4, 3, 2, 1]
    told = [e.message for e in reversed(events)]
    wanted = [f"Created fine-tuning job: {job.id}", f"Validating training file: {train}",
              "Files validated, moving job to queued state", "Fine-tuning job started",
              f"New fine-tuned model created: {ended.fine_tuned_model}", "The job has successfully completed"]
    assert [m for m in told if m in wanted] == wanted, told
    assert any(m.startswith("Step 1/6: training loss=") for m in told), told


def test_09_top_level_hyperparameters_are_those_of_the_method(service, strict, train):
    values = {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 1.5}
    ways = [{"hyperparameters": values},
            {"method": {"type": "supervised", "supervised": {"hyperparameters": values}}},
            {"hyperparameters": values, "method": {"type": "supervised", "supervised": {"hyperparameters": values}}}]
    jobs = [strict.fine_tuning.jobs.create(model=BASE, training_file=train, seed=5, extra_body=SHORT, **w).id
            for w in ways]
    adapters = set()
    for id in jobs:
        job = wait(strict, id)
        assert job.status == "succeeded" and job.method.type == "supervised"
        for found in (job.hyperparameters, job.method.supervised.hyperparameters):
            assert {k: getattr(found, k) for k in values} == values
        names = {strict.files.retrieve(i).filename: i for i in job.result_files}
        adapters.add(strict.files.content(names["adapter_model.safetensors"]).read())
    assert len(adapters) == 1, "the same training"


def test_10_webhooks_unwrap(service, strict, train, receiver):  # noqa: F811
    url, got = receiver
    endpoint = strict.webhooks.create(url=url, name="acceptance", event_types=["fine_tuning.job.succeeded"])
    job = wait(strict, strict.fine_tuning.jobs.create(model=BASE, training_file=train, extra_body=SHORT).id)
    end = time.time() + 30
    while not got and time.time() < end:
        time.sleep(0.05)
    body, headers = got[0]
    event = strict.webhooks.unwrap(body, headers, secret=endpoint.signing_secret)
    assert type(event).__name__ == "FineTuningJobSucceededWebhookEvent"
    assert event.data.id == job.id and event.type == "fine_tuning.job.succeeded" and event.id.startswith("evt_")
    assert strict.webhooks.delete(endpoint.id).deleted


def test_11_names_of_models_with_colons_and_slashes(service, strict, train, done):
    tuned = done.fine_tuned_model
    assert tuned.startswith("ft:org/model name:") and ":acc:" in tuned
    checkpoint = strict.fine_tuning.jobs.checkpoints.list(done.id).data[-1].fine_tuned_model_checkpoint
    assert checkpoint.startswith(tuned + ":ckpt-step-")
    names = {m.id for m in strict.models.list()}
    assert {"org/model name", tuned} <= names
    for name in ("org/model name", tuned, checkpoint):
        assert strict.models.retrieve(name).id == name
        for path in (name.replace(" ", "%20"), name.replace(" ", "%20").replace(":", "%3A").replace("/", "%2f")):
            assert ask(service, "GET", "/v1/models/" + path)[2]["id"] == name, path
    job = strict.fine_tuning.jobs.create(model=checkpoint, training_file=train,
                                         extra_body={"training": SHORT["training"]})
    job = wait(strict, job.id)
    assert job.status == "succeeded" and job.model == checkpoint
    assert strict.models.delete(job.fine_tuned_model).deleted
    assert strict.models.delete(checkpoint).deleted


def test_12_azure(service, strict, done):
    s, key = service
    azure = openai.AzureOpenAI(api_key=key, azure_endpoint=s.url, api_version="2024-10-21", max_retries=0,
                               _strict_response_validation=True)
    newer = openai.OpenAI(api_key=key, base_url=s.url + "/openai/v1/", max_retries=0,
                          default_headers={"api-key": key}, default_query={"api-version": "preview"},
                          _strict_response_validation=True)
    for c in (azure, newer):
        assert c.fine_tuning.jobs.retrieve(done.id).fine_tuned_model == done.fine_tuned_model
        assert done.id in [j.id for j in c.fine_tuning.jobs.list()]
        assert c.files.retrieve(c.files.create(file=ROWS, purpose="fine-tune").id).bytes == len(ROWS)
    for kind in ("events", "checkpoints"):
        want = get_json_with(service, f"{JOBS}/{done.id}/{kind}?limit=3")
        for prefix in ("/openai", "/openai/v1", "/v1"):
            path = f"{prefix}/fine_tuning/jobs/{done.id}/{kind}?api-version=2024-10-21&limit=3"
            request = urllib.request.Request(s.url + path, b"", {"api-key": key}, method="POST")
            with urllib.request.urlopen(request, timeout=20) as r:
                assert json.load(r) == want, path


def get_json_with(service, path):
    status, _, found = ask(service, "GET", path)
    assert status == 200, found
    return found


def test_13_a_create_that_is_repeated_is_one_job(server, client, files):
    """The first two answers are a 500; the SDK then sends the same body a third time."""
    relay = Relay(server, 2, "error")
    c = openai.OpenAI(api_key="unused", base_url=relay.url + "/v1", _strict_response_validation=True)
    tag = {"acceptance": str(os.getpid())}
    job = c.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, metadata=tag, extra_body=SHORT)
    relay.close()
    assert len(relay.posts) == 3
    assert [j.id for j in client.fine_tuning.jobs.list(metadata=tag)] == [job.id]
    key = {"extra_headers": {"Idempotency-Key": "acceptance"}, "metadata": {"keyed": tag["acceptance"]}}
    first, second = (client.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, extra_body=SHORT, **key)
                     for _ in range(2))
    assert first.id == second.id
    assert len(client.fine_tuning.jobs.list(metadata=key["metadata"]).data) == 1
    for id in (job.id, first.id):
        wait(client, id)
    assert get_json(server, f"{JOBS}/{job.id}")["status"] == "succeeded"
