"""What the server sends, unwrapped by the openai SDK."""

import contextlib
import http.server
import json
import threading
import time
import urllib.request

import openai
import pytest

from conftest import BASE, SMALL, Server, wait


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("webhooks")
    config = folder / "config.json"
    config.write_text(json.dumps({"webhook_allow": ["127.0.0.1"]}))
    s = Server(folder, "--config", config)
    yield s
    s.stop()


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(api_key="unused", base_url=server.url + "/v1", max_retries=0,
                         _strict_response_validation=True)


@contextlib.contextmanager
def receiving():
    """An endpoint on this machine that accepts everything: (its URL, what it got)."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.rfile.read(int(self.headers["content-length"])), dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass
    http_server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_address[1]}/", got
    http_server.shutdown()


@pytest.fixture()
def receiver():
    with receiving() as r:
        yield r


def call(server, path, body=None):
    request = urllib.request.Request(server.url + path, json.dumps(body or {}).encode(),
                                     {"content-type": "application/json"})
    with urllib.request.urlopen(request) as r:
        return json.load(r)


def test_the_sdk_unwraps_each_end_of_a_job(server, client, receiver):
    url, got = receiver
    endpoint = call(server, "/v1/webhook_endpoints", {"url": url})
    with open("examples/data/orders-train.jsonl", "rb") as f:
        file = client.files.create(file=f, purpose="fine-tune")
    bad = client.files.create(file=("bad.jsonl", b"not json\n" * 12), purpose="fine-tune")
    good = client.fine_tuning.jobs.create(model=BASE, training_file=file.id, extra_body=SMALL)
    failing = client.fine_tuning.jobs.create(model=BASE, training_file=bad.id)
    cancelled = client.fine_tuning.jobs.create(model=BASE, training_file=file.id,
                                               hyperparameters={"n_epochs": 50})
    client.fine_tuning.jobs.cancel(cancelled.id)
    for job in (good, failing, cancelled):
        wait(client, job.id)
    deadline = time.time() + 30
    while len(got) < 3 and time.time() < deadline:
        time.sleep(0.05)
    events = {}
    for body, headers in got:
        event = client.webhooks.unwrap(body, headers, secret=endpoint["signing_secret"])
        events[event.data.id] = event
        payload = json.loads(body)
        assert type(event).model_validate(payload) == event, "unwrap alone checks no field"
        assert set(payload) == {"object", "id", "type", "created_at", "data"} and set(payload["data"]) == {"id"}
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(body + b" ", headers, secret=endpoint["signing_secret"])
    for job, kind in ((good, "Succeeded"), (failing, "Failed"), (cancelled, "Cancelled")):
        event = events[job.id]
        assert type(event).__name__ == f"FineTuningJob{kind}WebhookEvent"
        assert event.type == f"fine_tuning.job.{kind.lower()}" and event.object == "event"
        assert event.created_at == client.fine_tuning.jobs.retrieve(job.id).finished_at


def test_both_secrets_unwrap_while_they_are_rotated(server, client, receiver):
    url, got = receiver
    endpoint = call(server, "/v1/webhook_endpoints", {"url": url})
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    rotated = call(server, path + "/rotate_secret", {"keep_old_secret_active_for_24_hours": True})
    call(server, path + "/test")
    body, headers = got[0]
    for secret in (endpoint["signing_secret"], rotated["signing_secret"]):
        client.webhooks.verify_signature(body, headers, secret=secret)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body, headers, secret="whsec_" + "A" * 43 + "=")
