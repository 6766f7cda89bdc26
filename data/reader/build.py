"""Cuts the rows that a span reader learns from out of SQuAD 1.1's training questions: python3 data/reader/build.py TRAIN [FOLDER]

TRAIN is the project's own train-v1.1.json, or rows {"title", "context", "qas": [{"id", "question", "answers"}]} (`.jsonl.zst`).
Articles take turns, a paragraph each (seed 0), until there are QUESTIONS; VALID articles are kept apart for validation. The
files, `{train,valid}.jsonl.zst`, go into FOLDER, or beside this script.
"""

import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from rows import read, write  # noqa: E402

QUESTIONS, VALID, VALID_QUESTIONS = 30000, 20, 400


def paragraphs(path: str) -> list:
    if path.endswith(".json"):
        articles = json.loads(Path(path).read_text())["data"]
        return [{"title": article["title"], **own} for article in articles for own in article["paragraphs"]]
    return read(path)


def asked(row: dict) -> dict:
    def text(answer):
        return answer if isinstance(answer, str) else answer["text"]

    qas = [{"id": q["id"], "question": q["question"].strip(), "answers": list(map(text, q["answers"]))} for q in row["qas"]]
    return {"title": row["title"], "context": row["context"], "qas": qas}


def turns(articles: list, count: int) -> list:
    kept, questions = [], 0
    for turn in range(max(map(len, articles))):
        for rows in articles:
            if turn < len(rows) and questions < count:
                kept.append(asked(rows[turn]))
                questions += len(rows[turn]["qas"])
    return kept


def main() -> None:
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE
    by_title = {}
    for row in paragraphs(sys.argv[1]):
        by_title.setdefault(row["title"], []).append(row)
    draw = random.Random(0)
    titles = sorted(by_title)
    draw.shuffle(titles)
    for title in titles:
        draw.shuffle(by_title[title])
    write(folder / "valid.jsonl.zst", turns([by_title[title] for title in titles[:VALID]], VALID_QUESTIONS))
    write(folder / "train.jsonl.zst", turns([by_title[title] for title in titles[VALID:]], QUESTIONS))


main()
