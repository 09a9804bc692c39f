#!/usr/bin/env python3
"""Writes the expected ids and masks of tests/unit/engine/text/test_chat_vectors.c.

Needs transformers 5.23.0, tokenizers 0.22+ and jinja2 (see tests/requirements.txt), no network:

    make_chat_vectors.py tiny OUT_DIR          two small tokenizers made here, and their vectors
    make_chat_vectors.py shared DIR OUT.json   vectors for real tokenizers, where DIR has them

The templates below are written for this script in the form the models' own templates have, with
{% generation %} around what an assistant message trains, so that transformers itself says which
tokens those are. A template that a tokenizer brings along is used as it is.
"""
import json
import os
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
)
CHATML_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou answer in one sentence.<|im_end|>\\n' }}{% endif %}" + CHATML
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
)
LLAMA31 = (
    "{{ bos_token }}{% set ns = namespace(first=0) %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' }}"
    "{% if tools %}{{ 'Environment: ipython\\n' }}{% endif %}"
    "{{ 'Cutting Knowledge Date: December 2023\\nToday Date: 26 Jul 2024\\n\\n' }}"
    "{% if messages[0]['role'] == 'system' %}{% set ns.first = 1 %}{{ messages[0]['content'] | trim }}{% endif %}"
    "{{ '<|eot_id|>' }}"
    "{% if tools %}{{ '<|start_header_id|>user<|end_header_id|>\\n\\nGiven the following functions, please respond "
    "with a JSON for a function call with its proper arguments that best answers the given prompt.\\n\\n"
    "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its value}."
    "Do not use variables.\\n\\n' }}{% for t in tools %}{{ t | tojson(indent=4) + '\\n\\n' }}{% endfor %}"
    "{{ messages[ns.first]['content'] | trim + '<|eot_id|>' }}{% set ns.first = ns.first + 1 %}{% endif %}"
    "{% for m in messages[ns.first:] %}"
    "{% if m['role'] == 'tool' %}{{ '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + m['content'] | tojson + '<|eot_id|>' }}"
    "{% elif m['role'] == 'assistant' %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% generation %}"
    "{% if m['tool_calls'] %}{% set c = m['tool_calls'][0]['function'] %}"
    "{{ '{\"name\": \"' + c['name'] + '\", \"parameters\": ' }}{{ c['arguments'] | tojson }}{{ '}' }}"
    "{% else %}{{ m['content'] | trim }}{% endif %}{{ '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{% generation %}{{ ' ' + m['content'] + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
    "{# ' ' + message #}"
)
MISTRAL_SYSTEM = (
    "{{ bos_token }}{% set ns = namespace(system_message='', first=0) %}"
    "{% if messages[0]['role'] == 'system' %}{% set ns.system_message = messages[0]['content'] + '\\n\\n' %}"
    "{% set ns.first = 1 %}{% endif %}{% for m in messages[ns.first:] %}{% if m['role'] == 'user' %}"
    "{{ ' [INST] ' }}{% if loop.first %}{{ ns.system_message }}{% endif %}{{ m['content'] + ' [/INST]' }}"
    "{% else %}{% generation %}{{ ' ' + m['content'] + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
    "{# ' ' + message #}"
)
LLAMA2 = (
    "{% set ns = namespace(system='', first=0) %}{% if messages[0]['role'] == 'system' %}"
    "{% set ns.system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% set ns.first = 1 %}{% endif %}"
    "{% for m in messages[ns.first:] %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first %}{{ ns.system }}{% endif %}{{ m['content'] + ' [/INST]' }}"
    "{% else %}{% generation %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + eos_token }}{% endgeneration %}{% else %}{{ m['content'] + eos_token }}{% endif %}{{ '\\n' }}"
    "{% endfor %}{# <|user|> <|assistant|> #}"
)
QWEN = (
    "{% set system = 'You answer in one sentence.' %}{% set ns = namespace(first=0) %}"
    "{# '<|im_start|>system\\nYou answer in one sentence.<|im_end|>' #}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set ns.first = 1 %}{% endif %}"
    "{{ '<|im_start|>system\\n' + system }}{% if tools %}"
    "{{ '\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with "
    "function signatures within <tools></tools> XML tags:\\n<tools>' }}"
    "{% for t in tools %}{{ '\\n' }}{{ t | tojson }}{% endfor %}"
    "{{ '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\\n<tool_call>\\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\\n"
    "</tool_call>' }}{% endif %}{{ '<|im_end|>\\n' }}"
    "{% for m in messages[ns.first:] %}"
    "{% if m['role'] == 'tool' %}{% if loop.index0 == 0 or loop.previtem['role'] != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\\n<tool_response>\\n' + m['content'] + '\\n</tool_response>' }}"
    "{% if loop.last or loop.nextitem['role'] != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% elif m['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' }}{% generation %}{% if m['content'] %}{{ m['content'] }}"
    "{% if m['tool_calls'] %}{{ '\\n' }}{% endif %}{% endif %}{% for c in m['tool_calls'] or [] %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}{{ '<tool_call>\\n{\"name\": \"' + c['function']['name'] + '\", \"arguments\": ' }}"
    "{{ c['function']['arguments'] | tojson }}{{ '}\\n</tool_call>' }}{% endfor %}{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
)


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def answer(text):
    return {"role": "assistant", "content": text}


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a place, e.g. \"Zürich\"\nnow",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "maximum": 7.0, "default": 1e-05}},
            "required": ["place"],
            "additionalProperties": False,
            "examples": [],
            "extra": {},
        },
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": 2}}}

