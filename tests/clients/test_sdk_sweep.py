"""Every method of the SDK that this service is for, strictly validated: sync and async, plain, raw and
streamed answers. A method that a later SDK adds makes this fail until somebody looks at it."""

import hashlib
import io
import time

import openai
import pytest

from callers import Caller, methods
from conftest import BASE, DATA
from test_webhooks import receiver, server  # noqa: F401: a server that may send to this machine

TRAIN, VALID = DATA / "orders-train.jsonl", DATA / "orders-valid.jsonl"
RESOURCES = ("files", "uploads", "fine_tuning", "models", "webhooks")
ABSENT = {"files": "file-nothere", "jobs": "ftjob-nothere", "upload": "upload_nothere"}


@pytest.fixture(params=["sync-plain", "async-plain", "sync-raw", "async-raw", "sync-streaming",
                        "async-streaming"])
def call(request, server):  # noqa: F811
    caller = Caller(*request.param.split("-"), base_url=server.url + "/v1")
    yield caller
    caller.close()


def files(call):
    content = VALID.read_bytes()
    with open(VALID, "rb") as opened:
        made = [call("files.create", file=f, purpose="fine-tune") for f in (
            opened, VALID, content, io.BytesIO(content), ("named.jsonl", content),
            ("typed.jsonl", io.BytesIO(content), "application/jsonl"))]
    assert [f.filename for f in made] == [VALID.name, VALID.name, "upload", "upload", "named.jsonl", "typed.jsonl"]
    made.append(call("files.create", file=content, purpose="user_data",
                     expires_after={"anchor": "created_at", "seconds": 3600}))
    assert made[-1].expires_at == made[-1].created_at + 3600 and made[0].expires_at is None
    for f in made:
        assert f.object == "file" and f.bytes == len(content) and f.status == "processed"
        assert call("files.retrieve", f.id) == f == call("files.wait_for_processing", f.id)
        assert call.content(f.id) == content
    with pytest.warns(DeprecationWarning):
        assert call("files.retrieve_content", made[0].id) == content.decode()
    ids = [f.id for f in made[:-1]]
    for order, want in (("asc", ids), ("desc", ids[::-1])):
        got = [f.id for f in call.all("files.list", purpose="fine-tune", limit=2, order=order) if f.id in ids]
        assert got == want, (order, got)
    page = call("files.list", purpose="user_data", limit=1)
    assert [f.id for f in page.data] == [made[-1].id]
    assert made[0].id in [f.id for f in call("files.list", after=made[1].id).data]
    for f in made:
        gone = call("files.delete", f.id)
        assert gone.deleted is True and gone.id == f.id and gone.object == "file"
    for name in ("retrieve", "delete", "content"):
        e = call.refused(openai.NotFoundError, "files." + name, made[0].id)
        assert e.body == {"message": f"No such File object: {made[0].id}", "param": "id", "code": None,
                          "type": "invalid_request_error"}


def uploads(call):
    content = TRAIN.read_bytes()
    upload = call("uploads.create", filename="t.jsonl", purpose="fine-tune", bytes=len(content),
                  mime_type="application/jsonl", expires_after={"anchor": "created_at", "seconds": 7200})
    assert upload.status == "pending" and upload.object == "upload" and upload.file is None
    half = len(content) // 2
    parts = [call("uploads.parts.create", upload.id, data=d) for d in (
        content[half:], io.BytesIO(content[:half]))]
    assert all(p.object == "upload.part" and p.upload_id == upload.id for p in parts)
    done = call("uploads.complete", upload.id, part_ids=[parts[1].id, parts[0].id],
                md5=hashlib.md5(content).hexdigest())
    assert done.status == "completed" and done.file.bytes == len(content)
    assert done.file.expires_at == done.file.created_at + 7200
    in_memory = call("uploads.upload_file_chunked", file=content, filename="m.jsonl", bytes=len(content),
                     mime_type="application/jsonl", purpose="fine-tune", part_size=20000,
                     md5=hashlib.md5(content).hexdigest())
    from_disk = call("uploads.upload_file_chunked", file=TRAIN, mime_type="application/jsonl",
                     purpose="fine-tune", part_size=50000)
    for u in (done, in_memory, from_disk):
        assert call.content(u.file.id) == content
        call("files.delete", u.file.id)
    assert call("uploads.cancel", call("uploads.create", filename="t", purpose="batch", bytes=1,
                                       mime_type="text/plain").id).status == "cancelled"
    call.refused(openai.NotFoundError, "uploads.cancel", ABSENT["upload"])
    call.refused(openai.NotFoundError, "uploads.complete", ABSENT["upload"], part_ids=["x"])
    call.refused(openai.NotFoundError, "uploads.parts.create", ABSENT["upload"], data=b"x")


