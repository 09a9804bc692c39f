"""The benchmark's data: three tasks in the paper's three forms, made up from word lists by a fixed seed.

    python3 tests/bench/fast_forward/tasks.py FOLDER

medical       {"text"}: notes of a country doctor; loss on every token
instruction   {"prompt", "completion"}: an order in English and its JSON; loss on the completion
chat          {"messages"}: a buyer and a shopkeeper, two turns each; loss on every token (train_on "all")

Each gives NAME-train.jsonl and NAME-valid.jsonl; no row stands in both.
"""

import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "examples/data"))
import make_data

TRAIN, VALID = 4096, 128
TRAIN_ON = {"medical": "assistant", "instruction": "response", "chat": "all"}

WHO = ["an old man", "a young woman", "the child of the miller", "a soldier", "the priest", "a sailor", "the widow",
       "my neighbour", "a servant of the house", "the captain", "a farmer", "the eldest daughter"]
WHAT = ["a fever", "a cough", "pain in the side", "a cold in the head", "want of sleep", "weakness of the eyes",
        "a broken arm", "a burn on the hand", "heat of the blood", "a swelling of the foot", "low spirits"]
SINCE = ["since Sunday", "for three weeks", "after a long journey", "since the winter", "after a fall from a horse",
         "for two days and two nights", "after working in the rain"]
GIVE = ["warm milk", "a little wine", "tea of dry leaves", "bread and water", "salt in warm water", "nothing at all",
        "cold water on the head", "two drops in a glass", "a piece of sugar", "the black powder"]
WHEN = ["in the morning", "before going to bed", "three times a day", "after dinner", "every hour",
        "when the pain returned", "at sunrise and at sunset"]
HOW = ["The pulse was quick and the skin dry", "The breath was short", "There was no appetite", "The face was pale",
       "The hands were cold", "The tongue was white", "The heart beat slowly"]
END = ["grew better and thanked me", "slept well after that", "was no better for it", "rose on the fourth day",
       "went back to work within the week", "would not take it", "sent for another doctor"]


def medical(rng):
    who = rng.choice(WHO)
    first = f"I was called to {who}, who had {rng.choice(WHAT)} {rng.choice(SINCE)}."
    seen = f"{rng.choice(HOW)}; {rng.choice(HOW).lower()}."
    gave = rng.choice(["I gave {} {}, and {} {}.", "My order was {} {}, then {} {}.", "I let the patient have {} {} and {} {}."])
    gave = gave.format(rng.choice(GIVE), rng.choice(WHEN), rng.choice(GIVE), rng.choice(WHEN))
    after = f"{who[0].upper()}{who[1:]} {rng.choice(END)}."
    return {"text": " ".join([first, seen, gave, after])}


def instruction(rng):
    said, answer = make_data.order(rng)
    return {"prompt": said + "\n", "completion": answer}


def chat(rng):
    thing, colour, person = rng.choice(make_data.THINGS), rng.choice(make_data.COLOURS), rng.choice(make_data.PEOPLE)
    count, price = rng.choice(make_data.NUMBERS[1:]), rng.choice(make_data.NUMBERS)
    ask = rng.choice(["Have you any {} {}?", "I am looking for {} {}.", "{} sent me here for some {} {}."])
    ask = ask.format(*([person] if ask.startswith("{} sent") else []), colour, thing)
    have = rng.choice(["I have {} of them, at {} shillings the pair.", "There are {} left; they cost {} shillings.",
                       "You are in luck: {} came in this morning. I ask {} shillings."]).format(count, price)
    reply = rng.choice([f"Then I will take {rng.choice(make_data.NUMBERS[:3])}.", "That is too much for me.",
                        f"Please keep them for {rng.choice(make_data.PEOPLE)} until {rng.choice(['Monday', 'tomorrow', 'the evening'])}."])
    last = {"Then": "Very well, they shall be packed at once.", "That": "I am sorry; I cannot let them go for less.",
            "Plea": f"With pleasure. I shall put the {colour} {thing} aside."}[reply[:4]]
    turns = zip(["user", "assistant"] * 2, [ask, have, reply, last])
    return {"messages": [{"role": r, "content": c} for r, c in turns]}


TASKS = {"medical": medical, "instruction": instruction, "chat": chat}


def make(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in TASKS.items():
        rng, seen, rows = random.Random(name), set(), []
        for _ in range(40 * (TRAIN + VALID)):
            row = json.dumps(draw(rng))
            if row not in seen:
                seen.add(row)
                rows.append(row)
            if len(rows) == TRAIN + VALID:
                break
        (folder / f"{name}-valid.jsonl").write_text("\n".join(rows[:VALID]) + "\n")
        (folder / f"{name}-train.jsonl").write_text("\n".join(rows[VALID:]) + "\n")


if __name__ == "__main__":
    make(sys.argv[1])
