#!/usr/bin/env python3
"""Writes tests/reference/cases/: tiny random models and what transformers + PEFT compute on them.

    pip install -r tests/reference/requirements.txt
    python3 tests/reference/make_reference.py

Every case is a model folder (config.json, model.safetensors), an adapter in PEFT's files with a
B that is not zero (and DoRA magnitudes that are not norms), pre-tokenized rows, and in expected.json and gradients.safetensors: logits of
the first positions, NLL of every trained token, the gradient of the mean loss with respect to
every A, B and magnitude, and the losses of 50 AdamW steps from that adapter. All in f32 on the CPU.
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

CASES = Path(__file__).parent / "cases"
VOCAB = 61
STEPS, BATCH, LEARNING_RATE = 50, 4, 2e-3
LOGIT_POSITIONS = 3

BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            rms_norm_eps=1e-5, initializer_range=0.2, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16, rope_theta=500.0)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NEOX_ALL = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]

# name: (model type, keys of the configuration, keys of the LoRA configuration, how to write it)
VARIANTS = {
    "llama-gqa": ("llama", {}, {}, {}),
    "llama-tied-bias": ("llama", dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                                      num_key_value_heads=4), {}, {}),
    "llama-rope3": ("llama", dict(rope_parameters=LLAMA3), {}, dict(form=4)),
    "llama-rope-linear": ("llama", dict(rope_parameters=dict(rope_type="linear", factor=4.0,
                                                             rope_theta=10000.0)),
                          dict(target_modules=["q_proj", "v_proj"]), dict(form=4)),
    "llama-head-dim": ("llama", dict(head_dim=12, num_attention_heads=3, num_key_value_heads=1,
                                     hidden_size=36, rope_parameters=LLAMA3),
                       dict(use_rslora=True), {}),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True), {}, dict(form=4)),
    "mistral-window": ("mistral", dict(sliding_window=7, head_dim=16),
                       dict(target_modules=["down_proj", "o_proj"]), dict(shards=True)),
    "neox": ("gpt_neox", {}, dict(target_modules=NEOX_ALL), {}),
    "neox-sequential": ("gpt_neox", dict(use_parallel_residual=False,
                                         rope_parameters=dict(rope_type="default", rope_theta=500.0,
                                                              partial_rotary_factor=0.5)),
                        dict(target_modules=["query_key_value", "dense_4h_to_h"]), dict(form=4)),
    "llama-bf16": ("llama", dict(num_hidden_layers=1), dict(target_modules="all-linear"),
                   dict(dtype=torch.bfloat16)),
    "llama-dora": ("llama", dict(attention_bias=True), dict(use_dora=True), {}),
    "neox-dora": ("gpt_neox", {}, dict(target_modules=["query_key_value", "dense_4h_to_h"],
                                       use_dora=True, use_rslora=True), {}),
}


def build_model(kind, keys, seed):
    torch.manual_seed(seed)
    keys = {**BASE, **keys}
    if kind == "gpt_neox":
        keys = {k: v for k, v in keys.items()
                if k not in ("num_key_value_heads", "rms_norm_eps", "head_dim")}
    config = AutoConfig.for_model(kind, **keys)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("norm.weight"):
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif name.endswith(".bias"):
                p.copy_(0.1 * torch.randn_like(p))
    return model


def write_config(folder, form):
    """form 4: rope_theta, rope_scaling and torch_dtype at the top, as transformers 4 wrote them."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("transformers_version", None)
    if form == 4:
        rope = config.pop("rope_parameters")
        neox = config["model_type"] == "gpt_neox"
        config["rotary_emb_base" if neox else "rope_theta"] = rope.pop("rope_theta")
        if neox:
            config["rotary_pct"] = rope.pop("partial_rotary_factor")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=1) + "\n")


def make_rows(seed):
    gen = torch.Generator().manual_seed(seed)
    rows = []
    for length in (19, 7, 33, 12, 2, 26):
        ids = torch.randint(3, VOCAB, (length,), generator=gen).tolist()
        prompt = 0 if length < 8 else length // 3
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return rows


def row_nll(model, row):
    """NLL of every trained token of a row, in order, and the logits."""
    ids = torch.tensor([row["input_ids"]])
    labels = torch.tensor(row["labels"][1:])
    logits = model(input_ids=ids, use_cache=False).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1].double(), labels, ignore_index=-100,
                                            reduction="none")
    return nll[labels != -100], logits


def mean_loss(model, rows):
    nll = torch.cat([row_nll(model, row)[0] for row in rows])
    return nll.sum() / nll.numel()


def lora_parameters(model):
    """Names as in PEFT's files."""
    return {n.replace(".default", "").replace("magnitude_vector.weight", "magnitude_vector"): p
            for n, p in model.named_parameters() if p.requires_grad}


def train(model, rows):
    """Losses and gradient norms of STEPS steps: file order, wrapping at the end."""
    params = list(lora_parameters(model).values())
    optimizer = torch.optim.AdamW(params, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=0.01)
    losses, norms, position = [], [], 0
    for _ in range(STEPS):
        batch = [rows[(position + i) % len(rows)] for i in range(BATCH)]
        position += BATCH
        optimizer.zero_grad()
        loss = mean_loss(model, batch)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(params, 1.0)))
        optimizer.step()
        losses.append(float(loss))
    return losses, norms


def make_case(name, seed, kind, keys, lora, how):
    folder = CASES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = build_model(kind, keys, seed)
    if "dtype" in how:
        model = model.to(how["dtype"])
    model.save_pretrained(folder, **({"max_shard_size": "20KB"} if how.get("shards") else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_config(folder, how.get("form", 5))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager")

    rows = make_rows(seed)
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    model.eval()
    expected = {"base_nll": [row_nll(model, r)[0].tolist() for r in rows],
                "base_logits": [row_nll(model, r)[1][:LOGIT_POSITIONS].tolist() for r in rows[:2]]}

    config = LoraConfig(**{**dict(r=4, lora_alpha=6, lora_dropout=0.0, target_modules=ALL,
                                  task_type="CAUSAL_LM"), **lora})
    peft_model = get_peft_model(model, config)
    with torch.no_grad():
        for n, p in lora_parameters(peft_model).items():
            if ".lora_B." in n:
                p.copy_(0.1 * torch.randn_like(p))
            elif n.endswith("magnitude_vector"):
                p.mul_(1 + 0.1 * torch.randn_like(p))
    peft_model.base_model.model.name_or_path = name
    for c in peft_model.peft_config.values():
        c.base_model_name_or_path = name
    peft_model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    peft_model.eval()
    expected["adapter_nll"] = [row_nll(peft_model, r)[0].tolist() for r in rows]

    mean_loss(peft_model, rows).backward()
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    grads = {n: p.grad.detach().contiguous() for n, p in lora_parameters(peft_model).items()}
    assert sorted(saved) == sorted(grads)
    save_file(grads, folder / "gradients.safetensors", metadata={"format": "pt"})

    losses, norms = train(peft_model, rows)
    expected["train"] = {"steps": STEPS, "batch": BATCH, "learning_rate": LEARNING_RATE,
                         "weight_decay": 0.01, "max_grad_norm": 1.0, "losses": losses,
                         "grad_norms": norms}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def main():
    for seed, (name, (kind, keys, lora, how)) in enumerate(VARIANTS.items(), start=1):
        make_case(name, seed, kind, keys, lora, how)


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    main()
