#!/usr/bin/env python3
"""What the real library takes every code point for, for tests/unit/engine/text/test_tok_unicode.c.

    pip install tokenizers==0.23.3
    make_tokenizer_unicode.py            writes tests/unit/engine/text/data/tok_unicode.json
    make_tokenizer_unicode.py --ranges   prints the ranges of the classes in tok_unicode_data.c

A class is found by what a pre-tokenizer or normalizer does to each code point. The file holds, for a
class, how many code points it has and the FNV-1a hash of their little-endian 32-bit values; for a
mapping, of each changed code point, the UTF-8 of what it becomes, and a zero byte.
"""

import json
import os
import sys

from tokenizers import Regex, normalizers, pre_tokenizers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
# Without Mn: U+1171E was one in Unicode 14, which PCRE2 knows, and is Mc since.
PROPERTIES = "L Lu Ll Lt Lm Lo M N Nd Nl No P S Z Cf Han Hiragana Katakana Cyrillic Latin space word digit xdigit"


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return "%016x" % h


def matched(pattern):
    pre = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    found = set()
    for i in range(0, len(CODE_POINTS), 1 << 16):
        for piece, _ in pre.pre_tokenize_str("".join(map(chr, CODE_POINTS[i : i + (1 << 16)]))):
            found.update(map(ord, piece))
    return found


def between(pre, kept):
    """Code points that stand as pieces of their own between letters (kept), or vanish (not kept)."""
    found = set()
    for i in range(0, len(CODE_POINTS), 4096):
        part = CODE_POINTS[i : i + 4096]
        alone, covered = set(), set()
        for _, (a, b) in pre.pre_tokenize_str("a" + "".join(chr(c) + "a" for c in part)):
            covered.update(range(a, b))
            if b - a == 1:
                alone.add(a)
        for k, c in enumerate(part):
            at = 2 * k + 1
            if at in alone if kept else at not in covered:
                found.add(c)
    return found


def mapping(normalizer):
    """Only with nothing around: marks would go into composition with a letter."""
    out = {}
    for c in CODE_POINTS:
        new = normalizer.normalize_str(chr(c))
        if new != chr(c):
            out[c] = new
    return out


def bert(**on):
    fields = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return normalizers.BertNormalizer(**{**fields, **on})


def classes():
    clean, accents = mapping(bert(clean_text=True)), mapping(bert(strip_accents=True))
    marks = mapping(normalizers.StripAccents())
    words = pre_tokenizers.Whitespace()
    not_words = between(words, True) | between(words, False)
    return {
        "whitespace": between(pre_tokenizers.WhitespaceSplit(), False),
        "numeric": between(pre_tokenizers.Digits(individual_digits=True), True),
        "punctuation": between(pre_tokenizers.Punctuation("isolated"), True),
        "control": {c for c, new in clean.items() if new == "" and c not in (0, 0xFFFD)} | {0},
        "nonspacing": {c for c, new in accents.items() if new == ""},
        "mark": set(marks),
        "chinese": set(mapping(bert(handle_chinese_chars=True))),
        "word": set(CODE_POINTS) - not_words,
    }


def main():
    found = classes()
    if "--ranges" in sys.argv[1:]:
        for name, members in found.items():
            runs = []
            for c in sorted(members):
                if runs and runs[-1][1] == c - 1:
                    runs[-1][1] = c
                else:
                    runs.append([c, c])
            print(name, " ".join("{0x%X, 0x%X}," % tuple(r) for r in runs))
        return
    for name in PROPERTIES.split():
        short = {"space": r"\s", "word": r"\w", "digit": r"\d", "xdigit": r"\h"}
        found["property " + name] = matched(short.get(name, r"\p{%s}" % name))
    maps = {f: mapping(getattr(normalizers, f)()) for f in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")}
    out = {
        "classes": {k: [len(v), fnv(b"".join(c.to_bytes(4, "little") for c in sorted(v)))] for k, v in found.items()},
        "maps": {
            k: [len(v), fnv(b"".join(c.to_bytes(4, "little") + new.encode() + b"\0" for c, new in sorted(v.items())))]
            for k, v in maps.items()
        },
    }
    with open(os.path.join(ROOT, "tests/unit/engine/text/data/tok_unicode.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
