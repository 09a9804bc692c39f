#!/usr/bin/env python3
"""Expected token ids from the real library, for tests/unit/engine/text/test_tokenizer.c.

    pip install tokenizers==0.23.3
    make_tokenizer_vectors.py                      writes tests/unit/engine/text/data/tok_vectors.json
    make_tokenizer_vectors.py --real DIR           writes data/tok_real.json: our texts through every
                                                   DIR/NAME/tokenizer.json
    make_tokenizer_vectors.py --fuzz N [--seed S] [--real DIR]
                                                   N random texts through every tokenizer, by the
                                                   library and by build/ffwd; prints what differs

The tokenizers are small ones, trained here on TRAINING, one for every component and option. The test
puts each together from a model and the fields that differ, as `compose` does.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, "tests/unit/engine/text/data")

TRAINING = [
    "The small boat left the harbour at 7:45 in the morning, and the sea was calm.",
    "She didn't say what she'd seen; they've asked her twice, but it's all she'll tell.",
    "the cat and the dog and the hat and the other cat that sat on the mat",
    "numbers 1 22 333 4444 55555 1234567890 and 3.14159 or 2,718,281",
    "hello hello world world hello world The There Then They Other other",
    "Über die Brücke, café, naïve, façade, Łódź, привет мир, γειά σου κόσμε",
    "日本語のテキスト、中文文本。 한국어 텍스트",
    "def main(argc, argv):\n    return argc + 1\n\n\tif x == y:\n\t\tpass\n",
]

# Every text here was written for this test.
TEXTS = [
    "", " ", "a", "Hello world", "hello  world   again", " leading and trailing ", "\n", "\n\n \n\t x",
    "it's they're I'VE we'll He'D don't 'sup 's", "1 12 123 1234 12345678901 3.14 ½ ² Ⅻ ٣٤ 𝟘",
    "café cafe\u0301 ﬁne ﬃ Å Å \u0344 ẛ\u0323 각 각 q\u0307\u0323 \u0958",
    "ÀÉÎ İSTANBUL ΑΣΣΑΣ ǅ ß ẞ", "日本語 中文。テスト、한국어 텍스트", "مرحبا بالعالم שלום नमस्ते",
    "👩\u200d👩\u200d👧 🏽 ✈\ufe0f 🇩🇪 😀😀", "a\u0000b\u0001\u001f\u007f\u0085\u009f\u200b\ufeffz\ufffd\U0010ffff",
    "\u00a0x\u3000y\u2028z\u1680\u180e\u202f", "line\r\nline\rline\n\n\n  indented\n", " " * 30 + "x" + " " * 17,
    "foo(bar[0], {x: \"y\"});// $100 #1 a_b-c+d=e^f|g~h`i<j>k", "...!!!???—“quoted”«x»、。",
    "<s>hello</s> <unk> <pad>x <mask> y<mask>", "[A] [AB] [ABC] [a] x[A]y _[A]_ é[A]é", "word words sword WORD Word",
    "  <mask>  <mask>\n\t<right>  z <both>  ", "aaaaaaaaaaaaaaaaaaaaaaaaaa", "the the the The THE",
    "▁under▁score ▁ _", "Ġ Ċ ĠĠ </w> ## <0x41> <0xE9>", "x" + "\u0301\u0323" * 9 + "y", "a-b--c---d-", "2024-01-31T12:00:00Z",
    "ſ K 'ſ 'S 'LL 'll ʼs", "𐐀𐐨 Ᲊ Ა ꟋꞭ \U00031350 \U0001e030 \U00010d50 \U000116d0 \u1b4e \u0897",
]
# For a few cases only: words beyond the length up to which pairs are scanned.
LONG_TEXTS = ["a" * 144, "ab" * 70 + "c", "the hat " * 30]


def byte_alphabet():
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def train(pre, size, special=(), alphabet=(), **trainer):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre
    tok.train_from_iterator(
        TRAINING,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(special), initial_alphabet=list(alphabet), show_progress=False, **trainer
        ),
    )
    return json.loads(tok.to_str())["model"]


def base_models():
    as_strings = train(pre_tokenizers.ByteLevel(add_prefix_space=False), 370, alphabet=byte_alphabet())
    as_strings["merges"] = [" ".join(m) for m in as_strings["merges"]]
    byte_tokens = ["<0x%02X>" % i for i in range(256)]
    sentence = train(pre_tokenizers.Metaspace(), 470, special=["<unk>", "<s>", "</s>"] + byte_tokens)
    sentence.update(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    chars = train(pre_tokenizers.Whitespace(), 150, special=["<unk>"])
    chars.update(unk_token="<unk>")
    affix = train(
        pre_tokenizers.Whitespace(), 260, special=["<unk>"], continuing_subword_prefix="##", end_of_word_suffix="</w>"
    )
    affix.update(unk_token="<unk>")
    return {"bytes": as_strings, "sentence": sentence, "chars": chars, "affix": affix}


def charsmap(pairs):
    """SentencePiece's compiled map: a double-array trie (as Darts) and the replacements."""
    import base64
    import struct

    strings, value = b"", {}
    for key, new in pairs:
        value[key.encode()] = len(strings)
        strings += new.encode() + b"\0"
    units, used = {0: 0}, {0}

    def place(prefix, node):
        labels = sorted({k[len(prefix)] for k in value if k.startswith(prefix) and len(k) > len(prefix)})
        wanted = labels + ([0] if prefix in value else [])
        base = next(b for b in range(1, 1 << 20) if all((b ^ c) not in used for c in wanted))
        units[node] |= (node ^ base) << 10
        for c in wanted:
            used.add(base ^ c)
        if prefix in value:
            units[node] |= 1 << 8
            units[base] = value[prefix] | 1 << 31
        for c in labels:
            units[base ^ c] = c
        for c in labels:
            place(prefix + bytes([c]), base ^ c)

    place(b"", 0)
    array = [units.get(i, 0) for i in range(max(units) + 257)]
    trie = b"".join(struct.pack("<I", u) for u in array)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + strings).decode()


