"""Every object against the published OpenAPI document, where a copy of it is at hand."""

import json
import os
import pathlib

import jsonschema_rs
import pytest

from conftest import ROOT, get_json

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


def check(schema, value):
    document = {**modern(json.loads(SPEC.read_text())), "$ref": f"#/components/schemas/{schema}"}
    validator = jsonschema_rs.Draft202012Validator(document)
    errors = [f"{'/'.join(map(str, e.instance_path))}: {e.message}" for e in validator.iter_errors(value)]
    assert not errors, f"{schema}: {errors}"


def test_uploads_validate(server, client):
    upload = client.uploads.create(filename="t", purpose="fine-tune", bytes=3, mime_type="text/jsonl")
    check("Upload", upload.to_dict())
    part = client.uploads.parts.create(upload.id, data=b"abc")
    check("UploadPart", part.to_dict())
    done = client.uploads.complete(upload.id, part_ids=[part.id])
    check("Upload", done.to_dict())
    check("DeleteFileResponse", client.files.delete(done.file.id).to_dict())


def test_objects_validate(server, finished, files):
    jobs = "/v1/fine_tuning/jobs"
    check("OpenAIFile", get_json(server, f"/v1/files/{files[0].id}"))
    check("ListFilesResponse", get_json(server, "/v1/files"))
    check("FineTuningJob", get_json(server, f"{jobs}/{finished.id}"))
    check("ListPaginatedFineTuningJobsResponse", get_json(server, jobs))
    check("ListFineTuningJobEventsResponse", get_json(server, f"{jobs}/{finished.id}/events?limit=100"))
    check("ListModelsResponse", get_json(server, "/v1/models"))
    check("Model", get_json(server, f"/v1/models/{finished.fine_tuned_model}"))
