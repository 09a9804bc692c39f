"""Text for the example model: public-domain books without their wrapping, and chat rows cut from them.

books(folder)      -> {name: text}: licence, header and footer removed, line breaks inside paragraphs undone
split(text)        -> (train, held_out): the last 2 % of each book is never trained on
chat_rows(...)     -> ChatML strings made from the books' own sentences, so that the chat tokens have a meaning
copy_rows(...)     -> ChatML strings about lists of words in no order: what looks back at the question answers them
"""

import collections
import pathlib
import re
import string

# file, title, author, Project Gutenberg number (None: not from there), words the body begins with.
WORKS = [
    ("gutenberg_1342_pride_and_prejudice.txt", "Pride and Prejudice", "Jane Austen", 1342, "It is a truth"),
    ("gutenberg_1400_great_expectations.txt", "Great Expectations", "Charles Dickens", 1400, "My father's family"),
    ("gutenberg_145_middlemarch.txt", "Middlemarch", "George Eliot", 145, "Miss Brooke had that kind"),
    ("gutenberg_1661_sherlock_holmes.txt", "The Adventures of Sherlock Holmes", "Arthur Conan Doyle", 1661,
     "To Sherlock Holmes she is"),
    ("gutenberg_2600_war_and_peace.txt", "War and Peace", "Leo Tolstoy, translated by Louise and Aylmer Maude", 2600,
     "“Well, Prince, so Genoa"),
    ("gutenberg_2701_moby_dick.txt", "Moby Dick; or The Whale", "Herman Melville", 2701, "Call me Ishmael"),
    ("tinyshakespeare.txt", "scenes from the plays", "William Shakespeare", None, "First Citizen:"),
]

HELD_OUT = 0.02
PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": "--", "–": "-", "_": None, "\ufeff": None, "\r": None})


def body(raw, first_words):
    """The author's words alone: from the first sentence of the work to Project Gutenberg's closing line."""
    start = raw.find(first_words)
    if start < 0:
        raise SystemExit(f"the text does not contain its first words, {first_words!r}: another edition?")
    end = re.search(r"^.*End of (the )?Project Gutenberg.*$", raw, re.M | re.I)
    return raw[start:end.start() if end else len(raw)]


def books(folder):
    out = {}
    for name, _, _, number, first_words in WORKS:
        text = body((pathlib.Path(folder) / name).read_text("utf-8"), first_words).translate(PLAIN)
        if number is not None:  # verse keeps its lines, prose does not
            text = re.sub(r"(?<=\S)[ \t]*\n[ \t]*(?=\S)", " ", text)
        text = re.sub(r"[ \t]+", " ", text)
        out[name] = re.sub(r"\n\s*\n", "\n\n", text).strip() + "\n"
    return out


def split(text):
    cut = text.index("\n\n", int(len(text) * (1 - HELD_OUT)))
    return text[:cut + 2], text[cut + 2:]


def chatml(messages):
    return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages)


def turn(rng, sentence):
    """One question about a sentence and its answer: go on, repeat, first or last word."""
    words = sentence.split()
    kind = rng.random()
    if kind < 0.45:
        cut = rng.randint(2, len(words) - 2)
        ask = rng.choice(["Go on: ", "Continue: ", "What comes next? ", "Go on from here. "])
        return ask + " ".join(words[:cut]), " ".join(words[cut:])
    if kind < 0.85:
        start = rng.randint(0, len(words) - 4)
        part = " ".join(words[start:start + rng.randint(3, 20)])
        return rng.choice(["Repeat: ", "Say this again: ", "Repeat after me. "]) + part, part
    last = rng.random() < 0.5
    ask = "Which word is last? " if last else "Which word is first? "
    return ask + sentence, words[-1 if last else 0].strip("\"'.,;:!?()-")


def chat_rows(texts, rng, count):
    sentences = []
    for text in texts:
        for paragraph in text.split("\n\n"):
            for sentence in re.split(r"(?<=[.!?])\s+", paragraph.replace("\n", " ")):
                if 5 <= len(sentence.split()) <= 40:
                    sentences.append(sentence.strip())
    rows = []
    for _ in range(count):
        messages = []
        if rng.random() < 0.2:
            messages.append(("system", rng.choice(["You are a helpful assistant.", "Answer the question.", "Be brief."])))
        for _ in range(1 if rng.random() < 0.8 else 2):
            question, answer = turn(rng, rng.choice(sentences))
            messages += [("user", question), ("assistant", answer)]
        rows.append(chatml(messages))
    return rows


def sign(rng, word):
    """A number, a sign, or a word in brackets, in quotes or before a sign: so that no printable character of ASCII
    is left untrained. A token that is never seen cannot be learned later either: its output row is tied and frozen,
    and the same as that of every other unseen token."""
    kind = rng.random()
    if kind < 0.25:
        return str(rng.randint(0, 999))
    if kind < 0.5:
        return rng.choice(string.punctuation)
    if kind < 0.75:
        left, right = rng.choice(["{}", "[]", "()", "<>", '""', "''", "``", "**", "__"])
        return left + word + right
    return word + rng.choice(string.punctuation)


def copy_rows(texts, rng, count, signs):
    words = collections.Counter(w for text in texts for w in re.findall(r"[A-Za-z]{3,}", text))
    known = sorted(w for w, n in words.items() if n >= 20)
    rows = []
    for _ in range(count):
        some = rng.sample(known, rng.randint(4, 14))
        if signs:
            some = [sign(rng, w) if rng.random() < 0.4 else w for w in some]
        kind = rng.random()
        if kind < 0.7:
            ask, answer = rng.choice(["Repeat: ", "Say this again: ", "Repeat after me. "]) + " ".join(some), " ".join(some)
        else:
            i = rng.randrange(len(some) - 1)
            ask, answer = f"{' '.join(some)}. Which word comes after {some[i]}?", some[i + 1]
        rows.append(chatml([("user", ask), ("assistant", answer)]))
    return rows
