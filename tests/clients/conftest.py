"""A live ffwd-server in a temporary folder, and helpers to talk to it."""

import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FFWD_BUILD", ROOT / "build"))
MODELS = ROOT / "examples" / "models"
DATA = ROOT / "examples" / "data"
BASE = "ffwd-tiny"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, folder, *options):
        self.data = folder / "data"
        self.log = open(folder / "server.log", "w")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [BUILD / "ffwd-server", "--data", self.data, "--models", MODELS, "--listen",
             f"127.0.0.1:{self.port}", "--device", "cpu", *options],
            stderr=self.log, stdout=self.log)
        deadline = time.time() + 30
        while time.time() < deadline:
            assert self.process.poll() is None, (folder / "server.log").read_text()
            try:
                urllib.request.urlopen(self.url + "/readyz", timeout=1)
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server did not become ready: " + (folder / "server.log").read_text())

    def stop(self):
        self.process.terminate()
        try:
            assert self.process.wait(40) == 0
        finally:
            self.process.kill()
            self.log.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("ffwd"))
    yield s
    s.stop()


@pytest.fixture(scope="session")
def client(server):
    from openai import OpenAI
    return OpenAI(api_key="unused", base_url=server.url + "/v1", max_retries=0,
                  _strict_response_validation=True)


@pytest.fixture(scope="session")
def files(client):
    """The sample task, uploaded: (training, validation)."""
    with open(DATA / "orders-train.jsonl", "rb") as t, open(DATA / "orders-valid.jsonl", "rb") as v:
        return (client.files.create(file=t, purpose="fine-tune"),
                client.files.create(file=v, purpose="fine-tune"))


SMALL = {"training": {"max_steps": 12, "learning_rate": 0.003}, "lora": {"rank": 4},
         "fast_forward": {"validation_examples": 4}}


def wait(client, job_id, seconds=180):
    deadline = time.time() + seconds
    while time.time() < deadline:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in ("succeeded", "failed", "cancelled"):
            return job
        time.sleep(0.1)
    raise AssertionError(f"job {job_id} did not end: {job}")


@pytest.fixture(scope="session")
def finished(client, files):
    """A job that has succeeded."""
    train, valid = files
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=train.id, validation_file=valid.id, suffix="orders", seed=7,
        metadata={"team": "a"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}},
        extra_body=SMALL)
    job = wait(client, job.id)
    assert job.status == "succeeded", job.error
    return job


def get(server, path, headers=None):
    """(status, headers, body) of a plain GET."""
    request = urllib.request.Request(server.url + path, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as r:
            return r.status, r.headers, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read()


def get_json(server, path):
    return json.loads(get(server, path)[2])
