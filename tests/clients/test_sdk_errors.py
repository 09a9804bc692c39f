"""What the SDK raises, what it repeats, and that a repeat does nothing twice."""

import json
import os
import subprocess
import time

import openai
import pytest

from conftest import BASE, BUILD, DATA, ROOT, SMALL, Server, free_port, wait
from relay import Relay

FAKE = ROOT / "tests" / "http" / "fake_worker.py"
ROWS = (DATA / "orders-valid.jsonl").read_bytes()
ENVELOPE = {"message", "type", "param", "code"}


def sdk(server, **options):
    return openai.OpenAI(**{"api_key": "unused", "base_url": server.url + "/v1", "max_retries": 0,
                            "_strict_response_validation": True, **options})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server with a key, small limits and a trainer that only counts: (server, key)."""
    folder = tmp_path_factory.mktemp("small")
    key = subprocess.run([BUILD / "ffwd-server", "keys", "create", "--data", folder / "data"],
                         capture_output=True, text=True, check=True).stdout.strip()
    (folder / "config.json").write_text(json.dumps({"limits": {
        "file_bytes": 100000, "queued_jobs_per_project": 1, "drain_seconds": 5}}))
    s = Server(folder, "--config", folder / "config.json", "--engine", FAKE)
    yield s, key
    s.process.kill()
    s.log.close()


def status_error(kind, status, call, code=..., param=..., type_="invalid_request_error"):
    with pytest.raises(openai.APIStatusError) as raised:
        call()
    e = raised.value
    assert type(e) is kind and e.status_code == status, e
    assert set(e.body) == ENVELOPE and e.type == type_ and e.body["message"] in e.message, e.body
    assert e.request_id.startswith("req_") and e.response.headers["content-type"] == "application/json"
    assert code is ... or e.code == code, e.body
    assert param is ... or e.param == param, e.body
    return e


def test_each_class_of_error(small):
    s, key = small
    c = sdk(s, api_key=key)
    jobs = c.fine_tuning.jobs
    file = c.files.create(file=ROWS, purpose="fine-tune").id
    status_error(openai.BadRequestError, 400, lambda: jobs.create(model=BASE, training_file=file, seed=-1),
                 None, "seed")
    status_error(openai.BadRequestError, 400, lambda: jobs.create(model="none", training_file=file),
                 "model_not_found", "model")
    for wrong in ("x", key + "x", key[:-1]):
        e = status_error(openai.AuthenticationError, 401, lambda: sdk(s, api_key=wrong).models.list(),
                         "invalid_api_key", None)
        assert wrong not in str(e) or wrong == "x"
    status_error(openai.PermissionDeniedError, 403, lambda: c.models.delete(BASE), param="model")
    status_error(openai.NotFoundError, 404, lambda: jobs.retrieve("ftjob-x"), "fine_tune_not_found",
                 "fine_tune_id")
    status_error(openai.APIStatusError, 405, lambda: c.put("/models", cast_to=object), "method_not_allowed")
    status_error(openai.APIStatusError, 413, lambda: c.files.create(file=b"x" * 100001, purpose="fine-tune"),
                 "file_too_large", "file")
    status_error(openai.APIStatusError, 415, lambda: c.post(
        "/fine_tuning/jobs", cast_to=object, content=b"model=x", options={"headers": {"content-type": "text/plain"}}),
        "unsupported_media_type")
    once = {"extra_headers": {"Idempotency-Key": "errors"}}
    running = jobs.create(model=BASE, training_file=file, suffix="steps100000-ms1000000", **once)
    status_error(openai.UnprocessableEntityError, 422, lambda: jobs.create(
        model=BASE, training_file=file, seed=4, **once), "idempotency_key_reused", "Idempotency-Key")
    while jobs.retrieve(running.id).status != "running":
        time.sleep(0.02)
    jobs.create(model=BASE, training_file=file, seed=5)
    start = time.time()
    patient = sdk(s, api_key=key, max_retries=5)
    e = status_error(openai.RateLimitError, 429, lambda: patient.fine_tuning.jobs.create(
        model=BASE, training_file=file, seed=6), "queue_full", None, "rate_limit_error")
    assert e.response.headers["x-should-retry"] == "false" and time.time() - start < 2, "not repeated"
    assert e.response.request.headers["x-stainless-retry-count"] == "0"
    s.process.terminate()
    with pytest.raises(openai.InternalServerError):
        while True:
            jobs.retrieve(running.id)
    e = status_error(openai.InternalServerError, 503, lambda: jobs.retrieve(running.id), "shutting_down",
                     None, "server_error")
    assert int(e.response.headers["retry-after"]) > 0
    assert s.process.wait(30) == 0
    with pytest.raises(openai.APIConnectionError) as refused:
        c.models.list()
    assert type(refused.value) is openai.APIConnectionError


def test_connections_that_do_not_come_about_and_answers_that_take_too_long(server, client, files):
    with pytest.raises(openai.APIConnectionError):
        openai.OpenAI(api_key="x", base_url=f"http://127.0.0.1:{free_port()}/v1", max_retries=1).models.list()
    body = {"model": BASE, "training_file": files[0].id, "dry_run": True}
    relay = Relay(server, 2, "silence")
    for timeout in (0.2, openai.Timeout(5, read=0.2)):
        with pytest.raises(openai.APITimeoutError):
            sdk(relay, timeout=timeout).post("/fine_tuning/jobs", cast_to=object, body=body)
    relay.close()
    assert client.models.list().data, "and the server goes on"


@pytest.mark.parametrize("how", ["close", "error", "silence"])
def test_a_create_whose_answers_are_lost_is_one_job(server, client, files, how):
    relay = Relay(server, 2, how)
    c = sdk(relay, max_retries=2, timeout=1 if how == "silence" else 20)
    team = f"lost-{how}-{os.getpid()}"
    job = c.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, metadata={"team": team},
                                    extra_body=SMALL)
    relay.close()
    counts = [p.split("x-stainless-retry-count: ")[1][0] for p in relay.posts]
    assert counts == ["0", "1", "2"] and not any("idempotency-key" in p for p in relay.posts)
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"team": team})] == [job.id]
    wait(client, job.id)


def test_calls_whose_answers_are_lost_mean_what_they_meant(server, client, files):
    """A job in the queue is cancelled, paused and resumed at once; the repeat says so too."""
    lenient = sdk(server, _strict_response_validation=False).fine_tuning.jobs
    first = lenient.create(model=BASE, training_file=files[0].id, hyperparameters={"n_epochs": 50})
    while lenient.retrieve(first.id).status != "running":
        time.sleep(0.02)
    job = lenient.create(model=BASE, training_file=files[0].id, extra_body=SMALL)
    while lenient.retrieve(job.id).status != "queued":
        time.sleep(0.02)

    def repeated(call, *args):
        relay = Relay(server, 1, "close")
        jobs = sdk(relay, max_retries=1, _strict_response_validation=False).fine_tuning.jobs
        value = getattr(jobs, call)(*args)
        relay.close()
        assert len(relay.posts) == 2
        return value
    for call, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert repeated(call, job.id).status == status
    assert [e.message for e in lenient.list_events(job.id, limit=50)].count("Job cancelled") == 1
    with pytest.raises(openai.BadRequestError) as e:
        lenient.cancel(job.id)
    assert e.value.code == "job_ended", "asked for anew it is too late"
    lenient.cancel(first.id)
    wait(client, first.id)
    with pytest.raises(openai.BadRequestError):
        repeated("pause", first.id)


def test_an_upload_whose_answers_are_lost_is_whole(server):
    relay = Relay(server, 2, "close")
    c = sdk(relay, max_retries=2)
    file = c.files.create(file=("lost.jsonl", ROWS), purpose="fine-tune")
    assert c.files.content(file.id).read() == ROWS and len(relay.posts) == 3
    relay.lose = 1
    upload = c.uploads.create(filename="t", purpose="fine-tune", bytes=len(ROWS), mime_type="a/b")
    relay.lose = 1
    part = c.uploads.parts.create(upload.id, data=ROWS)
    relay.lose = 1
    done = c.uploads.complete(upload.id, part_ids=[part.id])
    assert done.status == "completed" and c.files.content(done.file.id).read() == ROWS
    relay.close()
