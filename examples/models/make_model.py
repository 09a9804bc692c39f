"""Makes the small models beside it, pretrained from nothing on public-domain English: ffwd-tiny, a Llama, and
ffwd-tiny-neox, a GPT-NeoX.

    python make_model.py --text FOLDER --out ffwd-tiny [--steps N] [--work FOLDER]
    python make_model.py --family neox --steps 1400 --text FOLDER --out ffwd-tiny-neox [--work FOLDER]

FOLDER holds the files named in corpus.py. One thread, float32, fixed seed: every batch depends on (seed, step) alone,
and the learning rate is constant until the last tenth, so a run stopped at a checkpoint in WORK and started again
with other --steps is the same as one that was given those steps from the start.
"""

import argparse
import json
import math
import os
import pathlib
import random
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import corpus

SEED = 20260101
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 2048
TOKENS_PER_BATCH = 4096
CHAT_SHARE, COPY_SHARE = 1 / 12, 1 / 6
COPYING = {"llama": (900, 1350), "neox": (600, 900)}  # steps from which copying is taught: of words, then also of signs
RATE, WARM_UP, COOL_DOWN = 3e-3, 100, 0.1
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(texts):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator((line for text in texts for line in text.splitlines(True)), trainer)
    return tok


def make_model(family):
    torch.manual_seed(SEED)
    common = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    if family == "neox":
        return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(
            hidden_size=96,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=3,
            max_position_embeddings=1024,
            rotary_pct=0.25,
            rotary_emb_base=10000,
            layer_norm_eps=1e-5,
            use_parallel_residual=True,
            **common,
        ))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        **common,
    ))


def batch(step, streams, family):
    """ids [n, length + 1]: three batches of 256 tokens a row, then one of 1024, cut at random from the streams."""
    rng = np.random.default_rng((SEED, step))
    length = 1024 if step % 4 == 3 else 256
    rows = []
    for _ in range(TOKENS_PER_BATCH // length):
        draw, copying = rng.random(), COPY_SHARE if step >= COPYING[family][0] else 0.0
        lists = 3 if step >= COPYING[family][1] else 2
        stream = streams[1 if draw < CHAT_SHARE else lists if draw < CHAT_SHARE + copying else 0]
        start = int(rng.integers(0, len(stream) - length - 1))
        rows.append(stream[start:start + length + 1])
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def rate(step, steps):
    cool = int(steps * (1 - COOL_DOWN))
    if step < WARM_UP:
        return RATE * (step + 1) / WARM_UP
    return RATE if step < cool else RATE * max(0.02, 1 - (step - cool) / (steps - cool))


def nll(model, ids):
    """Sum of -ln p over all positions but the first of each row, and their number."""
    logits = model(input_ids=ids[:, :-1]).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


@torch.no_grad()
def held_out_loss(model, ids, length=256):
    """Nats per token over consecutive rows of `length` predictions, the first token of all excepted."""
    rows = (len(ids) - 1) // length
    total = 0.0
    for i in range(0, rows, 16):
        part = [ids[r * length:(r + 1) * length + 1] for r in range(i, min(i + 16, rows))]
        total += nll(model, torch.from_numpy(np.stack(part).astype(np.int64))).item()
    return total / (rows * length)


def train(model, streams, held, steps, work, family):
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-8)
    first, saved = 0, work / "checkpoint.pt"
    if saved.exists():
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        first = state["step"]
        if first > int(steps * (1 - COOL_DOWN)) and steps != state["steps"]:
            raise SystemExit("the checkpoint was cooling down for another number of steps")
    fast = torch.compile(model) if os.environ.get("COMPILE") else model
    began, log = time.time(), open(work / "log.jsonl", "a")
    for step in range(first, steps):
        for group in adam.param_groups:
            group["lr"] = rate(step, steps)
        ids = batch(step, streams, family)
        loss = nll(fast, ids) / ids[:, 1:].numel()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        done = step + 1
        line = {"step": done, "loss": round(loss.item(), 4), "seconds": round(time.time() - began, 1)}
        if done % 250 == 0 or done == steps:
            line["held_out"] = round(held_out_loss(model, held[:16 * 256 + 1]), 4)
        if done % 50 == 0 or done == steps:
            state = {"model": model.state_dict(), "adam": adam.state_dict(), "step": done, "steps": steps}
            torch.save(state, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)
        if done % 10 == 0:
            print(json.dumps(line), file=log, flush=True)


