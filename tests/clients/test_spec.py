"""Every object against the published OpenAPI document, where a copy of it is at hand."""

import functools
import json
import os
import pathlib
import time

import jsonschema_rs
import openai
import pytest

from conftest import BASE, ROOT, SMALL, get, get_json, wait

SPEC = pathlib.Path(os.environ.get("FFWD_SHARED", ROOT.parent / "shared")) / "data/openai/fine_tuning_spec.json"
pytestmark = pytest.mark.skipif(not SPEC.exists(), reason="the published OpenAPI document is not at hand")


def modern(node):
    """The document mixes OpenAPI 3.0 words into 3.1: a boolean exclusiveMinimum, nullable."""
    if isinstance(node, list):
        return [modern(x) for x in node]
    if not isinstance(node, dict):
        return node
    node = {k: modern(v) for k, v in node.items()}
    if node.get("exclusiveMinimum") is True:
        node["exclusiveMinimum"] = node.pop("minimum")
    elif node.get("exclusiveMinimum") is False:
        del node["exclusiveMinimum"]
    if node.pop("nullable", False) is True:
        return {"anyOf": [node, {"type": "null"}]}
    return node


@functools.cache
def validator(schema):
    document = {**modern(json.loads(SPEC.read_text())), "$ref": f"#/components/schemas/{schema}"}
    return jsonschema_rs.Draft202012Validator(document)


def check(schema, value):
    errors = [f"{'/'.join(map(str, e.instance_path))}: {e.message}" for e in validator(schema).iter_errors(value)]
    assert not errors, f"{schema}: {errors}"


def test_what_is_wrong_is_seen(server, finished):
    """The document is read as we mean to: each of these is an error."""
    job = get_json(server, f"/v1/fine_tuning/jobs/{finished.id}")
    for change in ({"status": "done"}, {"seed": None}, {"seed": 1.5}, {"error": {}}, {"result_files": None},
                   {"hyperparameters": {"n_epochs": "some"}}, {"organization_id": None}, {"created_at": "x"},
                   {"method": {"type": "kto"}}, {"integrations": [{"type": "mlflow"}]}, {"object": "job"}):
        with pytest.raises(AssertionError):
            check("FineTuningJob", {**job, **change})
    for name in ("id", "error", "finished_at", "hyperparameters", "training_file", "trained_tokens"):
        with pytest.raises(AssertionError):
            check("FineTuningJob", {k: v for k, v in job.items() if k != name})


def test_uploads_validate(server, client):
    upload = client.uploads.create(filename="t", purpose="fine-tune", bytes=3, mime_type="text/jsonl")
    check("Upload", upload.to_dict())
    part = client.uploads.parts.create(upload.id, data=b"abc")
    check("UploadPart", part.to_dict())
    done = client.uploads.complete(upload.id, part_ids=[part.id])
    check("Upload", done.to_dict())
    check("DeleteFileResponse", client.files.delete(done.file.id).to_dict())


OURS = {"ffwd", "user_provided_suffix"}


def check_job(job):
    """A job by the document, with nothing more than we mean to add."""
    check("FineTuningJob", job)
    document = json.loads(SPEC.read_text())["components"]["schemas"]["FineTuningJob"]["properties"]
    assert set(job) - set(document) <= OURS, set(job) - set(document)


def one(server, kind, limit=100):
    return get_json(server, f"/v1/fine_tuning/jobs/{kind}?limit={limit}")


