"""The stock openai SDK, with strict response validation, drives the service."""

import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from conftest import BASE, DATA, SMALL, get, wait


def test_file_upload_list_content_delete(client):
    content = (DATA / "orders-valid.jsonl").read_bytes()
    for f in (open(DATA / "orders-valid.jsonl", "rb"), io.BytesIO(content), ("named.jsonl", content)):
        made = client.files.create(file=f, purpose="fine-tune")
        assert made.bytes == len(content) and made.status == "processed" and made.object == "file"
        assert client.files.retrieve(made.id).id == made.id
        assert client.files.content(made.id).read() == content
        assert made.id in [x.id for x in client.files.list(purpose="fine-tune")]
        assert client.files.wait_for_processing(made.id).status == "processed"
        gone = client.files.delete(made.id)
        assert gone.deleted and gone.id == made.id
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made.id)


def test_upload_in_parts(client):
    content = (DATA / "orders-train.jsonl").read_bytes()
    upload = client.uploads.create(filename="orders.jsonl", purpose="fine-tune",
                                   bytes=len(content), mime_type="application/jsonl",
                                   expires_after={"anchor": "created_at", "seconds": 7200})
    assert upload.status == "pending" and upload.file is None
    assert upload.expires_at == upload.created_at + 3600
    size = len(content) // 5
    pieces = [content[i:i + size] for i in range(0, len(content), size)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda p: client.uploads.parts.create(upload.id, data=p), pieces))
    assert {p.upload_id for p in parts} == {upload.id}
    ids = [p.id for p in parts]
    with pytest.raises(openai.BadRequestError) as e:
        client.uploads.complete(upload.id, part_ids=ids, md5="0" * 32)
    assert e.value.param == "md5"
    with pytest.raises(openai.BadRequestError) as e:
        client.uploads.complete(upload.id, part_ids=ids[1:])
    assert e.value.param == "part_ids"
    done = client.uploads.complete(upload.id, part_ids=ids, md5=hashlib.md5(content).hexdigest())
    assert done.status == "completed" and done.file.bytes == len(content)
    assert done.file.expires_at == done.file.created_at + 7200
    assert client.files.content(done.file.id).read() == content
    with pytest.raises(openai.BadRequestError):
        client.uploads.parts.create(upload.id, data=b"x")
    gone = client.uploads.create(filename="x", purpose="fine-tune", bytes=5, mime_type="text/jsonl")
    assert client.uploads.cancel(gone.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_nothere")


def test_upload_file_chunked(client):
    path = DATA / "orders-valid.jsonl"
    done = client.uploads.upload_file_chunked(file=path, mime_type="application/jsonl",
                                              purpose="fine-tune", part_size=1000)
    assert done.status == "completed" and done.file.filename == path.name
    assert client.files.content(done.file.id).read() == path.read_bytes()


def test_finished_job_has_every_field(client, finished, files):
    job = finished
    assert job.object == "fine_tuning.job" and job.error is None
    assert job.training_file == files[0].id and job.validation_file == files[1].id
    assert job.seed == 7 and job.metadata == {"team": "a"}
    assert job.hyperparameters.n_epochs == 1 and job.hyperparameters.batch_size == 4
    # "auto" is a number once the job has run, in both places
    assert isinstance(job.hyperparameters.learning_rate_multiplier, (int, float))
    assert job.method.supervised.hyperparameters.learning_rate_multiplier == \
        job.hyperparameters.learning_rate_multiplier
    assert job.trained_tokens > 0 and job.finished_at >= job.created_at
    assert job.fine_tuned_model.startswith(f"ft:{BASE}:") and ":orders:" in job.fine_tuned_model
    assert job.model == BASE and job.organization_id


def test_result_files_hold_metrics_and_adapter(client, finished):
    names = {client.files.retrieve(i).filename: i for i in finished.result_files}
    assert {"metrics.csv", "adapter_model.safetensors", "adapter_config.json"} <= set(names)
    csv = client.files.content(names["metrics.csv"]).text.splitlines()
    assert csv[0].startswith("step,train_loss,train_mean_token_accuracy,valid_loss")
    assert len(csv) == 1 + 12
    config = json.loads(client.files.content(names["adapter_config.json"]).read())
    assert config["peft_type"] == "LORA" and config["r"] == 4


def test_events_page_newest_first_to_the_end(client, finished):
    everything = list(client.fine_tuning.jobs.list_events(finished.id, limit=5))
    ids = [e.id for e in everything]
    assert len(ids) == len(set(ids)) > 12
    assert everything[-1].message.startswith("Created fine-tuning job")
    assert everything[0].message == "The job has successfully completed"
    steps = [e.data["step"] for e in reversed(everything)
             if e.type == "metrics" and "train_loss" in (e.data or {})]
    assert steps == list(range(1, 13))


def test_event_stream_is_the_event_list_oldest_first(server, client, finished):
    path = f"/v1/fine_tuning/jobs/{finished.id}/events?stream=true"
    status, headers, body = get(server, path)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    frames = [f for f in body.decode().split("\n\n") if f and not f.startswith(":")]
    assert frames[-1] == "data: [DONE]"
    ids = [f.split("\n")[0].removeprefix("id: ") for f in frames[:-1]]
    listed = [e.id for e in client.fine_tuning.jobs.list_events(finished.id, limit=100)]
    assert ids == listed[::-1]
    rest = get(server, path, {"Last-Event-ID": ids[4]})[2].decode()
    assert [f.split("\n")[0].removeprefix("id: ") for f in rest.split("\n\n")
            if f.startswith("id: ")] == ids[5:]


def test_adapter_tar_and_ranges(server, finished):
    base = f"/v1/fine_tuning/jobs/{finished.id}/adapter"
    status, _, body = get(server, base)
    assert status == 200
    names = {pathname.split("/")[-1]: m for pathname, m in
             ((m.name, m) for m in tarfile.open(fileobj=io.BytesIO(body)).getmembers())}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "metrics.csv"} <= set(names)
    status, _, whole = get(server, base + "/adapter_model.safetensors")
    assert status == 200 and len(whole) == names["adapter_model.safetensors"].size
    status, headers, part = get(server, base + "/adapter_model.safetensors", {"Range": "bytes=8-19"})
    assert status == 206 and part == whole[8:20]
    assert headers["content-range"] == f"bytes 8-19/{len(whole)}"


