"""Builds {train,valid,test}.jsonl.zst from SQuAD 1.1 rows {"title", "context", "qas": [{"question", "answers"}]} (`.jsonl.zst`).

    data/squad/build.py TRAIN DEV

Paragraphs of one article are joined in their order up to CHARACTERS, about 800 tokens; each context keeps up to QUESTIONS of
its questions. Training contexts are of training articles; validation and test share out the articles of DEV.
"""

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from rows import read, write  # noqa: E402

CHARACTERS, QUESTIONS = 3600, 4
SIZES = {"train": 24, "valid": 8, "test": 20}


def articles(path: str) -> dict:
    found = {}
    for row in read(path):
        found.setdefault(row["title"], []).append(row)
    return found


def contexts(title: str, rows: list, draw: random.Random) -> list:
    made, text, asked = [], [], []
    for row in rows:
        if text and sum(map(len, text)) + len(row["context"]) > CHARACTERS:
            made.append((text, asked))
            text, asked = [], []
        text = text + [row["context"]]
        asked = asked + [{"question": q["question"].strip(), "answers": sorted(set(q["answers"]), key=q["answers"].index)} for q in row["qas"]]
    made = [(text, asked) for text, asked in made if 0.75 * CHARACTERS < sum(map(len, text)) < 1.05 * CHARACTERS]
    rows = []
    for at, (text, asked) in enumerate(made):
        questions = [asked[i] for i in sorted(draw.sample(range(len(asked)), min(QUESTIONS, len(asked))))]
        rows.append({"id": f"{title}#{at}", "source": title, "context": "\n".join(text), "questions": questions})
    return rows


def main() -> None:
    draw = random.Random(0)
    train, dev = map(articles, sys.argv[1:])
    titles = sorted(dev)
    draw.shuffle(titles)
    third = len(titles) // 3
    splits = {"train": (train, sorted(train)), "valid": (dev, titles[:third]), "test": (dev, titles[third:])}
    for split, (from_, titles) in splits.items():
        by_title = [rows for title in titles if (rows := contexts(title, from_[title], draw))]
        # Articles take turns, so that there are as many as can be.
        turns = [rows[turn] for turn in range(max(map(len, by_title))) for rows in by_title if turn < len(rows)]
        write(HERE / f"{split}.jsonl.zst", turns[: SIZES[split]])


main()