EVERYTHING = {
    "suffix": "sweep", "seed": 11, "metadata": {"team": "a", "é": "ü"}, "integrations": [],
    "method": {"type": "supervised", "supervised": {"hyperparameters": {
        "n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 0.5}}},
    "extra_body": {
        "priority": 3, "dry_run": False,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"],
                 "use_rslora": True, "use_dora": False},
        "fast_forward": {"enabled": True, "interval": 3, "validation_examples": 4, "search": "linear",
                         "max_steps": 10},
        "training": {"learning_rate": 0.002, "lr_schedule": "cosine", "warmup_ratio": 0.1,
                     "weight_decay": 0.01, "max_grad_norm": 0.5, "max_seq_len": 128, "packing": False,
                     "shuffle": False, "long_examples": "drop", "train_on": "response", "max_steps": 8,
                     "target_loss": 1e-9, "eval_interval": 4, "checkpoint_interval": 4,
                     "early_stopping": {"patience": 50, "min_delta": 0.0}}}}


def ended(call, job, seconds=120):
    end = time.time() + seconds
    while time.time() < end:
        j = call("fine_tuning.jobs.retrieve", job)
        if j.status in ("succeeded", "failed", "cancelled"):
            return j
        time.sleep(0.05)
    raise AssertionError(f"{job} did not end")


def create(call, train, valid):
    """A job with every option, one with every optional field null."""
    job = call("fine_tuning.jobs.create", model=BASE, training_file=train, validation_file=valid, **EVERYTHING)
    assert job.status in ("validating_files", "queued") and job.object == "fine_tuning.job"
    assert job.error is None and job.finished_at is None and job.fine_tuned_model is None
    assert job.trained_tokens is None and job.result_files == [] and job.integrations == []
    assert job.seed == 11 and job.metadata == EVERYTHING["metadata"] and job.ffwd["priority"] == 3
    assert job.hyperparameters.n_epochs == 1 and job.hyperparameters.learning_rate_multiplier == 0.5
    assert job.method.type == "supervised" and job.user_provided_suffix == "sweep"
    assert job.method.supervised.hyperparameters.batch_size == 4
    nulls = dict.fromkeys(("validation_file", "suffix", "seed", "metadata", "integrations"))
    other = call("fine_tuning.jobs.create", model=BASE, training_file=train, **nulls,
                 extra_body={"method": None, "hyperparameters": None, "training": {"max_steps": 2}})
    assert other.hyperparameters.n_epochs == "auto" and isinstance(other.seed, int)
    assert other.validation_file is None and other.user_provided_suffix is None and not other.metadata
    assert call("fine_tuning.jobs.cancel", other.id).id == other.id
    return job.id, other.id


def control(call, train):
    """Strict clients know no `paused`, so they see a job before and after it."""
    job = call("fine_tuning.jobs.create", model=BASE, training_file=train,
               hyperparameters={"n_epochs": 50}, extra_body={"priority": 50}).id
    end = time.time() + 60
    while not (call("fine_tuning.jobs.retrieve", job).ffwd["progress"] or {}).get("step"):
        assert time.time() < end
        time.sleep(0.02)
    assert call("fine_tuning.jobs.pause", job).status == "running"
    lenient = openai.OpenAI(api_key="unused", base_url=call.client.base_url, max_retries=0)
    while lenient.fine_tuning.jobs.retrieve(job).status != "paused":
        assert time.time() < end
        time.sleep(0.02)
    assert call("fine_tuning.jobs.resume", job).status in ("queued", "running")
    call("fine_tuning.jobs.cancel", job)
    assert ended(call, job).status == "cancelled"
    for name in ("cancel", "pause", "resume"):
        e = call.refused(openai.BadRequestError, "fine_tuning.jobs." + name, job)
        assert e.code == "job_ended" and "already ended" in e.message
        call.refused(openai.NotFoundError, "fine_tuning.jobs." + name, ABSENT["jobs"])


def lists(call, job, other):
    events = call.all("fine_tuning.jobs.list_events", job, limit=3)
    ids = [e.id for e in events]
    assert len(ids) == len(set(ids)) > 10 and events[-1].message.startswith("Created fine-tuning job")
    assert [e.id for e in call("fine_tuning.jobs.list_events", job, limit=2, after=ids[1]).data] == ids[2:4]
    assert {e.type for e in events} == {"message", "metrics"} and {e.level for e in events} <= {"info", "warn"}
    checkpoints = call.all("fine_tuning.jobs.checkpoints.list", job, limit=1)
    assert [c.step_number for c in checkpoints] == sorted((c.step_number for c in checkpoints), reverse=True)
    assert len(checkpoints) >= 2 and all(c.fine_tuning_job_id == job for c in checkpoints)
    page = call("fine_tuning.jobs.checkpoints.list", job, limit=1, after=checkpoints[0].id)
    assert page.data[0].id == checkpoints[1].id
    found = [j.id for j in call.all("fine_tuning.jobs.list", limit=2)]
    assert job in found and other in found and len(found) == len(set(found))
    by_team = [j.id for j in call.all("fine_tuning.jobs.list", metadata={"team": "a", "é": "ü"}, limit=1)]
    assert job in by_team and other not in by_team
    without = [j.id for j in call("fine_tuning.jobs.list", extra_query={"metadata": "null"}, limit=1000).data]
    assert other in without and job not in without
    assert call("fine_tuning.jobs.list", limit=1, after=other).data[0].id == job
    for name in ("list_events", "checkpoints.list"):
        call.refused(openai.NotFoundError, "fine_tuning.jobs." + name, ABSENT["jobs"])
    return checkpoints[-1].fine_tuned_model_checkpoint


def permissions(call, checkpoint):
    path = "fine_tuning.checkpoints.permissions."
    made = call(path + "create", checkpoint, project_ids=["proj_a", "proj_b", "proj_c"]).data
    assert [p.project_id for p in made] == ["proj_a", "proj_b", "proj_c"]
    for order, want in (("ascending", "abc"), ("descending", "cba")):
        seen = [p.project_id[-1] for p in call.all(path + "list", checkpoint, limit=1, order=order)]
        assert seen == list(want), (order, seen)
    assert len(call(path + "list", checkpoint, project_id="proj_b").data) == 1
    with pytest.warns(DeprecationWarning):
        old = call(path + "retrieve", checkpoint, project_id="proj_a")
    assert [p.id for p in old.data] == [made[0].id] and old.has_more is False and old.object == "list"
    for p in made:
        gone = call(path + "delete", p.id, fine_tuned_model_checkpoint=checkpoint)
        assert gone.deleted and gone.id == p.id and gone.object == "checkpoint.permission"
    call.refused(openai.NotFoundError, path + "list", checkpoint + "9")
    call.refused(openai.NotFoundError, path + "create", checkpoint + "9", project_ids=["a"])


def graders(call):
    """Nothing is graded here; a client is told so and does not repeat."""
    grader = {"type": "string_check", "name": "n", "input": "i", "reference": "r", "operation": "eq"}
    for name, more in (("run", {"model_sample": "x"}), ("validate", {})):
        e = call.refused(openai.NotFoundError, "fine_tuning.alpha.graders." + name, grader=grader, **more)
        assert e.code == "unknown_url" and f"/v1/fine_tuning/alpha/graders/{name}" in e.message


def models(call, model, checkpoint):
    names = {m.id: m for m in call.all("models.list")}
    assert BASE in names and names[model].object == "model" and names[model].owned_by
    assert model in {m.id for m in call("models.list").data}
    for name in (BASE, model, checkpoint):
        assert call("models.retrieve", name).id == name
    call.refused(openai.PermissionDeniedError, "models.delete", BASE)
    for name in (checkpoint, model):
        gone = call("models.delete", name)
        assert gone.deleted and gone.id == name and gone.object == "model"
        for method in ("retrieve", "delete"):
            e = call.refused(openai.NotFoundError, "models." + method, name)
            assert e.code == "model_not_found" and e.param == "model"


def webhooks(call, receiver):  # noqa: F811
    url, got = receiver
    ends = ["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"]
    assert call("webhooks.event_types.list").data == ends
    made = [call("webhooks.create", url=url, name=f"n{i}", event_types=ends[:i]) for i in (1, 2, 3)]
    assert [w.event_types for w in made] == [ends[:1], ends[:2], ends] and made[0].name == "n1"
    first, last = made[0], made[-1]
    assert first.signing_secret.endswith(first.signing_secret_hint[-4:]) and first.updated_at == first.created_at
    assert call("webhooks.retrieve", first.id).name == "n1"
    listed = [w.id for w in call.all("webhooks.list", limit=1)]
    assert listed == [w.id for w in made[::-1]]
    assert [w.id for w in call("webhooks.list", after=last.id, limit=1).data] == [made[1].id]
    changed = call("webhooks.update", first.id, name="other", event_types=ends[2:])
    assert changed.name == "other" and changed.event_types == ends[2:] and changed.url == url
    assert call("webhooks.update", first.id, url=url + "x").url == url + "x"
    for type in ends:
        result = call("webhooks.test", last.id, event_type=type)
        assert result.success and result.status_code == 204 and result.event_type == type
        event = call("webhooks.unwrap", *got[-1], secret=last.signing_secret)
        assert event.type == type and event.data.id == last.id == result.webhook_endpoint_id
    old, kept = last.signing_secret, call("webhooks.rotate_secret", last.id, keep_old_secret_active_for_24_hours=True)
    call("webhooks.test", last.id, event_type=ends[0])
    for secret in (old, kept.signing_secret):
        call("webhooks.verify_signature", *got[-1], secret=secret)
    only = call("webhooks.rotate_secret", last.id).signing_secret
    call("webhooks.test", last.id, event_type=ends[0])
    call("webhooks.verify_signature", *got[-1], secret=only)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        call("webhooks.verify_signature", *got[-1], secret=kept.signing_secret)
    e = call.refused(openai.BadRequestError, "webhooks.create", url=url, name="x", event_types=["batch.completed"])
    assert e.param == "event_types" and "fine_tuning.job.failed" in e.message
    for w in made:
        gone = call("webhooks.delete", w.id)
        assert gone.deleted and gone.id == w.id and gone.object == "webhook_endpoint.deleted"
    for name, more in (("retrieve", {}), ("delete", {}), ("update", {"name": "x"}), ("rotate_secret", {}),
                       ("test", {"event_type": ends[0]})):
        call.refused(openai.NotFoundError, "webhooks." + name, first.id, **more)


def test_every_method(call, receiver):  # noqa: F811
    files(call)
    uploads(call)
    train, valid = (call("files.create", file=f, purpose="fine-tune").id for f in (TRAIN, VALID))
    job, other = create(call, train, valid)
    control(call, train)
    done = ended(call, job)
    assert done.status == "succeeded", done.error
    assert ended(call, other).status == "cancelled"
    assert done.trained_tokens > 0 and done.finished_at and len(done.result_files) >= 3
    csv = call.content(done.result_files[0]).decode()
    assert csv.startswith("step,train_loss") and len(csv.splitlines()) == 9
    checkpoint = lists(call, job, other)
    permissions(call, checkpoint)
    graders(call)
    webhooks(call, receiver)
    models(call, done.fine_tuned_model, checkpoint)
    missing = {m for r in RESOURCES for m in methods(call.client, r)} - call.called
    assert not missing, missing
