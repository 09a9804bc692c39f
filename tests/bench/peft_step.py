"""LoRA training steps of transformers + PEFT, the counterpart of `ffwd bench`.

The same shape with random weights, the same tokens, LoRA on all linear layers; a step is forward,
backward, clipping to norm 1, AdamW. bf16: frozen weights in bf16 under autocast, adapters in f32,
which is PEFT's own default. On a CUDA device AdamW is the fused one. Attention is SDPA, which has
flash attention among its ways; "flash" asks for the package flash-attn instead. Prints one JSON
line; the first step is not counted (with torch.compile, the first three).
usage: peft_step.py SHAPE DTYPE SEQ BATCH RANK STEPS THREADS [cpu|cuda [eager|compile|flash]]
"""
import json
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import (GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM)

LLAMA, QWEN = (LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM)
NEOX = (GPTNeoXConfig, GPTNeoXForCausalLM)
# as engine/model/config_shape.c
SHAPES = {
    "smollm2-135m": (LLAMA, 576, 1536, 30, 9, 3, 49152),
    "qwen2.5-0.5b": (QWEN, 896, 4864, 24, 14, 2, 151936),
    "llama-3.2-1b": (LLAMA, 2048, 8192, 16, 32, 8, 128256),
    "llama-3-8b": (LLAMA, 4096, 14336, 32, 32, 8, 128256),
    "pythia-1.4b": (NEOX, 2048, 8192, 24, 16, 16, 50304),
}
UNTIED = ("llama-3-8b", "pythia-1.4b")


def tokens(count, vocab):
    """The ids of `ffwd bench`: Marsaglia's xorshift64."""
    x, ids, mask = 88172645463325252, [], (1 << 64) - 1
    for _ in range(count):
        x ^= x << 13 & mask
        x ^= x >> 7
        x ^= x << 17 & mask
        ids.append(x % vocab)
    return ids


def build(shape, dtype, rank, device, attention):
    (config, model), hidden, inner, layers, heads, kv_heads, vocab = SHAPES[shape]
    torch.manual_seed(0)
    with torch.device(device):
        base = model(config(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
                            num_attention_heads=heads, num_key_value_heads=kv_heads,
                            vocab_size=vocab, tie_word_embeddings=shape not in UNTIED,
                            max_position_embeddings=8192, attn_implementation=attention))
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0,
                          target_modules="all-linear", task_type="CAUSAL_LM")
        return get_peft_model(base.to(dtype), lora)


def finish(device):
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    shape, dtype_name = sys.argv[1:3]
    seq, batch, rank, steps, threads = map(int, sys.argv[3:8])
    device, how = (sys.argv[8:] + ["cpu", "eager"][len(sys.argv) - 8:])[:2]
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype_name]
    torch.set_num_threads(threads)
    attention = "flash_attention_2" if how == "flash" else "sdpa"
    model = build(shape, dtype, rank, device, attention)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=device == "cuda")
    ids = torch.tensor(tokens(seq * batch, SHAPES[shape][6]), device=device).view(batch, seq)
    run, warm_up = (torch.compile(model), 3) if how == "compile" else (model, 1)
    times = []
    for _ in range(steps + warm_up):
        start = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype != torch.float32):
            loss = run(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        finish(device)
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"step_ms_each": times[warm_up:], "peak_bytes": peak_bytes(device)}))


main()
