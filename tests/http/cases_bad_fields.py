"""Each field of a create request wrong in turn: 400 with the field's path, and no job.

The table is written by hand from the published API and docs/API.md, not read from the server.
"""
import json

from harness import FORM, ROW, Server, bearer, form, test, until

JOBS = "/v1/fine_tuning/jobs"
LOW, TEXT = -10**6, "x" * 70000
NO_INTEGER = (True, False, [], [1], {}, {"a": 1}, "1", "", TEXT, 1.5)
NO_NUMBER = (True, False, [], [1], {}, {"a": 1}, "1", "", TEXT)
NO_BOOLEAN = (0, 1, 1.5, "true", "", [], [True], {}, TEXT)
NO_STRING = (True, 0, 1, 1.5, -1, [], ["a"], {}, {"a": "b"})
NO_OBJECT = (True, 0, 1.5, "x", "", [], [{}], TEXT)


def integer(least, most, null=False, words=()):
    """(bad values, good values, words that every message has)"""
    bad = [*NO_INTEGER, least - 1, LOW, most + 1, most * 2 + 1, 1 << 62, -(1 << 62), 1e300, least + .5]
    return bad + ([] if null else [None]), [least, most] + [None] * null, ("integer", *words)


def automatic_integer(most):
    bad, good, _ = integer(1, most, null=True)
    return bad + ["Auto", "automatic"], good + ["auto", 3.0], ("integer",)


def real(bad, good, null=False):
    return [*NO_NUMBER, *bad, LOW] + ([] if null else [None]), good + [None] * null, ("number",)


def automatic_real(bad, good):
    out, good, words = real(bad, good, null=True)
    return out + ["Auto", "automatic"], good + ["auto"], words


def boolean():
    return [*NO_BOOLEAN, None], [True, False], ("true or false",)


def choice(*names):
    bad = [n.upper() for n in names] + [n + " " for n in names] + ["", "none", TEXT, None, *NO_STRING]
    return bad, list(names), names


def chooses_object(null=False):
    return [*NO_OBJECT] + ([] if null else [None]), [{}] + [None] * null, ("object",)


HYPER = {"n_epochs": automatic_integer(100), "batch_size": automatic_integer(1024),
         "learning_rate_multiplier": automatic_real([0, -0.1, 1e7], [1e-9, 1, 1e6])}
