"""The adapter in PEFT: it loads, and transformers finds the loss that ffwd finds."""

import json
import subprocess

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import BASE, BUILD, DATA, MODELS, get

IGNORE = -100


def rows_with_masks(tokenizer_dir, rows):
    """ids and masks as `ffwd tokenize --chat` gives them."""
    text = "".join(json.dumps(r) + "\n" for r in rows)
    out = subprocess.run([BUILD / "ffwd", "tokenize", "--model", tokenizer_dir, "--chat"], input=text,
                         capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def adapter(server, finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_bytes(get(server, f"/v1/fine_tuning/jobs/{finished.id}/adapter/{name}")[2])
    return folder


def ffwd_eval(data, adapter=None):
    command = [BUILD / "ffwd", "eval", "--model", MODELS / BASE, "--data", data, "--device", "cpu",
               "--dtype", "f32"]
    if adapter:
        command += ["--adapter", adapter]
    lines = [json.loads(x) for x in subprocess.run(command, capture_output=True, text=True,
                                                   check=True).stdout.splitlines()]
    return lines[:-1], lines[-1]["total"]


def nll(model, ids, mask):
    """Sum over trained tokens, and how many; position 0 has no prediction."""
    x = torch.tensor([ids])
    with torch.no_grad():
        logp = model(x).logits.float().log_softmax(-1)[0]
    picked = [-logp[i - 1, ids[i]].item() for i in range(1, len(ids)) if mask[i]]
    return sum(picked), len(picked)


def agree(model, masks, measured):
    for row, line in zip(masks, measured):
        expected, n = nll(model, row["ids"], row["mask"])
        assert line["tokens"] == n
        assert line["nll"] == pytest.approx(expected, abs=1e-5 * n)


def test_loss_is_the_same_in_transformers(adapter):
    base = AutoModelForCausalLM.from_pretrained(MODELS / BASE, dtype=torch.float32)
    rows = [json.loads(x) for x in open(DATA / "orders-valid.jsonl")][:24]
    masks = rows_with_masks(MODELS / BASE, rows)
    subset = adapter / "rows.jsonl"
    subset.write_text("".join(json.dumps(r) + "\n" for r in rows))
    before, _ = ffwd_eval(subset)
    tuned, total = ffwd_eval(subset, adapter)
    agree(base.eval(), masks, before)
    agree(PeftModel.from_pretrained(base, adapter).eval(), masks, tuned)
    assert total["loss"] < sum(x["nll"] for x in before) / sum(x["tokens"] for x in before)


def test_dora_trained_from_nothing_is_the_same_in_peft(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"seed": 3, "lora": {"rank": 4, "use_dora": True},
                                  "training": {"max_steps": 12, "learning_rate": 0.01}}))
    subprocess.run([BUILD / "ffwd", "train", "--model", MODELS / BASE, "--train", DATA / "orders-train.jsonl",
                    "--out", tmp_path / "out", "--config", config, "--device", "cpu"],
                   check=True, stdout=subprocess.DEVNULL)
    adapter = tmp_path / "out" / "adapter"
    rows = [json.loads(x) for x in open(DATA / "orders-valid.jsonl")][:8]
    subset = tmp_path / "rows.jsonl"
    subset.write_text("".join(json.dumps(r) + "\n" for r in rows))
    measured, total = ffwd_eval(subset, adapter)
    before, _ = ffwd_eval(subset)
    base = AutoModelForCausalLM.from_pretrained(MODELS / BASE, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    assert any("lora_magnitude_vector" in name for name, _ in model.named_parameters())
    agree(model, rows_with_masks(MODELS / BASE, rows), measured)
    assert total["loss"] < sum(x["nll"] for x in before) / sum(x["tokens"] for x in before)


def test_chat_ids_are_those_of_transformers():
    tokenizer = AutoTokenizer.from_pretrained(MODELS / BASE)
    rows = [json.loads(x) for x in open(DATA / "orders-valid.jsonl")][:24]
    for row, ours in zip(rows, rows_with_masks(MODELS / BASE, rows)):
        theirs = tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False)
        assert ours["ids"] == list(theirs)
        trained = tokenizer.decode([i for i, m in zip(ours["ids"], ours["mask"]) if m])
        assert trained.startswith(row["messages"][-1]["content"])


def test_saved_adapter_is_f32_under_pefts_names(adapter):
    from safetensors.numpy import load_file
    tensors = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert all(t.dtype == np.float32 for t in tensors.values())
    assert all(k.startswith("base_model.model.model.layers.") and
               k.endswith((".lora_A.weight", ".lora_B.weight")) for k in tensors)
    assert sorted(config["target_modules"]) == config["target_modules"]
    assert any(np.abs(t).max() > 0 for k, t in tensors.items() if "lora_B" in k)