def config_of(c):
    """config.json, in the words of older transformers, which all readers know."""
    common = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": c.hidden_act,
        "hidden_size": c.hidden_size,
        "initializer_range": c.initializer_range,
        "intermediate_size": c.intermediate_size,
        "max_position_embeddings": c.max_position_embeddings,
        "model_type": c.model_type,
        "num_attention_heads": c.num_attention_heads,
        "num_hidden_layers": c.num_hidden_layers,
        "tie_word_embeddings": c.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": c.vocab_size,
    }
    if c.model_type == "gpt_neox":
        own = {
            "architectures": ["GPTNeoXForCausalLM"],
            "attention_bias": True,
            "hidden_dropout": 0.0,
            "layer_norm_eps": c.layer_norm_eps,
            "rotary_emb_base": 10000,
            "rotary_pct": 0.25,
            "use_parallel_residual": c.use_parallel_residual,
        }
    else:
        own = {
            "architectures": ["LlamaForCausalLM"],
            "head_dim": c.hidden_size // c.num_attention_heads,
            "mlp_bias": False,
            "num_key_value_heads": c.num_key_value_heads,
            "pretraining_tp": 1,
            "rms_norm_eps": c.rms_norm_eps,
            "rope_scaling": None,
            "rope_theta": 10000.0,
        }
    return dict(sorted({**common, **own}.items()))


def save(model, tok, out):
    out.mkdir(parents=True, exist_ok=True)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    state = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k not in tied}
    if model.config.model_type == "gpt_neox" and "lm_head.weight" in state:  # its name in files
        state["embed_out.weight"] = state.pop("lm_head.weight")
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    c = model.config
    config = config_of(c)
    tokenizer = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": True}
            for i, t in enumerate(SPECIAL)
        },
        "bos_token": "<|endoftext|>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": c.max_position_embeddings,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    generation = {"bos_token_id": 0, "eos_token_id": [0, 2], "pad_token_id": 0}
    for name, value in (("config", config), ("tokenizer_config", tokenizer), ("generation_config", generation)):
        (out / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    tok.save(str(out / "tokenizer.json"))


def report(out, tok, texts):
    """Figures of the README, measured on the saved bf16 weights (computed in f32)."""
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    print("parameters", sum(p.numel() for p in model.parameters()))
    nats = size = tokens = 0
    for name, text in texts.items():
        ids = np.array(tok.encode(text).ids)
        loss = held_out_loss(model, ids)
        print(f"{name}: {loss:.4f} nats/token, {loss * len(ids) / len(text.encode()) / math.log(2):.4f} bits/byte")
        nats, size, tokens = nats + loss * len(ids), size + len(text.encode()), tokens + len(ids)
    print(f"all: {nats / tokens:.4f} nats/token, {nats / size / math.log(2):.4f} bits/byte, {tokens} tokens")
    for start in ("The old man looked at", "ROMEO:\n", corpus.chatml([("user", "Repeat: the captain of the ship")])
                  + "<|im_start|>assistant\n"):
        ids = torch.tensor([tok.encode(start).ids])
        print(repr(tok.decode(model.generate(ids, max_new_tokens=60, do_sample=False)[0].tolist(), False)))


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--text", required=True, type=pathlib.Path)
    ap.add_argument("--out", required=True, type=pathlib.Path)
    ap.add_argument("--work", default=pathlib.Path("work"), type=pathlib.Path)
    ap.add_argument("--family", default="llama", choices=sorted(COPYING))
    ap.add_argument("--steps", default=2000, type=int)
    a = ap.parse_args()
    torch.set_num_threads(1)
    a.work.mkdir(parents=True, exist_ok=True)

    parts = {name: corpus.split(text) for name, text in corpus.books(a.text).items()}
    texts = [train_part for train_part, _ in parts.values()]
    tok = make_tokenizer(texts)
    rows = [texts, corpus.chat_rows(texts, random.Random(SEED), 16000)]
    random.Random(SEED).shuffle(rows[1])
    rows += [corpus.copy_rows(texts, random.Random(SEED), 24000, signs) for signs in (False, True)]
    streams = [np.concatenate([np.array(tok.encode(r).ids + [0], np.uint16) for r in part]) for part in rows]
    held = np.concatenate([np.array(tok.encode(h).ids, np.uint16) for _, h in parts.values()])
    print("tokens of prose, chat, copying, copying with signs, held out:", *map(len, streams + [held]), flush=True)
    model = make_model(a.family)
    train(model, streams, held, a.steps, a.work, a.family)
    save(model, tok, a.out)
    report(a.out, tok, {name: held_part for name, (_, held_part) in parts.items()})


if __name__ == "__main__":
    main()