LORA = {
    "rank": integer(1, 512, words=("512",)),
    "alpha": real([0, -1, 65537], [0.5, 65536]),
    "dropout": real([-0.1, 1, 2], [0, 0.999]),
    "use_rslora": boolean(),
    "use_dora": boolean(),
    "target_modules": ([None, True, 1, {}, [], "", "all", "q_proj", TEXT, [1], [None], [""], ["x" * 65],
                        ["q_proj"] * 65, ["q_proj", []]], ["all-linear", ["q_proj", "v_proj"]],
                       ("all-linear", "64")),
}
FAST_FORWARD = {
    "enabled": boolean(),
    "interval": integer(1, 10000),
    "validation_examples": integer(1, 10000),
    "search": choice("auto", "linear", "paper"),
    "max_steps": integer(1, 100000),
}
TRAINING = {
    "learning_rate": automatic_real([0, -1, 1.001, 2], [1e-9, 1]),
    "lr_schedule": choice("constant", "linear", "cosine"),
    "warmup_ratio": real([-0.01, 1.01], [0, 1]),
    "weight_decay": real([-0.01, 1.01], [0, 1]),
    "max_grad_norm": real([0, -1, 1e10], [1e-9, 1e9]),
    "max_seq_len": integer(2, 1048576),
    "packing": boolean(),
    "shuffle": boolean(),
    "long_examples": choice("truncate", "drop", "fail"),
    "train_on": choice("assistant", "response", "all"),
    "max_steps": integer(1, 10000000, null=True),
    "target_loss": real([0, -1, 1e7], [1e-9, 1e6], null=True),
    "eval_interval": integer(0, 10000000),
    "checkpoint_interval": integer(0, 10000000),
    "early_stopping": (NO_OBJECT, [{"patience": 1}, None], ("object",)),
}
STOPPING = {"patience": integer(1, 10000), "min_delta": real([-1, 1e7], [0, 1e6])}
NAME = ["", "x" * 256, None, *NO_STRING]
TOP = {
    "model": ([*NAME, TEXT], [], ()),
    "training_file": ([*NAME, TEXT], [], ()),
    "validation_file": ([v for v in NAME if v is not None] + [TEXT], [None], ()),
    "suffix": (["", "x" * 65, TEXT, "é" * 65, "a/b", "a:b", "a\\b", "a\tb", "a\nb", "\x7f", *NO_STRING],
               [None, "x", "x" * 64, "é" * 64], ("must be", "longer than", "cannot have")),
    "seed": integer(0, 2147483647, null=True, words=("2147483647",)),
    "priority": integer(-100, 100),
    "dry_run": (boolean()[0], [False], ("true or false",)),
    "metadata": ([*NO_OBJECT, {str(i): "v" for i in range(17)}], [
        None, {}, {f"{i:064}": "v" * 512 for i in range(16)}, {"é" * 64: "é" * 512, "": ""}], ("16",)),
    "integrations": ([True, 1, "wandb", {}], [None, []], ("array",)),
    "method": (chooses_object()[0][:-1], [None, {"type": "supervised"}], ("object",)),
    "hyperparameters": (chooses_object(null=True)[0], [{}, None], ("object",)),
    "lora": chooses_object(),
    "fast_forward": chooses_object(),
    "training": chooses_object(),
}


