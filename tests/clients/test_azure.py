"""Azure's client class of the openai SDK, and what an SDK makes of a rate limit."""

import json
import subprocess

import openai
import pytest

from conftest import BASE, BUILD, MODELS, Server, wait

ROW = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A server with a key and a rate limit of that key: (server, key)."""
    folder = tmp_path_factory.mktemp("azure")
    made = subprocess.run([BUILD / "ffwd-server", "keys", "create", "--data", folder / "data"],
                          capture_output=True, text=True, check=True)
    (folder / "config.json").write_text(json.dumps({"limits": {"key_requests_per_minute": 600}}))
    s = Server(folder, "--config", folder / "config.json")
    yield s, made.stdout.strip()
    s.stop()


def test_azures_client_trains(limited):
    s, key = limited
    azure = openai.AzureOpenAI(api_key=key, azure_endpoint=s.url, api_version="2024-10-21",
                               max_retries=0, _strict_response_validation=True)
    file = azure.files.create(file=("t.jsonl", ROW * 12), purpose="fine-tune")
    job = azure.fine_tuning.jobs.create(model=BASE, training_file=file.id,
                                        extra_body={"training": {"max_steps": 2}})
    job = wait(azure, job.id)
    assert job.status == "succeeded", job.error
    events = list(azure.fine_tuning.jobs.list_events(job.id, limit=5))
    assert len(events) > 5 and job.id in [j.id for j in azure.fine_tuning.jobs.list()]
    assert azure.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model
    with pytest.raises(openai.AuthenticationError) as refused:
        openai.AzureOpenAI(api_key=key + "x", azure_endpoint=s.url, api_version="2024-10-21",
                           max_retries=0).models.list()
    assert refused.value.code == "invalid_api_key" and refused.value.request_id.startswith("req_")


def test_a_rate_limit_is_an_error_the_sdk_waits_for(limited):
    s, key = limited
    impatient = openai.OpenAI(api_key=key, base_url=s.url + "/v1", max_retries=0)
    patient = openai.OpenAI(api_key=key, base_url=s.url + "/v1", max_retries=5)

    def use_up():
        with pytest.raises(openai.RateLimitError) as refused:
            for _ in range(5000):
                impatient.models.list()
        return refused

    refused = use_up()
    headers = refused.value.response.headers
    assert refused.value.code == "rate_limit_exceeded" and refused.value.request_id
    assert headers["x-ratelimit-limit-requests"] == "600"
    assert 0 < int(headers["retry-after-ms"]) <= 100
    for _ in range(20):  # a request comes back every tenth of a second, so soon one is repeated
        use_up()
        answer = patient.models.with_raw_response.list()
        assert answer.parse().data
        if answer.retries_taken > 0:
            return
    raise AssertionError("the SDK never waited")
