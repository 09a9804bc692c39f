"""/openapi.json as a document: valid OpenAPI 3.1, its examples are what it describes, the objects of a
real job are too, and the query's names are those that the code reads."""

import re

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from conftest import ROOT, get_json
from test_schemathesis import JOBS, closed


@pytest.fixture(scope="module")
def document(server):
    return get_json(server, "/openapi.json")


def operations(document):
    return [(method, path, o) for path, item in document["paths"].items() for method, o in item.items()]


def errors(document, schema, value):
    """Of a value whose objects may have no key that is not described."""
    validator = jsonschema_rs.Draft202012Validator({**closed(document, open_=()),
                                                    "$ref": f"#/components/schemas/{schema}"})
    return [f"{schema}: {'/'.join(map(str, e.instance_path))}: {e.message}" for e in validator.iter_errors(value)]


def test_it_is_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    assert [e.message for e in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert [e.message for e in OpenAPIV31SpecValidator({**document, "paths": {"x": {}}}).iter_errors()]


def test_every_operation_is_described_whole(document):
    names = [o["operationId"] for _, _, o in operations(document)]
    assert len(names) == len(set(names)) >= 38
    tags = {t["name"] for t in document["tags"]}
    for method, path, o in operations(document):
        where = (method, path)
        assert o["summary"] and set(o["tags"]) <= tags, where
        assert {"200", "400", "413", "414", "431"} <= set(o["responses"]), where
        assert "default" not in o["responses"], where
        if o.get("security") != []:
            assert {"401", "429", "500", "503"} <= set(o["responses"]), where
        contents = [o["responses"]["200"]["content"], o.get("requestBody", {}).get("content", {})]
        for media, content in [pair for c in contents for pair in c.items()]:
            if "$ref" in content["schema"]:
                assert content["examples"], (where, media)
        for parameter in o["parameters"]:
            assert parameter["in"] != "path" or parameter["example"], (where, parameter)
        for name, header in o["responses"]["200"]["headers"].items():
            assert header == {"$ref": f"#/components/headers/{name}"}, where


def test_its_examples_are_what_it_describes(document):
    parts = document["components"]
    found = []
    for name, example in parts["examples"].items():
        found += errors(document, name, example["value"])
    for response in parts["responses"].values():
        found += errors(document, "Error", response["content"]["application/json"]["example"])
    assert found == []
    assert errors(document, "Status", {"status": "ready", "more": 1}), "an object must be closed here"


def test_a_real_job_is_what_it_describes(server, document, finished, files):
    found = []
    for schema, path in (("Job", f"{JOBS}/{finished.id}"), ("JobList", JOBS), ("FileList", "/v1/files"),
                         ("EventList", f"{JOBS}/{finished.id}/events?limit=200"),
                         ("CheckpointList", f"{JOBS}/{finished.id}/checkpoints"),
                         ("ModelList", "/v1/models"), ("File", f"/v1/files/{files[0].id}")):
        found += errors(document, schema, get_json(server, path))
    assert found == []


def test_its_queries_are_those_that_the_code_reads(document):
    read = set()
    for source in (ROOT / "api").glob("*.c"):
        read |= set(re.findall(r'api(?:_query|__flag)\(\w+, "(\w+)"', source.read_text()))
    described = {p["name"] for _, _, o in operations(document) for p in o["parameters"] if p["in"] == "query"}
    assert read == described - {"metadata"}, read ^ described