def token(content, special=False, single_word=False, lstrip=False, rstrip=False, normalized=None):
    return {
        "id": 0, "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
        "normalized": (not special) if normalized is None else normalized, "special": special,
    }


RAW_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = dict(RAW_BYTES, use_regex=True)
BYTES_DECODER = dict(GPT2)


def split(pattern, behavior="Isolated", invert=False, string=False):
    return {"type": "Split", "pattern": {"String" if string else "Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(*parts, key="pretokenizers"):
    return {"type": "Sequence", key: list(parts)}


def template(single, special):
    pieces = [{"Sequence": {"id": "A", "type_id": 0}} if p is None else {"SpecialToken": {"id": p, "type_id": 0}} for p in single]
    tokens = {s: {"id": s, "ids": ids, "tokens": [s] * len(ids)} for s, ids in special.items()}
    pair = pieces + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": tokens}


PATTERNS = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "thousands": r"(?<=[0-9])(?=(?:[0-9]{3})+(?![0-9]))",
    "cjk": "[一-龥぀-ゟ゠-ヿ]+",
    "han": r"\p{Han}+|\p{Hiragana}+|\p{^Latin}",
    "intersection": r"[\p{L}&&[^aeiou\p{Lu}]]+",
    "posix": r"[[:alpha:]]+|[[:digit:]]{2}|[^[:space:][:alnum:]]",
    "words": r"\b\w+\b|\W",
    "hexdigits": r"\h+|\H",
    "lines": r"^.*$",
    "dotall": r"(?m:x.)|(?m)y.|z",
    "inline_i": r"a(?i)b|C",
    "extended": "(?x) h e l+ o  # greeting\n | w\\ ?o",
    "intervals": r"a{2}?|b{,2}c|\d{1,2}+|x{y",
    "escapes": r"\u0041|\x42|\x{43}|\t|\n|\-|\/|\_|[\u0061-\u0063\x{64}\]\-e]",
    "sets": r"[a-f[x-z]\s]+|[^\d\S]",
    "nothing": r"q*",
    "edges": r"\A.|.\z|\G\d",
    "lookbehind": r"(?<!\s)\s|(?<=['’])\w",
    "words_in_classes": r"[\w]+|[^\w\s]+|[[:word:]]\W",
    "more_posix": r"[[:punct:]]+|\p{Punct}|[^[:graph:]]+|[[:print:]&&[^\p{L}]]|[[:alpha:]]+",
    "groups": r"(?<c>.)\k<c>|(?>a+)b|(?#c)o",
}


def normalizer_cases():
    forms = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt", "StripAccents"]
    cases = {f: {"type": f} for f in forms}
    cases["strip"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    cases["strip_left"] = {"type": "Strip", "strip_left": True, "strip_right": False}
    cases["replace_string"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    cases["replace_regex"] = {"type": "Replace", "pattern": {"Regex": r"\s{2,}|(?<=a)b"}, "content": "<$1>"}
    cases["replace_away"] = {"type": "Replace", "pattern": {"String": "hello"}, "content": ""}
    cases["prepend"] = {"type": "Prepend", "prepend": "▁▁"}
    cases["nfd_accents_lower"] = sequence({"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, key="normalizers")
    cases["nested"] = sequence({"type": "NFKC"}, sequence({"type": "Prepend", "prepend": ">"}, cases["strip"], key="normalizers"), key="normalizers")
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    cases["bert"] = bert
    cases["bert_cased"] = dict(bert, lowercase=False)
    cases["bert_accents"] = dict(bert, clean_text=False, strip_accents=False)
    pairs = [("ﬁ", "fi"), ("Å", "A"), ("\u00a0", " "), ("\u3000", " "), ("\n", " "), ("é", "E"), ("e\u0301", "e!"), ("①", "1"), ("日", "")]
    cases["precompiled"] = {"type": "Precompiled", "precompiled_charsmap": charsmap(pairs)}
    out = {"norm_" + k: {"normalizer": v, "pre_tokenizer": GPT2} for k, v in cases.items()}
    out["norm_bytelevel"] = {"normalizer": {"type": "ByteLevel"}, "pre_tokenizer": split(" ?Ġ*[a-z]+")}
    return out


def pretokenizer_cases():
    cases = {"none": None, "bytes_raw": RAW_BYTES, "gpt2": GPT2, "gpt2_prefix": dict(GPT2, add_prefix_space=True)}
    behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    for b in behaviors:
        cases["split_" + b] = sequence(split(r"\s+|-", b), RAW_BYTES)
        cases["split_invert_" + b] = sequence(split(r"[a-z]", b, invert=True), RAW_BYTES)
        cases["split_string_" + b] = sequence(split("-", b, string=True), RAW_BYTES)
        cases["punctuation_" + b] = sequence({"type": "Punctuation", "behavior": b}, RAW_BYTES)
    for name, pattern in PATTERNS.items():
        cases["re_" + name] = sequence(split(pattern), RAW_BYTES)
    cases["re_nothing_merged"] = sequence(split("q*", "MergedWithPrevious"), RAW_BYTES)
    cases["re_edges_removed"] = sequence(split(PATTERNS["edges"], "Removed"), RAW_BYTES)
    cases["split_empty_string"] = sequence(split("", string=True), RAW_BYTES)
    cases["digits"] = sequence({"type": "Digits", "individual_digits": False}, GPT2)
    cases["digits_each"] = sequence({"type": "Digits", "individual_digits": True}, GPT2)
    cases["falcon"] = sequence({"type": "Punctuation", "behavior": "Contiguous"}, GPT2, {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]"))
    cases["bytes_then_split"] = sequence(dict(GPT2, add_prefix_space=True), split("Ġ", "MergedWithNext", string=True))
    for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        cases[name] = sequence({"type": name}, RAW_BYTES)
    cases["delimiter"] = sequence({"type": "CharDelimiterSplit", "delimiter": "-"}, RAW_BYTES)
    cases["fixed"] = sequence({"type": "FixedLength", "length": 3}, RAW_BYTES)
    return {"pre_" + k: {"pre_tokenizer": v} for k, v in cases.items()}


def sentence_cases():
    sp_decoder = sequence(
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}, key="decoders",
    )
    legacy = sequence({"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, key="normalizers")
    bos = template(["<s>", None], {"<s>": [1]})
    special = [token("<unk>", True), token("<s>", True), token("</s>", True)]
    base = {"added_tokens": special, "decoder": sp_decoder, "post_processor": bos}
    cases = {"sp_legacy": dict(base, normalizer=legacy)}
    for scheme in ("first", "always", "never"):
        for s in (False, True):
            meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": s}
            cases["sp_%s_%s" % (scheme, "split" if s else "whole")] = dict(base, pre_tokenizer=meta, decoder=dict(meta) if s else sp_decoder)
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    for name, norm in (("strip", {"type": "Strip", "strip_left": True, "strip_right": False}), ("prepend", {"type": "Prepend", "prepend": "x"}),
                       ("replace", {"type": "Replace", "pattern": {"Regex": "^[hH]"}, "content": "the"})):
        cases["sp_first_" + name] = dict(base, pre_tokenizer=sequence(split("e", "MergedWithNext", string=True), first), normalizer=norm)
    cases["sp_old_fields"] = dict(base, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "str_rep": "▁"})
    cases["sp_no_fuse"] = dict(base, normalizer=legacy, model_set={"byte_fallback": False, "fuse_unk": False})
    cases["sp_fuse"] = dict(base, normalizer=legacy, model_set={"byte_fallback": False})
    cases["sp_no_unk"] = dict(base, normalizer=legacy, model_set={"byte_fallback": False, "unk_token": None})
    cases["sp_ignore_merges"] = dict(base, normalizer=legacy, model_set={"ignore_merges": True})
    return cases


def added_cases():
    tokens = [
        token("<s>", True), token("</s>", True, rstrip=True), token("<mask>", True, lstrip=True), token("<right>", rstrip=True),
        token("<both>", True, lstrip=True, rstrip=True), token("[A]", single_word=True), token("[AB]", normalized=False),
        token("word", single_word=True), token("WORD", single_word=True, normalized=False), token("  "), token("    "), token("\n\n", normalized=False),
        token("aaa"), token("aaaaa", True), token("The"), token("", True), token("the"), token("The", True, normalized=True), token("é", single_word=True, lstrip=True),
    ]
    out = {}
    for name, norm in (("plain", None), ("lower", {"type": "Lowercase"}), ("nfkd", {"type": "NFKD"}), ("prepend", {"type": "Prepend", "prepend": "_"})):
        kept = [t for t in tokens if not (norm and t["content"] in ("WORD", "The", "the") and t["normalized"])]
        out["added_" + name] = {"added_tokens": kept, "normalizer": norm, "pre_tokenizer": GPT2, "decoder": BYTES_DECODER}
    out["added_bytes_normalizer"] = {
        "added_tokens": [token("é"), token(" x", lstrip=True), token("日本", normalized=False)],
        "normalizer": {"type": "ByteLevel"}, "pre_tokenizer": split("[a-z]+"), "decoder": BYTES_DECODER,
    }
    return out


def post_cases():
    added = {"added_tokens": [token("<s>", True), token("</s>", True)], "pre_tokenizer": GPT2, "decoder": BYTES_DECODER}
    return {
        "post_template": dict(added, post_processor=template(["<s>", None, "</s>"], {"<s>": [370], "</s>": [371, 5]})),
        "post_twice": dict(added, post_processor=template([None, "<s>", None], {"<s>": [370]})),
        "post_bert": dict(added, post_processor={"type": "BertProcessing", "sep": ["</s>", 371], "cls": ["<s>", 370]}),
        "post_roberta": dict(added, post_processor={"type": "RobertaProcessing", "sep": ["</s>", 371], "cls": ["<s>", 370], "trim_offsets": True, "add_prefix_space": False}),
        "post_sequence": dict(added, post_processor=sequence(dict(GPT2), template(["<s>", None], {"<s>": [370]}), key="processors")),
        "post_padding": dict(added, padding={"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 0, "pad_token": "x"},
                             truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}),
    }


def decoder_cases():
    steps = {
        "replace_regex": {"type": "Replace", "pattern": {"Regex": "[aeiou]+"}, "content": "_"},
        "strip": {"type": "Strip", "content": "h", "start": 1, "stop": 0},
        "bpe": {"type": "BPEDecoder", "suffix": "</w>"},
        "wordpiece": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "wordpiece_plain": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "ctc": {"type": "CTC", "pad_token": "<unk>", "word_delimiter_token": "e", "cleanup": True},
        "fallback": {"type": "ByteFallback"},
        "metaspace_never": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True},
        "none": None,
    }
    out = {"decode_" + k: {"decoder": v, "pre_tokenizer": {"type": "Whitespace"}} for k, v in steps.items()}
    out["decode_fallback"]["base"] = out["decode_metaspace_never"]["base"] = "sentence"
    out["decode_chain"] = {"base": "sentence", "decoder": sequence({"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}, {"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 2, "stop": 0}, key="decoders")}
    return out


def all_cases():
    cases = []
    for group, base in ((normalizer_cases(), "bytes"), (pretokenizer_cases(), "bytes"), (added_cases(), "bytes"), (post_cases(), "bytes"), (sentence_cases(), "sentence"), (decoder_cases(), "affix")):
        for name, fields in group.items():
            fields = dict(fields)
            model, changes = fields.pop("base", base), fields.pop("model_set", {})
            if base == "bytes":
                fields.setdefault("decoder", BYTES_DECODER)
            cases.append({"name": name, "model": model, "model_set": changes, "set": fields})
    chars = {"pre_tokenizer": {"type": "WhitespaceSplit"}}
    for name, model, changes in (("chars", "chars", {}), ("chars_fuse", "chars", {"fuse_unk": True}), ("chars_drop", "chars", {"unk_token": None}),
                                 ("affix_model", "affix", {}), ("affix_fuse", "affix", {"fuse_unk": True}), ("affix_whole", "affix", {"ignore_merges": True})):
        cases.append({"name": name, "model": model, "model_set": changes, "set": chars})
    return cases


def compose(base, case):
    tok = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    tok.update(case["set"])
    tok["model"] = dict(base[case["model"]], **case["model_set"])
    return json.dumps(tok, ensure_ascii=False)


def library(text):
    tok = Tokenizer.from_str(text)
    tok.no_padding()
    tok.no_truncation()
    return tok


def expected(tok, texts, random_ids):
    def ids(special):
        return [tok.encode(t, add_special_tokens=special).ids for t in texts]

    tok.encode_special_tokens = False
    out = {"ids": ids(False), "special": ids(True)}
    out["decoded"] = [tok.decode(i, skip_special_tokens=False) for i in out["ids"] + random_ids]
    tok.encode_special_tokens = True
    out["plain"] = ids(False)
    return out


def make_random_ids(rng, n):
    return [[rng.randrange(n) for _ in range(rng.randrange(1, 12))] for _ in range(6)]


def digest(ids):
    """Lists of more than 16 ids as "count:FNV-1a of the little-endian 32-bit ids"."""
    if ids is None or len(ids) <= 16:
        return ids
    h = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        h = (h ^ byte) * 0x100000001B3 % (1 << 64)
    return "%d:%016x" % (len(ids), h)


WITH_LONG_TEXTS = ("pre_bytes_raw", "sp_legacy", "sp_first_whole", "chars", "affix_model")


def write_vectors():
    base, rng, cases = base_models(), random.Random(1), all_cases()
    for case in cases:
        tok = library(compose(base, case))
        case["random_ids"] = make_random_ids(rng, min(tok.get_vocab_size(), len(base[case["model"]]["vocab"])))
        texts = TEXTS + (LONG_TEXTS if case["name"] in WITH_LONG_TEXTS else [])
        result = expected(tok, texts, case["random_ids"])
        for key in ("special", "plain"):  # null: the same as ids
            result[key] = [None if a == b else a for a, b in zip(result[key], result["ids"])]
            if not any(result[key]):
                del result[key]
        # null: the text itself
        result["decoded"] = [None if a == b else a for a, b in zip(result["decoded"], texts + [None] * 6)]
        for key in ("ids", "special", "plain"):
            if key in result:
                result[key] = [digest(i) for i in result[key]]
        case.update(result)
    path = os.path.join(DATA, "tok_vectors.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write('{"texts":' + json.dumps(TEXTS + LONG_TEXTS) + ',\n"models":' + json.dumps(base, ensure_ascii=False, separators=(",", ":")) + ',\n"cases":[\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases))
        f.write("\n]}\n")
    print(path, os.path.getsize(path), "bytes", len(cases), "cases")


def write_real(folder):
    out = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name, "tokenizer.json"), encoding="utf-8") as f:
            tok = library(f.read())
        out[name] = {k: v if k == "decoded" else [digest(i) for i in v] for k, v in expected(tok, TEXTS, []).items()}
    with open(os.path.join(DATA, "tok_real.json"), "w", encoding="utf-8") as f:
        json.dump({"texts": TEXTS, "tokenizers": out}, f, separators=(",", ":"))
        f.write("\n")


POOLS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " ", "\n\r\t \u00a0\u3000\u2028\u0085\u000b\u000c", "'\"!?.,;:-_()[]{}<>|/\\@#$%^&*+=~`",
    "éèêëàçñöüßœøåÅİ", "".join(map(chr, range(0x300, 0x350))), "".join(map(chr, range(0x4E00, 0x4E40))), "".join(map(chr, range(0x3040, 0x30FF))),
    "".join(map(chr, range(0xAC00, 0xAC40))), "".join(map(chr, range(0x620, 0x660))), "".join(map(chr, range(0x900, 0x970))), "😀🎉👩\u200d👧🏽\ufe0f🇩🇪",
    "\0\1\2\x1b\x7f\x80\x9f\u200b\u200c\u200d\u180e\ufeff\ufffd\ue000", "²½ⅷ①Ⅻ٣४", "ﬁﬀſẞǅ\u0344\u0958\u212b\u1e9b\u1100\u1161\u11a8", "▁Ġ",
]
PIECES = ["'s", "'LL", "'ſ", "<|endoftext|>", "<|im_start|>", "<|eot_id|>", "<s>", "</s>", "<unk>", "<mask>", "<right>", "<both>", "[A]", "[AB]", "word", "WORD", "The", "the",
          "[PAD]", "<0x0A>", "  ", "    ", "\n\n", "\r\n", "1234567890", "don't", "hello", "aaaaaa", "</w>", "##"]


def random_text(rng):
    out = []
    for _ in range(rng.randrange(0, 40)):
        q = rng.random()
        if q < 0.15:
            out.append(rng.choice(PIECES))
        elif q < 0.3:
            line = rng.choice(TRAINING)
            at = rng.randrange(len(line))
            out.append(line[at : at + rng.randrange(1, 30)])
        elif q < 0.4:
            cp = rng.randrange(0x110000 if rng.random() < 0.5 else 0x3000)
            out.append(chr(cp) if not 0xD800 <= cp < 0xE000 else "?")
        else:
            pool = rng.choice(POOLS)
            out.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 6))))
    return "".join(out)


