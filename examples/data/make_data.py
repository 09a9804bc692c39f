"""Makes the sample data sets beside it; the same files every time, nothing but Python's standard library.

    python make_data.py [FOLDER]

orders-*      chat rows: an order in plain English, answered by one line of JSON
sums          prompt and completion: small sums in words
mornings      text rows: short scenes put together from parts
"""

import json
import pathlib
import random
import sys

SEED = 7
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
PEOPLE = ["Anna", "Mary", "Peter", "Henry"]
COLOURS = ["red", "white", "black", "green"]
THINGS = ["hats", "books", "boots", "coats", "boxes", "horses"]
# {n} number in words, {c} colour, {t} thing, {p} person
ASKED = {
    "send": [
        "Please send {n} {c} {t} to {p}.",
        "{p} would like {n} {c} {t}, if you please.",
        "I want {n} {c} {t} for {p}.",
        "Pray let {p} have {n} {c} {t}.",
    ],
    "cancel": [
        "{p} does not want the {n} {c} {t} any more.",
        "Do not send {p} the {n} {c} {t}.",
        "No, keep the {n} {c} {t} you had for {p}.",
    ],
    "find": [
        "Where are the {n} {c} {t} of {p}?",
        "{p} has lost {n} {c} {t}.",
        "Have you seen the {n} {c} {t} which {p} left here?",
    ],
}


def order(rng):
    act = rng.choice(["send", "send", "cancel", "find"])
    number, colour, thing, person = rng.randint(2, 5), rng.choice(COLOURS), rng.choice(THINGS), rng.choice(PEOPLE)
    said = rng.choice(ASKED[act]).format(n=NUMBERS[number - 1], c=colour, t=thing, p=person)
    answer = json.dumps({"act": act, "count": number, "item": f"{colour} {thing}", "for": person})
    return said, answer


def orders(rng, counts):
    """Chat rows in len(counts) lists; no sentence stands in two of them, or twice in one."""
    seen, lists = set(), []
    for count in counts:
        rows = []
        while len(rows) < count:
            said, answer = order(rng)
            if said not in seen:
                seen.add(said)
                rows.append({"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]})
        lists.append(rows)
    return lists


def sums():
    rows = []
    for a in range(1, 10):
        for b in range(1, 11 - a):
            total = NUMBERS[a + b - 1]
            rows.append({"prompt": f"{NUMBERS[a - 1].capitalize()} and {NUMBERS[b - 1]} make", "completion": f" {total}."})
            if a != b:
                rows.append({"prompt": f"How many are {NUMBERS[a - 1]} and {NUMBERS[b - 1]}?", "completion": f" {total.capitalize()}."})
    return rows


def mornings(rng, count):
    weather = ["The rain had stopped", "The wind was cold", "The sun stood over the hill", "Snow lay on the road"]
    doing = ["opened the window", "read a letter", "went down to the river", "lit the fire", "called for the horses"]
    end = ["nobody spoke", "the dog followed", "the house was still", "all was well", "there was a knock at the door"]
    rows = []
    while len(rows) < count:
        first, second = rng.sample(PEOPLE, 2)
        one, two = rng.sample(doing, 2)
        text = f"{rng.choice(weather)} when {first} {one}. {second} {two}, and {rng.choice(end)}."
        if {"text": text} not in rows:
            rows.append({"text": text})
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent
    train, valid = orders(random.Random(SEED), (600, 100))
    write(folder / "orders-train.jsonl", train)
    write(folder / "orders-valid.jsonl", valid)
    write(folder / "sums.jsonl", sums())
    write(folder / "mornings.jsonl", mornings(random.Random(SEED), 80))


if __name__ == "__main__":
    main()