def test_objects_validate(server, finished, files):
    jobs = "/v1/fine_tuning/jobs"
    check("OpenAIFile", get_json(server, f"/v1/files/{files[0].id}"))
    for result in finished.result_files:
        check("OpenAIFile", get_json(server, f"/v1/files/{result}"))
    check("ListFilesResponse", get_json(server, "/v1/files"))
    check("ListFilesResponse", get_json(server, "/v1/files?purpose=vision"))
    check_job(get_json(server, f"{jobs}/{finished.id}"))
    check("ListPaginatedFineTuningJobsResponse", get_json(server, jobs))
    check("ListPaginatedFineTuningJobsResponse", get_json(server, jobs + "?metadata%5Bno%5D=job"))
    check("ListFineTuningJobEventsResponse", get_json(server, f"{jobs}/{finished.id}/events?limit=100"))
    check("ListModelsResponse", get_json(server, "/v1/models"))
    for model in (BASE, finished.fine_tuned_model):
        check("Model", get_json(server, f"/v1/models/{model}"))


def test_a_file_that_expires_validates(client):
    file = client.files.create(file=b"x", purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    check("OpenAIFile", file.to_dict())
    assert client.files.delete(file.id).deleted


def ready(server, job, test, seconds=60):
    """The job as its address gives it, once it is as asked for."""
    end = time.time() + seconds
    while time.time() < end:
        found = get_json(server, f"/v1/fine_tuning/jobs/{job}")
        check_job(found if found["status"] != "paused" else {**found, "status": "running"})
        if test(found):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def test_a_job_validates_in_each_state(server, client, files):
    """`paused` is in the document's example of the pause call, not in its list of states."""
    lenient = openai.OpenAI(api_key="unused", base_url=server.url + "/v1", max_retries=0).fine_tuning.jobs
    rest = {"training": {"max_steps": 400, "checkpoint_interval": 5}}
    running = lenient.create(model=BASE, training_file=files[0].id, validation_file=files[1].id, extra_body=rest,
                             hyperparameters={"n_epochs": 50}, metadata={"a": "b"}, suffix="states")
    assert running.status == "validating_files"
    check_job(running.to_dict())
    found = ready(server, running.id, lambda j: (j["ffwd"]["progress"] or {}).get("step", 0) >= 6)
    assert found["status"] == "running" and found["estimated_finish"]
    queued = lenient.create(model=BASE, training_file=files[0].id, extra_body=SMALL)
    ready(server, queued.id, lambda j: j["status"] == "queued")
    cancelled = lenient.cancel(queued.id)
    assert cancelled.status == "cancelled" and cancelled.finished_at
    check_job(cancelled.to_dict())
    lenient.pause(running.id)
    paused = ready(server, running.id, lambda j: j["status"] == "paused")
    assert paused["finished_at"] is None and paused["error"] is None
    check("ListFineTuningJobCheckpointsResponse", one(server, running.id + "/checkpoints"))
    check("ListFineTuningJobEventsResponse", one(server, running.id + "/events"))
    resumed = lenient.resume(running.id)
    assert resumed.status in ("queued", "running")
    check_job(resumed.to_dict())
    lenient.cancel(running.id)
    ready(server, running.id, lambda j: j["status"] == "cancelled")
    bad = client.files.create(file=b"not json\n" * 12, purpose="fine-tune")
    for body, code in (({"training_file": bad.id}, "invalid_training_file"),
                       ({"training_file": files[0].id, "validation_file": bad.id}, "invalid_validation_file")):
        job = lenient.create(model=BASE, **body)
        failed = ready(server, job.id, lambda j: j["status"] == "failed")
        assert failed["error"]["code"] == code and failed["error"]["param"] and failed["error"]["message"]
        assert set(failed["error"]) == {"code", "message", "param"}
        events = one(server, job.id + "/events")
        check("ListFineTuningJobEventsResponse", events)
        assert "error" in {e["level"] for e in events["data"]}
    check("ListPaginatedFineTuningJobsResponse", get_json(server, "/v1/fine_tuning/jobs?limit=5"))


def test_events_and_checkpoints_validate_one_by_one(server, client, files):
    often = {**SMALL, "training": {**SMALL["training"], "checkpoint_interval": 4, "eval_interval": 6},
             "fast_forward": {"interval": 3, "search": "linear", "validation_examples": 4}}
    job = client.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, validation_file=files[1].id,
                                         extra_body=often)
    done = wait(client, job.id)
    events = one(server, job.id + "/events")["data"]
    kinds = set()
    for event in events:
        check("FineTuningJobEvent", event)
        assert set(event) == {"id", "object", "created_at", "level", "message", "type", "data"}, event
        kinds.add((event["type"], frozenset(event["data"] or {}) & {"train_loss", "fast_forward", "full_valid_loss"}))
    assert len({k for k, _ in kinds}) == 2 and len(kinds) >= 4, kinds
    page = one(server, job.id + "/checkpoints")
    check("ListFineTuningJobCheckpointsResponse", page)
    assert len(page["data"]) >= 3 and page["first_id"] == page["data"][0]["id"]
    measured = set()
    for checkpoint in page["data"]:
        check("FineTuningJobCheckpoint", checkpoint)
        measured |= set(checkpoint["metrics"])
    assert {"step", "train_loss", "train_mean_token_accuracy", "full_valid_loss"} <= measured, measured
    check("ListFineTuningJobCheckpointsResponse", one(server, f"{running_none(client, files)}/checkpoints"))
    name = page["data"][0]["fine_tuned_model_checkpoint"]
    permissions = client.fine_tuning.checkpoints.permissions
    made = permissions.create(name, project_ids=["proj_a", "proj_b"])
    check("ListFineTuningCheckpointPermissionResponse", made.to_dict())
    listed = get_json(server, f"/v1/fine_tuning/checkpoints/{name}/permissions")
    check("ListFineTuningCheckpointPermissionResponse", listed)
    for permission in listed["data"]:
        check("FineTuningCheckpointPermission", permission)
        gone = permissions.delete(permission["id"], fine_tuned_model_checkpoint=name)
        check("DeleteFineTuningCheckpointPermissionResponse", gone.to_dict())
    check("ListFineTuningCheckpointPermissionResponse",
          get_json(server, f"/v1/fine_tuning/checkpoints/{name}/permissions"))
    check("Model", get_json(server, f"/v1/models/{name}"))
    for model in (name, done.fine_tuned_model):
        check("DeleteModelResponse", client.models.delete(model).to_dict())


