"""Cuts the shipped rows of benchmarks: python3 data/tasks/build.py SQUAD_DEV SQUAD_V2 HOTPOTQA QASPER HUMANEVAL MBPP

The files are `.jsonl.zst`: paragraphs of SQuAD 1.1 dev with their questions, paragraphs of SQuAD 2.0 dev with the unanswerable
ones, rows of HotpotQA (distractor), whole papers of Qasper, the first FUNCTIONS problems in the files of HumanEval and
of MBPP's test split, after three of MBPP's prompts. Paragraphs take turns by article (seed 0), and keep at most
QUESTIONS of their questions. HotpotQA's rows share no question and no supporting paragraph with the first rows of
`data/hotpotqa`, whose further ones keep apart from them.
"""

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from rows import read, write  # noqa: E402

PARAGRAPHS, QUESTIONS, UNANSWERABLE, ROWS, FUNCTIONS = 240, 2, 60, 320, 30


def turns(rows, draw, count):
    by_title = {}
    for row in rows:
        by_title.setdefault(row["title"], []).append(row)
    titles = sorted(by_title)
    for title in titles:
        draw.shuffle(by_title[title])
    rounds = range(max(map(len, by_title.values())))
    return [by_title[title][turn] for turn in rounds for title in titles if turn < len(by_title[title])][:count]


def asked(rows, draw, count):
    for row in rows:
        chosen = sorted(draw.sample(range(len(row["qas"])), min(QUESTIONS, len(row["qas"]))))
        qas = [{key: row["qas"][at][key] for key in ["id", "question", "answers"]} for at in chosen]
        yield {"title": row["title"], "context": row["context"], "qas": qas}


draw = random.Random(0)
dev, unanswerable, hotpotqa, qasper, humaneval, mbpp = map(read, sys.argv[1:])
squad = list(asked(turns(dev, draw, PARAGRAPHS), draw, QUESTIONS))
write(HERE / "squad.jsonl.zst", squad)
write(HERE / "squad_v2.jsonl.zst", squad[: UNANSWERABLE // 2] + list(asked(turns(unanswerable, draw, UNANSWERABLE), draw, QUESTIONS)))
seen, titles = set(), set()
for split, first in [("train", 319), ("valid", 30)]:
    for row in read(HERE.parent / "hotpotqa" / f"{split}.jsonl.zst")[:first]:
        seen.add(row["question"])
        titles.update(title for title, _ in row["supporting_facts"])
free = [row for row in hotpotqa if row["question"] not in seen and not titles & {title for title, _ in row["supporting_facts"]}]
free.sort(key=lambda row: row["id"])
draw.shuffle(free)
keys = ["id", "question", "answer", "type", "context", "supporting_facts"]
write(HERE / "hotpotqa.jsonl.zst", [{key: row[key] for key in keys} for row in free[:ROWS]])
write(HERE / "qasper.jsonl.zst", qasper)
write(HERE / "humaneval.jsonl.zst", humaneval[:FUNCTIONS])
shown, tested = [[row for row in mbpp if own(row["task_id"])] for own in [range(1, 11).__contains__, range(11, 511).__contains__]]
write(HERE / "mbpp.jsonl.zst", shown[:3] + tested[:FUNCTIONS])