def ffwd(folder, rows, *flags):
    done = subprocess.run(
        [os.path.join(ROOT, "build/ffwd"), "tokenize", "--model", folder, *flags],
        input="".join(json.dumps(r) + "\n" for r in rows), capture_output=True, text=True, check=False,
    )
    if done.returncode != 0:
        print(done.stderr.strip())
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def survives(tok, text):
    """Whether the library itself does not panic on the text."""
    try:
        tok.decode(tok.encode(text).ids, skip_special_tokens=False)
        return True
    except BaseException as e:  # pylint: disable=broad-except
        if isinstance(e, KeyboardInterrupt):
            raise
        return False


def differences(name, text, n, rng):
    tok, found = library(text), 0
    texts = [t for t in (random_text(rng) for _ in range(n)) if survives(tok, t)]
    ids = [tok.encode(t, add_special_tokens=False).ids for t in texts]
    special = [tok.encode(t, add_special_tokens=True).ids for t in texts]
    back = [tok.decode(i, skip_special_tokens=False) for i in ids]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            f.write(text)
        for rows, want, flags in ((texts, ids, ()), (texts, special, ("--special",)), (ids, back, ("--decode",))):
            got = ffwd(folder, rows, *flags)
            wrong = [(r, a, b) for r, a, b in zip(rows, want, got) if a != b]
            found += len(wrong) + abs(len(want) - len(got))
            for row in wrong[:2]:
                print(name, flags, *map(ascii, row), sep="\n    ")
    return found


def fuzz(n, seed, real):
    rng, total, count = random.Random(seed), 0, 0
    if real:
        sources = [(d, open(os.path.join(real, d, "tokenizer.json"), encoding="utf-8").read()) for d in sorted(os.listdir(real))]
    else:
        base = base_models()
        sources = [(c["name"], compose(base, c)) for c in all_cases()]
    for name, text in sources:
        found = differences(name, text, n, rng)
        total += found
        count += 1
        if found or real:
            print(name, n, "texts,", found, "differences", flush=True)
    print(count, "tokenizers,", n, "texts each,", total, "differences")
    return total


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--real", metavar="DIR")
    args.add_argument("--fuzz", type=int, metavar="N")
    args.add_argument("--seed", type=int, default=1)
    a = args.parse_args()
    if a.fuzz:
        sys.exit(fuzz(a.fuzz, a.seed, a.real) != 0)
    os.makedirs(DATA, exist_ok=True)
    if a.real:
        write_real(a.real)
    else:
        write_vectors()


if __name__ == "__main__":
    main()
