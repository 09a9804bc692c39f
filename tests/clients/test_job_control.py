"""Pause and resume with the openai SDK."""

import time

import openai
import pytest
from conftest import BASE, SMALL, wait


@pytest.fixture(scope="module")
def lenient(server):
    """`paused` is in the published examples but not in the published list of states, so a client that
    validates strictly refuses it; the SDK as it comes does not."""
    return openai.OpenAI(api_key="unused", base_url=server.url + "/v1", max_retries=0)


def until(condition, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("not in time")


LONG = {**SMALL, "training": {"max_steps": 400, "learning_rate": 0.003}}


def test_pause_and_resume(lenient, files):
    jobs = lenient.fine_tuning.jobs
    job = jobs.create(model=BASE, training_file=files[0].id, extra_body=LONG,
                      hyperparameters={"n_epochs": 20, "batch_size": 4})
    until(lambda: (jobs.retrieve(job.id).ffwd["progress"] or {}).get("step", 0) >= 2)
    assert jobs.pause(job.id).status in ("running", "paused")
    paused = until(lambda: (j := jobs.retrieve(job.id)).status == "paused" and j)
    step = paused.ffwd["progress"]["step"]
    saved = jobs.checkpoints.list(job.id).data[0]
    assert saved.step_number == step and saved.metrics.train_loss > 0
    assert saved.fine_tuned_model_checkpoint.endswith(f":ckpt-step-{step}")
    assert jobs.resume(job.id).status in ("queued", "running")
    until(lambda: jobs.retrieve(job.id).ffwd["progress"]["step"] > step)
    jobs.cancel(job.id)
    assert wait(lenient, job.id).status == "cancelled"
    for call in (jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError) as e:
            call(job.id)
        assert e.value.code == "job_ended"


def test_priority_of_a_waiting_job(lenient, files):
    first = lenient.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, extra_body=LONG,
                                            hyperparameters={"n_epochs": 50})
    jobs = [lenient.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, extra_body=SMALL)
            for _ in range(2)]
    path = f"/fine_tuning/jobs/{jobs[1].id}"
    changed = lenient.patch(path, cast_to=type(first), body={"priority": 5})
    assert changed.ffwd["priority"] == 5
    with pytest.raises(openai.BadRequestError) as e:
        lenient.patch(path, cast_to=type(first), body={"priority": 500})
    assert e.value.param == "priority"
    until(lambda: lenient.fine_tuning.jobs.retrieve(jobs[1].id).status in ("queued", "running"))
    for job in (first, *jobs):
        if lenient.fine_tuning.jobs.retrieve(job.id).status not in ("succeeded", "cancelled"):
            lenient.fine_tuning.jobs.cancel(job.id)
    for job in (first, *jobs):
        wait(lenient, job.id)


def test_dry_run_makes_no_job(client, files):
    before = client.fine_tuning.jobs.list(limit=1).data
    answer = client.post("/fine_tuning/jobs", cast_to=object,
                         body={"model": BASE, "training_file": files[0].id,
                               "validation_file": files[1].id, "dry_run": True, **SMALL})
    assert answer["object"] == "fine_tuning.job.estimate" and answer["valid"]
    assert answer["estimate"]["total_steps"] == 12 and answer["training"]["rows"] > 0
    after = client.fine_tuning.jobs.list(limit=1).data
    assert [j.id for j in before] == [j.id for j in after]


def test_permissions_and_deleting_a_model(client, files):
    often = {**SMALL, "training": {**SMALL["training"], "checkpoint_interval": 6}}
    job = client.fine_tuning.jobs.create(model=BASE, training_file=files[0].id, extra_body=often)
    done = wait(client, job.id)
    model = done.fine_tuned_model
    checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    name = checkpoint.fine_tuned_model_checkpoint
    permissions = client.fine_tuning.checkpoints.permissions
    made = list(permissions.create(name, project_ids=["proj_a", "proj_b", "proj_c"]))
    assert [p.project_id for p in made] == ["proj_a", "proj_b", "proj_c"]
    seen = [p.project_id for p in permissions.list(name, limit=2, order="ascending")]
    assert seen == ["proj_a", "proj_b", "proj_c"], "pages go on by last_id"
    assert [p.id for p in permissions.list(name, project_id="proj_b")] == [made[1].id]
    gone = permissions.delete(made[0].id, fine_tuned_model_checkpoint=name)
    assert gone.deleted and gone.object == "checkpoint.permission"
    with pytest.raises(openai.NotFoundError):
        permissions.delete(made[0].id, fine_tuned_model_checkpoint=name)
    again = client.fine_tuning.jobs.create(model=name, training_file=files[0].id,
                                           extra_body={"training": SMALL["training"]})
    assert wait(client, again.id).status == "succeeded"
    with pytest.raises(openai.BadRequestError) as e:
        client.fine_tuning.jobs.create(model=model, training_file=files[0].id,
                                       extra_body={"lora": {"rank": 32}})
    assert e.value.param == "lora.rank"
    assert client.models.delete(name).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(name)
    assert client.models.delete(model).id == model
    for call in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError):
            call(model)
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete(BASE)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"
