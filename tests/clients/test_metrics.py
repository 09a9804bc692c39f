"""/metrics as Prometheus' own Python client parses it."""

import math
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def scrape(server):
    with urllib.request.urlopen(server.url + "/metrics", timeout=10) as r:
        assert r.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return {f.name: f for f in text_string_to_metric_families(r.read().decode())}


def total(family, **labels):
    return sum(s.value for s in family.samples
               if s.name.endswith("_total") and labels.items() <= s.labels.items())


def test_the_page_parses_and_counts_the_sdks_calls(server, client, finished):
    before = scrape(server)
    for _ in range(5):
        client.fine_tuning.jobs.retrieve(finished.id)
    after = scrape(server)
    route = {"route": "/v1/fine_tuning/jobs/{fine_tuning_job_id}", "method": "GET", "status": "2xx"}
    requests = "ffwd_http_requests"
    assert total(after[requests], **route) - total(before[requests], **route) == 5
    assert {f.type for f in after.values()} == {"counter", "gauge", "histogram"}
    for family in after.values():
        assert family.documentation and family.samples, family.name
        assert not any(math.isnan(s.value) for s in family.samples), family.name
    seconds = after["ffwd_http_request_duration_seconds"]
    count = sum(s.value for s in seconds.samples if s.name.endswith("_count"))
    assert count == total(after[requests])
    assert total(after["ffwd_trained_tokens"]) >= 1
    assert any(s.value >= 1 for s in after["ffwd_jobs"].samples if s.labels["status"] == "succeeded")