TURNS = {"messages": [user("Hello, who are you?"), answer("A small test.")]}
SYSTEM = {"messages": [system("Be brief."), user("One?"), answer("1"), user("And two, please?"), answer("It is 2, I think.")]}
SPACES = {"messages": [user("  lead and trail  "), answer("\n\n  an answer that\nstarts with lines \n"), user("\n"), answer(" x ")]}
UNICODE = {"messages": [user("Grüße, 世界! 👋🏽 don't"), answer("naïve café — 123456\t\ttabs\u00a0and e\u0301")]}
EMPTY = {"messages": [user(""), answer("")]}
TOOLS = {
    "messages": [user("Weather in Zürich?"), {"role": "assistant", "content": "", "tool_calls": [CALL]},
                 {"role": "tool", "tool_call_id": "c1", "content": "{\"temp\": \"21 °C\"}"}, answer("21 degrees.")],
    "tools": [WEATHER],
}
TOOLS_SYSTEM = {
    "messages": [system(" Use tools. "), user("Weather?"), {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
                 {"role": "tool", "content": "rain"}, answer("Rain.")],
    "tools": [WEATHER, {"type": "function", "function": {"name": "stop"}}],
}
TWO_CALLS = {
    "messages": [user("Both?"), {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
                 {"role": "tool", "content": "a"}, {"role": "tool", "content": "b"}, answer("Done.")],
    "tools": [WEATHER],
}

PLAIN = [TURNS, SYSTEM, SPACES, UNICODE, EMPTY]
NO_SYSTEM = [TURNS, SPACES, UNICODE, EMPTY]
ROWS = {
    "chatml": PLAIN, "chatml-default": PLAIN, "llama3": PLAIN, "zephyr": PLAIN, "llama2": PLAIN,
    "mistral": NO_SYSTEM, "mistral-system": PLAIN,
    "llama3.1": PLAIN + [TOOLS, TOOLS_SYSTEM], "qwen": PLAIN + [TOOLS, TOOLS_SYSTEM, TWO_CALLS],
}
TEMPLATES = {
    "chatml": CHATML, "chatml-default": CHATML_DEFAULT, "llama3": LLAMA3, "llama3.1": LLAMA31, "llama2": LLAMA2,
    "mistral": MISTRAL, "mistral-system": MISTRAL_SYSTEM, "zephyr": ZEPHYR, "qwen": QWEN,
}


def mask_of(tokenizer, row):
    """Ids and assistant mask as transformers gives them, or by searching the ChatML text."""
    args = {"tools": row.get("tools"), "tokenize": True, "return_dict": True}
    if "generation %}" in tokenizer.chat_template:
        got = tokenizer.apply_chat_template(row["messages"], return_assistant_tokens_mask=True, **args)
        return list(got["input_ids"]), list(got["assistant_masks"])
    ids = list(tokenizer.apply_chat_template(row["messages"], **args)["input_ids"])
    text = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert encoded["input_ids"] == ids
    mask = [0] * len(ids)
    for span in re.finditer(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", text, re.S):
        for i, (a, b) in enumerate(encoded["offset_mapping"]):
            if a < span.end(1) and b > span.start(1):
                mask[i] = 1
    return ids, mask


def vectors(folder, template, rows, bos, eos, write_template=True):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"), bos_token=bos, eos_token=eos)
    own = os.path.join(folder, "tokenizer_config.json")
    if template is None:
        tokenizer.chat_template = json.load(open(own, encoding="utf-8"))["chat_template"]
    else:
        tokenizer.chat_template = TEMPLATES[template]
    cases = []
    for row in rows:
        ids, mask = mask_of(tokenizer, row)
        cases.append({"row": row, "ids": ids, "mask": mask})
    return {"tokenizer": os.path.basename(folder), "template": TEMPLATES[template] if template and write_template else None,
            "bos": bos, "eos": eos, "cases": cases}


CORPUS = [
    "Hello, who are you? A small test of the answer. Be brief. One? And two, please? It is 2, I think.",
    "lead and trail an answer that\nstarts with lines\n\nsystem user assistant ipython tool\n\n",
    "Given the following functions, please respond with a JSON for a function call with its proper arguments.",
    "Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024 Weather in the place, days, type function name",
] * 4


def byte_level(path):
    t = Tokenizer(models.BPE())
    split = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(split, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    t.train_from_iterator(CORPUS + ["\n\n", "\n\n\n", " \n"] * 20, trainer)
    t.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    bos = t.token_to_id("<|begin_of_text|>")
    t.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)])
    t.save(path)


def sentencepiece_like(path, prepend=False):
    """prepend: the older form of such files, a normalizer instead of a pre-tokenizer."""
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special + [f"<0x{i:02X}>" for i in range(256)], show_progress=False)
    t.train_from_iterator(CORPUS, trainer)
    data = json.loads(t.to_str())
    data["added_tokens"] = data["added_tokens"][:3]  # byte tokens are part of the model, not added
    if prepend:
        data["pre_tokenizer"] = None
        data["normalizer"] = json.loads(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]).__getstate__())
    else:
        data["pre_tokenizer"]["split"] = False
    data["decoder"] = json.loads(decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]).__getstate__())
    t = Tokenizer.from_str(json.dumps(data))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    t.save(path)