def nest(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def table():
    """(path of the field, body that sets it to a value, bad values, good values, words)"""
    for prefix, fields in (("", TOP), ("hyperparameters.", HYPER), ("lora.", LORA),
                           ("method.supervised.hyperparameters.", HYPER),
                           ("fast_forward.", FAST_FORWARD), ("training.", TRAINING),
                           ("training.early_stopping.", STOPPING)):
        for name, (bad, good, words) in fields.items():
            yield prefix + name, bad, good, words
    for path in ("method.supervised", "method.supervised.hyperparameters"):
        yield path, *chooses_object(null=True)


def body_with(path, value):
    out = nest(path, value)
    if path.startswith("method."):
        out["method"] = {"type": "supervised", **out["method"]}
    if path == "training.early_stopping.min_delta":
        out["training"]["early_stopping"]["patience"] = 2
    return out


class Creator:
    """A server and one connection that creates jobs."""

    def __init__(self, **more):
        self.s = Server(**more)
        self.file = self.s.upload()
        self.made = 0

    def jobs(self):
        found, after = 0, ""
        while True:
            page = self.s.get(f"{JOBS}?limit=1000{after}").json()
            found += len(page["data"])
            if not page["has_more"]:
                return found
            after = "&after=" + page["data"][-1]["id"]

    def ask(self, change):
        return self.s.post(JOBS, {"model": "tiny", "training_file": self.file, **change})

    def refused(self, change, param, *words, status=400, code=None):
        """param: the path, or those that will do."""
        a = self.ask(change)
        shown = json.dumps(change)[:300]
        assert a.status == status, (shown, a.status, a.body)
        e = a.error
        assert set(e) == {"message", "type", "param", "code"}, e
        assert e["type"] == "invalid_request_error" and e["param"] in ([param] if isinstance(param, str) else param), (shown, e)
        assert code is None or e["code"] == code, (shown, e)
        assert len(e["message"]) < 600, "a value is not sent back in full"
        if words:
            assert any(w in e["message"] for w in words), (shown, e["message"], words)
        assert a.headers["x-request-id"]
        return e

    def accepted(self, change):
        a = self.ask(change)
        assert a.status == 200, (json.dumps(change)[:300], a.body)
        self.made += 1
        return a.json()

    def unchanged(self):
        assert self.jobs() == self.made
        names = [f["purpose"] for f in self.s.get("/v1/files").json()["data"]]
        assert names.count("fine-tune") == 1, names


@test
def each_field_of_a_create_request_wrong_in_turn():
    c = Creator()
    asked = 0
    for path, bad, _, words in table():
        for value in bad:
            items = [f"{path}[{i}]" for i in range(2)] if isinstance(value, list) else []
            e = c.refused(body_with(path, value), (path, *items), *words)
            assert path.split(".")[-1] in e["message"], (path, e["message"])
            asked += 1
    assert asked > 650, asked
    c.unchanged()


def described(schema, document, path=""):
    """Paths of all properties of a schema of /openapi.json."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word, []):
            yield from described(part, document, path)
    for name, part in schema.get("properties", {}).items():
        yield path + name
        yield from described(part, document, path + name + ".")


@test
def the_table_has_every_field_of_the_description():
    document = Server().get("/openapi.json").json()
    body = document["paths"][JOBS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    known = {path for path, *_ in table()} | {"method.type"}  # this one has a test of its own
    assert set(described(body, document)) == known, set(described(body, document)) ^ known


@test
def each_field_of_a_create_request_at_its_ends():
    c = Creator()
    for path, _, good, _ in table():
        for value in good:
            job = c.accepted(body_with(path, value))
            assert job["object"] == "fine_tuning.job" and job["error"] is None, (path, job)
            if c.made % 40 == 0:
                c.s.post(f"{JOBS}/{job['id']}/cancel")
    c.unchanged()


@test
def fields_that_do_not_exist_are_named():
    c = Creator()
    for path in ("modell", "lora.r", "fast_forward.tau", "training.lr", "training.early_stopping.delta",
                 "hyperparameters.beta", "hyperparameters.epochs", "method.kto", "method.dpo.beta",
                 "method.supervised.beta", "method.supervised.hyperparameters.beta", "n_epochs",
                 "ffwd.priority", "id", "status"):
        change = nest(path, 1)
        if "method" in change:
            change["method"]["type"] = "supervised"
        if "early_stopping" in path:
            change["training"]["early_stopping"]["patience"] = 1
        want = {"method.dpo.beta": "method.dpo", "ffwd.priority": "ffwd"}.get(path, path)
        e = c.refused(change, want, "unknown")
        assert want in e["message"], e
    for name in ("", "a b", "é", "x" * 5000, "%s%n", "a\x01b", "model "):
        a = c.ask({name: 1})
        assert a.status == 400 and len(a.error["param"] or "") <= 160, (name, a.body)
    c.unchanged()


@test
def what_a_create_request_must_have():
    c = Creator()
    for body, param in (({}, "model"), ({"model": "tiny"}, "training_file"),
                        ({"training_file": c.file}, "model")):
        a = c.s.post(JOBS, body)
        assert a.status == 400 and a.error["param"] == param and "required" in a.error["message"], a.body
    c.refused({"method": {}}, "method.type", "missing", "required")
    c.refused({"method": {"supervised": {}}}, "method.type", "missing", "required")
    c.refused({"training": {"early_stopping": {"min_delta": 1}}}, "training.early_stopping.patience", "patience")
    c.unchanged()


@test
def metadata_limits_are_those_of_the_api():
    c = Creator()
    many = {f"k{i}": "v" for i in range(16)}
    assert c.accepted({"metadata": many})["metadata"] == many
    c.refused({"metadata": {**many, "k16": "v"}}, "metadata", "16")
    for key in ("x" * 65, "é" * 65):
        a = c.ask({"metadata": {key: "v"}})
        assert a.status == 400 and "a key of at most 64" in a.error["message"], a.body
        assert a.error["param"].startswith("metadata." + key[:20]), a.body
    for value in ("x" * 513, "é" * 513, 1, 1.5, True, None, [], {}, {"a": "b"}):
        c.refused({"metadata": {"team": value}}, "metadata.team", "512")
    kept = {"é" * 64: "é" * 512, "quote\"": "\\ \n\t</script>", "": ""}
    assert c.accepted({"metadata": kept})["metadata"] == kept
    c.unchanged()


@test
def methods_and_integrations_that_are_not_here():
    c = Creator()
    for kind in ("dpo", "reinforcement"):
        hyper = {kind: {"hyperparameters": {"n_epochs": 1}}}
        for method in ({"type": kind}, {"type": kind, **hyper}):
            e = c.refused({"method": method}, "method.type", "supervised", code="unsupported")
            assert kind in e["message"], e
    for kind in ("kto", "", "Supervised", None, 1, [], {}, True, "x" * 5000):
        c.refused({"method": {"type": kind}}, "method.type", "supervised")
    wandb = {"type": "wandb", "wandb": {"project": "p", "name": None, "entity": None, "tags": ["a"]}}
    for value in ([wandb], [wandb] * 6, [{"type": "mlflow"}], [{}], [None], ["wandb"]):
        e = c.refused({"integrations": value}, "integrations", "empty")
    c.unchanged()


@test
def what_a_create_request_names_must_be_there():
    c = Creator()
    s = c.s
    for model in ("no-such-model", "Tiny", "tiny ", "../models/tiny", "tiny/../tiny", "/etc", ".", "..",
                  "ft:tiny:ffwd::nothere1", "ft:", "ft:tiny", "tiny:ckpt-step-1", "gpt-4o-mini-2024-07-18"):
        e = c.refused({"model": model}, "model", model, code="model_not_found")
        assert "does not exist" in e["message"] and "/v1/models" in e["message"], e
    made = [s.ask("POST", "/v1/files", form([("purpose", None, purpose), ("file", "t", ROW.encode())]),
                  kind=FORM).json()["id"] for purpose in (b"batch", b"fine-tune")]
    assert s.ask("DELETE", f"/v1/files/{made[1]}").status == 200
    for field in ("training_file", "validation_file"):
        for id in ("file-nothere", made[1], "../ffwd.db", "t.jsonl", "x" * 255):
            e = c.refused({field: id}, field, id, code="file_not_found")
            assert e["message"].startswith("No such File object: "), e
        e = c.refused({field: made[0]}, field, "batch", code="wrong_purpose")
        assert "fine-tune" in e["message"], e
    results = s.ended(c.accepted({})["id"])["result_files"]
    c.refused({"training_file": results[0]}, "training_file", "fine-tune-results", code="wrong_purpose")
    assert c.jobs() == c.made


@test
def another_projects_file_and_model_do_not_exist():
    s = Server()
    mine, other = bearer(s.key("mine")), bearer(s.key("other"))
    file, theirs = s.upload(headers=mine), s.upload(headers=other)
    made = s.post(JOBS, {"model": "tiny", "training_file": theirs}, headers=other).json()["id"]
    ended = until(lambda: (j := s.get(f"{JOBS}/{made}", headers=other).json())["finished_at"] and j)
    model = ended["fine_tuned_model"]
    assert model, ended
    for field, value, absent in (("training_file", theirs, "file-nothere"),
                                 ("validation_file", theirs, "file-nothere"),
                                 ("training_file", ended["result_files"][0], "file-nothere"),
                                 ("model", model, model[:-8] + "nothere1")):
        a, b = (s.post(JOBS, {"model": "tiny", "training_file": file, field: v}, headers=mine)
                for v in (value, absent))
        assert a.status == b.status == 400, (field, a.body, b.body)
        assert a.body.replace(value.encode(), b"") == b.body.replace(absent.encode(), b""), (a.body, b.body)
    assert s.get(JOBS, headers=mine).json()["data"] == []
