"""Cuts the shipped rows out of HotpotQA (distractor setting): python3 data/hotpotqa/build.py ROWS.jsonl [FOLDER]

ROWS.jsonl holds rows of HotpotQA with `id`, `question`, `context` ([[title, [sentence, ...]], ...]) and
`supporting_facts` ([[title, sentence], ...]). Rows are shuffled with seed 0; VALID of them become the validation split, the
rest the training split, but for the rows of `data/tasks`, which answers and evidence are judged by. No question and no paragraph
that supports an answer is in two of the three, and none that supports one in `data/tasks` anywhere in a training context. The
first SHIPPED training rows ship; with FOLDER all of them are written there.
"""
import json
import pathlib
import random
import sys

# The first rows, from which `data/tasks` keeps apart: FIRST of training before and after the VALID ones.
FIRST, VALID, SHIPPED = [120, 200], 30, 539
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from rows import read, write  # noqa: E402

FOLDER = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE


def gold(row):
    return {title for title, _ in row["supporting_facts"]}


def ship(split, rows):
    keys = ["id", "question", "context", "supporting_facts"]
    write(FOLDER / f"{split}.jsonl.zst", [{key: row[key] for key in keys} for row in rows])


rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
rows.sort(key=lambda row: row["id"])
random.Random(0).shuffle(rows)
taken, seen, parts = iter(rows), set(), []
for count in [FIRST[0], VALID, FIRST[1]]:
    kept = []
    while len(kept) < count:
        row = next(taken)
        if not gold(row) & seen:
            kept.append(row)
    seen |= set().union(*map(gold, kept))
    parts.append(kept)
train, valid = parts[0] + parts[2], parts[1]
judged = read(HERE.parent / "tasks" / "hotpotqa.jsonl.zst")
apart = set().union(*map(gold, judged + valid))
questions = {row["question"] for row in judged + valid}
used = {row["id"] for row in train}
train += [row for row in rows if row["id"] not in used and not gold(row) & apart and row["question"] not in questions]
supporting = set().union(*map(gold, judged))
train = [row for row in train if not supporting & {title for title, _ in row["context"]}]
ship("valid", valid)
ship("train", train if FOLDER != HERE else train[:SHIPPED])