def running_none(client, files):
    """A job that has no checkpoint."""
    job = client.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, hyperparameters={"n_epochs": 50})
    client.fine_tuning.jobs.cancel(job.id)
    wait(client, job.id)
    return job.id


def test_what_the_document_asks_of_a_request_is_taken(client, files):
    """Bodies that the document allows, where we have what they ask for."""
    for body in ({"model": BASE, "training_file": files[0].id},
                 {"model": BASE, "training_file": files[0].id, "suffix": None, "seed": 0, "metadata": {},
                  "validation_file": None, "integrations": None, "hyperparameters": {"n_epochs": 50, "batch_size": 256}},
                 {"model": BASE, "training_file": files[0].id, "method": {"type": "supervised"}, "seed": 2147483647,
                  "suffix": "x" * 64}):
        check("CreateFineTuningJobRequest", body)
        job = client.post("/fine_tuning/jobs", cast_to=object, body=body)
        check_job(job)
        client.fine_tuning.jobs.cancel(job["id"])
        wait(client, job["id"])


@pytest.mark.parametrize("path, status", [
    ("/v1/nothing", 404), ("/v1/files/file-x", 404), ("/v1/fine_tuning/jobs/x", 404), ("/v1/models/x", 404),
    ("/v1/files?limit=0", 400), ("/v1/fine_tuning/jobs/x/cancel", 405)])
def test_errors_have_the_four_fields(server, path, status):
    got, headers, body = get(server, path)
    error = json.loads(body)["error"]
    assert got == status and set(error) == {"message", "type", "param", "code"} and headers["x-request-id"]
    assert isinstance(error["message"], str) and isinstance(error["type"], str)
    assert all(error[k] is None or isinstance(error[k], str) for k in ("param", "code"))