def write(path, value):
    with open(path, "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in value) + "\n]\n")


def tiny(out):
    sets = []
    for name, make, bos, eos, templates in (
        ("tiny-bytelevel", byte_level, "<|begin_of_text|>", "<|endoftext|>", ["chatml", "chatml-default", "qwen", "llama3", "llama3.1"]),
        ("tiny-metaspace", sentencepiece_like, "<s>", "</s>", ["mistral", "mistral-system", "llama2", "zephyr", "chatml"]),
        ("tiny-prepend", lambda path: sentencepiece_like(path, True), "<s>", "</s>", ["mistral", "llama2", "zephyr", "chatml"]),
    ):
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        make(os.path.join(folder, "tokenizer.json"))
        data = json.load(open(os.path.join(folder, "tokenizer.json"), encoding="utf-8"))
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")
        sets += [vectors(folder, t, ROWS[t], bos, eos) for t in templates]
    write(os.path.join(out, "chat_vectors.json"), sets)


def shared(folder, out):
    sets = []
    for name, template, rows, bos, eos, write_template in (
        ("qwen2.5", None, ROWS["qwen"], None, "<|im_end|>", False),
        ("llama3", "llama3", PLAIN, "<|begin_of_text|>", "<|end_of_text|>", False),
        ("llama3", "llama3.1", ROWS["llama3.1"], "<|begin_of_text|>", "<|end_of_text|>", True),
        ("smollm-135m", "chatml", PLAIN, None, "<|endoftext|>", False),
        ("mistral-7b", "mistral", NO_SYSTEM, "<s>", "</s>", True),
        ("mistral-7b", "llama2", PLAIN, "<s>", "</s>", True),
        ("mistral-7b", "zephyr", PLAIN, "<s>", "</s>", True),
        ("gpt2", "chatml", PLAIN, None, "<|endoftext|>", False),
        # Its offsets leave out the space before a word, so transformers loses an answer that starts with one.
        ("gpt-neox-20b", "chatml", [TURNS, SYSTEM, UNICODE, EMPTY], None, "<|endoftext|>", False),
    ):
        sets.append(vectors(os.path.join(folder, name), template, rows, bos, eos, write_template))
    write(out, sets)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "tiny":
        tiny(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "shared":
        shared(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)
