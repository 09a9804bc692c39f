#!/usr/bin/env python3
"""Rows to train on, from a plain text or from JSON lines with other names, in an order drawn by a fixed seed.

    python3 tests/bench/fast_forward/rows.py TEXT.txt OUT.jsonl [--characters 400]
    python3 tests/bench/fast_forward/rows.py ROWS.jsonl OUT.jsonl --prompt question --completion answer

A text is cut at spaces into {"text"} rows of at most so many characters; what stands before and after the marks of Project
Gutenberg is left out. JSON lines become {"prompt", "completion"}, a line break after the prompt.
"""

import argparse
import json
import pathlib
import random
import re


def body(text):
    start = re.search(r"\*\*\* ?START OF.*?\*\*\*", text, re.S)
    end = re.search(r"\*\*\* ?END OF", text)
    return text[start.end() if start else 0:end.start() if end else len(text)]


def pieces(text, characters):
    at = 0
    while len(text) - at > characters:
        space = text.rfind(" ", at + 1, at + characters)
        end = space if space > at else at + characters
        yield {"text": text[at:end]}
        at = end


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("source", type=pathlib.Path)
    ap.add_argument("out", type=pathlib.Path)
    ap.add_argument("--characters", type=int, default=400)
    ap.add_argument("--prompt")
    ap.add_argument("--completion")
    a = ap.parse_args()
    text = a.source.read_text(encoding="utf-8-sig")
    if a.prompt:
        rows = [{"prompt": row[a.prompt] + "\n", "completion": row[a.completion]} for row in map(json.loads, text.splitlines())]
    else:
        rows = list(pieces(body(text), a.characters))
    random.Random(1).shuffle(rows)
    a.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
