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