def test_jobs_page_and_models(client, finished):
    assert finished.id in [j.id for j in client.fine_tuning.jobs.list(limit=1)]
    names = [m.id for m in client.models.list()]
    assert BASE in names and finished.fine_tuned_model in names
    assert client.models.retrieve(finished.fine_tuned_model).object == "model"


def test_cancel_a_job(client, files):
    job = client.fine_tuning.jobs.create(model=BASE, training_file=files[0].id,
                                         hyperparameters={"n_epochs": 50})
    assert job.status in ("validating_files", "queued")
    client.fine_tuning.jobs.cancel(job.id)
    ended = wait(client, job.id)
    assert ended.status == "cancelled" and ended.fine_tuned_model is None
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.cancel(job.id)


def test_bad_data_fails_the_job_and_names_the_line(client):
    rows = (DATA / "orders-train.jsonl").read_bytes().splitlines(keepends=True)[:20]
    rows[6] = b'{"messages": [{"role": "user", "content": "no answer"}\n'
    bad = client.files.create(file=("bad.jsonl", b"".join(rows)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=bad.id)
    ended = wait(client, job.id)
    assert ended.status == "failed" and ended.error.code == "invalid_training_file"
    assert ended.error.param == "training_file" and "line 7" in ended.error.message.lower()


@pytest.mark.parametrize("change, param", [
    ({"model": "no-such-model"}, "model"),
    ({"training_file": "file-nothere"}, "training_file"),
    ({"validation_file": "file-nothere"}, "validation_file"),
    ({"extra_body": {"lora": {"rank": 0}}}, "lora.rank"),
    ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
    ({"suffix": "x" * 65}, "suffix"),
    ({"method": {"type": "dpo"}}, "method.type"),
])
def test_wrong_field_is_400_with_its_path(client, files, change, param):
    with pytest.raises(openai.BadRequestError) as e:
        client.fine_tuning.jobs.create(**{"model": BASE, "training_file": files[0].id, **change})
    assert e.value.param == param and e.value.type == "invalid_request_error"
    assert e.value.request_id


def test_unknown_ids_are_404(client):
    for call in (lambda: client.files.retrieve("file-nothere"),
                 lambda: client.fine_tuning.jobs.retrieve("ftjob-nothere"),
                 lambda: client.fine_tuning.jobs.cancel("ftjob-nothere"),
                 lambda: client.models.retrieve("nothere")):
        with pytest.raises(openai.NotFoundError):
            call()


def test_repeated_create_with_a_key_is_one_job(client, files):
    body = dict(model=BASE, training_file=files[0].id, extra_body=SMALL,
                extra_headers={"Idempotency-Key": "once"})
    first = client.fine_tuning.jobs.create(**body)
    assert client.fine_tuning.jobs.create(**body).id == first.id
    with pytest.raises(openai.UnprocessableEntityError):
        client.fine_tuning.jobs.create(**{**body, "suffix": "other"})
    wait(client, first.id)
